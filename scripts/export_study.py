"""Copy the finished trials of a study to a storage of Optuna's, for dashboards."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, snakemake.wildcards.study) as job:
    from foldwise.config.jobs import read_slice
    from foldwise.config.study import ExportConfig
    from foldwise.hpo.export import export_study

    export_study(
        config=read_slice(ExportConfig, snakemake.params.cfg),
        trials=list(map(Path, snakemake.input.trials)),
        record=Path(snakemake.output.record),
        report=job.announce,
    )
