"""The samples of a task: one row of ``samples.csv`` each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from foldwise.config.definition import TARGETS, Role, TaskRecord
from foldwise.errors import DataError, DataProblems, Problem, Words, nearest, one_of, shorten
from foldwise.tasks.groups import spanning
from foldwise.tasks.sources.files import SPLIT_NAMES, UNUSABLE, listed_split
from foldwise.tasks.splits import keep_folds
from foldwise.tasks.targets import Table, check_classes, read_targets, target_cells

if TYPE_CHECKING:
    import numpy as np

LABELLED = ("train", "test")
FOLD = re.compile(r"(\d{1,6})(\.0*)?", re.ASCII)


class Sample(NamedTuple):
    """A row of ``samples.csv``; `target` is what its task type learns, as text, empty where there is none."""

    sample_id: str
    split: str
    image: str
    target: str
    group: str


def target_column(record: TaskRecord, columns: Collection[str] = ()) -> Role:
    """Return the name of the column of targets in ``samples.csv``.

    Parameters
    ----------
    record : TaskRecord
        Definition of the task.
    columns : collection of str
        Columns of the annotations, or of the ``samples.csv`` of the task or its parent: labels of a multi-label task
        are soft if the definition names their column, or where there is a column ``soft_classes`` and no ``classes``.
    """
    if record.type == "multilabel":
        named = [role for role in record.columns if role in TARGETS["multilabel"]]
        soft = named == ["soft_classes"] or (not named and is_soft(columns) and "classes" not in columns)
        return "soft_classes" if soft else "classes"
    return {"regression": "value", "segmentation": "mask"}.get(record.type, "class")  # type: ignore[return-value]


def is_soft(columns: Collection[str]) -> bool:
    """Tell from the columns of ``samples.csv`` whether targets are numbers from 0 to 1, one a class."""
    return "soft_classes" in columns


def build_samples(
    annotations: Mapping[str, list[str]], record: TaskRecord, class_names: Sequence[str], where: str
) -> tuple[list[Sample], list[str], dict[str, int] | None]:
    """Turn annotations into the samples of a task.

    Parameters
    ----------
    annotations : mapping of str to list of str
        Columns of equal length, a row a sample; always has ``image``.
    record : TaskRecord
        Definition of the task.
    class_names : sequence of str
        Names that the source has for its classes.
    where : str
        What messages are about.

    Returns
    -------
    list of Sample
        In the order of the annotations.
    list of str
        Classes in the order of logits; of masks, those that definition or source name.
    dict of str to int, or None
        Fold of each training sample if the source brings folds.

    Raises
    ------
    DataError
        If a column is missing, or there are no training samples, or not two classes.
    DataProblems
        Naming rows, classes and groups that cannot be used.
    """
    table = Table(annotations, record, where)
    role = target_column(record, annotations)
    check_roles(table)
    problems: list[Problem] = []
    ids = read_ids(table, problems)
    cells = target_cells(table, role)
    splits = read_splits(table, role, cells, problems)
    cells = [cell if split in LABELLED else "" for cell, split in zip(cells, splits, strict=True)]
    targets, classes = (
        ([""] * len(ids), []) if record.type == "unlabeled" else read_targets(table, role, cells, class_names, problems)
    )
    if problems:
        expected = f"samples for a task of type {record.type}"
        raise DataProblems(where, problems, expected, "Mend these rows, or columns and classes of the task.")
    groups = [group.strip() for group in table.read("group") or [""] * len(ids)]
    samples = list(map(Sample, ids, splits, annotations["image"], targets, groups))
    check_splits(table, samples)
    if record.type == "classification":
        check_classes(targets, splits, classes, where)
    given = record.given_folds and record.type != "unlabeled"
    return samples, classes, read_folds(table, samples) if given else None


def check_roles(table: Table) -> None:
    """Raise `DataError` if there are no rows, or two kinds of targets are named."""
    if not table.columns["image"]:
        raise DataError(table.where, Words("annotations without rows"), "at least one sample")
    if {"classes", "soft_classes"} <= table.record.columns.keys():
        raise DataError(table.where, Words("columns.classes beside columns.soft_classes"), "one of them")


def read_ids(table: Table, problems: list[Problem]) -> list[str]:
    """Return the id of each sample, by default the name of its image."""
    ids = table.read("id") or table.columns["image"]
    if len(set(ids)) == len(ids) and all(map(str.strip, ids)) and not any(map(UNUSABLE.search, ids)):
        return ids
    first: dict[str, int] = {}
    for place, name in enumerate(ids):
        other = first.setdefault(name, place)
        if not name.strip():
            problems.append(Problem(table.row(place), "an empty id"))
        elif other != place:
            reason = f"id {shorten(name)} is that of {table.row(other)} too"
            problems.append(Problem(table.row(place), reason))
        elif UNUSABLE.search(name):
            problems.append(Problem(table.row(place), f"id {shorten(name)} contains a line break or what is no text"))
    return ids


def read_splits(table: Table, role: Role, cells: Sequence[str], problems: list[Problem]) -> list[str]:
    """Return the split of each sample; what no column tells is for training if it has a target.

    Samples with a split that is not known get an empty one.
    """
    if table.record.type == "unlabeled":
        return ["unlabeled"] * len(cells)
    legal = role == "classes" and not isinstance(table.record.columns.get(role), list)
    words = table.read("split") or [""] * len(cells)
    known = {word: listed_split(SPLIT_NAMES.get(word.strip().lower(), "")) for word in set(words)}
    splits = []
    for place, (word, cell) in enumerate(zip(words, cells, strict=True)):
        split = known[word]
        if not split and not word.strip():
            split = "train" if cell or legal else "unlabeled"
        elif not split:
            hint = nearest(word.lower(), SPLIT_NAMES) if len(problems) < 100 else ""
            reason = f"split {shorten(word)}, not {one_of(SPLIT_NAMES)} or nothing. {hint}"
            problems.append(Problem(table.row(place), reason.strip()))
        elif not cell and not legal and split in LABELLED:
            problems.append(Problem(table.row(place), f"split {split} without {role}"))
        splits.append(split)
    return splits


def check_splits(table: Table, samples: Sequence[Sample]) -> None:
    """Raise `DataError` if there is nothing to train on, or a group is in both train and test."""
    counts = Counter(sample.split for sample in samples)
    if table.record.type != "unlabeled" and not counts["train"]:
        found = Words(f"no training sample, {counts['test']} for testing and {counts['unlabeled']} unlabeled")
        raise DataError(table.where, found, "training samples with a target")
    parts = [sample.split if sample.split in LABELLED else None for sample in samples]
    tell_spanning(table, samples, parts, "split", "Put each group into one split.")


def tell_spanning(table: Table, samples: Sequence[Sample], parts: Sequence[str | None], word: str, remedy: str) -> None:
    """Raise `DataProblems` naming groups that are in several parts, with one sample in each of two parts."""
    problems = [
        Problem(
            f"group {shorten(samples[one].group)}",
            f"{table.row(one)} in {word} {parts[one]}, {table.row(two)} in {word} {parts[two]}",
        )
        for one, two in spanning([sample.group for sample in samples], parts)
    ]
    if problems:
        raise DataProblems(table.where, problems, f"no group in more than one {word}", remedy)


def read_folds(table: Table, samples: Sequence[Sample]) -> dict[str, int]:
    """Return the fold that the source gives each training sample.

    Raises
    ------
    DataError
        If there is no column of folds, or a fold is empty.
    DataProblems
        Naming training samples without a fold, and groups in several folds.
    """
    cells, count = table.read("fold"), table.record.n_folds
    if cells is None:
        raise table.lacks("fold", "a column fold", "Set columns.fold to the column of folds, or leave out `folds`.")
    folds, problems = {}, []
    for place, (sample, cell) in enumerate(zip(samples, cells, strict=True)):
        if sample.split == "train":
            match = FOLD.fullmatch(cell.strip())
            if match and int(match[1]) < count:
                folds[sample.sample_id] = int(match[1])
            else:
                problems.append(Problem(table.row(place), f"fold {shorten(cell)}"))
    if problems:
        expected = f"in column {table.names('fold')[0]} a whole number from 0 to {count - 1} for each training sample"
        raise DataProblems(table.where, problems, expected, "Mend the column, or set `folds` to the number of folds.")
    parts = [None if (fold := folds.get(sample.sample_id)) is None else str(fold) for sample in samples]
    tell_spanning(table, samples, parts, "fold", "Put each group into one fold.")
    return keep_folds(samples, folds, count, table.where, "Set `folds` to the number of folds in the table.")


def parse_targets(samples: Sequence[Sample], kind: str, classes: Sequence[str], soft: bool) -> np.ndarray:
    """Turn the targets of samples into numbers.

    Parameters
    ----------
    samples : sequence of Sample
        Their targets are text.
    kind : str
        Task type.
    classes : sequence of str
        Classes in the order of logits.
    soft : bool
        Whether the targets of a multi-label task are numbers.

    Returns
    -------
    ndarray
        Classification: class index, int64 of shape (n,), -1 where there is none. Multi-label: uint8 of shape
        (n, classes), 255 in unlabeled samples, or float32 if soft, NaN in unlabeled samples. Regression: float32 of
        shape (n,), NaN where there is none. Others: uint8 of shape (n, 0).
    """
    import numpy as np

    targets = [sample.target for sample in samples]
    if kind == "classification":
        places = {"": -1} | {name: place for place, name in enumerate(classes)}
        return np.array([places[target] for target in targets], dtype=np.int64)
    if kind == "regression":
        return np.array([float(target or "nan") for target in targets], dtype=np.float32)
    if kind != "multilabel":
        return np.empty((len(samples), 0), np.uint8)
    matrix = parse_numbers(targets, len(classes)) if soft else parse_names(targets, classes)
    matrix[[sample.split == "unlabeled" for sample in samples]] = np.nan if soft else 255
    return matrix


def parse_numbers(targets: Sequence[str], width: int) -> np.ndarray:
    """Return numbers joined by ``;`` as a matrix; an empty text gives NaN."""
    import numpy as np

    matrix = np.full((len(targets), width), np.nan, np.float32)
    for row, target in enumerate(targets):
        if target:
            matrix[row] = [float(number) for number in target.split(";")]
    return matrix


def parse_names(targets: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return names joined by ``;`` as a matrix of 0 and 1."""
    import numpy as np

    places = {name: place for place, name in enumerate(classes)}
    distinct = {target: row for row, target in enumerate(dict.fromkeys(targets))}
    matrix = np.zeros((len(distinct), len(classes)), np.uint8)
    for target, row in distinct.items():
        for name in filter(None, target.split(";")):
            matrix[row, places[name]] = 1
    return matrix[[distinct[target] for target in targets]]
