"""Fetching datasets: downloads with checksums, and the tree of files that readers work on."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pooch

from foldwise import artifacts
from foldwise.artifacts import FORMAT_VERSION, atomic, flush_to_disk, link_or_copy, read_json, write_json, writing
from foldwise.config.canonical import differences
from foldwise.config.definition import DatasetRecord
from foldwise.config.sources import KNOWN_SETS, listed
from foldwise.errors import NOTHING, ConfigError, DataError, DataProblems, FoldwiseError, MissingData, Problem, Words
from foldwise.tasks.archives import gather, holds_archive, is_page, read_head
from foldwise.tasks.budget import Pace
from foldwise.tasks.sources.listing import Report
from foldwise.tasks.transfer import Address, Failed, Refused, attempt

READ_IN_PLACE = ("folder", "table", "masks", "coco")  # their images are used as they lie in the dataset's folder
PROGRESS = 2**20  # an attempt that brings as many bytes was none in vain
MAX_NAME = 200


@dataclass(frozen=True)
class Download:
    """A file to download.

    Parameters
    ----------
    name : str
        What it is called on this machine.
    urls : tuple of str
        Its addresses, mirrors last; ``http``, ``https``, ``ftp``, ``file`` or a plain path. ``${NAME}`` stands for a
        variable of the environment.
    checksum : str or None
        ``sha256:...``, ``md5:...`` or a plain SHA-256. None: whatever comes is taken.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str | None


def download(
    item: Download, folder: Path, report: Report, retries: int = 3, pause: float = 1.0, timeout: float = 30.0
) -> Path:
    """Get a file from the first of its addresses that gives it.

    Parameters
    ----------
    item : Download
        The file.
    folder : Path
        Where it goes. A download that broke off is kept there as ``.part-{name}`` and continued.
    report : Callable
        Takes lines of progress.
    retries : int
        How often an address is asked again if it fails in a way that may pass.
    pause : float
        Seconds before the first of these; they double.
    timeout : float
        Seconds without an answer after which an attempt has failed.

    Returns
    -------
    Path
        The file. One that is there already is kept if its checksum is right; files of this machine are linked.

    Raises
    ------
    DataError
        If no address gives the file. Addresses are shown as they are written, without query.

    Notes
    -----
    Only one process may download a file at a time. FTP, and files without checksum, always begin anew.
    """
    target = folder / item.name
    if target.is_file() and fault_of(target, item.checksum) is None:
        return target
    with writing(target):
        folder.mkdir(parents=True, exist_ok=True)
    problems = []
    for address in map(Address, item.urls):
        try:
            local = address.local()
            if local:
                bring_in(local, target, item.checksum)
            else:
                obtain(item, address, target, Patience(retries, pause, timeout, report))
        except Failed as failure:
            problems.append(Problem(address.shown, str(failure)))
        else:
            report(f"{item.name}: {target.stat().st_size / 2**20:.1f} MiB, complete")
            return target
    raise failure_of(item, problems, target)


def failure_of(item: Download, problems: Sequence[Problem], target: Path) -> DataError:
    """Return the error that tells why no address gave a file."""
    expected = "a file" if item.checksum is None else "a file with {} {}".format(*split_checksum(item.checksum))
    remedy = f"Check address and checksum, name another place in mirrors, or put the file at {target} yourself."
    if all(Address(url).local() for url in item.urls):
        remedy = "Check path and checksum, or get the file anew."
    elif part_of(target).exists():
        remedy = f"Run again: what has come is kept and continued. {remedy}"
    if len(problems) == 1:
        return DataError(problems[0].where, Words(problems[0].reason), expected, remedy)
    return DataProblems(item.name, problems, expected, remedy)


def bring_in(source: Path, target: Path, checksum: str | None) -> None:
    """Link or copy a file of this machine."""
    if not source.is_file():
        raise Refused("nothing")
    fault = fault_of(source, checksum)
    if fault:
        raise Refused(fault)
    with atomic(target) as temporary:
        link_or_copy(source.resolve(), temporary)


@dataclass(frozen=True)
class Patience:
    """How long a download is tried, and who is told of it."""

    retries: int
    pause: float
    timeout: float
    report: Report


def obtain(item: Download, address: Address, target: Path, patience: Patience) -> None:
    """Download a file from one address; once more from the beginning if what was there already did not belong to it."""
    part = part_of(target)
    for last in (False, True):
        mended = persist(item, address, part, patience)
        fault = fault_of(part, item.checksum)
        if fault is None:
            flush_to_disk(part)
            os.replace(part, target)
            flush_to_disk(target.parent)
            return
        part.unlink()
        if last or not mended:
            raise Refused(fault)


def part_of(target: Path) -> Path:
    """Return where a download is kept that broke off."""
    return target.with_name(f".part-{target.name}")


def persist(item: Download, address: Address, part: Path, patience: Patience) -> bool:
    """Complete a partial file, with growing pauses after failures; tell whether it was put together from pieces."""
    pace = Pace(patience.report)
    failures = attempts = 0
    begun = size_of(part) > 0
    while True:
        attempts += 1
        if item.checksum is None:  # nothing would tell that the pieces do not belong together
            part.unlink(missing_ok=True)
        before = size_of(part)
        try:
            attempt(address, part, patience.timeout, item.name, pace)
        except Refused:
            raise
        except Failed as failure:
            failures = 1 if size_of(part) - before >= PROGRESS else failures + 1
            if failures > patience.retries:
                raise
            patience.report(f"{item.name}: {failure}; trying again")
        else:
            return begun or attempts > 1
        time.sleep(patience.pause * 2 ** (failures - 1))


def size_of(path: Path) -> int:
    """Return the size of a file, 0 if it is not there."""
    return path.stat().st_size if path.exists() else 0


