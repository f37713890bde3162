"""Logits of a trained model on every split it may see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from foldwise.artifacts import read_json
from foldwise.config.callbacks import TestTimeAugmentation
from foldwise.config.jobs import PredictConfig
from foldwise.config.pipeline import TrainerSection
from foldwise.data.augment import Normalize
from foldwise.data.batches import Batches, BatchPlan, Targets, targets_of
from foldwise.data.masks import MaskFiles
from foldwise.data.preprocess import TensorFiles
from foldwise.data.tensors import TensorStore, open_tensors
from foldwise.errors import DataError, Words
from foldwise.inference import checks
from foldwise.inference.variations import check_images, predict_varied
from foldwise.models.network import Network, build_network, count_outputs
from foldwise.models.scale import TargetScale
from foldwise.models.weights import read_weights
from foldwise.npz import NpzWriter
from foldwise.progress import Progress
from foldwise.tasks.masks import IGNORED
from foldwise.tasks.task import Task, TaskFiles, read_task

OWN_SPLITS = ("val", "test", "unlabeled")
OTHER_SPLITS = ("test", "unlabeled")
COMPILED_FROM = 50  # batches
NO_VARIATIONS = TestTimeAugmentation()


def predict_fold(
    config: PredictConfig,
    record: Path,
    weights: Path,
    task: TaskFiles,
    tensors: TensorFiles,
    logits: Path,
    report: Callable[[str], None] = lambda text: None,
    masks: MaskFiles | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> None:
    """Write the logits of a model on a target task.

    Parameters
    ----------
    config : PredictConfig
        Definitions of the data, and test-time augmentation.
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
    warn : callable
        Receives what a user should know: that classes are compared by their order, for instance.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged, or the target is not what the model was trained for.
    ConfigError
        If variations of test-time augmentation do not suit the images.
    """
    model = read_json(record)
    target = read_task(task, config.task)
    checks.check_target(model, target, record, warn)
    checks.check_definition(model, target, config.task, record)
    checks.check_preprocessing(checks.recipe_of(model), config.tensors.preprocessing, record)
    checks.check_weights(model, weights, record)
    store = open_tensors(tensors, config.tensors, masks, workers=torch.get_num_threads())
    checks.check_shape(model, store, record)
    height, width = store.images.shape[1:3]
    check_images(config.tta, model["type"], height, width)
    network, normalize = load_network(model, weights, (height, width))
    write_logits(model, network, normalize, target, store, logits, report, config.tta)


def load_network(
    model: dict[str, Any], weights: Path, size: tuple[int, int] | None = None, device: torch.device | None = None
) -> tuple[Network, Normalize]:
    """Rebuild a trained network from its record and weights, ready to predict in the units of the targets.

    Parameters
    ----------
    model : dict
        Content of ``model.json``.
    weights : Path
        ``model.safetensors``.
    size : tuple of int, optional
        Height and width of images, for networks that depend on it; by default those of training, if recorded.
    device : torch.device, optional
        Where it goes; by default a GPU if there is one.

    Returns
    -------
    Network
        With the heads of all tasks that were learned together; the first is that of the model's own task.
    Normalize
        What comes before it.

    Raises
    ------
    MissingData, DataError
        If the weights are missing, damaged, or those of another network.
    """
    recipe = checks.recipe_of(model)
    heads = [(task["type"], task["classes"]) for task in (model, *model.get("co_tasks", []))]
    outputs, kinds = [count_outputs(*head) for head in heads], [kind for kind, _ in heads]
    network = build_network(recipe.arch, model["channels"], outputs, kinds, size or model.get("size"))
    try:
        network.load_state_dict(read_weights(weights, model["weights"]))
    except RuntimeError as error:
        cause = str(error).splitlines()[-1].strip()  # the first line says where, and each other one names a weight
        found = Words(f"weights of another network ({cause.partition(':')[0]})")
        remedy = "Its code or that of a library has changed since: go back to it, or train anew."
        raise DataError(weights, found, "those of the network in model.json", remedy) from error
    if model["type"] == "regression":
        TargetScale(**model["target"]).restore_head(network.heads[0])  # type: ignore[arg-type]
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    normalize = Normalize(model["normalization"]["mean"], model["normalization"]["std"])
    return network.eval().to(device), normalize.to(device)


class Bf16Backbone(nn.Module):
    """A backbone that works in bf16 where that is safe, and gives features in float32.

    So the head answers in float32: bf16 holds less than three digits, too few for logits that are compared, and for
    values in the units of targets.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features of images."""
        with torch.autocast(images.device.type, torch.bfloat16):
            features: torch.Tensor = self.backbone(images)
        return features.float()


def speed_up(network: Network, trainer: TrainerSection, device: torch.device, batches: int) -> None:
    """Let a network predict in the precision it was trained in, and compile it if that pays off.

    Precision is that of training on a GPU where it was bf16; all else is predicted in float32. Compiling takes some
    twenty seconds at first; of a few batches even a large network predicts faster without.
    """
    if device.type == "cuda" and trainer.precision in ("auto", "bf16-mixed"):
        network.backbone = Bf16Backbone(network.backbone)
    if trainer.compile and batches > COMPILED_FROM:
        network.backbone.compile()


def write_logits(
    model: dict[str, Any],
    network: Network,
    normalize: Normalize,
    target: Task,
    store: TensorStore,
    logits: Path,
    report: Callable[[str], None],
    tta: TestTimeAugmentation = NO_VARIATIONS,
) -> None:
    """Write logits, targets and ids of every split of a target, a batch at a time."""
    kind, outputs, recipe = model["type"], count_outputs(model["type"], model["classes"]), checks.recipe_of(model)
    size = store.images.shape[1:3] if kind == "segmentation" else ()
    dtype = np.dtype(np.float16 if kind == "segmentation" else np.float32)
    batch_size = recipe.sampling.batch_size
    splits = OWN_SPLITS if target.name == model["task"] else OTHER_SPLITS
    found = {split: places for split in splits if len(places := target.split(split, model["fold"]))}
    batches = sum(BatchPlan(len(places), batch_size).batches_per_epoch for places in found.values())
    speed_up(network, recipe.trainer, normalize.scale.device, batches * len(tta.variations))
    progress = Progress(report, sum(map(len, found.values())), "samples")
    with NpzWriter(logits) as writer, torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=True):
        for split, places in found.items():
            same = kind == target.type
            targets = targets_of(store, target, places) if same else no_targets(kind, outputs, len(places), size)
            with writer.open(f"{split}_logits", dtype, (len(places), outputs, *size)) as put:
                for part in predict_batches(network, normalize, store, target, places, batch_size, tta):
                    put(part)
                    progress.show(len(part))
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
    network: Network,
    normalize: Normalize,
    store: TensorStore,
    task: Task,
    places: np.ndarray,
    batch_size: int,
    tta: TestTimeAugmentation = NO_VARIATIONS,
) -> Iterator[np.ndarray]:
    """Yield logits of some samples of a task a batch at a time, float32 or, for maps, float16."""
    rows, plan = store.rows_of(task, places), BatchPlan(len(places), batch_size)
    for pixels, _ in Batches(store.images, rows, rows, plan):
        yield predict_pixels(network, normalize, pixels, tta).cpu().numpy()


def predict_pixels(
    network: Network, normalize: Normalize, pixels: torch.Tensor, tta: TestTimeAugmentation
) -> torch.Tensor:
    """Return the logits of a batch of images as files have them, float32 or, for maps, float16."""
    device = normalize.scale.device
    logits = predict_varied(lambda varied: network(normalize(varied)), pixels.to(device), tta)
    return logits.to(torch.float16 if logits.ndim == 4 else torch.float32)


def predict(
    network: Network,
    normalize: Normalize,
    store: TensorStore,
    task: Task,
    places: np.ndarray,
    batch_size: int,
    tta: TestTimeAugmentation = NO_VARIATIONS,
) -> np.ndarray:
    """Return logits, float32 of shape (n, outputs) or float16 maps, of some samples of a task."""
    return np.concatenate(list(predict_batches(network, normalize, store, task, places, batch_size, tta)))
