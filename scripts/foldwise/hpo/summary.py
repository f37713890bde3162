"""A study in a table, and the pipeline of its best trial as a blueprint."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foldwise.artifacts import FORMAT_VERSION, write_csv, write_yaml
from foldwise.config.space import IDLE
from foldwise.config.study import BestConfig
from foldwise.errors import DataError, Words
from foldwise.hpo.trials import TrialRecord, best_of, read_trials

STATES = ("complete", "pruned", "failed")


def tabulate_trials(trials: Sequence[Path], table: Path) -> None:
    """Write the table of a study, a row a trial.

    Parameters
    ----------
    trials : sequence of Path
        The files of the trials.
    table : Path
        ``trials.csv`` to write.

    Raises
    ------
    MissingData, DataError
        If a trial is missing or damaged.
    """
    records = read_trials(trials)
    keys = parameters_of(records)
    columns = ["trial", "state", "value", *keys, "epochs", "error"]
    write_csv(table, columns, (row_of(record, keys) for record in records))


def write_blueprint(config: BestConfig, trials: Sequence[Path], blueprint: Path) -> str:
    """Write the pipeline of the best trial; return what a terminal shows of the study.

    Parameters
    ----------
    config : BestConfig
        Direction, pivot, and the sections of the blueprint; those that decide no score are left out, as trials have
        none of them.
    trials : sequence of Path
        The files of the trials.
    blueprint : Path
        ``blueprint.yaml`` to write.

    Raises
    ------
    MissingData, DataError
        If a trial is missing or damaged, or none was trained to its end.
    """
    records = read_trials(trials)
    best = best_of(records, config.direction)
    if best is None or best.recipe is None:
        raise no_best(config, records)
    sections = {key: best.recipe[key] for key in config.sections if key in best.recipe and key not in IDLE}
    head = {"format_version": FORMAT_VERSION, "task": config.pivot, "study": config.study}
    write_yaml(blueprint, {**head, **sections})
    return describe_study(records, best)


def no_best(config: BestConfig, records: Sequence[TrialRecord]) -> DataError:
    """Return the error of a study without a complete trial: how its trials ended, and the first reason."""
    reasons = [f"trial {record.trial}: {record.error}" for record in records if record.error]
    first = f" The first reason: {reasons[0]}" if reasons else ""
    got = Words(f"no complete trial among {count_states(records)}")
    return DataError(
        f"study {config.study}",
        got,
        "at least one",
        f"trials.csv tells of all. Mend the search space or the pruner.{first}",
    )


def parameters_of(records: Iterable[TrialRecord]) -> list[str]:
    """Return the keys of all trials, in the order in which they first appear."""
    return list(dict.fromkeys(key for record in records for key in record.parameters))


def row_of(record: TrialRecord, keys: Sequence[str]) -> list[Any]:
    """Return the row of a trial; what is not there is empty."""
    values = [cell(record.parameters[key]) if key in record.parameters else "" for key in keys]
    value, error = record.value, " ".join((record.error or "").split())
    return [record.trial, record.state, "" if value is None else value, *values, record.epochs, error]


def cell(value: Any) -> Any:
    """Return a value of a parameter for a table: text and numbers as they are, else JSON."""
    is_plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return value if is_plain else json.dumps(value, ensure_ascii=False)


def describe_study(records: Sequence[TrialRecord], best: TrialRecord) -> str:
    """Return the best value, its trial and parameters, and how trials ended, in aligned lines."""
    told: Mapping[str, Any] = {
        "best value": best.value,
        "trial": f"{best.trial} of {count_states(records)}",
        **{key: cell(value) for key, value in best.parameters.items()},
    }
    width = max(map(len, told))
    return "\n".join(f"{name:<{width}}  {shown(value)}" for name, value in told.items())


def shown(value: Any) -> str:
    """Return a value in few digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def count_states(records: Sequence[TrialRecord]) -> str:
    """Return how many trials there are, and how they ended."""
    counts: Counter[str] = Counter(record.state for record in records)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"{len(records)} ({states})"
