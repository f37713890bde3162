"""Image files below a folder: listed, told apart by split folders, and found by what a table calls them."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from foldwise.errors import NOTHING, DataError, DataProblems, MissingData, Problem, Words
from foldwise.tasks.sources.listing import IMAGE_SUFFIXES

SPLIT_NAMES = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "val": "val", "valid": "val",
    "validation": "val", "unlabeled": "unlabeled", "unlabelled": "unlabeled",
}  # fmt: skip
SUFFIXES = frozenset(IMAGE_SUFFIXES)
CLUTTER = ("__MACOSX",)
MAX_LINKS = 8
# Lone surrogates stand for bytes that are no UTF-8; the others end a line for one program or another.
UNUSABLE = re.compile(r"[\0\ud800-\udfff\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
UNUSUAL = re.compile(r"^\s*$|^[./]|^\w:|\\|//|/\.|/$|" + UNUSABLE.pattern)
DRIVE = re.compile(r"[A-Za-z]:/")


@dataclass(frozen=True)
class Files:
    """Image files below a folder.

    Parameters
    ----------
    images, folders : list of str
        Paths of all image files and of all folders, relative to the folder, with ``/`` as separator, sorted.
    others, hidden : int
        Number of other files, and of hidden files and folders, all of which were passed over.
    """

    images: list[str]
    folders: list[str]
    others: int
    hidden: int


@dataclass
class Walk:
    """What was found so far; `branches` are the folders still to be read, each with the real folders of its links."""

    root: str
    branches: list[tuple[str, tuple[str, ...]]] = field(default_factory=lambda: [("", ())])
    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    others: int = 0
    hidden: int = 0


def list_images(root: Path) -> Files:
    """List the image files below a folder; what they hold is not looked at.

    Parameters
    ----------
    root : Path
        The folder. Links to files and folders are followed, but not to a folder that the link itself lies in.

    Raises
    ------
    MissingData, DataError
        If there is no such folder.
    DataProblems
        Naming folders that cannot be read, and names that are not valid UTF-8 or contain line breaks.
    """
    check_folder(root)
    walk = Walk(os.fspath(root))
    while walk.branches:
        folder, passed = walk.branches.pop()
        for entry in scan(walk, folder):
            name = entry.name
            if name.startswith(".") or name in CLUTTER:
                walk.hidden += 1
            elif is_folder(entry):
                enter(walk, entry, folder, passed)
            elif suffix_of(name) in SUFFIXES:
                add_image(walk, entry, f"{folder}{name}")
            else:
                walk.others += 1
    if walk.problems:
        raise DataProblems(
            root, walk.problems, "folders and image files that can be named and read", "Mend or move it."
        )
    return Files(sorted(walk.images), sorted(walk.folders), walk.others, walk.hidden)


def check_folder(folder: Path) -> None:
    """Raise `MissingData` or `DataError` unless there is such a folder."""
    if not os.path.lexists(folder):
        raise MissingData(folder, NOTHING, "a folder")
    if not folder.is_dir():
        found = "a file" if folder.exists() else "a link that leads nowhere"
        raise DataError(folder, Words(found), "a folder")


def scan(walk: Walk, folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder; one that cannot be read is a problem."""
    try:
        with os.scandir(f"{walk.root}/{folder}") as entries:
            yield from entries
    except OSError as error:
        walk.problems.append(Problem(folder or ".", os.strerror(error.errno or 0).lower()))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder or leads to one; a link that leads back to itself does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def enter(walk: Walk, entry: os.DirEntry[str], folder: str, passed: tuple[str, ...]) -> None:
    """Note a folder to be read, unless it is a link into a folder that it lies in."""
    if is_unusable(walk, f"{folder}{entry.name}"):
        return
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        passed = (*passed, os.path.realpath(f"{walk.root}/{folder}"))
        if any(f"{real}/".startswith(f"{target.rstrip('/')}/") for real in passed):
            return
        if len(passed) > MAX_LINKS:
            raise DataError(entry.path, Words(f"a link within {MAX_LINKS} linked folders"), "fewer links")
    walk.folders.append(f"{folder}{entry.name}")
    walk.branches.append((f"{folder}{entry.name}/", passed))


