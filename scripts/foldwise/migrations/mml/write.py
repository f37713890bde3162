"""Descriptions that mml-core opens: written of our tasks, and moved between 0.11 and 1.0 as its own modes do.

A task without a tag of mml-core's own kind keeps its name but for what mml-core cannot train: points become ``_``.
``+nested-0`` becomes ``+nested?0``, ``+subset-0.5`` ``+subset?0_5``; other variants become tasks of their own, ``+``
written as ``-``. Hard labels of multi-label tasks are written as soft ones of 0 and 1, as mml-core 1.0.4 cannot load
hard ones. What licences and keywords of its lists cannot say goes into the description.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from foldwise.artifacts import read_header, read_json
from foldwise.errors import DataError, DataProblems, Problem, Words
from foldwise.migrations.mml.keys import (
    CUSTOM,
    DROPPED,
    IGNORED,
    KEYWORDS,
    LICENCES,
    RENAMED,
    SPLITS,
    TYPES,
    UNKNOWN,
)
from foldwise.migrations.mml.root import spread
from foldwise.migrations.mml.text import Member, decode, join_members, members_of, rename
from foldwise.tasks.descriptions import check_files
from foldwise.tasks.samples import Sample, is_soft
from foldwise.tasks.task import TaskFiles, read_folds, read_samples

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
SHARED_TAGS = ("identity", "nested", "subset")
NUMBERS = {"0": "min", "1": "max"}  # what stands for classes in a regression
FEWEST_FOLDS = 2
Labeller = Callable[[str], Any]


class Kept(NamedTuple):
    """A member that 1.0 does not have: its place among the members, and its text."""

    place: int
    text: str


Extra = tuple[Kept, ...]


def to_1_0(raw: bytes, where: str | Path = "description") -> tuple[bytes, Extra]:
    """Turn a description of 0.11 into one of 1.0.

    Returns
    -------
    bytes, Extra
        The description, values spelt as before; and what has no place in it, for the way back.

    Raises
    ------
    DataError
        If it is no description of 0.11.
    """
    text = decode(raw, where)
    members = list(members_of(text, where))
    check_keys(members, [*RENAMED.values(), *DROPPED], [*RENAMED], "0.11", where)
    kept = tuple(Kept(place, member.text) for place, member in enumerate(members) if member.key in DROPPED)
    names = {old: new for new, old in RENAMED.items()}
    texts = [rename(member, names) for member in members if member.key not in DROPPED]
    return join_members(text, texts).encode("utf-8"), kept


def to_0_11(raw: bytes, extra: Extra, where: str | Path = "description") -> bytes:
    """Turn a description of 1.0 into one of 0.11.

    Parameters
    ----------
    raw : bytes
        The description.
    extra : Extra
        From `to_1_0`, or from `new_extra` if it never was of 0.11.
    where : str or Path
        What messages are about.

    Raises
    ------
    DataError
        If it is no description of 1.0.
    """
    text = decode(raw, where)
    members = list(members_of(text, where))
    check_keys(members, [*RENAMED], [*RENAMED.values(), *DROPPED], "1.0", where)
    texts = [rename(member, RENAMED) for member in members]
    for place, kept in sorted(extra):
        texts.insert(place, kept)
    return join_members(text, texts).encode("utf-8")


def new_extra(path: Path) -> Extra:
    """Return what mml-core puts in front when it goes back to 0.11: the id is made of folder and file."""
    values = (f"{path.parent.name}%{path.stem}", "", "")
    return tuple(
        Kept(place, f'"{key}":{json.dumps(value, ensure_ascii=False)}')
        for place, (key, value) in enumerate(zip(DROPPED, values, strict=True))
    )


def check_keys(
    members: Sequence[Member], needed: Sequence[str], foreign: Sequence[str], version: str, where: str | Path
) -> None:
    """Raise `DataError` unless the keys are those of a version."""
    keys = {member.key for member in members}
    if missing := [key for key in needed if key not in keys]:
        raise DataError(where, Words(f"no key {missing[0]}"), f"a description of version {version}")
    if wrong := [key for key in foreign if key in keys]:
        raise DataError(where, Words(f"the key {wrong[0]}"), f"a description of version {version}")


def mml_name(name: str) -> str:
    """Return what one of our tasks is called there, by the rules above; two names may become one."""
    base, *tags = name.split("+")
    if all(tag.partition("-")[0] in SHARED_TAGS for tag in tags):
        written = [tag.replace("-", "?").replace(".", "_") for tag in tags]
        return "+".join([base.replace(".", "_"), *written])
    return name.replace("+", "-").replace(".", "_")


def mml_names(names: Iterable[str]) -> dict[str, str]:
    """Return what each of our tasks is called there, no two the same; numbers go to those that follow when sorted."""
    wanted = {name: mml_name(name) for name in sorted(set(names))}
    return spread(wanted, [name for name in wanted if wanted[name] == name], "_")


def file_name(name: str) -> str:
    """Return the file of the description of a task, by its name there."""
    return f"TASK_{name}.json"


def write_description(
    files: TaskFiles,
    images: Mapping[str, str],
    *,
    name: str = "",
    masks: Mapping[str, str] | None = None,
    mask_values: Mapping[str, Sequence[int]] | None = None,
) -> bytes:
    """Return the description of one of our tasks, as mml-core 1.0.4 opens it.

    Parameters
    ----------
    files : TaskFiles
        The task.
    images : mapping of str to str
        Path of each image, relative to the folder of the description and inside it.
    name : str
        Its name there; `mml_name` of ours if empty.
    masks : mapping of str to str, optional
        Path of each mask as `images`, by its path in ``samples.csv``; the same if not given.
    mask_values : mapping of str to sequence of int, optional
        Values in masks that make each class; 0, 1, ... in the order of classes if not given.

    Raises
    ------
    MissingData, DataError
        If a file of the task is missing or damaged, or its masks have values that mml-core takes for others.
    DataProblems
        If samples cannot be written: they have no label, no fold or a file that mml-core cannot read; lists all.
    """
    tree = read_json(files.description)
    check_files(files.description, tree["checksums"], files.tables, "create_task")
    samples, folds, kind = read_samples(files), read_folds(files), tree["type"]
    names = class_values(tree, mask_values, files.description)
    target = target_of(kind, read_header(files.samples))
    labeller = labeller_of(target, tree["classes"], masks)
    problems: list[Problem] = []
    splits: dict[str, dict[str, Any]] = {split: {} for split in SPLITS}
    for sample in samples:
        split = "unlabeled" if kind == "unlabeled" else sample.split
        shown = None if split == "unlabeled" else target
        splits[split][sample.sample_id] = entry_of(sample, images, shown, labeller, problems)
    train_folds = fold_lists(splits["train"], folds, problems) if kind != "unlabeled" else []
    if problems:
        raise DataProblems(files.samples, problems, "samples that mml-core can read", "Leave the task out.")
    written = "soft_classes" if target == "classes" else target
    paths = {modality: suffixes(splits, modality) for modality in ("image", written) if modality}
    values = {
        "name": name or mml_name(tree["task"]),
        "task_type": {ours: theirs for theirs, ours in TYPES.items()}[kind],
        "modalities": paths,
        "means": [],
        "stds": [],
        "sizes": [],
        "idx_to_class": names,
        "class_occ": count_classes(names, splits["train"], target),
        **about(tree),
        "unlabeled_samples": splits["unlabeled"],
        "train_folds": train_folds,
        "train_samples": splits["train"],
        "test_samples": splits["test"],
    }
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def class_values(
    tree: Mapping[str, Any], mask_values: Mapping[str, Sequence[int]] | None, where: Path
) -> dict[str, str]:
    """Return the name of each value, so that classes come in our order."""
    if tree["type"] in ("regression", "unlabeled"):
        return NUMBERS if tree["type"] == "regression" else {}
    values = mask_values or {label: [place] for place, label in enumerate(tree["classes"])}
    names = {value: label for label in tree["classes"] for value in values[label]}
    ordered = list(dict.fromkeys(names[value] for value in sorted(names)))
    if ordered != tree["classes"] or max(names) >= IGNORED:
        reason = f"masks with values {', '.join(map(str, names))}"
        remedy = "Write masks with the place of the class as value."
        raise DataError(where, Words(reason), f"values below {IGNORED} that increase with the classes", remedy)
    return {str(value): names[value] for value in sorted(names)}


def target_of(kind: str, columns: Sequence[str]) -> str | None:
    """Return the modality that holds what is learned and, for multi-label tasks, how it is read."""
    if kind == "multilabel":
        return "soft_classes" if is_soft(columns) else "classes"
    return {"classification": "class", "regression": "value", "segmentation": "mask"}.get(kind)


def labeller_of(target: str | None, classes: Sequence[str], masks: Mapping[str, str] | None) -> Labeller:
    """Return what turns a cell of ``samples.csv`` into the value of a modality."""
    places = {label: place for place, label in enumerate(classes)}
    labellers: dict[str | None, Labeller] = {
        "class": lambda cell: places[cell],
        "classes": lambda cell: [float(label in cell.split(";")) for label in classes],
        "soft_classes": lambda cell: [float(share) for share in cell.split(";")],
        "value": float,
        "mask": lambda cell: check_path(cell if masks is None else masks[cell]),
    }
    return labellers.get(target, str)


def entry_of(
    sample: Sample, images: Mapping[str, str], target: str | None, labeller: Labeller, problems: list[Problem]
) -> dict[str, Any]:
    """Return a sample as it is written; what is wrong with it goes into `problems`."""
    try:
        entry: dict[str, Any] = {"image": check_path(images[sample.image])}
        if target:
            if not sample.target and target != "classes":
                raise ValueError(f"a {sample.split} sample without a label")
            entry["soft_classes" if target == "classes" else target] = labeller(sample.target)
        return entry
    except KeyError as error:
        problems.append(Problem(sample.sample_id, f"{error.args[0]} is not known"))
    except ValueError as error:
        problems.append(Problem(sample.sample_id, str(error)))
    return {}


def check_path(path: str) -> str:
    """Return a path; raise `ValueError` if it leaves the folder or is of a file that mml-core cannot read."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path:
        raise ValueError(f"{path} is not inside the dataset's folder")
    if pure.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} is none of {', '.join(SUFFIXES)}")
    return path


