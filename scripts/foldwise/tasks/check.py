"""The check of a dataset: every image and mask is opened and decoded once, and what is wrong is told together."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from itertools import chain
from pathlib import Path

import numpy as np

from foldwise.artifacts import flush_to_disk, writing
from foldwise.errors import Problem
from foldwise.progress import in_words
from foldwise.tasks.decode import Unreadable, open_image, oriented_size
from foldwise.tasks.examine import DIGEST_BYTES, Facts, File, Kind, examine_all, json_line, stamp
from foldwise.tasks.sources.listing import Listing, Report

Size = tuple[int, int, int]
REPORT_SECONDS = 1.0
VERSION = 2  # raise it when a file may be judged otherwise than before
HEADER = f'["foldwise check", {VERSION}]\n'.encode()


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Parameters
    ----------
    sizes : dict of str to tuple of int
        Width, height (after turning by EXIF orientation) and channels of each readable image, by its name.
    problems : dict of str to Problem
        The first thing that is wrong with an image or its masks, by the image's name.
    duplicates : list of list of str
        Names of images whose files are equal byte for byte, a list each; of names that share a file the first counts.
    mask_values : list of int
        All values that occur in readable masks, in ascending order.
    content : str
        A digest of all files with their paths; empty if they were not opened.
    """

    sizes: dict[str, Size]
    problems: dict[str, Problem]
    duplicates: list[list[str]]
    mask_values: list[int]
    content: str = ""


