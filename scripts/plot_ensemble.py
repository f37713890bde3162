"""Plot: weights of an ensemble, and how good its logits are."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, f"ensemble on {snakemake.wildcards.target}"):
    from foldwise.config.jobs import EnsembleConfig, read_slice
    from foldwise.post.members import group_members
    from foldwise.report.plots import plot_ensemble

    plot_ensemble(
        config=read_slice(EnsembleConfig, snakemake.params.cfg),
        ensemble=Path(snakemake.input.ensemble),
        logits=Path(snakemake.input.logits),
        task=Path(snakemake.input.task),
        members=group_members(
            sizes=snakemake.params.members,
            targets=list(map(Path, snakemake.input.get("raw", []))),
        ),
        pictures={name: Path(path) for name, path in snakemake.output.items()},
        target=snakemake.wildcards.target,
    )
