# Mode post: calibrated logits, and an ensemble of all models of the pivot.


rule post:
    input:
        collect_post,
    localrule: True
    message:
        "Mode post: Calibrated logits and ensembles are there."


rule calibrate_fold:
    input:
        unpack(calibration_files),
    output:
        logits=f"{PROJECT}/calibrated/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.npz",
        record=f"{PROJECT}/calibrated/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.json",
    log:
        f"{PROJECT}/logs/calibrate_fold/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/calibrate_fold/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        cfg=lambda wildcards: calibrate_config(wildcards.target),
        revision=1,
    message:
        "Calibrate {wildcards.pipeline} on {wildcards.target}, model of {wildcards.task}, fold {wildcards.fold}: {params.cfg.plan}"
    script:
        "../scripts/calibrate_fold.py"


rule plot_calibration:
    input:
        unpack(calibrated_files),
    output:
        **calibration_pictures(),
    log:
        f"{PROJECT}/logs/plot_calibration/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/plot_calibration/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        cfg=lambda wildcards: calibrate_config(wildcards.target),
        revision=1,
    message:
        "Draw {wildcards.pipeline} on {wildcards.target}, model of {wildcards.task}, fold {wildcards.fold}, before and after"
    script:
        "../scripts/plot_calibration.py"


rule combine_models:
    input:
        unpack(ensemble_files),
    output:
        ensemble=f"{PROJECT}/ensembles/{{target}}/ensemble.json",
        logits=f"{PROJECT}/ensembles/{{target}}/logits.npz",
        metrics=f"{PROJECT}/ensembles/{{target}}/metrics.json",
    log:
        f"{PROJECT}/logs/combine_models/{{target}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/combine_models/{{target}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        cfg=lambda wildcards: ensemble_config(wildcards.target),
        revision=1,
        members=lambda wildcards: member_sizes(wildcards.target),
    message:
        "Find an ensemble on {wildcards.target}: {params.cfg.plan}"
    script:
        "../scripts/combine_models.py"


rule plot_ensemble:
    input:
        unpack(combined_files),
    output:
        **ensemble_pictures(),
    log:
        f"{PROJECT}/logs/plot_ensemble/{{target}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/plot_ensemble/{{target}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        cfg=lambda wildcards: ensemble_config(wildcards.target),
        revision=1,
        members=lambda wildcards: member_sizes(wildcards.target),
    message:
        "Draw the ensemble on {wildcards.target}"
    script:
        "../scripts/plot_ensemble.py"
