# Mode pp: tensors of datasets, shared by all tasks, pipelines and projects.


rule pp:
    input:
        collect_pp,
    localrule: True
    message:
        "Mode pp: Tensors are there."


rule preprocess_dataset:
    input:
        dataset=f"{DATA}/datasets/{{dataset}}/dataset.json",
        images=f"{DATA}/datasets/{{dataset}}/images.csv",
    output:
        images=update(f"{DATA}/tensors/{{dataset}}/{{preprocessing}}/images.npy"),
        channel_sums=update(f"{DATA}/tensors/{{dataset}}/{{preprocessing}}/channel_sums.npy"),
        manifest=update(f"{DATA}/tensors/{{dataset}}/{{preprocessing}}/manifest.json"),
    log:
        f"{PROJECT}/logs/preprocess_dataset/{{dataset}}/{{preprocessing}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/preprocess_dataset/{{dataset}}/{{preprocessing}}.tsv"
    conda:
        CONDA
    threads: 4
    resources:
        mem_mb=2000,
        runtime=480,
    params:
        cfg=lambda wildcards: tensor_config(wildcards.dataset, wildcards.preprocessing),
        revision=1,
    message:
        "Preprocess dataset {wildcards.dataset} as {wildcards.preprocessing}: {params.cfg.plan}"
    script:
        "../scripts/preprocess_dataset.py"
