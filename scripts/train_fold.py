"""Train one model: one pipeline on one fold of a task, alone or with co-tasks."""

from pathlib import Path

from foldwise.job import Job

TITLE = f"{snakemake.wildcards.name} on {snakemake.wildcards.task}, fold {snakemake.wildcards.fold}"

with Job.of(snakemake, TITLE) as job:
    job.keep_freed_memory()
    from foldwise.config.jobs import TrainConfig, read_slice
    from foldwise.data.files import DataFiles
    from foldwise.training.fit import Run
    from foldwise.training.fold import ModelFiles, finish, train_fold

    cfg, record = snakemake.params.cfg, Path(snakemake.output.model)
    files = ModelFiles.of(record, snakemake.output.get("weights"))
    job.stamp(record.parents[4])
    trained = train_fold(
        config=read_slice(TrainConfig, cfg),
        pipeline_name=snakemake.wildcards.name,
        fold=int(snakemake.wildcards.fold),
        data=list(map(DataFiles.of, map(Path, snakemake.input.task), map(Path, snakemake.input.images))),
        files=files,
        revision=snakemake.params.revision,
        run=Run.of(job, record, cfg.cache, cfg.checkpoint_minutes, dict(snakemake.resources.items())),
    )
    job.write_run(snakemake.output.run, cfg, snakemake.scriptdir, device_stats=trained.device_stats)
    finish(files)
