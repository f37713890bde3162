"""Binary formats of known sets: CIFAR records, IDX files, MATLAB files of house numbers.

None of these readers runs code from a file, as unpickling the Python versions of CIFAR would.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from foldwise.artifacts import reading
from foldwise.errors import NOTHING, DataError, MissingData, Words
from foldwise.tasks.sources.convert import CHUNK_BYTES

CIFAR_SIDE = 32
CIFAR_PIXELS = 3 * CIFAR_SIDE**2
IDX_UINT8 = 8
REMEDY = "Delete it and fetch it again."


class Labelled(NamedTuple):
    """Images of a known set with their labels.

    Parameters
    ----------
    labels : ndarray of int64, shape (n, k)
        One or more labels of each image.
    chunks : iterator of ndarray
        uint8 of shape (m, h, w) or (m, h, w, 3), a few images at a time.
    """

    labels: np.ndarray
    chunks: Iterator[np.ndarray]


def find_file(folder: Path, name: str) -> Path:
    """Return the file of a name below a folder, or the same with ``.gz``: downloads may have been extracted.

    Raises
    ------
    MissingData
        If there is none.
    """
    found = [path for wanted in (name, f"{name}.gz") for path in sorted(folder.rglob(wanted)) if path.is_file()]
    if not found:
        raise MissingData(folder / name, NOTHING, "a file of the set", "Fetch the dataset again.")
    return found[0]


def read_cifar(paths: list[Path], label_bytes: int) -> Labelled:
    """Read records of labels and of 32 x 32 pixels, red before green before blue.

    Parameters
    ----------
    paths : list of Path
        The files, read in this order.
    label_bytes : int
        Labels before the pixels of each image: 1 in CIFAR-10; 2 in CIFAR-100, superclass and class.

    Raises
    ------
    DataError
        If a file does not hold whole records.
    """
    files = [map_records(path, label_bytes + CIFAR_PIXELS) for path in paths]
    labels = np.concatenate([records[:, :label_bytes] for records in files]).astype(np.int64)
    return Labelled(labels, cifar_chunks(files, label_bytes))


def map_records(path: Path, size: int) -> np.ndarray:
    """Map a file of records of equal size into memory."""
    with reading(path, "a file of CIFAR records", REMEDY):
        length = path.stat().st_size
        if not length or length % size:
            raise DataError(path, Words(f"{length} bytes"), f"whole records of {size} bytes", REMEDY)
        return np.memmap(path, np.uint8, "r", shape=(length // size, size))


def cifar_chunks(files: list[np.ndarray], label_bytes: int) -> Iterator[np.ndarray]:
    """Yield images with channels last."""
    step = CHUNK_BYTES // CIFAR_PIXELS
    for records in files:
        for start in range(0, len(records), step):
            pixels = records[start : start + step, label_bytes:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE)
            yield np.moveaxis(pixels, 1, -1)


def read_idx(images: Path, labels: Path, transposed: bool) -> Labelled:
    """Read images and labels of a set in the format of MNIST, compressed by gzip or not.

    Parameters
    ----------
    images, labels : Path
        Files with three dimensions and with one.
    transposed : bool
        Whether rows and columns are exchanged in the file, as they are in EMNIST.

    Raises
    ------
    DataError
        If a file is damaged, or the two differ in length.
    """
    (count, *_) = idx_shape(images, 3)
    (labelled,) = idx_shape(labels, 1)
    if count != labelled:
        raise DataError(labels, Words(f"{labelled} labels"), f"{count}, one for each image in {images}", REMEDY)
    values = np.concatenate([np.empty(0, np.uint8), *idx_chunks(labels, 1)]).astype(np.int64)
    chunks = idx_chunks(images, 3)
    return Labelled(values[:, None], (np.swapaxes(chunk, 1, 2) for chunk in chunks) if transposed else chunks)


def open_idx(path: Path) -> BinaryIO:
    """Open a file that may be compressed by gzip."""
    with open(path, "rb") as handle:
        compressed = handle.read(2) == b"\x1f\x8b"
    return cast("BinaryIO", gzip.open(path)) if compressed else open(path, "rb")


def idx_shape(path: Path, dimensions: int) -> tuple[int, ...]:
    """Read the shape of an IDX file.

    Raises
    ------
    DataError
        If it is no IDX file of bytes with so many dimensions.
    """
    with reading(path, "an IDX file", REMEDY), open_idx(path) as handle:
        return read_idx_header(handle, dimensions)


def read_idx_header(handle: BinaryIO, dimensions: int) -> tuple[int, ...]:
    """Read what comes before the values."""
    header = handle.read(4 + 4 * dimensions)
    expected = bytes([0, 0, IDX_UINT8, dimensions])
    if header[:4] != expected or len(header) != 4 + 4 * dimensions:
        raise ValueError(f"begins with {header[:4].hex()}, not {expected.hex()}")
    shape = tuple(int(side) for side in np.frombuffer(header, ">u4", offset=4))
    if 0 in shape[1:]:
        raise ValueError(f"shape {shape}")
    return shape


def idx_chunks(path: Path, dimensions: int) -> Iterator[np.ndarray]:
    """Yield the values of an IDX file, a few rows at a time.

    Raises
    ------
    DataError
        If there are fewer or more than the header says.
    """
    with reading(path, "an IDX file", REMEDY), open_idx(path) as handle:
        count, *shape = read_idx_header(handle, dimensions)
        size = prod(shape)
        step = max(1, CHUNK_BYTES // size)
        for start in range(0, count, step):
            rows = min(step, count - start)
            values = handle.read(rows * size)
            if len(values) != rows * size:
                raise ValueError(f"ends after {start + len(values) // size} of {count} rows")
            yield np.frombuffer(values, np.uint8).reshape(rows, *shape)
        if handle.read(1):
            raise ValueError(f"more than {count} rows")


def read_svhn(path: Path) -> Labelled:
    """Read house numbers: in MATLAB format, one digit an image, 10 for the digit 0.

    Raises
    ------
    DataError
        If the file is damaged or holds other arrays.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    with reading(path, "a MATLAB file with arrays X and y", REMEDY):
        try:
            content = loadmat(path, variable_names=["X", "y"])
        except (NotImplementedError, MatReadError, TypeError) as error:
            raise ValueError(str(error)) from error
        pixels, labels = content["X"], content["y"].reshape(-1)
        if pixels.dtype != np.uint8 or pixels.shape != (32, 32, 3, len(labels)) or labels.dtype.kind not in "iu":
            found = Words(f"X of {pixels.dtype} and shape {pixels.shape}, {len(labels)} labels")
            raise DataError(path, found, "uint8 of shape (32, 32, 3, n), and n labels", REMEDY)
    digits = labels.astype(np.int64)
    step = CHUNK_BYTES // CIFAR_PIXELS
    chunks = (np.moveaxis(pixels[..., start : start + step], -1, 0) for start in range(0, len(labels), step))
    return Labelled(np.where(digits == 10, 0, digits)[:, None], chunks)
