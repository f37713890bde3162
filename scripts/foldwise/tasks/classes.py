"""From labels as a source writes them to the classes of a task."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from foldwise.config.definition import Classes
from foldwise.errors import DataError, DataProblems, Problem, Words, nearest, shorten

WHOLE = re.compile(r"[+-]?\d{1,18}(\.0*)?", re.ASCII)
INDEX = re.compile(r"\d{1,9}", re.ASCII)
UNUSABLE = re.compile(r"[;\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|^$")


class UnknownLabel(ValueError):
    """A label that is in none of the classes."""

    def __init__(self, label: str, known: Collection[str]) -> None:
        super().__init__("NaN is no label" if is_nan(label) else f"label {shorten(label)} is in none of the classes")
        self.label = label
        self.known = known

    def told(self, hinted: bool) -> str:
        """Return the reason, with the nearest label if it is asked for."""
        hint = nearest(self.label, self.known) if hinted else ""
        return f"{self}. {hint}" if hint else str(self)


@dataclass(frozen=True)
class Vocabulary:
    """Classes in the order of logits, and the class of each label that has one."""

    classes: list[str]
    class_of: dict[str, str]
    known: Collection[str]

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each class."""
        return {name: place for place, name in enumerate(self.classes)}

    def find(self, label: str) -> str:
        """Return the class of a label; raise `UnknownLabel` if it has none."""
        if label not in self.class_of:
            raise UnknownLabel(label, self.known)
        return self.class_of[label]


def name_classes(labels: Collection[str], given: Classes | None, class_names: Sequence[str], where: str) -> Vocabulary:
    """Find the classes of a task and the class of each label.

    Parameters
    ----------
    labels : collection of str
        The labels that occur.
    given : list, dict or None
        From the definition: classes in order, or what is merged into each of them, or nothing.
    class_names : sequence of str
        Names that the source has for its classes.
    where : str
        What messages are about.

    Returns
    -------
    Vocabulary
        Without `given`, classes are in the order of `class_names`, whole numbers by value, others sorted.

    Raises
    ------
    DataError
        If a label is in two classes, or the same number is written in two ways among words.
    DataProblems
        If classes have names that cannot be used.

    Notes
    -----
    Labels that are all whole numbers lose ``.0``, which programs add where a column has empty cells. Where the source
    names its classes and all labels are indexes, they are turned into names. Neither is done where the definition
    lists labels as they are written.
    """
    listed = list_labels(given, where)
    labels = [label for label in labels if not is_nan(label) or label in listed]
    spelled = spell(labels, listed, class_names, where)
    if given is None:
        vocabulary = Vocabulary(in_order(set(spelled.values()), class_names), spelled, [])
    else:
        class_of = {label: listed[word] for label, word in spelled.items() if word in listed}
        vocabulary = Vocabulary([str(name) for name in given], class_of, listed)
    check_names(vocabulary.classes, where)
    return vocabulary


def is_nan(label: str) -> bool:
    """Tell whether a label stands for a missing number."""
    return label.lower() == "nan"


def list_labels(given: Classes | None, where: str) -> dict[str, str]:
    """Return the class of each label that a definition lists."""
    members = given if isinstance(given, dict) else {str(name): [name] for name in given or []}
    if given is not None and len(members) != len(given):
        raise DataError(where, Words("a class twice in `classes`"), "each class once")
    classes: dict[str, str] = {}
    for name, labels in members.items():
        for label in map(str, labels):
            if label in classes:
                found = Words(f"label {label!r} in classes {classes[label]!r} and {name!r}")
                raise DataError(where, found, "each label in one class", "Mend `classes`.")
            classes[label] = name
    return classes


def spell(labels: Collection[str], listed: Mapping[str, str], class_names: Sequence[str], where: str) -> dict[str, str]:
    """Return how each label is written in the list of classes."""
    plain = {label: label for label in labels}
    whole = all(map(WHOLE.fullmatch, labels))
    short = {label: drop_zeros(label) for label in labels} if whole else plain
    named = {label: class_names[int(word)] for label, word in short.items()} if index(short, class_names) else short
    if listed:
        return max([plain, short, named], key=lambda words: sum(word in listed for word in words.values()))
    if not whole:
        check_numbers(labels, where)
    return named


def drop_zeros(label: str) -> str:
    """Return a whole number without decimals."""
    return label.partition(".")[0]


def index(words: Mapping[str, str], class_names: Sequence[str]) -> bool:
    """Tell whether all words are indexes of class names, and none is one of them."""
    names = set(class_names)
    return all(INDEX.fullmatch(word) and int(word) < len(class_names) and word not in names for word in words.values())


def check_numbers(labels: Iterable[str], where: str) -> None:
    """Raise `DataError` if labels, not all of which are whole numbers, write the same one in two ways."""
    numbers: dict[str, str] = {}
    for label in sorted(labels):
        if WHOLE.fullmatch(label):
            other = numbers.setdefault(drop_zeros(label), label)
            if other != label:
                found = Words(f"classes {other!r} and {label!r} beside some that are no whole numbers")
                raise DataError(where, found, "one spelling of each class", "Mend the labels, or merge by `classes`.")


def in_order(names: set[str], class_names: Sequence[str]) -> list[str]:
    """Bring classes into the order of the source, of numbers, or of the alphabet."""
    if names <= set(class_names):
        return [name for name in dict.fromkeys(class_names) if name in names]
    if all(map(WHOLE.fullmatch, names)):
        return sorted(names, key=lambda name: (int(drop_zeros(name)), name))
    return sorted(names)


def check_names(classes: Iterable[str], where: str) -> None:
    """Raise `DataProblems` if names of classes cannot be used."""
    reason = "a class must not be empty or contain `;` or control characters"
    problems = [Problem(f"class {shorten(name)}", reason) for name in classes if UNUSABLE.search(name)]
    if problems:
        remedy = "Rename it by `classes`; where a sample has several classes, set type to multilabel."
        raise DataProblems(where, problems, "names that can stand in a table", remedy)


def column_classes(names: Sequence[str], given: Classes | None, where: str) -> Vocabulary:
    """Find the classes of a task that has a column, or a place in a list, for each label.

    Raises
    ------
    DataProblems
        Naming columns without a class and classes without a column.
    """
    vocabulary = name_classes(names, given, names, where)
    used = set(vocabulary.class_of.values())
    problems = []
    for name in names:
        try:
            vocabulary.find(name)
        except UnknownLabel as error:
            problems.append(Problem(f"column {name}", error.told(True)))
    problems += [Problem(f"class {name!r}", "has no column") for name in vocabulary.classes if name not in used]
    if problems:
        raise DataProblems(where, problems, "each column in one class, and a column for each class", "Mend `classes`.")
    return vocabulary
