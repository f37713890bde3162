"""Describe studies: trials, best values, history, importance of parameters."""

from foldwise.job import Job

with Job.of(snakemake, "studies"):
    from foldwise.config.jobs import read_slice
    from foldwise.config.shown import InfoConfig
    from foldwise.report.pages import write_studies

    write_studies(config=read_slice(InfoConfig, snakemake.params.cfg), files=dict(snakemake.output.items()))
