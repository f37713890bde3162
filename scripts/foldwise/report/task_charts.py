"""Pictures of tasks: how many samples there are, and how they are spread over classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foldwise.errors import Words, shorten
from foldwise.report.panels import draw_words
from foldwise.report.pictures import ACCENT, GREY, picture
from foldwise.report.tables import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TASKS = 40
COLOURS = {"train": ACCENT, "test": "#e08a2e", "unlabeled": "#b8b8b8"}
REST = "#d0d0d0"
CLASSES = 20  # that have a colour of their own
NAMES = 40  # letters of the name of a task


class TaskBars(NamedTuple):
    """What is drawn of a task: samples by split, and training samples by class if there are any."""

    task: str
    type: str
    samples: Sequence[int]
    classes: Sequence[float]


def draw_tasks(path: Path, tasks: Sequence[TaskBars]) -> None:
    """Draw a bar a task of its samples, and beside it one of the shares of classes; the largest 40 tasks.

    Parameters
    ----------
    path : Path
        The ``.png`` file to write.
    tasks : sequence of TaskBars
        All tasks.
    """
    if not tasks:
        draw_words(path, "Tasks", "No task has been created yet")
        return
    shown = sorted(tasks, key=lambda task: (-sum(task.samples), task.task))[:TASKS]
    title = "1 task" if len(tasks) == 1 else f"{len(tasks)} tasks"
    title += f", the largest {TASKS} of them" if len(tasks) > TASKS else ""
    names = [shorten(Words(printable(task.task)), NAMES) for task in shown]
    with picture(path, 9 + 0.075 * max(map(len, names)), 2.1 + 0.27 * len(shown), [title]) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        draw_samples(left, shown)
        draw_shares(right, shown)
        left.set_yticks(range(len(shown)), names)
        left.set_ylim(len(shown) - 0.4, -0.6)
        for axes in (left, right):
            axes.tick_params("y", length=0)
            axes.grid(visible=False, axis="y")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS))


def draw_samples(axes: Axes, tasks: Sequence[TaskBars]) -> None:
    """Draw the samples of tasks, splits one after the other, and their sum."""
    rows, counts = np.arange(len(tasks)), np.array([task.samples for task in tasks])
    for split, (name, colour) in enumerate(COLOURS.items()):
        axes.barh(rows, counts[:, split], 0.7, left=counts[:, :split].sum(axis=1), color=colour, label=name)
    totals = counts.sum(axis=1)
    for row, total in enumerate(totals.tolist()):
        axes.annotate(f"{total:,}", (total, row), (3, 0), textcoords="offset points", va="center", color=GREY, size=8)
    axes.set(xlabel="Samples", xlim=(0, max(1, totals.max()) * 1.2))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=5)


def draw_shares(axes: Axes, tasks: Sequence[TaskBars]) -> None:
    """Draw the shares of classes; where there are more than 20 the largest come first, and all beyond are grey."""
    from matplotlib import colormaps

    colours = [colormaps["tab20"](place) for place in range(CLASSES)]
    for row, task in enumerate(tasks):
        shares = np.array(task.classes) / max(sum(task.classes), 1e-12)
        if not shares.sum():
            axes.text(0.01, row, f"not counted by class ({task.type})", va="center", color=GREY, size=8)
            continue
        many = len(shares) > CLASSES
        largest = np.sort(shares)[::-1][:CLASSES] if many else shares
        parts = np.append(largest, 1 - largest.sum()) if many else largest
        drawn = [*colours[: len(largest)], REST][: len(parts)]
        axes.barh(
            np.full(len(parts), row),
            parts,
            0.7,
            left=np.cumsum(parts) - parts,
            color=drawn,
            edgecolor="white",
            linewidth=0.0 if many else 0.4,
        )
        if many:
            more = f"{len(shares) - CLASSES} more classes"
            axes.text(1.01, row, more, va="center", color=GREY, size=7, clip_on=False)
    axes.set(xlabel="Share of the training labels, a colour a class", xlim=(0, 1))
