"""Preprocess masks: the masks of a segmentation task, moved as its images are."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, snakemake.wildcards.base, threads=1) as job:
    from foldwise.config.jobs import MaskConfig, read_slice
    from foldwise.data.masks import MaskFiles, preprocess_masks
    from foldwise.tasks.descriptions import DatasetFiles
    from foldwise.tasks.task import TaskFiles

    config = read_slice(MaskConfig, snakemake.params.cfg)
    files = MaskFiles(Path(snakemake.output.masks), Path(snakemake.output.manifest))
    job.stamp(files.masks.parents[3])
    preprocess_masks(
        record=config.tensors,
        task_record=config.task,
        dataset_record=config.dataset,
        revision=snakemake.params.revision,
        dataset=DatasetFiles.of(Path(snakemake.input.dataset).parent),
        task=TaskFiles.of(Path(snakemake.input.task).parent),
        files=files,
        threads=snakemake.threads,
        report=job.report,
    )
