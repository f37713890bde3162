"""What may not be meant: models that are tested on what they learned from, and others that learn nothing."""

from __future__ import annotations

from foldwise.config.architectures import OwnNetwork
from foldwise.config.load import with_mode
from foldwise.config.model import Config, definition_of, eval_tasks, task_record
from foldwise.config.names import TaskName, parse_tag, parse_task
from foldwise.config.pipeline import Pipeline
from foldwise.config.selection import TrainPlan, co_tasks, models, pretrain_task

TOO_GOOD = "may have learned from samples that they are tested on"


def training_warnings(config: Config, plan: TrainPlan) -> list[str]:
    """Return what may not be meant in what a mode trains.

    Raises
    ------
    ConfigError
        If co-tasks cannot be chosen.
    """
    found, source = [], pretrain_task(config)
    if plan.nested and plan.pivot.nested:
        found.append(f"pivot {plan.pivot} is nested already: train.nested: true nests it once more.")
    if source and any("@" in form for form in plan.pipelines) and share_images(config, source, str(plan.pivot)):
        told = f"tl.pretrain_task {source} has the images of the pivot {plan.pivot}"
        found.append(f"{told}: models that start from it {TOO_GOOD}.")
    for form in plan.pipelines:
        shared = [task for task in co_tasks_of(config, plan, form) if share_images(config, task, str(plan.pivot))]
        if shared:
            told = f"co-tasks have the images of the pivot {plan.pivot} ({', '.join(shared)})"
            found.append(f"pipeline {form}: {told}: models {TOO_GOOD}.")
    return found + start_warnings(config, plan)


def start_warnings(config: Config, plan: TrainPlan) -> list[str]:
    """Return which pipelines of a plan have a backbone that stays random, or are used after transfer alone."""
    found = []
    for name, form in {form.partition("@")[0]: form for form in plan.pipelines}.items():
        if is_frozen(config.pipelines[name]):
            told = "0 freezes the backbone, and without arch.weights it stays as random as it begins"
            remedy = "In mode tl set tl.freeze: true instead."
            found.append(f"pipelines.{name}.optimizer.backbone_lr_factor: {told}. {remedy}")
        if plan.mode != "tl" and name not in plan.pipelines:
            found.append(f"pipeline {name} has no weights to start from: it is used as {form} alone.")
    return found


def is_frozen(recipe: Pipeline) -> bool:
    """Tell whether the backbone of a recipe has random weights and does not learn."""
    arch, frozen = recipe.arch, not recipe.optimizer.backbone_lr_factor
    given = isinstance(arch, OwnNetwork) or arch.weights is not None or getattr(arch, "pretrained", False)
    return frozen and not given and recipe.augmentations.normalization != "pretraining"


def co_tasks_of(config: Config, plan: TrainPlan, form: str) -> list[str]:
    """Return the tasks that a pipeline in its full form learns beside the pivot."""
    name, _, source = form.partition("@")
    recipe, own = config.pipelines[name], f"pipelines.{name}.mode"
    return co_tasks(config, with_mode(recipe, config.tl, "tl", own) if source else recipe, plan.pivot, own)


def evaluation_warnings(config: Config, plan: TrainPlan) -> list[str]:
    """Return what may not be meant in what models are tested on."""
    if not plan.eval_on:
        told = f"Testing without nesting touches the test split of {plan.pivot}: use it once, at the end."
        return [] if plan.nested else [f"{told} With train.nested: true each outer fold is a test split instead."]
    where = eval_tasks(config, plan.mode)[0][0].partition("[")[0]
    shared = [task for task in plan.eval_on if share_images(config, task, str(plan.pivot))]
    kept = [task for task in shared if keeps_test_split(parse_task(task, where), plan.pivot)]
    own = {model.task for model in models(plan)}  # with one outer fold its test split is that of all models
    learned = [task for task in shared if task not in kept and own != {task}]
    found = []
    if kept:
        told = f"testing on {', '.join(kept)} touches a test split that is kept for the end"
        found.append(f"{where}: {told}: use it once.")
    if learned:
        found.append(f"{where}: images of the pivot {plan.pivot} are in {', '.join(learned)}: models {TOO_GOOD}.")
    return found


def keeps_test_split(task: TaskName, pivot: TaskName) -> bool:
    """Tell whether the test split of a task is one that the pivot was made without, or its own.

    A nested variant of what the pivot is has training samples of the pivot in its test split.
    """
    folds, own = ([tag for tag in name.tags if tag.startswith("nested-")] for name in (task, pivot))
    return task.base == pivot.base and folds == own[: len(folds)]


def share_images(config: Config, one: str, other: str) -> bool:
    """Tell whether two tasks may have labelled images in common: those of one dataset may, unless tags keep them apart.

    Two variants of a task that keep other classes of it have no image in common. Classes by name and by index can be
    told apart only if the definition lists the classes.
    """
    names = [parse_task(task, "task") for task in (one, other)]
    datasets = {task_record(config, task).dataset for task in (one, other)}
    if len(datasets) > 1:
        return False
    mine, theirs = (kept_classes(config, name) for name in names)
    if names[0].base != names[1].base or mine is None or theirs is None or mine & theirs:
        return True
    is_listed = definition_of(config, names[0].base).classes is not None
    return not is_listed and len({word.isdigit() for word in mine | theirs}) > 1


def kept_classes(config: Config, name: TaskName) -> frozenset[str] | None:
    """Return the classes of a task that a variant of it has labelled samples of; None if it may be all.

    Only in classification do samples go with their class. Where labels are changed before classes are chosen, or by a
    function of the user's own, they are no longer those of the task. The first choice of several is the widest.
    """
    definition, kinds = definition_of(config, name.base), [tag.partition("-")[0] for tag in name.tags]
    if definition.type != "classification" or "classes" not in kinds or "own" in kinds:
        return None
    place = kinds.index("classes")
    if "noise" in kinds[:place]:
        return None
    listed = list(map(str, definition.classes or []))
    known = {str(index): word for index, word in enumerate(listed)} | {word: word for word in listed}
    return frozenset(known.get(word, word) for word in parse_tag(name.tags[place], "task").classes)
