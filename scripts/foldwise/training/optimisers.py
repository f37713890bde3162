"""Optimisers and schedules of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from torch.optim import lr_scheduler as schedules

from foldwise.config.optimization import (
    Constant,
    Cosine,
    CosineRestart,
    Exponential,
    OneCycle,
    Optimizer,
    OptimizerChoice,
    Plateau,
    SchedulerChoice,
    Step,
)  # fmt: skip
from foldwise.errors import ConfigError, Words
from foldwise.models.network import Network

OPTIMIZERS = {
    "adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop,
}  # fmt: skip
FUSED = ("adamw", "adam", "sgd")
FUSED_DEVICES = ("cpu", "cuda")
WARMUP_START = 0.01


class WarmPlateau(schedules.ReduceLROnPlateau):
    """A linear rise, then drops of the learning rate when what is watched has stopped falling.

    What is watched counts from the first epoch with the whole learning rate on; stepped once an epoch.

    Parameters
    ----------
    optimizer : Optimizer
        The optimiser whose learning rate changes.
    warmup : int
        Epochs of the rise.
    **arguments
        Of `ReduceLROnPlateau`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, warmup: int, **arguments: Any) -> None:
        super().__init__(optimizer, **arguments)
        self.warmup = warmup
        self.peaks = [float(group["lr"]) for group in optimizer.param_groups]
        if warmup:
            self.rise()

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """End an epoch."""
        if self.last_epoch >= self.warmup:
            super().step(metrics, epoch)
            return
        self.last_epoch += 1
        self.rise()

    def rise(self) -> None:
        """Set the learning rate of an epoch of the rise, or of the one after it."""
        factor = WARMUP_START + (1 - WARMUP_START) * (self.last_epoch / self.warmup)
        self._last_lr = [peak * factor for peak in self.peaks]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def build_optimizer(config: OptimizerChoice, network: Network) -> torch.optim.Optimizer:
    """Build the optimiser, with a group of parameters each for the backbone and the heads.

    Only parameters that learn are in the groups; of a frozen backbone these are its adapters, if it has any. The key
    `name` of a group is ``backbone`` or ``heads``.

    Raises
    ------
    ConfigError
        If no parameter learns.
    """
    own = [name for name in type(config).model_fields if name not in (*Optimizer.model_fields, "name")]
    arguments = {name: getattr(config, name) for name in own}
    if "betas" in arguments:
        arguments["betas"] = tuple(arguments["betas"])
    rates = {"backbone": config.lr * config.backbone_lr_factor, "heads": config.lr}
    learning = {
        name: [weight for weight in getattr(network, name).parameters() if weight.requires_grad] for name in rates
    }
    groups = [{"params": weights, "lr": rates[name], "name": name} for name, weights in learning.items() if weights]
    if not groups:
        raise ConfigError("optimizer", Words("a network without parameters that learn"), "a head that learns")
    fused = config.name in FUSED and can_be_fused(chain.from_iterable(learning.values()))
    optimizer = OPTIMIZERS[config.name](groups, lr=config.lr, **arguments, **({"fused": True} if fused else {}))
    if fused:
        keep_unscaling_outside(optimizer)
    return optimizer


def can_be_fused(weights: Iterable[torch.Tensor]) -> bool:
    """Tell whether one kernel can make a whole step, which is the fastest and gives the same bytes in every run.

    The kernel takes weights, gradients and moments as they lie in memory. Those of a weight lie as it does unless it
    is part of a larger tensor: new tensors like it have other strides then.
    """
    return all(
        weight.device.type in FUSED_DEVICES
        and weight.is_floating_point()
        and torch.empty_like(weight, device="meta").stride() == weight.stride()
        for weight in weights
    )


def keep_unscaling_outside(optimizer: torch.optim.Optimizer) -> None:
    """Let gradients be unscaled before the step, as by optimisers that are not fused: clipping comes in between.

    Lightning refuses to clip gradients in mixed precision otherwise.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]


def build_scheduler(
    config: SchedulerChoice, optimizer: torch.optim.Optimizer, steps_per_epoch: int, epochs: int
) -> schedules.LRScheduler | None:
    """Build the schedule of the learning rate.

    Parameters
    ----------
    config : SchedulerChoice
        Its settings, in epochs.
    optimizer : Optimizer
        The optimiser whose learning rate changes.
    steps_per_epoch, epochs : int
        Length of training.

    Returns
    -------
    LRScheduler or None
        To be stepped after every optimiser step, a `ReduceLROnPlateau` after every epoch with what it watches; None if
        the learning rate stays as it is.
    """
    if isinstance(config, Plateau):
        # Any fall counts: a threshold relative to the loss would take a constant loss below 0 for one that falls.
        arguments = {name: getattr(config, name) for name in ("factor", "patience", "min_lr")}
        return WarmPlateau(optimizer, round(config.warmup_epochs), threshold=0.0, eps=0.0, **arguments)
    if isinstance(config, OneCycle):
        peak = [group["lr"] for group in optimizer.param_groups]
        arguments = {name: getattr(config, name) for name in ("div_factor", "final_div_factor")}
        total = steps_per_epoch * epochs
        start = max(config.pct_start, min(2 / total, 0.99))  # torch divides by zero for a rise of a single step
        return schedules.OneCycleLR(
            optimizer, peak, total_steps=total, pct_start=start, cycle_momentum=False, **arguments
        )
    warmup = round(config.warmup_epochs * steps_per_epoch)
    main = main_schedule(config, optimizer, steps_per_epoch, max(1, steps_per_epoch * epochs - warmup))
    if not warmup:
        return main
    rise = schedules.LinearLR(optimizer, WARMUP_START, 1.0, total_iters=warmup)
    rest = main or schedules.ConstantLR(optimizer, factor=1.0, total_iters=0)
    return schedules.SequentialLR(optimizer, [rise, rest], milestones=[warmup])


def main_schedule(
    config: SchedulerChoice, optimizer: torch.optim.Optimizer, steps_per_epoch: int, steps: int
) -> schedules.LRScheduler | None:
    """Build the schedule after warm-up, `steps` optimiser steps long."""
    match config:
        case Constant():
            return None
        case Cosine():
            return schedules.CosineAnnealingLR(optimizer, T_max=steps, eta_min=config.eta_min)
        case CosineRestart():
            period = max(1, round(config.period_epochs * steps_per_epoch))
            return schedules.CosineAnnealingWarmRestarts(optimizer, period, config.period_factor, config.eta_min)
        case Step():
            return schedules.StepLR(optimizer, config.step_epochs * steps_per_epoch, config.gamma)
        case Exponential():
            return schedules.ExponentialLR(optimizer, config.gamma ** (1 / steps_per_epoch))
    raise AssertionError(f"schedule {config.name} has no builder")
