# Configuration, wildcard constraints and input functions that rules share. No rules.
import os
import re
import shutil
import sys
from functools import cache

from snakemake.logging import logger

sys.path.insert(0, str(Path(workflow.current_basedir).parent / "scripts"))

from foldwise import artifacts, aside
from foldwise.config import checks, jobs, leakage, maintained, members, reuse, selection, shown, space, study
from foldwise.config.architectures import check_available
from foldwise.config.blueprint import apply_blueprint, left_out
from foldwise.config.canonical import JobConfig, differences, tensor_folder, tensor_record
from foldwise.config.load import Library, load_config, with_mode
from foldwise.config.model import definition_of
from foldwise.config.names import parse_tag, parse_task
from foldwise.config.resolved import keep_config
from foldwise.config.sources import must_be_fetched
from foldwise.errors import ConfigError, FoldwiseError
from foldwise.functions import check_module, module_file
from foldwise.maintain import clean as leftovers
from foldwise.report import inventory
from foldwise.tasks.descriptions import check_shared


def or_stop(function, *arguments):
    """Call a function; end with its message, and no traceback, if the user made a mistake."""
    try:
        return function(*arguments)
    except FoldwiseError as error:
        raise SystemExit(f"Error: {error.message}") from None


def place_of(root):
    """Return a root without `..`.

    Snakemake keeps backups of outputs below its own folder under their relative path: `..` would lead out of there,
    to files that it would overwrite and delete.
    """
    if ".." not in Path(root).parts:
        return root
    place = str(Path(root).resolve())
    if "{" in place or "}" in place:
        raise ConfigError("data_dir", place, "a path without braces", "Move the working directory, or write no `..`.")
    return place


# A report shows what is there: collectors then ask for nothing else.
REPORTING = "--report" in (word.partition("=")[0] for word in sys.argv) and "--report-after-run" not in sys.argv


def is_news(record):
    """Pass over what Snakemake says when a job fails whose outputs were not there before: it sounds like a loss."""
    return not str(record.msg).startswith("Cannot restore ")


logger.addFilter(is_news)


@cache
def warn(message):
    """Warn once."""
    logger.warning(f"Warning: {message}")


def reported(collect):
    """Let a collector of a mode return what is there of it, and the pages of the report, when one is written."""

    def collect_there(wildcards):
        return [*filter(os.path.exists, collect(wildcards)), *report_pages()]

    def collect_all_of_it(wildcards):
        wanted = collect(wildcards)
        if Path(PROJECT).is_dir() and not is_dry_run():  # also where nothing is to be done
            or_stop(keep_config, CONFIG, Path(f"{PROJECT}/config.yaml"))
        return wanted

    return collect_there if REPORTING else collect_all_of_it


LIBRARY = or_stop(Library.read, Path(workflow.current_basedir).parent / "config", Path("config"))
CONFIG = or_stop(apply_blueprint, or_stop(load_config, config, LIBRARY))
DATA = or_stop(place_of, CONFIG.data_dir)
if left_out(CONFIG):
    warn(left_out(CONFIG))
PROJECT = f"{CONFIG.results_dir}/{CONFIG.project}"
CONDA = str(Path(workflow.current_basedir).parent / "envs/runtime.yaml")
MANY_PREPROCESSINGS = 10
TABLES = {"validation": "train", "transfer": "tl"}  # of validation metrics, and the modes whose models they show

for root in (CONFIG.data_dir, PROJECT):
    or_stop(artifacts.check_root, root)


wildcard_constraints:
    dataset=r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    base=r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    parent=r"[A-Za-z0-9][A-Za-z0-9_.+-]*",
    tag=r"[A-Za-z0-9._-]+",
    task=r"[A-Za-z0-9][A-Za-z0-9_.+-]*",
    target=r"[A-Za-z0-9][A-Za-z0-9_.+-]*",
    preprocessing=r"[A-Za-z0-9][A-Za-z0-9_.-]*-[0-9a-f]{8}",
    name="|".join(map(re.escape, CONFIG.pipelines)) or "(?!)",
    source=r"[A-Za-z0-9][A-Za-z0-9_.+-]*",
    pipeline=r"([A-Za-z0-9][A-Za-z0-9_.-]*~)?[A-Za-z0-9][A-Za-z0-9_.-]*(@[A-Za-z0-9][A-Za-z0-9_.+-]*)?",
    fold=r"0|[1-9][0-9]*",
    study=re.escape(CONFIG.hpo.study or "") or "(?!)",
    trial=r"0|[1-9][0-9]*",
    table="|".join(TABLES),


