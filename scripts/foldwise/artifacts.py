"""Atomic reading and writing of every file format, so that a file is there whole or not at all.

A writer fills a temporary file beside the target, flushes it to disk and renames it. A file that
was there before stays until that moment.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from foldwise.errors import NOTHING, DataError, MissingData, Words

if TYPE_CHECKING:
    import numpy as np

FORMAT_VERSION = "2.0.0"
TEMPORARY = ".tmp-"
# What readers raise on damaged files; a flipped bit may tell zipfile, for instance, that a member is encrypted.
DAMAGED = (
    OSError, ValueError, KeyError, EOFError, RuntimeError, SyntaxError,
    csv.Error, tokenize.TokenError, yaml.YAMLError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends without an error.

    Parameters
    ----------
    path : str or Path
        The file to write. Its folder is made.

    Raises
    ------
    DataError
        If the disk is full or the place cannot be written.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    try:
        with writing(path):
            yield temporary
            flush_to_disk(temporary)
            os.replace(temporary, path)
            flush_to_disk(path.parent)
    finally:
        with contextlib.suppress(OSError):  # what went wrong before must be told, not that nothing can be removed
            temporary.unlink(missing_ok=True)


def temporary_of(path: Path) -> Path:
    """Return a path beside `path` that nobody else uses."""
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}-{secrets.token_hex(4)}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the file system into a message that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(path, Words("a full disk"), "room for the file", free_space(path)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = Words(os.strerror(error.errno).lower())
            raise DataError(
                path, reason, "a folder that can be written", "Change its permissions or data_dir/results_dir."
            ) from error
        if error.errno == errno.EISDIR:
            raise DataError(path, Words("a folder where a file should be"), "a file", "Move it away.") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            wrong = next((folder for folder in path.parents if folder.is_file()), error.filename)
            reason = Words("a file where a folder should be")
            raise DataError(path, reason, "a folder", f"Move {wrong} away.") from error
        raise


def free_space(path: Path) -> str:
    """Say how much room there is on the disk of a path."""
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return f"{status.f_bavail * status.f_frsize / 2**20:.1f} MiB are free there; make room and run again."


def flush_to_disk(path: Path) -> None:
    """Ask the operating system to write a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_many(files: Mapping[Path, bytes]) -> None:
    """Write many small files, with one flush for all: a thousand flushes take many seconds on a busy disk.

    Files that hold these bytes already are left as they are.

    Raises
    ------
    DataError
        If the disk is full or the place cannot be written; then none of the files is replaced.
    """
    changed = [path for path, content in files.items() if not (path.is_file() and path.read_bytes() == content)]
    temporaries = {path: temporary_of(path) for path in changed}
    try:
        for path, temporary in temporaries.items():
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(files[path])
        os.sync()
        for path, temporary in temporaries.items():
            with writing(path):
                os.replace(temporary, path)
        os.sync()
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: str | Path) -> Iterator[None]:
    """Hold an advisory lock on the artifact at `path` while the block runs; wait for other writers."""
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path.with_name(f".{path.name}.lock"), "w")
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def reading(path: str | Path, expected: str, remedy: str = "") -> Iterator[Path]:
    """Turn errors while reading a file into a message that names it."""
    path = Path(path)
    try:
        yield path
    except FileNotFoundError as error:
        raise MissingData(path, NOTHING, expected, remedy) from error
    except DAMAGED as error:
        reason = Words(f"a file that cannot be read ({' '.join(str(error).split())})")
        raise DataError(path, reason, expected, remedy or "Delete it and run again to make it anew.") from error


