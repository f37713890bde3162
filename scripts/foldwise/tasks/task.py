"""Tasks: descriptions, samples, splits and folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foldwise.artifacts import FORMAT_VERSION, lock, read_csv, sha256, write_csv, write_json
from foldwise.config.canonical import differences
from foldwise.config.definition import DatasetRecord, Description, TaskRecord
from foldwise.config.names import parse_tag
from foldwise.tasks.dataset import check_definition, check_files, is_current
from foldwise.tasks.splits import deal_balanced_folds, deal_folds, take_stratified

SPLITS = ("train", "test", "unlabeled")
SAMPLE_COLUMNS = ("sample_id", "split", "image", "class", "group")
TEST_FRACTION = 1 / 6
UNLABELED_FRACTION = 1 / 15


class Sample(NamedTuple):
    """A row of ``samples.csv``."""

    sample_id: str
    split: str
    image: str
    label: str
    group: str


class TaskFiles(NamedTuple):
    """The three files of a task."""

    description: Path
    samples: Path
    folds: Path

    @classmethod
    def of(cls, folder: Path) -> TaskFiles:
        """Return the files in a task's folder."""
        return cls(folder / "task.json", folder / "samples.csv", folder / "folds.csv")

    @property
    def tables(self) -> dict[str, Path]:
        """The files that the description vouches for."""
        return {"samples.csv": self.samples, "folds.csv": self.folds}


@dataclass(frozen=True)
class Task:
    """A task as training and prediction see it.

    Parameters
    ----------
    name : str
        Task or variant.
    dataset : str
        The dataset that owns the images.
    classes : tuple of str
        Class names in the order of logits.
    sample_ids, images, splits : ndarray of str, shape (n,)
        Id, image and split of each sample, in the task's order.
    labels : ndarray of int64, shape (n,)
        Class index, -1 where the sample has no label.
    folds : ndarray of int64, shape (n,)
        Fold of each training sample, -1 for the others.
    """

    name: str
    dataset: str
    classes: tuple[str, ...]
    sample_ids: np.ndarray
    images: np.ndarray
    splits: np.ndarray
    labels: np.ndarray
    folds: np.ndarray

    def split(self, name: str, fold: int) -> np.ndarray:
        """Return the places of a split's samples: train, val (the held-out fold), test or unlabeled."""
        if name == "train":
            return np.flatnonzero((self.splits == "train") & (self.folds != fold))
        if name == "val":
            return np.flatnonzero(self.folds == fold)
        return np.flatnonzero(self.splits == name)


def create_task(
    task: str,
    record: TaskRecord,
    dataset_record: DatasetRecord,
    about: Description,
    revision: int,
    dataset: Path,
    files: TaskFiles,
) -> None:
    """Make splits and folds of a dataset and describe the task.

    Parameters
    ----------
    task : str
        Name of the task.
    record, dataset_record : TaskRecord, DatasetRecord
        Definitions of the task and of its dataset.
    about : Description
        Licence, reference and keywords.
    revision : int
        Revision of the code that writes it.
    dataset : Path
        ``dataset.json`` of its dataset.
    files : TaskFiles
        What to write. What an equal definition already wrote is kept.

    Raises
    ------
    MissingData, DataError
        If the dataset is missing, damaged or made for another definition, or a class has fewer
        samples than there are balanced folds.
    """
    source = check_definition(dataset, dataset_record, "create_dataset")
    identity = identify(record, about, revision, source)
    with lock(files.description.parent):
        if is_current(files.description, identity, files.tables):
            return
        labels = dataset.parent / "files" / "labels.csv"
        check_files(dataset, source["checksums"], {"files/labels.csv": labels}, "create_dataset")
        table = read_csv(labels, ("image", "class"))
        samples = split_samples(table["image"], table["class"], record.seed)
        folds = fold_samples(samples, record, "fold", task)
        write_task(task, record, samples, folds, files, identity)


def identify(record: TaskRecord, about: Description, revision: int, source: dict[str, Any]) -> dict[str, Any]:
    """Return all that decides the files of a task, given the description of what it is made from."""
    return {
        **about.model_dump(),
        "definition": differences(record),
        "revision": revision,
        "inputs": source["checksums"],
    }


def split_samples(images: Sequence[str], labels: Sequence[str], seed: int) -> list[Sample]:
    """Set a stratified test split and an unlabeled split apart from the training samples."""
    test = take_stratified(images, labels, TEST_FRACTION, seed, "test")
    rest = [place for place, image in enumerate(images) if image not in test]
    unlabeled = take_stratified(
        [images[place] for place in rest], [labels[place] for place in rest], UNLABELED_FRACTION, seed, "unlabeled"
    )
    samples = []
    for image, label in zip(images, labels, strict=True):
        split = "test" if image in test else "unlabeled" if image in unlabeled else "train"
        samples.append(Sample(image, split, image, "" if split == "unlabeled" else label, ""))
    return samples


def fold_samples(samples: Sequence[Sample], record: TaskRecord, purpose: str, task: str) -> dict[str, int]:
    """Deal the training samples into folds, balanced if the task wants it."""
    train = [sample for sample in samples if sample.split == "train"]
    ids = [sample.sample_id for sample in train]
    if not record.ensure_balancing:
        return deal_folds(ids, record.n_folds, record.seed, purpose)
    labels = [sample.label for sample in train]
    return deal_balanced_folds(ids, labels, record.n_folds, record.seed, purpose, f"task {task}")


