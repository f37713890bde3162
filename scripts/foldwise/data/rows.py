"""Raw storage: rows of pixels in one ``.npy`` file, written chunk by chunk, read row by row."""

from __future__ import annotations

import io
import math
import os
import weakref
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foldwise.artifacts import flush_to_disk, free_space, reading
from foldwise.data.chunks import Entry, chunks_to_check, leftover_of
from foldwise.data.workers import Place
from foldwise.errors import DataError, Words

Shape = tuple[int, ...]
REMEDY = "Delete the file and run again to make it anew."


class RowStore:
    """A ``.npy`` file of uint8 that workers fill; a `Store`.

    Parameters
    ----------
    target : Path
        The file.
    shape : tuple of int
        Its shape.
    rows : int
        Rows in a chunk.
    """

    ordered = False

    def __init__(self, target: Path, shape: Shape, rows: int) -> None:
        self.target = target
        self.leftover = leftover_of(target)
        self.header = npy_header(shape)
        self.stride = rows * math.prod(shape[1:])
        self.size = len(self.header) + math.prod(shape)
        self.descriptor = -1

    def open(self, keep: bool) -> bool:
        """Open what an earlier run left, or an empty file; refuse if the disk has no room for it."""
        if not keep:
            self.leftover.unlink(missing_ok=True)
        self.descriptor = os.open(self.leftover, os.O_RDWR | os.O_CREAT, 0o666)
        found = os.fstat(self.descriptor)
        self.check_room(found.st_blocks * 512)
        keep = keep and found.st_size == self.size and os.pread(self.descriptor, len(self.header), 0) == self.header
        os.ftruncate(self.descriptor, self.size)
        os.pwrite(self.descriptor, self.header, 0)
        return keep

    def check_room(self, taken: int) -> None:
        """Raise `DataError` if the file cannot grow to its size."""
        status = os.statvfs(self.leftover)
        if self.size - taken > status.f_bavail * status.f_frsize:
            needed = f"{(self.size - taken) / 2**20:.1f} MiB for the file"
            raise DataError(self.target, Words("a disk that is too small"), needed, free_space(self.leftover))

    def place(self) -> Place:
        """Return where workers write chunks."""
        return Place(self.descriptor, len(self.header), self.stride)

    def holds(self, entry: Entry) -> bool:
        """Tell whether a chunk is as it was written."""
        start = len(self.header) + entry.number * self.stride
        content = os.pread(self.descriptor, min(self.stride, self.size - start), start)
        return zlib.crc32(content) == entry.crc

    def start(self) -> None:
        """Nothing to do: a chunk has its place whatever others are there."""

    def add(self, entry: Entry, content: bytes | memoryview) -> None:
        """Nothing to do: workers write chunks."""

    def sync(self) -> None:
        """Ask the operating system to write all chunks to disk."""
        os.fdatasync(self.descriptor)

    def publish(self) -> None:
        """Rename the file."""
        flush_to_disk(self.leftover)
        os.replace(self.leftover, self.target)
        flush_to_disk(self.target.parent)

    def close(self) -> None:
        """Close the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


def npy_header(shape: Shape) -> bytes:
    """Return what precedes the data of a ``.npy`` file of uint8."""
    header = io.BytesIO()
    np.lib.format.write_array_header_2_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


class StoredRows:
    """Rows of a ``.npy`` file of uint8, read when they are asked for.

    Parameters
    ----------
    path : Path
        The file.
    shape : tuple of int
        Its shape.
    start : int
        Bytes that precede the data.

    Notes
    -----
    Rows are read with one system call each. Against a memory map this needs no memory but for the rows asked for, a
    file that is cut while it is used is an error rather than the end of the process, and it is faster, both from memory
    (rows of 256 x 256 pixels 60,000 against 33,000 a second, of 28 x 28 pixels 760,000 against 570,000) and from disk
    (5,200 against 2,300), as a row is one request rather than one a page.
    """

    dtype = np.dtype(np.uint8)
    decodes = False

    def __init__(self, path: Path, shape: Shape, start: int) -> None:
        self.path = path
        self.shape = shape
        self.start = start
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Return some rows, in the order asked for."""
        if isinstance(rows, int | np.integer):
            return self[[int(rows)]][0]
        wanted = row_numbers(rows, len(self))
        found = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        length = math.prod(self.shape[1:])
        view = found.reshape(-1).data
        for place, row in enumerate(wanted):
            part = view[place * length : (place + 1) * length]
            if os.preadv(self.descriptor, [part], self.start + row * length) != length:
                raise DataError(
                    self.path, Words("a file that was cut while it was read"), "the file as written", REMEDY
                )
        return found


def row_numbers(rows: slice | Sequence[int] | np.ndarray, count: int) -> list[int]:
    """Return the rows that an index stands for, as whole numbers from 0."""
    if isinstance(rows, slice):
        return list(range(*rows.indices(count)))
    wanted = np.asarray(rows)
    if wanted.ndim != 1 or (
        wanted.size and not (wanted.dtype.kind in "iu" and wanted.min() >= 0 <= wanted.max() < count)
    ):
        raise IndexError(f"got rows {wanted}, expected a list of whole numbers from 0 to {count - 1}")
    return wanted.tolist()


def open_rows(path: Path, shape: Sequence[int], recorded: Mapping[str, Any]) -> StoredRows:
    """Open a ``.npy`` file of uint8 after checking shape, size and checksums.

    Parameters
    ----------
    path : Path
        The file.
    shape : sequence of int
        The shape that its manifest records.
    recorded : mapping
        Rows in a chunk and CRC-32 of chunks, as its manifest records them; `chunks_to_check` says which are read.

    Raises
    ------
    MissingData, DataError
        If the file is missing or damaged.
    """
    found, kind, start = read_npy_header(path)
    size = path.stat().st_size
    if list(found) != list(shape) or kind != np.uint8:
        described = Words(f"{kind} of shape {found}")
        raise DataError(path, described, f"uint8 of shape {list(shape)}", REMEDY)
    if size != start + math.prod(found):
        raise DataError(path, Words(f"{size} bytes"), f"{start + math.prod(found)} bytes", REMEDY)
    rows = StoredRows(path, found, start)
    check_chunks(rows, recorded["rows"], recorded["chunks"])
    return rows


def read_npy_header(path: Path) -> tuple[Shape, np.dtype, int]:
    """Return shape and type of a ``.npy`` file, and how many bytes precede the data; the data is not mapped."""
    with reading(path, "a NumPy .npy file", REMEDY) as found, open(found, "rb") as handle:
        version = np.lib.format.read_magic(handle)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, kind = read(handle)
        if by_column:
            raise ValueError("columns first")
        return shape, kind, handle.tell()


def check_chunks(stored: StoredRows, rows: int, checksums: Sequence[int]) -> None:
    """Raise `DataError` if a chunk that is read is not as written."""
    for number in chunks_to_check(len(checksums), math.prod(stored.shape)):
        first, last = number * rows, min((number + 1) * rows, len(stored)) - 1
        if zlib.crc32(stored[first : last + 1].data) != checksums[number]:
            damage = Words(f"damaged rows {first} to {last} (checksum differs)")
            raise DataError(stored.path, damage, "the file as written", REMEDY)
