"""Arrays turned into PNG files, in bounded batches.

What becomes of the values, by type:

========================  ==================================================================
uint8                     written as they are
bool                      0 and 255
uint16                    one channel: 16-bit grey; several: the upper 8 bits of each
floats from 0 to 1        times 255, rounded
other numbers             refused, unless a window says which of them are black and white:
                          then 16-bit grey
========================  ==================================================================
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from foldwise.artifacts import write_many
from foldwise.errors import DataError, Words
from foldwise.tasks.sources.listing import Listing, Raw, Report

BATCH_FILES = 1000
BATCH_BYTES = 64 * 2**20
CHUNK_BYTES = 16 * 2**20
ENCODED_AT_ONCE = 32
COMPRESSION = 1  # level 6 takes twice the time on photographs and saves 13 % of the bytes, nothing on small images
THREADS = min(4, os.cpu_count() or 1)
CHANNELS = (1, 3, 4)
SHAPES = "(n, h, w), (n, h, w, 1), (n, h, w, 3) or (n, h, w, 4), or with channels before height and width"
TYPES = "uint8, uint16, bool, or floats between 0 and 1"
REMEDY = "Convert it to uint8 or uint16."
Content = np.ndarray | bytes


def write_images(folder: Path, files: Iterable[tuple[str, Content]], report: Report, total: int | None = None) -> None:
    """Write many image files; those that hold these bytes already are left as they are.

    Parameters
    ----------
    folder : Path
        The dataset's own folder.
    files : iterable of (str, ndarray or bytes)
        Path of each file relative to `folder`, and its pixels (uint8 of shape (h, w), (h, w, 3) or (h, w, 4), or
        uint16 of shape (h, w)), or the bytes of an image file. They are taken one after another, a batch at a time.
    report : callable
        Receives a line of progress after each batch.
    total : int, optional
        How many files there are, for the report.
    """
    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for batch in batches(files):
            groups = [batch[start : start + ENCODED_AT_ONCE] for start in range(0, len(batch), ENCODED_AT_ONCE)]
            write_many({folder / path: content for path, content in chain.from_iterable(pool.map(encode_all, groups))})
            done += len(batch)
            report(f"{done}{'' if total is None else f' of {total}'} files")


def batches(files: Iterable[tuple[str, Content]]) -> Iterator[list[tuple[str, Content]]]:
    """Yield lists of files that are bounded in number and in bytes."""
    batch: list[tuple[str, Content]] = []
    size = 0
    for path, content in files:
        batch.append((path, content))
        size += len(content) if isinstance(content, bytes) else content.nbytes
        if len(batch) == BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def encode_all(files: Sequence[tuple[str, Content]]) -> list[tuple[str, bytes]]:
    """Return the bytes of several files."""
    return [(path, content if isinstance(content, bytes) else encode_png(content)) for path, content in files]


def encode_png(pixels: np.ndarray) -> bytes:
    """Return the bytes of a PNG file; the same for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", compress_level=COMPRESSION)
    return buffer.getvalue()


class Layout(NamedTuple):
    """Where the axes of an array of images are.

    Parameters
    ----------
    first : bool
        Whether channels come before height and width.
    size : tuple of int
        Height and width.
    """

    first: bool
    size: tuple[int, int]


def layout(shape: tuple[int, ...], where: str | Path, name: str) -> Layout:
    """Tell where the axes of images are.

    Raises
    ------
    DataError
        If an array of that shape cannot be images; names file and array.
    """
    first = len(shape) == 4 and shape[1] in CHANNELS and shape[3] not in CHANNELS
    channels = shape[1 if first else 3] if len(shape) == 4 else 1
    if len(shape) not in (3, 4) or channels not in CHANNELS or 0 in shape[1:]:
        raise DataError(where, Words(f"array {name} of shape {tuple(shape)}"), SHAPES)
    return Layout(first, (shape[2], shape[3]) if first else (shape[1], shape[2]))


def image_chunks(array: Any, where: str | Path, name: str) -> Iterator[np.ndarray]:
    """Yield images as pixels that PNG files can hold, a few at a time.

    Parameters
    ----------
    array : array
        In memory or on disk: anything with `shape`, `dtype` and slices along its first axis.
    where : str or Path
        What messages name: the file that holds it.
    name : str
        Name of the array.

    Yields
    ------
    ndarray
        uint8 of shape (n, h, w) or (n, h, w, c), or uint16 of shape (n, h, w).

    Raises
    ------
    DataError
        If the array does not have the shape or type of images.
    """
    first, _ = layout(tuple(array.shape), where, name)
    check_type(array, where, name)
    for chunk in slices(array):
        last = np.moveaxis(chunk, 1, -1) if first else chunk
        yield to_pixels(last[..., 0] if last.ndim == 4 and last.shape[-1] == 1 else last)