def derive_task(
    task: str,
    record: TaskRecord,
    parent_record: TaskRecord,
    about: Description,
    revision: int,
    parent: TaskFiles,
    files: TaskFiles,
) -> None:
    """Make a variant: apply the last tag of its name to the task before it.

    Parameters
    ----------
    task : str
        Name of the variant.
    record, parent_record : TaskRecord
        Definitions of the variant, whose last tag is applied, and of its parent.
    about : Description
        Licence, reference and keywords.
    revision : int
        Revision of the code that writes it.
    parent, files : TaskFiles
        What to read and what to write. What an equal definition already wrote is kept.

    Notes
    -----
    ``nested-FOLD``: the old test split is dropped, fold FOLD becomes the test split, the other
    training samples are dealt into folds anew. The unlabeled split stays with the parent.
    """
    source = check_definition(parent.description, parent_record, rule_of(parent_record))
    identity = identify(record, about, revision, source)
    with lock(files.description.parent):
        if is_current(files.description, identity, files.tables):
            return
        check_files(parent.description, source["checksums"], parent.tables, rule_of(parent_record))
        samples, folds = read_samples(parent), read_folds(parent)
        tag = parse_tag(record.tags[-1], task)
        if tag.name == "nested":
            samples = nest_samples(samples, folds, tag.arguments[0])
            folds = fold_samples(samples, record, f"fold:{tag}", task)
        write_task(task, record, samples, folds, files, identity, source["classes"])


def rule_of(record: TaskRecord) -> str:
    """Return the rule that makes a task or variant."""
    return "derive_task" if record.tags else "create_task"


def nest_samples(samples: Sequence[Sample], folds: dict[str, int], outer: int) -> list[Sample]:
    """Turn an outer fold into the test split and drop what was not training data."""
    return [
        sample._replace(split="test" if folds[sample.sample_id] == outer else "train")
        for sample in samples
        if sample.split == "train"
    ]


def write_task(
    task: str,
    record: TaskRecord,
    samples: Sequence[Sample],
    folds: dict[str, int],
    files: TaskFiles,
    identity: dict[str, Any],
    classes: Sequence[str] | None = None,
) -> None:
    """Write the three files of a task; the description comes last, as it vouches for the others."""
    classes = classes or sorted({sample.label for sample in samples if sample.label})
    ids = [sample.sample_id for sample in samples if sample.sample_id in folds]
    write_csv(files.samples, SAMPLE_COLUMNS, samples)
    write_csv(files.folds, ("sample_id", "fold"), ((sample, folds[sample]) for sample in ids))
    counts = {split: count_classes(samples, split, classes) for split in SPLITS}
    sizes = Counter(folds.values())
    write_json(
        files.description,
        {
            "format_version": FORMAT_VERSION,
            "task": task,
            "dataset": record.dataset,
            "type": record.type,
            "classes": list(classes),
            "modalities": ["image"],
            "counts": {split: count for split, count in counts.items() if count["samples"]},
            "folds": {
                "n_folds": record.n_folds,
                "made": f"dealt by a hash of seed {record.seed} and sample id, "
                + ("class by class" if record.ensure_balancing else "regardless of class"),
                "sizes": [sizes[fold] for fold in range(record.n_folds)],
            },
            **identity,
            "checksums": {"samples.csv": sha256(files.samples), "folds.csv": sha256(files.folds)},
        },
    )


def count_classes(samples: Sequence[Sample], split: str, classes: Sequence[str]) -> dict:
    """Count the samples of a split, in all and by class."""
    labels = Counter(sample.label for sample in samples if sample.split == split)
    by_class = {label: labels[label] for label in classes if labels[label]}
    return {"samples": sum(labels.values()), **({"classes": by_class} if by_class else {})}


def read_samples(files: TaskFiles) -> list[Sample]:
    """Read the samples of a task."""
    return [Sample(*row) for row in zip(*read_csv(files.samples, SAMPLE_COLUMNS).values(), strict=True)]


def read_folds(files: TaskFiles) -> dict[str, int]:
    """Read the fold of each training sample."""
    table = read_csv(files.folds, ("sample_id", "fold"))
    return dict(zip(table["sample_id"], map(int, table["fold"]), strict=True))


def read_task(files: TaskFiles, record: TaskRecord) -> Task:
    """Read a task and check that its definition is the configured one.

    Raises
    ------
    MissingData, DataError
        If a file is missing, damaged, or made for another definition.
    """
    description = check_definition(files.description, record, rule_of(record))
    check_files(files.description, description["checksums"], files.tables, rule_of(record))
    samples, folds = read_samples(files), read_folds(files)
    index = {name: place for place, name in enumerate(description["classes"])}
    return Task(
        name=description["task"],
        dataset=description["dataset"],
        classes=tuple(description["classes"]),
        sample_ids=np.array([sample.sample_id for sample in samples]),
        images=np.array([sample.image for sample in samples]),
        splits=np.array([sample.split for sample in samples]),
        labels=np.array([index.get(sample.label, -1) for sample in samples], dtype=np.int64),
        folds=np.array([folds.get(sample.sample_id, -1) for sample in samples], dtype=np.int64),
    )
