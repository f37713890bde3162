# Mode predict: logits of every trained fold.


def collect_predict(wildcards):
    """Return what the subroutines of mode predict ask for."""
    wanted = predicted_logits("predict") if "predict" in CONFIG.predict.subroutines else []
    return wanted + (test_results("predict") if "test" in CONFIG.predict.subroutines else [])


def prediction_files(wildcards):
    """Return what a prediction reads: a model of this project or of another one, and the target."""
    form, folder = wildcards.pipeline, f"{wildcards.task}/fold-{wildcards.fold}"
    project, tilde, pipeline = form.rpartition("~")
    root = f"{CONFIG.results_dir}/{project}" if tilde else PROJECT
    model = f"{root}/models/{pipeline}/{folder}"
    files = {"model": f"{model}/model.json", "weights": f"{model}/model.safetensors"}
    source = recipe_of(form).arch.source
    code = code_file(source, f"pipelines.{form}.arch.source") if ":" in source else []
    return {**data_files(form, [wildcards.target]), **files, "code": code}


@cache
def predict_config(pipeline, target):
    """Return what decides the logits of a pipeline's models on a target."""
    section = or_stop(jobs.predict_config, CONFIG, recipe_of(pipeline), target)
    variations = f", {count(len(section.tta.variations), 'variation')}" if len(section.tta.variations) > 1 else ""
    cache_words = {"cache": recipe_of(pipeline).sampling.cache}
    return JobConfig(jobs.slice_json(section), plan=f"pipeline {pipeline}{variations}", **cache_words)


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
