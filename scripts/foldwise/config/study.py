"""What the trials of a study need to know, and whether a study on disk is the one that is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from foldwise.artifacts import read_json
from foldwise.config.callbacks import FALLING
from foldwise.config.canonical import tensor_record
from foldwise.config.checks import check_leaks, check_type
from foldwise.config.definition import TaskRecord
from foldwise.config.hpo import Hpo, HyperbandPruner, NoPruner, Pruner, Sampler, TreeParzen
from foldwise.config.jobs import CoTask, TrainConfig, training_recipe
from foldwise.config.load import Library
from foldwise.config.metrics import Metrics
from foldwise.config.model import Config, task_record
from foldwise.config.modes import Seed
from foldwise.config.pipeline import Pipeline
from foldwise.config.preprocessing import TensorRecord
from foldwise.config.section import Section
from foldwise.config.selection import TrainPlan, co_tasks, models
from foldwise.config.sides import check_step
from foldwise.config.space import (
    WHERE,
    Parameter,
    all_points_once,
    check_space,
    longest,
    mode_key,
    recipes_of_data,
    resolve_space,
)
from foldwise.errors import NOTHING, ConfigError, FoldwiseError, Words, nearest, one_of

FOLD_KEYS = "hpo.cv, hpo.nested, hpo.inner_folds or pivot"  # what decides which models a trial trains
REMEDY = "Give the study another name, or delete its folder to begin anew."


class Trained(Section):
    """A model that every trial trains."""

    task: str
    fold: int


class StudyConfig(Section):
    """All that decides the trials of a study, but their numbers and how many run beside each other.

    Parameters
    ----------
    study : str
        Its name.
    seed : int
        Of training, and of the sampler.
    space : list of Parameter
        The search space, each parameter after those that it depends on.
    pipeline : Pipeline
        The recipe that is varied.
    models : list of Trained
        What every trial trains; the mean of their scores is its value.
    tasks : dict of str to TaskRecord
        Definitions of the tasks that are read.
    co_tasks : dict of str to list of str
        What is learned beside the pivot, by `mode_key` of the recipe.
    sections : list of str
        Sections of the best recipe that the blueprint holds.
    """

    study: str
    seed: Seed = 42
    direction: Literal["minimize", "maximize"] = "minimize"
    metric: str | None = None
    sampler: Sampler = TreeParzen()
    pruner: Pruner = NoPruner()
    space: list[Parameter]
    pipeline: Pipeline = Pipeline()
    models: list[Trained]
    tasks: dict[str, TaskRecord]
    co_tasks: dict[str, list[str]] = Field({})

    @property
    def type(self) -> str:
        """The task type of the pivot."""
        return self.tasks[self.models[0].task].type


class BestConfig(Section):
    """What is told of a study: the direction, what its blueprint holds, and the pivot it is made for."""

    study: str
    pivot: str
    direction: Literal["minimize", "maximize"] = "minimize"
    sections: list[str] = Field([])


class ExportConfig(Section):
    """Where the trials of a study are copied to."""

    study: str
    direction: Literal["minimize", "maximize"] = "minimize"
    storage: str


def studied_pipeline(config: Config, plan: TrainPlan) -> str:
    """Return the pipeline that mode hpo varies.

    Raises
    ------
    ConfigError
        If no study is named, or several pipelines are selected.
    """
    if config.hpo.study is None:
        raise ConfigError("hpo.study", NOTHING, "a name for the study", "Its trials are kept in a folder of that name.")
    if len(plan.pipelines) != 1:
        got = Words(f"{len(plan.pipelines)} pipelines, {', '.join(plan.pipelines) or 'none'}")
        raise ConfigError("hpo.pipelines", got, "one pipeline", "Set hpo.pipelines to a list of one name.")
    return plan.pipelines[0]


def study_config(config: Config, plan: TrainPlan, library: Library) -> StudyConfig:
    """Return all that decides the trials of the study of mode hpo.

    Raises
    ------
    ConfigError, ConfigErrors
        If the search space is wrong, a recipe in it cannot serve the pivot, or the metric is not known.
    """
    name, hpo = studied_pipeline(config, plan), config.hpo
    recipe = config.pipelines[name]
    space = resolve_space(hpo.search_space, recipe, library)
    for _, tried in check_space(recipe, space):
        check_type(tried, plan.record.type, WHERE)
        check_leaks(tried, plan, WHERE)
        if isinstance(tried.preprocessing.size, int):
            check_step(tried.arch, (tried.preprocessing.size, tried.preprocessing.size))
    check_metric(hpo, plan.record.type)
    found = [Trained(task=model.task, fold=model.fold) for model in models(plan)]
    check_pruner(hpo, len(found) * longest(recipe, space))
    mode = f"{WHERE}.mode" if any(one.section == "mode" for one in space) else f"pipelines.{name}.mode"
    beside = {mode_key(one): co_tasks(config, one, plan.pivot, mode) for one in recipes_of_data(recipe, space)}
    tasks = dict.fromkeys([*(one.task for one in found), *(task for names in beside.values() for task in names)])
    return StudyConfig(
        study=str(hpo.study),
        seed=config.seed,
        direction=hpo.direction,
        metric=hpo.metric,
        sampler=hpo.sampler,
        pruner=hpo.pruner,
        space=space,
        pipeline=varied_recipe(recipe),
        models=found,
        tasks={task: task_record(config, task) for task in tasks},
        co_tasks={key: names for key, names in beside.items() if names},
    )


def varied_recipe(recipe: Pipeline) -> Pipeline:
    """Return a recipe without what decides no weights, as trials vary it."""
    return training_recipe(recipe, True).model_copy(update={"mode": recipe.mode})


def trial_config(config: StudyConfig, recipe: Pipeline, model: Trained) -> TrainConfig:
    """Return what decides a model of a trial: the same as if mode train had made it with the recipe."""
    beside = config.co_tasks.get(mode_key(recipe), [])

    def read(task: str) -> TensorRecord:
        return tensor_record(config.tasks[task].dataset, recipe.preprocessing)

    return TrainConfig(
        seed=config.seed,
        pipeline=training_recipe(recipe, bool(beside)),
        task=config.tasks[model.task],
        tensors=read(model.task),
        co_tasks=[CoTask(name=task, task=config.tasks[task], tensors=read(task)) for task in beside],
    )


def check_metric(hpo: Hpo, kind: str) -> None:
    """Raise `ConfigError` unless the metric is one of validation."""
    known = Metrics().of(kind)
    if hpo.metric is not None and hpo.metric not in known:
        expected = f"null, or a metric of task type {kind}: {one_of(known)}"
        raise ConfigError("hpo.metric", hpo.metric, expected, nearest(hpo.metric, known))


def check_pruner(hpo: Hpo, epochs: int) -> None:
    """Raise `ConfigError` if Hyperband lets trials have more epochs than they may be trained for."""
    if isinstance(hpo.pruner, HyperbandPruner) and hpo.pruner.min_resource > epochs:
        expected = f"at most {epochs}, the epochs of a trial"
        raise ConfigError("hpo.pruner.min_resource", hpo.pruner.min_resource, expected)


def direction_warning(hpo: Hpo) -> str:
    """Return a warning if the study seeks the worst model; an empty text otherwise."""
    better = "minimize" if hpo.metric is None or hpo.metric in FALLING else "maximize"
    of = f"metric {hpo.metric}" if hpo.metric else "the validation loss"
    told = f"hpo.direction: {hpo.direction} with {of} seeks the worst model; set hpo.direction: {better}."
    return "" if hpo.direction == better else told


def trial_count(hpo: Hpo, space: Sequence[Parameter]) -> int:
    """Return how many trials a study has: as many as are asked for, but of a grid no more than it has points."""
    return min(hpo.trials, len(all_points_once(space))) if hpo.sampler.name == "grid" else hpo.trials


def studied_recipes(config: Config, library: Library) -> list[Pipeline]:
    """Return recipes that read all data which trials may read, of all pipelines that may be varied."""
    if not config.hpo.search_space:
        return []
    selected = config.hpo.pipelines or config.train.pipelines or list(config.pipelines)
    return [recipe for name in selected for recipe in recipes_of(config, name, library)]


def recipes_of(config: Config, pipeline: str, library: Library) -> list[Pipeline]:
    """Return recipes that read all data which trials of a pipeline may read."""
    recipe = config.pipelines[pipeline]
    return recipes_of_data(recipe, resolve_space(config.hpo.search_space, recipe, library))


def recorded_parallel(path: Path) -> int | None:
    """Return how many trials could run beside one that is there; None if it is not, or cannot be read."""
    try:
        found = read_json(path).get("parallel") if path.is_file() else None
    except FoldwiseError:
        return None
    return found if isinstance(found, int) else None


def check_same_study(config: StudyConfig, folder: Path) -> None:
    """Raise `ConfigError` if trials that are there belong to another study of the same name; it names both values."""
    for path in existing_trials(folder):
        try:
            before = StudyConfig.model_validate(read_json(path).get("definition"))
        except (FoldwiseError, ValidationError):
            continue
        if before != config:
            key, found, wanted = first_difference(readable(before), readable(config))
            expected = f"{found} as in the trials that are there, {folder}"
            raise ConfigError(key, Words(wanted), expected, REMEDY)
        return


def existing_trials(folder: Path) -> list[Path]:
    """Return the files of trials in the folder of a study, by number."""
    found = [path for path in (folder / "trials").glob("*.json") if path.stem.isdecimal()]
    return sorted(found, key=lambda path: int(path.stem))


def readable(config: StudyConfig) -> dict[str, Any]:
    """Return the definition of a study by the keys that users write."""
    tree = config.model_dump(mode="json")
    keys = {one["key"]: {key: value for key, value in one.items() if key != "key"} for one in tree.pop("space")}
    folds = {FOLD_KEYS: [f"{one['task']} fold {one['fold']}" for one in tree.pop("models")]}
    of_study = {key: tree.pop(key) for key in list(tree) if key in Hpo.model_fields}
    return {"hpo": {"search_space": keys, **of_study}, **folds, **tree.pop("pipeline"), **tree}


def first_difference(before: Any, now: Any, path: str = "") -> tuple[str, str, str]:
    """Return the first key in which two trees differ, and what is there in each."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted({*before, *now}, key=lambda key: (key != "name", key)):  # of a component its name first
            if before.get(key) != now.get(key):
                return first_difference(before.get(key), now.get(key), f"{path}.{key}" if path else key)
    return path, say(before), say(now)


