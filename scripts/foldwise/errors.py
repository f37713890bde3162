"""Errors that a user can act on: what was wrong, what was found, what is accepted, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Words:
    """Stands where a message shows the value found, and prints without quotes."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


UNKNOWN_KEY = Words("an unknown key")
NOTHING = Words("nothing")


class FoldwiseError(Exception):
    """A mistake in configuration or data, told in one readable message.

    Parameters
    ----------
    where : str or Path
        Key path (``optimizer.lr``) or file that is at fault.
    got : Any
        The value that was found. Strings are quoted in the message.
    expected : str
        The accepted set or range.
    remedy : str, optional
        What the user can do about it.
    """

    def __init__(self, where: str | Path, got: Any, expected: str, remedy: str = "") -> None:
        self.where = str(where)
        self.got = got
        self.expected = expected
        self.remedy = remedy
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The whole message on one line."""
        text = f"{self.where}: got {shorten(self.got)}, expected {self.expected}."
        return f"{text} {self.remedy}".rstrip()


class ConfigError(FoldwiseError, ValueError):
    """A key of the configuration is unknown or its value is not accepted."""


class ConfigErrors(FoldwiseError):
    """Several mistakes in one configuration, told together."""

    def __init__(self, errors: list[ConfigError]) -> None:
        self.errors = errors
        first = errors[0]
        super().__init__(first.where, first.got, first.expected, first.remedy)

    @property
    def message(self) -> str:
        """One line a mistake."""
        return "\n".join(error.message for error in self.errors)


class DataError(FoldwiseError):
    """A file is missing, damaged, or does not agree with the configuration."""


class Problem(NamedTuple):
    """One thing that is wrong in data: a file, or a row of a table, and why."""

    where: str
    reason: str


class DataProblems(DataError):
    """Many things that are wrong in data, told together, a line each."""

    def __init__(
        self, where: str | Path, problems: Sequence[Problem], expected: str, remedy: str = "", limit: int = 100
    ) -> None:
        self.problems = list(problems)
        self.limit = limit
        count = len(self.problems)
        super().__init__(where, Words(f"{count} problem{'' if count == 1 else 's'}"), expected, remedy)

    @property
    def message(self) -> str:
        """The first line says how many; a line each follows."""
        lines = [f"  {problem.where}: {problem.reason}" for problem in self.problems[: self.limit]]
        more = [f"  and {len(self.problems) - self.limit} more"] if len(self.problems) > self.limit else []
        return "\n".join([super().message, *lines, *more])


class MissingData(FoldwiseError):
    """Something that should have been made before is not there."""


def shorten(value: Any, limit: int = 120) -> str:
    """Show a value as in YAML, strings in quotes; of what is too long to read the middle is left out."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value) if isinstance(value, str) else str(value)
    end = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[: limit - 3 - end]}...{text[len(text) - end :]}"


def nearest(word: str, accepted: Iterable[str]) -> str:
    """Return a hint that names the accepted word nearest to `word`, or an empty string."""
    match = difflib.get_close_matches(str(word), list(accepted), n=1, cutoff=0.6)
    return f"Did you mean {match[0]!r}?" if match else ""


def one_of(accepted: Iterable[str], limit: int = 40) -> str:
    """Describe a set of accepted words, cut after `limit` of them."""
    words = list(accepted)
    if len(words) == 1:
        return words[0]
    shown = ", ".join(words[:limit])
    return f"one of {shown}" + (f" and {len(words) - limit} more" if len(words) > limit else "")
