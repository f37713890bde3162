"""Images and labels that a function of the user makes."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foldwise.artifacts import writing
from foldwise.config.definition import DatasetRecord
from foldwise.errors import NOTHING, DataError, Words, nearest, one_of
from foldwise.functions import check_call, failure_told, import_function, lies_below
from foldwise.tasks.decode import oriented_size
from foldwise.tasks.sources.arrays import SPLITS
from foldwise.tasks.sources.convert import Content, image_chunks, layout, to_indices, write_images
from foldwise.tasks.sources.files import SUFFIXES, UNUSUAL, can_be_class, listed_split, stem_of, suffix_of
from foldwise.tasks.sources.listing import IMAGE_SUFFIXES, Listing, Raw, Report

KEYS = ("image", "name", "split", "class", "classes", "soft_classes", "value", "mask", "group", "fold")
MAX_PART = 240  # bytes of a file name; what is written beside it while it is not whole has a longer one
LABEL = "text without `;`, or a whole number"
RELATIVE = "a path without suffix, such as `cats/17`"


@dataclass
class Made:
    """What was made so far: path of each image by its name, and a row of annotations each."""

    paths: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, str]] = field(default_factory=list)
    stems: dict[str, int] = field(default_factory=dict)


def read_python(record: DatasetRecord, raw: Raw, report: Report) -> Listing:
    """Write the images that a function yields and list them.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset: `function` as ``module:function``, its `arguments`, and `path`, a folder in which
        modules are looked for first; by default the working directory.
    raw : Raw
        Where images and masks are written.
    report : callable
        Receives lines of progress.

    Returns
    -------
    Listing
        Images are named by their path below ``files``; columns are image and all keys that occur.

    Raises
    ------
    DataError
        If the function is not there or fails, with its line, or an item is not as described; names function and item.

    Notes
    -----
    The function is called with the folder ``files`` and its arguments, and yields a dictionary for each sample:

    - ``image``: an array (h, w), (h, w, 3) or (h, w, 4) of uint8, uint16, bool, or floats from 0 to 1; an image of
      Pillow; or the path of an image file, absolute or relative to the folder, which is copied as it is unless it
      lies where it belongs
    - ``name``: a path without suffix, different for each sample
    - any of ``split`` (train, val, test, unlabeled), ``class``, ``classes`` (a list), ``soft_classes`` (a list of
      numbers from 0 to 1), ``value`` (a number), ``mask`` (an array of class indices), ``group``, ``fold``; None
      stands for nothing

    It may use one array again and again: what it yields is copied.
    """
    where = record.function or ""
    folder = raw.folder / "files"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    made = Made()
    with search_path(record.path or ".", where):
        function = import_function(where, "Set path to the folder that holds it.")
        check_call(function, where, ["folder"], record.arguments, "Mend it, or `arguments` of the definition.")
        with failure_told(where, function):
            items = function(folder, **record.arguments)
        if isinstance(items, Mapping) or not isinstance(items, Iterable):
            raise DataError(where, Words(f"a function that returns {describe(items)}"), "one that yields dictionaries")
        write_images(raw.folder, files_of(items, made, where, function, folder), report)
    if not made.paths:
        raise DataError(where, Words("a function that yields nothing"), "at least one image")
    columns = [key for key in KEYS[2:] if any(key in row for row in made.rows)]
    annotations = {"image": list(made.paths)} | {key: [row.get(key, "") for row in made.rows] for key in columns}
    return Listing(made.paths, annotations, [])


@contextmanager
def search_path(path: str, where: str) -> Iterator[None]:
    """Let modules be found in a folder first; afterwards the search path and all modules are as they were."""
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise DataError(path, Words("a file") if folder.exists() else NOTHING, f"a folder with the module of {where}")
    before, modules = list(sys.path), dict(sys.modules)
    top = where.partition(":")[0].partition(".")[0]
    if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
        for name in [name for name in modules if name.partition(".")[0] == top]:
            del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
        own = [name for name, found in sys.modules.items() if lies_below(found, folder)]
        for name in own:
            del sys.modules[name]
        sys.modules.update({name: found for name, found in modules.items() if name not in sys.modules})


def files_of(
    items: Iterable[Any], made: Made, where: str, function: Callable[..., Any], folder: Path
) -> Iterator[tuple[str, Content]]:
    """Yield path and content of all files that items need; what they say is added to `made`."""
    iterator, number = None, 0
    while True:
        with failure_told(where, function, number):
            iterator = iter(items) if iterator is None else iterator
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield from files_of_item(item, made, f"{where} item {number}", folder)
        number += 1


def files_of_item(item: Any, made: Made, where: str, folder: Path) -> Iterator[tuple[str, Content]]:
    """Check an item and yield its files.

    Raises
    ------
    DataError
        If it is not as `read_python` describes.
    """
    if not isinstance(item, Mapping):
        raise DataError(where, Words(describe(item)), f"a dictionary with keys {', '.join(KEYS)}")
    unknown = next((key for key in item if key not in KEYS), None)
    if unknown is not None:
        raise DataError(where, Words(f"the key {unknown!r}"), one_of(KEYS), nearest(str(unknown), KEYS))
    given = {key: value for key, value in item.items() if value is not None}
    stem = read_name(given, made, where)
    content, suffix, size = read_image(given.get("image"), where, folder)
    name = f"{stem}{suffix}"
    row = {key: TEXTS[key](given[key], f"{where}: {key}") for key in given if key in TEXTS}
    if not isinstance(content, Path):
        yield f"files/{name}", content
    elif not (folder / name).exists() or not content.samefile(folder / name):
        yield f"files/{name}", content.read_bytes()
    if "mask" in given:
        row["mask"] = f"masks/{stem}.png"
        yield row["mask"], read_mask(given["mask"], size, f"{where}: mask")
    made.paths[name] = f"files/{name}"
    made.rows.append(row)


def read_name(given: Mapping[str, Any], made: Made, where: str) -> str:
    """Return the path of a sample without suffix.

    Raises
    ------
    DataError
        If it cannot be the name of a file, or is not the first of its kind.
    """
    name = given.get("name")
    if not isinstance(name, str):
        raise DataError(where, Words("no name") if name is None else Words(f"the name {name!r}"), RELATIVE)
    if UNUSUAL.search(name) or any(len(part.encode()) > MAX_PART for part in name.split("/")):
        raise DataError(where, Words(f"the name {name!r}"), f"{RELATIVE}, without `..` and hidden folders")
    stem = stem_of(name)
    other = made.stems.setdefault(stem, len(made.rows))
    if other != len(made.rows):
        raise DataError(where, Words(f"the name {name!r}, as item {other} has"), "a name of its own")
    return stem


def read_image(image: Any, where: str, folder: Path) -> tuple[np.ndarray | Path, str, tuple[int, int]]:
    """Return the pixels of an image, or its file; its suffix; its height and width.

    Raises
    ------
    DataError
        If there is none, or it is of another kind.
    """
    if image is None:
        raise DataError(where, Words("no image"), "an array, an image of Pillow, or the path of an image file")
    if isinstance(image, (str, Path)):
        file = folder / image
        if suffix_of(file.name) not in SUFFIXES or not file.is_file():
            found = Words(f"the image {file}{'' if file.is_file() else ', which is no file'}")
            raise DataError(where, found, f"an existing file that ends in {', '.join(IMAGE_SUFFIXES)}")
        with image_told(where), Image.open(file) as opened:
            width, height, _ = oriented_size(opened)
        return file, suffix_of(file.name), (height, width)
    pixels = image if isinstance(image, np.ndarray) else from_pillow(image, where)
    try:
        size = layout((1, *pixels.shape), where, "image").size
    except DataError:
        found = Words(f"an image of shape {pixels.shape}")
        raise DataError(where, found, "(h, w), (h, w, 1), (h, w, 3) or (h, w, 4)") from None
    (chunk,) = image_chunks(pixels[np.newaxis], where, "image")
    return np.array(chunk[0]), ".png", size


def from_pillow(image: Any, where: str) -> np.ndarray:
    """Return the pixels of an image of Pillow; palettes and other colour spaces become RGB."""
    if not isinstance(image, Image.Image):
        raise DataError(where, Words(f"the image {describe(image)}"), "an array, an image of Pillow, or a path")
    with image_told(where):
        if image.mode in ("LA", "PA") or (image.mode == "P" and "transparency" in image.info):
            return np.asarray(image.convert("RGBA"))
        if image.mode in ("1", "L", "RGB", "RGBA", "I", "F") or image.mode.startswith("I;"):
            return np.asarray(image)
        return np.asarray(image.convert("RGB"))


@contextmanager
def image_told(where: str) -> Iterator[None]:
    """Turn what Pillow raises into a message that names the item."""
    try:
        yield
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        found = Words(f"an image that cannot be read ({' '.join(str(error).split())})")
        raise DataError(where, found, "a whole image") from error


def read_mask(mask: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """Return a copy of a mask as class indices.

    Raises
    ------
    DataError
        If it is no array of whole numbers from 0 to 255, or of another size than its image.
    """
    values = np.asarray(mask)
    if values.shape != size:
        raise DataError(where, Words(f"shape {values.shape}"), f"{size}, as the image has")
    return np.array(to_indices(values, where, "a mask"))


def split_text(value: Any, where: str) -> str:
    """Return the split that a sample is listed in."""
    if not isinstance(value, str) or value not in SPLITS:
        found = value if isinstance(value, str) else Words(describe(value))
        raise DataError(where, found, one_of(SPLITS), nearest(str(value), SPLITS))
    return listed_split(value)


def label_text(value: Any, where: str) -> str:
    """Return a class as text."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, int, np.integer)):
        raise DataError(where, Words(describe(value)), LABEL)
    if str(value) == "" or not can_be_class(str(value)):
        raise DataError(where, str(value), LABEL)
    return str(value)


