"""The Lightning module: what happens to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from foldwise.config.pipeline import Pipeline
from foldwise.data.augment import Augment, Normalize
from foldwise.data.batches import Batch
from foldwise.errors import DataError, Words
from foldwise.models.network import Network
from foldwise.training.mixing import Mixing
from foldwise.training.objective import Objective, Validation, start_validation
from foldwise.training.optimisers import build_optimizer, build_scheduler

CHECK_EVERY = 50  # steps between two looks at the losses on a device, where each look waits for it


class LearnedTask(nn.Module):
    """A task that is learned: from its uint8 images to losses.

    Parameters
    ----------
    name : str
        Name of the task.
    objective : Objective
        Loss and metrics of its type.
    augment, normalize : Module
        From uint8 images to the network's input, in training (masks move with them) and in validation.
    mixing : Mixing, optional
        Mixes the images of a batch.
    """

    def __init__(
        self, name: str, objective: Objective, augment: Augment, normalize: Normalize, mixing: Mixing | None = None
    ) -> None:
        super().__init__()
        self.name = name
        self.objective = objective
        self.loss = objective.loss
        self.augment = augment
        self.normalize = normalize
        self.mixing = mixing


class FoldModule(lightning.LightningModule):
    """Train a network on one fold of a task, and on co-tasks beside it.

    Parameters
    ----------
    network : Network
        The network, a head for each task.
    pipeline : Pipeline
        The recipe.
    tasks : sequence of LearnedTask
        The pivot first.
    weights : sequence of float
        Weight of each task's loss; the total is the weighted mean.
    seed : int
        Seed of training; the random numbers of a step depend on it, on the epoch and on the step alone, so that a
        resumed training needs no state of generators.
    steps_per_epoch : int
        Optimiser steps an epoch.

    Attributes
    ----------
    curves : list of dict
        A row an epoch that was validated: epoch, learning rate, training loss (the total), validation loss and
        metrics of the pivot; with co-tasks also ``{task}/train_loss`` of each task, and ``{task}/val_loss`` and
        ``{task}/{metric}`` of co-tasks.
    train_losses : list of Tensor
        Losses of the tasks in each step of the running epoch.
    """

    weights: torch.Tensor

    def __init__(
        self,
        network: Network,
        pipeline: Pipeline,
        tasks: Sequence[LearnedTask],
        weights: Sequence[float],
        seed: int,
        steps_per_epoch: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.pipeline = pipeline
        self.tasks = list(tasks)
        self.parts = nn.ModuleList(tasks)  # what moves to the device
        self.register_buffer("weights", torch.tensor(weights) / sum(weights), persistent=False)
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch
        self.curves: list[dict[str, float]] = []
        self.train_losses: list[torch.Tensor] = []
        self.validations: list[Validation] = []

    @property
    def pivot(self) -> LearnedTask:
        """The task that decides."""
        return self.tasks[0]

    def configure_optimizers(self) -> Any:
        """Return the optimiser, and the schedule with the interval at which it is stepped."""
        optimizer = build_optimizer(self.pipeline.optimizer, self.network)
        epochs = self.pipeline.trainer.max_epochs
        scheduler = build_scheduler(self.pipeline.lr_scheduler, optimizer, self.steps_per_epoch, epochs)
        if scheduler is None:
            return optimizer
        if isinstance(scheduler, ReduceLROnPlateau):
            watched = {
                "interval": "epoch",
                "frequency": self.pipeline.trainer.check_val_every_n_epoch,
                "monitor": self.pipeline.lr_scheduler.monitor,  # type: ignore[union-attr]
            }
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **watched}}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move tensors; on a CPU there is nothing to move."""
        if device.type == "cpu":
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_train_epoch_start(self) -> None:
        """Choose the order of samples of the epoch, and this process's share of its batches."""
        batches: Any = self.trainer.train_dataloader
        batches.set_epoch(self.current_epoch)
        batches.set_share(self.global_rank, self.trainer.world_size)

    def training_step(self, batch: tuple[Batch, ...], index: int) -> torch.Tensor:
        """Return the weighted mean loss of a batch of every task."""
        if index == 0:
            self.train_losses.clear()
        self.seed_step(index)
        losses = torch.stack([self.task_loss(head, *part) for head, part in enumerate(batch)])
        self.train_losses.append(losses.detach())
        if losses.device.type == "cpu" or index % CHECK_EVERY == CHECK_EVERY - 1:
            self.check_finite()
        return (losses * self.weights).sum()

    def seed_step(self, step: int) -> None:
        """Let the random numbers of a step begin; processes that share a batch have numbers of their own."""
        parts = [self.seed, self.current_epoch, step, *([self.global_rank] if self.global_rank else [])]
        seed = int(np.random.SeedSequence(parts).generate_state(1)[0])
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # that alone is used; asking for all devices takes long
        else:
            torch.manual_seed(seed)

    def task_loss(self, head: int, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch of one task."""
        task = self.tasks[head]
        images, targets = task.augment(pixels, targets)
        if task.mixing is None:
            return task.loss(self.network(images, head), targets)
        mixture = task.mixing.mix(images)
        return mixture.loss(task.loss, self.network(mixture.images, head), targets)

    def check_finite(self) -> None:
        """Raise `DataError` if a training loss of the epoch is not finite: names epoch, step and learning rate."""
        if not self.train_losses or bool(self.train_losses[-1].isfinite().all()):
            return
        finite = torch.stack(self.train_losses).isfinite().all(dim=1).cpu()
        step = int((~finite).int().argmax())
        self.tell_of_divergence("the training loss", step, float(self.train_losses[step].sum()))

    def tell_of_divergence(self, what: str, step: int, value: float) -> None:
        """Raise `DataError` for a loss that is not finite."""
        rate = self.optimizers().param_groups[-1]["lr"]  # type: ignore[union-attr]
        where = f"{what} in epoch {self.current_epoch + 1}, step {step + 1}, learning rate {rate:.3g}"
        remedy = "Lower optimizer.lr or set trainer.gradient_clip_val; the last good state is kept until then."
        raise DataError(where, Words(str(value)), "a finite loss", remedy)

    def on_train_epoch_end(self) -> None:
        """Raise `DataError` if a loss was not finite, which must not be told of the next epoch."""
        self.check_finite()

    def on_validation_epoch_start(self) -> None:
        """Forget the epoch before."""
        self.validations = [start_validation(task.objective) for task in self.tasks]

    def validation_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None:
        """Take in the logits of a batch of one task."""
        pixels, targets = batch
        task = self.tasks[dataloader_idx]
        logits = self.network(task.normalize(pixels), dataloader_idx)
        self.validations[dataloader_idx].add(logits.to(self.dtype), targets)

    def on_validation_epoch_end(self) -> None:
        """Add a row to the curves.

        Raises
        ------
        DataError
            If a loss is not finite: names epoch, step and learning rate.
        """
        self.check_finite()
        steps = self.trainer.strategy.reduce(torch.stack(self.train_losses), reduce_op="mean")
        losses = [validation.loss() for validation in self.validations]
        for task, loss in zip(self.tasks, losses, strict=True):
            if not np.isfinite(loss):
                self.tell_of_divergence(f"the validation loss of {task.name}", len(steps) - 1, loss)
        row = {
            "epoch": self.current_epoch,
            "lr": self.optimizers().param_groups[-1]["lr"],  # type: ignore[union-attr]
            "train_loss": (steps * self.weights).sum(dim=1).mean().item(),
            "val_loss": losses[0],
        }
        row |= self.validations[0].metrics()
        told = {key: float(value) for key, value in row.items() if self.is_told(key)}
        self.log_dict(told, sync_dist=self.trainer.world_size > 1)
        self.curves.append({**row, **self.learning_rates(), **self.task_curves(steps.mean(dim=0).tolist(), losses)})

    def is_told(self, key: str) -> bool:
        """Tell whether a value goes to Lightning: what is watched, and all that TensorBoard draws."""
        watched = (self.pipeline.cbs.early_stopping, self.pipeline.lr_scheduler)
        return self.pipeline.cbs.tensorboard or key in {getattr(section, "monitor", None) for section in watched}

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rate of each part of the network, if they are to be told."""
        if not self.pipeline.cbs.lr_monitor:
            return {}
        groups = self.optimizers().param_groups  # type: ignore[union-attr]
        return {f"lr_{group['name']}": float(group["lr"]) for group in groups}

    def task_curves(self, train_losses: Sequence[float], val_losses: Sequence[float]) -> dict[str, float]:
        """Return what there is of each task where there is more than one."""
        if len(self.tasks) == 1:
            return {}
        found = {f"{task.name}/train_loss": loss for task, loss in zip(self.tasks, train_losses, strict=True)}
        for task, loss, validation in list(zip(self.tasks, val_losses, self.validations, strict=True))[1:]:
            found[f"{task.name}/val_loss"] = loss
            found |= {f"{task.name}/{key}": value for key, value in validation.metrics().items()}
        return found

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the curves, and the losses of the running epoch."""
        checkpoint["curves"] = self.curves
        checkpoint["train_losses"] = torch.stack(self.train_losses) if self.train_losses else torch.empty(0)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the curves, and the losses of the running epoch."""
        self.curves = checkpoint["curves"]
        self.train_losses = list(checkpoint["train_losses"].to(self.device).unbind())
