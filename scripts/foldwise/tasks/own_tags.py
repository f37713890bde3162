"""Tags of the user's own: a function changes the table of samples, and what it returns is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from foldwise.config.definition import TaskRecord
from foldwise.config.names import Tag
from foldwise.errors import DataError, DataProblems, Problem, Words, one_of, shorten
from foldwise.functions import check_call, failure_told, load_function
from foldwise.tasks.groups import spanning
from foldwise.tasks.samples import FOLD, LABELLED, Sample
from foldwise.tasks.splits import keep_folds
from foldwise.tasks.targets import read_number, share

if TYPE_CHECKING:
    import pandas as pd

    from foldwise.tasks.tags import Content

SPLITS = ("train", "test", "unlabeled")
REMEDY = "Mend the function."


def apply_function(tag: Tag, content: Content, record: TaskRecord, where: str) -> tuple[list[Sample], dict[str, int]]:
    """Let a function of the user change the samples of a task.

    Parameters
    ----------
    tag : Tag
        What the function is called with, as text.
    content : Content
        The parent.
    record : TaskRecord
        Definition of the variant; the last of its functions, ``module:function``, is called.
    where : str
        What messages are about, beside the function.

    Returns
    -------
    list of Sample, dict of str to int
        Samples in the order of the parent, and the fold of each training sample.

    Raises
    ------
    ConfigError
        If the function is not there.
    DataError
        If it cannot be called so or fails, with its line, or returns what is no task.
    DataProblems
        Naming the rows that it returns and that cannot be used.

    Notes
    -----
    The function gets a table of pandas with a row a sample, in the order of the task, and the arguments of the tag:

    - ``sample_id``, ``split`` (train, test, unlabeled) and ``image`` are text
    - ``fold`` is a whole number in training samples, missing in others
    - the column of labels is as in ``samples.csv``: ``class``, ``classes``, ``soft_classes`` and ``mask`` are text,
      empty where there is none, ``value`` is a number, missing where there is none
    - ``group`` is there if any sample has one, as text

    It returns a table with the same columns. Rows may be left out and are in any order. ``split``, ``fold`` and labels
    may change, masks apart, as they are stored with the images. A training sample without a fold keeps the one that it
    had; folds of other samples and labels of unlabeled ones do not matter.
    """
    name = record.functions[-1]
    function, where = load_function(name, f"tagging.functions.{tag.function}"), f"{name} for {where}"
    given = ["samples", *(f"argument_{place}" for place in range(1, len(tag.values) + 1))]
    check_call(function, name, given, remedy=f"Mend it, or the tag +{tag}.")
    with failure_told(where, function):
        found = function(make_table(content), *tag.values)
    samples, folds = read_rows(read_columns(found, column_names(content), where), content, record, where)
    check_task(samples, folds, content, record, where)
    return samples, keep_folds(samples, folds, content.n_folds, where, REMEDY)


def column_names(content: Content) -> list[str]:
    """Return the columns of the table that a function gets."""
    grouped = any(sample.group for sample in content.samples)
    return ["sample_id", "split", "fold", "image", content.column, *(["group"] if grouped else [])]


def make_table(content: Content) -> pd.DataFrame:
    """Return samples and folds as a table."""
    import pandas as pd

    samples = content.samples
    targets: list[Any] = [sample.target for sample in samples]
    if content.column == "value":
        targets = [float(target or "nan") for target in targets]
    columns = {
        "sample_id": [sample.sample_id for sample in samples],
        "split": [sample.split for sample in samples],
        "fold": pd.array([content.folds.get(sample.sample_id) for sample in samples], dtype="Int64"),
        "image": [sample.image for sample in samples],
        content.column: targets,
        "group": [sample.group for sample in samples],
    }
    return pd.DataFrame({name: columns[name] for name in column_names(content)})


def read_columns(found: Any, names: Sequence[str], where: str) -> dict[str, list[Any]]:
    """Return the columns of a table as lists, None where a cell is missing.

    Raises
    ------
    DataError
        If it is no table, or has other columns.
    """
    import pandas as pd

    expected = f"a table of pandas with columns {', '.join(names)}"
    if not isinstance(found, pd.DataFrame):
        got = Words("a function that returns nothing" if found is None else f"what is a {type(found).__name__}")
        raise DataError(where, got, expected, REMEDY)
    columns = list(found.columns)
    if sorted(map(str, columns)) != sorted(names):
        raise DataError(where, Words(f"columns {', '.join(map(str, columns))}"), expected, REMEDY)
    cells = {name: found[name].astype(object) for name in names}
    return {name: cell.where(cell.notna(), None).tolist() for name, cell in cells.items()}


def read_rows(
    columns: dict[str, list[Any]], content: Content, record: TaskRecord, where: str
) -> tuple[list[Sample], dict[str, int]]:
    """Turn rows into samples, in the order of the parent, and folds.

    Raises
    ------
    DataProblems
        If rows cannot be used.
    """
    known = {sample.sample_id: sample for sample in content.samples}
    found: dict[str, Sample] = {}
    folds: dict[str, int] = {}
    problems = []
    for place, cells in enumerate(zip(*columns.values(), strict=True)):
        row = dict(zip(columns, cells, strict=True))
        try:
            old = find_sample(row["sample_id"], known, found)
            new = found[old.sample_id] = read_sample(row, old, content, record)
            if new.split == "train":
                folds[new.sample_id] = read_fold(row["fold"], new.sample_id, content)
        except ValueError as error:
            problems.append(Problem(f"row {place} (sample_id {shorten(row['sample_id'])})", str(error)))
    if problems:
        expected = "samples of the parent with splits, folds and labels that a task can have; rows are counted from 0"
        raise DataProblems(where, problems, expected, REMEDY)
    return [found[name] for name in known if name in found], folds


def find_sample(cell: Any, known: dict[str, Sample], found: dict[str, Sample]) -> Sample:
    """Return the sample of the parent that a row is about."""
    if not isinstance(cell, str) or cell not in known:
        raise ValueError("no sample_id of the parent")
    if cell in found:
        raise ValueError("a second row of this sample, expected one")
    return known[cell]


def read_sample(row: dict[str, Any], old: Sample, content: Content, record: TaskRecord) -> Sample:
    """Return a sample as a row has it."""
    for name, value in (("image", old.image), ("group", old.group)):
        if name in row and text_of(row[name]) != value:
            raise ValueError(f"{name} {shorten(text_of(row[name]))}, expected {shorten(value)} as it was")
    split = text_of(row["split"])
    accepted = SPLITS[2:] if record.type == "unlabeled" else SPLITS
    if split not in accepted:
        raise ValueError(f"split {shorten(split)}, expected {one_of(accepted)}")
    if split not in LABELLED:
        return old._replace(split=split, target="")
    label = text_of(row[content.column])
    if not label and content.column != "classes":
        raise ValueError(f"split {split} without {content.column}")
    return old._replace(split=split, target=LABELS[content.column](label, old, content.classes))


def text_of(cell: Any) -> str:
    """Return a cell as text, empty if it is missing."""
    return "" if cell is None else str(cell)


def read_fold(cell: Any, sample: str, content: Content) -> int:
    """Return the fold of a training sample."""
    if cell is None and sample in content.folds:
        return content.folds[sample]
    match = FOLD.fullmatch(text_of(cell))
    if not match or int(match[1]) >= content.n_folds:
        fold = "no fold" if cell is None else f"fold {shorten(text_of(cell))}"
        raise ValueError(f"{fold} in split train, expected a whole number from 0 to {content.n_folds - 1}")
    return int(match[1])


def read_class(label: str, old: Sample, classes: Sequence[str]) -> str:  # noqa: ARG001
    """Return one of the classes."""
    if label not in classes:
        raise ValueError(f"class {shorten(label)}, expected {one_of(classes)}")
    return label


def read_classes(label: str, old: Sample, classes: Sequence[str]) -> str:
    """Return some of the classes, in their order."""
    names = [read_class(name, old, classes) for name in label.split(";") if name]
    return ";".join(name for name in classes if name in names)


def read_soft_classes(label: str, old: Sample, classes: Sequence[str]) -> str:  # noqa: ARG001
    """Return a number from 0 to 1 for each class."""
    cells = label.split(";")
    if len(cells) != len(classes):
        raise ValueError(f"soft_classes {shorten(label)}, expected {len(classes)} numbers joined by `;`")
    return ";".join(repr(share(cell)) for cell in cells)


def read_value(label: str, old: Sample, classes: Sequence[str]) -> str:  # noqa: ARG001
    """Return a finite number."""
    return repr(read_number(label))


def read_mask(label: str, old: Sample, classes: Sequence[str]) -> str:  # noqa: ARG001
    """Return the mask that the sample has."""
    if label != old.target:
        raise ValueError(f"mask {shorten(label)}, expected {shorten(old.target)} as it was")
    return label


LABELS: dict[str, Callable[[str, Sample, Sequence[str]], str]] = {
    "class": read_class,
    "classes": read_classes,
    "soft_classes": read_soft_classes,
    "value": read_value,
    "mask": read_mask,
}


def check_task(
    samples: Sequence[Sample], folds: dict[str, int], content: Content, record: TaskRecord, where: str
) -> None:
    """Raise `DataError` if there are no samples, if groups are torn apart, or a class is no longer learned."""
    if not samples:
        raise DataError(where, Words("a table without rows"), "at least one sample", REMEDY)
    for word, parts in (
        ("split", [sample.split if sample.split in LABELLED else None for sample in samples]),
        ("fold", [folds.get(sample.sample_id) for sample in samples]),
    ):
        problems = [
            Problem(
                f"group {shorten(samples[one].group)}",
                f"sample_id {shorten(samples[one].sample_id)} in {word} {parts[one]}, "
                f"{shorten(samples[two].sample_id)} in {word} {parts[two]}",
            )
            for one, two in spanning([sample.group for sample in samples], parts)
        ]
        if problems:
            raise DataProblems(where, problems, f"no group in more than one {word}", REMEDY)
    if record.type == "classification":
        check_classes(samples, content, where)


def check_classes(samples: Sequence[Sample], content: Content, where: str) -> None:
    """Raise `DataProblems` if a class has lost all its training samples."""
    left = {sample.target for sample in samples if sample.split == "train"}
    before = {sample.target for sample in content.train}
    problems = [Problem(f"class {name!r}", "no training sample") for name in content.classes if name in before - left]
    if problems:
        raise DataProblems(where, problems, "training samples of every class", "Leave classes out by a tag +classes.")
