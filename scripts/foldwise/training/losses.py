"""Training objectives by task type."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from foldwise.config.pipeline import Focal, Loss
from foldwise.errors import ConfigError, Words


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


def build_loss(loss: Loss, labels: np.ndarray, classes: tuple[str, ...]) -> nn.Module:
    """Build the objective of a classification task.

    Parameters
    ----------
    loss : Loss
        Its settings.
    labels : ndarray of int64, shape (n,)
        Training labels, for automatic class weights.
    classes : tuple of str
        Class names.
    """
    weight = class_weights(loss, labels, classes)
    if isinstance(loss, Focal):
        return FocalLoss(loss.gamma, weight, loss.label_smoothing)
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=loss.label_smoothing)


def class_weights(loss: Loss, labels: np.ndarray, classes: tuple[str, ...]) -> torch.Tensor | None:
    """Return the weights of the classes, if there are any."""
    if loss.class_weights is None:
        return None
    if loss.class_weights == "auto":
        counts = np.bincount(labels, minlength=len(classes))
        inverse = 1.0 / np.maximum(counts, 1)
        return torch.tensor(inverse / inverse.mean(), dtype=torch.float32)
    if len(loss.class_weights) != len(classes):
        raise ConfigError(
            "loss.class_weights",
            Words(f"{len(loss.class_weights)} weights"),
            f"{len(classes)}, one for each of {', '.join(classes)}",
        )
    return torch.tensor(loss.class_weights, dtype=torch.float32)
