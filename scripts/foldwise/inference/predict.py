"""Logits of a trained model on every split it may see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foldwise.artifacts import read_json
from foldwise.config.jobs import PredictConfig
from foldwise.config.pipeline import Pipeline
from foldwise.data.augment import Normalize
from foldwise.data.batches import Batches, BatchPlan, Targets, targets_of
from foldwise.data.masks import MaskFiles
from foldwise.data.preprocess import TensorFiles
from foldwise.data.tensors import TensorStore, open_tensors
from foldwise.errors import DataError, Words
from foldwise.models.network import Network, build_network, count_outputs
from foldwise.models.scale import TargetScale
from foldwise.models.weights import read_weights
from foldwise.npz import NpzWriter
from foldwise.tasks.masks import IGNORED
from foldwise.tasks.task import Task, TaskFiles, read_task

OWN_SPLITS = ("val", "test", "unlabeled")
OTHER_SPLITS = ("test", "unlabeled")


def predict_fold(
    config: PredictConfig,
    record: Path,
    weights: Path,
    task: TaskFiles,
    tensors: TensorFiles,
    logits: Path,
    report: Callable[[str], None] = lambda text: None,
    masks: MaskFiles | None = None,
) -> None:
    """Write the logits of a model on a target task.

    Parameters
    ----------
    config : PredictConfig
        Definitions of the data.
    record, weights : Path
        ``model.json`` and ``model.safetensors``.
    task, tensors : TaskFiles, TensorFiles
        The target and its images.
    logits : Path
        The ``.npz`` file: for each split that has samples ``{split}_logits``, ``{split}_targets`` and ``{split}_ids``.
        On the task the model was trained on: val (its held-out fold), test and unlabeled; on another: test and
        unlabeled. Logits are float32 of shape (n, classes), for regression (n, 1) in the units of the targets, and
        for segmentation float16 (n, classes, height, width). Targets are as a task has them: int64 (n,), -1 where
        there is no label; uint8 (n, classes), 255, or float32, NaN; float32 (n,), NaN; masks uint8 (n, height,
        width), 255.
    report : callable
        Receives a line of progress a split.
    masks : MaskFiles, optional
        Masks of a segmentation target.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged, or the target is not what the model was trained for.
    """
    model = read_json(record)
    target = read_task(task, config.task)
    check_target(model, target, record)
    store = open_tensors(tensors, config.tensors, masks, workers=torch.get_num_threads())
    network, normalize = load_network(model, weights)
    write_logits(model, network, normalize, target, store, logits, report)


def check_target(model: dict[str, Any], target: Task, record: Path) -> None:
    """Raise `DataError` unless the target has the type and the classes of the model, or no labels at all."""
    if target.type == "unlabeled":
        return
    if model["type"] != target.type:
        raise DataError(
            record, Words(f"a model of task type {model['type']}"), f"the type of {target.name}: {target.type}"
        )
    if model["classes"] != list(target.classes):
        raise DataError(
            record,
            Words(f"a model of classes {model['classes']}"),
            f"the classes of {target.name}: {list(target.classes)}",
        )


def load_network(model: dict[str, Any], weights: Path) -> tuple[Network, Normalize]:
    """Rebuild a trained network from its record and weights, ready to predict in the units of the targets."""
    recipe, kind = Pipeline.model_validate(model["recipe"]), model["type"]
    network = build_network(recipe.arch, model["channels"], [count_outputs(kind, model["classes"])], [kind])
    network.load_state_dict(read_weights(weights, model["weights"]))
    if kind == "regression":
        TargetScale(**model["target"]).restore_head(network.heads[0])  # type: ignore[arg-type]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    normalize = Normalize(model["normalization"]["mean"], model["normalization"]["std"])
    return network.eval().to(device), normalize.to(device)


def write_logits(
    model: dict[str, Any],
    network: Network,
    normalize: Normalize,
    target: Task,
    store: TensorStore,
    logits: Path,
    report: Callable[[str], None],
) -> None:
    """Write logits, targets and ids of every split of a target, a batch at a time."""
    kind, outputs = model["type"], count_outputs(model["type"], model["classes"])
    size = store.images.shape[1:3] if kind == "segmentation" else ()
    dtype = np.dtype(np.float16 if kind == "segmentation" else np.float32)
    batch_size = model["recipe"]["sampling"]["batch_size"]
    with NpzWriter(logits) as writer:
        for split in OWN_SPLITS if target.name == model["task"] else OTHER_SPLITS:
            places = target.split(split, model["fold"])
            if not len(places):
                continue
            same = kind == target.type
            targets = targets_of(store, target, places) if same else no_targets(kind, outputs, len(places), size)
            with writer.open(f"{split}_logits", dtype, (len(places), outputs, *size)) as put:
                for part in predict_batches(network, normalize, store, target, places, batch_size):
                    put(part)
            write_targets(writer, f"{split}_targets", targets, len(places), size, batch_size)
            writer.add(f"{split}_ids", target.sample_ids[places])
            report(f"{split}: {len(places)} samples")


def no_targets(kind: str, outputs: int, samples: int, size: tuple[int, ...]) -> np.ndarray:
    """Return the targets of samples without labels, in the form of a task type."""
    match kind:
        case "classification":
            return np.full(samples, -1, dtype=np.int64)
        case "regression":
            return np.full(samples, np.nan, dtype=np.float32)
    shape = (samples, *size) if kind == "segmentation" else (samples, outputs)
    return np.broadcast_to(np.uint8(IGNORED), shape)


def write_targets(
    writer: NpzWriter, name: str, targets: Targets, samples: int, size: tuple[int, ...], batch_size: int
) -> None:
    """Write targets whole, or masks a batch at a time."""
    if not size:
        writer.add(name, np.asarray(targets))
        return
    with writer.open(name, np.dtype(np.uint8), (samples, *size)) as put:
        for places in BatchPlan(samples, batch_size).batches(0):
            put(targets[places])


@torch.inference_mode()
def predict_batches(
    network: Network, normalize: Normalize, store: TensorStore, task: Task, places: np.ndarray, batch_size: int
) -> Iterator[np.ndarray]:
    """Yield logits of some samples of a task a batch at a time, float32 or, for maps, float16."""
    rows, plan = store.rows_of(task, places), BatchPlan(len(places), batch_size)
    device = normalize.scale.device
    for pixels, _ in Batches(store.images, rows, rows, plan):
        logits = network(normalize(pixels.to(device)))
        yield logits.to(torch.float16 if logits.ndim == 4 else torch.float32).cpu().numpy()


def predict(
    network: Network, normalize: Normalize, store: TensorStore, task: Task, places: np.ndarray, batch_size: int
) -> np.ndarray:
    """Return logits, float32 of shape (n, outputs) or float16 maps, of some samples of a task."""
    return np.concatenate(list(predict_batches(network, normalize, store, task, places, batch_size)))
