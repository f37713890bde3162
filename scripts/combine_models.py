"""Combine: an ensemble of all models of a task, its logits and metrics."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, f"ensemble on {snakemake.wildcards.target}") as job:
    from foldwise.config.jobs import EnsembleConfig, read_slice
    from foldwise.post.combine import EnsembleFiles, combine
    from foldwise.post.members import group_members
    from foldwise.report.ensembles import describe_ensemble

    files = EnsembleFiles(*map(Path, (snakemake.output.ensemble, snakemake.output.logits, snakemake.output.metrics)))
    combine(
        config=read_slice(EnsembleConfig, snakemake.params.cfg),
        members=group_members(
            sizes=snakemake.params.members,
            targets=list(map(Path, snakemake.input.targets)),
            validations=list(map(Path, snakemake.input.get("validations", []))),
        ),
        files=files,
        names={"target": snakemake.wildcards.target},
        report=job.report,
        warn=job.warn,
    )
    job.show(describe_ensemble(files.ensemble, files.metrics, snakemake.wildcards.target))
