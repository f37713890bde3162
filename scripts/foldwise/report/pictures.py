"""Pictures of calibration and ensembles: drawn from plain arrays, the same bytes at any time of day."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foldwise.artifacts import atomic
from foldwise.errors import Words, shorten
from foldwise.inference.classification import BINS
from foldwise.report.reliability import Reliability
from foldwise.report.tables import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCENT, GREY, LIGHT = "#1f5f99", "#707070", "#e3e3e3"
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "figure.titlesize": 11,
    "axes.titlesize": 10,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LIGHT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # names may hold dollars
}
LETTERS = 10  # of a title, that have room in an inch
NUMBERED = 20  # classes, up to which cells hold numbers
TICKS = 100  # names along an axis, at most
NAMES = 24  # letters of the name of a class
BARS = 30


@contextlib.contextmanager
def picture(path: Path, width: float, height: float, title: Sequence[str]) -> Iterator[Figure]:
    """Yield a figure of a size in inches, that is written as PNG when the block ends without an error."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.suptitle("\n".join(shorten(Words(printable(line)), int(width * LETTERS)) for line in title))
        yield figure
        with atomic(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def draw_reliability(path: Path, panels: Mapping[str, Reliability], title: Sequence[str]) -> None:
    """Draw how often decisions are right beside how sure they are, and below how many are that sure.

    Parameters
    ----------
    path : Path
        The ``.png`` file to write.
    panels : mapping of str to Reliability
        What is drawn side by side, on the same axes, by what is written above.
    title : sequence of str
        Lines above all.
    """
    with picture(path, max(6.5, 4.6 * len(panels)), 6.4, title) as figure:
        grid = figure.subplots(
            2, len(panels), sharex=True, sharey="row", squeeze=False, gridspec_kw={"height_ratios": [3, 1]}
        )
        for (name, found), upper, lower in zip(panels.items(), *grid, strict=True):
            draw_shares(upper, found)
            upper.set_title(f"{name}\nexpected calibration error {found.error:.4f}")
            lower.bar((np.arange(BINS) + 0.5) / BINS, found.counts, 0.9 / BINS, color=ACCENT)
            lower.set_yscale("log", nonpositive="clip")
            lower.set_ylim(bottom=0.5)
            lower.yaxis.set_major_formatter("{x:,.0f}")
            lower.set_xlabel(found.words.confidence)
        words = next(iter(panels.values())).words
        grid[0, 0].set_ylabel(words.share)
        grid[1, 0].set_ylabel(words.counted)
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def draw_shares(axes: Axes, found: Reliability) -> None:
    """Draw a dot a bin that has samples, and an interval where these are independent."""
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="perfectly calibrated")
    filled = found.counts > 0
    sure, share = found.confidences[filled], found.shares[filled]
    if found.words.independent:
        axes.vlines(sure, *found.intervals()[:, filled], color=ACCENT, linewidth=1.2, label="95 % interval")
    label = f"mean of one of {BINS} bins"
    axes.plot(sure, share, "o", color=ACCENT, markersize=5, label=label, zorder=3)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def draw_confusion(path: Path, counts: np.ndarray, classes: Sequence[str], title: Sequence[str]) -> None:
    """Draw a matrix of counts, coloured by their share of the true class; up to 20 classes with numbers.

    Parameters
    ----------
    path : Path
        The ``.png`` file to write.
    counts : ndarray of int, shape (classes, classes)
        Samples by true class, a row each, and predicted class.
    classes : sequence of str
        Names of the classes.
    title : sequence of str
        Lines above it.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    size, totals = len(classes), counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    names = [shorten(Words(printable(name)), NAMES) for name in classes]
    longest = max(map(len, names))
    side = min(max(4.2, 0.46 * size), 13)
    width = side + 0.06 * longest
    with picture(path, width + 1.9, width + 1.1, title) as figure:
        axes = figure.subplots()
        colours = LinearSegmentedColormap.from_list("accent", ["white", ACCENT])
        image = axes.imshow(shares, colours, norm=PowerNorm(0.5, 0, 1))  # so that a few mistakes are seen
        bar = figure.colorbar(image, ax=axes, label="Share of the true class", shrink=0.7, aspect=30)
        bar.outline.set_visible(False)  # type: ignore[operator]
        shown = np.arange(0, size, -(-size // TICKS))
        letters = 10 if size <= NUMBERED else 8 if size <= 50 else 6
        upright = 0.085 * longest + 0.1 > side / size
        axes.set_xticks(shown, [names[place] for place in shown], rotation=90 if upright else 0, fontsize=letters)
        axes.set_yticks(shown, [names[place] for place in shown], fontsize=letters)
        axes.set(xlabel="Predicted class", ylabel="True class")
        axes.grid(visible=False)
        axes.spines[["top", "right"]].set_visible(True)
        if size <= NUMBERED:
            write_counts(axes, counts, shares)


def write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    """Write the counts that are not 0 into their cells, no wider than these are."""
    letters = min(10.0, 42 / len(str(counts.max())))
    for row, column in np.argwhere(counts).tolist():
        colour = "white" if shares[row, column] > 0.36 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=letters)


def draw_weights(path: Path, weights: Mapping[str, float], title: Sequence[str]) -> None:
    """Draw the weights of members as bars, the largest first; beyond 30 the others are one bar.

    Parameters
    ----------
    path : Path
        The ``.png`` file to write.
    weights : mapping of str to float
        Weights by what members are called.
    title : sequence of str
        Lines above the bars.
    """
    ranked = sorted(weights.items(), key=lambda item: -item[1])
    bars = [(shorten(Words(printable(name)), 80), weight, ACCENT) for name, weight in ranked[:BARS]]
    if others := [weight for _, weight in ranked[BARS:]]:
        bars.append((f"{len(others)} others", sum(others), GREY))
    names, lengths, colours = zip(*bars, strict=True)
    with picture(path, 5.5 + 0.075 * max(map(len, names)), 1.7 + 0.3 * len(bars), title) as figure:
        axes = figure.subplots()
        drawn = axes.barh(range(len(bars)), lengths, 0.7, color=colours)
        axes.bar_label(drawn, [f"{length:.3f}" for length in lengths], padding=3, color=GREY)
        axes.set_yticks(range(len(bars)), names)
        axes.tick_params("y", length=0)
        axes.set(xlabel="Weight", xlim=(0, max(lengths) * 1.12), ylim=(len(bars) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
