"""Delete what killed runs have left, and archives, after asking."""

from foldwise.job import Job

with Job(snakemake.rule, "clean", snakemake.log[0]) as job:
    from foldwise.config.jobs import read_slice
    from foldwise.config.maintenance import CleanConfig
    from foldwise.maintain.clean import clean

    clean(
        config=read_slice(CleanConfig, snakemake.params.cfg),
        ask=job.ask,
        show=job.show,
        command=snakemake.params.command,
    )
