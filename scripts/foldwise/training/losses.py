"""Training objectives by task type."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from foldwise.config.losses import (
    AUTOMATIC_LOSSES,
    LOSSES,
    BinaryCrossEntropy,
    CrossEntropy,
    DiceCrossEntropy,
    Focal,
    Huber,
    LossChoice,
    OwnLoss,
    SquaredError,
    resolve_loss,
)
from foldwise.data.batches import Masks, Targets
from foldwise.errors import ConfigError, DataError, Words
from foldwise.functions import check_call, failure_told, load_function
from foldwise.models.scale import TargetScale
from foldwise.tasks.masks import IGNORED

DICE_SMOOTHING = 1e-5
SCALAR = "a tensor of shape () with a gradient, the mean loss of a batch"
ClassLoss = CrossEntropy | Focal | BinaryCrossEntropy | DiceCrossEntropy


class FocalLoss(nn.Module):
    """Cross-entropy that fades for samples already classified well (Lin et al. 2017, arXiv:1708.02002)."""

    weight: torch.Tensor | None

    def __init__(self, gamma: float, weight: torch.Tensor | None, label_smoothing: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss, weighted as in cross-entropy, of logits (b, classes) and class indices (b,)."""
        losses = nn.functional.cross_entropy(
            logits, targets, self.weight, reduction="none", label_smoothing=self.label_smoothing
        )
        right = logits.softmax(dim=1).gather(1, targets[:, None])[:, 0]
        wrong = (1 - right).clamp_min(torch.finfo(right.dtype).eps)  # a power below 1 has no slope at 0
        total = len(targets) if self.weight is None else self.weight[targets].sum()
        return (wrong**self.gamma * losses).sum() / total


