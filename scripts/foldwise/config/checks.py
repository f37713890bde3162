"""Whether recipes can serve what a mode asks of them: leakage guards, task types, co-tasks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from foldwise.config.architectures import Arch, check_maps
from foldwise.config.callbacks import check_variations, check_watched
from foldwise.config.canonical import component
from foldwise.config.definition import TaskRecord
from foldwise.config.losses import resolve_loss
from foldwise.config.metrics import Metrics
from foldwise.config.model import Config, definition_of, eval_tasks, task_record
from foldwise.config.names import parse_task
from foldwise.config.optimization import Plateau
from foldwise.config.pipeline import Pipeline
from foldwise.config.selection import TrainPlan, needs_start
from foldwise.errors import ConfigError, Words

LEAK = (
    "The held-out fold that decides this is also what the model is reported on. Set train.nested: true (the outer fold "
    "then stays unseen), or let the training loss decide: "
)


def check_recipes(config: Config, plan: TrainPlan, mode: str) -> None:
    """Raise `ConfigError` if a pipeline of a plan cannot serve the pivot, or would leak its held-out fold."""
    kind = plan.record.type
    if kind == "unlabeled":
        raise ConfigError("pivot", str(plan.pivot), f"a task with labels for mode {mode}", f"{plan.pivot} has none.")
    for form in plan.pipelines:
        name, _, source = form.partition("@")
        recipe, where = config.pipelines[name], f"pipelines.{name}"
        check_type(recipe, kind, where)
        check_leaks(recipe, plan, where)
        if source:
            check_source(recipe, source, task_record(config, source, "tl.pretrain_task").type, where)
        else:
            check_start(recipe, where)
    for (where, _), target in zip(eval_tasks(config, plan.mode), plan.eval_on, strict=True):
        check_target(config, plan, target, where.partition("[")[0])


def check_type(recipe: Pipeline, kind: str, where: str) -> None:
    """Raise `ConfigError` if a recipe cannot serve a task type."""
    resolve_loss(recipe.loss, kind, f"{where}.loss")
    check_maps(recipe.arch, kind, f"{where}.arch")
    if recipe.sampling.balanced and kind != "classification":
        raise ConfigError(
            f"{where}.sampling.balanced", True, f"false for task type {kind}", "It has no classes to draw."
        )
    mixing = {"mixup": ("segmentation",), "cutmix": ("segmentation", "regression")}
    for key, kinds in mixing.items():
        if getattr(recipe.cbs, key) and kind in kinds:
            expected = f"null for task type {kind}"
            raise ConfigError(f"{where}.cbs.{key}", Words("a mapping"), expected, "Its targets cannot be mixed.")
    if recipe.cbs.tensorboard and find_spec("tensorboard") is None:
        remedy = "Install the extra: pip install 'foldwise[tensorboard]'."
        raise ConfigError(f"{where}.cbs.tensorboard", True, "false, as tensorboard is not installed", remedy)
    check_watched(recipe.cbs, Metrics().of(kind), f"{where}.cbs", kind)
    check_variations(recipe.tta, kind, f"{where}.tta")


def check_start(recipe: Pipeline, where: str) -> None:
    """Raise `ConfigError` if a recipe that is to be trained by itself needs weights and has none."""
    if needs_start(recipe):
        expected = "imagenet, task or null, as there are no weights to start from"
        remedy = "Set arch.weights, or arch.pretrained with a network of timm; or use it in mode tl alone."
        raise ConfigError(f"{where}.augmentations.normalization", "pretraining", expected, remedy)


def check_source(recipe: Pipeline, source: str, kind: str, where: str) -> None:
    """Raise `ConfigError` if a recipe cannot train the models of a task that `tl` starts from."""
    if kind == "unlabeled":
        raise ConfigError("tl.pretrain_task", source, "a task with labels", f"{source} has none.")
    try:
        resolve_loss(recipe.loss, kind, f"{where}.loss")
        check_maps(recipe.arch, kind, f"{where}.arch")
        check_watched(recipe.cbs, Metrics().of(kind), f"{where}.cbs", kind)
    except ConfigError as error:
        remedy = f"Models of tl.pretrain_task {source} are trained with it, too."
        raise ConfigError(error.where, error.got, error.expected, remedy) from None


def network_of(arch: Arch) -> dict[str, Any]:
    """Return what makes two networks the same: all but where their weights come from, and dropout."""
    return {key: value for key, value in component(arch).items() if key not in ("weights", "pretrained", "dropout")}


def check_leaks(recipe: Pipeline, plan: TrainPlan, where: str) -> None:
    """Raise `ConfigError` if the held-out fold of a cross-validation that is not nested decides on training."""
    if plan.nested or not plan.cv:
        return
    stopping, schedule = recipe.cbs.early_stopping, recipe.lr_scheduler
    if stopping and stopping.uses_validation:
        key = f"{where}.cbs.early_stopping.monitor"
        raise ConfigError(key, stopping.monitor, "train_loss with train.cv", f"{LEAK}monitor: train_loss.")
    if isinstance(schedule, Plateau) and schedule.monitor == "val_loss":
        key = f"{where}.lr_scheduler.monitor"
        raise ConfigError(key, schedule.monitor, "train_loss with train.cv", f"{LEAK}monitor: train_loss.")


def check_target(config: Config, plan: TrainPlan, target: str, where: str) -> None:
    """Raise `ConfigError` if a task of `eval_on` has another type, or declares another number of classes."""
    record = task_record(config, target, where)
    if record.type != plan.record.type:
        expected = f"a task of type {plan.record.type}, as the pivot {plan.pivot} has; {target} is {record.type}"
        raise ConfigError(where, target, expected)
    declared = [declared_classes(config, name) for name in (target, str(plan.pivot))]
    if all(declared) and len(declared[0]) != len(declared[1]):
        raise ConfigError(
            where,
            f"{target} with classes {', '.join(declared[0])}",
            f"the {len(declared[1])} classes of {plan.pivot}: {', '.join(declared[1])}",
        )


def declared_classes(config: Config, task: str) -> list[str]:
    """Return the classes that the definition of a task without tags declares."""
    name = parse_task(task, "task")
    if any(not tag.startswith(("nested", "identity", "subset", "noise")) for tag in name.tags):
        return []
    return list(map(str, definition_of(config, name.base).classes or []))


def check_co_tasks(recipe: Pipeline, records: dict[str, TaskRecord], where: str) -> None:
    """Raise `ConfigError` if a recipe's backbone cannot serve a co-task."""
    for name, record in records.items():
        if record.type == "unlabeled":
            raise ConfigError(f"{where}.co_tasks", name, "tasks with labels")
        try:
            check_maps(recipe.arch, record.type, f"{where}.arch")
        except ConfigError as error:
            remedy = f"The co-task {name} needs it."
            raise ConfigError(error.where, error.got, error.expected, remedy) from None
