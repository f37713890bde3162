"""Plot: what calibration changed about one model."""

from pathlib import Path

from foldwise.job import Job

TITLE = f"{snakemake.wildcards.pipeline} of {snakemake.wildcards.task}, fold {snakemake.wildcards.fold}"

with Job.of(snakemake, TITLE):
    from foldwise.config.jobs import CalibrateConfig, read_slice
    from foldwise.report.plots import plot_member

    plot_member(
        config=read_slice(CalibrateConfig, snakemake.params.cfg),
        validation=Path(snakemake.input.validation),
        logits=Path(snakemake.input.logits),
        calibrated=Path(snakemake.input.calibrated),
        record=Path(snakemake.input.record),
        task=Path(snakemake.input.task),
        pictures={name: Path(path) for name, path in snakemake.output.items()},
        names={
            "pipeline": snakemake.wildcards.pipeline,
            "task": snakemake.wildcards.task,
            "fold": snakemake.wildcards.fold,
            "target": snakemake.wildcards.target,
        },
    )
