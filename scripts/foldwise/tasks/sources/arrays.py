"""Images and labels in NumPy and HDF5 arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, DataProblems, Problem, Words, nearest
from foldwise.tasks.sources.containers import Named, open_arrays
from foldwise.tasks.sources.convert import Part, image_chunks, layout, mask_chunks, number_names, write_parts
from foldwise.tasks.sources.files import listed_split
from foldwise.tasks.sources.listing import Listing, Raw, Report

SPLITS = ("train", "val", "test", "unlabeled")
PLACEHOLDER = "{split}"
PREFIXES = {True: ("{split}_", "{split}/"), False: ("",)}
TARGETS = ("labels", "targets")
MASKS = ("masks",)
EXTRAS = {"fold": "fold", "group": "group", "ids": "id"}
SHOWN = 40
SHAPES = "(n,), (n, 1), (n, classes), or masks of shape (n, h, w)"


@dataclass(frozen=True)
class ArrayPart:
    """The arrays of one split, or of all samples."""

    split: str | None
    images: Named
    targets: Named | None
    masks: Named | None
    splits: Named | None
    extras: dict[str, Named]


def read_arrays(record: DatasetRecord, raw: Raw, report: Report) -> Listing:
    """Write the images of arrays as PNG files and list them with their labels.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset; `arrays` names the arrays of images and targets.
    raw : Raw
        The ``.npz`` or HDF5 file, or a folder of ``.npy`` files; and where images and masks are written.
    report : callable
        Receives lines of progress.

    Returns
    -------
    Listing
        Images are named ``{split}/{number:06d}.png``. Columns are image, split, and what there is of class, value,
        classes, soft_classes, mask, fold, group, id.

    Raises
    ------
    MissingData, DataError
        If there are no such arrays, their lengths differ, or they have another shape or type; names the array.
    DataProblems
        Naming rows whose targets are not finite or not what the others are.

    Notes
    -----
    Arrays are called ``{split}_images`` (or ``{split}/images``) and ``{split}_labels``, ``{split}_targets``,
    ``{split}_masks``, for splits train, val, test and unlabeled; or ``images`` and ``labels``, ``targets``, ``masks``,
    then perhaps with an array ``split``. Arrays ``fold``, ``group`` and ``ids`` of the same length may be beside them.
    Images of val are for training. Targets mean, by type and shape:

    - whole numbers or bool (n,): class, and value; text (n,): class; floats (n,): value
    - (n, c) of 0 and 1: classes by index; floats between 0 and 1: soft_classes too
    - whole numbers (n, h, w): masks of class indices
    """
    with open_arrays(raw.source) as arrays:
        found = find_parts(arrays, record.arrays, raw)
        parts = [read_part(part) for part in found]
        if not any(part.names for part in parts):
            raise DataError(raw.source, Words("no image in arrays of length 0"), "at least one image")
        return write_parts(agree(found, parts), class_names(found), raw, report)


def find_parts(arrays: Mapping[str, Named], wanted: Mapping[Any, str], raw: Raw) -> list[ArrayPart]:
    """Find the arrays that belong together.

    Raises
    ------
    DataError
        If there are no images, or what the definition names is not there.
    """
    given = wanted.get("images")
    patterns = [given] if given else [f"{prefix}images" for by in (True, False) for prefix in PREFIXES[by]]
    pattern = next((pattern for pattern in patterns if instances(pattern, arrays)), None)
    if pattern is None:
        raise not_there(" or ".join(patterns), arrays, raw)
    by_split = PLACEHOLDER in pattern
    if "targets" in wanted and (PLACEHOLDER in wanted["targets"]) != by_split:
        expected = f"{PLACEHOLDER} in both names or in none; images are {pattern}"
        raise DataError(raw.source, Words(f"arrays.targets {wanted['targets']}"), expected)
    return [find_part(arrays, wanted, image, split, raw) for split, image in instances(pattern, arrays).items()]


def instances(pattern: str, arrays: Mapping[str, Named]) -> dict[str | None, Named]:
    """Return the arrays that a name stands for, by split."""
    if PLACEHOLDER not in pattern:
        return {None: arrays[pattern]} if pattern in arrays else {}
    names = {split: pattern.replace(PLACEHOLDER, split) for split in SPLITS}
    return {split: arrays[name] for split, name in names.items() if name in arrays}


def find_part(
    arrays: Mapping[str, Named], wanted: Mapping[Any, str], images: Named, split: str | None, raw: Raw
) -> ArrayPart:
    """Find what belongs to an array of images."""

    def find(names: tuple[str, ...]) -> Named | None:
        full = [prefix.replace(PLACEHOLDER, split or "") + name for prefix in PREFIXES[bool(split)] for name in names]
        return next((arrays[name] for name in full if name in arrays), None)

    targets = find(TARGETS)
    if "targets" in wanted:
        name = wanted["targets"].replace(PLACEHOLDER, split or "")
        targets = arrays.get(name)
        if targets is None and split != "unlabeled":
            raise not_there(name, arrays, raw)
    extras = {column: array for name, column in EXTRAS.items() if (array := find((name,)))}
    part = ArrayPart(split, images, targets, find(MASKS), None if split else find(("split",)), extras)
    if part.masks is part.targets:
        part = ArrayPart(split, images, targets, None, part.splits, extras)
    check_lengths(part)
    return part


def not_there(names: str, arrays: Mapping[str, Named], raw: Raw) -> DataError:
    """Return the error that there is no array of a name; lists those that there are."""
    shown = ", ".join(list(arrays)[:SHOWN]) + (f" and {len(arrays) - SHOWN} more" if len(arrays) > SHOWN else "")
    found = Words(f"arrays {shown}" if arrays else "no array")
    hint = nearest(names.replace(PLACEHOLDER, "train"), arrays)
    remedy = f"{hint} Set arrays.images and arrays.targets to the names of arrays.".lstrip()
    return DataError(raw.source, found, f"an array {names}", remedy)


def check_lengths(part: ArrayPart) -> None:
    """Raise `DataError` if arrays that belong together differ in length."""
    others = [array for array in (part.targets, part.masks, part.splits, *part.extras.values()) if array]
    for array in (part.images, *others):
        if not array.shape:
            raise DataError(array.where, Words(f"array {array.name} with a single value"), "one value a sample")
        if array.shape[0] != part.images.shape[0]:
            found = Words(f"array {array.name} of length {array.shape[0]}")
            raise DataError(array.where, found, f"length {part.images.shape[0]}, as {part.images.name} has")


def read_part(part: ArrayPart) -> Part:
    """Check the arrays of a part and read all but the images."""
    count = part.images.shape[0]
    columns = {column: texts(array) for column, array in part.extras.items()}
    masks = part.masks
    if part.targets and is_mask(part.targets):
        masks = part.targets
    elif part.targets:
        columns |= target_columns(part.targets)
    if part.splits:
        splits = read_splits(part.splits)
        names = [f"{split}/{number:06d}.png" for number, split in enumerate(splits)]
    else:
        names = number_names(part.split or "train", count)
        splits = [part.split or "train"] * count
    columns = {"split": [listed_split(split) for split in splits], **columns}
    return Part(names, open_images(part.images), columns, open_masks(masks, part.images) if masks else None)


def open_images(images: Named) -> Iterator[np.ndarray]:
    """Return the pixels of images, a few at a time."""
    layout(images.shape, images.where, images.name)
    return opened(images, lambda array: image_chunks(array, images.where, images.name))


def open_masks(masks: Named, images: Named) -> Iterator[np.ndarray]:
    """Return class indices, a few masks at a time."""
    size = layout(images.shape, images.where, images.name).size
    return opened(masks, lambda array: mask_chunks(array, size, masks.where, masks.name))


def opened(array: Named, read: Callable[[Any], Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    """Yield what is read from an array; it is opened when the first is wanted, and not kept."""
    yield from read(array.open())


def is_mask(targets: Named) -> bool:
    """Tell whether targets have the shape of masks."""
    return len(targets.shape) == 3 or (len(targets.shape) == 4 and targets.shape[3] == 1)


def is_several(targets: Named | None) -> bool:
    """Tell whether targets have a number for each class."""
    return targets is not None and len(targets.shape) == 2 and targets.shape[1] > 1


def class_names(found: Sequence[ArrayPart]) -> list[str]:
    """Return the names of classes where an array has a column for each of them."""
    counts = [part.targets.shape[1] for part in found if part.targets and is_several(part.targets)]
    return [str(number) for number in range(max(counts, default=0))]


def agree(found: Sequence[ArrayPart], parts: Sequence[Part]) -> list[Part]:
    """Leave `classes` out where only some of the splits have them: the others hold fractions.

    Raises
    ------
    DataError
        If the targets of two splits are of different kinds.
    """
    labelled = [(part.targets, read) for part, read in zip(found, parts, strict=True) if part.targets]
    for targets, read in labelled:
        first, other = labelled[0]
        if kind_of(targets, read) != kind_of(first, other):
            got = Words(f"array {targets.name} of type {targets.dtype} and shape {targets.shape}")
            expected = f"the same kind of targets as {first.name}, of type {first.dtype} and shape {first.shape}"
            raise DataError(targets.where, got, expected)
    if all("classes" in read.columns for _, read in labelled):
        return list(parts)
    return [
        part._replace(columns={name: values for name, values in part.columns.items() if name != "classes"})
        for part in parts
    ]


def kind_of(targets: Named, part: Part) -> tuple[Any, ...]:
    """Return what must not differ between splits."""
    if is_several(targets):
        return targets.dtype.kind == "f", targets.shape[1]
    return is_mask(targets), *(column for column in ("class", "value") if column in part.columns)


def target_columns(targets: Named) -> dict[str, list[str]]:
    """Return the columns that an array of targets fills.

    Raises
    ------
    DataError
        If it is neither numbers nor text, or of another shape.
    DataProblems
        Naming rows that are not finite, or outside of what the array must hold.
    """
    shape = targets.shape
    if len(shape) > 2 or (len(shape) == 2 and shape[1] == 0):
        raise DataError(targets.where, Words(f"array {targets.name} of shape {shape}"), SHAPES)
    values = np.asarray(targets.open()[()])
    if len(shape) == 2 and shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind not in "biufUS":
        raise DataError(targets.where, Words(f"array {targets.name} of type {targets.dtype}"), "numbers or text")
    if values.dtype.kind == "f":
        refuse_rows(targets, ~np.isfinite(values), values, "a finite number")
    if values.ndim == 2:
        return several_columns(targets, values)
    if values.dtype.kind == "f":
        return {"value": list(map(str, values))}
    if values.dtype.kind in "US":
        return {"class": texts(targets)}
    whole = list(map(str, values.astype(np.int8).tolist() if values.dtype == bool else values.tolist()))
    return {"class": whole, "value": whole}


def several_columns(targets: Named, values: np.ndarray) -> dict[str, list[str]]:
    """Return the columns of targets with one number for each class."""
    if values.dtype.kind in "US":
        raise DataError(targets.where, Words(f"text of shape {targets.shape} in {targets.name}"), "text of shape (n,)")
    fractions = values.dtype.kind == "f"
    bad = (values < 0) | (values > 1)
    refuse_rows(targets, bad, values, "a number between 0 and 1" if fractions else "0 or 1")
    columns = {}
    if np.isin(values, (0, 1)).all():
        columns["classes"] = [";".join(map(str, np.flatnonzero(row))) for row in values]
    if fractions:
        columns["soft_classes"] = [";".join(map(str, row)) for row in values]
    return columns


def refuse_rows(array: Named, bad: np.ndarray, values: np.ndarray, expected: str) -> None:
    """Raise `DataProblems` if there are bad values; names their rows."""
    if bad.any():
        rows = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
        problems = [Problem(f"{array.name} row {row}", str(values[row][bad[row]].ravel()[0])) for row in rows]
        raise DataProblems(array.where, problems, f"{expected} in each row", "Mend or remove these samples.")


def texts(array: Named) -> list[str]:
    """Return an array of text or whole numbers as text."""
    if len(array.shape) not in (1, 2) or (len(array.shape) == 2 and array.shape[1] != 1):
        raise DataError(array.where, Words(f"array {array.name} of shape {array.shape}"), "shape (n,)")
    if array.dtype.kind not in "iuUSO":
        raise DataError(array.where, Words(f"array {array.name} of type {array.dtype}"), "text or whole numbers")
    values = np.asarray(array.open()[()]).reshape(-1)
    if values.dtype.kind == "S":
        try:
            return [value.decode() for value in values.tolist()]
        except UnicodeDecodeError as error:
            raise DataError(array.where, Words(f"bytes in array {array.name}"), "text in UTF-8") from error
    return list(map(str, values.tolist()))


def read_splits(array: Named) -> list[str]:
    """Return the split of each sample.

    Raises
    ------
    DataProblems
        Naming rows with another word.
    """
    splits = texts(array)
    problems = [
        Problem(f"{array.name} row {row}", repr(split)) for row, split in enumerate(splits) if split not in SPLITS
    ]
    if problems:
        raise DataProblems(array.where, problems, f"one of {', '.join(SPLITS)} in each row")
    return splits
