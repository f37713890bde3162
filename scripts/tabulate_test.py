"""Tabulate test metrics over folds, on disk and on the terminal."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, "test") as job:
    from foldwise.config.jobs import TableConfig, read_slice
    from foldwise.report.tables import tabulate_metrics

    config = read_slice(TableConfig, snakemake.params.cfg)
    text = tabulate_metrics(
        records=map(Path, snakemake.input.scores),
        pivot=config.pivot,
        metrics=config.metrics,
        table=Path(snakemake.output.table),
        title="Test metrics",
        targets=config.targets,
    )
    job.show(f"\n{text}\n")
