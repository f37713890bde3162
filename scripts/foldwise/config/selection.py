"""Which artifacts each mode asks for. Fold counts come from the configuration, never from data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from foldwise.config.definition import TaskRecord
from foldwise.config.model import Config, canonical_name, eval_tasks, pivot_task, tagged_tasks, task_record
from foldwise.config.names import TaskName, nest, parse_task
from foldwise.config.pipeline import Pipeline
from foldwise.errors import NOTHING, ConfigError, Words


class Model(NamedTuple):
    """One trained model: a pipeline, in its full form, on one fold of a task."""

    pipeline: str
    task: str
    fold: int


class Prediction(NamedTuple):
    """The logits of one model on the samples of a target task."""

    pipeline: str
    task: str
    fold: int
    target: str


@dataclass(frozen=True)
class TrainPlan:
    """The keys of `train` as one mode sees them: its own where set, else those of `train`.

    Parameters
    ----------
    mode : str
        The mode.
    cv, nested, inner_folds
        Which folds are trained.
    store_parameters : bool
        Whether weights are kept.
    pipelines : tuple of str
        Pipelines in their full form: ``name``, or ``name@source`` for those that start from models of a task `source`.
    eval_on : tuple of str
        Tasks that are predicted instead of the pivot; empty: the pivot.
    pivot, record : TaskName, TaskRecord
        The pivot and its definition.
    """

    mode: str
    cv: bool
    nested: bool
    inner_folds: str
    store_parameters: bool
    pipelines: tuple[str, ...]
    eval_on: tuple[str, ...]
    pivot: TaskName
    record: TaskRecord


def setting(config: Config, mode: str, key: str) -> Any:
    """Return a key of `train` as a mode sees it."""
    value = getattr(getattr(config, mode), key, None)
    return getattr(config.train, key) if value is None else value


def train_plan(config: Config, mode: str) -> TrainPlan:
    """Return what `mode` trains.

    Raises
    ------
    ConfigError
        If no pivot is set, or `tl` has no task to start from.
    """
    if config.pivot is None:
        raise ConfigError("pivot", NOTHING, f"a task of {', '.join(config.tasks)}", f"Mode {mode} works on one task.")
    record = task_record(config, pivot_task(config), "pivot")
    pivot = TaskName(config.pivot.name, tuple(record.tags))
    names = setting(config, mode, "pipelines")
    names = tuple(config.pipelines) if names is None else tuple(names)
    source = pretrain_task(config)
    if mode == "tl" and source is None:
        others = [task for task in tagged_tasks(config) if task != str(pivot)]
        expected = f"a task of {', '.join(others)}" if others else "another task of `tasks`"
        raise ConfigError("tl.pretrain_task", NOTHING, expected, "Mode tl starts from its models.")
    transfers = tuple(f"{name}@{source}" for name in names) if source and mode not in ("train", "hpo") else ()
    if transfers:  # what can do nothing but start from other models has no models of its own
        names = tuple(name for name in names if not needs_start(config.pipelines[name]))
    plan = TrainPlan(
        mode=mode,
        cv=setting(config, mode, "cv"),
        nested=setting(config, mode, "nested"),
        inner_folds=setting(config, mode, "inner_folds"),
        store_parameters=setting(config, mode, "store_parameters"),
        pipelines=transfers if mode == "tl" else names + transfers,
        eval_on=tuple(canonical_name(config, task, where) for where, task in eval_tasks(config, mode)),
        pivot=pivot,
        record=record,
    )
    check_names(plan)
    return plan


def check_names(plan: TrainPlan) -> None:
    """Raise `ConfigError` if the name of a nested variant is too long."""
    if plan.nested:
        parse_task(str(nest(plan.pivot, plan.record.n_folds - 1)), "pivot")


def pretrain_task(config: Config) -> str | None:
    """Return the task whose models `tl` starts from, in its canonical name, if it is set."""
    found = config.tl.pretrain_task
    return None if found is None else canonical_name(config, found, "tl.pretrain_task")


def needs_start(recipe: Pipeline) -> bool:
    """Tell whether a recipe can only start from other models: it normalises as weights expect, and has none."""
    has_weights = recipe.arch.weights is not None or getattr(recipe.arch, "pretrained", False)
    return recipe.augmentations.normalization == "pretraining" and not has_weights


def source_recipe(recipe: Pipeline) -> Pipeline:
    """Return the recipe of the models that `tl` starts from: the pipeline's, if it can be trained by itself.

    Else what only serves to start from weights is taken out of it. As no mode trains such a pipeline by itself, there
    is one recipe for each model.
    """
    if not needs_start(recipe):
        return recipe
    changes = {
        "augmentations": recipe.augmentations.model_copy(update={"normalization": "task"}),
        "optimizer": recipe.optimizer.model_copy(update={"backbone_lr_factor": 1.0}),
        "peft": Pipeline.model_fields["peft"].default,
    }
    return recipe.model_copy(update=changes)


def source_plan(config: Config, pipeline: str) -> TrainPlan:
    """Return the plan of the models that `tl` may start from: those of `train` with another pivot."""
    plan, source = train_plan(config, "tl"), pretrain_task(config)
    assert source is not None  # noqa: S101  (train_plan has looked)
    record = task_record(config, source, "tl.pretrain_task")
    name = TaskName(parse_task(source, "tl.pretrain_task").base, tuple(record.tags))
    found = replace(plan, mode="train", pipelines=(pipeline,), eval_on=(), pivot=name, record=record)
    check_names(found)
    return found


def with_weights(plan: TrainPlan, mode: str) -> TrainPlan:
    """Return the plan of a mode that needs weights.

    Raises
    ------
    ConfigError
        If weights are not stored.
    """
    if not plan.store_parameters:
        raise ConfigError("train.store_parameters", False, "true", f"Mode {mode} needs the weights of the models.")
    return plan


def models(plan: TrainPlan) -> Iterator[Model]:
    """Yield every model of a plan: pipelines by folds, or by outer and inner folds if nested."""
    outer = range(plan.record.n_folds if plan.cv else 1)
    inner = range(plan.record.n_folds if plan.inner_folds == "all" else 1)
    for pipeline in plan.pipelines:
        for fold in outer:
            if plan.nested:
                yield from (Model(pipeline, str(nest(plan.pivot, fold)), k) for k in inner)
            else:
                yield Model(pipeline, str(plan.pivot), fold)


def predictions(plan: TrainPlan, found: Iterable[Model]) -> Iterator[Prediction]:
    """Yield the logits of models: on their own task, of a nested one on the pivot too; or on the tasks of `eval_on`."""
    for model in found:
        for target in plan.eval_on or dict.fromkeys((model.task, str(plan.pivot))):
            yield Prediction(*model, target=target)


def scores(plan: TrainPlan, found: Iterable[Model]) -> Iterator[Prediction]:
    """Yield what is scored: each model on its own test split, the outer fold of a nested one; or on `eval_on`."""
    for model in found:
        for target in plan.eval_on or (model.task,):
            yield Prediction(*model, target=target)


def co_tasks(config: Config, recipe: Pipeline, pivot: TaskName, where: str) -> list[str]:
    """Return the tasks that are learned beside the pivot.

    Random ones are chosen by a hash of seed and name, so that what else is in `tasks` changes nothing.

    Raises
    ------
    ConfigError
        If there are too few, or the pivot or a variant of it is listed.
    """
    mode = recipe.mode
    if not mode.multitask:
        return []
    if isinstance(mode.co_tasks, list):
        place = place_of(config, recipe, "co_tasks", where)
        names = [canonical_name(config, task, place) for task in mode.co_tasks]
        for name in names:
            if parse_task(name, where).base == pivot.base:
                role = "the pivot" if config.pivot and config.pivot.name == pivot.base else "tl.pretrain_task"
                raise ConfigError(place, name, f"tasks other than {role} {pivot.base} and its variants")
        return names
    free = [name for name in tagged_tasks(config) if parse_task(name, where).base != pivot.base]
    free = [name for name in free if task_record(config, name).type != "unlabeled"]
    count = mode.multitask - 1
    if len(free) < count:
        got = Words(f"{mode.multitask} with {len(free)} tasks beside the pivot")
        place = place_of(config, recipe, "multitask", where)
        raise ConfigError(place, got, f"at most {len(free) + 1}", "Add labelled tasks to `tasks`.")
    return sorted(free, key=lambda name: hashlib.sha256(f"{config.seed}:{name}".encode()).hexdigest())[:count]


def place_of(config: Config, recipe: Pipeline, key: str, where: str) -> str:
    """Return the path of a key of `mode`: that of the mode that replaces it, else that of the pipeline, `where`."""
    value = getattr(recipe.mode, key)
    modes = (mode for mode in ("train", "tl") if getattr(getattr(config, mode), key) == value)
    return f"{next(modes, where)}.{key}"


def preprocessed_tasks(config: Config) -> list[str]:
    """Return the tasks whose tensors mode `pp` makes: the pivot if one is set, else all."""
    return [config.pivot.name] if config.pivot else [parse_task(task, "tasks").base for task in tagged_tasks(config)]


def base_tasks(config: Config) -> list[str]:
    """Return the tasks that mode `create` makes: the bases of all tasks, each once."""
    return list(dict.fromkeys(parse_task(task, "tasks").base for task in config.tasks))
