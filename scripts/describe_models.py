"""Describe models: scores, times, sizes, curves, reliability, confusion."""

from foldwise.job import Job

with Job.of(snakemake, "models"):
    from foldwise.config.jobs import read_slice
    from foldwise.config.shown import InfoConfig
    from foldwise.report.pages import write_models

    write_models(config=read_slice(InfoConfig, snakemake.params.cfg), files=dict(snakemake.output.items()))
