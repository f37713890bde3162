"""Archives: extracted whole or not at all, with nothing outside their folder, and all archives inside them too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tarfile import BLOCKSIZE

from foldwise.artifacts import TEMPORARY, writing
from foldwise.config.sources import ARCHIVES, is_archive
from foldwise.errors import NOTHING, DataError, MissingData, Words, one_of
from foldwise.tasks.budget import Budget, Limits
from foldwise.tasks.members import CHUNK, Sink, stem
from foldwise.tasks.sources.listing import Report
from foldwise.tasks.unpack import PROGRAMS, Peeked, is_tar, opened, unpack_with_program, untar, unzip, whole

MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"Rar!\x1a\x07": "rar",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
NAMED = {
    ".zip": "zip", ".tar": "tar", ".tgz": "gzip", ".gz": "gzip", ".tbz2": "bzip2", ".bz2": "bzip2", ".txz": "xz",
    ".xz": "xz", ".zst": "zstd", ".rar": "rar", ".7z": "7z",
}  # fmt: skip
TARS = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
RENAME = "Rename it."
PAGES = (b"<!doctype html", b"<html", b"<?xml")


def silent(text: str) -> None:
    """Report nothing."""


def extract(archive: Path, target: Path, limits: Limits = Limits(), report: Report = silent) -> int:  # noqa: B008
    """Extract an archive and all archives inside it into a folder.

    Parameters
    ----------
    archive : Path
        Zip, tar (also compressed by gzip, bzip2, xz or Zstandard), a single file compressed by one of these, rar or 7z.
    target : Path
        The folder; what is there is replaced once everything is extracted.
    limits : Limits
        How much it may hold.
    report : Callable
        Takes lines of progress.

    Returns
    -------
    int
        Number of files.

    Raises
    ------
    MissingData, DataError
        If the archive is not there, damaged, of an unknown format, too large, or hostile: nothing is written outside
        `target` then, and `target` is as before.

    Notes
    -----
    An archive inside is replaced by a folder named after it without suffix, a single compressed file by its content.
    Only one process may extract into one folder at a time.
    """
    return gather([archive], [], target, limits, report)


def gather(
    archives: Sequence[Path],
    files: Sequence[Path],
    target: Path,
    limits: Limits = Limits(),  # noqa: B008
    report: Report = silent,
) -> int:
    """Extract several archives into one folder, and put further files beside what they hold.

    Parameters
    ----------
    archives, files : sequence of Path
        Archives to extract; files to link or copy as they are.
    target, limits, report
        As in `extract`.

    Returns
    -------
    int
        Number of files.
    """
    staging = target.with_name(f"{TEMPORARY}{target.name}")
    with writing(target):
        remove_tree(staging)  # left by a run that was killed
        (staging / "tree").mkdir(parents=True)
    try:
        budget = Budget(limits, staging, report)
        for archive in archives:
            if not archive.is_file():
                raise MissingData(archive, NOTHING, "an archive")
            unpack(archive, str(archive), staging, staging / "tree", budget)
        for file in files:
            Sink(staging / "tree", str(file), file.stat().st_size, budget).attach(file.name, file)
        os.sync()
        replace_tree(staging, target)
    except BaseException:  # also when it is interrupted
        remove_tree(staging)
        raise
    report(f"extracted {budget.files} files")
    return budget.files


def replace_tree(staging: Path, target: Path) -> None:
    """Put a finished tree in place of an older one."""
    if target.exists():
        os.replace(target, staging / "old")
    os.replace(staging / "tree", target)
    remove_tree(staging)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, if it is there; folders may have been made unreadable by a program."""
    for place, folders, _ in os.walk(folder):
        for name in folders:
            if not (Path(place) / name).is_symlink():
                (Path(place) / name).chmod(0o755)
    if folder.exists():
        shutil.rmtree(folder)


def unpack(
    archive: Path, label: str, staging: Path, root: Path, budget: Budget, inside: str = "", depth: int = 0
) -> None:
    """Extract one archive, then those inside it.

    Parameters
    ----------
    archive : Path
        The archive.
    label : str
        What messages call it: its path, with the archives that it lies in.
    staging : Path
        ``scratch`` and ``packed`` in it are for what is not yet checked.
    root : Path
        The folder to write into.
    budget : Budget
        Counts what is written.
    inside : str
        A folder to make there for what is no single file.
    depth : int
        In how many archives this one lies.
    """
    sink = Sink(root, label, archive.stat().st_size, budget)
    write_members(archive, staging / "scratch", inside, sink)
    sink.finish()
    for place in sink.nested:
        if depth == budget.limits.depth:
            sink.refuse(place, "an archive too deep within others", f"at most {depth} levels of archives in an archive")
        inner = sink.root / place
        packed = staging / "packed" / str(depth) / inner.name
        packed.parent.mkdir(parents=True, exist_ok=True)
        os.replace(inner, packed)  # what it holds may have its name
        unpack(packed, f"{label}/{place}", staging, inner.parent, budget, stem(inner.name), depth + 1)
        budget.give_back(packed.stat().st_size)
        packed.unlink()


def write_members(archive: Path, scratch: Path, inside: str, sink: Sink) -> None:
    """Give the members of an archive of any kind to a sink, or the one file that is compressed."""
    kind = kind_of(archive, sink.label)
    if kind == "zip":
        sink.descend(inside)
        unzip(archive, sink)
    elif kind in PROGRAMS:
        sink.descend(inside)
        unpack_with_program(archive, kind, scratch, sink)
    else:
        with whole(sink.label), opened(archive, kind, sink.label) as stream:
            content = Peeked(stream, BLOCKSIZE)
            if is_tar(content.head):
                sink.descend(inside)
                untar(content, sink)
            elif archive.name.lower().endswith(TARS):
                raise DataError(
                    sink.label, Words(f"a {kind} file without a tar archive in it"), "a tar archive", RENAME
                )
            else:
                sink.file(stem(archive.name), iter(lambda: content.read(CHUNK), b""))


def kind_of(archive: Path, label: str) -> str:
    """Return the format of an archive as its first bytes tell it.

    Raises
    ------
    DataError
        If they tell none, or another one than its name.
    """
    head = read_head(archive)
    kind = kind_by_content(head)
    named = next((kind for suffix, kind in NAMED.items() if archive.name.lower().endswith(suffix)), None)
    if kind is None or named not in (None, kind):
        found = Words(f"a {kind} file" if kind else describe(head))
        expected = f"a {named} file as its name says" if named else f"an archive ({one_of(ARCHIVES)})"
        raise DataError(label, found, expected, RENAME if kind else "Get it anew.")
    return kind


def kind_by_content(head: bytes) -> str | None:
    """Return the format that the first block of a file tells, None if it is no archive."""
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)
    return kind or ("tar" if is_tar(head) else None)


def holds_archive(path: Path) -> bool:
    """Tell whether a file is an archive by its name, or by its content if the name says nothing."""
    return is_archive(path.name) or (not path.suffix and kind_by_content(read_head(path)) is not None)


def read_head(path: Path) -> bytes:
    """Return the first block of a file."""
    with open(path, "rb") as handle:
        return handle.read(BLOCKSIZE)


def describe(head: bytes) -> str:
    """Say in words what a file seems to be that is not what it should be."""
    if is_page(head):
        return "a web page"
    return "a file of another kind" if head else "an empty file"


def is_page(head: bytes) -> bool:
    """Tell whether a file begins like a web page, which servers send instead of what was asked for."""
    return head.lstrip().lower().startswith(PAGES)
