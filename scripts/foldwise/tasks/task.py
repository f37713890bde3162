"""Tasks: descriptions, samples, splits and folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from foldwise.artifacts import (
    FORMAT_VERSION,
    lock,
    make_not_older,
    read_csv,
    read_header,
    sha256,
    write_csv,
    write_json,
)
from foldwise.config.canonical import differences
from foldwise.config.definition import DatasetRecord, Description, TaskRecord
from foldwise.config.names import parse_tag
from foldwise.functions import module_file
from foldwise.tasks.descriptions import DatasetFiles, check_definition, check_files, is_current
from foldwise.tasks.masks import mask_classes
from foldwise.tasks.samples import Sample, build_samples, is_soft, parse_targets, target_column
from foldwise.tasks.splits import fold_samples, keep_folds, take_split
from foldwise.tasks.tags import Content, apply_tag

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "test", "unlabeled")
EMBEDDED_TEST = 1 / 6
EMBEDDED_UNLABELED = 1 / 15


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
    type : str
        Task type.
    dataset : str
        The dataset that owns the images.
    classes : tuple of str
        Class names in the order of logits; none for regression.
    sample_ids, images, splits : ndarray of str, shape (n,)
        Id, image and split of each sample, in the task's order.
    targets : ndarray
        What is learned. Classification: class index, int64 of shape (n,), -1 where there is none. Multi-label: uint8 of
        shape (n, classes), 255 where there are none, or float32 for soft labels, NaN where there are none. Regression:
        float32 of shape (n,), NaN where there is none. Segmentation: empty, of shape (n, 0), as masks are stored with
        the tensors.
    folds : ndarray of int64, shape (n,)
        Fold of each training sample, -1 for the others.
    """

    name: str
    type: str
    dataset: str
    classes: tuple[str, ...]
    sample_ids: np.ndarray
    images: np.ndarray
    splits: np.ndarray
    targets: np.ndarray
    folds: np.ndarray

    def split(self, name: str, fold: int) -> np.ndarray:
        """Return the places of a split's samples: train, val (the held-out fold), test or unlabeled."""
        if name == "train":
            return ((self.splits == "train") & (self.folds != fold)).nonzero()[0]
        if name == "val":
            return (self.folds == fold).nonzero()[0]
        return (self.splits == name).nonzero()[0]


