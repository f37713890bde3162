"""JPEG storage: images one after another in files of about 256 MiB, and an index of where each of them is."""

from __future__ import annotations

import os
import shutil
import weakref
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from foldwise.artifacts import flush_to_disk, map_npy
from foldwise.data.chunks import Entry, chunks_to_check, leftover_of
from foldwise.data.rows import Shape, row_numbers
from foldwise.errors import NOTHING, DataError, MissingData, Words

SHARD_BYTES = 2**28


class ShardStore:
    """A folder of files of JPEGs, to which chunks are appended in order; a `Store`.

    Parameters
    ----------
    target : Path
        The folder.
    images : int
        Number of images.
    rows : int
        Images in a chunk.
    shard_bytes : int
        A file that has grown to so many bytes gets no further chunk.

    Attributes
    ----------
    index : ndarray of int64, shape (images, 3)
        File, place in it and length of each image that is there.
    sizes : list of int
        Bytes of each file.
    """

    ordered = True

    def __init__(self, target: Path, images: int, rows: int, shard_bytes: int = SHARD_BYTES) -> None:
        self.target = target
        self.leftover = leftover_of(target)
        self.rows = rows
        self.shard_bytes = shard_bytes
        self.index = np.zeros((images, 3), np.int64)
        self.sizes: list[int] = []
        self.descriptors: list[int] = []

    def open(self, keep: bool) -> bool:
        """Open what an earlier run left, or an empty folder."""
        keep = keep and self.leftover.is_dir()
        if not keep and self.leftover.exists():
            shutil.rmtree(self.leftover)
        self.leftover.mkdir(parents=True, exist_ok=True)
        return keep

    def place(self) -> None:
        """Chunks are given to `add`."""

    def next_place(self) -> tuple[int, int]:
        """Return file and place of the next chunk."""
        if not self.sizes or self.sizes[-1] >= self.shard_bytes:
            return len(self.sizes), 0
        return len(self.sizes) - 1, self.sizes[-1]

    def holds(self, entry: Entry) -> bool:
        """Tell whether the next chunk is as it was written; count it as there."""
        shard, start = self.next_place()
        length = sum(entry.facts["lengths"])
        path = shard_path(self.leftover, shard)
        if not path.is_file() or path.stat().st_size < start + length:
            return False
        with open(path, "rb") as handle:
            handle.seek(start)
            whole = zlib.crc32(handle.read(length)) == entry.crc
        if whole:
            self.note(entry)
        return whole

    def note(self, entry: Entry) -> None:
        """Write the next chunk into the index."""
        shard, start = self.next_place()
        lengths = np.array(entry.facts["lengths"], np.int64)
        rows = slice(entry.number * self.rows, entry.number * self.rows + len(lengths))
        ends = start + np.cumsum(lengths)
        self.index[rows] = np.stack([np.full(len(lengths), shard), ends - lengths, lengths], axis=1)
        self.sizes[shard:] = [int(ends[-1])]

    def start(self) -> None:
        """Cut off what follows the chunks that are there."""
        for number, path in enumerate(sorted(self.leftover.iterdir())):
            if number >= len(self.sizes):
                path.unlink()
        for shard, size in enumerate(self.sizes):
            os.truncate(shard_path(self.leftover, shard), size)
            self.open_shard(shard)

    def open_shard(self, shard: int) -> None:
        """Open a file to append to it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.descriptors.append(os.open(shard_path(self.leftover, shard), flags, 0o666))

    def add(self, entry: Entry, content: bytes | memoryview) -> None:
        """Append a chunk."""
        shard, _ = self.next_place()
        if shard == len(self.descriptors):
            self.open_shard(shard)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self.descriptors[shard], rest) :]
        self.note(entry)

    def sync(self) -> None:
        """Ask the operating system to write all chunks to disk."""
        for descriptor in list(self.descriptors):
            os.fdatasync(descriptor)
        flush_to_disk(self.leftover)

    def publish(self) -> None:
        """Put the folder in the place of the one that was there."""
        if self.target.exists():
            shutil.rmtree(self.target)
        os.replace(self.leftover, self.target)
        flush_to_disk(self.target.parent)

    def close(self) -> None:
        """Close the files."""
        while self.descriptors:
            os.close(self.descriptors.pop())


def shard_path(folder: Path, shard: int) -> Path:
    """Return a file of JPEGs."""
    return folder / f"{shard:05d}.jpegs"


def encode_rows(rows: np.ndarray, quality: int) -> list[bytes]:
    """Encode images as JPEGs whose colours have full resolution.

    Parameters
    ----------
    rows : ndarray of uint8, shape (n, height, width, 3)
        The images.
    quality : int
        1 to 100.
    """
    return [simplejpeg.encode_jpeg(row, quality, "RGB", "444", fastdct=False) for row in rows]


def decode_into(row: np.ndarray, content: bytes) -> None:
    """Decode a JPEG into an image of its size; raise `ValueError` if it is damaged or of another size."""
    if simplejpeg.decode_jpeg(content, "RGB", buffer=row).shape != row.shape:
        raise ValueError("of another size")


class PackedImages:
    """Images in JPEG storage, decoded when they are asked for.

    Parameters
    ----------
    folder : Path
        The folder of the files.
    index : ndarray of int64, shape (n, 3)
        File, place in it and length of each image.
    shape : tuple of int
        The shape that all images would have as one array.
    workers : int
        Threads that decode; they do not wait for each other.
    """

    dtype = np.dtype(np.uint8)
    decodes = True

    def __init__(self, folder: Path, index: np.ndarray, shape: Shape, workers: int) -> None:
        self.folder = folder
        self.index = index
        self.shape = shape
        self.workers = workers
        self.descriptors: list[int] = []
        weakref.finalize(self, close_all, self.descriptors)
        for shard in range(int(index[:, 0].max(initial=-1)) + 1):
            self.descriptors.append(os.open(shard_path(folder, shard), os.O_RDONLY))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Return some images, in the order asked for."""
        if isinstance(rows, int | np.integer):
            return self[[int(rows)]][0]
        wanted = self.index[row_numbers(rows, len(self))].reshape(-1, 3).tolist()
        found = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        bounds = np.linspace(0, len(wanted), self.workers + 1).astype(int).tolist()
        if self.workers == 1:
            self.fill(found, wanted)
            return found
        with ThreadPoolExecutor(self.workers) as pool:
            parts = [pool.submit(self.fill, found[start:stop], wanted[start:stop]) for start, stop in pairwise(bounds)]
            for part in parts:
                part.result()
        return found

    def fill(self, found: np.ndarray, wanted: Sequence[Sequence[int]]) -> None:
        """Decode images into an array, given file, place and length of each."""
        for row, (shard, start, length) in zip(found, wanted, strict=True):
            try:
                decode_into(row, os.pread(self.descriptors[shard], length, start))
            except ValueError as error:
                raise damage_in(self.folder, shard, f"no whole image at byte {start} ({error})") from error


