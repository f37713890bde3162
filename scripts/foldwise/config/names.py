"""Names of tasks and their variants: ``digits+nested-0`` is `digits` changed by a tag."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from foldwise.errors import ConfigError, nearest, one_of

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9.-]*(?:_[A-Za-z0-9.-]+)*_?$"
NAME_WORDS = (
    "a name of letters, digits, `.`, `-` and single `_`, starting with a letter or digit, at most 100 characters"
)
NAME = re.compile(NAME_PATTERN)
INTEGER = re.compile(r"0|[1-9][0-9]{0,5}")
FRACTION = re.compile(r"[0-9]*\.?[0-9]+|[0-9]+\.")
CLASS = re.compile(r"[A-Za-z0-9_]+")
FUNCTION_NAME_PATTERN = r"^[A-Za-z0-9]+(?:_[A-Za-z0-9]+)*$"
FUNCTION_NAME_WORDS = "a name of letters, digits and single `_` between them"
FUNCTION_NAME = re.compile(FUNCTION_NAME_PATTERN)
ARGUMENT = re.compile(r"[A-Za-z0-9._]+")
MAX_FOLDS = 1000
MAX_LENGTH = 200  # a variant's name is the name of a folder and of files, which systems limit to 255 bytes


@dataclass(frozen=True)
class Tag:
    """One tag of a variant, arguments in canonical form.

    Parameters
    ----------
    name : str
        One of `TAGS`.
    arguments : tuple of str
        As they are written in the variant's name.
    """

    name: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.name, *self.arguments])

    @property
    def fold(self) -> int:
        """The outer fold of `nested`."""
        return int(self.arguments[0])

    @property
    def fraction(self) -> float:
        """The share of `subset` or `noise`."""
        return float(self.arguments[0])

    @property
    def seed(self) -> int:
        """The seed of `subset` or `noise`."""
        return int(self.arguments[1]) if len(self.arguments) > 1 else 0

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that `classes` keeps, by name or index."""
        return tuple(self.arguments[0].split("."))

    @property
    def function(self) -> str:
        """The name under which the function of `own` is registered."""
        return self.arguments[0]

    @property
    def values(self) -> tuple[str, ...]:
        """What the function of `own` is called with beside the samples."""
        return self.arguments[1:]


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

    @property
    def functions(self) -> list[str]:
        """The names of the functions that its `own` tags call, in order."""
        return [text.split("-")[1] for text in self.tags if text.startswith("own-")]

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
            outer, inner = (*map(int, tag.arguments), n_folds)[:2]
            if outer >= n_folds:
                raise ConfigError(where, f"+{tag}", f"an outer fold from 0 to {n_folds - 1}")
            tags.append(Tag("nested", tag.arguments[:1] if inner == n_folds else tag.arguments))
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
    name = TaskName(base, tuple(str(parse_tag(tag, where)) for tag in tags))
    if len(text) > MAX_LENGTH or len(str(name)) > MAX_LENGTH:
        raise ConfigError(where, text, f"at most {MAX_LENGTH} characters with all tags")
    return name


def parse_tag(text: str, where: str) -> Tag:
    """Read one tag, check name and arguments, bring them into canonical form."""
    name, *arguments = text.split("-")
    if name not in TAGS:
        raise ConfigError(where, f"+{text}", one_of(f"+{tag}" for tag in TAGS), nearest(name, TAGS))
    usage, read = TAGS[name]
    canonical = read(arguments)
    if canonical is None:
        raise ConfigError(where, f"+{text}", usage)
    return Tag(name, canonical)


Arguments = tuple[str, ...] | None


def read_identity(arguments: list[str]) -> Arguments:
    """Accept no arguments."""
    return None if arguments else ()


def read_nested(arguments: list[str]) -> Arguments:
    """Read an outer fold and, if there is one, a number of inner folds."""
    if not 1 <= len(arguments) <= 2 or not all(map(INTEGER.fullmatch, arguments)):
        return None
    return tuple(arguments) if all(2 <= int(folds) <= MAX_FOLDS for folds in arguments[1:]) else None


def read_share(arguments: list[str]) -> Arguments:
    """Read a fraction above 0 and at most 1 and, if it is not 0, a seed."""
    if not 1 <= len(arguments) <= 2 or not FRACTION.fullmatch(arguments[0]) or len(arguments[0]) > 12:
        return None
    fraction, seed = float(arguments[0]), arguments[1:]
    if not 0 < fraction <= 1 or not all(map(INTEGER.fullmatch, seed)):
        return None
    written = f"{fraction:.12f}".rstrip("0").rstrip(".")
    return (written, *(number for number in seed if number != "0"))


def read_classes(arguments: list[str]) -> Arguments:
    """Read at least two distinct classes, separated by points."""
    classes = arguments[0].split(".") if len(arguments) == 1 else []
    distinct = len(set(classes)) == len(classes) >= 2
    return (arguments[0],) if distinct and all(map(CLASS.fullmatch, classes)) else None


def read_own(arguments: list[str]) -> Arguments:
    """Read the name of a function and what it is called with."""
    name, *values = arguments or [""]
    return tuple(arguments) if FUNCTION_NAME.fullmatch(name) and all(map(ARGUMENT.fullmatch, values)) else None


TAGS: dict[str, tuple[str, Callable[[list[str]], Arguments]]] = {
    "identity": ("`+identity` without arguments", read_identity),
    "nested": (
        f"`+nested-FOLD` or `+nested-FOLD-NFOLDS` with whole numbers, NFOLDS from 2 to {MAX_FOLDS}",
        read_nested,
    ),
    "subset": (
        "`+subset-FRACTION` or `+subset-FRACTION-SEED`, a fraction above 0 and at most 1, a whole number",
        read_share,
    ),
    "classes": (
        "`+classes-A.B.C`: two or more distinct classes by name or index (by index if a name has other characters "
        "than letters, digits and `_`)",
        read_classes,
    ),
    "noise": (
        "`+noise-FRACTION` or `+noise-FRACTION-SEED`, a fraction above 0 and at most 1, a whole number",
        read_share,
    ),
    "own": (
        "`+own-FUNCTION` or `+own-FUNCTION-ARGUMENT-...`: a name out of `tagging.functions`, of letters, digits and "
        "single `_`, then any texts of letters, digits, `.` and `_`",
        read_own,
    ),
}
TAGGED_TYPES = {
    "classes": ("classification", "multilabel", "segmentation"),
    "noise": ("classification",),
}


def nest(task: TaskName, fold: int) -> TaskName:
    """Return the variant whose test split is `fold` of the task."""
    return TaskName(task.base, (*task.tags, f"nested-{fold}"))