def create_task(
    task: str,
    record: TaskRecord,
    dataset_record: DatasetRecord,
    about: Description,
    revision: int,
    dataset: DatasetFiles,
    files: TaskFiles,
    warn: Callable[[str], None] = lambda text: None,
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
    dataset : DatasetFiles
        Description and annotations of its dataset.
    files : TaskFiles
        What to write. What an equal definition already wrote is kept.
    warn : callable
        Receives what a user should know: the same image in training and test, for instance.

    Raises
    ------
    MissingData, DataError
        If the dataset is missing, damaged or made for another definition, annotations cannot be used (all of them are
        listed), or a class has fewer samples than there are balanced folds.
    """
    where = f"task {task}"
    source = check_definition(dataset.description, dataset_record, "create_dataset")
    identity = identify(record, about, revision, source)
    with lock(files.description.parent):
        if is_current(files.description, identity, files.tables):
            make_not_older(files, dataset.annotations)
            return
        check_files(dataset.description, source["checksums"], dataset.tables, "create_dataset")
        annotations = read_csv(dataset.annotations, read_header(dataset.annotations))
        names = mask_names(record, source, where) if record.type == "segmentation" else source["class_names"]
        samples, classes, folds = build_samples(annotations, record, names, where)
        classes = names if record.type == "segmentation" else classes
        samples = set_apart(samples, record, dataset_record.source)
        if folds is None:
            folds = fold_samples(samples, record, "fold", where)
        else:
            folds = keep_folds(samples, folds, record.n_folds, where)
        shared = find_shared(samples, source["duplicates"])
        if shared:
            warn(f"{where}: {len(shared)} images are in train and in test, first {' and '.join(shared[0])}.")
        column = target_column(record, annotations)
        write_task(task, record, column, samples, folds, classes, files, {**identity, "shared_images": shared})


def mask_names(record: TaskRecord, source: Mapping[str, Any], where: str) -> list[str]:
    """Return the names of the classes of masks."""
    return list(mask_classes(record.classes, source["mask_values"], source["class_names"], where))


def set_apart(samples: list[Sample], record: TaskRecord, source: str) -> list[Sample]:
    """Set a test split apart where the source has none; of the embedded sets an unlabeled one too."""
    if any(sample.split == "test" for sample in samples) or record.type == "unlabeled":
        return samples
    test, unlabeled = (EMBEDDED_TEST, EMBEDDED_UNLABELED) if source == "embedded" else (0.0, 0.0)
    samples = take_split(samples, "test", record.test_fraction or test, record)
    return take_split(samples, "unlabeled", unlabeled, record)


def find_shared(samples: Sequence[Sample], duplicates: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return groups of identical images of which some are in train and some in test, by name."""
    splits: dict[str, set[str]] = {}
    for sample in samples:
        splits.setdefault(sample.image, set()).add(sample.split)
    both = {"train", "test"}
    alone = [[image] for image, found in splits.items() if both <= found]
    groups = [[image for image in group if image in splits] for group in duplicates]
    return alone + [group for group in groups if both <= set().union(*(splits[image] for image in group))]


def identify(record: TaskRecord, about: Description, revision: int, source: dict[str, Any]) -> dict[str, Any]:
    """Return all that decides the files of a task, given the description of what it is made from."""
    return {
        **about.model_dump(),
        "definition": differences(record),
        "revision": revision,
        "inputs": source["checksums"],
    }


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
        What to read and what to write. What an equal definition already wrote is kept; what a function of the user
        makes can be told only by calling it, and is kept if it is the same.

    Notes
    -----
    What each tag does is said in `foldwise.tasks.tags`.
    """
    source = check_definition(parent.description, parent_record, rule_of(parent_record))
    identity, tag = identify(record, about, revision, source), parse_tag(record.tags[-1], task)
    with lock(files.description.parent):
        current = is_current(files.description, identity, files.tables)
        if current and tag.name != "own":
            make_not_older(files, parent.samples)
            return
        check_files(parent.description, source["checksums"], parent.tables, rule_of(parent_record))
        column = target_column(record, read_header(parent.samples))
        content = Content(read_samples(parent), read_folds(parent), source["classes"], column)
        made = apply_tag(tag, content, record, f"task {task}")
        if current and (made.samples, made.folds) == (read_samples(files), read_folds(files)):
            make_not_older(files, parent.samples)
            if code := module_file(record.functions[-1]):
                make_not_older(files, code)
            return
        write_task(task, record, column, made.samples, dict(made.folds), made.classes, files, identity)


def rule_of(record: TaskRecord) -> str:
    """Return the rule that makes a task or variant."""
    return "derive_task" if record.tags else "create_task"


def write_task(
    task: str,
    record: TaskRecord,
    column: str,
    samples: Sequence[Sample],
    folds: dict[str, int],
    classes: Sequence[str],
    files: TaskFiles,
    identity: dict[str, Any],
) -> None:
    """Write the three files of a task; the description comes last, as it vouches for the others."""
    ids = [sample.sample_id for sample in samples if sample.sample_id in folds]
    write_csv(files.samples, ("sample_id", "split", "image", column, "group"), samples)
    write_csv(files.folds, ("sample_id", "fold"), ((sample, folds[sample]) for sample in ids))
    counts = {split: count_classes(samples, split, classes, record.type) for split in SPLITS}
    sizes = Counter(folds.values())
    write_json(
        files.description,
        {
            "format_version": FORMAT_VERSION,
            "task": task,
            "dataset": record.dataset,
            "type": record.type,
            "classes": list(classes),
            "modalities": ["image", "mask"] if record.type == "segmentation" else ["image"],
            "counts": {split: count for split, count in counts.items() if count["samples"]},
            "folds": {
                "n_folds": record.n_folds,
                "made": how_folds_were_made(record, any(sample.group for sample in samples)),
                "sizes": [sizes[fold] for fold in range(record.n_folds)],
            },
            **identity,
            "checksums": {"samples.csv": sha256(files.samples), "folds.csv": sha256(files.folds)},
        },
    )


def how_folds_were_made(record: TaskRecord, grouped: bool) -> str:
    """Say in words how the folds came about."""
    if record.given_folds:
        return "given by the source" if not record.tags else "from those given by the source"
    how = "class by class" if record.ensure_balancing else "regardless of class"
    return f"dealt by a hash of seed {record.seed} and sample id, {how}{', whole groups' if grouped else ''}"


def count_classes(samples: Sequence[Sample], split: str, classes: Sequence[str], kind: str) -> dict[str, Any]:
    """Count the samples of a split, in all and by class."""
    found = [sample.target for sample in samples if sample.split == split]
    labels = Counter(name for target in found for name in (target.split(";") if kind == "multilabel" else [target]))
    by_class = {label: labels[label] for label in classes if labels[label]} if kind != "segmentation" else {}
    return {"samples": len(found), **({"classes": by_class} if by_class else {})}


def read_samples(files: TaskFiles) -> list[Sample]:
    """Read the samples of a task."""
    columns = read_header(files.samples)
    return [Sample(*row) for row in zip(*read_csv(files.samples, columns).values(), strict=True)]


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
    import numpy as np

    description = check_definition(files.description, record, rule_of(record))
    check_files(files.description, description["checksums"], files.tables, rule_of(record))
    samples, folds = read_samples(files), read_folds(files)
    soft = is_soft(read_header(files.samples))
    return Task(
        name=description["task"],
        type=description["type"],
        dataset=description["dataset"],
        classes=tuple(description["classes"]),
        sample_ids=np.array([sample.sample_id for sample in samples]),
        images=np.array([sample.image for sample in samples]),
        splits=np.array([sample.split for sample in samples]),
        targets=parse_targets(samples, description["type"], description["classes"], soft),
        folds=np.array([folds.get(sample.sample_id, -1) for sample in samples], dtype=np.int64),
    )
