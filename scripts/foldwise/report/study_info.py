"""What studies of hyperparameters found: tables of studies, trials and importances, a history of each study."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from foldwise.artifacts import read_json, write_csv
from foldwise.errors import Words, shorten
from foldwise.report.inventory import STUDIES, TRIALS, entries, without_nested
from foldwise.report.skipped import Skipped
from foldwise.report.study_charts import draw_history, draw_importance
from foldwise.report.tables import lay_out, printable

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

STATES = ("complete", "pruned", "failed")
STUDY_COLUMNS = (*("study", "task", "trials", *STATES, "direction", "best_value", "best_trial", "best_parameters"),)
TRIAL_COLUMNS = ("study", "trial", "state", "value", "seconds")
IMPORTANCE_COLUMNS = ("study", "parameter", "importance")
LINES = 50
NAMES = 44  # letters of a name on a terminal


class Trial(NamedTuple):
    """A trial as its file tells it; no value if it was not finished or the value is not finite."""

    number: int
    state: str
    value: float | None
    seconds: float | None
    parameters: Mapping[str, Any]
    tasks: tuple[str, ...]
    definition: Mapping[str, Any]
    path: Path


@dataclass(frozen=True)
class Study:
    """A study: its name and its trials by number."""

    name: str
    trials: Sequence[Trial]

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """What is looked for, as the first trial tells it."""
        asked = self.trials[0].definition.get("direction") if self.trials else None
        return "maximize" if asked == "maximize" else "minimize"

    @property
    def complete(self) -> list[Trial]:
        """Trials that have a value and were not pruned."""
        return [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]

    @property
    def best(self) -> Trial | None:
        """The best trial, of equal ones the first."""
        sign = -1 if self.direction == "maximize" else 1
        return min(self.complete, key=lambda trial: sign * (trial.value or 0.0), default=None)

    def count(self, state: str) -> int:
        """Count the trials of a state."""
        return sum(trial.state == state for trial in self.trials)


def describe_studies(project: Path, studies: Sequence[str], outputs: Mapping[str, Path]) -> str:
    """Write what studies of a project found.

    Parameters
    ----------
    project : Path
        Root of the results of a project.
    studies : sequence of str
        Names of the studies.
    outputs : mapping of str to Path
        The files to write: ``studies``, ``trials`` and ``importance``, tables; for each study ``{study}.history`` and
        ``{study}.importance``, pictures.

    Returns
    -------
    str
        A table for a terminal, a line a study, and the best parameters of each.

    Notes
    -----
    The importance is that of PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255): how much each parameter tells about
    being among the best tenth of the trials.
    """
    skipped = Skipped()
    found = [Study(name, read_trials(project / STUDIES / name, skipped)) for name in dict.fromkeys(studies)]
    importances: dict[str, Mapping[str, float]] = {}
    for study in found:
        draw_history(outputs[f"{study.name}.history"], study)
        importances[study.name], reason = measure_importance(study, skipped)
        draw_importance(outputs[f"{study.name}.importance"], study.name, importances[study.name], reason)
    write_csv(outputs["studies"], STUDY_COLUMNS, map(study_row, found))
    write_trials(outputs["trials"], found)
    rows = [(name, *item) for name, measured in importances.items() for item in measured.items()]
    write_csv(outputs["importance"], IMPORTANCE_COLUMNS, rows)
    return "\n\n".join([tell_studies(found), *tell_best(found), *skipped.told()])


def read_trials(folder: Path, skipped: Skipped) -> list[Trial]:
    """Read the trials of a study by number, without those that are damaged."""
    trials = []
    for entry in entries(folder / TRIALS):
        path = Path(entry.path)
        if path.suffix == ".json":
            with skipped.noting(path):
                trials.append(read_trial(path, seconds_of(folder / "runs" / entry.name, skipped)))
    return sorted(trials, key=lambda trial: trial.number)


def read_trial(path: Path, seconds: float | None) -> Trial:
    """Read a trial; raises what a file leads to that describes none."""
    tree = read_json(path)
    value = None if tree["value"] is None else float(tree["value"])
    if tree["state"] not in STATES:
        raise ValueError(f"state {tree['state']!r}")
    return Trial(
        int(tree["trial"]),
        tree["state"],
        value if value is not None and math.isfinite(value) else None,
        seconds,
        dict(tree["parameters"]),
        tuple(without_nested(str(fold["task"])) for fold in tree.get("folds") or []),
        dict(tree.get("definition") or {}),
        path,
    )


def seconds_of(path: Path, skipped: Skipped) -> float | None:
    """Read how long a trial took, if that is told."""
    if path.is_file():
        with skipped.noting(path):
            return float(read_json(path)["seconds"])
    return None


def study_row(study: Study) -> list[Any]:
    """Return the row of a study."""
    tasks = ";".join(dict.fromkeys(task for trial in study.trials for task in trial.tasks))
    best = study.best
    result = [best.value, best.number, as_json(best.parameters)] if best else [""] * 3
    return [study.name, tasks, len(study.trials), *map(study.count, STATES), study.direction, *result]


def write_trials(table: Path, studies: Sequence[Study]) -> None:
    """Write a row a trial; parameters are columns, empty where a trial was not asked for one."""
    keys = list(dict.fromkeys(key for study in studies for trial in study.trials for key in trial.parameters))
    rows = (
        [study.name, *trial[:4], *(cell(trial.parameters[key]) if key in trial.parameters else "" for key in keys)]
        for study in studies
        for trial in study.trials
    )
    write_csv(table, [*TRIAL_COLUMNS, *keys], rows)


def cell(value: Any) -> Any:
    """Write a parameter: a number or a word as it is, what else it may be as JSON."""
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else as_json(value)


def as_json(value: Any) -> str:
    """Write a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def measure_importance(study: Study, skipped: Skipped) -> tuple[dict[str, float], str]:
    """Return the importance of parameters, the largest first, and why there is none if so."""
    complete = study.complete
    if len(complete) < 2:
        return {}, "It needs at least two complete trials"
    if len({trial.value for trial in complete}) == 1:
        return {}, "All complete trials have the same value"
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    trials = []
    for trial in complete:
        with skipped.noting(trial.path):
            trials.append(frozen_trial(trial))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rebuilt = optuna.create_study(direction=study.direction)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            rebuilt.add_trials(trials)
            found = get_param_importances(rebuilt, evaluator=PedAnovaImportanceEvaluator())
        except (ValueError, RuntimeError) as error:
            return {}, f"It cannot be told: {error}"
    measured = {name: value for name, value in found.items() if math.isfinite(value)}
    return measured, "" if measured else "No parameter was asked for in every trial, or none has several values"


