"""Tables of metrics over folds."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from foldwise.artifacts import read_json, write_csv

COLUMNS = ("pipeline", "task", "metric", "mean", "std", "folds")
BOUNDS = ("low", "high")
WIDTH = 120  # characters of a line on a terminal


class Key(NamedTuple):
    """What a row of a table is about."""

    pipeline: str
    task: str
    metric: str


class Value(NamedTuple):
    """A metric in one fold, and in resamples of its test samples if there are any; None where it is not defined."""

    value: float | None
    replicates: Sequence[float | None] | None = None


class Row(NamedTuple):
    """A row of a table; empty where nothing is defined."""

    pipeline: str
    task: str
    metric: str
    mean: float | str
    std: float | str
    folds: int
    low: float | str
    high: float | str


def tabulate_metrics(
    records: Iterable[Path],
    pivot: str,
    metrics: Mapping[str, Sequence[str]],
    table: Path,
    title: str,
    targets: Collection[str] = (),
) -> str:
    """Write mean and standard deviation of metrics over folds, with intervals if there are any.

    Parameters
    ----------
    records : iterable of Path
        ``model.json`` files or test scores, one a fold.
    pivot : str
        The task whose folds they are.
    metrics : mapping of str to sequence of str
        Metrics to report for each pipeline, besides the validation loss that models record as score.
    table : Path
        The ``.csv`` file: a row for each pipeline, task and metric, with the sample standard deviation. Models of
        several tasks have rows of each. Scores that hold replicates add columns low and high: the interval of 95 % of
        the mean over folds, from its values in all resamples.
    title : str
        What the metrics are, for the terminal.
    targets : collection of str
        Tasks that are tested instead of the pivot and have rows of their own; all other targets, the outer folds of the
        pivot, are rows of the pivot.

    Returns
    -------
    str
        Tables for a terminal, one a task: a column for each pipeline that has metrics of it, in each cell mean and
        standard deviation, and the interval if there is one.
    """
    values: dict[Key, list[Value]] = {}
    for record in map(read_json, records):
        names = metrics[record["pipeline"]]
        for key, value in [*values_of(record, pivot, targets, names), *values_of_co_tasks(record, names)]:
            values.setdefault(key, []).append(value)
    rows = [Row(*key, *summarise(found), *interval(found)) for key, found in values.items()]
    bounded = any(row.low != "" for row in rows)
    columns = (*COLUMNS, *BOUNDS) if bounded else COLUMNS
    write_csv(table, columns, (row[: len(columns)] for row in rows))
    about = {task: f"{title} of {task}" for task in (pivot, *targets)}
    beside = {row.task: f"{title} of {row.task}, learned beside {pivot}" for row in rows if row.task not in about}
    return "\n\n".join(
        f"{heading(words, found)}\n\n{align_table(found)}"
        for task, words in (about | beside).items()
        if (found := [row for row in rows if row.task == task])
    )


def values_of(
    record: Mapping[str, Any], pivot: str, targets: Collection[str], names: Sequence[str]
) -> Iterator[tuple[Key, Value]]:
    """Yield the metrics of a model or of a test score."""
    pipeline, replicates = record["pipeline"], record.get("replicates", {})
    task = record["target"] if record.get("target") in targets else pivot
    if "score" in record:
        yield Key(pipeline, task, "loss"), Value(record["score"])
    for name in known(names, record["metrics"]):
        yield Key(pipeline, task, name), Value(record["metrics"].get(name), replicates.get(name))


def values_of_co_tasks(record: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[Key, Value]]:
    """Yield the metrics of what a model learned beside the pivot; of other task types all that are recorded."""
    for task in record.get("co_tasks", []):
        found = task.get("metrics", {})
        if "score" in task:
            yield Key(record["pipeline"], task["task"], "loss"), Value(task["score"])
        for name in known(names, found) if task["type"] == record["type"] else found:
            yield Key(record["pipeline"], task["task"], name), Value(found.get(name))


def known(names: Iterable[str], found: Collection[str]) -> list[str]:
    """Return metrics to report, without functions of the user's own where they are not measured, as in validation."""
    return [name for name in names if name in found or ":" not in name]


