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
    wildcard_constraints:
        preprocessing=folders_with("raw"),
    conda:
        CONDA
    threads: 4
    resources:
        mem_mb=2000,
        runtime=480,
    params:
        cfg=lambda wildcards: tensor_config(wildcards.dataset, wildcards.preprocessing),
        revision=2,
    message:
        "Preprocess dataset {wildcards.dataset} as {wildcards.preprocessing}: {params.cfg.plan}"
    script:
        "../scripts/preprocess_dataset.py"


rule pack_dataset:
    input:
        dataset=f"{DATA}/datasets/{{dataset}}/dataset.json",
        images=f"{DATA}/datasets/{{dataset}}/images.csv",
    output:
        index=update(f"{DATA}/tensors/{{dataset}}/{{preprocessing}}/index.npy"),
        channel_sums=update(f"{DATA}/tensors/{{dataset}}/{{preprocessing}}/channel_sums.npy"),
        manifest=update(f"{DATA}/tensors/{{dataset}}/{{preprocessing}}/manifest.json"),
    log:
        f"{PROJECT}/logs/pack_dataset/{{dataset}}/{{preprocessing}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/pack_dataset/{{dataset}}/{{preprocessing}}.tsv"
    wildcard_constraints:
        preprocessing=folders_with("jpeg"),
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
        "Pack dataset {wildcards.dataset} as {wildcards.preprocessing}: {params.cfg.plan}"
    script:
        "../scripts/pack_dataset.py"


rule preprocess_masks:
    input:
        unpack(mask_inputs),
    output:
        masks=update(f"{DATA}/tensors/{{dataset}}/{{preprocessing}}/{{base}}.masks.npy"),
        manifest=update(f"{DATA}/tensors/{{dataset}}/{{preprocessing}}/{{base}}.masks.json"),
    log:
        f"{PROJECT}/logs/preprocess_masks/{{dataset}}/{{preprocessing}}/{{base}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/preprocess_masks/{{dataset}}/{{preprocessing}}/{{base}}.tsv"
    conda:
        CONDA
    threads: 4
    resources:
        mem_mb=2000,
        runtime=480,
    params:
        cfg=lambda wildcards: mask_config(wildcards.base, wildcards.preprocessing),
        revision=1,
    message:
        "Preprocess masks of {wildcards.base} as {wildcards.preprocessing}: {params.cfg.plan}"
    script:
        "../scripts/preprocess_masks.py"
