# Mode create: datasets, tasks and their variants.


rule create:
    input:
        collect_create,
    localrule: True
    message:
        "Mode create: Datasets and tasks are there."


rule create_dataset:
    output:
        dataset=update(f"{DATA}/datasets/{{dataset}}/dataset.json"),
        images=update(f"{DATA}/datasets/{{dataset}}/images.csv"),
    log:
        f"{PROJECT}/logs/create_dataset/{{dataset}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/create_dataset/{{dataset}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        cfg=lambda wildcards: dataset_config(wildcards.dataset),
        revision=1,
    message:
        "Create dataset {wildcards.dataset}: {params.cfg.plan}"
    script:
        "../scripts/create_dataset.py"


rule create_task:
    input:
        unpack(lambda wildcards: dataset_files(wildcards.base)),
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
        revision=1,
    message:
        "Create task {wildcards.base}: {params.cfg.plan}"
    script:
        "../scripts/create_task.py"


rule derive_task:
    input:
        task=ancient(f"{DATA}/tasks/{{parent}}/task.json"),
        samples=f"{DATA}/tasks/{{parent}}/samples.csv",
        folds=f"{DATA}/tasks/{{parent}}/folds.csv",
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
        revision=1,
    message:
        "Derive task {wildcards.parent}+{wildcards.tag} from {wildcards.parent}: {params.cfg.plan}"
    script:
        "../scripts/derive_task.py"
