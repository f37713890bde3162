"""Run one trial of a study: choose settings by the trials before it, train, write what came of it."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, f"trial {snakemake.wildcards.trial} of {snakemake.wildcards.study}") as job:
    job.keep_freed_memory()
    from foldwise.config.jobs import read_slice
    from foldwise.config.study import StudyConfig
    from foldwise.data.files import DataFiles
    from foldwise.hpo.export import export_live
    from foldwise.hpo.trial import TrialFiles, finish, run_trial
    from foldwise.training.fit import Run

    cfg, files = snakemake.params.cfg, TrialFiles.of(Path(snakemake.output.trial))
    job.stamp(files.project)
    run_trial(
        config=read_slice(StudyConfig, cfg),
        number=int(snakemake.wildcards.trial),
        parallel=snakemake.params.parallel,
        data=list(map(DataFiles.of, map(Path, snakemake.input.task), map(Path, snakemake.input.images))),
        files=files,
        revision=snakemake.params.revision,
        run=Run.of(job, files.record, cfg.cache, cfg.checkpoint_minutes, dict(snakemake.resources.items())),
    )
    job.write_run(snakemake.output.run, cfg, snakemake.scriptdir)
    export_live(files=files, storage=cfg.copies, warn=job.warn)
    finish(files)
