"""One trial: settings by the trials before it, training of all its folds, and what came of it as a file."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from foldwise.aside import aside
from foldwise.config.canonical import digest, tensor_folder
from foldwise.config.checks import check_type
from foldwise.config.hpo import MedianPruner
from foldwise.config.jobs import TrainConfig
from foldwise.config.pipeline import Pipeline
from foldwise.config.space import Point, apply_point, longest
from foldwise.config.study import StudyConfig, Trained, trial_config
from foldwise.data.files import Data, DataFiles
from foldwise.errors import ConfigError, DataError, FoldwiseError, MissingData, Words, shorten
from foldwise.hpo.sampling import ask, noted, silenced
from foldwise.hpo.trials import FoldRecord, TrialRecord, best_of, definition_of, read_history, read_trial, write_trial
from foldwise.inference.metrics import finite_or_none
from foldwise.training.fit import Run
from foldwise.training.fold import ModelFiles, fit_fold, open_parts, state_key
from foldwise.training.fold import finish as finish_model

if TYPE_CHECKING:
    import optuna

LOG = logging.getLogger(__name__)
# What networks, losses and code of the user's own may raise because of a setting.
BLAMED = (FoldwiseError, RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, AssertionError)
ONE_DEVICE = re.compile(r"1|\d+,|\[\d+\]")
LONGEST_ERROR = 1000  # letters


class TrialFiles(NamedTuple):
    """What a trial writes: its record, and the states of its trainings until that is there."""

    record: Path
    state: Path

    @classmethod
    def of(cls, record: Path) -> TrialFiles:
        """Return the files of a trial by its record, ``studies/{study}/trials/{trial}.json`` of a project."""
        study = record.parent.parent
        return cls(record, study.parent.parent.joinpath("checkpoints", "studies", study.name, record.stem))

    @property
    def project(self) -> Path:
        """The folder of the project."""
        return self.record.parents[3]

    @property
    def trials(self) -> Path:
        """The folder of all trials of the study."""
        return self.record.parent

    def state_of(self, model: Trained) -> Path:
        """Return the folder of the state of a training."""
        return self.state / model.task / f"fold-{model.fold}"


class Pruned(Exception):
    """A trial was found to be hopeless."""


class Training(NamedTuple):
    """A model that a trial trains, and all that is read for it."""

    model: Trained
    config: TrainConfig
    data: list[Data]
    key: str


@dataclass
class Course:
    """How a trial goes.

    Parameters
    ----------
    config : StudyConfig
        What decides the study.
    trial : optuna.Trial
        What is told of every validation, and says whether the trial is hopeless.
    longest : int
        Steps that a fold takes.
    end : int
        The last step, at which nothing is left to be spared.

    Attributes
    ----------
    state, error : str, str or None
        As the record of the trial has it.
    intermediate : list of (int, float)
        Step and value of every validation: the mean of folds done, and of the running one as it would be kept.
    folds, values : list of FoldRecord, list of float
        The folds that are done, and their objectives.
    epochs : list of int
        Epochs of each fold that has begun.
    """

    config: StudyConfig
    trial: optuna.Trial
    longest: int
    end: int = 0
    state: str = "complete"
    error: str | None = None
    intermediate: list[tuple[int, float]] = field(default_factory=list)
    folds: list[FoldRecord] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)

    @property
    def value(self) -> float | None:
        """The objective; the last value of a pruned trial."""
        if self.state == "pruned":
            return self.intermediate[-1][1]
        return fmean(self.values) if self.state == "complete" else None

    def objective(self, kept: Mapping[str, float]) -> float:
        """Return the objective of a fold at an epoch."""
        return float(kept[self.config.metric or "val_loss"])

    def watch(self, epoch: int, kept: Mapping[str, float]) -> None:
        """Note a validation; raise `Pruned` if the trial is hopeless. A value that is not finite is passed over."""
        self.epochs[-1] = epoch + 1
        value = fmean([*self.values, self.objective(kept)])
        if not np.isfinite(value):
            return
        step = len(self.values) * self.longest + epoch + 1
        self.intermediate.append((step, value))
        with silenced():
            self.trial.report(value, step)
            is_hopeless = self.trial.should_prune()
        if is_hopeless and step < self.end:
            raise Pruned

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Note that the trial was hopeless, or that its settings do not work; what they cannot be blamed for goes on.

        Raises
        ------
        BaseException
            Data that is not there, a full disk, a broken device, a request to end.
        """
        try:
            yield
        except Pruned:
            self.state = "pruned"
        except BLAMED as error:
            if not is_blamed(error):
                raise
            LOG.info("the trial has failed", exc_info=error)
            self.state, self.error = "failed", describe(error)


