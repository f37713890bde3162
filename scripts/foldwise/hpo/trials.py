"""Files of trials: the truth about a study, from which everything else is made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foldwise.artifacts import FORMAT_VERSION, read_json, write_json
from foldwise.config.canonical import component
from foldwise.config.study import REMEDY, StudyConfig
from foldwise.errors import DataError, Words

Number = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """A part of the file of a trial."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FoldRecord(Part):
    """A model that a trial trained to its end: validation loss, epoch and metrics that would be kept."""

    task: str
    fold: int
    score: float
    epoch: int
    metrics: dict[str, float | None]


class TrialRecord(Part):
    """What the file of a trial tells; nothing of it differs from run to run.

    Parameters
    ----------
    study, trial, parallel : str, int, int
        The study, the number of the trial, and how many trials could run beside it.
    state : str
        `complete`; `pruned`: stopped as hopeless; `failed`: its settings do not work.
    value : float or None
        The objective, the last intermediate value of a pruned trial; None if it failed.
    parameters : dict
        A value for each key of the search space that counted, as it is written there.
    intermediate_values : list of [int, float]
        Step and value of every validation; a fold takes as many steps as it may have epochs.
    folds : list of FoldRecord
        The models that were trained to their end.
    epochs : int
        Epochs that were trained, of all folds.
    error : str or None
        Why it failed.
    inputs : str
        Digest of what was read: settings, data, code.
    pruner : dict
        What Optuna's pruner has noted of it.
    definition : dict
        What decides the study.
    recipe : dict or None
        The pipeline that was trained; None if there is none with these parameters.
    """

    study: str
    trial: Number
    parallel: Annotated[int, Field(ge=1)]
    state: Literal["complete", "pruned", "failed"]
    value: float | None
    parameters: dict[str, Any]
    intermediate_values: list[tuple[int, float]]
    folds: list[FoldRecord]
    epochs: Number
    error: str | None
    inputs: str
    pruner: dict[str, float]
    definition: dict[str, Any]
    recipe: dict[str, Any] | None


def definition_of(config: StudyConfig) -> dict[str, Any]:
    """Return what decides a study as its trials' files have it."""
    return json.loads(json.dumps(component(config)))


def write_trial(path: Path, record: TrialRecord) -> None:
    """Write the file of a trial."""
    write_json(path, {"format_version": FORMAT_VERSION, **record.model_dump(mode="json")})


def read_trial(path: Path) -> TrialRecord:
    """Read the file of a trial.

    Raises
    ------
    MissingData, DataError
        If it is not there, damaged, or that of another trial.
    """
    tree = read_json(path)
    tree.pop("format_version", None)
    expected, remedy = "the record of a trial", "Delete it and run again to make it anew."
    try:
        record = TrialRecord.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(path, Words(f"{place}: {first['msg']}"), expected, remedy) from error
    if path.stem != str(record.trial):
        raise DataError(path, Words(f"trial {record.trial}"), f"trial {path.stem}", remedy)
    if (record.value is None) != (record.state == "failed"):
        raise DataError(path, Words(f"value {record.value} in state {record.state}"), expected, remedy)
    return record


def read_trials(paths: Iterable[Path]) -> list[TrialRecord]:
    """Read the files of trials, ordered by number."""
    return sorted(map(read_trial, paths), key=lambda record: record.trial)


def read_history(config: StudyConfig, folder: Path, count: int) -> list[TrialRecord]:
    """Read the first trials of a study.

    Parameters
    ----------
    config : StudyConfig
        What decides the study.
    folder : Path
        Where the files of its trials are.
    count : int
        How many trials are read, from the first one on; they must all be there.

    Raises
    ------
    MissingData, DataError
        If a file is not there, damaged, or of a study with other settings.
    """
    definition = definition_of(config)
    history = []
    for number in range(count):
        path = folder / f"{number}.json"
        record = read_trial(path)
        if record.definition != definition:
            got = Words(f"a trial of study {record.study} with other settings")
            raise DataError(path, got, f"one of study {config.study} as it is set", REMEDY)
        history.append(record)
    return history


def best_of(records: Sequence[TrialRecord], direction: str) -> TrialRecord | None:
    """Return the best complete trial, of equals the first; None if there is none."""
    sign = 1 if direction == "minimize" else -1
    known = [
        (sign * record.value, record.trial) for record in records if is_complete(record) and record.value is not None
    ]
    if not known:
        return None
    number = min(known)[1]
    return next(record for record in records if record.trial == number)


def is_complete(record: TrialRecord) -> bool:
    """Tell whether a trial was trained to its end."""
    return record.state == "complete"