def summarise(values: Iterable[Value]) -> tuple[float | str, float | str, int]:
    """Return mean, sample standard deviation and number of values; empty where not defined."""
    found = [value.value for value in values if value.value is not None]
    if not found:
        return "", "", 0
    spread = statistics.stdev(found) if len(found) > 1 else ""
    return statistics.fmean(found), spread, len(found)


def interval(values: Iterable[Value]) -> tuple[float | str, float | str]:
    """Return the percentile interval of 95 % of the mean over folds; empty if there are no replicates.

    The same resample of two folds is of the same samples if their test samples are the same, and independent otherwise,
    so that the mean over folds can be taken resample by resample. One in which a fold has no value is left out.
    """
    folds = [value.replicates or () for value in values if value.value is not None]
    if len({len(replicates) for replicates in folds}) != 1 or not folds[0]:
        return "", ""
    from foldwise.inference.bootstrap import percentile_interval

    means = [statistics.fmean(found) for found in zip(*folds, strict=True) if None not in found]  # type: ignore[type-var]
    low, high = percentile_interval(means) or ("", "")
    return low, high


def heading(about: str, rows: Iterable[Row]) -> str:
    """Write what the cells of a table are."""
    bounds = " [95 % bootstrap interval of the mean]" if any(row.low != "" for row in rows) else ""
    return f"{printable(about)}, mean ± standard deviation over folds{bounds}"


def align_table(rows: Sequence[Row]) -> str:
    """Lay out rows of a task as aligned text: a line a metric, a column a pipeline, tables below each other if wide."""
    pipelines = list(dict.fromkeys(row.pipeline for row in rows))
    metrics = list(dict.fromkeys(row.metric for row in rows))
    cells = {(row.pipeline, row.metric): cell(row) for row in rows}
    texts = [["metric", *map(printable, short_names(metrics))]]
    for pipeline in pipelines:
        texts.append([printable(pipeline), *(cells.get((pipeline, metric), "-") for metric in metrics)])
    return "\n\n".join(map(lay_out, fit(texts)))


def cell(row: Row) -> str:
    """Write mean, standard deviation and interval as far as they are defined."""
    if not row.folds:
        return "-"
    spread = "" if row.std == "" else f" ± {row.std:.4f}"
    bounds = "" if row.low == "" else f" [{row.low:.4f}, {row.high:.4f}]"
    return f"{row.mean:.4f}{spread}{bounds}"


def short_names(metrics: Sequence[str]) -> list[str]:
    """Return the names of metrics, of the user's own the function alone if no other metric is called so."""
    short = [name.rpartition(":")[2] for name in metrics]
    return [alone if short.count(alone) == 1 else name for name, alone in zip(metrics, short, strict=True)]


def printable(text: str) -> str:
    """Write characters that a terminal would obey as escapes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def fit(columns: Sequence[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    """Yield the columns of tables that are not too wide: the first column, and as many others as have room."""
    first, part = columns[0], [columns[0]]
    for column in columns[1:]:
        if len(part) > 1 and sum(width(other) + 2 for other in part) + width(column) > WIDTH:
            yield part
            part = [first]
        part.append(column)
    yield part


def width(column: Iterable[str]) -> int:
    """Return the number of characters of the longest text."""
    return max(map(len, column))


def lay_out(columns: Sequence[Sequence[str]]) -> str:
    """Write columns of text, a rule below the first line."""
    widths = [width(column) for column in columns]
    lines = [
        "  ".join(text.ljust(size) for text, size in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    ]
    return "\n".join([lines[0], "  ".join("-" * size for size in widths), *lines[1:]])
