"""The Lightning module: what happens to a batch."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch

from foldwise.config.pipeline import Pipeline
from foldwise.data.augment import Augment, Normalize
from foldwise.errors import DataError, Words
from foldwise.models.network import Network
from foldwise.training.objective import Objective, start_validation
from foldwise.training.optimisers import build_optimizer, build_scheduler

Batch = tuple[torch.Tensor, torch.Tensor]


class FoldModule(lightning.LightningModule):
    """Train a network on one fold of a task.

    Parameters
    ----------
    network : Network
        The network, its first head that of the task.
    pipeline : Pipeline
        The recipe.
    objective : Objective
        Loss and metrics of the task type.
    augment, normalize : Module
        From uint8 images to the network's input, in training (masks move with them) and in validation.
    seed : int
        Seed of training; the random numbers of an epoch depend on it and on the epoch alone.
    steps_per_epoch : int
        Optimiser steps an epoch.

    Attributes
    ----------
    curves : list of dict
        A row an epoch: epoch, learning rate, training loss, validation loss, validation metrics.
    """

    def __init__(
        self,
        network: Network,
        pipeline: Pipeline,
        objective: Objective,
        augment: Augment,
        normalize: Normalize,
        seed: int,
        steps_per_epoch: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.pipeline = pipeline
        self.objective = objective
        self.loss = objective.loss
        self.augment = augment
        self.normalize = normalize
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch
        self.curves: list[dict[str, float]] = []
        self.train_losses: list[torch.Tensor] = []
        self.validation = start_validation(objective)

    def configure_optimizers(self) -> Any:
        """Return the optimiser, and the schedule stepped after every optimiser step."""
        optimizer = build_optimizer(self.pipeline.optimizer, self.network)
        epochs = self.pipeline.trainer.max_epochs
        scheduler = build_scheduler(self.pipeline.lr_scheduler, optimizer, self.steps_per_epoch, epochs)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Seed augmentation and dropout of the epoch, and choose its order of samples."""
        torch.manual_seed(int(np.random.SeedSequence([self.seed, self.current_epoch]).generate_state(1)[0]))
        self.trainer.train_dataloader.set_epoch(self.current_epoch)  # type: ignore[union-attr]
        self.train_losses.clear()

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """Return the loss of a batch."""
        images, targets = self.augment(*batch)
        loss = self.loss(self.network(images), targets)
        self.train_losses.append(loss.detach())
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the epoch before."""
        self.validation = start_validation(self.objective)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Take in the logits of a batch."""
        pixels, targets = batch
        self.validation.add(self.network(self.normalize(pixels)).to(self.dtype), targets)

    def on_validation_epoch_end(self) -> None:
        """Add a row to the curves.

        Raises
        ------
        DataError
            If a loss is not finite: names epoch, step and learning rate.
        """
        row = {
            "epoch": self.current_epoch,
            "lr": self.optimizers().param_groups[-1]["lr"],  # type: ignore[union-attr]
            "train_loss": torch.stack(self.train_losses).mean().item(),
            "val_loss": self.validation.loss(),
        }
        for key in ("train_loss", "val_loss"):
            if not np.isfinite(row[key]):
                where = f"{key} in epoch {row['epoch']}, step {self.global_step}, learning rate {row['lr']:.3g}"
                raise DataError(
                    where, Words(str(row[key])), "a finite loss", "Lower optimizer.lr or set trainer.gradient_clip_val."
                )
        self.curves.append({**row, **self.validation.metrics()})
