"""Draw samples of tasks, with their labels."""

from foldwise.job import Job

with Job.of(snakemake, "samples"):
    from foldwise.config.jobs import read_slice
    from foldwise.config.shown import InfoConfig
    from foldwise.report.pages import write_samples

    write_samples(config=read_slice(InfoConfig, snakemake.params.cfg), files=dict(snakemake.output.items()))
