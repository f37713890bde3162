"""What cannot be read is named and left out: a report shows what there is."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

from foldwise.artifacts import DAMAGED
from foldwise.errors import FoldwiseError, MissingData, Problem, Words, shorten
from foldwise.report.tables import printable

NAMED = 10
# What the content of a file raises that is whole and yet not what it should be.
UNFIT = (*DAMAGED, TypeError, AttributeError, LookupError, ArithmeticError, struct.error)


class Skipped:
    """Files that cannot be read, with reasons.

    Attributes
    ----------
    reasons : dict of str to str
        What was left out, and why.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    @property
    def problems(self) -> list[Problem]:
        """What was left out, each file once."""
        return [Problem(*item) for item in self.reasons.items()]

    @contextlib.contextmanager
    def noting(self, path: str | Path) -> Iterator[None]:
        """End the block where a file turns out to be missing or damaged, and take note of it."""
        try:
            yield
        except MissingData as error:
            self.note(error.where, "missing")
        except FoldwiseError as error:
            self.note(path, " ".join(str(error.__cause__ or error.got).split()))
        except KeyError as error:
            self.note(path, f"it lacks {error}")
        except UNFIT as error:
            self.note(path, " ".join(str(error).split()) or type(error).__name__)

    def note(self, path: str | Path, reason: str) -> None:
        """Take note of a file, unless it is there already."""
        self.reasons.setdefault(str(path), reason)

    def told(self) -> list[str]:
        """Return one line that names them, or no line."""
        if not self.problems:
            return []
        count = len(self.problems)
        names = [f"{printable(where)}: {shorten(Words(printable(why)), 200)}" for where, why in self.problems[:NAMED]]
        more = [f"and {count - NAMED} more"] if count > NAMED else []
        things = "1 file" if count == 1 else f"{count} files"
        return [f"Skipped {things} that cannot be read: {'; '.join([*names, *more])}"]