class BinaryLoss(nn.Module):
    """Binary cross-entropy of every class on its own, for hard and for soft targets."""

    weight: torch.Tensor | None

    def __init__(self, weight: torch.Tensor | None, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss over samples and classes of logits and targets between 0 and 1, both (b, classes)."""
        logits = widen(logits)
        smooth = targets.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        return nn.functional.binary_cross_entropy_with_logits(logits, smooth, pos_weight=self.weight)


class RegressionLoss(nn.Module):
    """Huber's loss or, without `delta`, the squared error of standardised logits."""

    def __init__(self, scale: TargetScale, delta: float | None) -> None:
        super().__init__()
        self.scale = scale
        self.delta = delta

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of standardised logits (b, 1) and targets (b,) in their own units."""
        values = widen(logits)[:, 0]
        standard = self.scale.standardise(targets).to(values.dtype)
        if self.delta is None:
            return nn.functional.mse_loss(values, standard)
        return nn.functional.huber_loss(values, standard, delta=self.delta)


class SegmentationLoss(nn.Module):
    """Cross-entropy of pixels plus a share of the soft Dice loss; ignored pixels count in neither."""

    weight: torch.Tensor | None

    def __init__(self, weight: torch.Tensor | None, label_smoothing: float, dice_weight: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.dice_weight = dice_weight
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits (b, classes, height, width) and class indices (b, height, width).

        It is 0 where all pixels are ignored. Pixels are laid out as samples, as torch has no deterministic
        cross-entropy of maps on a GPU.
        """
        pixels = widen(logits).permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
        labels = targets.reshape(-1).long()
        loss = self.cross_entropy(pixels, labels)
        if self.dice_weight:
            loss = loss + self.dice_weight * dice_loss(pixels.softmax(dim=1), labels)
        return loss

    def cross_entropy(self, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean over the pixels that are not ignored."""
        total = nn.functional.cross_entropy(
            pixels, labels, self.weight, reduction="sum", ignore_index=IGNORED, label_smoothing=self.label_smoothing
        )
        known = labels != IGNORED
        weights = known if self.weight is None else self.weight[labels.where(known, 0)] * known
        return total / weights.sum(dtype=total.dtype).clamp_min(torch.finfo(total.dtype).tiny)


class FunctionLoss(nn.Module):
    """A function of the user's own.

    Parameters
    ----------
    name : str
        ``module:function``.
    arguments : dict
        Keyword arguments of the function.
    scale : TargetScale, optional
        Of a regression: the function gets its logits, like its targets, in the units of the targets.

    Raises
    ------
    ConfigError
        If there is no such function.
    DataError
        If it does not take logits, targets and the arguments.
    """

    def __init__(self, name: str, arguments: dict[str, Any], scale: TargetScale | None) -> None:
        super().__init__()
        self.function = load_function(name, "loss.name")
        check_call(self.function, name, ["logits", "targets"], arguments, "Mend it, or loss.arguments.")
        self.name = name
        self.arguments = arguments
        self.scale = scale

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return what the function makes of the logits, with at least 32 bits, and the targets of a batch.

        Raises
        ------
        DataError
            If it fails, with its line, or does not return a scalar tensor with a gradient.
        """
        logits = widen(logits)
        if self.scale is not None:
            logits = self.scale.restore(logits)
        with failure_told(self.name, self.function):
            loss = self.function(logits, targets, **self.arguments)
        if not isinstance(loss, torch.Tensor):
            raise DataError(self.name, Words(f"a value of type {type(loss).__name__}"), SCALAR)
        if loss.ndim or not loss.is_floating_point():
            found = Words(f"a tensor of shape {tuple(loss.shape)} and {loss.dtype}")
            raise DataError(self.name, found, SCALAR, "Return the mean over the batch.")
        if logits.requires_grad and torch.is_grad_enabled() and not loss.requires_grad:
            raise DataError(self.name, Words("a tensor without gradient"), SCALAR, "Compute it from logits, by torch.")
        return loss


def dice_loss(probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return one minus the mean over classes of the soft Dice coefficient of all pixels of a batch.

    Parameters
    ----------
    probabilities : Tensor, shape (n, classes)
        Of each pixel.
    labels : Tensor of int64, shape (n,)
        Class indices; ignored pixels do not count.

    Notes
    -----
    Milletari et al. 2016, doi:10.1109/3DV.2016.79, with plain sums and over the whole batch as in Isensee et al. 2021,
    doi:10.1038/s41592-020-01008-z. The background is a class like others.
    """
    classes = torch.arange(probabilities.shape[1], device=labels.device)
    of_class = labels[:, None] == classes
    known = probabilities * (labels != IGNORED)[:, None]
    shared = (known * of_class).sum(dim=0)
    sizes = known.sum(dim=0) + of_class.sum(dim=0)
    return 1 - ((2 * shared + DICE_SMOOTHING) / (sizes + DICE_SMOOTHING)).mean()


def widen(logits: torch.Tensor) -> torch.Tensor:
    """Return logits with at least 32 bits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def build_loss(
    loss: LossChoice, kind: str, targets: Targets, classes: tuple[str, ...], scale: TargetScale | None = None
) -> nn.Module:
    """Build the objective of a task.

    Parameters
    ----------
    loss : LossChoice
        Its settings.
    kind : str
        Task type.
    targets : ndarray, or Masks
        Training targets, for automatic weights.
    classes : tuple of str
        Class names.
    scale : TargetScale, optional
        Mean and standard deviation of the training targets of a regression.

    Raises
    ------
    ConfigError
        If the loss does not go with the task type, or the weights do not with the classes, or a function is not there.
    DataError
        If a function does not take what it is to be called with.
    """
    loss = resolve_loss(loss, kind, "loss")
    if isinstance(loss, OwnLoss):
        return FunctionLoss(loss.name, loss.arguments, scale)
    if isinstance(loss, Huber | SquaredError):
        return RegressionLoss(scale or TargetScale(0.0, 1.0), loss.delta if isinstance(loss, Huber) else None)
    return build_class_loss(loss, kind, class_weights(loss, targets, classes))


def build_class_loss(loss: ClassLoss, kind: str, weight: torch.Tensor | None) -> nn.Module:
    """Build the objective of a task with classes."""
    if isinstance(loss, DiceCrossEntropy):
        return SegmentationLoss(weight, 0.0, loss.dice_weight)
    if isinstance(loss, BinaryCrossEntropy):
        return BinaryLoss(weight, loss.label_smoothing)
    if isinstance(loss, Focal):
        return FocalLoss(loss.gamma, weight, loss.label_smoothing)
    if kind == "segmentation":
        return SegmentationLoss(weight, loss.label_smoothing, 0.0)
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=loss.label_smoothing)


def co_task_loss(loss: LossChoice, kind: str) -> LossChoice:
    """Return the loss of a co-task: that of the pipeline if it goes with the task type, else the automatic one.

    Listed weights belong to the classes of the pivot and are left out, as is what the automatic loss does not take.

    Parameters
    ----------
    loss : LossChoice
        The pipeline's.
    kind : str
        Type of the co-task.
    """
    automatic = AUTOMATIC_LOSSES.get(kind, CrossEntropy())
    if isinstance(loss, OwnLoss) or loss.name not in LOSSES[kind]:
        return automatic
    chosen = automatic if loss.name == "auto" else loss
    given = {key: value for key, value in loss if key != "name" and key in type(chosen).model_fields}
    if isinstance(given.get("class_weights"), list):
        given["class_weights"] = None
    return chosen.model_copy(update=given)


def class_weights(loss: ClassLoss, targets: Targets, classes: tuple[str, ...]) -> torch.Tensor | None:
    """Return the weights of the classes, or of their positive samples, if there are any."""
    weights = loss.class_weights
    if weights is None:
        return None
    if weights == "auto":
        if isinstance(loss, BinaryCrossEntropy):
            return torch.tensor(positive_weights(np.asarray(targets)), dtype=torch.float32)
        return torch.tensor(inverse_frequencies(count_classes(targets, len(classes))), dtype=torch.float32)
    if len(weights) != len(classes):
        raise ConfigError(
            "loss.class_weights",
            Words(f"{len(weights)} weights"),
            f"{len(classes)}, one for each of {', '.join(classes)}",
        )
    return torch.tensor(weights, dtype=torch.float32)


def positive_weights(targets: np.ndarray) -> np.ndarray:
    """Return negatives over positives of each class, 1 for a class without one of them; soft targets are rounded."""
    positives = (targets >= 0.5).sum(axis=0)
    negatives = len(targets) - positives
    both = (positives > 0) & (negatives > 0)
    return np.where(both, negatives / np.maximum(positives, 1), 1.0)


def inverse_frequencies(counts: np.ndarray) -> np.ndarray:
    """Return weights inverse to counts, mean 1 over the classes that occur; 1 for the others."""
    inverse = 1.0 / np.maximum(counts, 1)
    return np.where(counts > 0, inverse / inverse[counts > 0].mean(), 1.0)


def count_classes(targets: Targets, classes: int) -> np.ndarray:
    """Count samples by class, or pixels, a mask at a time."""
    if isinstance(targets, Masks):
        places = np.arange(len(targets))
        counts = sum(np.bincount(targets[places[place : place + 1]].ravel(), minlength=IGNORED + 1) for place in places)
        return np.asarray(counts)[:classes]
    return np.bincount(targets, minlength=classes)
