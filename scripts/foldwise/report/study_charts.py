"""Pictures of a study: its values trial by trial, and what its parameters matter."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from foldwise.errors import Words, shorten
from foldwise.report.panels import draw_words
from foldwise.report.pictures import ACCENT, GREY, picture
from foldwise.report.tables import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from foldwise.report.study_info import Study

BARS = 30
NAMES = 50  # letters of the name of a parameter
FAILED = "#c23b3b"
STEEP = 50  # ratio of the largest to the smallest value, above which the axis is logarithmic


def draw_history(path: Path, study: Study) -> None:
    """Draw the value of each trial, pruned ones hollow, failed ones as crosses on the axis, and the best so far.

    Parameters
    ----------
    path : Path
        The ``.png`` file to write.
    study : Study
        The study.
    """
    title = f"Study {study.name}"
    if not study.trials:
        draw_words(path, title, "There is no trial yet")
        return
    count = "1 trial" if len(study.trials) == 1 else f"{len(study.trials)} trials"
    with picture(path, 7, 4.2, [title, f"{count}, {study.direction}"]) as figure:
        axes = figure.subplots()
        draw_states(axes, study)
        draw_best(axes, study)
        values = [trial.value for trial in study.trials if trial.value is not None]
        if values and min(values) > 0 and max(values) > STEEP * min(values):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        axes.set(xlabel="Trial", ylabel="Value")
        numbers = [trial.number for trial in study.trials]
        axes.set_xlim(min(numbers) - 0.5 - 0.01 * len(numbers), max(numbers) + 0.5 + 0.01 * len(numbers))
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        if not values:
            axes.set_yticks([])
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def draw_states(axes: Axes, study: Study) -> None:
    """Draw a mark a trial; one without a value is on the axis."""
    looks = {"complete": (ACCENT, ACCENT, "o"), "pruned": ("none", ACCENT, "o"), "failed": (FAILED, FAILED, "x")}
    for state, (face, edge, mark) in looks.items():
        found = [trial for trial in study.trials if trial.state == state]
        valued = [trial for trial in found if trial.value is not None and state != "failed"]
        bare = [trial for trial in found if trial not in valued]
        style = {"marker": mark, "markersize": 5, "markerfacecolor": face, "markeredgecolor": edge, "linestyle": "none"}
        if valued:
            axes.plot([trial.number for trial in valued], [trial.value for trial in valued], **style, label=state)  # type: ignore[arg-type]
        if bare:
            where = axes.get_xaxis_transform()
            numbers, label = [trial.number for trial in bare], None if valued else state
            axes.plot(numbers, [0] * len(bare), **style, clip_on=False, transform=where, label=label)  # type: ignore[arg-type]


def draw_best(axes: Axes, study: Study) -> None:
    """Draw the best value so far as a line."""
    complete = study.complete
    if complete:
        better = max if study.direction == "maximize" else min
        best = list(accumulate((trial.value or 0.0 for trial in complete), better))
        numbers = [trial.number for trial in complete]
        last = study.trials[-1].number
        axes.step([*numbers, last], [*best, best[-1]], where="post", color=GREY, linewidth=1.2, label="best so far")


def draw_importance(path: Path, study: str, importance: Mapping[str, float], reason: str) -> None:
    """Draw the importance of parameters as bars, the largest first, up to 30; or why there is none.

    Parameters
    ----------
    path : Path
        The ``.png`` file to write.
    study : str
        Name of the study.
    importance : mapping of str to float
        Importance by parameter.
    reason : str
        What is written if there is none.
    """
    title = f"Importance of parameters, study {study}"
    if not importance:
        draw_words(path, title, reason)
        return
    ranked = sorted(importance.items(), key=lambda item: -item[1])[:BARS]
    names = [shorten(Words(printable(name)), NAMES) for name, _ in ranked]
    values = [value for _, value in ranked]
    with picture(path, 5.5 + 0.075 * max(map(len, names)), 1.7 + 0.3 * len(ranked), [title]) as figure:
        axes = figure.subplots()
        drawn = axes.barh(range(len(ranked)), values, 0.7, color=ACCENT)
        axes.bar_label(drawn, [f"{value:.3f}" for value in values], padding=3, color=GREY)
        axes.set_yticks(range(len(ranked)), names)
        axes.tick_params("y", length=0)
        axes.set(xlabel="Importance (PED-ANOVA)", xlim=(0, (max(values) or 1) * 1.14), ylim=(len(ranked) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
