"""Fetch a dataset: download its files, check and extract them."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, snakemake.wildcards.dataset) as job:
    from foldwise.config.definition import DatasetRecord
    from foldwise.config.jobs import read_slice
    from foldwise.tasks.fetch import fetch_dataset

    description = Path(snakemake.output.source)
    job.stamp(description.parents[2])
    fetch_dataset(
        record=read_slice(DatasetRecord, snakemake.params.cfg),
        url=snakemake.params.cfg.origin.url,
        mirrors=snakemake.params.cfg.origin.mirrors,
        revision=snakemake.params.revision,
        description=description,
        downloads=description.parents[2] / "downloads" / snakemake.wildcards.dataset,
        report=job.report,
    )
