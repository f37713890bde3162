"""Tables of metrics over folds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foldwise.artifacts import read_json, write_csv

COLUMNS = ("pipeline", "task", "metric", "mean", "std", "folds")


def tabulate_metrics(records: Iterable[Path], pivot: str, metrics: Mapping[str, Sequence[str]], table: Path) -> str:
    """Write mean and standard deviation of metrics over folds.

    Parameters
    ----------
    records : iterable of Path
        ``model.json`` files or test scores, one a fold.
    pivot : str
        The task whose folds they are.
    metrics : mapping of str to sequence of str
        Metrics to report for each pipeline, besides the validation loss that models record as score.
    table : Path
        The ``.csv`` file: a row for each pipeline and metric, with the sample standard deviation.

    Returns
    -------
    str
        The table for a terminal: a row a pipeline, mean and standard deviation in each cell.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for record in map(read_json, records):
        pipeline = record["pipeline"]
        found = {"loss": record["score"]} if "score" in record else {}
        found |= {name: record["metrics"].get(name) for name in metrics[pipeline]}
        for name, value in found.items():
            values.setdefault((pipeline, name), []).extend([] if value is None else [value])
    rows = [(pipeline, pivot, name, *summarise(found)) for (pipeline, name), found in values.items()]
    write_csv(table, COLUMNS, rows)
    return align_table(rows)


def summarise(values: Sequence[float]) -> tuple[float | str, float | str, int]:
    """Return mean, sample standard deviation and number of values; empty where not defined."""
    if not values:
        return "", "", 0
    spread = statistics.stdev(values) if len(values) > 1 else ""
    return statistics.fmean(values), spread, len(values)


def align_table(rows: Sequence[Sequence[Any]]) -> str:
    """Lay out rows of `COLUMNS` as aligned text: a line a metric, a column a pipeline."""
    pipelines = list(dict.fromkeys(row[0] for row in rows))
    names = list(dict.fromkeys(row[2] for row in rows))
    cells = {(row[0], row[2]): row for row in rows}

    def cell(pipeline: str, name: str) -> str:
        *_, mean, spread, count = cells.get((pipeline, name), ("", "", 0))
        return "-" if not count else f"{mean:.4f}" if spread == "" else f"{mean:.4f} ± {spread:.4f}"

    header = ["metric", *pipelines]
    body = [[name, *(cell(pipeline, name) for pipeline in pipelines)] for name in names]
    widths = [max(len(line[place]) for line in [header, *body]) for place in range(len(header))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in [header, *body]
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
