"""Score: test metrics of one model's logits."""

from pathlib import Path

from foldwise.job import Job

TITLE = f"{snakemake.wildcards.pipeline} of {snakemake.wildcards.task}, fold {snakemake.wildcards.fold}"

with Job.of(snakemake, TITLE):
    from foldwise.config.jobs import ScoreConfig, read_slice
    from foldwise.inference.score import score_fold

    score_fold(
        config=read_slice(ScoreConfig, snakemake.params.cfg),
        logits=Path(snakemake.input.logits),
        score=Path(snakemake.output.score),
        pipeline=snakemake.wildcards.pipeline,
        task=snakemake.wildcards.task,
        fold=int(snakemake.wildcards.fold),
        target=snakemake.wildcards.target,
    )
