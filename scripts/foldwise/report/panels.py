"""Figures of several panels that show the same of different things."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foldwise.errors import Words, shorten
from foldwise.report.pictures import GREY, picture
from foldwise.report.tables import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 12
COLUMNS = 4
NAMES = 40  # letters of a line above a panel


def draw_words(path: Path, title: str, words: str) -> None:
    """Draw a line of text where there is nothing else to draw."""
    with picture(path, 6.5, 1.8, [title]) as figure:
        axes = figure.subplots()
        axes.set_axis_off()
        axes.text(0.5, 0.5, printable(words), ha="center", va="center", color=GREY)


@contextlib.contextmanager
def panels(
    path: Path, count: int, title: Sequence[str], size: tuple[float, float]
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure and its panels, as many as asked for, in rows of four; the picture is written at the end.

    Parameters
    ----------
    path : Path
        The ``.png`` file to write.
    count : int
        The number of panels.
    title : sequence of str
        Lines above all.
    size : pair of float
        Width and height of a panel in inches.
    """
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    with picture(path, max(5.5, columns * size[0]), rows * size[1] + 0.9, title) as figure:
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in grid[count:]:
            axes.remove()
        yield figure, grid[:count]


def name_panel(axes: Axes, lines: Sequence[str]) -> None:
    """Write lines above a panel, long ones cut."""
    axes.set_title("\n".join(shorten(Words(printable(line)), NAMES) for line in lines), fontsize=9)


def counted(title: str, shown: int, there: int) -> str:
    """Write how many of all things are shown, if these are not all."""
    return title if shown == there else f"{title}, {shown} of {there}"
