"""Write a pipeline with all its defaults, presets and inherited sections resolved."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, snakemake.wildcards.name) as job:
    from foldwise.artifacts import write_yaml
    from foldwise.config.jobs import PipelineConfig, read_slice, stored_pipeline

    target = Path(snakemake.output.pipeline)
    job.stamp(target.parents[1])
    write_yaml(target, stored_pipeline(read_slice(PipelineConfig, snakemake.params.cfg)))
