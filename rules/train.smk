# Mode train: one model for each pipeline and fold.


rule train:
    input:
        collect_train,
    localrule: True
    message:
        "Mode train: Models are there."


rule resolve_pipeline:
    output:
        pipeline=f"{PROJECT}/pipelines/{{pipeline}}.yaml",
    log:
        f"{PROJECT}/logs/resolve_pipeline/{{pipeline}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/resolve_pipeline/{{pipeline}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        cfg=lambda wildcards: pipeline_config(wildcards.pipeline),
        revision=1,
    message:
        "Write pipeline {wildcards.pipeline}: {params.cfg.plan}"
    script:
        "../scripts/resolve_pipeline.py"


rule train_fold:
    input:
        unpack(lambda wildcards: tensor_files(wildcards.pipeline, wildcards.task)),
        task=ancient(f"{DATA}/tasks/{{task}}/task.json"),
        samples=f"{DATA}/tasks/{{task}}/samples.csv",
        folds=f"{DATA}/tasks/{{task}}/folds.csv",
    output:
        **model_outputs(),
    log:
        f"{PROJECT}/logs/train_fold/{{pipeline}}/{{task}}/fold-{{fold}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/train_fold/{{pipeline}}/{{task}}/fold-{{fold}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        cfg=lambda wildcards: train_config(wildcards.pipeline, wildcards.task),
        revision=2,
    message:
        "Train {params.cfg.network} on {wildcards.task}, fold {wildcards.fold}: {params.cfg.plan}"
    script:
        "../scripts/train_fold.py"


rule tabulate_validation:
    input:
        models=lambda wildcards: [
            f"{PROJECT}/models/{model_folder(model)}/model.json" for model in selection.models(plan_of("train"))
        ],
    output:
        table=f"{PROJECT}/tables/validation.csv",
    log:
        f"{PROJECT}/logs/tabulate_validation/validation.log",
    benchmark:
        f"{PROJECT}/benchmarks/tabulate_validation/validation.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        cfg=lambda wildcards: table_config("train"),
        revision=1,
    message:
        "Tabulate validation metrics: {params.cfg.plan}"
    script:
        "../scripts/tabulate_validation.py"