def split_checksum(checksum: str) -> tuple[str, str]:
    """Return algorithm and digits of a checksum."""
    algorithm, _, digits = checksum.rpartition(":")
    return algorithm or "sha256", digits.lower()


def fault_of(path: Path, checksum: str | None) -> str | None:
    """Say what is wrong with the content of a file, None if it has the checksum."""
    if checksum is None:
        return None
    algorithm, digits = split_checksum(checksum)
    found = pooch.file_hash(str(path), alg=algorithm)
    if found == digits:
        return None
    return f"{'a web page' if is_page(read_head(path)) else 'a file'} with {algorithm} {found}"


def fetch_dataset(
    record: DatasetRecord,
    url: list[str],
    mirrors: list[str],
    revision: int,
    description: Path,
    downloads: Path,
    report: Report,
) -> None:
    """Download the files of a dataset, extract its archives and describe what came.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset.
    url, mirrors : list of str
        Addresses of its files, and of folders that hold them too.
    revision : int
        Revision of the code that writes it.
    description : Path
        Where ``source.json`` goes, in the dataset's folder.
    downloads : Path
        Where downloads go, and the extracted files of those sources that are converted later; others are extracted into
        ``source`` in the dataset's folder.
    report : Callable
        Takes lines of progress.

    Notes
    -----
    Several archives, and files that are none, make one tree. What an equal definition already fetched is kept.
    Beside the tree lies a hidden copy of the description: removed before the tree is replaced and written after, it
    vouches that the tree is the one described.
    """
    folder = description.parent
    tree = folder / "source" if record.source in READ_IN_PLACE else downloads / "extracted"
    seal = tree.with_name(f".{tree.name}.json")
    identity = {"definition": differences(record), "revision": revision}
    with artifacts.lock(folder):
        found = read_seal(seal, tree, identity)
        if found is None or has_changed(record, found):
            items = items_of(record, url, mirrors)
            places = [in_place(item) or download(item, downloads, report) for item in items]
            seal.unlink(missing_ok=True)
            archives = [place for place in places if holds_archive(place)]
            count = gather(archives, [place for place in places if place not in archives], tree, report=report)
            found = {
                "format_version": FORMAT_VERSION,
                "dataset": record.dataset,
                "files": [describe(item, place) for item, place in zip(items, places, strict=True)],
                "extracted": count,
                "root": Path(os.path.relpath(tree, folder)).as_posix(),
                **identity,
            }
            write_json(seal, found)
        write_json(description, found)


def fetched_root(description: Path) -> Path:
    """Return the folder of the files that were fetched for a dataset.

    Parameters
    ----------
    description : Path
        ``source.json``.

    Raises
    ------
    MissingData, DataError
        If the description or the folder is not there, or the description is damaged.
    """
    found = read_json(description)
    with artifacts.reading(description, "the description of a fetched dataset"):
        root = Path(os.path.normpath(description.parent / found["root"]))
    if not root.is_dir():
        raise MissingData(root, NOTHING, "the fetched files", f"--forcerun fetch_dataset {description}")
    return root


def read_seal(seal: Path, tree: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the description of a tree if it is there and was fetched for the same identity."""
    try:
        found = read_json(seal)
        same = all(found[key] == value for key, value in identity.items())
        held = sum(len(files) for _, _, files in os.walk(tree))
        return found if same and tree.is_dir() and held >= found["extracted"] else None
    except (FoldwiseError, KeyError):
        return None


def has_changed(record: DatasetRecord, found: dict[str, Any]) -> bool:
    """Tell whether an archive of this machine, to which no checksum is given, is another than the one extracted."""
    if record.path is None or record.sha256 is not None:
        return False
    return [artifacts.sha256(record.path)] != [file["sha256"] for file in found["files"]]


def items_of(record: DatasetRecord, url: list[str], mirrors: list[str]) -> list[Download]:
    """Return the files that a dataset is made of."""
    if record.source in KNOWN_SETS:
        from foldwise.tasks.known import downloads as known_downloads

        items = known_downloads(record)
    elif record.path is not None:
        checksum = listed(record.sha256)
        return [Download(file_name(record.path), (record.path,), checksum[0] if checksum else None)]
    else:
        sums = listed(record.sha256)
        items = [Download(file_name(place), (place,), digits) for place, digits in zip(url, sums, strict=True)]
    names = [item.name for item in items]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError("url", twice, "addresses whose files have other names")
    return [with_mirrors(item, mirrors) for item in items]


def file_name(url: str) -> str:
    """Return the last part of an address's path as a harmless file name."""
    last = unquote(urlsplit(Address(url).shown).path).rpartition("/")[2]
    name = re.sub(r"[^\w.+ -]", "_", last).lstrip(".")[-MAX_NAME:]
    return name or "download"


def with_mirrors(item: Download, mirrors: list[str]) -> Download:
    """Let a file come from mirrors too, right after its main address."""
    places = []
    for mirror in mirrors:
        folder, mark, query = mirror.partition("?")
        places.append(f"{folder.rstrip('/')}/{quote(item.name)}{mark}{query}")
    main, *others = item.urls
    return Download(item.name, (main, *places, *others), item.checksum)


def in_place(item: Download) -> Path | None:
    """Return the file of this machine that the main address names; it is not copied."""
    place = Address(item.urls[0]).local()
    return place if place and place.is_file() and fault_of(place, item.checksum) is None else None


def describe(item: Download, place: Path) -> dict[str, Any]:
    """Record what a file is and where it came from."""
    algorithm, digits = split_checksum(item.checksum or "none:")
    return {
        "name": item.name,
        "address": Address(item.urls[0]).shown,
        "bytes": place.stat().st_size,
        "sha256": digits if algorithm == "sha256" else artifacts.sha256(place),
    }