def remove_file(path: str | Path) -> None:
    """Delete a file if it is there."""
    with writing(Path(path)):
        Path(path).unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, tree: Mapping[str, Any]) -> None:
    """Write a mapping as readable JSON, keys in the order given."""
    write_text(path, json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping, and check the format version if it has one.

    Raises
    ------
    MissingData, DataError
        If the file is not there, damaged, or of another format version.
    """
    with reading(path, "a JSON file") as found:
        tree = json.loads(found.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("no mapping")
    check_version(path, tree.get("format_version", FORMAT_VERSION))
    return tree


def write_yaml(path: str | Path, tree: Mapping[str, Any]) -> None:
    """Write a mapping as YAML, keys in the order given."""
    write_text(path, yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True))


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with a header line; numbers keep all their digits."""
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_header(path: str | Path) -> list[str]:
    """Read the names of a table's columns."""
    with reading(path, "a CSV file") as found, open(found, newline="", encoding="utf-8") as handle:
        return next(csv.reader(handle), [])


def read_csv(path: str | Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """Read columns of a table as lists of strings.

    Raises
    ------
    MissingData, DataError
        If the file is not there, lacks a column, or has a row of another length.
    """
    with (
        reading(path, f"a CSV file with columns {', '.join(columns)}") as found,
        open(found, newline="", encoding="utf-8") as handle,
    ):
        reader = csv.reader(handle)
        header = next(reader, [])
        places = [header.index(column) for column in columns]
        rows = list(reader)
        broken = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
        if broken:
            raise ValueError(f"line {broken} does not have {len(header)} fields")
    return {column: [row[place] for row in rows] for column, place in zip(columns, places, strict=True)}


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name into an uncompressed ``.npz`` file; object arrays are refused."""
    import numpy as np

    with atomic(path) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, allow_pickle=False, **dict(arrays))


def read_npz(path: str | Path, remedy: str = "") -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz`` file."""
    import numpy as np

    with reading(path, "a NumPy .npz file", remedy) as found:
        expected = count_members(found)
        with np.load(found, allow_pickle=False) as archive:
            if len(archive.files) != expected:
                raise ValueError(f"{expected} arrays, of which {len(archive.files)} can be found")
            return {name: archive[name] for name in archive.files}


def count_members(path: Path) -> int:
    """Return the number of files that the end record of a zip archive states; zipfile itself does not compare it."""
    with open(path, "rb") as handle:
        handle.seek(max(0, path.stat().st_size - 2**16))
        tail = handle.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0:
        raise ValueError("no zip archive, or its end is missing")
    return int.from_bytes(tail[place + 10 : place + 12], "little")


class Stream(NamedTuple):
    """A place to write to that NumPy does not take for a file: `ndarray.tofile` hides why it failed."""

    write: Callable[[bytes], object]


def write_npy(path: str | Path, array: np.ndarray) -> None:
    """Write one array as an ``.npy`` file."""
    import numpy as np

    with atomic(path) as temporary, open(temporary, "wb") as handle:
        np.save(Stream(handle.write), array, allow_pickle=False)


def map_npy(path: str | Path, remedy: str = "") -> np.ndarray:
    """Open an ``.npy`` file as a read-only memory map."""
    import numpy as np

    with reading(path, "a NumPy .npy file", remedy) as found:
        return np.load(found, mmap_mode="r", allow_pickle=False)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with reading(path, "a file") as found, open(found, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_version(path: str | Path, version: str) -> None:
    """Raise `DataError` if a file is of another format version."""
    if version != FORMAT_VERSION:
        remedy = "Use the release that wrote it, or convert it with one that has a migration for this version."
        raise DataError(path, Words(f"format version {version}"), f"format version {FORMAT_VERSION}", remedy)


def check_root(root: str | Path) -> None:
    """Raise `DataError` if a root of artifacts is no readable folder or is of another format version."""
    root = Path(root)
    if not root.exists():
        if root.is_symlink():
            raise DataError(root, Words("a link that leads nowhere"), "a readable folder", "Remove or mend it.")
        return
    if not root.is_dir() or not os.access(root, os.R_OK | os.X_OK):
        found = "a folder that cannot be read" if root.is_dir() else "a file"
        raise DataError(
            root, Words(found), "a readable folder", "Change its permissions, or set data_dir and results_dir."
        )
    version = root / "VERSION"
    if version.exists():
        check_version(version, version.read_text(encoding="utf-8").strip())


def check_writable(root: str | Path) -> None:
    """Raise `DataError` if nothing can be written below a root that exists or would be made."""
    root = Path(root)
    nearest = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        found = "a folder that cannot be written" if nearest.is_dir() else "a file"
        raise DataError(
            nearest, Words(found), "a writable folder", "Change its permissions, or set data_dir and results_dir."
        )


def stamp_version(root: str | Path) -> None:
    """Write the format version into a root that has none; check it otherwise."""
    version = Path(root) / "VERSION"
    if version.exists():
        check_root(root)
    else:
        write_text(version, f"{FORMAT_VERSION}\n")


def make_not_older(paths: Iterable[Path], source: Path) -> None:
    """Give files that are right as they are the present date, if they are older than what they are made from."""
    made_from = source.stat().st_mtime_ns
    paths = list(paths)
    if any(path.stat().st_mtime_ns < made_from for path in paths):
        for path in paths:
            os.utime(path)


def link_or_copy(source: Path, target: Path) -> None:
    """Make a hard link, or a copy with the same date where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