def labels_text(value: Any, where: str) -> str:
    """Return several classes as text."""
    return ";".join(label_text(label, where) for label in listed(value, where))


def fractions_text(value: Any, where: str) -> str:
    """Return a fraction for each class as text."""
    texts = [number_text(fraction, where) for fraction in listed(value, where)]
    outside = next((text for text in texts if not 0 <= float(text) <= 1), None)
    if outside or not texts:
        raise DataError(where, Words(outside or "an empty list"), "numbers from 0 to 1, one a class")
    return ";".join(texts)


def listed(value: Any, where: str) -> list[Any]:
    """Return a list or array of one dimension as a list."""
    if not isinstance(value, (list, tuple)) and not (isinstance(value, np.ndarray) and value.ndim == 1):
        raise DataError(where, Words(describe(value)), "a list")
    return list(value)


def number_text(value: Any, where: str) -> str:
    """Return a finite number as text, with all its digits."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DataError(where, Words(describe(value)), "a number")
    if not math.isfinite(value):
        raise DataError(where, Words(str(value)), "a finite number")
    return str(value)


def group_text(value: Any, where: str) -> str:
    """Return a group as text."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, int, np.integer)):
        raise DataError(where, Words(describe(value)), "text or a whole number")
    return str(value)


def fold_text(value: Any, where: str) -> str:
    """Return the number of a fold as text."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < 0:
        raise DataError(where, Words(describe(value)), "a whole number from 0")
    return str(value)


def describe(value: Any) -> str:
    """Show a value and its type, short."""
    text = " ".join(repr(value).split())
    return f"{text[:60]}{'...' if len(text) > 60 else ''} of type {type(value).__name__}"


TEXTS: dict[str, Callable[[Any, str], str]] = {
    "split": split_text,
    "class": label_text,
    "classes": labels_text,
    "soft_classes": fractions_text,
    "value": number_text,
    "group": group_text,
    "fold": fold_text,
}
