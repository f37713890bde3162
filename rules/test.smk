# Mode test: metrics of every trained fold on test samples it has not seen.


rule test:
    input:
        collect_test,
    localrule: True
    message:
        "Mode test: Test metrics are there."


rule score_fold:
    input:
        unpack(score_files),
    output:
        score=f"{PROJECT}/scores/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.json",
    log:
        f"{PROJECT}/logs/score_fold/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/score_fold/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        cfg=lambda wildcards: score_config(wildcards.pipeline, wildcards.target),
        revision=2,
    message:
        "Score the model of {wildcards.task}, fold {wildcards.fold}, on {wildcards.target}: {params.cfg.plan}"
    script:
        "../scripts/score_fold.py"


rule tabulate_test:
    input:
        scores=lambda wildcards: list(map(score_path, selection.scores(plan_of("test"), all_models("test")))),
    output:
        table=f"{PROJECT}/tables/test.csv",
    log:
        f"{PROJECT}/logs/tabulate_test/test.log",
    benchmark:
        f"{PROJECT}/benchmarks/tabulate_test/test.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        cfg=lambda wildcards: table_config("test"),
        revision=1,
    message:
        "Tabulate test metrics: {params.cfg.plan}"
    script:
        "../scripts/tabulate_test.py"
