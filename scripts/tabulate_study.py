"""Tabulate the trials of a study."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, snakemake.wildcards.study):
    from foldwise.hpo.summary import tabulate_trials

    tabulate_trials(trials=list(map(Path, snakemake.input.trials)), table=Path(snakemake.output.table))