def slices(array: Any) -> Iterator[np.ndarray]:
    """Yield rows of an array, so many at a time that they take little memory."""
    count, *shape = array.shape
    rows = max(1, CHUNK_BYTES // max(1, int(np.prod(shape, dtype=np.int64)) * array.dtype.itemsize))
    for start in range(0, count, rows):
        yield np.asarray(array[start : start + rows])


def check_type(array: Any, where: str | Path, name: str) -> None:
    """Raise `DataError` if the values of an array cannot be shown without a choice that the user must make."""
    if array.dtype == bool or (array.dtype.kind == "u" and array.dtype.itemsize <= 2):
        return
    if array.dtype.kind not in "iuf":
        raise DataError(where, Words(f"array {name} of type {array.dtype}"), TYPES, REMEDY)
    low, high = value_range(array)
    if array.dtype.kind != "f" or not (low >= 0 and high <= 1):
        found = "with NaN" if np.isnan(low) else f"between {low:.6g} and {high:.6g}"
        raise DataError(where, Words(f"array {name} of type {array.dtype} {found}"), TYPES, REMEDY)


def value_range(array: Any) -> tuple[float, float]:
    """Return the lowest and the highest value of an array; both are NaN if one of the values is."""
    ranges = [(float(chunk.min()), float(chunk.max())) for chunk in slices(array) if chunk.size]
    if not ranges:
        return 0.0, 0.0
    lows, highs = zip(*ranges, strict=True)
    return float(np.min(lows)), float(np.max(highs))


def to_pixels(values: np.ndarray) -> np.ndarray:
    """Turn values of an accepted type into those of a PNG file, as the module describes."""
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "f":
        return np.round(values.astype(np.float64) * 255).astype(np.uint8)
    if values.dtype.itemsize == 2:
        return (values >> 8).astype(np.uint8) if values.ndim == 4 else values.astype(np.uint16)
    return values


def show(values: np.ndarray, low: float, high: float, top: int = 65535) -> np.ndarray:
    """Scale intensities so that `low` is black and `high` white; NaN is black, and so is everything if both are equal.

    Returns
    -------
    ndarray of uint16, or of uint8 if `top` is at most 255
    """
    values = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    scaled = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    return np.round(scaled * top).astype(np.uint8 if top <= 255 else np.uint16)


def mask_chunks(array: Any, size: tuple[int, int], where: str | Path, name: str) -> Iterator[np.ndarray]:
    """Yield masks as class indices, uint8 of shape (n, h, w), a few at a time.

    Raises
    ------
    DataError
        If they are no whole numbers from 0 to 255, or of another height and width than the images.
    """
    shape = tuple(array.shape)
    if shape[1:] not in (size, (*size, 1)):
        raise DataError(where, Words(f"masks {name} of shape {shape}"), f"(n, {size[0]}, {size[1]}) as the images have")
    start = 0
    for chunk in slices(array):
        yield to_indices(chunk.reshape(len(chunk), *size), where, f"masks {name} from row {start}")
        start += len(chunk)


def to_indices(values: np.ndarray, where: str | Path, name: str) -> np.ndarray:
    """Return class indices as uint8.

    Raises
    ------
    DataError
        If they are no whole numbers from 0 to 255.
    """
    if values.dtype in (np.bool_, np.uint8):
        return values.astype(np.uint8)
    if values.dtype.kind not in "iu":
        raise DataError(where, Words(f"{name} of type {values.dtype}"), "class indices of type uint8")
    if values.size and (values.min() < 0 or values.max() > 255):
        raise DataError(where, Words(f"{name} with {values.min()} to {values.max()}"), "class indices from 0 to 255")
    return values.astype(np.uint8)


class Part(NamedTuple):
    """Some images of a source, with what is known about them.

    Parameters
    ----------
    names : list of str
        Name of each image: its path below ``files``.
    chunks : iterable of ndarray
        Their pixels, a few images at a time.
    columns : dict of str to list of str
        Annotations.
    masks : iterable of ndarray, optional
        Class index of each pixel, in the same chunks or in others.
    """

    names: list[str]
    chunks: Iterable[np.ndarray]
    columns: dict[str, list[str]]
    masks: Iterable[np.ndarray] | None = None


def number_names(folder: str, count: int) -> list[str]:
    """Name images by their number: ``train/000017.png``."""
    return [f"{folder}/{number:06d}.png" for number in range(count)]


def write_parts(parts: Sequence[Part], class_names: list[str], raw: Raw, report: Report) -> Listing:
    """Write the images and masks of all parts.

    Returns
    -------
    Listing
        With the columns of all parts; what one of them does not know is empty.
    """
    total = sum(len(part.names) * (1 if part.masks is None else 2) for part in parts)
    write_images(raw.folder, chain.from_iterable(map(files_of, parts)), report, total)
    names = [name for part in parts for name in part.names]
    described = [part.columns if part.masks is None else with_masks(part) for part in parts]
    columns = dict.fromkeys(chain.from_iterable(described))
    annotations = {"image": names} | {
        column: [
            value
            for part, known in zip(parts, described, strict=True)
            for value in known.get(column, [""] * len(part.names))
        ]
        for column in columns
    }
    return Listing({name: f"files/{name}" for name in names}, annotations, class_names)


def files_of(part: Part) -> Iterator[tuple[str, np.ndarray]]:
    """Yield path and pixels of all files of a part."""
    pixels = chain.from_iterable(part.chunks)
    yield from ((f"files/{name}", image) for name, image in zip(part.names, pixels, strict=True))
    if part.masks is not None:
        masks = chain.from_iterable(part.masks)
        yield from ((f"masks/{name}", mask) for name, mask in zip(part.names, masks, strict=True))


def with_masks(part: Part) -> dict[str, list[str]]:
    """Return the columns of a part with that of its masks."""
    return {**part.columns, "mask": [f"masks/{name}" for name in part.names]}