def fold_lists(train: Mapping[str, Any], folds: Mapping[str, int], problems: list[Problem]) -> list[list[str]]:
    """Return the ids of each fold."""
    lists: list[list[str]] = [[] for _ in range(max(folds.values(), default=-1) + 1)]
    for name in train:
        if name in folds:
            lists[folds[name]].append(name)
        else:
            problems.append(Problem(name, "a training sample in no fold"))
    if len(lists) < FEWEST_FOLDS:
        problems.append(Problem("folds", f"{len(lists)} folds, where mml-core needs {FEWEST_FOLDS}"))
    return lists


def suffixes(splits: Mapping[str, Mapping[str, Any]], modality: str) -> str:
    """Return the suffixes of the files of a modality; none of what is no file."""
    if modality not in ("image", "mask"):
        return ""
    files = (entry[modality] for entries in splits.values() for entry in entries.values() if modality in entry)
    return "".join(f"{suffix}; " for suffix in sorted({PurePosixPath(file).suffix for file in files}))


def count_classes(names: Mapping[str, str], train: Mapping[str, Any], target: str | None) -> dict[str, int]:
    """Return how many training samples each class has; masks are not opened, so that each class may be in all."""
    labels = list(dict.fromkeys(names.values()))
    match target:
        case "class":
            counts = Counter(entry["class"] for entry in train.values())
            return {label: counts[place] for place, label in enumerate(labels)}
        case "classes" | "soft_classes":
            rows = [entry["soft_classes"] for entry in train.values()]
            return {label: int(sum(row[place] for row in rows)) for place, label in enumerate(labels)}
        case "mask":
            return dict.fromkeys(labels, len(train))
        case _:
            return dict.fromkeys(labels, 0)


def about(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells about the images; what the lists of mml-core do not have goes into the description."""
    licence, keywords = tree.get("licence"), tree.get("keywords", [])
    known = LICENCES.get(licence or "", licence if licence in LICENCES.values() else None)
    others = [word for word in keywords if word not in KEYWORDS]
    lines = [f"Licence: {licence}"] if licence and known is None else []
    lines += [f"Keywords: {', '.join(others)}"] if others else []
    return {
        "keywords": [word for word in keywords if word in KEYWORDS],
        "description": "\n".join(lines),
        "creation_protocol": "",
        "reference": tree.get("reference") or "",
        "url": "",
        "download": "",
        "license": known or (CUSTOM if licence else UNKNOWN),
        "release": "",
    }
