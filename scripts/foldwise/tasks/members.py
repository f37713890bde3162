"""Members of archives: checked names, counted bytes, and nothing written outside the folder they belong into."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NoReturn

from foldwise.artifacts import free_space, link_or_copy, writing
from foldwise.config.sources import is_archive
from foldwise.errors import DataError, Words
from foldwise.tasks.budget import Budget

CHUNK = 2**20
MAX_NAME_BYTES = 255  # of one part of a path, on all usual file systems
MAX_PATH_BYTES = 2000
MAX_HOPS = 40  # as Linux follows links
MAX_FOLDER_LINKS = 1000
PLAIN = "relative names of files and folders below the archive"
DISTRUST = "Do not use archives of unknown origin; if it is sound, extract it by hand and give the folder as path."


class Sink:
    """Writes the members of one archive below a folder.

    Parameters
    ----------
    root : Path
        The folder.
    label : str
        The archive, for messages.
    packed : int
        Size of the archive.
    budget : Budget
        Counts what is written.

    Notes
    -----
    Only folders and regular files are ever made, so that no name can lead through a link. Links inside the archive
    are collected; `finish` makes copies of what they lead to. Modes, owners and dates of members are ignored.
    """

    def __init__(self, root: Path, label: str, packed: int, budget: Budget) -> None:
        self.root = root
        self.label = label
        self.packed = packed
        self.budget = budget
        self.unpacked = 0
        self.made: set[str] = set()
        self.links: dict[str, tuple[str, bool]] = {}
        self.nested: list[str] = []

    def refuse(self, name: str, fault: str, expected: str = PLAIN, remedy: str = DISTRUST) -> NoReturn:
        """Raise `DataError` that names the archive and the member."""
        shown = name if len(name) <= 70 else f"{name[:30]}...{name[-37:]}"
        raise DataError(self.label, Words(f"member {shown!r}, {fault}"), expected, remedy)

    def folder(self, name: str) -> None:
        """Make a folder."""
        place = self.place(name)
        if place:
            self.make_folder(place)

    def file(self, name: str, chunks: Iterable[bytes], packed: int | None = None) -> None:
        """Write a file.

        Parameters
        ----------
        name : str
            Name as the archive has it.
        chunks : iterable of bytes
            Its content.
        packed : int, optional
            How many bytes of the archive it takes, where that is known.
        """
        place = self.place(name)
        if place == "":
            self.refuse(name, "a file without a name")
        if place is not None:
            self.store(place, chunks, packed)

    def adopt(self, name: str, source: Path) -> None:
        """Move a regular file in that lies on the same disk."""
        place = self.place(name)
        if place:
            size = source.stat().st_size
            self.start(place)
            self.count(place, size, size, None)
            with self.creating(place):
                check_free(self.root / place)
                source.rename(self.root / place)

    def attach(self, name: str, source: Path) -> None:
        """Link or copy a file in that stays where it is."""
        place = self.place(name)
        if place:
            self.start(place)
            with self.creating(place):
                check_free(self.root / place)
                link_or_copy(source.resolve(), self.root / place)

    def descend(self, folder: str) -> None:
        """Make a folder into which all that comes goes."""
        self.make_folder(folder)
        self.root /= folder
        self.made.clear()

    def link(self, name: str, to: str, hard: bool) -> None:
        """Note a link; a hard one is relative to the archive, a symbolic one to the folder that it lies in."""
        fault = fault_of(to)
        if fault:
            self.refuse(name, f"a link to {to[:60]!r}, {fault}", "links that stay inside the archive")
        place = self.place(name)
        if place:
            if place in self.made:
                self.refuse(name, "which is there twice")
            self.count_entry(place)
            self.make_folder(place.rpartition("/")[0])
            self.links[place] = (to, hard)

    def place(self, name: str) -> str | None:
        """Return where a member goes, relative to the root; None for what is left out."""
        fault = fault_of(name)
        if fault:
            self.refuse(name, fault)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            self.refuse(name, "which leads out of its folder")
        if "__MACOSX" in parts or (parts and (parts[-1] == ".DS_Store" or parts[-1].startswith("._"))):
            return None
        place = "/".join(parts)
        if place in self.links:
            self.refuse(name, "which is there twice")
        if self.links and any("/".join(parts[:count]) in self.links for count in range(1, len(parts))):
            self.refuse(name, "which leads through a link")
        return place

    def store(self, place: str, chunks: Iterable[bytes], packed: int | None) -> None:
        """Write a file to a checked place and count its bytes."""
        self.start(place)
        written = 0
        with self.creating(place), open(self.root / place, "xb") as handle:
            for chunk in chunks:
                written += len(chunk)
                self.count(place, len(chunk), written, packed)
                handle.write(chunk)

    def start(self, place: str) -> None:
        """Count a file that is about to be made, and make its folder."""
        self.count_entry(place)
        self.make_folder(place.rpartition("/")[0])
        self.budget.files += 1
        self.budget.pace.tell(self.budget.line)
        if is_archive(place):
            self.nested.append(place)

    def make_folder(self, place: str) -> None:
        """Make a folder and those above it."""
        if not place or place in self.made:
            return
        self.make_folder(place.rpartition("/")[0])
        self.count_entry(place)
        with self.creating(place):
            (self.root / place).mkdir(exist_ok=True)
        self.made.add(place)

    @contextmanager
    def creating(self, place: str) -> Iterator[None]:
        """Tell of a second member of one name, and of a full disk, in words."""
        try:
            with writing(self.root / place):
                yield
        except DataError as error:
            if isinstance(error.__cause__, (FileExistsError, NotADirectoryError, IsADirectoryError)):
                self.refuse(place, "which is there twice", "one member of each name", "Repack it without one of them.")
            raise

    def count_entry(self, name: str) -> None:
        """Count a file, folder or link."""
        self.budget.entries += 1
        if self.budget.entries > self.budget.limits.entries:
            self.refuse(name, "one too many", f"at most {self.budget.limits.entries} files and folders")

    def count(self, name: str, size: int, written: int, packed: int | None) -> None:
        """Count bytes that are about to be written; refuse those that are too many."""
        limits, budget = self.budget.limits, self.budget
        budget.bytes += size
        self.unpacked += size
        if budget.bytes > limits.total:
            self.refuse(name, "with which the content grows too large", f"at most {limits.total} bytes in all")
        if budget.bytes > budget.room:
            self.refuse(
                name, "for which the disk has no room", "content that fits onto the disk", free_space(budget.folder)
            )
        for grown, base in ((written, packed), (self.unpacked, self.packed)):
            if base is not None and grown > max(limits.ratio_from, limits.ratio * base):
                self.refuse(
                    name, f"which unpacks to over {limits.ratio} times its size", f"at most {limits.ratio} times"
                )

    def finish(self) -> None:
        """Put copies of what they lead to in place of links."""
        folders: dict[str, str] = {}
        for place, (to, _) in self.links.items():
            target = self.follow(place)
            if (self.root / target).is_dir():
                if target == "" or f"{place}/".startswith(f"{target}/"):
                    self.refuse(place, f"a link to {to!r}, a folder that it lies in itself", "links without circles")
                folders[place] = target
            elif (self.root / target).is_file():
                self.store(place, read_chunks(self.root / target), None)
            else:
                self.refuse(place, f"a link to {to!r}, which is not there", "links to members of the archive")
        if len(folders) > MAX_FOLDER_LINKS:
            self.refuse(place, "one link too many", f"at most {MAX_FOLDER_LINKS} links to folders")
        self.copy_folders(folders)

    def copy_folders(self, folders: dict[str, str]) -> None:
        """Copy folders to where links lead to them, first those without such links inside."""
        while folders:
            ready = [
                place
                for place, target in folders.items()
                if not any(other.startswith(f"{target}/") for other in folders)
            ]
            if not ready:
                place = next(iter(folders))
                self.refuse(place, "a link to a folder that leads back to it", "links without circles")
            for place in ready:
                target = folders.pop(place)
                self.make_folder(place)
                for path in sorted((self.root / target).rglob("*")):
                    copy = f"{place}/{path.relative_to(self.root / target).as_posix()}"
                    if path.is_dir():
                        self.make_folder(copy)
                    else:
                        self.store(copy, read_chunks(path), None)

    def follow(self, place: str) -> str:
        """Return what a link leads to, through other links too, relative to the root.

        Raises
        ------
        DataError
            If it leads out of the archive, or in a circle.
        """
        here: list[str] = place.split("/")
        ahead: list[str] = []
        hops = 0
        while True:
            link = self.links.get("/".join(here))
            if link:
                hops += 1
                if hops > MAX_HOPS:
                    self.refuse(place, "a link that leads in a circle", "links without circles")
                here = [] if link[1] else here[:-1]
                ahead += reversed(link[0].split("/"))
            if not ahead:
                return "/".join(here)
            part = ahead.pop()
            if part == "..":
                if not here:
                    self.refuse(place, "a link that leads out of the archive", "links that stay inside the archive")
                here.pop()
            elif part not in ("", "."):
                here.append(part)


def fault_of(name: str) -> str | None:
    """Say what is wrong with the name of a member or of what a link leads to; None if it is plain."""
    encoded = name.encode(errors="surrogatepass")
    faults = {
        "a name that is no UTF-8": encoded.decode(errors="replace") != name,
        "a name with control characters": any(unicodedata.category(letter) == "Cc" for letter in name),
        "a name with a backslash": "\\" in name,
        "an absolute name": name.startswith("/"),
        "a name with a drive letter": re.match(r"[A-Za-z]:", name) is not None,
        "a name that is too long": len(encoded) > MAX_PATH_BYTES or max(map(len, encoded.split(b"/"))) > MAX_NAME_BYTES,
    }
    return next((fault for fault, present in faults.items() if present), None)


def check_free(path: Path) -> None:
    """Raise `FileExistsError` if there is something at a path."""
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield the content of a file piece by piece."""
    with open(path, "rb") as handle:
        while chunk := handle.read(CHUNK):
            yield chunk


def stem(name: str) -> str:
    """Return the name of an archive without the suffixes that make it one."""
    path = PurePosixPath(name)
    short = path.stem if is_archive(path.name) else path.name
    return short[:-4] if short.lower().endswith(".tar") else short
