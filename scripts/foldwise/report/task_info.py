"""What tasks there are: a table of them, a table of their classes, a picture."""

from __future__ import annotations

import csv
import statistics
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foldwise.artifacts import map_npy, read_json, reading, write_csv
from foldwise.errors import Words, shorten
from foldwise.report.inventory import DATASETS, TENSORS, existing_tasks, folders
from foldwise.report.skipped import Skipped
from foldwise.report.tables import lay_out, printable
from foldwise.report.task_charts import TaskBars, draw_tasks

SPLITS = ("train", "test", "unlabeled")
SIDES = tuple(f"{side}_{what}" for side in ("width", "height") for what in ("min", "median", "max"))
COLUMNS = (
    *("task", "dataset", "type", "classes", *SPLITS, "n_folds", "images", *SIDES, "channels"),
    *("tensors", "mean", "std", "licence", "reference", "keywords"),
)
CLASS_COLUMNS = ("task", "split", "class", "samples")
LINES = 50
NAMES = 44  # letters of a name on a terminal
NAMED = 20  # tasks that are not created yet


class Dataset(NamedTuple):
    """What the tables of a dataset tell of all its images.

    Parameters
    ----------
    images : int or str
        How many there are; empty where this and what follows is not known.
    sides : tuple
        Smallest, median and largest width and height.
    channels : str
        Numbers of channels in files, joined by ``;``.
    tensors : str
        Folders of preprocessings, joined by ``;``.
    mean, std : str
        Of pixels of the first of them over all its rows, test samples too: from 0 to 1, channels joined by ``;``.
    """

    images: int | str = ""
    sides: tuple[float | str, ...] = ("",) * len(SIDES)
    channels: str = ""
    tensors: str = ""
    mean: str = ""
    std: str = ""


def describe_tasks(data: Path, tasks: Sequence[str], table: Path, classes: Path, picture: Path) -> str:
    """Write what is known of tasks that were created.

    Parameters
    ----------
    data : Path
        Root of shared data.
    tasks : sequence of str
        Names of tasks; those that do not exist are named in the text.
    table : Path
        The ``.csv`` file with a row a task. Sizes are those of the images of the dataset. Mean and deviation of pixels
        are over all rows of the first preprocessing that there is: variants share them, as they share the tensors.
    classes : Path
        The ``.csv`` file with a row for each task, split and class.
    picture : Path
        The ``.png`` file: samples by split, and the shares of classes in the training split.

    Returns
    -------
    str
        A table for a terminal, a line a task, 50 at most.
    """
    skipped = Skipped()
    found = read_tasks(data, tasks, skipped)
    datasets = {name: read_dataset(data, name, skipped) for name in dict.fromkeys(row["dataset"] for row in found)}
    write_csv(table, COLUMNS, (row_of(task, datasets[task["dataset"]]) for task in found))
    write_csv(classes, CLASS_COLUMNS, (row for task in found for row in class_rows(task)))
    draw_tasks(picture, [bars_of(task) for task in found])
    there = set(existing_tasks(data, tasks))
    missing = [task for task in dict.fromkeys(tasks) if task not in there]
    return "\n\n".join([tell_tasks(found, datasets), *tell_missing(missing), *skipped.told()])


def read_tasks(data: Path, tasks: Sequence[str], skipped: Skipped) -> list[dict[str, Any]]:
    """Read the descriptions of tasks that exist, without those that are damaged."""
    found = []
    for task in existing_tasks(data, tasks):
        path = data / "tasks" / task / "task.json"
        with skipped.noting(path):
            found.append(summary_of(task, read_json(path)))
    return found


