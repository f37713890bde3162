"""Tabulate validation metrics over folds, of trained or of transferred models, on disk and on the terminal."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, snakemake.wildcards.table) as job:
    from foldwise.config.jobs import TableConfig, read_slice
    from foldwise.report.tables import tabulate_metrics

    config = read_slice(TableConfig, snakemake.params.cfg)
    text = tabulate_metrics(
        records=map(Path, snakemake.input.models),
        pivot=config.pivot,
        metrics=config.metrics,
        table=Path(snakemake.output.table),
        title="Validation metrics",
    )
    job.show(f"\n{text}\n")