@cache
def task_files(task):
    """Return the files of a task or variant."""
    folder = f"{DATA}/tasks/{task}"
    return {"task": f"{folder}/task.json", "samples": f"{folder}/samples.csv", "folds": f"{folder}/folds.csv"}


@cache
def reused_models(task, nested):
    """Return the models of a task in other projects, by their full form, task and fold; tell of those passed over."""
    if CONFIG.project in CONFIG.reuse.models:
        raise SystemExit(f"Error: reuse.models: got {CONFIG.project}, this project itself, expected other projects.")
    found = or_stop(reuse.find_models, CONFIG.results_dir, CONFIG.reuse.models, task, nested)
    if found.skipped:
        warn(f"reuse.models: passed over models of {task}: {reuse.describe_skipped(found.skipped)}.")
    return {one.model: one for one in found.models}


@cache
def reused_recipes():
    """Return the recipes of all models of other projects that modes may predict with, by pipeline in full form."""
    if not CONFIG.reuse.models or CONFIG.pivot is None:
        return {}
    plans = [or_stop(selection.train_plan, CONFIG, mode) for mode in ("train", "predict", "test", "post")]
    found = [reused_models(str(plan.pivot), plan.nested) for plan in plans]
    return {model.pipeline: one.recipe for models in found for model, one in models.items()}


def recipe_of(pipeline):
    """Return the recipe of a pipeline in its full form."""
    if "~" in pipeline:
        if pipeline not in reused_recipes():
            raise SystemExit(f"Error: reuse.models: got no model of {pipeline}, expected its project in reuse.models.")
        return reused_recipes()[pipeline]
    name, _, source = pipeline.partition("@")
    recipe = CONFIG.pipelines[name]
    if source:
        return or_stop(with_mode, recipe, CONFIG.tl, "tl", f"pipelines.{name}.mode")
    return selection.source_recipe(recipe)


@cache
def tensor_files(preprocessing, task):
    """Return the tensors of a task in the folder of a preprocessing; manifests alone decide what is new."""
    dataset, base = or_stop(jobs.dataset_of, CONFIG, task), parse_task(task, "task").base
    check_shared_dataset(dataset)
    folder = f"{DATA}/tensors/{dataset}/{preprocessing}"
    images = "index.npy" if PREPROCESSINGS[preprocessing].storage == "jpeg" else "images.npy"
    files = {
        "images": ancient(f"{folder}/{images}"),
        "channel_sums": ancient(f"{folder}/channel_sums.npy"),
        "manifest": f"{folder}/manifest.json",
    }
    if definition_of(CONFIG, base).type == "segmentation":
        files |= {"masks": ancient(f"{folder}/{base}.masks.npy"), "mask_manifest": f"{folder}/{base}.masks.json"}
    return files


def data_files(recipe, tasks):
    """Return all files of some tasks as a recipe reads them: lists, in the order of the tasks."""
    wanted = {"task": [], "samples": [], "folds": [], "images": [], "tensors": []}
    for task in tasks:
        files, tensors = task_files(task), dict(tensor_files(tensor_folder(recipe.preprocessing), task))
        wanted["task"].append(ancient(files["task"]))
        wanted["samples"].append(files["samples"])
        wanted["folds"].append(files["folds"])
        wanted["images"].append(tensors.pop("images"))
        wanted["tensors"] += tensors.values()
    return wanted


@cache
def code_file(function, where):
    """Return the files in the working directory that hold a function of the user's own; none if it is installed."""
    or_stop(check_module, function, where)
    file = module_file(function)
    return [str(file)] if file else []


def model_folder(model):
    """Return the folder of a model, or of anything else that a pipeline has for each task and fold."""
    return f"{model.pipeline}/{model.task}/fold-{model.fold}"


@cache
def check_shared_dataset(dataset):
    """Stop if a dataset that is there is not the configured one, and Snakemake, which knows nothing of it, keeps it."""
    description = Path(f"{DATA}/datasets/{dataset}/dataset.json")
    forced = workflow.dag_settings.forceall or "create_dataset" in workflow.dag_settings.forcerun
    if description.is_file() and not forced and workflow.persistence._read_record(str(description)) is None:
        or_stop(check_shared, description, jobs.dataset_record(CONFIG, dataset))


@cache
def dataset_files(task):
    """Return the files that describe the dataset of a task."""
    dataset = or_stop(jobs.dataset_of, CONFIG, task)
    check_shared_dataset(dataset)
    folder = f"{DATA}/datasets/{dataset}"
    return {
        "dataset": f"{folder}/dataset.json",
        "images": f"{folder}/images.csv",
        "annotations": f"{folder}/annotations.csv",
    }


