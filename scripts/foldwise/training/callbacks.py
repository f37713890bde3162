"""What watches training: the epoch to keep, progress on the terminal, use of memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping

from foldwise.models.lora import merged_weights
from foldwise.progress import in_words

Weights = dict[str, torch.Tensor]
STEP_SECONDS = 20.0  # within an epoch, between two lines
Row = Mapping[str, float]  # of the curves
Watcher = Callable[[int, Row], None]


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
    weights : dict of str to Tensor
        Its weights, those of adapters merged.
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
            self.weights = merged_weights(module.network)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {"epoch": self.epoch, "score": self.score, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what a stopped training had."""
        self.epoch, self.score, self.weights = (state_dict[key] for key in ("epoch", "score", "weights"))


class Patience(EarlyStopping):
    """Stop early, but not before the least number of epochs.

    Lightning's own would remember that it wants to stop and do so as soon as it may, even if training got better
    meanwhile; a resumed training would not remember it.
    """

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Look at what is watched."""
        super().on_train_epoch_end(trainer, pl_module)
        self.wait(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Look at what is watched, if not every epoch is validated."""
        super().on_validation_end(trainer, pl_module)
        self.wait(trainer)

    def wait(self, trainer: lightning.Trainer) -> None:
        """Let training go on until it may stop."""
        if trainer.current_epoch + 1 < (trainer.min_epochs or 0):
            trainer.should_stop = False


class ReportEpochs(lightning.Callback):
    """Report every epoch in a line: how far, how well (both losses and one metric), how long still.

    Within an epoch that takes long there is a line now and then.
    """

    def __init__(self, report: Callable[[str], None], epochs: int, metric: str) -> None:
        self.report = report
        self.epochs = epochs
        self.metric = metric
        self.started = self.reported = time.monotonic()
        self.first = 0.0

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Remember where a resumed training goes on."""
        self.first = trainer.current_epoch

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a line if there was none for long."""
        if time.monotonic() - self.reported < STEP_SECONDS:
            return
        step, steps = batch_idx + 1, trainer.num_training_batches
        left = self.left(trainer.current_epoch + step / steps)
        self.report(f"epoch {trainer.current_epoch + 1} of {self.epochs}: step {step} of {steps}; {left} left")
        self.reported = time.monotonic()

    def on_validation_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Write the line of an epoch."""
        row, done = module.curves[-1], trainer.current_epoch + 1
        figures = ", ".join(f"{key} {row[key]:.4g}" for key in ("train_loss", "val_loss", self.metric))
        self.report(f"epoch {done} of {self.epochs}: {figures}; {self.left(done)} left")
        self.reported = time.monotonic()

    def left(self, done: float) -> str:
        """Return how long the epochs that are left will take, by those that are done."""
        return in_words((time.monotonic() - self.started) / (done - self.first) * (self.epochs - done))


class WatchEpochs(lightning.Callback):
    """Tell somebody of every epoch that was validated, and of the one that `KeepWeights` keeps until then.

    Rows of the curves that a stopped training has left are told before the first new one, so that whoever listens
    hears the same as of a training that was never stopped.

    Parameters
    ----------
    watch : callable
        Receives an epoch and the row of the epoch that is kept; what it raises ends the training.
    best : bool
        Whether the best epoch is kept; otherwise the last.
    """

    def __init__(self, watch: Watcher, best: bool) -> None:
        self.watch = watch
        self.best = best
        self.told = 0
        self.kept: Row = {}

    def on_validation_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Tell of the epoch, and of those before that have not been told."""
        self.tell(module.curves)

    def tell(self, curves: Sequence[Row]) -> None:
        """Tell of the rows that have not been told."""
        for row in curves[self.told :]:
            self.told += 1
            if not self.best or not self.kept or row["val_loss"] < self.kept["val_loss"]:
                self.kept = row
            self.watch(int(row["epoch"]), self.kept)


class DeviceStats(lightning.Callback):
    """Note seconds and memory of every epoch.

    Attributes
    ----------
    rows : list of dict
        A row an epoch since the job began: epoch, seconds, memory of the process in MB, and on a GPU the most memory
        in use and reserved there.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.started = time.monotonic()

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Add a row."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        row = {
            "epoch": trainer.current_epoch,
            "seconds": round(time.monotonic() - self.started, 3),
            "peak_memory_mb": round(peak, 1),
        }
        if module.device.type == "cuda":
            row["device_allocated_mb"] = round(torch.cuda.max_memory_allocated(module.device) / 2**20, 1)
            row["device_reserved_mb"] = round(torch.cuda.max_memory_reserved(module.device) / 2**20, 1)
        self.rows.append(row)
