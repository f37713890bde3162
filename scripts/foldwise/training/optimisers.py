"""Optimisers and learning-rate schedules, stepped after every batch."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import lr_scheduler as schedules

from foldwise.config.pipeline import (
    Constant,
    Cosine,
    CosineRestart,
    Exponential,
    OneCycle,
    Optimizer,
    OptimizerChoice,
    SchedulerChoice,
    Step,
)  # fmt: skip
from foldwise.models.network import Network

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
WARMUP_START = 0.01


def build_optimizer(config: OptimizerChoice, network: Network) -> torch.optim.Optimizer:
    """Build the optimiser, with a learning rate of its own for the backbone."""
    own = [name for name in type(config).model_fields if name not in (*Optimizer.model_fields, "name")]
    arguments = {name: getattr(config, name) for name in own}
    groups: list[dict[str, Any]] = [
        {"params": list(network.backbone.parameters()), "lr": config.lr * config.backbone_lr_factor},
        {"params": list(network.heads.parameters()), "lr": config.lr},
    ]
    if "betas" in arguments:
        arguments["betas"] = tuple(arguments["betas"])
    return OPTIMIZERS[config.name](groups, lr=config.lr, **arguments)  # type: ignore[operator]


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
        To be stepped after every optimiser step; None if the learning rate stays as it is.
    """
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
