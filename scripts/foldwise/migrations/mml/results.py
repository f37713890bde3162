"""Results: records of models, and predictions, which are read without executing anything that is in them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from foldwise.artifacts import reading
from foldwise.errors import UNKNOWN_KEY, DataError, MissingData, Words, nearest, shorten
from foldwise.migrations.mml.description import is_number, is_whole
from foldwise.migrations.mml.text import decode, members_of

if TYPE_CHECKING:
    import torch

REQUIRED = ("pipeline", "parameters", "performance", "training_time", "metrics")
OPTIONAL = ("task", "fold", "created", "predictions")  # records of old versions lack some of them
SPLITS = {"VAL": "val", "TEST": "test", "UNLABELLED": "unlabeled"}
ENTRY = {"logits", "target", "sample_id", "calibrated"}
PREDICTIONS = "predictions of mml-core: tensors and texts, and nothing that would have to be executed"
TOLERANCE = 0.02  # of sums of probabilities that were computed in half precision
FLOOR = 2.0**-126  # the smallest normal float32: the log-probability of what had underflowed is -87.3
HALF_FLOOR = 2.0**-24  # the smallest number above 0 in half precision: -16.6


@dataclass(frozen=True)
class ModelRecord:
    """The record of a model.

    Parameters
    ----------
    path : Path
        Its file.
    task, fold : str, int
        What it was trained on; of records that do not say so, told from folder and file name.
    performance, training_time : float
        Validation loss; seconds.
    created : str or None
        Date and time.
    pipeline, parameters : str
        Files below the results root (before 0.14 absolute); the parameters may have been removed.
    predictions : dict of str to str
        File of predictions by target task.
    metrics : tuple of dict
        Metrics by ``phase/task/metric``, one an epoch; one after ``test``; null where not defined.
    raw : bytes
        The file.
    """

    path: Path
    task: str
    fold: int
    performance: float
    training_time: float
    created: str | None
    pipeline: str
    parameters: str
    predictions: dict[str, str]
    metrics: tuple[dict[str, float | None], ...]
    raw: bytes


def read_model(path: str | Path) -> ModelRecord:
    """Read the record of a model.

    Raises
    ------
    MissingData, DataError
        If the file is missing, damaged, or has other keys or values than such a record.
    """
    path = Path(path)
    with reading(path, "the record of a model", "Mend or remove it.") as found:
        raw = found.read_bytes()
    tree = {member.key: member.value for member in members_of(decode(raw, path), path)}
    for key in tree:
        if key not in (*REQUIRED, *OPTIONAL):
            raise DataError(f"{path}: {key}", UNKNOWN_KEY, "keys of a model", nearest(key, (*REQUIRED, *OPTIONAL)))
    for key in REQUIRED:
        if key not in tree:
            raise DataError(f"{path}: {key}", Words("no such key"), "all keys of a model")
    for key, value in tree.items():
        if not has_type(key, value):
            raise DataError(f"{path}: {key}", value, expected_type(key))
    task, fold = tree.get("task"), tree.get("fold")
    return ModelRecord(
        path=path,
        task=task_of(path.parent.name) if task is None else task,
        fold=fold_of(path) if fold is None else fold,
        performance=float(tree["performance"]),
        training_time=float(tree["training_time"]),
        created=tree.get("created"),
        pipeline=tree["pipeline"],
        parameters=tree["parameters"],
        predictions=tree.get("predictions") or {},
        metrics=tuple(tree["metrics"]),
        raw=raw,
    )


def expected_type(key: str) -> str:
    """Describe the values that a key takes."""
    return {
        "performance": "a number",
        "training_time": "a number",
        "metrics": "a list of mappings to numbers",
        "predictions": "a mapping to texts",
        "fold": "a whole number or null",
        "task": "a text or null",
        "created": "a text or null",
    }.get(key, "a text")


def has_type(key: str, value: Any) -> bool:
    """Tell whether a key takes a value."""
    if key in OPTIONAL and value is None:
        return True
    match key:
        case "performance" | "training_time":
            return is_number(value)
        case "fold":
            return is_whole(value) and value >= 0
        case "metrics":
            return isinstance(value, list) and all(map(is_metrics, value))
        case "predictions":
            return isinstance(value, dict) and all(isinstance(file, str) for file in value.values())
        case _:
            return isinstance(value, str)


def is_metrics(value: Any) -> bool:
    """Tell whether a value is a mapping to numbers."""
    return isinstance(value, dict) and all(number is None or is_number(number) for number in value.values())


def task_of(folder: str) -> str:
    """Return the task that a folder is about; before 0.12 folders were named ``dataset%TASK1_task``."""
    return folder.partition("%")[2].partition("_")[2] if "%" in folder else folder


def fold_of(path: Path) -> int:
    """Tell the fold of a model from the name of its file."""
    match = re.match(r"fold_(\d+)_\d+$", path.stem)
    return int(match[1]) if match else 0


def find_models(results_root: str | Path, project: str) -> Iterator[ModelRecord]:
    """Yield the records of the models of a project, by folder and file.

    Raises
    ------
    MissingData, DataError
        If the project has no models, or a record cannot be read.
    """
    folder = Path(results_root) / project / "MODELS"
    if not folder.is_dir():
        raise MissingData(folder, Words("nothing"), "the models of a project of mml-core")
    for task in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in sorted(task.glob("*.json")):
            yield read_model(path)


class Predictions(NamedTuple):
    """Logits, targets and ids of a split, as ``.npz`` files of logits have them."""

    logits: np.ndarray
    targets: np.ndarray
    ids: np.ndarray


def read_predictions(path: str | Path, kind: str) -> dict[str, Predictions]:
    """Read the predictions of a model, by split; see `iterate_predictions`."""
    return dict(iterate_predictions(path, kind))


def iterate_predictions(path: str | Path, kind: str) -> Iterator[tuple[str, Predictions]]:
    """Yield name and predictions of each split that has any, a split at a time.

    Parameters
    ----------
    path : str or Path
        ``preds-fold-K_NNNN.pt``.
    kind : str
        Type of the task.

    Notes
    -----
    Segmentation: mml-core stores probabilities; their logarithms are returned, those of zero as the logarithm of
    `FLOOR`, or of `HALF_FLOOR` if they were stored in half precision. Calibrated logits are left out. A file of a
    nested model under its base holds as `val` fold 0 of the base, whatever the model's fold: it may have been trained
    on it.

    Raises
    ------
    MissingData, DataError
        If the file is missing, damaged, holds anything but tensors and texts, or does not fit the type of the task.
    """
    path = Path(path)
    tree = load(path)
    for key, entries in tree.items():
        if key not in SPLITS or not isinstance(entries, list):
            raise DataError(path, Words(f"a split {shorten(key)}"), f"lists of {', '.join(SPLITS)}")
        if entries:
            where = f"{path}: {key}"
            check_entries(entries, key != "UNLABELLED", where)
            ids = np.array([entry["sample_id"] for entry in entries])
            if len(set(ids.tolist())) != len(ids):
                raise DataError(where, Words("a sample twice"), "each sample once")
            logits = READERS[kind](entries, where)
            targets = no_targets(logits, kind) if key == "UNLABELLED" else TARGETS[kind](entries, logits, where)
            yield SPLITS[key], Predictions(logits, targets, ids)


def load(path: Path) -> Mapping[Any, Any]:
    """Load tensors and texts, and refuse all else; tensors are mapped, not read."""
    import torch

    if path.name.startswith("preds-ensembled"):
        raise DataError(path, Words("predictions of an ensemble"), "those of a model", "They hold no samples.")
    with reading(path, PREDICTIONS, "Leave it out.") as found:
        with zipfile.ZipFile(found) as archive:
            if broken := archive.testzip():
                raise ValueError(f"{broken} is damaged")
        try:
            tree = torch.load(found, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # of a refused file torch raises an error of a module that must not be imported
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"nothing of it was executed; {reason}") from error
        if not isinstance(tree, dict):
            raise ValueError(f"{type(tree).__name__}, not a mapping of splits")
    return tree


def check_entries(entries: Sequence[Any], labelled: bool, where: str) -> None:
    """Check the form of entries: a sample each."""
    import torch

    needed = {"logits", "sample_id", *(("target",) if labelled else ())}
    for entry in entries:
        if not isinstance(entry, dict) or not needed <= set(entry) <= ENTRY:
            found = ", ".join(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
            raise DataError(
                where, Words(f"an entry of {found or 'nothing'}"), f"entries of {', '.join(sorted(needed))}"
            )
        tensors = [value for key, value in entry.items() if key in ("logits", "target")]
        if not isinstance(entry["sample_id"], str) or not all(isinstance(one, torch.Tensor) for one in tensors):
            raise DataError(where, Words("a value of another type"), "tensors, and a text as sample_id")


def stack(entries: Sequence[Mapping[str, Any]], key: str, dtype: str, dimensions: int, where: str) -> np.ndarray:
    """Stack the tensors of all entries, one copy of all."""
    first = entries[0][key]
    stacked = np.empty((len(entries), *first.shape), dtype)
    for row, entry in enumerate(entries):
        tensor = entry[key]
        if tensor.ndim != dimensions or tensor.shape != first.shape:
            shapes = f"{key} of shape {tuple(tensor.shape)} in {entry['sample_id']}"
            raise DataError(where, Words(shapes), f"{dimensions} dimensions, the same size for all samples")
        stacked[row] = as_array(tensor)
    return stacked


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor as an array; NumPy has no bfloat16."""
    import torch

    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()


