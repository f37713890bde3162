"""Annotations in the format of COCO (https://cocodataset.org/#format-data): objects of categories, drawn as masks."""

from __future__ import annotations

import json
import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from foldwise.artifacts import reading, write_many
from foldwise.config.definition import DatasetRecord
from foldwise.errors import NOTHING, DataError, DataProblems, Problem, Words
from foldwise.tasks.embedded import encode_png
from foldwise.tasks.sources.files import ImageRoot, can_be_class, check_folder
from foldwise.tasks.sources.listing import Listing, Raw
from foldwise.tasks.sources.shapes import draw, parse_shape

BACKGROUND = "background"
SINGULAR = {"images": "image", "categories": "category", "annotations": "annotation"}
KEYS = {
    "images": ("file_name", "width", "height"),
    "categories": ("name",),
    "annotations": ("image_id", "category_id"),
}
COLUMNS = ("image", "split", "group", "classes", "class", "mask")
SHAPES = ("segmentation", "bbox")
MAX_PIXELS = 2**28
MAX_CATEGORIES = 2**16 - 1  # as many as 16 bits can tell from the background
MAX_NAME = 200  # bytes; file systems take 255, and a file that is being written has a longer name
BATCH_FILES, BATCH_BYTES = 2000, 2**26
Id = int | float | str
T = TypeVar("T")


class Image(NamedTuple):
    """An image of a COCO file: its path below ``files``, and its size in pixels."""

    name: str
    height: int
    width: int


@dataclass(frozen=True)
class Annotated:
    """What a COCO file tells.

    Parameters
    ----------
    images : dict of Image
        By id.
    categories : dict of str
        Names by id.
    annotations : dict of list
        Annotations of each image, by its id.
    shapes : str
        Which key holds the shapes of objects: segmentation, bbox, or nothing.
    """

    images: dict[Id, Image]
    categories: dict[Id, str]
    annotations: dict[Id, list[dict[str, Any]]]
    shapes: str


def image_root(record: DatasetRecord, raw_source: Path) -> Path:  # noqa: ARG001
    """Return the folder that ``files`` must be."""
    return raw_source.parent if raw_source.is_file() else raw_source


def read_coco(record: DatasetRecord, raw: Raw) -> Listing:
    """Read COCO files and draw their objects as index masks, a PNG file an image below ``masks``.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset.
    raw : Raw
        The folder of images and annotations, or the file of annotations.

    Returns
    -------
    Listing
        With columns image, split, group (empty), classes, class (if there is exactly one) and mask (if any object
        has a shape). The classes are the categories by id; with masks, ``background`` precedes them.

    Raises
    ------
    MissingData, DataError
        If there is no such file or it cannot be read.
    DataProblems
        Naming images, categories and annotations that are wrong.

    Notes
    -----
    The value of a pixel is the place of its category, counted from 1, and 0 where there is no object or one of the
    category ``background``. A pixel belongs to a polygon if its centre does. Of objects that overlap, smaller ones
    lie over larger ones, and of equal ones the later. Bounding boxes are drawn only if no annotation of the file
    has a segmentation. Masks have 8 bits, or 16 for more than 255 categories.
    """
    base = image_root(record, raw.source)
    check_folder(base)
    files = {split: base / path for split, path in find_annotations(record, raw.source).items()}
    read = {split: read_file(path, record, base) for split, path in files.items()}
    check_distinct(files, read)
    drawn = any(annotated.shapes for annotated in read.values())
    names = name_classes(files, read, drawn)
    if drawn:
        write_masks(draw_masks(read.values(), names, raw.folder))
    rows = [row for split, annotated in read.items() for row in describe_images(split, annotated, names, drawn)]
    annotations = {column: [row[place] for row in rows] for place, column in enumerate(COLUMNS)}
    return Listing({image: f"files/{image}" for image in annotations["image"]}, annotations, names)


def find_annotations(record: DatasetRecord, source: Path) -> dict[str, str]:
    """Return the path of the file of annotations of each split, relative to the folder of the dataset.

    Raises
    ------
    DataError
        If none is named and there is not exactly one.
    """
    if isinstance(record.annotations, str):
        return {"train": record.annotations}
    if record.annotations:
        return {str(split): path for split, path in record.annotations.items()}
    if source.is_file():
        return {"train": source.name}
    inner, top = (
        sorted(path.relative_to(source).as_posix() for path in source.glob(pattern) if path.is_file())
        for pattern in ("annotations/*.json", "*.json")
    )
    found = inner or top
    if len(found) != 1:
        words = Words(", ".join(found[:20])) if found else NOTHING
        expected = "one file annotations/*.json or *.json"
        raise DataError(source, words, expected, "Set annotations to a file, or to one for train and one for test.")
    return {"train": found[0]}


