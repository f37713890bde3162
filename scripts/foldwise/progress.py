"""How far long work is, and how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 1.0  # between two lines


class Progress:
    """Tells now and then how far work is that is done in parts.

    Parameters
    ----------
    report : callable
        Receives the lines.
    total : int
        How much there is to do.
    things : str
        What it is: images, samples.
    known : int
        How much was done before.
    """

    def __init__(self, report: Callable[[str], None], total: int, things: str, known: int = 0) -> None:
        self.report = report
        self.total = total
        self.things = things
        self.done = self.known = known
        self.started = self.last = time.monotonic()
        if known:
            report(f"{known} of {self.total} {self.things} were finished before")

    def show(self, count: int) -> None:
        """Take note of more that is done."""
        self.done += count
        now = time.monotonic()
        if now - self.last < SECONDS and self.done < self.total:
            return
        self.last = now
        rate = (self.done - self.known) / max(now - self.started, 1e-3)
        left = f", {in_words((self.total - self.done) / rate)} left" if self.done < self.total else ""
        self.report(f"{self.done} of {self.total} {self.things}, {rate:.0f} a second{left}")


def in_words(seconds: float) -> str:
    """Write a span of time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
