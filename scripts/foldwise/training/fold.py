"""Train one model: one pipeline on one fold of a task."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch

from foldwise.artifacts import FORMAT_VERSION, write_csv, write_json
from foldwise.config.canonical import differences, tensor_folder
from foldwise.config.jobs import TrainConfig
from foldwise.config.pipeline import CLASSIFICATION_METRICS, Pipeline, TrainerSection
from foldwise.data.augment import Augment, Normalize, normalization_statistics
from foldwise.data.batches import Batches, BatchPlan, TrainingPlan
from foldwise.data.preprocess import TensorFiles
from foldwise.data.tensors import TensorStore, open_tensors
from foldwise.errors import ConfigError, DataError, Words
from foldwise.inference.metrics import finite_or_none
from foldwise.models.network import Network, build_network, count_parameters
from foldwise.models.weights import write_weights
from foldwise.tasks.task import Task, TaskFiles, read_task
from foldwise.training.callbacks import KeepWeights, ReportEpochs
from foldwise.training.losses import build_loss
from foldwise.training.module import FoldModule


@dataclass(frozen=True)
class ModelFiles:
    """What training writes; `weights` is None if they are not stored."""

    record: Path
    curves: Path
    weights: Path | None


def train_fold(
    config: TrainConfig,
    pipeline_name: str,
    fold: int,
    task: TaskFiles,
    tensors: TensorFiles,
    files: ModelFiles,
    revision: int = 1,
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train a model that validates on one fold and learns from the others.

    Parameters
    ----------
    config : TrainConfig
        Seed, pipeline and definitions of the data.
    pipeline_name : str
        Name of the pipeline.
    fold : int
        The held-out fold.
    task, tensors : TaskFiles, TensorFiles
        What to read.
    files : ModelFiles
        What to write.
    revision : int
        Revision of the code.
    report : callable
        Receives a line of progress an epoch.

    Returns
    -------
    dict
        The content of ``model.json``.

    Raises
    ------
    MissingData, DataError
        If data is missing, damaged or made for another definition, or a loss is not finite.
    """
    data = read_task(task, config.task)
    check_fold(data, fold)
    store = open_tensors(tensors, config.tensors)
    module, keep = fit(config, data, store, fold, report)
    weights = write_weights(files.weights, keep.weights) if files.weights else None
    columns = list(module.curves[0])
    write_csv(files.curves, columns, ([row[column] for column in columns] for row in module.curves))
    best = module.curves[keep.epoch]
    record = {
        "format_version": FORMAT_VERSION,
        "pipeline": pipeline_name,
        "task": data.name,
        "fold": fold,
        "score": best["val_loss"],
        "epoch": keep.epoch,
        "metrics": finite_or_none({key: best[key] for key in CLASSIFICATION_METRICS}),
        "classes": list(data.classes),
        "parameters": count_parameters(module.network),
        "channels": int(store.images.shape[3]),
        "normalization": {"mean": module.normalize.mean, "std": module.normalize.std},
        "preprocessing": tensor_folder(config.pipeline.preprocessing),
        "seed": config.seed,
        "recipe": config.pipeline.model_dump(mode="json"),
        "definition": differences(config.task),
        "revision": revision,
        "weights": weights,
    }
    write_json(files.record, record)
    return record


def fit(
    config: TrainConfig, task: Task, store: TensorStore, fold: int, report: Callable[[str], None]
) -> tuple[FoldModule, KeepWeights]:
    """Train with Lightning; return the module and the weights to keep."""
    pipeline = config.pipeline
    rows = {split: store.rows_of(task, task.split(split, fold)) for split in ("train", "val")}
    labels = {split: task.labels[task.split(split, fold)] for split in ("train", "val")}
    plan = TrainingPlan(labels["train"], pipeline.sampling, config.seed)
    train = Batches(store.images, rows["train"], labels["train"], plan)
    val = Batches(store.images, rows["val"], labels["val"], BatchPlan(len(rows["val"]), pipeline.sampling.batch_size))
    check_limits(pipeline.trainer, train=len(train), val=len(val))
    torch.manual_seed(config.seed)
    network = build_network(pipeline.arch, store.images.shape[3], [len(task.classes)])
    check_size(network, pipeline.arch.name, store.images.shape[1:])
    normalize = Normalize(*normalization_statistics(pipeline.augmentations, store.channel_statistics(rows["train"])))
    augment = Augment(pipeline.augmentations.operations, store.images.shape[1:3], normalize)
    loss = build_loss(pipeline.loss, labels["train"], task.classes)
    steps = -(-limit_batches(len(train), pipeline) // pipeline.trainer.accumulate_grad_batches)
    module = FoldModule(network, pipeline, loss, augment, normalize, config.seed, steps)
    keep = KeepWeights(pipeline.mode.store_best)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = build_trainer(pipeline, [keep, ReportEpochs(report, pipeline.trainer.max_epochs)])
    trainer.fit(module, train, val)
    return module, keep


def check_fold(task: Task, fold: int) -> None:
    """Raise `DataError` if a task has no such fold."""
    if fold not in task.folds[task.splits == "train"]:
        raise DataError(f"task {task.name}", Words(f"fold {fold}"), f"a fold from 0 to {task.folds.max()}")


def check_limits(trainer: TrainerSection, **batches: int) -> None:
    """Raise `ConfigError` if a share of the batches leaves none."""
    for split, count in batches.items():
        limit = getattr(trainer, f"limit_{split}_batches")
        if isinstance(limit, float) and int(count * limit) < 1:
            raise ConfigError(
                f"trainer.limit_{split}_batches", limit, f"a share that leaves one of {count} batches, or a number"
            )


def check_size(network: Network, arch: str, shape: tuple[int, ...]) -> None:
    """Raise `ConfigError` if images of (height, width, channels) are too small for a network."""
    height, width, channels = shape
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, channels, height, width))
    except RuntimeError as error:
        expected = f"images large enough for {arch}"
        raise ConfigError("preprocessing.size", Words(f"{height} x {width} pixels"), expected, str(error)) from error
    network.train()


def limit_batches(batches: int, pipeline: Pipeline) -> int:
    """Return the training batches an epoch after `trainer.limit_train_batches`."""
    limit = pipeline.trainer.limit_train_batches
    if limit is None:
        return batches
    return max(1, int(batches * limit)) if isinstance(limit, float) else min(batches, limit)


def build_trainer(pipeline: Pipeline, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    """Build Lightning's trainer: deterministic, silent, without files of its own."""
    arguments = pipeline.trainer.model_dump(exclude={"precision"})
    clip = arguments.pop("gradient_clip_algorithm")
    return lightning.Trainer(
        accelerator="auto",
        devices=1,
        precision=resolve_precision(pipeline.trainer.precision),
        callbacks=callbacks,
        logger=False,
        deterministic=True,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        gradient_clip_algorithm=clip if pipeline.trainer.gradient_clip_val else None,
        **arguments,
    )


def resolve_precision(precision: str) -> Any:
    """Return the precision: `auto` is bf16 on a GPU and 32 bit on a CPU, where bf16 is slow."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if torch.cuda.is_available() else "32-true"
