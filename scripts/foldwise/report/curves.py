"""How models learned: losses by epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from foldwise.artifacts import reading, write_csv
from foldwise.report.panels import PANELS, counted, draw_words, name_panel, panels
from foldwise.report.pictures import ACCENT
from foldwise.report.skipped import Skipped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from foldwise.report.model_info import Model

MODELS = 2000
FOLDS = 50  # lines of a panel
STEEP = 50  # ratio of the largest to the smallest loss, above which the axis is logarithmic
COLUMNS = ("pipeline", "task", "fold", "epoch", "train_loss", "val_loss", "metric", "value")
TRAIN, TITLE = "#e08a2e", "Learning curves"


class Curve(NamedTuple):
    """Losses of a model by epoch, and the epoch that is kept; NaN where there is none."""

    epochs: Sequence[int]
    train: Sequence[float]
    val: Sequence[float]
    kept: int | None


def report_curves(
    groups: Mapping[tuple[str, str], Sequence[Model]], table: Path, picture: Path, skipped: Skipped
) -> list[str]:
    """Write the curves of up to 2,000 models, and draw those of up to 12 pipelines and tasks.

    Parameters
    ----------
    groups : mapping
        Models by pipeline and task.
    table, picture : Path
        The ``.csv`` file with a row an epoch, and the ``.png`` file.
    skipped : Skipped
        Takes note of what cannot be read.

    Returns
    -------
    list of str
        A line if there are more models; otherwise nothing.
    """
    models = list(chain.from_iterable(groups.values()))
    rows: list[Sequence[object]] = []
    curves: dict[tuple[str, str], list[Curve]] = {}
    for model in models[:MODELS]:
        path = model.folder / "metrics.csv"
        if path.is_file():
            with skipped.noting(path):
                metric = next(iter(model.metrics), "")
                epochs = read_epochs(path, metric)
                rows += [(model.pipeline, model.task, model.fold, *epoch[:3], metric, epoch[3]) for epoch in epochs]
                curves.setdefault(model.group, []).append(curve_of(epochs, model.epoch))
    write_csv(table, COLUMNS, rows)
    draw_curves(
        picture, {group: found for group, found in curves.items() if any(curve.epochs for curve in found)}, len(groups)
    )
    left = len(models) - MODELS
    return [f"Learning curves are those of the first {MODELS:,} models; {left:,} are left out."] if left > 0 else []


def read_epochs(path: Path, metric: str) -> list[tuple[int, str, str, str]]:
    """Read epoch, training loss, validation loss and a metric; the last is empty where there is none."""
    with reading(path, "a table of epochs") as found, open(found, newline="", encoding="utf-8") as handle:
        return [
            (int(row["epoch"]), row["train_loss"], row["val_loss"], row.get(metric) or "")
            for row in csv.DictReader(handle)
        ]


def curve_of(epochs: Sequence[tuple[int, str, str, str]], kept: int | None) -> Curve:
    """Turn the cells of a table into numbers."""
    losses = [[float(row[place] or "nan") for row in epochs] for place in (1, 2)]
    return Curve([row[0] for row in epochs], losses[0], losses[1], kept)


def draw_curves(path: Path, groups: Mapping[tuple[str, str], Sequence[Curve]], there: int) -> None:
    """Draw a panel for each pipeline and task, lines for each fold, and a dot where the epoch is that is kept.

    Parameters
    ----------
    path : Path
        The ``.png`` file to write.
    groups : mapping
        Curves by pipeline and task.
    there : int
        How many pipelines and tasks there are; the title tells if they are more.
    """
    if not groups:
        draw_words(path, TITLE, "No model has been trained yet")
        return
    shown = dict(list(groups.items())[:PANELS])
    with panels(path, len(shown), [counted(TITLE, len(shown), there)], (3.6, 2.9)) as (figure, grid):
        for axes, (group, curves) in zip(grid, shown.items(), strict=True):
            draw_panel(axes, curves[:FOLDS])
            name_panel(axes, group if len(curves) <= FOLDS else (*group, f"{FOLDS} of {len(curves)} models"))
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def draw_panel(axes: Axes, curves: Sequence[Curve]) -> None:
    """Draw the curves of folds over each other."""
    opacity = max(0.25, 1 / math.sqrt(len(curves)))
    for number, curve in enumerate(curves):
        labels = ("training loss", "validation loss", "epoch that is kept") if not number else (None,) * 3
        one = "o" if len(curve.epochs) == 1 else ""
        axes.plot(curve.epochs, curve.train, f"--{one}", color=TRAIN, linewidth=1, alpha=opacity, label=labels[0])
        axes.plot(curve.epochs, curve.val, f"-{one}", color=ACCENT, linewidth=1, alpha=opacity, label=labels[1])
        if curve.kept is not None and curve.kept in curve.epochs:
            place = curve.epochs.index(curve.kept)
            axes.plot(curve.kept, curve.val[place], "o", color=ACCENT, markersize=4, alpha=0.8, label=labels[2])
    losses = [loss for curve in curves for loss in (*curve.train, *curve.val) if math.isfinite(loss)]
    if losses and min(losses) > 0 and max(losses) > STEEP * min(losses):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("Epoch")
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
