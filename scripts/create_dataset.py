"""Create a dataset: fetch its images and describe them."""

from pathlib import Path

from foldwise.job import Job

with Job(snakemake.rule, snakemake.wildcards.dataset, snakemake.log[0], snakemake.threads) as job:
    from foldwise.config.definition import DatasetRecord
    from foldwise.config.jobs import read_slice
    from foldwise.tasks.dataset import create_dataset

    description = Path(snakemake.output.dataset)
    job.stamp(description.parents[2])
    create_dataset(
        record=read_slice(DatasetRecord, snakemake.params.cfg),
        about=snakemake.params.cfg.about,
        revision=snakemake.params.revision,
        description=description,
        images=Path(snakemake.output.images),
    )