class Findings:
    """What is known about all files of one kind, in little memory however many they are."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.places: dict[str, int] = {}
        for path in paths:
            self.places.setdefault(path, len(self.places))
        self.known = np.zeros(len(self.places), bool)
        self.readable = np.zeros(len(self.places), bool)
        self.sizes = np.zeros((len(self.places), 3), np.int32)
        self.digests = np.zeros((len(self.places), DIGEST_BYTES), np.uint8)
        self.values = np.zeros(2**16, bool)
        self.reasons: dict[str, str] = {}

    def awaits(self, path: str) -> bool:
        """Tell whether a file belongs here and is not known yet."""
        return path in self.places and not self.known[self.places[path]]

    def add(self, facts: Facts) -> None:
        """Take over what was found about a file."""
        place = self.places[facts.path]
        self.known[place] = True
        if facts.reason:
            self.reasons[facts.path] = facts.reason
            return
        self.readable[place] = True
        self.sizes[place] = facts.size
        if facts.digest:
            self.digests[place] = np.frombuffer(bytes.fromhex(facts.digest), np.uint8)
        for first, last in facts.values:
            self.values[first : last + 1] = True

    def size(self, path: str) -> Size:
        """Return width, height and channels of a readable file."""
        width, height, channels = self.sizes[self.places[path]].tolist()
        return width, height, channels


def check_images(listing: Listing, folder: Path, processes: int, report: Report, journal: Path) -> Checked:
    """Decode every image and every mask of a listing once.

    Parameters
    ----------
    listing : Listing
        Images and masks.
    folder : Path
        The dataset's folder, which paths are relative to.
    processes : int
        Processes that decode at a time; 0: this one does it. Threads would wait for each other where images are small.
    report : callable
        Receives lines of progress.
    journal : Path
        Text file that keeps what was found, a line a file, from run to run: a file of the same size and date is not
        examined again. Its lines are JSON lists of the fields of `Facts`. One process at a time may write it.

    Returns
    -------
    Checked
        The same whether the check was interrupted or not.

    Raises
    ------
    DataError
        If the journal cannot be written.
    """
    masks = (path for column in mask_columns(listing) for path in column if path)
    found: dict[Kind, Findings] = {"image": Findings(listing.paths.values()), "mask": Findings(masks)}
    for facts in read_journal(journal):
        if found[facts.kind].awaits(facts.path) and stamp(folder, facts.path) == (facts.file_bytes, facts.mtime_ns):
            found[facts.kind].add(facts)
    progress = Progress(report, found)
    with open_journal(journal) as handle:
        for chunk in examine_all(folder, unknown(found), processes):
            for facts in chunk:
                found[facts.kind].add(facts)
            append(handle, journal, journal_lines(chunk))
            progress.show(len(chunk))
    with writing(journal):
        flush_to_disk(journal)
    return summarise(listing, folder, found["image"], found["mask"])


def unknown(found: dict[Kind, Findings]) -> Iterator[File]:
    """Yield the files that are to be examined."""
    for kind, findings in found.items():
        yield from ((kind, path) for path in findings.places if findings.awaits(path))


class Progress:
    """Tells now and then how far the check is.

    Parameters
    ----------
    report : callable
        Receives the lines.
    found : dict
        What is known already.
    """

    def __init__(self, report: Report, found: dict[Kind, Findings]) -> None:
        self.report = report
        self.words = "images and masks" if found["mask"].places else "images"
        self.total = sum(len(findings.places) for findings in found.values())
        self.done = self.known = sum(int(findings.known.sum()) for findings in found.values())
        self.started = self.last = time.monotonic()
        if self.done == self.total:
            self.report(f"checked {self.total} of {self.total} {self.words} before")

    def show(self, count: int) -> None:
        """Take note of more files that are done."""
        self.done += count
        now = time.monotonic()
        if self.done == self.total:
            self.report(f"checked {self.total} of {self.total} {self.words}")
        elif now - self.last >= REPORT_SECONDS:
            self.last = now
            seconds = (now - self.started) / (self.done - self.known) * (self.total - self.done)
            self.report(f"checked {self.done} of {self.total} {self.words}, {in_words(seconds)} left")


def read_journal(journal: Path) -> Iterator[Facts]:
    """Yield what a journal holds; a journal of another version holds nothing, a torn line is passed over."""
    if not journal.is_file():
        return
    with open(journal, "rb") as lines:
        if next(lines, b"") != HEADER:
            return
        for line in lines:
            try:
                facts = Facts(*json.loads(line))
            except (ValueError, TypeError):
                continue
            yield facts


@contextlib.contextmanager
def open_journal(journal: Path) -> Iterator[FileIO]:
    """Open a journal to write further lines; begin it anew if it is of another version."""
    with writing(journal):
        journal.parent.mkdir(parents=True, exist_ok=True)
        handle = FileIO(journal, "a+")
    with handle:
        handle.seek(0)
        if handle.read(len(HEADER)) != HEADER:
            handle.truncate(0)
            append(handle, journal, HEADER)
        handle.seek(-1, os.SEEK_END)
        if handle.read(1) != b"\n":
            append(handle, journal, b"\n")
        yield handle


def append(handle: FileIO, journal: Path, text: bytes) -> None:
    """Write to the end of a journal; what is written survives the end of the process."""
    with writing(journal):
        while text:
            text = text[handle.write(text) :]


def journal_lines(chunk: Iterable[Facts]) -> bytes:
    """Write facts as lines; what could not be got at may have another reason next time and is left out."""
    return b"".join(json_line(facts) for facts in chunk if facts.file_bytes >= 0)


def summarise(listing: Listing, folder: Path, images: Findings, masks: Findings) -> Checked:
    """Turn what is known about files into what is known about images by name."""
    sizes: dict[str, Size] = {}
    problems: dict[str, Problem] = {}
    once: dict[Size, Size] = {}
    for name, path in listing.paths.items():
        if path in images.reasons:
            problems[name] = Problem(str(folder / path), images.reasons[path])
        else:
            size = images.size(path)
            sizes[name] = once.setdefault(size, size)
    rows = (zip(listing.annotations["image"], column, strict=True) for column in mask_columns(listing))
    for name, mask in chain.from_iterable(rows):
        if mask and name not in problems:
            reason = masks.reasons.get(mask) or compare_sizes(
                folder / listing.paths[name], sizes[name], masks.size(mask)
            )
            if reason:
                problems[name] = Problem(str(folder / mask), reason)
    values = np.flatnonzero(masks.values).tolist()
    return Checked(sizes, problems, find_duplicates(listing, images), values, digest_content(images, masks))


def digest_content(*kinds: Findings) -> str:
    """Return a digest of the paths and contents of all files, in whatever order they were listed."""
    files = sorted((path, found.digests[place].tobytes()) for found in kinds for path, place in found.places.items())
    whole = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for path, digest in files:
        whole.update(path.encode(errors="surrogateescape") + b"\0" + digest)
    return whole.hexdigest()


def mask_columns(listing: Listing) -> list[list[str]]:
    """Return the columns of paths of masks."""
    return [listing.annotations[name] for name in listing.masks if name in listing.annotations]


def compare_sizes(image: Path, image_size: Size, mask_size: Size) -> str:
    """Say how a mask's size differs from its image's; an empty string if it does not."""
    (width, height), (mask_width, mask_height) = image_size[:2], mask_size[:2]
    if (width, height) == (mask_width, mask_height):
        return ""
    return f"a mask of {mask_width} x {mask_height} pixels for the image {image} of {width} x {height}"


def find_duplicates(listing: Listing, images: Findings) -> list[list[str]]:
    """Return the names of readable images whose files are equal, a sorted list each."""
    places = np.flatnonzero(images.readable)
    _, groups, counts = np.unique(images.digests[places], axis=0, return_inverse=True, return_counts=True)
    again = counts[groups] > 1
    repeated = dict(zip(places[again].tolist(), groups[again].tolist(), strict=True))
    names: dict[int, str] = {}
    for name, path in listing.paths.items():
        if (place := images.places[path]) in repeated:
            names.setdefault(place, name)
    alike: dict[int, list[str]] = {}
    for place, name in names.items():
        alike.setdefault(repeated[place], []).append(name)
    return sorted(sorted(group) for group in alike.values())


def sample_sizes(listing: Listing, folder: Path, limit: int = 1000) -> dict[str, Size]:
    """Read the sizes of some images from their headers.

    Parameters
    ----------
    listing : Listing
        The images.
    folder : Path
        The dataset's folder, which paths are relative to.
    limit : int
        How many images are looked at; a hash of their names chooses them.

    Returns
    -------
    dict of str to tuple of int
        Width, height and channels by name. Images whose headers cannot be read are left out.
    """
    chosen = heapq.nsmallest(limit, listing.paths, key=lambda name: hashlib.blake2b(os.fsencode(name)).digest())
    sizes = {}
    for name in chosen:
        with contextlib.suppress(Unreadable), open_image(folder / listing.paths[name]) as image:
            sizes[name] = oriented_size(image)
    return sizes