def read_scores(entries: Sequence[Mapping[str, Any]], where: str) -> np.ndarray:
    """Return logits, a row a sample."""
    return stack(entries, "logits", "float32", 1, where)


def read_value(entries: Sequence[Mapping[str, Any]], where: str) -> np.ndarray:
    """Return the values that a regression predicts."""
    values = read_scores(entries, where)
    if values.shape[1] != 1:
        raise DataError(where, Words(f"{values.shape[1]} numbers a sample"), "one, as the task is a regression")
    return values


def read_pixels(entries: Sequence[Mapping[str, Any]], where: str) -> np.ndarray:
    """Return log-probabilities of pixels, a sample at a time made of probabilities."""
    import torch

    shape = entries[0]["logits"].shape
    logits = np.empty((len(entries), *shape), "float16")
    for row, entry in enumerate(entries):
        floor = HALF_FLOOR if entry["logits"].dtype == torch.float16 else FLOOR
        shares = stack([entry], "logits", "float32", 3, where)[0]
        if shares.shape != shape:
            raise DataError(where, Words(f"{shares.shape} in {entry['sample_id']}"), f"the shape {tuple(shape)} of all")
        if not (shares.min() >= 0 and np.abs(shares.sum(axis=0) - 1).max() < TOLERANCE):
            reason = f"other numbers than probabilities in {entry['sample_id']}"
            raise DataError(where, Words(reason), "probabilities of pixels that add up to 1")
        logits[row] = np.log(np.maximum(shares, floor))
    return logits