def run_trial(
    config: StudyConfig,
    number: int,
    parallel: int,
    data: Sequence[DataFiles],
    files: TrialFiles,
    revision: int,
    run: Run | None = None,
) -> TrialRecord:
    """Run a trial of a study, and write its record.

    Parameters
    ----------
    config : StudyConfig
        What decides the study.
    number : int
        Number of the trial; it knows those up to `number` - `parallel`.
    parallel : int
        How many trials may run beside each other.
    data : sequence of DataFiles
        What to read of all tasks, in all preprocessings that the search space has.
    files : TrialFiles
        What to write; the trials before lie beside the record.
    revision : int
        Revision of the code.
    run : Run
        Progress and resources.

    Raises
    ------
    MissingData, DataError
        If data, or a trial before, is missing, damaged or made for another definition.
    ConfigError
        If there are several devices, or the trial is beyond a grid.
    Stopped
        If the job was asked to end; the state is saved before.
    """
    run = run or Run()
    check_resources(run.resources)
    history = read_history(config, files.trials, max(0, number - parallel + 1))
    trial, point = ask(config, number, history)
    run.announce(tell_point(point))
    course, recipe = Course(config, trial, longest(config.pipeline, config.space)), None
    with course.judged():
        recipe = apply_point(config.pipeline, config.space, point)
        check_type(recipe, config.type, "hpo.search_space")
    inputs = ""
    if recipe is not None and course.error is None:
        course.end = (len(config.models) - 1) * course.longest + recipe.trainer.max_epochs
        trainings = open_trainings(config, recipe, data, revision)
        inputs = digest([training.key for training in trainings])
        if known := finished_before(config, parallel, files, point, inputs):
            write_trial(files.record, known)
            run.announce("was finished before")
            return known
        with course.judged():
            for training in trainings:
                train(course, training, files, run)
    record = TrialRecord(
        study=config.study,
        trial=number,
        parallel=parallel,
        state=course.state,  # type: ignore[arg-type]
        value=course.value,
        parameters=point,
        intermediate_values=course.intermediate,
        folds=course.folds,
        epochs=sum(course.epochs),
        error=course.error,
        inputs=inputs,
        pruner=noted(trial),
        definition=definition_of(config),
        recipe=recipe.model_dump(mode="json") if recipe is not None else None,
    )
    write_trial(files.record, record)
    run.announce(tell_outcome(course, best_of(history, config.direction)))
    return record


def finished_before(
    config: StudyConfig, parallel: int, files: TrialFiles, point: Point, inputs: str
) -> TrialRecord | None:
    """Return the record that a finished trial has left, if the job that made it was killed in its last moment."""
    for _, kept in aside([str(files.record)], files.project):
        try:
            found = read_trial(kept)
        except FoldwiseError:
            continue
        same = (found.definition, found.parallel, found.parameters, found.inputs)
        if same == (definition_of(config), parallel, point, inputs):
            return found
    return None


def finish(files: TrialFiles) -> None:
    """Remove the states of a trial's trainings: the last step of its job, when all else has been written."""
    for state in sorted(files.state.glob("*/fold-*")):
        finish_model(ModelFiles(files.record, files.record, None, state))