def fetch_inputs(wildcards):
    """Return the local archive that a dataset is extracted from, if there is one."""
    record = or_stop(jobs.fetch_record, CONFIG, wildcards.dataset)
    if not must_be_fetched(record):
        raise SystemExit(f"Error: source.json: got source {record.source}, expected one that is fetched.")
    return {"archive": input_file(wildcards.dataset, record.path)} if record.path else {}


def source_inputs(wildcards):
    """Return what a dataset is read from: what was fetched, or the local file that tells about the images."""
    record = or_stop(jobs.dataset_record, CONFIG, wildcards.dataset)
    if must_be_fetched(record):
        return {"source": f"{DATA}/datasets/{wildcards.dataset}/source.json"}
    if record.path is not None:
        check_source(wildcards.dataset, record.path)
    file = jobs.local_file(record)
    return {"source": input_file(wildcards.dataset, file)} if file else {}


def check_source(dataset, path):
    """Stop if a path given by the user is not there and was not read before."""
    if not Path(path).exists() and not Path(f"{DATA}/datasets/{dataset}/dataset.json").is_file():
        home = "; write the folder that ~ stands for" if path.startswith("~") else ""
        raise SystemExit(
            f"Error: {path}: got nothing, expected the images of dataset {dataset}. "
            f"Set path in its definition; it is relative to the working directory{home}."
        )


def input_file(dataset, path):
    """Return a file given by the user that is an input; stop if it is not there or cannot be one."""
    check_source(dataset, path)
    if "{" in path and "}" in path:
        raise SystemExit(
            f"Error: {path}: got braces in the path of dataset {dataset}, expected none. "
            "Rename it: Snakemake takes what is in braces for a wildcard."
        )
    return str(Path(path))


def collect_all(wildcards):
    """Return what a run without a target asks for: mode train; in a report, what is there of it."""
    try:
        return collect_train(wildcards)
    except SystemExit:
        if not REPORTING:
            raise
    return report_pages()


@reported
def collect_create(wildcards):
    """Return the datasets and tasks that mode create asks for."""
    parts, wanted = CONFIG.create.subroutines, []
    for task in selection.base_tasks(CONFIG):
        dataset = dataset_files(task)["dataset"]
        if "dataset" in parts:
            wanted += dataset_files(task).values()
        elif not Path(dataset).is_file():
            raise SystemExit(
                f"Error: create.subroutines: got [task], expected dataset too, as {dataset} does not exist. "
                "Set create.subroutines: [dataset, task]."
            )
        if "task" in parts:
            wanted += task_files(task).values()
    return wanted


@cache
def fetch_config(dataset):
    """Return what decides which files of a dataset are fetched."""
    record = or_stop(jobs.fetch_record, CONFIG, dataset)
    return JobConfig(jobs.slice_json(record), plan=record.source, origin=jobs.dataset_origin(CONFIG, dataset))


def was_checked(record):
    """Tell whether all images of a dataset have been opened."""
    try:
        found = artifacts.read_json(f"{DATA}/datasets/{record.dataset}/dataset.json")
    except FoldwiseError:
        return False
    return found.get("check") == "full" and found.get("definition") == differences(record)


@cache
def dataset_config(dataset):
    """Return what identifies a dataset; one that was checked is not made anew to be trusted."""
    section = or_stop(jobs.dataset_config, CONFIG, dataset)
    record, origin = section.dataset, jobs.dataset_origin(CONFIG, dataset)
    if section.check == "none" and was_checked(record):
        section = section.model_copy(update={"check": "full"})
    plan = f"source {record.source}{f', path {record.path}' if record.path else ''}, check {section.check}"
    about = jobs.describe_dataset(CONFIG, dataset)
    return JobConfig(jobs.slice_json(section), plan=plan, about=about, origin=origin)


@cache
def task_config(task):
    """Return the definition of a task or variant, and of what it is made from; warn if balancing has no effect."""
    section = or_stop(jobs.task_config, CONFIG, task)
    record, definition = section.task, definition_of(CONFIG, parse_task(task, "task").base)
    if definition.ensure_balancing and record.type != "classification":
        warn(f"{task}: ensure_balancing has no effect on task type {record.type}.")
    kind = "given" if record.given_folds else "balanced" if record.ensure_balancing else "plain"
    plan = f"{record.type}, {record.n_folds} {kind} folds, seed {record.seed}"
    return JobConfig(jobs.slice_json(section), plan=plan, about=jobs.describe_task(CONFIG, task))


