# Mode create: datasets, tasks and their variants.


rule create:
    input:
        collect_create,
    localrule: True
    message:
        "Mode create: Datasets and tasks are there."


rule fetch_dataset:
    input:
        unpack(fetch_inputs),
    output:
        source=update(f"{DATA}/datasets/{{dataset}}/source.json"),
    log:
        f"{PROJECT}/logs/fetch_dataset/{{dataset}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/fetch_dataset/{{dataset}}.tsv"
    localrule: True
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=1000,
        runtime=1440,
    params:
        cfg=lambda wildcards: fetch_config(wildcards.dataset),
        revision=1,
    message:
        "Fetch dataset {wildcards.dataset}: {params.cfg.plan}"
    script:
        "../scripts/fetch_dataset.py"


rule create_dataset:
    input:
        unpack(source_inputs),
    output:
        dataset=update(f"{DATA}/datasets/{{dataset}}/dataset.json"),
        images=update(f"{DATA}/datasets/{{dataset}}/images.csv"),
        annotations=update(f"{DATA}/datasets/{{dataset}}/annotations.csv"),
    log:
        f"{PROJECT}/logs/create_dataset/{{dataset}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/create_dataset/{{dataset}}.tsv"
    conda:
        CONDA
    threads: 4
    resources:
        mem_mb=4000,
        runtime=480,
    params:
        cfg=lambda wildcards: dataset_config(wildcards.dataset),
        revision=2,
    message:
        "Create dataset {wildcards.dataset}: {params.cfg.plan}"
    script:
        "../scripts/create_dataset.py"


rule create_task:
    input:
        dataset=lambda wildcards: dataset_files(wildcards.base)["dataset"],
        annotations=lambda wildcards: dataset_files(wildcards.base)["annotations"],
    output:
        task=update(f"{DATA}/tasks/{{base}}/task.json"),
        samples=update(f"{DATA}/tasks/{{base}}/samples.csv"),
        folds=update(f"{DATA}/tasks/{{base}}/folds.csv"),
    log:
        f"{PROJECT}/logs/create_task/{{base}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/create_task/{{base}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        cfg=lambda wildcards: task_config(wildcards.base),
        revision=2,
    message:
        "Create task {wildcards.base}: {params.cfg.plan}"
    script:
        "../scripts/create_task.py"


rule derive_task:
    input:
        task=ancient(f"{DATA}/tasks/{{parent}}/task.json"),
        samples=f"{DATA}/tasks/{{parent}}/samples.csv",
        folds=f"{DATA}/tasks/{{parent}}/folds.csv",
        code=derive_code,
    output:
        task=update(f"{DATA}/tasks/{{parent}}+{{tag}}/task.json"),
        samples=update(f"{DATA}/tasks/{{parent}}+{{tag}}/samples.csv"),
        folds=update(f"{DATA}/tasks/{{parent}}+{{tag}}/folds.csv"),
    log:
        f"{PROJECT}/logs/derive_task/{{parent}}+{{tag}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/derive_task/{{parent}}+{{tag}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        cfg=lambda wildcards: task_config(f"{wildcards.parent}+{wildcards.tag}"),
        revision=2,
    message:
        "Derive task {wildcards.parent}+{wildcards.tag} from {wildcards.parent}: {params.cfg.plan}"
    script:
        "../scripts/derive_task.py"
