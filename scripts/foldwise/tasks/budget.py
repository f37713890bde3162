"""How much may be extracted, how much was, and how progress is told."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foldwise.tasks.sources.listing import Report

REPORT_SECONDS = 2.0


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold, with all archives inside it.

    Parameters
    ----------
    total : int
        Bytes that may be written in all; what is free on the disk, less `margin`, bounds them too.
    entries : int
        Files and folders.
    ratio, ratio_from : int
        How many times larger than packed a member, or all members together, may be; more than that is accepted up to
        `ratio_from` bytes.
    depth : int
        How many archives may lie within each other below the outermost.
    margin : int
        Bytes of the disk that are left free, at most a hundredth of it.
    """

    total: int = 2 * 2**40
    entries: int = 10_000_000
    ratio: int = 1000
    ratio_from: int = 10 * 2**20
    depth: int = 3
    margin: int = 2**28


def room_on(folder: Path, margin: int = Limits.margin) -> int:
    """Return how many bytes may be written to the disk of a folder."""
    disk = shutil.disk_usage(folder)
    return disk.free - min(margin, disk.total // 100)


class Pace:
    """Lets a line of progress through now and then: a job's log is no place for a line a file."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.last = time.monotonic()

    def tell(self, line: Callable[[], str]) -> None:
        """Report a line if the last one was long enough ago."""
        if time.monotonic() - self.last >= REPORT_SECONDS:
            self.last = time.monotonic()
            self.report(line())


class Budget:
    """What was written from an archive and from those inside it, and what still may be.

    Parameters
    ----------
    limits : Limits
        The limits.
    folder : Path
        A folder on the disk that is written to.
    report : Callable
        Takes lines of progress.
    """

    def __init__(self, limits: Limits, folder: Path, report: Report) -> None:
        self.limits = limits
        self.folder = folder
        self.room = room_on(folder, limits.margin)
        self.entries = 0
        self.files = 0
        self.bytes = 0
        self.expected = 0
        self.pace = Pace(report)

    def expect(self, files: int) -> None:
        """Note how many files the archive says that it holds."""
        self.expected = self.files + files

    def line(self) -> str:
        """Say how far it is."""
        return f"extracted {self.files}{f' of {self.expected}' if self.files <= self.expected else ''} files"

    def give_back(self, size: int) -> None:
        """Count a file no more that was removed."""
        self.files -= 1
        self.expected -= 1
        self.bytes -= size
