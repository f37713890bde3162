"""Pictures of samples: one of each task, or some of one task, with their labels."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from foldwise.artifacts import read_json, reading
from foldwise.errors import DataError
from foldwise.report.inventory import DATASETS, TASKS, existing_tasks
from foldwise.report.sheets import Cell, Sheet, draw_sheet
from foldwise.report.skipped import Skipped
from foldwise.report.tables import printable
from foldwise.report.task_info import tell_missing
from foldwise.report.thumbnails import Thumbnail, load_thumbnail
from foldwise.tasks.decode import Unreadable
from foldwise.tasks.masks import mask_classes

CELLS = 200  # of the grid
SINGLES = 12  # samples of one task
COLUMNS = 4
EMPTY = "There is no sample to show"
TRIES = 6  # samples that are looked at for one cell of the grid
CANDIDATES = 3 * SINGLES
NAMED = 20  # pictures of single tasks
READ = 100_000  # rows of a table, after which classes that were not met are given up


class Sample(NamedTuple):
    """A row of a table of samples."""

    name: str
    image: str
    target: str


class Known(NamedTuple):
    """What is needed to show samples of a task, those to show first at the front."""

    task: str
    target: str
    classes: Sequence[str]
    values: Mapping[str, Sequence[int]]
    dataset: Path
    samples: Sequence[Sample]


def draw_samples(data: Path, tasks: Sequence[str], grid: Path | None, singles: Mapping[str, Path]) -> str:
    """Draw samples of the training splits of tasks with their labels.

    Parameters
    ----------
    data : Path
        Root of shared data.
    tasks : sequence of str
        Names of the tasks, in the order of the grid.
    grid : Path or None
        The ``.png`` file with a cell for each of the first 200 tasks: the first labelled training sample whose image
        can be read and is not of one colour.
    singles : mapping of str to Path
        The ``.png`` files to write by task, each of up to 12 samples, of different classes first.

    Returns
    -------
    str
        What was drawn, and what was left out.
    """
    skipped, there = Skipped(), existing_tasks(data, tasks)
    shown = there[:CELLS] if grid else []
    known = {task: found for task in dict.fromkeys([*shown, *singles]) if (found := learn(data, task, skipped))}
    paths = find_images(known.values(), skipped)
    lines, drawn = [], []
    if grid:
        cells = [cell for task in shown if task in known for cell in first_cell(known[task], paths, skipped)]
        left = f", the first {CELLS} of {len(there)}" if len(there) > CELLS else ""
        sheet = Sheet(
            f"A training sample of each task{left}", cells, EMPTY if there else "No task has been created yet"
        )
        draw_sheet(grid, sheet)
        lines.append(f"Drew a sample of {len(cells)} task{'' if len(cells) == 1 else 's'}{left}: {grid}")
    for task, path in singles.items():
        cells = list(islice(cells_of(known[task], paths, skipped), SINGLES)) if task in known else []
        draw_sheet(path, Sheet(f"Training samples of {task}", cells, EMPTY, COLUMNS))
        drawn.append(f"Drew {len(cells)} sample{'' if len(cells) == 1 else 's'} of {printable(task)}: {path}")
    lines += drawn[:NAMED]
    lines += [f"and those of {len(drawn) - NAMED} more tasks beside it"] if len(drawn) > NAMED else []
    missing = [task for task in dict.fromkeys([*tasks, *singles]) if task not in {*there, *known}]
    told = ["\n".join(lines)] if lines else []
    return "\n\n".join([*told, *tell_missing(missing), *skipped.told()])


def learn(data: Path, task: str, skipped: Skipped) -> Known | None:
    """Read what is needed to show samples of a task; nothing if there is none or it is damaged."""
    description = data / TASKS / task / "task.json"
    if not description.is_file():
        return None
    with skipped.noting(description):
        tree = read_json(description)
        dataset, classes = data / DATASETS / str(tree["dataset"]), [str(name) for name in tree["classes"]]
        values = mask_values(tree, dataset / "dataset.json") if tree["type"] == "segmentation" else {}
        table = description.with_name("samples.csv")
        with skipped.noting(table):
            target, samples = choose_samples(table, str(tree["type"]), len(classes))
            return Known(task, target, classes, values, dataset, samples)
    return None


def mask_values(task: Mapping[str, Any], dataset: Path) -> dict[str, list[int]]:
    """Return the values in masks that make each class; nothing if it cannot be told."""
    source = read_json(dataset)
    try:
        return mask_classes(
            task["definition"].get("classes"), source["mask_values"], source["class_names"], task["task"]
        )
    except DataError:
        return {}


def choose_samples(table: Path, kind: str, classes: int) -> tuple[str, list[Sample]]:
    """Return the column of targets, and samples to show: first one of each label, then further ones.

    Samples without a label stand in where no training sample has one.
    """
    labelled: dict[str, list[Sample]] = {}
    others: list[Sample] = []
    enough = min(SINGLES, classes or SINGLES) if kind == "classification" else SINGLES
    with reading(table, "a table of samples") as path, open(path, newline="", encoding="utf-8") as handle:
        reader = csv.reader(handle)
        target = next(reader, [])[3]
        count = 0
        for name, split, image, label, *_ in islice(reader, READ):
            sample = Sample(name, image, label)
            if split == "train" and label:
                same = labelled.setdefault(label if kind in ("classification", "multilabel") else name, [])
                if len(same) < CANDIDATES:
                    same.append(sample)
                    count += 1
                if count >= CANDIDATES and len(labelled) >= enough:
                    break
            elif split != "test" and len(others) < CANDIDATES:
                others.append(sample)
    rounds = chain.from_iterable(zip_longest(*labelled.values()))
    chosen = [sample for sample in rounds if sample] or others
    return target, chosen[:CANDIDATES]


def find_images(tasks: Iterable[Known], skipped: Skipped) -> dict[tuple[Path, str], Path]:
    """Return the files of all images that may be shown, by dataset and name: each table is read once."""
    wanted: dict[Path, set[str]] = {}
    for known in tasks:
        wanted.setdefault(known.dataset, set()).update(sample.image for sample in known.samples)
    found = {}
    for dataset, images in wanted.items():
        table = dataset / "images.csv"
        with (
            skipped.noting(table),
            reading(table, "a table of images") as path,
            open(path, newline="", encoding="utf-8") as handle,
        ):
            for row in csv.DictReader(handle):
                if row["image"] in images:
                    found[dataset, row["image"]] = dataset / row["path"]
            if lost := len(images) - sum((dataset, image) in found for image in images):
                raise ValueError(f"it lacks {lost} image{'' if lost == 1 else 's'} of tasks")
    return found


def first_cell(known: Known, paths: Mapping[tuple[Path, str], Path], skipped: Skipped) -> list[Cell]:
    """Return the cell of a task in the grid of all tasks; none if no image can be shown."""
    few = known._replace(samples=known.samples[:TRIES])
    return [cell._replace(above=known.task) for cell in islice(cells_of(few, paths, skipped), 1)]


def cells_of(known: Known, paths: Mapping[tuple[Path, str], Path], skipped: Skipped) -> Iterator[Cell]:
    """Yield a cell a sample whose image can be read, those with nothing to see on them last."""
    last = []
    for sample in known.samples:
        path = paths.get((known.dataset, sample.image))
        if path is None:
            continue
        mask = known.dataset / sample.target if known.target == "mask" and sample.target else None
        try:
            found = load_thumbnail(path, mask, known.values)
        except Unreadable as error:
            skipped.note(path, error.reason)
            continue
        cell = Cell(found.image, sample.name, label_of(known, sample.target, found))
        if found.plain:
            last.append(cell)
        else:
            yield cell
    yield from last


def label_of(known: Known, target: str, found: Thumbnail) -> str:
    """Write the label of a sample; nothing if it has none."""
    if not target:
        return ""
    if known.target == "mask":
        return ", ".join(found.marked or list(known.values)[:1])
    if known.target == "value":
        return f"{float(target):.5g}"
    if known.target == "soft_classes":
        shares = sorted(zip(map(float, target.split(";")), known.classes, strict=True), reverse=True)
        return ", ".join(f"{name} {share:.2g}" for share, name in shares[:3] if share > 0)
    return target.replace(";", ", ") if known.target == "classes" else target