def close_all(descriptors: list[int]) -> None:
    """Close files."""
    while descriptors:
        os.close(descriptors.pop())


def damage_in(folder: Path, shard: int, words: str) -> DataError:
    """Return the error that tells of a damaged file of JPEGs."""
    return DataError(shard_path(folder, shard), Words(words), "the file as written", remedy_of(folder))


def remedy_of(folder: Path) -> str:
    """Say how files of JPEGs are made anew."""
    return f"Delete {folder.parent / 'index.npy'} and run again to make them anew."


def open_packed(
    folder: Path, index: Path, shape: Sequence[int], recorded: Mapping[str, Any], workers: int
) -> PackedImages:
    """Open images in JPEG storage after checking sizes and checksums.

    Parameters
    ----------
    folder, index : Path
        The files of JPEGs, and the index, which is checked before.
    shape : sequence of int
        The shape that the manifest records.
    recorded : mapping
        Images in a chunk, CRC-32 of chunks and bytes of files, as the manifest records them; `chunks_to_check` says
        which chunks are read.
    workers : int
        Threads that decode.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged.
    """
    table = np.asarray(map_npy(index, remedy_of(folder)))
    for shard, size in enumerate(recorded["bytes"]):
        path = shard_path(folder, shard)
        if not path.is_file():
            raise MissingData(path, NOTHING, "a file of JPEGs", remedy_of(folder))
        if path.stat().st_size != size:
            raise DataError(path, Words(f"{path.stat().st_size} bytes"), f"{size} bytes", remedy_of(folder))
    images = PackedImages(folder, table, tuple(shape), workers)
    for number in chunks_to_check(len(recorded["chunks"]), sum(recorded["bytes"])):
        first, last = number * recorded["rows"], min((number + 1) * recorded["rows"], len(table)) - 1
        (shard, start, _), (_, place, length) = table[first].tolist(), table[last].tolist()
        if zlib.crc32(os.pread(images.descriptors[shard], place + length - start, start)) != recorded["chunks"][number]:
            raise damage_in(folder, shard, f"damaged images {first} to {last} (checksum differs)")
    return images
