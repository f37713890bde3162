# Mode tl: models that start from models of another task.


def collect_tl(wildcards):
    """Return what the subroutines of mode tl ask for."""
    wanted, parts = [], CONFIG.tl.subroutines
    if "train" in parts:
        plan = plan_of("tl")
        wanted += [f"{PROJECT}/pipelines/{form.partition('@')[0]}.yaml" for form in plan.pipelines]
        wanted += map(model_record, selection.models(plan))
        wanted += [f"{PROJECT}/tables/transfer.csv"] if plan.pipelines else []
    wanted += predicted_logits("tl") if "predict" in parts else []
    return wanted + (test_results("tl") if "test" in parts else [])


@cache
def source_models(name):
    """Return the models that a transfer may start from: those of this project, and of others of the same network."""
    plan = or_stop(selection.source_plan, CONFIG, name)
    or_stop(selection.with_weights, plan, "tl")
    network, wanted = lambda recipe: checks.network_of(recipe.arch), checks.network_of(CONFIG.pipelines[name].arch)
    own = {model: f"{PROJECT}/models/{model_folder(model)}" for model in selection.models(plan)}
    reused = reused_models(str(plan.pivot), plan.nested) if CONFIG.reuse.models else {}
    same = {model: one.folder for model, one in reused.items() if network(one.recipe) == wanted}
    if len(same) < len(reused):
        others = {one.recipe.arch.name for model, one in reused.items() if model not in same}
        warn(
            f"reuse.models: {count(len(reused) - len(same), 'model')} of {plan.pivot} of another network "
            f"({', '.join(sorted(others))}; pipeline {name} has {CONFIG.pipelines[name].arch.name}) cannot be started from."
        )
    return own | same


@cache
def transfer_files(name, source, task):
    """Return what a transfer reads: the data, and all models that it may start from."""
    check_source_task(source)
    folders = source_models(name).values()
    models = [f"{folder}/model.json" for folder in folders]
    weights = [f"{folder}/model.safetensors" for folder in folders]
    return {**training_files(f"{name}@{source}", task), "models": models, "weights": weights}


def check_source_task(source):
    """Stop if models are asked for that start from another task than the configured one."""
    expected = selection.pretrain_task(CONFIG)
    if source != expected:
        raise SystemExit(f"Error: tl.pretrain_task: got {expected}, expected {source}, which is asked for.")


@cache
def transfer_config(name, source, task):
    """Return what decides the models of a pipeline that start from models of another task."""
    section, words = training_slice(f"{name}@{source}", task)
    return JobConfig(jobs.slice_json(jobs.transfer_config(CONFIG, section, source)), **words)


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
        revision=1,
    message:
        "Transfer {params.cfg.network} from {wildcards.source} to {wildcards.task}, fold {wildcards.fold}: {params.cfg.plan}"
    script:
        "../scripts/transfer_fold.py"


rule tabulate_transfer:
    input:
        models=lambda wildcards: list(map(model_record, selection.models(plan_of("tl")))),
    output:
        table=f"{PROJECT}/tables/transfer.csv",
    log:
        f"{PROJECT}/logs/tabulate_transfer/transfer.log",
    benchmark:
        f"{PROJECT}/benchmarks/tabulate_transfer/transfer.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        cfg=lambda wildcards: table_config("tl"),
        revision=1,
    message:
        "Tabulate validation metrics of transfer: {params.cfg.plan}"
    script:
        "../scripts/tabulate_transfer.py"
