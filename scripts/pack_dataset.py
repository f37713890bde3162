"""Pack a dataset: decode and resize all its images, and store them as JPEGs."""

from pathlib import Path

from foldwise.job import Job

with Job.of(snakemake, snakemake.wildcards.dataset, threads=1) as job:
    from foldwise.config.jobs import TensorConfig, read_slice
    from foldwise.data.preprocess import TensorFiles, preprocess_dataset

    config = read_slice(TensorConfig, snakemake.params.cfg)
    files = TensorFiles.of(Path(snakemake.output.index).parent)
    job.stamp(files.index.parents[3])
    preprocess_dataset(
        record=config.tensors,
        dataset_record=config.dataset,
        revision=snakemake.params.revision,
        dataset=Path(snakemake.input.dataset),
        images=Path(snakemake.input.images),
        files=files,
        threads=snakemake.threads,
        report=job.report,
    )
