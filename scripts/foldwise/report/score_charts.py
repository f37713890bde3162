"""A picture of the scores of models: a dot a fold, a line a pipeline, a panel a task."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from foldwise.errors import Words, shorten
from foldwise.report.panels import PANELS, draw_words
from foldwise.report.pictures import ACCENT, picture
from foldwise.report.tables import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUPS = 40
NAMES = 60  # letters of the name of a pipeline
TITLE = "Validation loss of models"


class Scores(NamedTuple):
    """Scores of the folds of a pipeline on a task; None where a model has none."""

    pipeline: str
    task: str
    folds: Sequence[tuple[int, float | None]]

    @property
    def values(self) -> list[float]:
        """Scores that are there."""
        return [value for _, value in self.folds if value is not None]


def draw_scores(path: Path, scores: Sequence[Scores], empty: str) -> None:
    """Draw the scores of models, of up to 12 tasks and 40 pipelines on them: those that are best on each task.

    Parameters
    ----------
    path : Path
        The ``.png`` file to write.
    scores : sequence of Scores
        All there are.
    empty : str
        What is written if there are none.
    """
    there = [found for found in scores if found.values]
    if not there:
        draw_words(path, TITLE, empty)
        return
    tasks = choose(there)
    shown = sum(map(len, tasks.values()))
    heights = [0.55 + 0.3 * len(found) for found in tasks.values()]
    names = [name_of(item) for found in tasks.values() for item in found]
    more = f", {shown} of {len(there)} pipelines on tasks" if shown < len(there) else ""
    with picture(
        path, 6.5 + 0.075 * max(map(len, names)), 1.0 + sum(heights) + 0.25 * len(tasks), [TITLE + more]
    ) as figure:
        grid = figure.subplots(len(tasks), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
        for axes, (task, found) in zip(grid.flat, tasks.items(), strict=True):
            draw_task(axes, found)
            axes.set_title(shorten(Words(printable(task)), NAMES), loc="left")
        grid[-1, 0].set_xlabel("Validation loss; a dot a fold, the line is their mean")


def choose(scores: Sequence[Scores]) -> dict[str, list[Scores]]:
    """Return what is shown by task: the best pipelines of each, then the second best, until there are enough."""
    tasks: dict[str, list[Scores]] = {}
    for found in scores:
        tasks.setdefault(found.task, []).append(found)
    few = dict(list(tasks.items())[:PANELS])
    ranked = {task: sorted(found, key=lambda item: statistics.fmean(item.values)) for task, found in few.items()}
    order = sorted((rank, place) for place, found in enumerate(ranked.values()) for rank in range(len(found)))
    chosen = set(order[:GROUPS])
    return {
        task: [item for rank, item in enumerate(found) if (rank, place) in chosen]
        for place, (task, found) in enumerate(ranked.items())
    }


def draw_task(axes: Axes, scores: Sequence[Scores]) -> None:
    """Draw the pipelines of a task, the best on top."""
    for row, found in enumerate(scores):
        values = found.values
        axes.plot(values, [row] * len(values), "o", color=ACCENT, alpha=0.5, markersize=5, markeredgewidth=0)
        axes.vlines(statistics.fmean(values), row - 0.3, row + 0.3, color=ACCENT, linewidth=1.6)
    axes.set_yticks(range(len(scores)), [name_of(found) for found in scores])
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.tick_params("y", length=0)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.06)


def name_of(scores: Scores) -> str:
    """Return what a line is called."""
    return shorten(Words(printable(scores.pipeline)), NAMES)
