"""Describe tasks: samples by split and class, sizes of images, licences."""

from foldwise.job import Job

with Job.of(snakemake, "tasks"):
    from foldwise.config.jobs import read_slice
    from foldwise.config.shown import InfoConfig
    from foldwise.report.pages import write_tasks

    write_tasks(config=read_slice(InfoConfig, snakemake.params.cfg), files=dict(snakemake.output.items()))
