"""Show what mode info has found: the texts of its parts, one after another."""

from pathlib import Path

from foldwise.job import Job

with Job(snakemake.rule, "info", snakemake.log[0]) as job:
    from foldwise.report.pages import join_texts

    job.show(join_texts(map(Path, snakemake.input)))