def check_resources(resources: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if a job has more than one device."""
    remedy = "A trial trains on one device; raise hpo.parallel, so that several trials run at once."
    for name, pattern in (("devices", ONE_DEVICE), ("num_nodes", re.compile("1"))):
        given = resources.get(name, 1)
        if not pattern.fullmatch(str(given).replace(" ", "")):
            raise ConfigError(f"resource {name} of a trial", given, "1", remedy)


def open_trainings(config: StudyConfig, recipe: Pipeline, data: Sequence[DataFiles], revision: int) -> list[Training]:
    """Open what a trial reads; models of the same task share it."""
    folder, shared, trainings = tensor_folder(recipe.preprocessing), {}, []
    for model in config.models:
        if model.task not in shared:
            training = trial_config(config, recipe, model)
            files = [find(data, task, folder) for task in (model.task, *(one.name for one in training.co_tasks))]
            shared[model.task] = training, open_parts(training, files), state_key(training, files, revision)
        trainings.append(Training(model, *shared[model.task]))
    return trainings


def find(data: Iterable[DataFiles], task: str, folder: str) -> DataFiles:
    """Return the files of a task with the tensors of a folder; raise `MissingData` if they are not there."""
    for files in data:
        if (files.task.description.parent.name, files.tensors.manifest.parent.name) == (task, folder):
            return files
    raise MissingData(
        f"task {task}", Words("no such files"), f"its files and tensors {folder} among what the job reads"
    )


def train(course: Course, training: Training, files: TrialFiles, run: Run) -> None:
    """Train a model of a trial, and note how good it is."""
    model, config, count = training.model, course.config, len(course.config.models)
    if course.values:
        gc.collect()  # the training before holds memory of the device until then
    place = f"fold {len(course.values) + 1} of {count}: " if count > 1 else ""
    curves = files.project / "tensorboard" / "studies" / config.study / files.record.stem
    own = replace(
        run,
        report=lambda text: run.report(f"{place}{text}"),
        announce=lambda text: run.announce(f"{place}{text}"),
        state=files.state_of(model),
        tensorboard=curves / model.task / f"fold-{model.fold}" if run.tensorboard else None,
        watch=course.watch,
    )
    course.epochs.append(0)
    fitted, _ = fit_fold(training.config, training.data, model.fold, own, training.key)
    kept = fitted.kept
    record = FoldRecord(
        task=model.task,
        fold=model.fold,
        score=kept["val_loss"],
        epoch=fitted.keep.epoch,
        metrics=finite_or_none({key: kept[key] for key in fitted.module.pivot.objective.metrics}),
    )
    course.folds.append(record)
    course.values.append(finite_objective(course, model, kept))


def finite_objective(course: Course, model: Trained, kept: Mapping[str, float]) -> float:
    """Return the objective of a fold that is done; raise `DataError` if it is not finite, as some metrics may be."""
    value = course.objective(kept)
    if not np.isfinite(value):
        where = f"{course.config.metric} of fold {model.fold} of {model.task}, epoch {int(kept['epoch']) + 1}"
        raise DataError(where, Words(str(value)), "a finite value", "Choose another hpo.metric.")
    return value


def is_blamed(error: BaseException) -> bool:
    """Tell whether the settings of a trial may be the reason of an error: neither files, nor a broken device."""
    if isinstance(error, FoldwiseError) and os.sep in error.where and Path(error.where).is_file():
        return False  # a file that is damaged
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return not any(isinstance(one, OSError | MissingData) or "CUDA error" in str(one) for one in causes)


def describe(error: BaseException) -> str:
    """Return what the record tells of an error: what a user can act on as it is, else its kind and first line."""
    text = str(error).strip()
    if not isinstance(error, FoldwiseError):
        return f"{type(error).__name__}: {shorten(Words(text.partition(chr(10))[0]), LONGEST_ERROR)}"
    return str(shorten(Words(error.message), LONGEST_ERROR))


def tell_point(point: Point) -> str:
    """Return the settings of a trial in a line."""
    return ", ".join(f"{key} {tell_value(value)}" for key, value in point.items())


def tell_value(value: Any) -> str:
    """Return a setting in few letters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def tell_outcome(course: Course, best: TrialRecord | None) -> str:
    """Return how a trial ended in a line."""
    if course.state == "failed":
        return f"failed: {course.error}"
    if course.state == "complete":
        if best is None or best.value is None:
            return f"value {course.value:.4g}, the first"
        return f"value {course.value:.4g}; best of the trials it knows {best.value:.4g}, trial {best.trial}"
    model = course.config.models[len(course.values)]
    others = "the median of trials" if isinstance(course.config.pruner, MedianPruner) else "other trials"
    where = f"epoch {course.epochs[-1]} of fold {model.fold} of {model.task}"
    return f"stopped at {where}: {course.value:.4g} is worse than {others} that came as far"