def read_file(path: Path, record: DatasetRecord, base: Path) -> Annotated:
    """Read and check a COCO file.

    Raises
    ------
    MissingData, DataError, DataProblems
        Naming the file and the ids of what is wrong.
    """
    tree = read_tree(path)
    tables = {kind: index(path, tree[kind], kind) for kind in KEYS}
    if not tables["images"]:
        raise DataError(path, Words("no image"), "at least one")
    folder = folder_of_images(record, base, path, tables["images"])
    images = checked(path, "image", tables["images"], lambda entry: parse_image(entry, folder, base))
    categories = checked(path, "category", tables["categories"], parse_category)
    shapes = next((key for key in SHAPES if any(entry.get(key) for entry in tables["annotations"].values())), "")
    annotations: dict[Id, list[dict[str, Any]]] = {id_: [] for id_ in images}
    checked(
        path, "annotation", tables["annotations"], lambda entry: check_annotation(entry, images, categories, shapes)
    )
    for entry in tables["annotations"].values():
        annotations[entry["image_id"]].append(entry)
    return Annotated(images, categories, annotations, shapes)


def read_tree(path: Path) -> dict[str, Any]:
    """Read a JSON file that has the lists of a COCO file."""
    with reading(path, "a COCO file", "Save it as JSON in UTF-8, or fetch it again."), open(path, "rb") as handle:
        tree = json.load(handle)
    missing = [key for key in KEYS if not isinstance(tree, dict) or not isinstance(tree.get(key), list)]
    if missing:
        raise DataError(path, Words(f"no list {' and no list '.join(missing)}"), f"a COCO file with {', '.join(KEYS)}")
    return cast("dict[str, Any]", tree)


def index(path: Path, entries: list[Any], kind: str) -> dict[Id, dict[str, Any]]:
    """Return the entries of a list by id, after a check of ids and keys."""
    found: dict[Id, dict[str, Any]] = {}
    problems = []
    for number, entry in enumerate(entries, 1):
        id_ = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(id_, Id):
            problems.append(Problem(f"{kind}, entry {number}", "no id"))
            continue
        missing = [key for key in KEYS[kind] if key not in entry]
        if missing:
            problems.append(Problem(f"{SINGULAR[kind]} {id_}", f"no {' and no '.join(missing)}"))
        if id_ in found:
            problems.append(Problem(f"{SINGULAR[kind]} {id_}", "its id occurs more than once"))
        found[id_] = entry
    stop(path, problems)
    return found


def checked(
    path: Path, word: str, entries: Mapping[Id, dict[str, Any]], parse: Callable[[dict[str, Any]], T]
) -> dict[Id, T]:
    """Parse entries and tell the problems of all together."""
    parsed, problems = {}, []
    for id_, entry in entries.items():
        try:
            parsed[id_] = parse(entry)
        except ValueError as error:
            problems.append(Problem(f"{word} {id_}", str(error)))
    stop(path, problems)
    return parsed


def stop(path: Path, problems: list[Problem]) -> None:
    """Raise `DataProblems` if there are any."""
    if problems:
        raise DataProblems(path, problems, "annotations in the format of COCO", "Mend or leave out what is wrong.")


def folder_of_images(record: DatasetRecord, base: Path, path: Path, images: Mapping[Id, dict[str, Any]]) -> ImageRoot:
    """Return the folder that file names are relative to, by default the one of these that holds the first image.

    These are the folder of the dataset, that of the annotations, and ``images``.
    """
    folders = [base / record.images] if record.images else [base, path.parent, base / "images"]
    first = next((str(entry["file_name"]) for entry in images.values()), "")
    roots = [ImageRoot(folder) for folder in folders]
    return next((root for root in roots if root.holds(first)), roots[0])


def parse_image(entry: Mapping[str, Any], folder: ImageRoot, base: Path) -> Image:
    """Read path and size of an image."""
    name, height, width = entry["file_name"], entry["height"], entry["width"]
    if not isinstance(name, str):
        raise ValueError("a file_name that is no text")
    path = folder.relative(name)
    if len(os.fsencode(posixpath.basename(path))) > MAX_NAME:
        raise ValueError(f"a file_name of more than {MAX_NAME} bytes")
    if not all(type(side) is int and side > 0 for side in (height, width)) or height * width > MAX_PIXELS:
        raise ValueError(f"height {height} and width {width}, which are not the size of an image")
    return Image((folder.root / path).relative_to(base).as_posix(), height, width)


