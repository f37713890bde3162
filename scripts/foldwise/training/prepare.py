"""What a training is made of: network, batches and objectives of all tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from foldwise.config.callbacks import Callbacks
from foldwise.config.jobs import TrainConfig, TransferConfig
from foldwise.config.pipeline import Pipeline, TrainerSection
from foldwise.data.augment import Normalize, build_augmentation, normalization_statistics
from foldwise.data.batches import Batches, BatchPlan, Together, TrainingPlan, targets_of
from foldwise.data.cache import cached
from foldwise.data.files import Data
from foldwise.errors import ConfigError, DataError, Words
from foldwise.models.lora import add_lora
from foldwise.models.network import Network, build_network, check_size, count_outputs
from foldwise.models.weights import load_start, pretrained_statistics
from foldwise.tasks.task import Task
from foldwise.training.losses import co_task_loss
from foldwise.training.mixing import Mixing
from foldwise.training.module import FoldModule, LearnedTask
from foldwise.training.objective import build_objective
from foldwise.training.transfer import Source


@dataclass(frozen=True)
class Training:
    """A training, ready to run.

    Parameters
    ----------
    module : FoldModule
        Network and objectives.
    train : Together
        Training batches of all tasks.
    val : list of Batches
        Validation batches, a task each.
    """

    module: FoldModule
    train: Together
    val: list[Batches]


def prepare(
    config: TrainConfig,
    data: Sequence[Data],
    fold: int,
    cache: str,
    source: Source | None,
    kind: Callable[..., FoldModule] = FoldModule,
) -> Training:
    """Build network, batches and objectives of a training.

    Parameters
    ----------
    config : TrainConfig
        What decides the weights.
    data : sequence of Data
        Of the pivot and its co-tasks, in order.
    fold : int
        The held-out fold of the pivot.
    cache : str
        Where tensors are kept.
    source : Source or None
        The model to start from.
    kind : callable
        Makes the module.
    """
    pipeline = config.pipeline
    folds = [fold, *(outer_fold(config, fold) % task.task.n_folds for task in config.co_tasks)]
    parts = [
        TaskPart.of(one, place, pipeline, config.seed, cache, is_pivot=not index)
        for index, (one, place) in enumerate(zip(data, folds, strict=True))
    ]
    train = Together([part.train for part in parts])
    check_limits(pipeline.trainer, train=len(train), val=min(len(part.val) for part in parts))
    shapes = [shape_of(one) for one in data]
    check_channels(data)
    torch.manual_seed(config.seed)
    network = build_network(
        pipeline.arch,
        shapes[0][2],
        [count_outputs(one.task.type, one.task.classes) for one in data],
        [one.task.type for one in data],
        size=shapes[0][:2],
    )
    for shape in dict.fromkeys(shapes):
        check_size(network, pipeline.arch, shape)
    start_from(network, config, source, shapes[0][:2])
    statistics = source.statistics if source else pretrained_statistics(pipeline.arch)
    tasks = [part.learned(pipeline, statistics) for part in parts]
    weights = pipeline.mode.task_weights or [1.0] * len(tasks)
    keep_unweighted(network, weights)
    if pipeline.trainer.compile:
        network.backbone.compile()
    limit = limit_batches(len(train), pipeline)
    module = kind(
        network=network,
        pipeline=pipeline,
        tasks=tasks,
        weights=weights,
        seed=config.seed,
        steps_per_epoch=-(-limit // pipeline.trainer.accumulate_grad_batches),
    )
    return Training(module, train, [part.val for part in parts])


def shape_of(data: Data) -> tuple[int, int, int]:
    """Return height, width and channels of the images of a task."""
    _, height, width, channels = data.store.images.shape
    return height, width, channels


def own_device() -> torch.device:
    """Return the device of this process; several processes of a training have one each."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def outer_fold(config: TrainConfig, fold: int) -> int:
    """Return the fold that co-tasks validate on: the outer one of a nested model, else its own."""
    nested = [tag for tag in config.task.tags if tag.startswith("nested-")]
    return int(nested[-1].split("-")[1]) if nested else fold