@reported
def collect_pp(wildcards):
    """Return the tensors of every pipeline's preprocessing, for the pivot's dataset or for all."""
    wanted = []
    for task in selection.preprocessed_tasks(CONFIG):
        for recipe in CONFIG.pipelines.values():
            wanted += tensor_files(tensor_folder(recipe.preprocessing), task).values()
    return list(dict.fromkeys(wanted))


@cache
def studied_recipes():
    """Return recipes that read all data which trials of mode hpo may read."""
    return or_stop(study.studied_recipes, CONFIG, LIBRARY)


PREPROCESSINGS = {
    tensor_folder(recipe.preprocessing): recipe.preprocessing
    for recipe in [*CONFIG.pipelines.values(), *reused_recipes().values(), *studied_recipes()]
}


@cache
def tensor_config(dataset, folder):
    """Return the definition of a dataset's tensors."""
    record = tensor_record(dataset, PREPROCESSINGS[folder])
    section = jobs.TensorConfig(tensors=record, dataset=jobs.dataset_record(CONFIG, dataset))
    recipe = record.preprocessing
    steps = ", ".join(step.name for step in recipe.steps)
    return JobConfig(jobs.slice_json(section), plan=f"size {recipe.size}, {steps}, storage {recipe.storage}")


@cache
def mask_config(task, folder):
    """Return the definition of a task's masks in one preprocessing."""
    section = or_stop(jobs.mask_config, CONFIG, task, PREPROCESSINGS[folder])
    return JobConfig(jobs.slice_json(section), plan=f"size {section.tensors.preprocessing.size}")


def folders_with(storage):
    """Return a pattern of the tensor folders that are stored in one way; one that matches nothing if there is none."""
    return "|".join(re.escape(name) for name, recipe in PREPROCESSINGS.items() if recipe.storage == storage) or "(?!)"


def mask_inputs(wildcards):
    """Return what the masks of a task are made from."""
    files, dataset = task_files(wildcards.base), dataset_files(wildcards.base)
    return {"task": ancient(files["task"]), "samples": files["samples"], **dataset}


@cache
def plan_of(mode):
    """Return what a mode trains; stop if a recipe cannot serve the pivot, warn of what may not be meant."""
    plan = or_stop(selection.train_plan, CONFIG, mode)
    or_stop(checks.check_recipes, CONFIG, plan, mode)
    for message in or_stop(leakage.training_warnings, CONFIG, plan):
        warn(message)
    return plan


@cache
def all_models(mode):
    """Return the models that a mode works with: its own, and those of other projects."""
    plan = plan_of(mode)
    own = list(selection.models(plan))
    if mode == "tl":
        return own
    reused = list(reused_models(str(plan.pivot), plan.nested))
    for project in CONFIG.reuse.models:
        if not any(model.pipeline.startswith(f"{project}~") for model in reused):
            kind = "nested models" if plan.nested else "models"
            warn(f"reuse.models: project {project} has no {kind} of {plan.pivot} that can be used.")
    return own + reused


def models_of(mode):
    """Return the models that a mode works with; stop if there is none to predict with."""
    found = all_models(mode)
    if not found:
        raise SystemExit(f"Error: {mode}.pipelines: got no model to predict with, expected pipelines, or reuse.models.")
    return found


def model_record(model):
    """Return the description of a model."""
    return f"{PROJECT}/models/{model_folder(model)}/model.json"


def plan_with_weights(mode):
    """Return what a mode trains; stop if weights that it needs are not stored."""
    plan = or_stop(selection.with_weights, plan_of(mode), mode)
    if any("@" in form for form in plan.pipelines) and not selection.setting(CONFIG, "tl", "store_parameters"):
        raise SystemExit(
            f"Error: tl.store_parameters: got false, expected true. Mode {mode} needs the weights of the models of tl."
        )
    return plan


def predicted_logits(mode):
    """Return the logits that a mode asks for."""
    plan = plan_with_weights(mode)
    found = selection.predictions(plan, models_of(mode))
    return [f"{PROJECT}/logits/{model_folder(prediction)}/{prediction.target}.npz" for prediction in found]


def score_path(prediction):
    """Return the test metrics of a model on a target."""
    return f"{PROJECT}/scores/{model_folder(prediction)}/{prediction.target}.json"


def test_results(mode):
    """Return the scores and the table that a mode asks for; warn if the true test split is touched."""
    plan = plan_with_weights(mode)
    for message in leakage.evaluation_warnings(CONFIG, plan):
        warn(message)
    wanted = list(map(score_path, selection.scores(plan, models_of(mode))))
    return [*wanted, f"{PROJECT}/tables/test.csv"]


