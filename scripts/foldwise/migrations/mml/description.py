"""Descriptions of tasks, ``TASK_*.json``: read and checked, so that nothing of their meaning is lost unseen."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from foldwise.artifacts import reading
from foldwise.errors import UNKNOWN_KEY, DataError, DataProblems, Problem, Words, nearest, one_of, shorten
from foldwise.migrations.mml.keys import (
    DROPPED,
    EMPTY_MASK,
    IGNORED,
    KEYS,
    MODALITIES,
    RENAMED,
    SPLITS,
    TARGETS,
    TEXTS,
    TYPES,
)
from foldwise.migrations.mml.text import decode, members_of

CONSISTENT = "a description whose samples, classes and folds agree"
PARTS = ("RAW", "PREPROCESSED")
Label = str | tuple[str, ...] | tuple[float, ...] | float | None


class Sample(NamedTuple):
    """A sample of a task.

    Parameters
    ----------
    image : str
        Path as it is written, ``/`` between folders; relative to the folder of the description, or absolute.
    mask : str or None
        Path of its mask, or `EMPTY_MASK` where all is background.
    label : str, tuple or float
        Classification: name of the class. Multi-label: names of classes, or a number for each class if labels are soft.
        Regression: the value. None for segmentation and for unlabeled samples.
    """

    image: str
    mask: str | None = None
    label: Label = None


@dataclass(frozen=True)
class Description:
    """What a description says.

    Parameters
    ----------
    path : Path
        Its file.
    name : str
        Name of the task, with tags.
    type : str
        Task type, in our words.
    version : str
        ``0.11`` or ``1.0`` (as of 0.12), told from its keys.
    keywords, licence, reference, url, description
        As they are written.
    modalities : dict of str to str
        Suffixes of files, by modality.
    soft : bool
        Whether labels are a number for each class.
    idx_to_class : dict of int to str
        Names of values, in the order of the file; several values may have one name.
    classes : tuple of str
        Distinct names in order of increasing values, which is that of logits; none for regression and unlabeled.
    samples : dict of str to dict of str to Sample
        Samples by id, in the order of the file, of each of train, test and unlabeled.
    folds : list of list of str
        Ids of the training samples of each fold.
    in_no_fold : tuple of str
        Training samples in no fold: they are never used there.
    raw : bytes
        The file.
    """

    path: Path
    name: str
    type: str
    version: str
    keywords: tuple[str, ...]
    licence: str
    reference: str
    url: str
    description: str
    modalities: dict[str, str]
    soft: bool
    idx_to_class: dict[int, str]
    classes: tuple[str, ...]
    samples: dict[str, dict[str, Sample]]
    folds: list[list[str]]
    in_no_fold: tuple[str, ...]
    raw: bytes


def read_description(path: str | Path, root: str | Path | None = None) -> Description:
    """Read a description of 0.11 to 1.0.

    Parameters
    ----------
    path : str or Path
        The file.
    root : str or Path, optional
        The data root, which no path of a sample may leave; found by its folder ``RAW`` or ``PREPROCESSED`` if not
        given, and without these the folder of the file.

    Raises
    ------
    MissingData, DataError
        If the file is missing, damaged, or says what cannot be kept.
    DataProblems
        If samples, classes and folds do not agree; lists all that is wrong.
    """
    path = Path(path)
    with reading(path, "a description of a task", "Mend or remove it.") as found:
        raw = found.read_bytes()
    tree, version = read_keys(raw, path)
    kind = read_type(tree, path)
    idx_to_class = read_names(tree["idx_to_class"], path, kind)
    classes = tuple(dict.fromkeys(idx_to_class[key] for key in sorted(idx_to_class)))
    target = read_target(tree["modalities"], kind, path)
    reader = Reader(path.parent, root_of(path) if root is None else Path(root), idx_to_class, len(classes), target)
    problems: list[Problem] = []
    samples = {split: reader.read(tree[key], key, split, problems) for split, key in SPLITS.items()}
    problems += repeated(samples)
    in_no_fold = check_folds(tree["train_folds"], samples["train"], problems)
    if problems:
        raise DataProblems(path, problems, CONSISTENT, "Mend the description.")
    return Description(
        path=path,
        name=tree["name"],
        type=kind,
        version=version,
        keywords=tuple(tree["keywords"]),
        licence=tree["license"],
        reference=tree["reference"],
        url=tree["url"],
        description=tree["description"],
        modalities=tree["modalities"],
        soft=target == "soft_classes",
        idx_to_class=idx_to_class,
        classes=() if kind in ("regression", "unlabeled") else classes,
        samples=samples,
        folds=tree["train_folds"],
        in_no_fold=in_no_fold,
        raw=raw,
    )


def version_of(keys: Mapping[str, Any]) -> str:
    """Tell the version of a description from its keys."""
    return "0.11" if "alias" in keys else "1.0"


def read_keys(raw: bytes, path: Path) -> tuple[dict[str, Any], str]:
    """Return the values of a description by their keys of 1.0, and its version; check keys and types of values."""
    tree = {member.key: member.value for member in members_of(decode(raw, path), path)}
    version = version_of(tree)
    names = {key: RENAMED.get(key, key) if version == "0.11" else key for key in KEYS}
    accepted = [*names.values(), *(DROPPED if version == "0.11" else ())]
    for key in tree:
        if key not in accepted:
            raise DataError(f"{path}: {key}", UNKNOWN_KEY, f"the keys of version {version}", nearest(key, accepted))
    for key in accepted:
        if key not in tree:
            raise DataError(f"{path}: {key}", Words("no such key"), f"all keys of version {version}")
    for key, name in names.items():
        if not CHECKS[key].accepts(tree[name]):
            raise DataError(f"{path}: {name}", tree[name], CHECKS[key].words)
    if not tree[names["name"]]:
        raise DataError(f"{path}: {names['name']}", "", "the name of a task")
    return {key: tree[name] for key, name in names.items()}, version


def is_texts(value: Any) -> bool:
    """Tell whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_whole(value: Any) -> bool:
    """Tell whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Tell whether a value is a number."""
    return is_whole(value) or isinstance(value, float)