def summary_of(task: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reports tell of a task; raises what a description leads to that is none."""
    counts = {split: dict(counted) for split, counted in tree["counts"].items()}
    return {
        "task": task,
        "dataset": str(tree["dataset"]),
        "type": str(tree["type"]),
        "classes": [str(name) for name in tree["classes"]],
        "samples": {split: int(counted["samples"]) for split, counted in counts.items()},
        "by_class": {split: read_counts(counted.get("classes") or {}) for split, counted in counts.items()},
        "n_folds": (tree.get("folds") or {}).get("n_folds", ""),
        "licence": str(tree.get("licence") or ""),
        "reference": str(tree.get("reference") or ""),
        "keywords": ";".join(map(str, tree.get("keywords") or [])),
    }


def read_counts(counts: Mapping[str, Any]) -> dict[str, int | float]:
    """Return numbers by class; of soft labels they are no whole ones."""
    return {str(name): int(count) if float(count).is_integer() else float(count) for name, count in counts.items()}


def row_of(task: Mapping[str, Any], dataset: Dataset) -> list[Any]:
    """Return the row of a task."""
    about = [task["task"], task["dataset"], task["type"], len(task["classes"])]
    samples = [task["samples"].get(split, 0) for split in SPLITS]
    pixels = [dataset.images, *dataset.sides, dataset.channels, dataset.tensors, dataset.mean, dataset.std]
    return [*about, *samples, task["n_folds"], *pixels, task["licence"], task["reference"], task["keywords"]]


def class_rows(task: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return a row for each split and class of a task."""
    return [
        (task["task"], split, name, count)
        for split, counts in task["by_class"].items()
        for name, count in counts.items()
    ]


def bars_of(task: Mapping[str, Any]) -> TaskBars:
    """Return what a picture shows of a task."""
    counts = [float(count) for count in task["by_class"].get("train", {}).values()]
    return TaskBars(task["task"], task["type"], [task["samples"].get(split, 0) for split in SPLITS], counts)


def read_dataset(data: Path, dataset: str, skipped: Skipped) -> Dataset:
    """Read the sizes of the images of a dataset, and the sums of pixels of its tensors."""
    found = Dataset()
    images = data / DATASETS / dataset / "images.csv"
    with skipped.noting(images):
        found = sizes_of(images)
    names = [entry.name for entry in folders(data / TENSORS / dataset)]
    found = found._replace(tensors=";".join(names))
    for name in names:
        path = data / TENSORS / dataset / name / "channel_sums.npy"
        if path.is_file():
            with skipped.noting(path):
                mean, std = pixel_statistics(path)
                return found._replace(mean=joined(mean), std=joined(std))
    return found


def sizes_of(images: Path) -> Dataset:
    """Read how large the images of a table are; a row a time, as there may be millions."""
    sides, channels, rows = (array("d"), array("d")), set(), 0
    with reading(images, "a table of images") as path, open(path, newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            rows += 1
            if row["width"] and row["height"]:
                for values, name in zip(sides, ("width", "height"), strict=True):
                    values.append(float(row[name]))
                channels.add(row["channels"])
    if not sides[0]:
        return Dataset(rows)
    extents = [(min(values), statistics.median(values), max(values)) for values in sides]
    return Dataset(
        rows, tuple(f"{value:g}" for extent in extents for value in extent), ";".join(sorted(channels - {""}))
    )


def pixel_statistics(sums: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of the channels of tensors, from 0 to 1."""
    _, height, width, _ = read_json(sums.with_name("manifest.json"))["shape"]
    found = map_npy(sums)
    mean, square = found.sum(axis=0) / (max(1, len(found)) * height * width) / ([[255], [255**2]])
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


def joined(values: np.ndarray) -> str:
    """Write numbers into one cell."""
    return ";".join(f"{value:.6g}" for value in values)


def tell_tasks(tasks: Sequence[Mapping[str, Any]], datasets: Mapping[str, Dataset]) -> str:
    """Lay out a line a task."""
    if not tasks:
        return "No task has been created yet."
    lines = [("task", "type", "classes", *SPLITS, "folds", "image size", "channels", "licence")]
    for task in tasks[:LINES]:
        dataset, classes = datasets[task["dataset"]], str(len(task["classes"]) or "-")
        samples = [f"{task['samples'].get(split, 0):,}" for split in SPLITS]
        cells = (task["task"], task["type"], classes, *samples, str(task["n_folds"]), size_words(dataset))
        lines.append((*cells, dataset.channels or "-", task["licence"] or "-"))
    columns = [[shorten(Words(printable(cell)), NAMES) for cell in column] for column in zip(*lines, strict=True)]
    more = [f"and {len(tasks) - LINES} more, see the table"] if len(tasks) > LINES else []
    return "\n".join([lay_out(columns), *more])


def size_words(dataset: Dataset) -> str:
    """Write the median size of images, and that they differ if they do."""
    if dataset.sides[0] == "":
        return "-"
    width, height = dataset.sides[:3], dataset.sides[3:]
    about = "" if len(set(width)) == len(set(height)) == 1 else "median "
    return f"{about}{width[1]} x {height[1]}"


def tell_missing(tasks: Sequence[str]) -> list[str]:
    """Return a line that names tasks that were not created, or no line."""
    if not tasks:
        return []
    more = f" and {len(tasks) - NAMED} more" if len(tasks) > NAMED else ""
    return [f"Not created yet: {', '.join(map(printable, tasks[:NAMED]))}{more}"]
