"""Derive a variant of a task: apply the last tag of its name."""

from pathlib import Path

from foldwise.job import Job

VARIANT = f"{snakemake.wildcards.parent}+{snakemake.wildcards.tag}"

with Job.of(snakemake, VARIANT) as job:
    from foldwise.config.jobs import TaskConfig, read_slice
    from foldwise.tasks.task import TaskFiles, derive_task

    config = read_slice(TaskConfig, snakemake.params.cfg)
    files = TaskFiles.of(Path(snakemake.output.task).parent)
    job.stamp(files.description.parents[2])
    derive_task(
        task=VARIANT,
        record=config.task,
        parent_record=config.parent,
        about=snakemake.params.cfg.about,
        revision=snakemake.params.revision,
        parent=TaskFiles.of(Path(snakemake.input.task).parent),
        files=files,
    )