@dataclass(frozen=True)
class TaskPart:
    """Batches of one task and what its objective needs.

    Parameters
    ----------
    data : Data
        The task and its tensors.
    rows, targets : ndarray, Targets
        Of the training samples.
    train, val : Batches
        Batches of both splits.
    is_pivot : bool
        Whether it is the pivot.
    """

    data: Data
    rows: Any
    targets: Any
    train: Batches
    val: Batches
    is_pivot: bool

    @classmethod
    def of(cls, data: Data, fold: int, pipeline: Pipeline, seed: int, cache: str, is_pivot: bool) -> TaskPart:
        """Split a task by one of its folds."""
        task, store = data
        check_fold(task, fold)
        places = {split: task.split(split, fold) for split in ("train", "val")}
        rows = {split: store.rows_of(task, places[split]) for split in places}
        targets = {split: targets_of(store, task, places[split]) for split in places}
        sampling = pipeline.sampling
        if task.type != "classification":
            sampling = sampling.model_copy(update={"balanced": False})
        images = {split: cached(store.images, rows[split], cache, own_device()) for split in places}
        return cls(
            data,
            rows["train"],
            targets["train"],
            Batches(*images["train"], targets["train"], TrainingPlan(targets["train"], sampling, seed)),
            Batches(*images["val"], targets["val"], BatchPlan(len(rows["val"]), sampling.batch_size)),
            is_pivot,
        )

    def learned(self, pipeline: Pipeline, pretrained: tuple[list[float], list[float]] | None) -> LearnedTask:
        """Build what turns the images of the task into losses."""
        task, store = self.data
        statistics = store.channel_statistics(self.rows)
        normalize = Normalize(*normalization_statistics(pipeline.augmentations, statistics, pretrained))
        operations = pipeline.augmentations.operations
        augment = build_augmentation(task.type, operations, shape_of(self.data)[:2], normalize)
        loss = pipeline.loss if self.is_pivot else co_task_loss(pipeline.loss, task.type)
        objective, mixing = build_objective(loss, task, self.targets), build_mixing(pipeline.cbs, task.type)
        return LearnedTask(task.name, objective, augment, normalize, mixing)


def start_from(network: Network, config: TrainConfig, source: Source | None, size: tuple[int, int]) -> None:
    """Load weights of the backbone if there are any, freeze it, add adapters, as the recipe asks for."""
    pipeline = config.pipeline
    if source is not None:
        source.load_into(network)
    else:
        load_start(network, pipeline.arch, size)
    network.spread_statistics()
    lora = pipeline.peft.lora
    frozen = isinstance(config, TransferConfig) and config.source.freeze
    if lora or frozen or not pipeline.optimizer.backbone_lr_factor:
        network.freeze_backbone()
    if lora:
        add_lora(network.backbone, lora.r, lora.alpha, lora.dropout, lora.layers)


def keep_unweighted(network: Network, weights: Sequence[float]) -> None:
    """Let heads of tasks that have no weight stay as they are: an optimiser would let them decay."""
    for head, weight in zip(network.heads, weights, strict=True):
        head.requires_grad_(weight > 0)


def build_mixing(callbacks: Callbacks, kind: str) -> Mixing | None:
    """Build what mixes the images of a task type, if anything does: not all targets can be mixed."""
    mixup = callbacks.mixup if kind != "segmentation" else None
    cutmix = callbacks.cutmix if kind in ("classification", "multilabel") else None
    alphas = [part.alpha if part else None for part in (mixup, cutmix)]
    return Mixing(*alphas) if any(alphas) else None


def check_fold(task: Task, fold: int) -> None:
    """Raise `DataError` if a task has no such fold."""
    if fold not in task.folds[task.splits == "train"]:
        raise DataError(f"task {task.name}", Words(f"fold {fold}"), f"a fold from 0 to {task.folds.max()}")


def check_channels(data: Sequence[Data]) -> None:
    """Raise `DataError` unless the images of all tasks have as many channels."""
    pivot = data[0]
    for task, store in data[1:]:
        if store.images.shape[3] != pivot.store.images.shape[3]:
            raise DataError(
                f"task {task.name}",
                Words(f"images of {store.images.shape[3]} channels"),
                f"{pivot.store.images.shape[3]}, as those of {pivot.task.name} have",
            )


def check_limits(trainer: TrainerSection, **batches: int) -> None:
    """Raise `ConfigError` if a share of the batches leaves none."""
    for split, count in batches.items():
        limit = getattr(trainer, f"limit_{split}_batches")
        if isinstance(limit, float) and int(count * limit) < 1:
            raise ConfigError(
                f"trainer.limit_{split}_batches", limit, f"a share that leaves one of {count} batches, or a number"
            )


def limit_batches(batches: int, pipeline: Pipeline) -> int:
    """Return the training batches an epoch after `trainer.limit_train_batches`."""
    limit = pipeline.trainer.limit_train_batches
    if limit is None:
        return batches
    return max(1, int(batches * limit)) if isinstance(limit, float) else min(batches, limit)
