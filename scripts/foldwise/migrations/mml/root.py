"""Data roots: which tasks are there, and what they are called here.

A name becomes one of ours by these rules, in this order: accents are dropped; ``+`` becomes ``.`` and ``?`` becomes
``-``, so that ``birds+nested?0`` is ``birds.nested-0``; every run of other characters that our names cannot have
becomes one ``-``; runs of ``_`` become one; what comes before the first letter or digit is dropped; what is left empty
is ``task``; of what is longer than 100 characters the end gives way to eight digits of the SHA-256 of the whole. Names
that are ours already stay. Where two names become the same, those that follow in sorted order get ``-2``, ``-3``, ...
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from foldwise.artifacts import reading
from foldwise.config.names import NAME
from foldwise.errors import DataError, FoldwiseError, Words
from foldwise.migrations.mml.description import version_of
from foldwise.migrations.mml.text import decode, members_of

LONGEST = 100
PREFIX = "DSET_"
State = Literal["task", "duplicate", "preprocessed", "unreadable"]


class MmlTag(NamedTuple):
    """One tag of a name, such as ``+nested?0?5``."""

    name: str
    arguments: tuple[str, ...]


class Found(NamedTuple):
    """A description in a data root.

    Parameters
    ----------
    path : Path
        The file.
    dataset : str
        The folder it lies in.
    name, base, tags : str, str, tuple of MmlTag
        Name of the task, and what it is made of.
    version : str
        ``0.11`` or ``1.0``.
    state : str
        `task`: it can be read from RAW. `duplicate`: another file has its name. `preprocessed`: it is under
        PREPROCESSED only, which mml-core lists and cannot train. `unreadable`: `reason` tells why.
    reason : str
        Of all but tasks, what is the matter.
    """

    path: Path
    dataset: str
    name: str
    base: str
    tags: tuple[MmlTag, ...]
    version: str
    state: State = "task"
    reason: str = ""


def find_tasks(root: str | Path) -> Iterator[Found]:
    """Yield the descriptions of a data root one by one, in sorted order, those under RAW first.

    Files that mml-core passes over are passed over: those whose name does not hold ``TASK``, such as a left-over
    ``temp.json``, and descriptions of an empty name. Tasks that are in RAW are not looked for elsewhere.

    Raises
    ------
    DataError
        If the folder is no data root.
    """
    root = Path(root)
    raw, preprocessed = root / "RAW", root / "PREPROCESSED"
    if not raw.is_dir() and not preprocessed.is_dir():
        raise DataError(root, Words("a folder without RAW and PREPROCESSED"), "a data root of mml-core")
    seen: dict[str, Path] = {}
    for found in filter(None, map(look_into, descriptions_in(raw))):
        yield mark_duplicate(found, seen)
    beside: dict[str, Path] = {}
    for folder in folders_in(preprocessed):
        for found in filter(None, map(look_into, descriptions_in(folder))):
            if found.name not in seen and found.name not in beside and found.state == "task":
                beside[found.name] = found.path
                yield found._replace(state="preprocessed", reason=f"{found.name} has no description in {raw}")


def mark_duplicate(found: Found, seen: dict[str, Path]) -> Found:
    """Note the name of a description, and mark it if another one has it."""
    if found.state != "task":
        return found
    first = seen.setdefault(found.name, found.path)
    if first == found.path:
        return found
    return found._replace(state="duplicate", reason=f"{first} has the name {found.name} too")


def folders_in(folder: Path) -> list[Path]:
    """Return the folders directly in a folder, links followed, in sorted order."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def descriptions_in(folder: Path) -> Iterator[Path]:
    """Yield the files of descriptions in the datasets of a folder."""
    for dataset in folders_in(folder):
        yield from sorted(path for path in dataset.glob("*.json") if "TASK" in path.stem and path.is_file())


def look_into(path: Path) -> Found | None:
    """Return what a description is about, reading no more of it than is needed; None if it has an empty name."""
    nothing = Found(path, path.parent.name, "", "", (), "", "unreadable")
    try:
        with reading(path, "a description of a task", "Mend or remove it.") as found:
            raw = found.read_bytes()
        if not raw:
            return nothing._replace(reason=f"{path} is empty")
        members = (member for member in members_of(decode(raw, path), path) if member.key in ("name", "alias"))
        named = next(members, None)
    except FoldwiseError as error:
        return nothing._replace(reason=error.message)
    if named is None or not isinstance(named.value, str):
        return nothing._replace(reason=f"{path} has no name")
    base, tags = split_name(named.value)
    version = version_of({named.key: named.value})
    return Found(path, path.parent.name, named.value, base, tags, version) if named.value else None


def split_name(name: str) -> tuple[str, tuple[MmlTag, ...]]:
    """Split the name of a task into its base and its tags."""
    base, *tags = name.split("+")
    parts = [tag.split("?") for tag in tags]
    return base, tuple(MmlTag(first, tuple(arguments)) for first, *arguments in parts)


def our_name(name: str) -> str:
    """Return what a task or dataset is called here, by the rules above; two names may become one."""
    if is_ours(name):
        return name
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", plain.replace("+", ".").replace("?", "-"))
    plain = re.sub(r"^[^A-Za-z0-9]+", "", re.sub(r"_+", "_", plain)) or "task"
    if len(plain) > LONGEST:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        plain = f"{plain[: LONGEST - 9].rstrip('_')}-{digest}"
    return plain


def is_ours(name: str) -> bool:
    """Tell whether a task or dataset can keep its name."""
    return NAME.fullmatch(name) is not None and len(name) <= LONGEST


def our_names(names: Iterable[str]) -> dict[str, str]:
    """Return what each of the tasks of a root is called here, no two the same."""
    names = sorted(set(names))
    return spread({name: our_name(name) for name in names}, [name for name in names if is_ours(name)])


def dataset_names(folders: Iterable[str]) -> dict[str, str]:
    """Return what the dataset of each folder is called here, no two the same; the prefix ``DSET_`` is dropped."""
    plain = {folder: our_name(folder.removeprefix(PREFIX)) for folder in sorted(set(folders))}
    return spread(plain, [folder for folder in plain if plain[folder] in (folder, folder.removeprefix(PREFIX))])


def spread(wanted: dict[str, str], first: list[str], separator: str = "-") -> dict[str, str]:
    """Give each name what it wants, or the same with a number if that is taken; those in `first` choose first."""
    taken: set[str] = set()
    given: dict[str, str] = {}
    for name in dict.fromkeys([*first, *wanted]):
        choice, number = wanted[name], 1
        while choice in taken:
            number += 1
            end = f"{separator}{number}"
            choice = f"{wanted[name][: LONGEST - len(end)]}{end}"
        taken.add(choice)
        given[name] = choice
    return {name: given[name] for name in wanted}
