# Mode train: one model for each pipeline and fold.


rule train:
    input:
        collect_train,
    localrule: True
    message:
        "Mode train: Models are there."


rule resolve_pipeline:
    output:
        pipeline=f"{PROJECT}/pipelines/{{name}}.yaml",
    log:
        f"{PROJECT}/logs/resolve_pipeline/{{name}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/resolve_pipeline/{{name}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        cfg=lambda wildcards: pipeline_config(wildcards.name),
        revision=1,
    message:
        "Write pipeline {wildcards.name}: {params.cfg.plan}"
    script:
        "../scripts/resolve_pipeline.py"


rule train_fold:
    input:
        unpack(lambda wildcards: training_files(wildcards.name, wildcards.task)),
    output:
        **model_outputs(f"{PROJECT}/models/{{name}}/{{task}}/fold-{{fold}}", "train"),
    log:
        f"{PROJECT}/logs/train_fold/{{name}}/{{task}}/fold-{{fold}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/train_fold/{{name}}/{{task}}/fold-{{fold}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        cfg=lambda wildcards: train_config(wildcards.name, wildcards.task),
        revision=4,
    message:
        "Train {params.cfg.network} on {wildcards.task}, fold {wildcards.fold}: {params.cfg.plan}"
    script:
        "../scripts/train_fold.py"


rule tabulate_validation:
    input:
        models=lambda wildcards: list(map(model_record, selection.models(plan_of(TABLES[wildcards.table])))),
    output:
        table=f"{PROJECT}/tables/{{table}}.csv",
    log:
        f"{PROJECT}/logs/tabulate_validation/{{table}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/tabulate_validation/{{table}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        cfg=lambda wildcards: table_config(TABLES[wildcards.table]),
        revision=1,
    message:
        "Tabulate {wildcards.table} metrics: {params.cfg.plan}"
    script:
        "../scripts/tabulate_validation.py"
