"""Logits of a trained model on every split it may see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foldwise.artifacts import read_json, write_npz
from foldwise.config.jobs import PredictConfig
from foldwise.config.pipeline import Pipeline
from foldwise.data.augment import Normalize
from foldwise.data.batches import Batches, BatchPlan
from foldwise.data.preprocess import TensorFiles
from foldwise.data.tensors import TensorStore, open_tensors
from foldwise.errors import DataError, Words
from foldwise.models.network import Network, build_network
from foldwise.models.weights import read_weights
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
        The ``.npz`` file: for each split that has samples ``{split}_logits`` float32 (n, classes),
        ``{split}_targets`` int64 (n,), -1 where there is no label, and ``{split}_ids``. On the task
        the model was trained on: val (its held-out fold), test and unlabeled; on another: test and
        unlabeled.
    report : callable
        Receives a line of progress a split.
    """
    model = read_json(record)
    target = read_task(task, config.task)
    check_classes(model, target, record)
    store = open_tensors(tensors, config.tensors)
    network, normalize = load_network(model, weights)
    batch_size = model["recipe"]["sampling"]["batch_size"]
    arrays = {}
    for split in OWN_SPLITS if target.name == model["task"] else OTHER_SPLITS:
        places = target.split(split, model["fold"])
        if len(places):
            arrays[f"{split}_logits"] = predict(network, normalize, store, target, places, batch_size)
            arrays[f"{split}_targets"] = target.labels[places]
            arrays[f"{split}_ids"] = target.sample_ids[places]
            report(f"{split}: {len(places)} samples")
    write_npz(logits, arrays)


def check_classes(model: dict[str, Any], target: Task, record: Path) -> None:
    """Raise `DataError` unless the target has the classes the model was trained on."""
    if model["classes"] != list(target.classes):
        raise DataError(
            record,
            Words(f"a model of classes {model['classes']}"),
            f"the classes of {target.name}: {list(target.classes)}",
        )


def load_network(model: dict[str, Any], weights: Path) -> tuple[Network, Normalize]:
    """Rebuild a trained network from its record and weights, ready to predict."""
    recipe = Pipeline.model_validate(model["recipe"])
    network = build_network(recipe.arch, model["channels"], [len(model["classes"])])
    network.load_state_dict(read_weights(weights, model["weights"]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    normalize = Normalize(model["normalization"]["mean"], model["normalization"]["std"])
    return network.eval().to(device), normalize.to(device)


@torch.inference_mode()
def predict(
    network: Network, normalize: Normalize, store: TensorStore, task: Task, places: np.ndarray, batch_size: int
) -> np.ndarray:
    """Return logits, float32 of shape (n, classes), of some samples of a task."""
    batches = Batches(
        store.images, store.rows_of(task, places), task.labels[places], BatchPlan(len(places), batch_size)
    )
    device = normalize.scale.device
    parts = [network(normalize(pixels.to(device))).float().cpu() for pixels, _ in batches]
    return torch.cat(parts).numpy()