def parse_category(entry: Mapping[str, Any]) -> str:
    """Read the name of a category."""
    name = entry["name"]
    if not isinstance(name, str) or not can_be_class(name):
        raise ValueError(f"the name {name!r}, expected text without `;` and control characters")
    return name


def check_annotation(
    entry: dict[str, Any], images: Mapping[Id, Image], categories: Mapping[Id, str], shapes: str
) -> None:
    """Raise `ValueError` if an annotation is of no image or category, or its shape is wrong."""
    for key, known in (("image_id", images), ("category_id", categories)):
        if not isinstance(entry[key], Id) or entry[key] not in known:
            raise ValueError(f"{key} {entry[key]!r}, which is unknown")
    image = images[entry["image_id"]]
    if shapes:
        parse_shape(entry, shapes, image.height, image.width)


def name_classes(files: Mapping[str, Path], read: Mapping[str, Annotated], drawn: bool) -> list[str]:
    """Return the names of the classes: those of all categories in the order of ids, after background if drawn.

    Raises
    ------
    DataProblems
        If two categories have one name, one has two, or there are too many for masks.
    """
    names: dict[Id, str] = {}
    for split, annotated in read.items():
        others = [(id_, name, names[id_]) for id_, name in annotated.categories.items() if names.get(id_, name) != name]
        stop(
            files[split],
            [Problem(f"category {id_}", f"{name!r} here, {other!r} before") for id_, name, other in others],
        )
        names |= annotated.categories
        counts = Counter(names.values())
        doubles = [(id_, name) for id_, name in names.items() if counts[name] > 1]
        stop(files[split], [Problem(f"category {id_}", f"{name!r} like another one") for id_, name in doubles])
        if drawn and len(names) > MAX_CATEGORIES:
            raise DataError(files[split], Words(f"{len(names)} categories"), f"at most {MAX_CATEGORIES} for masks")
    ordered = [names[id_] for id_ in sorted(names, key=lambda id_: (isinstance(id_, str), id_))]
    return [BACKGROUND, *(name for name in ordered if name != BACKGROUND)] if drawn else ordered


def check_distinct(files: Mapping[str, Path], read: Mapping[str, Annotated]) -> None:
    """Raise `DataProblems` if an image file occurs more than once, in one file of annotations or in several."""
    seen: dict[str, str] = {}
    for split, annotated in read.items():
        problems = []
        for id_, image in annotated.images.items():
            other = seen.setdefault(image.name, f"image {id_} in {files[split].name}")
            if other != f"image {id_} in {files[split].name}":
                problems.append(Problem(f"image {id_}", f"the same file as {other}: {image.name}"))
        stop(files[split], problems)


def draw_masks(read: Iterable[Annotated], names: list[str], folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield file and content of the mask of each image."""
    values = {name: value for value, name in enumerate(names)}
    dtype = np.uint8 if len(names) <= 2**8 else np.uint16
    for annotated in read:
        for id_, image in annotated.images.items() if annotated.shapes else ():
            shapes = [
                (shape, values[annotated.categories[entry["category_id"]]])
                for entry in annotated.annotations[id_]
                if (shape := parse_shape(entry, annotated.shapes, image.height, image.width))
            ]
            yield folder / mask_of(image), encode_png(draw(shapes, image.height, image.width, dtype))


def mask_of(image: Image) -> str:
    """Return the path of a mask relative to the dataset's folder; images that differ in the suffix have two."""
    return f"masks/{image.name}.png"


def write_masks(masks: Iterable[tuple[Path, bytes]]) -> None:
    """Write masks, as many at once as fit in little memory."""
    batch: dict[Path, bytes] = {}
    size = 0
    for path, content in masks:
        batch[path] = content
        size += len(content)
        if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
            write_many(batch)
            batch, size = {}, 0
    write_many(batch)


def describe_images(split: str, annotated: Annotated, names: list[str], drawn: bool) -> Iterator[tuple[str, ...]]:
    """Yield a row of `COLUMNS` for each image."""
    places = {name: place for place, name in enumerate(names)}
    for id_, image in annotated.images.items():
        found = {annotated.categories[entry["category_id"]] for entry in annotated.annotations[id_]}
        classes = sorted(found - {BACKGROUND} if drawn else found, key=places.__getitem__)
        mask = mask_of(image) if annotated.shapes else ""
        yield image.name, split, "", ";".join(classes), classes[0] if len(classes) == 1 else "", mask
