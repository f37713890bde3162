"""Which artifacts each mode asks for. Fold counts come from the configuration, never from data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from foldwise.config.architectures import SEGMENTERS
from foldwise.config.definition import TaskRecord
from foldwise.config.model import Config, pivot_task, tagged_tasks, task_record
from foldwise.config.names import TaskName, nest, parse_task
from foldwise.config.pipeline import resolve_loss
from foldwise.errors import NOTHING, ConfigError, one_of


class Model(NamedTuple):
    """One trained model: a pipeline on one fold of a task."""

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
    """The keys of `train` as one mode sees them: its own where set, else those of `train`."""

    cv: bool
    nested: bool
    inner_folds: str
    store_parameters: bool
    pipelines: tuple[str, ...]
    pivot: TaskName
    record: TaskRecord


def train_plan(config: Config, mode: str) -> TrainPlan:
    """Return what `mode` trains.

    Raises
    ------
    ConfigError
        If no pivot is set.
    """
    if config.pivot is None:
        raise ConfigError("pivot", NOTHING, f"a task of {', '.join(config.tasks)}", f"Mode {mode} works on one task.")
    own, record = getattr(config, mode), task_record(config, pivot_task(config), "pivot")

    def setting(key: str) -> Any:
        value = getattr(own, key)
        return getattr(config.train, key) if value is None else value

    pipelines, pivot = setting("pipelines"), TaskName(config.pivot.name, tuple(record.tags))
    if setting("nested"):
        parse_task(str(nest(pivot, record.n_folds - 1)), "pivot")  # its name may be too long then
    return TrainPlan(
        cv=setting("cv"),
        nested=setting("nested"),
        inner_folds=setting("inner_folds"),
        store_parameters=setting("store_parameters"),
        pipelines=tuple(config.pipelines if pipelines is None else pipelines),
        pivot=pivot,
        record=record,
    )


def check_recipes(config: Config, plan: TrainPlan, mode: str) -> None:
    """Raise `ConfigError` if a pipeline of a plan cannot serve the task type of the pivot."""
    kind = plan.record.type
    if kind == "unlabeled":
        raise ConfigError("pivot", str(plan.pivot), f"a task with labels for mode {mode}", f"{plan.pivot} has none.")
    for name in plan.pipelines:
        recipe, where = config.pipelines[name], f"pipelines.{name}"
        resolve_loss(recipe.loss, kind, f"{where}.loss")
        if kind == "segmentation" and recipe.arch.name not in SEGMENTERS:
            raise ConfigError(f"{where}.arch.name", recipe.arch.name, f"{one_of(SEGMENTERS)} for task type {kind}")
        if recipe.sampling.balanced and kind != "classification":
            raise ConfigError(
                f"{where}.sampling.balanced", True, f"false for task type {kind}", "It has no classes to draw."
            )


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


def predictions(plan: TrainPlan) -> Iterator[Prediction]:
    """Yield the logits of every model: on its own task, and of a nested model on the pivot too."""
    for model in models(plan):
        yield Prediction(*model, target=model.task)
        if plan.nested:
            yield Prediction(*model, target=str(plan.pivot))


def scores(plan: TrainPlan) -> Iterator[Prediction]:
    """Yield what is scored: each model on its own test split (the outer fold of a nested model)."""
    for model in models(plan):
        yield Prediction(*model, target=model.task)


def preprocessed_tasks(config: Config) -> list[str]:
    """Return the tasks whose tensors mode `pp` makes: the pivot if one is set, else all."""
    return [config.pivot.name] if config.pivot else [parse_task(task, "tasks").base for task in tagged_tasks(config)]


def base_tasks(config: Config) -> list[str]:
    """Return the tasks that mode `create` makes: the bases of all tasks, each once."""
    return list(dict.fromkeys(parse_task(task, "tasks").base for task in config.tasks))
