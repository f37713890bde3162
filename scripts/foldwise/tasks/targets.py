"""What is learned of each sample: cells of annotations turned into targets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from foldwise.config.definition import Role, TaskRecord
from foldwise.errors import DataError, DataProblems, Problem, Words, nearest, shorten
from foldwise.tasks.classes import UnknownLabel, Vocabulary, column_classes, name_classes

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LARGEST = 3.4028234663852886e38  # of what 32 bits can hold
TRUTH = {
    "0": False, "0.0": False, "false": False, "no": False, "1": True, "1.0": True, "true": True, "yes": True,
}  # fmt: skip
CACHED = 2**16  # numbers of soft labels often repeat
HINTS = 100  # messages show no more problems, and to find the nearest class takes long


@dataclass(frozen=True)
class Table:
    """Annotations, with columns found by role.

    Parameters
    ----------
    columns : mapping of str to list of str
        Columns of equal length; always has ``image``.
    record : TaskRecord
        Names the columns that are not named as their role.
    where : str
        What messages are about.
    """

    columns: Mapping[str, list[str]]
    record: TaskRecord
    where: str

    def names(self, role: Role) -> list[str]:
        """Return the names of the columns of a role; none if it has none.

        Raises
        ------
        DataError
            If the definition names a column that is not there, or one twice.
        """
        named = self.record.columns.get(role)
        if named is None:
            return [role] if role in self.columns else []
        names = [named] if isinstance(named, str) else named
        for name in names:
            if name not in self.columns:
                raise self.lacks(name, f"a column {name} as in columns.{role}")
        if len(set(names)) != len(names):
            raise DataError(self.where, Words(f"a column twice in columns.{role}"), "each column once")
        return names

    def read(self, role: Role) -> list[str] | None:
        """Return the column of a role, if there is one."""
        names = self.names(role)
        return self.columns[names[0]] if names else None

    def lacks(self, name: str, expected: str, remedy: str = "") -> DataError:
        """Return the error that a column is missing."""
        shown = ", ".join(list(self.columns)[:40]) + (" and more" if len(self.columns) > 40 else "")
        hint = f"{nearest(name, self.columns)} {remedy}".strip()
        return DataError(self.where, Words(f"columns {shown}"), expected, hint)

    def row(self, place: int) -> str:
        """Name a row in messages; the header is row 1."""
        return f"row {place + 2} (image {self.columns['image'][place]})"


class Reading(NamedTuple):
    """Classes in the order of logits, and what turns a cell into a target; it raises `ValueError` with a reason."""

    classes: list[str]
    read: Callable[[str], str]


def target_cells(table: Table, role: Role) -> list[str]:
    """Return one cell a row: that of the target's column, or those of its columns joined by ``;``.

    It is empty where there is no target.

    Raises
    ------
    DataError
        If there is no such column, though the task type needs one.
    """
    names = table.names(role)
    if table.record.type == "unlabeled":
        return [""] * len(table.columns["image"])
    if not names:
        raise table.lacks(role, f"a column {role}", f"Set columns.{role} to the column of targets.")
    if not isinstance(table.record.columns.get(role), list):
        return [cell.strip() for cell in table.columns[names[0]]]
    rows = zip(*([cell.strip() for cell in table.columns[name]] for name in names), strict=True)
    return [";".join(row) if any(row) else "" for row in rows]


def read_targets(
    table: Table, role: Role, cells: Sequence[str], class_names: Sequence[str], problems: list[Problem]
) -> tuple[list[str], list[str]]:
    """Turn cells into targets.

    Parameters
    ----------
    table : Table
        Where the cells are from.
    role : str
        What they hold.
    cells : sequence of str
        A cell a sample, empty where there is nothing to learn.
    class_names : sequence of str
        Names that the source has for its classes.
    problems : list of Problem
        Receives one for each cell that cannot be read.

    Returns
    -------
    list of str, list of str
        Target of each sample, empty where the cell is; classes in the order of logits.
    """
    distinct = dict.fromkeys(cells)
    distinct.pop("", None)
    classes, read = READERS[role](table, distinct, class_names)
    targets: dict[str, str] = {"": ""}
    wrong: dict[str, str] = {}
    for cell in distinct:
        try:
            targets[cell] = read(cell)
        except UnknownLabel as error:
            wrong[cell] = error.told(len(wrong) < HINTS)
        except ValueError as error:
            wrong[cell] = str(error)
    if wrong:
        problems += [Problem(table.row(place), wrong[cell]) for place, cell in enumerate(cells) if cell in wrong]
    return [targets.get(cell, "") for cell in cells], classes


def read_class(table: Table, cells: Collection[str], class_names: Sequence[str]) -> Reading:
    """Read names of classes."""
    vocabulary = name_classes(cells, table.record.classes, class_names, table.where)
    return Reading(vocabulary.classes, vocabulary.find)


def read_classes(table: Table, cells: Collection[str], class_names: Sequence[str]) -> Reading:
    """Read names of classes joined by ``;``, or columns of 0 and 1."""
    if isinstance(table.record.columns.get("classes"), list):
        columns = table.names("classes")
        vocabulary = column_classes(columns, table.record.classes, table.where)
        return Reading(vocabulary.classes, lambda cell: join(true_columns(cell, columns), vocabulary))
    labels = {label for cell in cells for label in split_labels(cell)}
    vocabulary = name_classes(labels, table.record.classes, class_names, table.where)
    if not vocabulary.classes:
        raise DataError(table.where, Words("samples none of which has a class"), "at least one class")
    return Reading(vocabulary.classes, lambda cell: join(split_labels(cell), vocabulary))


def split_labels(cell: str) -> list[str]:
    """Return the labels of a cell."""
    return [label for label in map(str.strip, cell.split(";")) if label]


def true_columns(cell: str, columns: Sequence[str]) -> list[str]:
    """Return the columns with a 1, given the values of all of them."""
    values = cell.split(";")
    if len(values) != len(columns):
        raise ValueError(f"a `;` in a column of 0 and 1 ({shorten(cell)})")
    truths = [TRUTH.get(value.lower()) for value in values]
    if None in truths:
        place = truths.index(None)
        raise ValueError(f"{shorten(values[place])} in column {columns[place]}, neither 0 nor 1")
    return [column for column, truth in zip(columns, truths, strict=True) if truth]


def join(labels: Sequence[str], vocabulary: Vocabulary) -> str:
    """Join the classes of labels, in their order."""
    return ";".join(sorted({vocabulary.find(label) for label in labels}, key=vocabulary.places.__getitem__))


def read_soft_classes(table: Table, cells: Collection[str], class_names: Sequence[str]) -> Reading:
    """Read a number from 0 to 1 for each class; where classes are merged, the greatest counts."""
    names = soft_names(table, cells, class_names)
    vocabulary = column_classes(names, table.record.classes, table.where)
    places = [[k for k, name in enumerate(names) if vocabulary.find(name) == one] for one in vocabulary.classes]
    number_of = lru_cache(CACHED)(share)

    def read(cell: str) -> str:
        numbers = list(map(number_of, cell.split(";")))
        if len(numbers) != len(names):
            raise ValueError(f"{len(numbers)} numbers for {len(names)} classes")
        return ";".join([repr(max([numbers[place] for place in members])) for members in places])

    return Reading(vocabulary.classes, read)


def soft_names(table: Table, cells: Collection[str], class_names: Sequence[str]) -> list[str]:
    """Return what the numbers of a cell are called: as columns, classes of source or definition, or 0, 1, ..."""
    if isinstance(table.record.columns.get("soft_classes"), list):
        return table.names("soft_classes")
    lengths = Counter(cell.count(";") + 1 for cell in cells)
    indexes = [str(place) for place in range(max(lengths, key=lengths.__getitem__, default=0))]
    listed = [str(name) for name in table.record.classes or []]
    if class_names:
        return list(class_names)
    return indexes if isinstance(table.record.classes, dict) or set(listed) == set(indexes) else listed or indexes


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    number = read_number(text.strip())
    if not 0 <= number <= 1:
        raise ValueError(f"{text} is not from 0 to 1")
    return abs(number)


def read_number(text: str) -> float:
    """Read a finite number."""
    if text.lower() == "nan":
        raise ValueError("NaN target")
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{shorten(text)} is no finite number")
    number = float(text)
    if abs(number) > LARGEST:
        raise ValueError(f"{shorten(text)} is beyond what 32 bits can hold")
    return number


def read_value(table: Table, cells: Collection[str], class_names: Sequence[str]) -> Reading:  # noqa: ARG001
    """Read finite numbers."""
    return Reading([], lambda cell: repr(read_number(cell)))


def read_mask(table: Table, cells: Collection[str], class_names: Sequence[str]) -> Reading:  # noqa: ARG001
    """Keep paths as they are; the classes of masks are those that definition or source name."""
    return Reading([str(name) for name in table.record.classes or class_names], str)


READERS: dict[str, Callable[[Table, Collection[str], Sequence[str]], Reading]] = {
    "class": read_class,
    "classes": read_classes,
    "soft_classes": read_soft_classes,
    "value": read_value,
    "mask": read_mask,
}


def check_classes(targets: Sequence[str], splits: Sequence[str], classes: Sequence[str], where: str) -> None:
    """Raise `DataError` unless there are two classes or more, each with a training sample."""
    if len(classes) == 1:
        raise DataError(where, Words(f"one class {classes[0]!r}"), "at least two classes")
    counts = Counter(zip(targets, splits, strict=True))
    problems = [
        Problem(f"class {name!r}", f"no training sample, {counts[name, 'test']} test samples")
        for name in classes
        if not counts[name, "train"]
    ]
    if problems:
        remedy = "Merge it with another class by `classes`, or drop it: take out its rows and its name in `classes`."
        raise DataProblems(where, problems, "training samples of every class", remedy)