def class_targets(entries: Sequence[Mapping[str, Any]], logits: np.ndarray, where: str) -> np.ndarray:
    """Return places of classes."""
    targets = stack(entries, "target", "int64", 0, where)
    check_range(targets, logits, where)
    return targets


def label_targets(entries: Sequence[Mapping[str, Any]], logits: np.ndarray, where: str) -> np.ndarray:
    """Return a number for each class."""
    soft = entries[0]["target"].is_floating_point()
    targets = stack(entries, "target", "float32" if soft else "uint8", 1, where)
    if targets.shape != logits.shape:
        raise DataError(where, Words(f"{targets.shape[1]} targets"), f"one for each of {logits.shape[1]} classes")
    return targets


def value_targets(entries: Sequence[Mapping[str, Any]], logits: np.ndarray, where: str) -> np.ndarray:
    """Return the values to predict."""
    targets = stack(entries, "target", "float32", entries[0]["target"].ndim, where)
    if targets.size != len(logits):
        raise DataError(where, Words(f"targets of shape {targets.shape[1:]}"), "a number a sample")
    return targets.reshape(len(logits))


def pixel_targets(entries: Sequence[Mapping[str, Any]], logits: np.ndarray, where: str) -> np.ndarray:
    """Return the class of each pixel."""
    targets = np.empty((len(entries), *logits.shape[2:]), "uint8")
    for row, entry in enumerate(entries):
        found = stack([entry], "target", "int64", 2, where)[0]
        if found.shape != targets.shape[1:]:
            raise DataError(where, Words(f"a mask of {found.shape}"), f"{targets.shape[1:]} as its logits")
        check_range(found[found != 255], logits, where)
        targets[row] = found
    return targets


def check_range(targets: np.ndarray, logits: np.ndarray, where: str) -> None:
    """Raise `DataError` if a target is no class."""
    if targets.size and not 0 <= targets.min() <= targets.max() < logits.shape[1]:
        wrong = targets.min() if targets.min() < 0 else targets.max()
        raise DataError(where, Words(f"class {wrong}"), f"classes from 0 to {logits.shape[1] - 1}")


def no_targets(logits: np.ndarray, kind: str) -> np.ndarray:
    """Return the targets of samples without labels."""
    match kind:
        case "classification":
            return np.full(len(logits), -1, "int64")
        case "multilabel":
            return np.full(logits.shape, np.nan, "float32")
        case "regression":
            return np.full(len(logits), np.nan, "float32")
        case _:
            return np.full((len(logits), *logits.shape[2:]), 255, "uint8")


READERS = {
    "classification": read_scores,
    "multilabel": read_scores,
    "regression": read_value,
    "segmentation": read_pixels,
}
TARGETS = {
    "classification": class_targets,
    "multilabel": label_targets,
    "regression": value_targets,
    "segmentation": pixel_targets,
}
