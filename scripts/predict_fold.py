"""Predict: the logits of one model on a target task."""

from pathlib import Path

from foldwise.job import Job

TITLE = f"{snakemake.wildcards.pipeline} of {snakemake.wildcards.task}, fold {snakemake.wildcards.fold}"

with Job(snakemake.rule, TITLE, snakemake.log[0], snakemake.threads) as job:
    from foldwise.config.jobs import PredictConfig, read_slice
    from foldwise.data.masks import MaskFiles
    from foldwise.data.preprocess import TensorFiles
    from foldwise.inference.predict import predict_fold
    from foldwise.tasks.task import TaskFiles

    masks = snakemake.input.get("masks")
    predict_fold(
        config=read_slice(PredictConfig, snakemake.params.cfg),
        record=Path(snakemake.input.model),
        weights=Path(snakemake.input.weights),
        task=TaskFiles.of(Path(snakemake.input.task).parent),
        tensors=TensorFiles.of(Path(snakemake.input.images).parent),
        logits=Path(snakemake.output.logits),
        report=job.report,
        masks=MaskFiles(Path(masks), Path(snakemake.input.mask_manifest)) if masks else None,
    )
