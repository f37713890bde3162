"""Train one model: one pipeline on one fold of a task."""

from pathlib import Path

from foldwise.job import Job

TITLE = f"{snakemake.wildcards.pipeline} on {snakemake.wildcards.task}, fold {snakemake.wildcards.fold}"

with Job(snakemake.rule, TITLE, snakemake.log[0], snakemake.threads) as job:
    from foldwise.config.jobs import TrainConfig, read_slice
    from foldwise.data.masks import MaskFiles
    from foldwise.data.preprocess import TensorFiles
    from foldwise.tasks.task import TaskFiles
    from foldwise.training.fold import ModelFiles, train_fold

    weights = snakemake.output.get("weights")
    masks = snakemake.input.get("masks")
    record = Path(snakemake.output.model)
    job.stamp(record.parents[4])
    train_fold(
        config=read_slice(TrainConfig, snakemake.params.cfg),
        pipeline_name=snakemake.wildcards.pipeline,
        fold=int(snakemake.wildcards.fold),
        task=TaskFiles.of(Path(snakemake.input.task).parent),
        tensors=TensorFiles.of(Path(snakemake.input.images).parent),
        files=ModelFiles(record, Path(snakemake.output.curves), Path(weights) if weights else None),
        revision=snakemake.params.revision,
        report=job.report,
        masks=MaskFiles(Path(masks), Path(snakemake.input.mask_manifest)) if masks else None,
    )
    job.write_run(snakemake.output.run, snakemake.params.cfg, snakemake.scriptdir)
