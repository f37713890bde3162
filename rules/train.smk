# Mode train: one model for each pipeline and fold.


def collect_train(wildcards):
    """Return what the subroutines of mode train ask for."""
    wanted = []
    if "train" in CONFIG.train.subroutines:
        plan = plan_of("train")
        wanted += [f"{PROJECT}/pipelines/{name}.yaml" for name in plan.pipelines]
        wanted += map(model_record, selection.models(plan))
        wanted += [f"{PROJECT}/tables/validation.csv"] if plan.pipelines else []
    if "predict" in CONFIG.train.subroutines:
        wanted += predicted_logits("train")
    if "test" in CONFIG.train.subroutines:
        wanted += test_results("train")
    return wanted


@cache
def pipeline_config(pipeline):
    """Return what is stored of a resolved pipeline."""
    section = jobs.pipeline_config(CONFIG, pipeline)
    return JobConfig(jobs.slice_json(section), plan=CONFIG.pipelines[pipeline].arch.name)


@cache
def co_tasks_of(pipeline, task):
    """Return the tasks that are learned beside a task; stop if the backbone cannot serve one."""
    recipe, where = recipe_of(pipeline), f"pipelines.{pipeline.partition('@')[0]}"
    names = or_stop(selection.co_tasks, CONFIG, recipe, parse_task(task, "task"), f"{where}.mode")
    or_stop(checks.check_co_tasks, recipe, {name: jobs.task_record(CONFIG, name) for name in names}, where)
    return names


@cache
def own_code(pipeline):
    """Return the files of the user's own that a training runs, and the weights that it starts from."""
    recipe, where = recipe_of(pipeline), f"pipelines.{pipeline.partition('@')[0]}"
    or_stop(check_available, recipe.arch)
    functions = {f"{where}.arch.source": recipe.arch.source, f"{where}.loss.name": recipe.loss.name}
    functions |= {
        f"{where}.augmentations.operations[{place}].name": operation.name
        for place, operation in enumerate(recipe.augmentations.operations)
    }
    files = dict.fromkeys(file for key, name in functions.items() if ":" in name for file in code_file(name, key))
    weights = recipe.arch.weights
    if weights and not Path(weights).is_file():
        raise SystemExit(
            f"Error: {where}.arch.weights: got {weights}, which does not exist, expected a safetensors file. "
            "The path is relative to the working directory."
        )
    return {"code": list(files), "pretrained": [weights] if weights else []}


@cache
def training_files(pipeline, task):
    """Return what a training reads."""
    return {**data_files(pipeline, [task, *co_tasks_of(pipeline, task)]), **own_code(pipeline)}


@cache
def training_slice(pipeline, task):
    """Return what decides the models of a pipeline on a task, and words for the dry run."""
    stored = selection.setting(CONFIG, "tl" if "@" in pipeline else "train", "store_parameters")
    co_tasks = co_tasks_of(pipeline, task)
    section = or_stop(jobs.train_config, CONFIG, recipe_of(pipeline), task, co_tasks, stored)
    recipe = section.pipeline
    with_others = f", with {', '.join(co_tasks)}" if co_tasks else ""
    plan = (
        f"{count(recipe.trainer.max_epochs, 'epoch')}, lr {recipe.optimizer.lr:g}, batches of {recipe.sampling.batch_size}, "
        f"seed {section.seed}, pipeline {pipeline}{with_others}"
    )
    words = {"plan": plan, "network": recipe.arch.name, "cache": recipe_of(pipeline).sampling.cache}
    return section, {**words, "checkpoint_minutes": CONFIG.train.checkpoint_minutes}


@cache
def train_config(pipeline, task):
    """Return what decides the models of a pipeline on a task."""
    section, words = training_slice(pipeline, task)
    return JobConfig(jobs.slice_json(section), **words)


def model_outputs(folder, mode):
    """Return the outputs of training in a folder; weights only if they are to be stored."""
    weights = f"{folder}/model.safetensors"
    stored = selection.setting(CONFIG, mode, "store_parameters")
    kept = {"weights": temp(weights) if CONFIG.remove.parameters else weights} if stored else {}
    return {"model": f"{folder}/model.json", **kept, "curves": f"{folder}/metrics.csv", "run": f"{folder}/run.json"}


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
        revision=3,
    message:
        "Train {params.cfg.network} on {wildcards.task}, fold {wildcards.fold}: {params.cfg.plan}"
    script:
        "../scripts/train_fold.py"


rule tabulate_validation:
    input:
        models=lambda wildcards: list(map(model_record, selection.models(plan_of("train")))),
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
