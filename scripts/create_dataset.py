"""Create a dataset: list its images, open each of them, describe them."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, snakemake.wildcards.dataset, threads=1) as job:
    from foldwise.config.jobs import DatasetConfig, read_slice
    from foldwise.tasks.dataset import create_dataset
    from foldwise.tasks.descriptions import DatasetFiles

    source = snakemake.input.get("source")
    files = DatasetFiles.of(Path(snakemake.output.dataset).parent)
    job.stamp(files.description.parents[2])
    create_dataset(
        config=read_slice(DatasetConfig, snakemake.params.cfg),
        origin=snakemake.params.cfg.origin,
        about=snakemake.params.cfg.about,
        revision=snakemake.params.revision,
        source=Path(source) if source else None,
        files=files,
        threads=snakemake.threads,
        report=job.report,
        warn=job.warn,
    )