@cache
def table_config(mode):
    """Return which metrics a table reports for each pipeline."""
    plan = plan_of(mode)
    forms = plan.pipelines if mode in ("train", "tl") else dict.fromkeys(model.pipeline for model in all_models(mode))
    recipes = {form: recipe_of(form) for form in forms}
    section = jobs.table_config(CONFIG, recipes, str(plan.pivot), plan.eval_on if mode == "test" else ())
    tasks = section.targets or [str(plan.pivot)]
    return JobConfig(jobs.slice_json(section), plan=f"{', '.join(tasks)}, pipelines {', '.join(forms)}")


def count(number, thing):
    """Write a number of things."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def derive_code(wildcards):
    """Return the file of the function of the user's own that the last tag of a variant calls."""
    tag = parse_tag(wildcards.tag, "task")
    if tag.name != "own":
        return []
    record = or_stop(jobs.task_config, CONFIG, f"{wildcards.parent}+{wildcards.tag}").task
    return code_file(record.functions[-1], f"tagging.functions.{tag.function}")


@reported
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


def own_code(recipe, where):
    """Return the files of the user's own that a training runs, and the weights that it starts from."""
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
    recipe = recipe_of(pipeline)
    own = own_code(recipe, f"pipelines.{pipeline.partition('@')[0]}")
    return {**data_files(recipe, [task, *co_tasks_of(pipeline, task)]), **own}


@cache
def training_slice(pipeline, task):
    """Return what decides the models of a pipeline on a task, and words for the dry run."""
    mode = "tl" if "@" in pipeline else "train"
    stored = selection.setting(CONFIG, mode, "store_parameters")
    co_tasks = co_tasks_of(pipeline, task)
    section = or_stop(jobs.train_config, CONFIG, recipe_of(pipeline), task, co_tasks, stored)
    recipe = section.pipeline
    with_others = f", with {', '.join(co_tasks)}" if co_tasks else ""
    plan = (
        f"{count(recipe.trainer.max_epochs, 'epoch')}, lr {recipe.optimizer.lr:g}, batches of {recipe.sampling.batch_size}, "
        f"seed {section.seed}, pipeline {pipeline}{with_others}"
    )
    words = {"plan": plan, "network": recipe.arch.name, "cache": recipe_of(pipeline).sampling.cache}
    return section, {**words, "checkpoint_minutes": selection.setting(CONFIG, mode, "checkpoint_minutes")}


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


@reported
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
    or_stop(selection.with_weights, or_stop(selection.train_plan, CONFIG, "train"), "tl")
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


@reported
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
    return {**data_files(recipe_of(form), [wildcards.target]), **files, "code": code}


@cache
def predict_config(pipeline, target):
    """Return what decides the logits of a pipeline's models on a target."""
    section = or_stop(jobs.predict_config, CONFIG, recipe_of(pipeline), target)
    variations = f", {count(len(section.tta.variations), 'variation')}" if len(section.tta.variations) > 1 else ""
    cache_words = {"cache": recipe_of(pipeline).sampling.cache}
    return JobConfig(jobs.slice_json(section), plan=f"pipeline {pipeline}{variations}", **cache_words)


@reported
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


@cache
def ensemble_members():
    """Return the members of the ensembles that mode post finds."""
    return or_stop(members.members_of, plan_of("post"), CONFIG.post.selection, models_of("post"))


@cache
def post_targets():
    """Return the tasks on which mode post calibrates and combines; stop if it cannot."""
    plan = plan_with_weights("post")
    or_stop(members.check_post, CONFIG, plan)
    for message in members.post_warnings(CONFIG, plan):
        warn(message)
    return plan.eval_on or (str(plan.pivot),)


def combined_kind():
    """Return the folder of the logits that an ensemble takes: calibrated ones, if that is asked for."""
    return "calibrated" if "calibrate" in CONFIG.post.subroutines else "logits"


def combined_path(model, target):
    """Return the logits of a model that an ensemble takes."""
    return f"{PROJECT}/{combined_kind()}/{model_folder(model)}/{target}.npz"


@reported
def collect_post(wildcards):
    """Return what the subroutines of mode post ask for."""
    targets, parts, wanted = post_targets(), CONFIG.post.subroutines, []
    if "calibrate" in parts:
        wanted += [combined_path(model, target) for model in models_of("post") for target in targets]
        wanted += [
            f"{PROJECT}/calibrated/{model_folder(model)}/{target}.{name}.png"
            for model in models_of("post")
            for target in targets
            for name in calibration_pictures()
        ]
    elif "ensemble" in parts:
        warn("post.subroutines: without calibrate the ensemble combines raw logits, whose scales may differ.")
    if "ensemble" in parts:
        wanted += [f"{PROJECT}/ensembles/{target}/ensemble.json" for target in targets]
        wanted += [f"{PROJECT}/ensembles/{target}/{name}.png" for target in targets for name in ensemble_pictures()]
    return wanted


