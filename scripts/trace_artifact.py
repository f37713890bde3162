"""Trace an artifact: which settings, data, code and command made it."""

from foldwise.job import Job

with Job.of(snakemake, "artifact"):
    from foldwise.config.jobs import read_slice
    from foldwise.config.shown import InfoConfig
    from foldwise.report.pages import write_trace

    write_trace(config=read_slice(InfoConfig, snakemake.params.cfg), files=dict(snakemake.output.items()))