def say(value: Any) -> str:
    """Write a value of a definition."""
    if isinstance(value, Mapping):
        value = {key: item for key, item in value.items() if item not in (None, False, {})}
    return "nothing" if value is None else json.dumps(value)


def stored_sections(config: Config) -> list[str]:
    """Return the sections of a pipeline that a blueprint holds: those that are stored, and those that were searched."""
    searched = {key.partition(".")[0] for key in config.hpo.search_space}
    return [key for key in Pipeline.model_fields if key in config.train.pipeline_keys or key in searched]


def best_config(config: Config, plan: TrainPlan) -> BestConfig:
    """Return what is told of the study of mode hpo."""
    return BestConfig(
        study=str(config.hpo.study),
        pivot=str(plan.pivot),
        direction=config.hpo.direction,
        sections=stored_sections(config),
    )


def trials_before(number: int, parallel: int) -> Iterable[int]:
    """Return the trials that a trial waits for: those whose own waiting covers all up to `number` - `parallel`."""
    last = number - parallel
    return range(max(0, last - parallel + 1), last + 1)


def is_lost(storage: str) -> bool:
    """Tell whether the file that trials were copied to is not there; of a server nobody knows without asking."""
    kind, colon, place = storage.rpartition(":///")
    is_file = (not colon and "://" not in storage) or kind == "sqlite"
    return is_file and "${" not in storage and not Path(place).exists()


def export_config(config: Config) -> ExportConfig:
    """Return where the trials of the study of mode hpo are copied to."""
    hpo = config.hpo
    return ExportConfig(study=str(hpo.study), direction=hpo.direction, storage=str(hpo.storage))