def pictures_of_logits():
    """Return what is drawn of logits on the pivot."""
    kind = CONFIG.pivot and definition_of(CONFIG, CONFIG.pivot.name).type
    return {"classification": ["reliability", "confusion"], "multilabel": ["reliability"]}.get(kind, [])


def calibration_pictures():
    """Return the pictures of a calibrated model: one at least, as outputs are declared for any pivot."""
    stem = f"{PROJECT}/calibrated/{{pipeline}}/{{task}}/fold-{{fold}}/{{target}}"
    return {name: f"{stem}.{name}.png" for name in pictures_of_logits() or ["reliability"]}


def ensemble_pictures():
    """Return the pictures of an ensemble."""
    return {name: f"{PROJECT}/ensembles/{{target}}/{name}.png" for name in ["weights", *pictures_of_logits()]}


def calibration_files(wildcards):
    """Return what a calibration reads: logits on the held-out fold, and those to be calibrated."""
    folder = f"{PROJECT}/logits/{wildcards.pipeline}/{wildcards.task}/fold-{wildcards.fold}"
    return {"validation": f"{folder}/{wildcards.task}.npz", "logits": f"{folder}/{wildcards.target}.npz"}


def calibrated_files(wildcards):
    """Return what pictures of a calibration are drawn from: what it read and wrote, and the names of classes."""
    stem = f"{PROJECT}/calibrated/{wildcards.pipeline}/{wildcards.task}/fold-{wildcards.fold}/{wildcards.target}"
    task = ancient(task_files(wildcards.target)["task"])
    return {**calibration_files(wildcards), "calibrated": f"{stem}.npz", "record": f"{stem}.json", "task": task}


@cache
def calibrate_config(target):
    """Return how logits on a target are calibrated."""
    section = jobs.calibrate_config(CONFIG, target)
    prior = section.calibration.prior
    return JobConfig(jobs.slice_json(section), plan=f"prior {prior if isinstance(prior, str) else 'of a list'}")


def member_sizes(target):
    """Return the members of an ensemble by their place below the root of results, each with its number of models."""
    found = ((f"{CONFIG.project}/{combined_kind()}/{member.name}", len(member.models)) for member in ensemble_members())
    return {name if CONFIG.post.selection == "val" else f"{name}/{target}.npz": models for name, models in found}


def ensemble_recipe():
    """Return the recipe whose metrics an ensemble reports: that of the first pipeline."""
    return recipe_of(ensemble_members()[0].models[0].pipeline)


@cache
def ensemble_config(target):
    """Return how an ensemble is found."""
    section = or_stop(jobs.ensemble_config, CONFIG, ensemble_recipe(), target)
    found = count(len(ensemble_members()), "member")
    return JobConfig(jobs.slice_json(section), plan=f"{found}, search {section.search.search}")


def ensemble_files(wildcards):
    """Return what an ensemble is made from: logits of its members, and the code of metrics of the user's own."""
    models = [model for member in ensemble_members() for model in member.models]
    names = ensemble_recipe().metrics.of(jobs.task_record(CONFIG, wildcards.target).type)
    files = {"targets": [combined_path(model, wildcards.target) for model in models]}
    if CONFIG.post.selection == "val":
        files["validations"] = [combined_path(model, model.task) for model in models]
    return {**files, "code": [file for name in names if ":" in name for file in code_file(name, "metrics")]}


def combined_files(wildcards):
    """Return what pictures of an ensemble are drawn from: it, the names of classes, and logits before calibration."""
    target, folder = wildcards.target, f"{PROJECT}/ensembles/{wildcards.target}"
    files = {"ensemble": f"{folder}/ensemble.json", "logits": f"{folder}/logits.npz"}
    raw = "calibrate" in CONFIG.post.subroutines
    models = [model for member in ensemble_members() for model in member.models if raw]
    before = [f"{PROJECT}/logits/{model_folder(model)}/{target}.npz" for model in models]
    return {**files, "task": ancient(task_files(target)["task"]), "raw": before}


