"""Write the pipeline of the best trial of a study as a blueprint."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, snakemake.wildcards.study) as job:
    from foldwise.config.jobs import read_slice
    from foldwise.config.study import BestConfig
    from foldwise.hpo.summary import write_blueprint

    text = write_blueprint(
        config=read_slice(BestConfig, snakemake.params.cfg),
        trials=list(map(Path, snakemake.input.trials)),
        blueprint=Path(snakemake.output.blueprint),
    )
    job.show(f"\n{text}\n")
