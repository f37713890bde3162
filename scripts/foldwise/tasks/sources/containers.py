"""Named arrays in NumPy and HDF5 files, opened without reading them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from foldwise.artifacts import count_members, reading
from foldwise.errors import NOTHING, DataError, MissingData, Words

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
SUFFIXES = (".npz", ".npy", *HDF5_SUFFIXES)
REMEDY = "Replace the file."
READ_HEADER: dict[tuple[int, int], Callable[[IO[bytes]], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
MANY_MEMBERS = 2**16 - 1
CHUNK = 2**20


@dataclass(frozen=True)
class Named:
    """An array in a file.

    Parameters
    ----------
    name : str
        Its name.
    where : Path
        The file.
    shape : tuple of int
        Its shape.
    dtype : dtype
        Its type; text is of kind ``U``, whatever the file calls it.
    get : callable
        Returns it, as a memory map or another array on disk where that is possible.
    """

    name: str
    where: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    get: Callable[[], Any]

    def open(self) -> Any:
        """Return the array.

        Raises
        ------
        DataError
            If it is damaged, or holds Python objects: those are code that would run.
        """
        if self.dtype.hasobject:
            found = Words(f"array {self.name} of Python objects (type {self.dtype})")
            raise DataError(self.where, found, "an array of numbers or text", "Save it with one of these types.")
        with reading(self.where, f"a whole array {self.name}", REMEDY):
            return self.get()


@contextmanager
def open_arrays(source: Path) -> Iterator[dict[str, Named]]:
    """Open all arrays of a file or folder.

    Parameters
    ----------
    source : Path
        An ``.npz``, ``.npy`` or HDF5 file, or a folder with such files. If there are several, the name of an array
        in one of them begins with the file's path without suffix: ``train/images`` is array ``images`` in
        ``train.npz``. An ``.npy`` file is an array named after itself.

    Raises
    ------
    MissingData, DataError
        If there is no such file, or one is damaged.
    """
    files = [source] if source.is_file() else sorted(find_files(source))
    if not files:
        raise MissingData(source, NOTHING, f"a file of arrays ({', '.join(SUFFIXES)})")
    base = source.parent if source.is_file() else common_folder(files)
    with ExitStack() as stack:
        arrays: dict[str, Named] = {}
        for file in files:
            prefix = file.relative_to(base).with_suffix("").as_posix()
            for name, array in open_file(file, stack).items():
                full = prefix if file.suffix.lower() == ".npy" else f"{prefix}/{name}" if len(files) > 1 else name
                if full in arrays:
                    raise DataError(
                        file, Words(f"a second array {full}"), "one of each name", f"See {arrays[full].where}."
                    )
                arrays[full] = Named(full, array.where, array.shape, array.dtype, array.get)
        yield arrays


def find_files(folder: Path) -> list[Path]:
    """Return the files of arrays below a folder, without hidden ones."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def common_folder(files: Sequence[Path]) -> Path:
    """Return the deepest folder that holds all files."""
    return next(folder for folder in files[0].parents if all(file.is_relative_to(folder) for file in files))


def open_file(path: Path, stack: ExitStack) -> dict[str, Named]:
    """Open one file of arrays; what must stay open does as long as `stack`."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return open_npz(path)
    if suffix == ".npy":
        return open_npy(path)
    if suffix in HDF5_SUFFIXES:
        return open_hdf5(path, stack)
    raise DataError(path, Words(f"a file of another kind ({suffix or 'no suffix'})"), f"one of {', '.join(SUFFIXES)}")


def open_npy(path: Path) -> dict[str, Named]:
    """Open an ``.npy`` file as a memory map."""
    with reading(path, "a NumPy .npy file", REMEDY), open(path, "rb") as handle:
        shape, fortran, dtype = read_header(handle)
        offset = handle.tell()
    return {path.stem: Named(path.stem, path, shape, dtype, lambda: map_array(path, offset, shape, fortran, dtype))}


def open_npz(path: Path) -> dict[str, Named]:
    """Open an ``.npz`` file; arrays that are not compressed as memory maps."""
    with reading(path, "a NumPy .npz file", REMEDY):
        expected = count_members(path)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if expected not in (len(members), MANY_MEMBERS):
                raise ValueError(f"{expected} arrays, of which {len(members)} can be found")
            arrays = [open_member(path, archive, member) for member in members if member.filename.endswith(".npy")]
    return {array.name: array for array in arrays}


def open_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Named:
    """Read the header of an array in an ``.npz`` file."""
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as handle:
        shape, fortran, dtype = read_header(handle)
        header = handle.tell()
    if member.compress_type != zipfile.ZIP_STORED:
        return Named(name, path, shape, dtype, lambda: load_member(path, member))

    def get() -> np.ndarray:
        check_member(path, member)
        return map_array(path, data_offset(path, member) + header, shape, fortran, dtype)

    return Named(name, path, shape, dtype, get)


def read_header(handle: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, order and type of an array in NumPy's format."""
    version = np.lib.format.read_magic(handle)
    if version not in READ_HEADER:
        raise ValueError(f"format version {version[0]}.{version[1]}")
    return READ_HEADER[version](handle)


def data_offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where the bytes of a member begin: after its own header, the length of which only that tells."""
    with open(path, "rb") as handle:
        handle.seek(member.header_offset + 26)
        lengths = handle.read(4)
    return member.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")


def map_array(path: Path, offset: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> np.ndarray:
    """Map an array in a file into memory."""
    if dtype.hasobject or 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def load_member(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Load one compressed array."""
    with zipfile.ZipFile(path) as archive, archive.open(member) as handle:
        array = np.lib.format.read_array(handle, allow_pickle=False)
        if handle.read(1):
            raise ValueError("more bytes than the array needs")
    return array


def check_member(path: Path, member: zipfile.ZipInfo) -> None:
    """Raise an error if a member is not what its checksum says: a memory map alone would not notice."""
    with zipfile.ZipFile(path) as archive, archive.open(member) as handle:
        while handle.read(CHUNK):
            pass


def open_hdf5(path: Path, stack: ExitStack) -> dict[str, Named]:
    """Open an HDF5 file, which stays open; arrays in groups are named ``group/array``."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            path, Words("an HDF5 file, and no h5py to read it"), "h5py", "Run `pip install h5py`."
        ) from error
    arrays: dict[str, Named] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            arrays[name] = open_dataset(path, name, item)

    with reading(path, "an HDF5 file", REMEDY):
        file = stack.enter_context(h5py.File(path, "r"))
        file.visititems(visit)
    return arrays


def open_dataset(path: Path, name: str, item: Any) -> Named:
    """Describe an array in an HDF5 file; text becomes NumPy's."""
    import h5py

    if h5py.check_string_dtype(item.dtype) is not None:
        return Named(name, path, item.shape, np.dtype("U1"), lambda: np.asarray(item.asstr()[()], dtype=str))
    return Named(name, path, item.shape, item.dtype, lambda: item)