@reported
def collect_hpo(wildcards):
    """Return what a study makes: its table, its blueprint, and the copy of its trials if one is asked for."""
    study_config()
    folder = study_folder()
    if study.direction_warning(CONFIG.hpo):
        warn(study.direction_warning(CONFIG.hpo))
    if CONFIG.hpo.sampler.name == "grid" and len(study_trials()) < CONFIG.hpo.trials:
        warn(f"hpo.trials: the grid has {len(study_trials())} points, fewer than {CONFIG.hpo.trials} trials.")
    copies = [f"{folder}/export.json"] if CONFIG.hpo.storage else []
    if CONFIG.hpo.storage and study.is_lost(CONFIG.hpo.storage):
        forget(copies[0])
    if len(studied_recipes()) > MANY_PREPROCESSINGS:
        warn(f"hpo.search_space: tensors of {len(studied_recipes())} preprocessings are made before the first trial.")
    return [f"{folder}/trials.csv", f"{folder}/blueprint.yaml", *copies]


def study_folder():
    """Return the folder of the study of mode hpo."""
    return f"{PROJECT}/studies/{CONFIG.hpo.study}"


@cache
def study_slice():
    """Return what decides the trials of the study of mode hpo; stop if other trials are there."""
    section = or_stop(study.study_config, CONFIG, plan_of("hpo"), LIBRARY)
    or_stop(study.check_same_study, section, Path(study_folder()))
    return section


@cache
def study_config():
    """Return what decides the trials of the study of mode hpo, and words for the dry run."""
    section, sampler = study_slice(), CONFIG.hpo.sampler.name
    plan = f"{sampler} over {count(len(section.space), 'key')}, {count(len(section.models), 'model')} each"
    name = study.studied_pipeline(CONFIG, plan_of("hpo"))
    return JobConfig(
        jobs.slice_json(section),
        plan=plan,
        cache=CONFIG.pipelines[name].sampling.cache,
        copies=CONFIG.hpo.storage,
        checkpoint_minutes=CONFIG.train.checkpoint_minutes,
    )


@cache
def study_trials():
    """Return the trials of the study of mode hpo."""
    numbers = range(or_stop(study.trial_count, CONFIG.hpo, study_slice().space))
    return [f"{study_folder()}/trials/{number}.json" for number in numbers]


@cache
def parallel_of(number):
    """Return how many trials could run beside a trial when it was run, or may if it was not."""
    return study.recorded_parallel(Path(f"{study_folder()}/trials/{number}.json")) or CONFIG.hpo.parallel


@cache
def studied_files():
    """Return what all trials read: data of all tasks in all preprocessings, code and weights of the user's own."""
    section, name = study_slice(), study.studied_pipeline(CONFIG, plan_of("hpo"))
    wanted = {"task": [], "samples": [], "folds": [], "images": [], "tensors": [], "code": [], "pretrained": []}
    folders = {
        tensor_folder(recipe.preprocessing): recipe for recipe in or_stop(study.recipes_of, CONFIG, name, LIBRARY)
    }
    for recipe in folders.values():
        for key, files in data_files(recipe, section.tasks).items():
            wanted[key] += files
    for _, recipe in or_stop(space.check_space, CONFIG.pipelines[name], section.space):
        for key, files in own_code(recipe, "hpo.search_space").items():
            wanted[key] += [file for file in files if file not in wanted[key]]
    return wanted


def trial_files(wildcards):
    """Return what a trial reads: data, and the trials that it waits for."""
    number = int(wildcards.trial)
    before = study.trials_before(number, parallel_of(number))
    return {**studied_files(), "before": [f"{study_folder()}/trials/{other}.json" for other in before]}


@cache
def best_config():
    """Return what is told of the study of mode hpo."""
    section = study.best_config(CONFIG, plan_of("hpo"))
    return JobConfig(jobs.slice_json(section), plan=count(len(study_trials()), "trial"))


@cache
def export_config():
    """Return where the trials of the study of mode hpo are copied to."""
    section = study.export_config(CONFIG)
    return JobConfig(jobs.slice_json(section), plan=section.storage)


@cache
def existing_tasks():
    """Return the tasks of the project that have been made."""
    return inventory.existing_tasks(Path(DATA), shown.shown_tasks(CONFIG))


@cache
def asked_studies():
    """Return the studies that mode info shows, and a warning if they are not those that are asked for."""
    return shown.shown_studies(CONFIG.info.study_name, inventory.existing_studies(Path(PROJECT)))


def info_parts():
    """Return the parts of mode info, in the order in which they are shown."""
    parts = list(CONFIG.info.subroutines)
    if "samples" not in parts and any(map(CONFIG.info.draws, ("info_grid", "info_individual"))):
        parts.append("samples")
    return [*parts, *(["artifact"] if CONFIG.info.artifact else [])]


def info_outputs(part):
    """Return what a part of mode info writes."""
    files = shown.part_files(part, CONFIG.info, existing_tasks(), asked_studies()[0])
    return {name: f"{PROJECT}/info/{file}" for name, file in files.items()}


