"""Create a task: splits, folds and description."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, snakemake.wildcards.base) as job:
    from foldwise.config.jobs import TaskConfig, read_slice
    from foldwise.tasks.descriptions import DatasetFiles
    from foldwise.tasks.task import TaskFiles, create_task

    config = read_slice(TaskConfig, snakemake.params.cfg)
    files = TaskFiles.of(Path(snakemake.output.task).parent)
    job.stamp(files.description.parents[2])
    create_task(
        task=snakemake.wildcards.base,
        record=config.task,
        dataset_record=config.dataset,
        about=snakemake.params.cfg.about,
        revision=snakemake.params.revision,
        dataset=DatasetFiles.of(Path(snakemake.input.dataset).parent),
        files=files,
        warn=job.warn,
    )
