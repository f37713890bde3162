# Mode test: metrics of every trained fold on test samples it has not seen.


def collect_test(wildcards):
    """Return what the subroutines of mode test ask for."""
    wanted = test_results("test") if "test" in CONFIG.test.subroutines else []
    return wanted + (predicted_logits("test") if "predict" in CONFIG.test.subroutines else [])


@cache
def score_config(pipeline, target):
    """Return the metrics of a pipeline on a target."""
    section = or_stop(jobs.score_config, CONFIG, recipe_of(pipeline), target)
    resamples = f", {section.metrics.bootstrap} resamples" if section.metrics.bootstrap else ""
    return JobConfig(jobs.slice_json(section), plan=f"pipeline {pipeline}{resamples}")


def score_files(wildcards):
    """Return what a score is computed from: logits, and the code of metrics of the user's own."""
    recipe, form = recipe_of(wildcards.pipeline), wildcards.pipeline
    names = recipe.metrics.of(jobs.task_record(CONFIG, wildcards.target).type)
    own = [name for name in names if ":" in name]
    logits = f"{PROJECT}/logits/{form}/{wildcards.task}/fold-{wildcards.fold}/{wildcards.target}.npz"
    return {"logits": logits, "code": [file for name in own for file in code_file(name, f"pipelines.{form}.metrics")]}


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
