"""What a task type minimises, and how an epoch's validation is summed up."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from foldwise.config.losses import LossChoice
from foldwise.config.metrics import Metrics
from foldwise.data.batches import Targets
from foldwise.inference.resampled import whole_metrics
from foldwise.inference.segmentation import Confusion
from foldwise.models.scale import TargetScale
from foldwise.tasks.task import Task
from foldwise.training.losses import build_loss


class Objective(NamedTuple):
    """Task type and classes, the loss, and the units of a regression."""

    kind: str
    classes: tuple[str, ...]
    loss: nn.Module
    scale: TargetScale | None = None

    @property
    def metrics(self) -> list[str]:
        """All metrics of the task type; the first stands for them in lines of progress."""
        return Metrics().of(self.kind)


def build_objective(loss: LossChoice, task: Task, targets: Targets) -> Objective:
    """Build the objective of a task from its training targets."""
    scale = TargetScale.of(np.asarray(targets)) if task.type == "regression" else None
    return Objective(task.type, task.classes, build_loss(loss, task.type, targets, task.classes, scale), scale)


class Validation(Protocol):
    """What validation of an epoch found."""

    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Take in a batch."""

    def loss(self) -> float:
        """Return the loss of all samples."""

    def metrics(self) -> dict[str, float]:
        """Return all metrics of the task type."""


class WholeValidation:
    """Loss and metrics of all logits at once.

    Parameters
    ----------
    objective : Objective
        Of the task.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.parts: list[tuple[torch.Tensor, torch.Tensor]] = []

    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        self.parts.append((logits, targets))

    def gather(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and targets of all samples so far."""
        logits, targets = (torch.cat(parts) for parts in zip(*self.parts, strict=True))
        return logits, targets

    def loss(self) -> float:
        return float(self.objective.loss(*self.gather()).item())

    def metrics(self) -> dict[str, float]:
        kind, _, _, scale = self.objective
        logits, targets = self.gather()
        if scale is not None:
            logits = scale.restore(logits)
        return whole_metrics(kind, self.objective.metrics, logits.cpu().numpy(), targets.cpu().numpy())


class StreamedValidation:
    """Loss as the mean over batches by their samples, and metrics from counts: logits of maps are not kept.

    Parameters
    ----------
    objective : Objective
        Of a segmentation task.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.losses: list[torch.Tensor] = []
        self.sizes: list[int] = []
        self.confusion = Confusion(len(objective.classes))

    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        self.losses.append(self.objective.loss(logits, targets))
        self.sizes.append(len(targets))
        self.confusion.add(logits.argmax(dim=1).to(torch.uint8).cpu().numpy(), targets.cpu().numpy())

    def loss(self) -> float:
        return float(np.average(torch.stack(self.losses).cpu().double().numpy(), weights=self.sizes))

    def metrics(self) -> dict[str, float]:
        return self.confusion.metrics(self.objective.metrics)


def start_validation(objective: Objective) -> Validation:
    """Return what sums up the validation of an epoch."""
    return StreamedValidation(objective) if objective.kind == "segmentation" else WholeValidation(objective)
