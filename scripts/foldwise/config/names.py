"""Names of tasks and their variants: ``digits+nested-0`` is `digits` changed by a tag."""

from __future__ import annotations

import re
from dataclasses import dataclass

from foldwise.errors import ConfigError, nearest, one_of

TAGS = ("identity", "nested")
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9.-]*(?:_[A-Za-z0-9.-]+)*_?$"
NAME_WORDS = (
    "a name of letters, digits, `.`, `-` and single `_`, starting with a letter or digit, at most 100 characters"
)
NAME = re.compile(NAME_PATTERN)
INTEGER = re.compile(r"0|[1-9][0-9]{0,5}")
MAX_FOLDS = 1000
MAX_LENGTH = 200  # a variant's name is the name of a folder and of files, which systems limit to 255 bytes


@dataclass(frozen=True)
class Tag:
    """One tag of a variant.

    Parameters
    ----------
    name : str
        ``identity`` or ``nested``.
    arguments : tuple of int
        For ``nested``: the outer fold, then optionally the number of inner folds.
    """

    name: str
    arguments: tuple[int, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.arguments)])


@dataclass(frozen=True)
class TaskName:
    """A task name, split into its base and the tags applied from left to right."""

    base: str
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "+".join([self.base, *self.tags])

    @property
    def parent(self) -> TaskName:
        """The task that the last tag was applied to."""
        return TaskName(self.base, self.tags[:-1])

    @property
    def nested(self) -> bool:
        """Whether one of the folds of the base is the test split."""
        return any(tag.partition("-")[0] == "nested" for tag in self.tags)

    def on_folds(self, n_folds: int, where: str) -> tuple[TaskName, int]:
        """Return the canonical name and the number of folds after all tags, from that of the base.

        Raises
        ------
        ConfigError
            If an outer fold does not exist.
        """
        tags = []
        for tag in (parse_tag(text, where) for text in self.tags):
            if tag.name != "nested":
                tags.append(tag)
                continue
            outer, inner = (*tag.arguments, n_folds)[:2]
            if outer >= n_folds:
                raise ConfigError(where, f"+{tag}", f"an outer fold from 0 to {n_folds - 1}")
            tags.append(Tag("nested", (outer,) if inner == n_folds else (outer, inner)))
            n_folds = inner
        return TaskName(self.base, tuple(map(str, tags))), n_folds


def parse_task(text: str, where: str) -> TaskName:
    """Split a task name and check its base and every tag.

    Raises
    ------
    ConfigError
        If the base is not a name, a tag is unknown or has bad arguments, or all is too long.
    """
    base, *tags = text.split("+")
    if not NAME.fullmatch(base) or len(base) > 100:
        raise ConfigError(where, text, f"{NAME_WORDS}, then tags such as `+nested-0`")
    if len(text) > MAX_LENGTH:
        raise ConfigError(where, text, f"at most {MAX_LENGTH} characters with all tags")
    return TaskName(base, tuple(str(parse_tag(tag, where)) for tag in tags))


def parse_tag(text: str, where: str) -> Tag:
    """Read one tag, check name and arguments."""
    name, *arguments = text.split("-")
    if name not in TAGS:
        raise ConfigError(where, f"+{text}", one_of(f"+{tag}" for tag in TAGS), nearest(name, TAGS))
    if not all(INTEGER.fullmatch(argument) for argument in arguments):
        raise ConfigError(where, f"+{text}", "whole numbers after the tag, such as `+nested-0` or `+nested-0-3`")
    numbers = tuple(map(int, arguments))
    if name == "identity" and numbers:
        raise ConfigError(where, f"+{text}", "`+identity` without arguments")
    if name == "nested" and not 1 <= len(numbers) <= 2:
        raise ConfigError(where, f"+{text}", "`+nested-FOLD` or `+nested-FOLD-NFOLDS`")
    if name == "nested" and numbers[1:] and not 2 <= numbers[1] <= MAX_FOLDS:
        raise ConfigError(where, f"+{text}", f"from 2 to {MAX_FOLDS} inner folds")
    return Tag(name, numbers)


def nest(task: TaskName, fold: int) -> TaskName:
    """Return the variant whose test split is `fold` of the task."""
    return TaskName(task.base, (*task.tags, f"nested-{fold}"))