def frozen_trial(trial: Trial) -> FrozenTrial:
    """Return a complete trial as Optuna keeps it; choices are JSON, as they may be mappings and lists."""
    from optuna.trial import create_trial

    space = {str(item["key"]): item for item in trial.definition["space"]}
    asked = {key: value for key, value in trial.parameters.items() if key in space}
    chosen = {key: value if space[key].get("choices") is None else as_json(value) for key, value in asked.items()}
    return create_trial(
        value=trial.value,
        params=chosen,
        distributions={key: distribution_of(space[key]) for key in chosen},
    )


def distribution_of(dimension: Mapping[str, Any]) -> BaseDistribution:
    """Return what a parameter was drawn from."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.get("choices") is not None:
        return CategoricalDistribution([as_json(choice) for choice in dimension["choices"]])
    low, high, log, step = (dimension["low"], dimension["high"], bool(dimension.get("log")), dimension.get("step"))
    if dimension.get("integer"):
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=log, step=step)


def tell_studies(studies: Sequence[Study]) -> str:
    """Lay out a line a study."""
    if not studies:
        return "There is no study to show."
    lines: list[tuple[str, ...]] = [("study", "trials", *STATES, "best value", "of trial")]
    for study in studies[:LINES]:
        best = study.best
        result = (f"{best.value:.6g}", str(best.number)) if best else ("-", "-")
        lines.append((study.name, str(len(study.trials)), *(str(study.count(state)) for state in STATES), *result))
    columns = [[shorten(Words(printable(text)), NAMES) for text in column] for column in zip(*lines, strict=True)]
    more = [f"and {len(studies) - LINES} more, see the table"] if len(studies) > LINES else []
    return "\n".join([lay_out(columns), *more])


def tell_best(studies: Sequence[Study]) -> list[str]:
    """Return the best parameters of each study, a line a parameter."""
    texts = []
    for study in studies[:LINES]:
        if study.best:
            lines = [f"  {printable(key)}: {printable(as_json(value))}" for key, value in study.best.parameters.items()]
            texts.append("\n".join([f"Best parameters of {printable(study.name)}, {study.direction}", *lines]))
    return texts
