"""What watches training: the best epoch, and progress on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
import torch

Weights = dict[str, torch.Tensor]


class KeepWeights(lightning.Callback):
    """Keep the weights of the epoch with the lowest validation loss, or of the last one.

    Parameters
    ----------
    best : bool
        Keep the best epoch; otherwise the last.

    Attributes
    ----------
    epoch : int
        The epoch that is kept, counted from 0.
    """

    def __init__(self, best: bool) -> None:
        self.best = best
        self.epoch = -1
        self.score = float("inf")
        self.weights: Weights = {}

    def on_validation_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Copy the weights if the epoch is to be kept."""
        loss = module.curves[-1]["val_loss"]
        if not self.best or loss < self.score:
            self.epoch, self.score = trainer.current_epoch, loss
            self.weights = {name: tensor.detach().clone() for name, tensor in module.network.state_dict().items()}


class ReportEpochs(lightning.Callback):
    """Report every epoch in a line: how far, how well (both losses and one metric), how long still."""

    def __init__(self, report: Callable[[str], None], epochs: int, metric: str) -> None:
        self.report = report
        self.epochs = epochs
        self.metric = metric
        self.started = time.monotonic()

    def on_validation_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Write the line."""
        row = module.curves[-1]
        done = trainer.current_epoch + 1
        left = (time.monotonic() - self.started) / done * (self.epochs - done)
        figures = ", ".join(f"{key} {row[key]:.4g}" for key in ("train_loss", "val_loss", self.metric))
        self.report(f"epoch {done} of {self.epochs}: {figures}; {left:.0f} s left")
