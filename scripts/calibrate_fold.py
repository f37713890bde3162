"""Calibrate: logits of one model, so that they give probabilities that hold."""

from pathlib import Path

from foldwise.job import Job

TITLE = f"{snakemake.wildcards.pipeline} of {snakemake.wildcards.task}, fold {snakemake.wildcards.fold}"

with Job.of(snakemake, TITLE) as job:
    from foldwise.config.jobs import CalibrateConfig, read_slice
    from foldwise.post.calibrate import calibrate_member

    calibrate_member(
        config=read_slice(CalibrateConfig, snakemake.params.cfg),
        validation=Path(snakemake.input.validation),
        logits=Path(snakemake.input.logits),
        calibrated=Path(snakemake.output.logits),
        record=Path(snakemake.output.record),
        names={
            "pipeline": snakemake.wildcards.pipeline,
            "task": snakemake.wildcards.task,
            "fold": int(snakemake.wildcards.fold),
            "target": snakemake.wildcards.target,
        },
        warn=job.warn,
    )
