# Mode tl: models that start from models of another task.


rule tl:
    input:
        collect_tl,
    localrule: True
    message:
        "Mode tl: Models are there."


rule transfer_fold:
    input:
        unpack(lambda wildcards: transfer_files(wildcards.name, wildcards.source, wildcards.task)),
    output:
        **model_outputs(f"{PROJECT}/models/{{name}}@{{source}}/{{task}}/fold-{{fold}}", "tl"),
    log:
        f"{PROJECT}/logs/transfer_fold/{{name}}@{{source}}/{{task}}/fold-{{fold}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/transfer_fold/{{name}}@{{source}}/{{task}}/fold-{{fold}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        cfg=lambda wildcards: transfer_config(wildcards.name, wildcards.source, wildcards.task),
        revision=2,
    message:
        "Transfer {params.cfg.network} from {wildcards.source} to {wildcards.task}, fold {wildcards.fold}: {params.cfg.plan}"
    script:
        "../scripts/transfer_fold.py"