def is_numbers(value: Any) -> bool:
    """Tell whether a value is a list of numbers."""
    return isinstance(value, list) and all(map(is_number, value))


def is_folds(value: Any) -> bool:
    """Tell whether a value is a list of lists of ids."""
    return isinstance(value, list) and all(map(is_texts, value))


def is_samples(value: Any) -> bool:
    """Tell whether a value is a mapping of mappings."""
    return isinstance(value, dict) and all(isinstance(sample, dict) for sample in value.values())


class Check(NamedTuple):
    """What values a key takes: in words, and what tells whether a value is one."""

    words: str
    accepts: Callable[[Any], bool]


TEXT = Check("a text", lambda value: isinstance(value, str))
NUMBERS = Check("a list of numbers", is_numbers)
NAMES = Check("a mapping to texts", lambda value: isinstance(value, dict) and is_texts(list(value.values())))
SAMPLES = Check("a mapping of samples", is_samples)
CHECKS = {
    **dict.fromkeys(("name", "task_type", *TEXTS), TEXT),
    **dict.fromkeys(("means", "stds", "sizes"), NUMBERS),
    **dict.fromkeys(("modalities", "idx_to_class"), NAMES),
    **dict.fromkeys(SPLITS.values(), SAMPLES),
    "keywords": Check("a list of texts", is_texts),
    "train_folds": Check("a list of lists of sample ids", is_folds),
    "class_occ": Check(
        "a mapping to whole numbers", lambda value: isinstance(value, dict) and all(map(is_whole, value.values()))
    ),
}


def read_type(tree: Mapping[str, Any], path: Path) -> str:
    """Return the task type in our words."""
    if tree["task_type"] not in TYPES:
        raise DataError(f"{path}: task_type", tree["task_type"], one_of(TYPES), "Others cannot be learned here.")
    return TYPES[tree["task_type"]]


def read_names(tree: Mapping[str, str], path: Path, kind: str) -> dict[int, str]:
    """Return the names of values, and check that they are usable for the type."""
    where = f"{path}: idx_to_class"
    for key in tree:
        if not (key.isascii() and key.isdecimal() and str(int(key)) == key):
            raise DataError(where, key, "whole numbers as keys")
    names = {int(key): name for key, name in tree.items()}
    if not names and kind not in ("regression", "unlabeled"):
        raise DataError(where, Words("no classes"), "a name for each class")
    if kind == "multilabel" and sorted(names) != list(range(len(set(names.values())))):
        raise DataError(where, Words(f"keys {shorten(sorted(names))}"), "keys 0, 1, ... with a name of its own each")
    if kind == "multilabel" and any(";" in name for name in names.values()):
        raise DataError(where, Words("a name with `;`"), "names without it, as it separates classes", "Rename it.")
    if kind == "segmentation" and max(names) >= IGNORED:
        raise DataError(where, max(names), f"values of masks from 0 to {IGNORED - 1}", f"{IGNORED} is ignored.")
    return names


def read_target(modalities: Mapping[str, str], kind: str, path: Path) -> str | None:
    """Return the modality that holds what is learned; none of unlabeled tasks."""
    where = f"{path}: modalities"
    for modality in modalities:
        if modality not in MODALITIES:
            raise DataError(where, modality, one_of(MODALITIES), "Others cannot be read here.")
    targets = [modality for modality in TARGETS[kind] if modality in modalities]
    if "image" not in modalities or len(targets) != bool(TARGETS[kind]):
        expected = f"image and {one_of(TARGETS[kind])}" if TARGETS[kind] else "image"
        raise DataError(where, Words(", ".join(modalities) or "none"), f"{expected}, as the task is {kind}")
    return targets[0] if targets else None


