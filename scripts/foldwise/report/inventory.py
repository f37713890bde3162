"""What exists of a project: looked at while a workflow is planned, so nothing is read that a folder does not tell."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from foldwise.artifacts import read_json
from foldwise.errors import FoldwiseError

FOLD = re.compile(r"fold-(0|[1-9][0-9]*)")
TASKS, DATASETS, TENSORS, STUDIES, TRIALS = "tasks", "datasets", "tensors", "studies", "trials"
DATASET_FILES = frozenset({"dataset.json", "images.csv"})
TENSOR_FILES = frozenset({"manifest.json", "channel_sums.npy"})
RESULTS = ("models", "logits", "scores", "calibrated")
DEPTH = 4  # pipeline, task, fold, file


class ModelFolder(NamedTuple):
    """A folder of a model, or of its logits, and what its path says."""

    pipeline: str
    task: str
    fold: int
    path: Path


def listing(parts: Collection[str], project: Path, data: Path, tasks: Sequence[str]) -> str:
    """Return a digest of path, size and date of every file that parts of mode info would read.

    Parameters
    ----------
    parts : collection of str
        Any of ``tasks``, ``samples``, ``models`` and ``hpo``.
    project, data : Path
        Root of the results of a project, and of shared data.
    tasks : sequence of str
        Names of the tasks.

    Returns
    -------
    str
        64 hexadecimal digits, the same wherever the roots lie.
    """
    digest = hashlib.sha256()
    for root, files in ((data, data_files(parts, data, tasks)), (project, result_files(parts, project))):
        start = len(os.fspath(root)) + 1
        for entry in files:
            if found := state_of(entry):
                digest.update(f"{entry.path[start:]}\n{found}\n".encode("utf-8", "surrogateescape"))
        digest.update(b"\n")
    return digest.hexdigest()


def state_of(entry: os.DirEntry[str]) -> str:
    """Return size and date of a file; nothing if it went meanwhile."""
    try:
        found = entry.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def data_files(parts: Collection[str], data: Path, tasks: Sequence[str]) -> Iterator[os.DirEntry[str]]:
    """Yield files of tasks, of their datasets and tensors."""
    if not {"tasks", "samples"} & set(parts):
        return
    datasets = set()
    for task in dict.fromkeys(tasks):
        yield from walk(data / TASKS / task, 1)
        datasets.add(dataset_of(data / TASKS / task / "task.json"))
    for dataset in sorted(datasets - {None}, key=str):
        yield from (entry for entry in walk(data / DATASETS / str(dataset), 1) if entry.name in DATASET_FILES)
        if "tasks" in parts:
            yield from (entry for entry in walk(data / TENSORS / str(dataset), 2) if entry.name in TENSOR_FILES)


def dataset_of(description: Path) -> str | None:
    """Return the dataset of a task, or None if its description tells none."""
    try:
        name = read_json(description).get("dataset")
    except FoldwiseError:
        return None
    return name if isinstance(name, str) and os.sep not in name else None


def result_files(parts: Collection[str], project: Path) -> Iterator[os.DirEntry[str]]:
    """Yield files of models and of studies."""
    if "models" in parts:
        for kind in RESULTS:
            yield from walk(project / kind, DEPTH)
    if "hpo" in parts:
        yield from walk(project / STUDIES, 3)


def walk(folder: str | Path, depth: int) -> Iterator[os.DirEntry[str]]:
    """Yield files below a folder in the order of their names, down to a depth; hidden and temporary ones are left out.

    The depth is what ends it if a link leads back.
    """
    for entry in entries(folder):
        if is_folder(entry):
            if depth > 1:
                yield from walk(entry.path, depth - 1)
        else:
            yield entry


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds in the order of names, without what is hidden; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError:
        return []


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def folders(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """Yield the folders in a folder in the order of their names."""
    return (entry for entry in entries(folder) if is_folder(entry))


def status_of(path: Path) -> str:
    """Return size and date of a file in one text; an empty one if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"


def existing_tasks(data: Path, tasks: Iterable[str]) -> list[str]:
    """Return those of some tasks that were created."""
    return [task for task in dict.fromkeys(tasks) if (data / TASKS / task / "task.json").is_file()]


def existing_studies(project: Path) -> list[str]:
    """Return the names of studies that have a trial, sorted."""
    return [entry.name for entry in folders(project / STUDIES) if has_trials(Path(entry.path))]


def has_trials(study: Path) -> bool:
    """Tell whether a study has the file of a trial, or the table of its trials."""
    return (study / "trials.csv").is_file() or any(entry.name.endswith(".json") for entry in walk(study / TRIALS, 1))


def model_folders(project: Path, kind: str = "models") -> Iterator[ModelFolder]:
    """Yield folders ``{kind}/{pipeline}/{task}/fold-{n}`` by pipeline and task, folds in the order of their numbers."""
    for pipeline in folders(project / kind):
        for task in folders(pipeline.path):
            folds = [(int(match[1]), entry) for entry in folders(task.path) if (match := FOLD.fullmatch(entry.name))]
            for fold, entry in sorted(folds, key=lambda item: item[0]):
                yield ModelFolder(pipeline.name, task.name, fold, Path(entry.path))


def without_nested(task: str) -> str:
    """Return the name of a task without its nested tags: its outer folds are folds of one task."""
    base, *tags = task.split("+")
    return "+".join([base, *(tag for tag in tags if not tag.startswith("nested-"))])