def add_image(walk: Walk, entry: os.DirEntry[str], path: str) -> None:
    """Note an image file; a link that leads nowhere is kept, since whoever opens it names it."""
    if is_unusable(walk, path):
        return
    if entry.is_symlink() or entry.is_file():
        walk.images.append(path)
    else:
        walk.problems.append(Problem(path, "neither a file nor a folder"))


def is_unusable(walk: Walk, path: str) -> bool:
    """Tell whether a path cannot be written into a table, which is a problem."""
    found = UNUSABLE.search(path) is not None
    if found:
        walk.problems.append(Problem(repr(path), "a name that is not valid UTF-8 or contains a line break"))
    return found


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in small letters, or an empty string; much faster than a `Path`."""
    place = name.rfind(".")
    return name[place:].lower() if place > 0 else ""


def stem_of(path: str) -> str:
    """Return a path without the suffix of an image file, if it has one."""
    suffix = suffix_of(path)
    return path[: -len(suffix)] if suffix in SUFFIXES else path


def no_images(root: Path, files: Files) -> DataError:
    """Return the error that a folder holds no image file, and what it holds."""
    found = Words(f"no image ({files.others} other files, {files.hidden} hidden files or folders)")
    return DataError(root, found, f"files that end in {', '.join(IMAGE_SUFFIXES)}")


def can_be_class(name: str) -> bool:
    """Tell whether text can name a class: `;` separates classes, and control characters break tables."""
    return name != "" and not any(letter == ";" or unicodedata.category(letter) in ("Cc", "Cs") for letter in name)


def find_splits(folders: Iterable[str]) -> dict[str, str]:
    """Tell which of the folders on one level stand for splits.

    Parameters
    ----------
    folders : iterable of str
        Names of all the folders.

    Returns
    -------
    dict of str to str
        ``train``, ``test``, ``val`` or ``unlabeled`` by folder: of all if every folder has the name of a split
        (`SPLIT_NAMES`, in any case) and one is for training or testing; otherwise only of ``unlabeled``.
    """
    names = list(folders)
    known = {name: SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}
    if len(known) == len(names) and {"train", "test"} & set(known.values()):
        return known
    return {name: split for name, split in known.items() if split == "unlabeled"}


def listed_split(split: str) -> str:
    """Return the split that images of a split folder get: Foldwise validates on folds, so ``val`` is for training."""
    return "train" if split == "val" else split


class ImageRoot:
    """A folder of images, and how to find in it what a table or annotation file names.

    Parameters
    ----------
    root : Path
        The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        bases = (posixpath.normpath(root.absolute()), os.path.realpath(root))
        self._bases = [f"{base.rstrip('/')}/" for base in bases]

    def relative(self, text: str) -> str:
        """Return the path below the folder that is meant.

        Raises
        ------
        ValueError
            With a reason, if it lies outside or cannot be a path.
        """
        if not UNUSUAL.search(text):
            return text
        if not text.strip():
            raise ValueError("no image is named")
        if UNUSABLE.search(text):
            raise ValueError(f"{text!r} cannot be the name of a file")
        if "\\" in text and not self.holds(text):
            text = text.replace("\\", "/")
        path = posixpath.normpath(text)
        inside = next((path[len(base) :] for base in self._bases if path.startswith(base)), path)
        if posixpath.isabs(inside) or DRIVE.match(inside) or inside in ("", ".", "..") or inside.startswith("../"):
            raise ValueError(f"{text!r} does not lie below {self.root}")
        return inside

    def holds(self, path: str) -> bool:
        """Tell whether there is such a file; a link that leads nowhere counts."""
        return os.path.lexists(f"{self.root}/{path}")

    def find(self, text: str) -> str:
        """Return the path below the folder that is meant; one without the suffix of an image may get it.

        Raises
        ------
        ValueError
            With a reason, also if several files have that name and differ in the suffix.
        """
        path = self.relative(text)
        if suffix_of(path) in SUFFIXES:
            return path
        found = self._by_stem.get(path, [path])
        if len(found) > 1:
            raise ValueError(f"{text!r} may be {' or '.join(found)}")
        return found[0]

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = {}
        for path in list_images(self.root).images:
            stems.setdefault(stem_of(path), []).append(path)
        return stems
