"""Medical files of which each becomes one or several images: found, converted, and annotated by folder or table."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from foldwise.config.definition import DatasetRecord
from foldwise.errors import NOTHING, DataError, DataProblems, Problem, Words
from foldwise.tasks.decode import Unreadable
from foldwise.tasks.sources.convert import write_images
from foldwise.tasks.sources.files import CLUTTER, UNUSABLE, Files, ImageRoot, check_folder, find_splits
from foldwise.tasks.sources.folder import bad_classes, folders_below, place, wrapping
from foldwise.tasks.sources.listing import Listing, Raw, Report
from foldwise.tasks.sources.table import base_folder, find_table, read_columns, row_places, row_word

# What readers raise on damaged files.
DAMAGED: tuple[type[Exception], ...] = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    MemoryError, struct.error, zlib.error,
)  # fmt: skip
MAX_REASON = 200


class Kind(NamedTuple):
    """A kind of medical file.

    Parameters
    ----------
    name : str
        What messages call it.
    test : callable
        Tells whether a file is one.
    stem : callable
        Returns its path without suffix.
    """

    name: str
    test: Callable[[Path], bool]
    stem: Callable[[str], str]


@dataclass(frozen=True)
class Scans:
    """The files of a source.

    Parameters
    ----------
    root : Path
        The folder that their paths are relative to.
    stems : dict of str to str
        Path without suffix of each file, by its path.
    masks : Path or None
        The folder of masks, if there is one.
    rows : list of str
        The file that each row of annotations is about.
    columns : dict of str to list of str
        Annotations by column.
    """

    root: Path
    stems: dict[str, str]
    masks: Path | None
    rows: list[str]
    columns: dict[str, list[str]]


class Converted(NamedTuple):
    """What becomes of a file.

    Parameters
    ----------
    pieces : int
        Number of images; none if the file is about something else.
    images : iterable of ndarray
        Their pixels.
    group : str
        What must not be split between folds.
    masks : iterable of ndarray or None
        Class index of each pixel, an array for each image.
    mask_name : str
        What messages call the mask.
    """

    pieces: int
    images: Iterable[np.ndarray]
    group: str
    masks: Iterable[np.ndarray] | None = None
    mask_name: str = ""


def find_scans(record: DatasetRecord, raw: Raw, kind: Kind) -> Scans:
    """Find the files of a source and what is known about them.

    Raises
    ------
    MissingData, DataError
        If there are none, or a folder or table is not there.
    DataProblems
        Naming files that cannot be used, or rows of the table that name no file.
    """
    base = base_folder(raw.source)
    masks = mask_folder(record, base)
    root = image_folder(record, raw, base, masks)
    alone = raw.source.is_file() and not record.table
    found = [raw.source.name] if alone else walk(root, masks)
    stems = {path: kind.stem(path) for path in found if kind.test(root / path)}
    if not stems:
        raise DataError(root, Words(f"no {kind.name} file ({len(found)} other files)"), f"{kind.name} files")
    check_names(root, stems)
    if record.table:
        rows, columns = read_rows(record, raw, ImageRoot(root), stems)
    else:
        rows, columns = list(stems), place_files(root, stems)
    if masks:
        columns.pop("mask" if record.table else "class", None)
    return Scans(root, {path: stems[path] for path in dict.fromkeys(rows)}, masks, rows, columns)


def mask_folder(record: DatasetRecord, base: Path) -> Path | None:
    """Return the folder of masks: the one named, else ``masks`` if it is there."""
    folder = base / (record.masks or "masks")
    if record.masks:
        check_folder(folder)
    return folder if folder.is_dir() else None


def image_folder(record: DatasetRecord, raw: Raw, base: Path, masks: Path | None) -> Path:
    """Return the folder of images: the one named; else ``images`` beside masks; else where the table is."""
    if record.images:
        check_folder(base / record.images)
        return base / record.images
    if masks and (base / "images").is_dir():
        return base / "images"
    return find_table(record, raw.source).parent if record.table else base


def walk(root: Path, left_out: Path | None) -> list[str]:
    """Return the paths of all files below a folder, sorted; links are followed, each folder is read once."""
    check_folder(root)
    paths, seen = [], {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, followlinks=True):
        kept = []
        for name in sorted(folders):
            real = os.path.realpath(f"{folder}/{name}")
            if not (name.startswith(".") or name in CLUTTER or real in seen or Path(folder, name) == left_out):
                seen.add(real)
                kept.append(name)
        folders[:] = kept
        paths += [Path(folder, name).relative_to(root).as_posix() for name in files if not name.startswith(".")]
    return sorted(paths)


def check_names(root: Path, stems: dict[str, str]) -> None:
    """Raise `DataProblems` if two files would become the same image, or a name cannot be written into a table."""
    first: dict[str, str] = {}
    problems = []
    for path, stem in stems.items():
        other = first.setdefault(stem, path)
        if other != path:
            problems.append(Problem(path, f"becomes the same image as {other}"))
        if UNUSABLE.search(path):
            problems.append(Problem(repr(path), "a name that is not valid UTF-8 or contains a line break"))
    if problems:
        raise DataProblems(root, problems, "files that can be told apart by name", "Rename or remove them.")


def place_files(root: Path, stems: dict[str, str]) -> dict[str, list[str]]:
    """Return split and class of each file, as folders tell them.

    Raises
    ------
    DataProblems
        Naming folders that cannot stand for classes.
    """
    parents = {parent.as_posix() for path in stems for parent in Path(path).parents} - {"."}
    files = Files(sorted(stems), sorted(parents), 0, 0)
    prefix = wrapping(files)
    splits = find_splits(folders_below(files, prefix))
    placed = [place(path, len(prefix), splits) for path in stems]
    problems = bad_classes({label for _, label in placed})
    if problems:
        raise DataProblems(root, problems, "folders that can stand for classes", "Rename them.")
    return {"split": [split for split, _ in placed], "class": [label for _, label in placed]}


def read_rows(
    record: DatasetRecord, raw: Raw, root: ImageRoot, stems: dict[str, str]
) -> tuple[list[str], dict[str, list[str]]]:
    """Read a table; returns the file of each row, and all other columns."""
    table = find_table(record, raw.source)
    columns = read_columns(table, record.image_column)
    cells = columns.pop(record.image_column)
    if "image" in columns:
        found = Words(f"a column image beside {record.image_column}, which names the images")
        raise DataError(table, found, "no other column of that name", "Rename the column image in the table.")
    known = {**{stem: path for path, stem in stems.items()}, **{path: path for path in stems}}
    rows, reasons = [], {}
    for row, cell in enumerate(cells):
        try:
            rows.append(known[root.relative(cell)])
        except ValueError as error:
            reasons[row] = str(error)
        except KeyError:
            reasons[row] = f"there is no such file {root.root / cell}"
    if reasons:
        places = row_places(table, record.image_column)
        problems = [Problem(f"{table.name} {row_word(table)} {places[row]}", reason) for row, reason in reasons.items()]
        expected = f"in column {record.image_column} a file below {root.root}"
        raise DataProblems(table, problems, expected, "Mend the table, or set images to the folder of the images.")
    return rows, columns


@contextmanager
def damage_told(*more: type[Exception]) -> Iterator[None]:
    """Turn what readers raise on damaged files into a short reason."""
    try:
        yield
    except (*DAMAGED, *more) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(f"cannot be read ({text[:MAX_REASON]})") from error


def write_scans(scans: Scans, kind: Kind, raw: Raw, report: Report, convert: Callable[[str], Converted]) -> Listing:
    """Write the images of all files and list them, each with the annotations of its file; tell files that are broken.

    Parameters
    ----------
    scans : Scans
        The files.
    kind : Kind
        What they are.
    raw : Raw
        Where images and masks are written.
    report : callable
        Receives lines of progress.
    convert : callable
        Opens a file by its path; raises `Unreadable`, as may its images and masks.

    Raises
    ------
    DataError
        If the files are whole, but hold no image.
    """
    pieces: dict[str, list[str]] = {}
    groups: dict[str, str] = {}
    masked: set[str] = set()
    problems: dict[str, Problem] = {}

    def files() -> Iterator[tuple[str, np.ndarray]]:
        taken: dict[str, str] = {}
        without = unlabeled(scans)
        for file, stem in scans.stems.items():
            try:
                converted = convert(file)
                pieces[file], groups[file] = piece_names(stem, converted.pieces), converted.group
                for name in pieces[file]:
                    if taken.setdefault(name, file) != file:
                        raise Unreadable(f"becomes the same image {name} as {taken[name]}")
                if converted.masks is not None:
                    masked.add(file)
                elif scans.masks and converted.pieces and file not in without:
                    raise Unreadable(f"no mask in {scans.masks}")
                yield from images_and_masks(pieces[file], converted)
            except Unreadable as error:
                problems[file] = Problem(file, error.reason)
                pieces[file] = []

    write_images(raw.folder, files(), report)
    if not problems and not any(pieces.values()):
        raise DataError(scans.root, NOTHING, f"at least one image in {kind.name} files")
    return replace(annotate(scans, pieces, groups, masked), problems=problems)


def unlabeled(scans: Scans) -> set[str]:
    """Return the files without labels, which need no mask."""
    splits = scans.columns.get("split", [])
    return {file for file, split in zip(scans.rows, splits, strict=False) if split == "unlabeled"}


def piece_names(stem: str, count: int) -> list[str]:
    """Name the images of a file: one is called like the file, several lie in a folder of its name."""
    if count == 1:
        return [f"{stem}.png"]
    width = max(3, len(str(count - 1)))
    return [f"{stem}/{number:0{width}d}.png" for number in range(count)]


def images_and_masks(names: list[str], converted: Converted) -> Iterator[tuple[str, np.ndarray]]:
    """Yield path and pixels of the images and masks of a file."""
    masks: Iterable[np.ndarray | None] = converted.masks if converted.masks is not None else [None] * len(names)
    for name, image, mask in zip(names, converted.images, masks, strict=True):
        yield f"files/{name}", image
        if mask is not None:
            if mask.shape != image.shape[:2]:
                raise Unreadable(f"{describe(image)}, and the mask {converted.mask_name} {describe(mask)}")
            yield f"masks/{name}", mask


def describe(pixels: np.ndarray) -> str:
    """Write the size of an image in words."""
    return f"has {pixels.shape[1]} x {pixels.shape[0]} pixels"


def annotate(scans: Scans, pieces: dict[str, list[str]], groups: dict[str, str], masked: set[str]) -> Listing:
    """Give every image the rows of its file."""
    files = [file for file in scans.rows for _ in pieces[file]]
    images = [name for file in scans.rows for name in pieces[file]]
    counts = [len(pieces[file]) for file in scans.rows]
    columns = {
        column: [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
        for column, values in scans.columns.items()
    }
    if "group" not in columns and any(groups.values()):
        columns["group"] = [groups[file] for file in files]
    if scans.masks:
        pairs = zip(files, images, strict=True)
        columns["mask"] = [f"masks/{name}" if file in masked else "" for file, name in pairs]
    return Listing({name: f"files/{name}" for name in images}, {"image": images, **columns}, [])
