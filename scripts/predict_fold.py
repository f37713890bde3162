"""Predict: the logits of one model on a target task."""

from pathlib import Path

from foldwise.job import Job

TITLE = f"{snakemake.wildcards.pipeline} of {snakemake.wildcards.task}, fold {snakemake.wildcards.fold}"

with Job.of(snakemake, TITLE) as job:
    job.keep_freed_memory()
    from foldwise.config.jobs import PredictConfig, read_slice
    from foldwise.data.files import DataFiles
    from foldwise.inference.predict import predict_fold

    config = read_slice(PredictConfig, snakemake.params.cfg)
    data = DataFiles.of(Path(snakemake.input.task[0]), Path(snakemake.input.images[0]))
    predict_fold(
        config=config,
        record=Path(snakemake.input.model),
        weights=Path(snakemake.input.weights),
        task=data.task,
        tensors=data.tensors,
        logits=Path(snakemake.output.logits),
        report=job.report,
        masks=data.masks_of(config.task),
        warn=job.warn,
    )
