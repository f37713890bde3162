# Mode predict: logits of every trained fold.


rule predict:
    input:
        collect_predict,
    localrule: True
    message:
        "Mode predict: Logits are there."


rule predict_fold:
    input:
        unpack(prediction_files),
    output:
        logits=f"{PROJECT}/logits/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.npz",
    log:
        f"{PROJECT}/logs/predict_fold/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/predict_fold/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        cfg=lambda wildcards: predict_config(wildcards.pipeline, wildcards.target),
        revision=3,
    message:
        "Predict {wildcards.target} with the model of {wildcards.task}, fold {wildcards.fold}: {params.cfg.plan}"
    script:
        "../scripts/predict_fold.py"