@cache
def info_config(part):
    """Return what a part of mode info looks at."""
    section = shown.info_config(CONFIG, part, PROJECT, DATA, asked_studies()[0])
    return JobConfig(jobs.slice_json(section), plan=section.artifact or PROJECT)


@cache
def info_listing(part):
    """Return a digest of the files that a part of mode info reads: what it shows is made anew if they change."""
    if part == "artifact":
        return inventory.status_of(Path(CONFIG.info.artifact))
    return inventory.listing([part], Path(PROJECT), Path(DATA), shown.shown_tasks(CONFIG))


@reported
def collect_info(wildcards):
    """Return the tables and pictures that mode info asks for; warn if a study is not known."""
    if "hpo" in CONFIG.info.subroutines and asked_studies()[1]:
        warn(asked_studies()[1])
    texts = [info_outputs(part)["text"] for part in info_parts()]
    for text in texts:
        if workflow.persistence._read_record(text) is None:  # of results that were moved nobody knows how old they are
            forget(text)
    return [file for part in info_parts() for file in info_outputs(part).values()]


CAPTIONS = {
    name: workflow.current_basedir.join(f"captions/{name}.rst")
    for name in ("tasks", "samples", "training", "metrics", "calibration", "ensembles", "studies", "pipelines", "runs")
}


@cache
def report_pages():
    """Write the pages of a report: tables and pictures of what is there, as mode info shows them."""
    from foldwise.report import report as written  # matplotlib and all that it takes are of use to reports alone

    section = shown.info_config(CONFIG, "report", PROJECT, DATA, inventory.existing_studies(Path(PROJECT)))
    return list(map(in_report, or_stop(written.write_pages, section)))


def in_report(page):
    """Return a page marked as part of a report."""
    return report(page.path, CAPTIONS[page.category], page.title, page.subcategory, page.labels)


def forget(path):
    """Delete what a job has written, so that it is written anew; a dry run deletes nothing."""
    if not is_dry_run():
        or_stop(artifacts.remove_file, path)


@cache
def clean_config():
    """Return what mode clean deletes; list it in a dry run."""
    section = maintained.clean_config(CONFIG, PROJECT, DATA)
    if is_dry_run():
        logger.info(f"\n{or_stop(leftovers.tell, or_stop(leftovers.find_leftovers, section))}\n")
    whose = "everything" if section.all else ", ".join(CONFIG.tasks)
    return JobConfig(jobs.slice_json(section), plan=f"{', '.join(section.subroutines)} of {whose}")


def is_dry_run():
    """Tell whether nothing is to be done but to say what would be."""
    return workflow._executor_plugin is not None and workflow.dryrun


def forced_command(mode):
    """Return the command that was given with the option that lets a mode not ask."""
    given, option = os.environ["FOLDWISE_COMMAND"], f"--config {mode}__force=true"
    return given.replace("--config", option, 1) if " --config " in given else f"{given} {option}"


class OldOutputs:
    """What was there before jobs ran, to be put back as it was if they fail.

    Snakemake deletes the outputs of a failed job, or copies them back with a new date, and records the job's
    parameters as if it had succeeded. So files, dates and records are kept here; the record is put back first, so
    that no old file ever passes for a new one, whenever the run is killed.
    """

    def __init__(self):
        self.kept = {}

    def keep(self, workflow):
        """Remember the outputs of all jobs about to run; stop if a root cannot be written."""
        for root in (DATA, PROJECT):
            or_stop(artifacts.check_writable, root)
        persistence = workflow.persistence
        # Backups of a run that was killed: where a job makes nothing, Snakemake would take them for what was there.
        shutil.rmtree(persistence._backup_path, ignore_errors=True)
        for job in workflow.dag.needrun_jobs():
            for file in job.output:
                if (status := aside.status(file)) is not None:
                    self.kept[str(file)] = persistence._read_record(persistence._get_key(file)), status
        or_stop(aside.set_aside, self.kept, PROJECT)

    def put_back(self, workflow):
        """Put back the outputs of jobs that failed; forget the others."""
        persistence = workflow.persistence
        for file in (file for job in workflow.scheduler.failed for file in job.output):
            if str(file) not in self.kept:
                continue
            record, status = self.kept[str(file)]
            if record is None:
                persistence.cleanup_metadata(file)
            else:
                persistence._write_record(persistence._get_key(file), record)
            or_stop(aside.put_back, [str(file)], PROJECT)
            aside.restore_date(file, status)
        made = [str(file) for job in workflow.dag.jobs for file in job.output if aside.status(file) is not None]
        or_stop(aside.release, made, PROJECT)


OLD_OUTPUTS = OldOutputs()
