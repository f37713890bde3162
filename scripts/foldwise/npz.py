"""Large ``.npz`` files: written a part at a time, read as memory maps, so that neither needs memory for all of it."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.lib import format as npy

from foldwise.artifacts import atomic, count_members, reading

CHUNK_BYTES = 2**20
CHUNK_VALUES = 2**22
EXPECTED = "an uncompressed NumPy .npz file"
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class NpzWriter:
    """Context in which arrays are written into an uncompressed ``.npz`` file, the same bytes at any time of day.

    Parameters
    ----------
    path : str or Path
        The file; it is there when the block ends without an error.

    Raises
    ------
    DataError
        If the disk is full or the place cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> NpzWriter:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(atomic(self.path))
            handle = stack.enter_context(open(temporary, "wb"))
            self.archive = stack.enter_context(zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED))
            self.stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.__exit__(kind, error, trace)

    def add(self, name: str, array: np.ndarray) -> None:
        """Write a whole array; object arrays are refused."""
        with self.open(name, array.dtype, array.shape) as put:
            put(array)

    @contextlib.contextmanager
    def open(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Iterator[Callable[[np.ndarray], None]]:
        """Write an array whose shape is known: yields a function that appends rows, to be called until all are there.

        Raises
        ------
        ValueError
            If the rows are fewer or more, or objects.
        """
        if dtype.hasobject:
            raise ValueError(f"{name}: object arrays need pickle")
        missing = math.prod(shape) * dtype.itemsize
        # zipfile dates a member that is given by name alone to 1980; `force_zip64` as the size is not known to it.
        with self.archive.open(f"{name}.npy", "w", force_zip64=True) as handle:
            header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(handle, header)

            def put(part: np.ndarray) -> None:
                nonlocal missing
                content = part.astype(dtype, copy=False).tobytes()
                missing -= len(content)
                handle.write(content)

            yield put
        if missing:
            raise ValueError(f"{name}: the rows written do not fill shape {shape}")


class MappedNpz(Mapping[str, np.ndarray]):
    """The arrays of an uncompressed ``.npz`` file by name, each checked and mapped when it is first asked for.

    Parameters
    ----------
    path : str or Path
        The file.
    remedy : str
        What a user can do about a damaged file.
    """

    def __init__(self, path: str | Path, remedy: str = "") -> None:
        self.path = Path(path)
        self.remedy = remedy
        self.arrays: dict[str, np.ndarray] = {}
        with reading(path, EXPECTED, remedy) as found, zipfile.ZipFile(found) as archive:
            members = archive.infolist()
            if len(members) != count_members(found):
                raise ValueError(f"{count_members(found)} arrays, of which {len(members)} can be found")
            for member in members:
                archive.open(member).close()  # compares the name here with that at the array
            self.members = {member.filename.removesuffix(".npy"): member for member in members}

    def __getitem__(self, name: str) -> np.ndarray:
        member = self.members[name]
        if name not in self.arrays:
            with reading(self.path, EXPECTED, self.remedy) as found:
                self.arrays[name] = map_member(found, member)
        return self.arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self.members

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)


def open_npz(path: str | Path, remedy: str = "") -> MappedNpz:
    """Open an uncompressed ``.npz`` file as a mapping from names to memory maps.

    Raises
    ------
    MissingData, DataError
        If the file is missing, compressed or damaged; of an array, this is found out when it is asked for.
    """
    return MappedNpz(path, remedy)


def row_chunks(array: np.ndarray) -> Iterator[slice]:
    """Yield slices of an array that hold a few rows each, as many as are worked on at a time."""
    rows = max(1, CHUNK_VALUES // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        yield slice(start, start + rows)


def map_member(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Compare the checksum of an array in an archive and map it; raise `ValueError` if it cannot be mapped."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    with zipfile.ZipFile(path) as archive, archive.open(member) as handle:
        shape, in_columns, dtype = read_header(handle)
        header = handle.tell()
        while handle.read(CHUNK_BYTES):  # at the end zipfile compares the checksum
            pass
    if dtype.hasobject or header + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(f"{member.filename} has not the size of {dtype} of shape {shape}")
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", start_of(path, member) + header, shape, "F" if in_columns else "C")


def read_header(handle: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an ``.npy`` file: shape, whether columns come first, and type."""
    version = npy.read_magic(handle)
    if version not in HEADERS:
        raise ValueError(f"an array of format version {version}")
    return HEADERS[version](handle)


def start_of(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where the content of a member begins: after its header, its name and its extra fields."""
    with open(path, "rb") as handle:
        handle.seek(member.header_offset + 26)
        name, extra = (int.from_bytes(handle.read(2), "little") for _ in range(2))
    return member.header_offset + 30 + name + extra