def root_of(path: Path) -> Path:
    """Return the data root that a description lies in, or else its folder."""
    folder = normal(path).parent
    return next((parent.parent for parent in folder.parents if parent.name in PARTS), folder)


def normal(path: Path) -> Path:
    """Return an absolute path without ``..``; links stay, as they may lead anywhere."""
    return Path(os.path.normpath(path.absolute()))


@dataclass(frozen=True)
class Reader:
    """Reads samples.

    Parameters
    ----------
    folder, root : Path
        Folder of the description, and the data root.
    names : mapping of int to str
        Names of classes by value.
    n_classes : int
        Number of distinct names.
    target : str or None
        The modality that holds what is learned.
    """

    folder: Path
    root: Path
    names: Mapping[int, str]
    n_classes: int
    target: str | None

    def read(self, tree: dict[str, Any], key: str, split: str, problems: list[Problem]) -> dict[str, Sample]:
        """Read the samples of a split; what is wrong goes into `problems`."""
        samples = {}
        for name, values in tree.items():
            try:
                samples[name] = self.read_sample(values, labelled=split != "unlabeled")
            except ValueError as error:
                problems.append(Problem(f"{key}.{name}", str(error)))
                samples[name] = Sample("")
        return samples

    def read_sample(self, values: Mapping[str, Any], labelled: bool) -> Sample:
        """Read a sample; raise `ValueError` with a reason."""
        if unknown := [modality for modality in values if modality not in MODALITIES]:
            raise ValueError(f"an unknown modality {unknown[0]}")
        if "image" not in values:
            raise ValueError("no image")
        image = self.read_path(values["image"], "image")
        if not labelled or self.target is None:
            return Sample(image)
        if self.target not in values:
            raise ValueError(f"no {self.target}")
        mask = values.get("mask")
        mask = mask if mask in (None, EMPTY_MASK) else self.read_path(mask, "mask")
        if self.target == "mask" and mask is None:
            raise ValueError("no mask")
        return Sample(image, mask, self.read_label(values[self.target]))

    def read_path(self, value: Any, modality: str) -> str:
        """Return a path as written, of Windows with ``/``; raise `ValueError` if it is none or leaves the root."""
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(f"{modality} is {shorten(value)}, no path")
        if "\\" in value and not (self.folder / value).exists():
            value = value.replace("\\", "/")
        if PureWindowsPath(value).drive:
            raise ValueError(f"{modality} {value} is on a drive of another system")
        leaves = value.startswith("/") or ".." in value.split("/")
        if leaves and not normal(self.folder / value).is_relative_to(normal(self.root)):
            raise ValueError(f"{modality} {value} is outside the data root {self.root}")
        return value

    def read_label(self, value: Any) -> Label:
        """Return what is learned, in names of classes; raise `ValueError` with a reason."""
        match self.target:
            case "class":
                return self.name_of(value)
            case "classes":
                if not isinstance(value, list):
                    raise ValueError(f"classes is {shorten(value)}, no list")
                return tuple(map(self.name_of, value))
            case "soft_classes":
                if not (isinstance(value, list) and all(is_number(share) and 0 <= share <= 1 for share in value)):
                    raise ValueError(f"soft_classes is {shorten(value)}, no numbers from 0 to 1")
                if len(value) != self.n_classes:
                    raise ValueError(f"{len(value)} numbers for {self.n_classes} classes")
                return tuple(map(float, value))
            case "value":
                if not is_number(value):
                    raise ValueError(f"value is {shorten(value)}, no number")
                return float(value)
        return None

    def name_of(self, value: Any) -> str:
        """Return the name of a class."""
        if not is_whole(value) or value not in self.names:
            raise ValueError(f"class {shorten(value)} has no name in idx_to_class")
        return self.names[value]


def repeated(samples: Mapping[str, Mapping[str, Sample]]) -> list[Problem]:
    """Return a problem for each id that is in two splits."""
    seen: dict[str, str] = {}
    problems = []
    for split, found in samples.items():
        for name in found:
            if seen.setdefault(name, split) != split:
                problems.append(Problem(f"{SPLITS[split]}.{name}", f"the id is in {SPLITS[seen[name]]} too"))
    return problems


def check_folds(folds: list[list[str]], train: Mapping[str, Sample], problems: list[Problem]) -> tuple[str, ...]:
    """Return the training samples in no fold; ids that do not exist or are in two folds go into `problems`."""
    seen: dict[str, int] = {}
    for number, fold in enumerate(folds):
        for name in fold:
            if name not in train:
                problems.append(Problem(f"train_folds.{number}", f"{name} is no training sample"))
            elif name in seen:
                problems.append(Problem(f"train_folds.{number}", f"{name} is in fold {seen[name]} too"))
            seen.setdefault(name, number)
    return tuple(name for name in train if name not in seen)
