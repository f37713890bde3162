"""What logits show, calibrated or not: reliability diagrams and confusion matrices of models, folds together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from foldwise.artifacts import read_json, write_csv
from foldwise.errors import Words, shorten
from foldwise.npz import open_npz
from foldwise.post.calibrate import REMEDY, Split, method_of, read_split
from foldwise.report.inventory import TASKS, entries, model_folders, without_nested
from foldwise.report.panels import PANELS, counted, draw_words, name_panel, panels
from foldwise.report.pictures import ACCENT, GREY, draw_shares, write_counts
from foldwise.report.plots import check_classes, labelled_parts
from foldwise.report.reliability import WORDS, Parts, Reliability, count_confusion, measure_reliability
from foldwise.report.skipped import Skipped
from foldwise.report.tables import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILES = 60  # of logits, that are read at most
KINDS = ("logits", "calibrated")
BIN_COLUMNS = ("pipeline", "target", "logits", "bin", "count", "confidence", "share")
COUNT_COLUMNS = ("pipeline", "target", "logits", "true", "predicted", "count")
NAMED = 20  # classes, up to which axes name them
NUMBERED = 10  # classes, up to which cells hold numbers
ROOM = 36  # letters along an axis
LETTERS = 12  # of the name of a class
RELIABILITY, CONFUSION = "Reliability on test samples", "Confusion matrices on test samples"
EMPTY = "There are no test logits of labelled samples yet"


class Group(NamedTuple):
    """Logits of a pipeline that are looked at together: raw or calibrated, of a task without nested tags."""

    pipeline: str
    target: str
    kind: str


class Measured(NamedTuple):
    """What the logits of a group show; no confusion matrix if a sample may have several classes."""

    files: int
    reliability: Reliability
    counts: np.ndarray | None
    classes: Sequence[str]


def report_logits(project: Path, data: Path, outputs: Mapping[str, Path], skipped: Skipped) -> list[str]:
    """Write and draw what the logits of test samples show, of up to 12 pipelines and targets and 60 files.

    Parameters
    ----------
    project, data : Path
        Root of the results of a project, and of shared data.
    outputs : mapping of str to Path
        ``reliability``: a row a bin, ``confusion``: a row for each true and predicted class that occurs together, and
        pictures of both. Folds are put together: of a nested model the logits of its own outer fold count, so that
        each sample counts once; models of one test split count its samples once each.
    skipped : Skipped
        Takes note of what cannot be read.

    Returns
    -------
    list of str
        A line if something is left out; otherwise nothing.
    """
    groups = find_logits(project)
    described = {target: describe(data, target, skipped) for _, target, _ in groups}
    suited = {group: files for group, files in groups.items() if described[group.target]["type"] in WORDS}
    measured: dict[Group, Measured] = {}
    read = 0
    for group, files in list(suited.items())[:PANELS]:
        some = files[: FILES - read]
        read += len(some)
        if found := measure(described[group.target], some, skipped):
            measured[group] = found
    write_bins(outputs["reliability"], measured)
    write_confusion(outputs["confusion"], measured)
    more = len(suited) - min(len(suited), PANELS)
    draw_reliabilities(outputs["reliability_png"], measured, more)
    matrices = {group: found for group, found in measured.items() if found.counts is not None}
    draw_confusions(outputs["confusion_png"], matrices, more)
    total = sum(map(len, suited.values()))
    words = f"Reliability and confusion are those of {read} of {total:,} files of logits; the others were not read."
    return [words] if read < total else []


def find_logits(project: Path) -> dict[Group, list[tuple[str, Path]]]:
    """Return the files of logits of each group, with the target that each is of.

    What a nested model predicted of the task itself is left out of raw logits if it predicted its outer fold.
    """
    groups: dict[Group, list[tuple[str, Path]]] = {}
    for kind in KINDS:
        for folder in model_folders(project, kind):
            names = [entry.name for entry in entries(folder.path) if entry.name.endswith(".npz")]
            targets = [name.removesuffix(".npz") for name in names]
            own = folder.task in targets and folder.task != without_nested(folder.task)
            for target in targets:
                if not (own and target == without_nested(folder.task)):
                    group = Group(folder.pipeline, without_nested(target), kind)
                    groups.setdefault(group, []).append((target, folder.path / f"{target}.npz"))
    return dict(sorted(groups.items(), key=lambda item: (item[0][:2], KINDS.index(item[0].kind))))


def describe(data: Path, target: str, skipped: Skipped) -> Mapping[str, Any]:
    """Return type and classes of a task; of one that is not there a type that has no pictures."""
    path = data / TASKS / target / "task.json"
    with skipped.noting(path):
        tree = read_json(path)
        return {"path": path, "type": str(tree["type"]), "classes": [str(name) for name in tree["classes"]]}
    return {"type": "unknown"}


def measure(task: Mapping[str, Any], files: Sequence[tuple[str, Path]], skipped: Skipped) -> Measured | None:
    """Measure the logits of a group, without files that are damaged or have no labelled test samples."""
    kind, classes = task["type"], task["classes"]
    splits = []
    for _, path in files:
        with skipped.noting(path):
            split = read_test(kind, path)
            if split is not None and split.labelled.any():
                check_classes(task["path"], classes, [(split.logits, split.targets)])
                splits.append(split)
    if not splits:
        return None
    counts = count_confusion(parts_of(splits), len(classes)) if kind == "classification" else None
    return Measured(len(splits), measure_reliability(kind, parts_of(splits)), counts, classes)


def read_test(kind: str, path: Path) -> Split | None:
    """Read the test split of a file of logits, if it has one."""
    arrays = open_npz(path, REMEDY)
    return read_split(method_of(kind), path, arrays, "test") if "test_logits" in arrays else None


def parts_of(splits: Sequence[Split]) -> Parts:
    """Return labelled samples of several files one after the other."""
    return chain.from_iterable(map(labelled_parts, splits))


def write_bins(table: Path, measured: Mapping[Group, Measured]) -> None:
    """Write a row a bin."""

    def rows() -> Iterator[Sequence[Any]]:
        for group, (_, found, *_) in measured.items():
            bins = zip(found.counts.tolist(), found.confidences.tolist(), found.shares.tolist(), strict=True)
            for number, (count, confidence, share) in enumerate(bins):
                yield (*group, number, int(count), *((confidence, share) if count else ("", "")))

    write_csv(table, BIN_COLUMNS, rows())


def write_confusion(table: Path, measured: Mapping[Group, Measured]) -> None:
    """Write a row for each pair of classes that occurs; there may be a million that do not."""

    def rows() -> Iterator[Sequence[Any]]:
        for group, found in measured.items():
            if found.counts is not None:
                for true, predicted in np.argwhere(found.counts).tolist():
                    yield (*group, found.classes[true], found.classes[predicted], int(found.counts[true, predicted]))

    write_csv(table, COUNT_COLUMNS, rows())


def draw_reliabilities(path: Path, measured: Mapping[Group, Measured], more: int) -> None:
    """Draw a reliability diagram a group."""
    if not measured:
        draw_words(path, RELIABILITY, EMPTY)
        return
    title = counted(RELIABILITY, len(measured), len(measured) + more)
    with panels(path, len(measured), [title], (3.3, 3.9)) as (figure, grid):
        for axes, (group, found) in zip(grid, measured.items(), strict=True):
            draw_shares(axes, found.reliability)
            name_panel(axes, [*lines_of(group, found), f"calibration error {found.reliability.error:.4f}"])
            words = found.reliability.words
            axes.set_xlabel(words.confidence, fontsize=9)
            axes.set_ylabel(words.share, fontsize=9)
            axes.set_box_aspect(1)
        columns = 1 if len(measured) == 1 else 3  # of one panel there is no room for three
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def draw_confusions(path: Path, measured: Mapping[Group, Measured], more: int) -> None:
    """Draw a confusion matrix a group."""
    if not measured:
        draw_words(path, CONFUSION, EMPTY)
        return
    title = counted(CONFUSION, len(measured), len(measured) + more)
    with panels(path, len(measured), [title], (3.6, 3.9)) as (_, grid):
        for axes, (group, found) in zip(grid, measured.items(), strict=True):
            draw_matrix(axes, found)
            right = np.trace(found.counts) / found.counts.sum()  # type: ignore[union-attr,arg-type]
            name_panel(axes, [*lines_of(group, found), f"{right:.1%} right".replace("%", " %")])


def draw_matrix(axes: Axes, found: Measured) -> None:
    """Draw counts, coloured by their share of the true class."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    counts = found.counts if found.counts is not None else np.zeros((1, 1), np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colours = LinearSegmentedColormap.from_list("accent", ["white", ACCENT])
    axes.imshow(shares, colours, norm=PowerNorm(0.5, 0, 1))
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=GREY)
    axes.set_xlabel("Predicted class", fontsize=9)
    axes.set_ylabel("True class", fontsize=9)
    names = [shorten(Words(printable(name)), LETTERS) for name in found.classes]
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90 if len(names) * max(map(len, names)) > ROOM else 0)
        axes.set_yticks(range(len(names)), names)
    if len(names) <= NUMBERED:
        write_counts(axes, counts, shares)
        for text in axes.texts:
            text.set_fontsize(min(7.0, text.get_fontsize()))  # type: ignore[arg-type]


def lines_of(group: Group, found: Measured) -> list[str]:
    """Return what is written above a panel."""
    files = "1 model" if found.files == 1 else f"{found.files} models"
    return [group.pipeline, f"{group.target}, {'calibrated' if group.kind == 'calibrated' else 'raw'}, {files}"]
