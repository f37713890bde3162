"""Targets of regression tasks: networks learn them standardised and answer in the original units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn


class TargetScale(NamedTuple):
    """Mean and standard deviation of the training targets."""

    mean: float
    std: float

    @classmethod
    def of(cls, targets: np.ndarray) -> TargetScale:
        """Measure targets of shape (n,); the deviation of equal targets counts as 1."""
        values = targets.astype(np.float64)
        spread = values.max() > values.min()
        return cls(float(values.mean()), float(values.std()) if spread else 1.0)

    def standardise(self, targets: torch.Tensor) -> torch.Tensor:
        """Return targets with mean 0 and standard deviation 1."""
        return (targets - self.mean) / self.std

    def restore(self, logits: torch.Tensor) -> torch.Tensor:
        """Return standardised logits in the units of the targets."""
        return logits * self.std + self.mean

    @torch.no_grad()
    def restore_head(self, head: nn.Linear) -> None:
        """Change a trained head so that it answers in the units of the targets."""
        head.weight.mul_(self.std)
        head.bias.mul_(self.std).add_(self.mean)
