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
from foldwise.config.architectures import Arch
from foldwise.config.canonical import differences, tensor_folder
from foldwise.config.jobs import TrainConfig
from foldwise.config.pipeline import Pipeline, TrainerSection
from foldwise.data.augment import Normalize, build_augmentation, normalization_statistics
from foldwise.data.batches import Batches, BatchPlan, TrainingPlan, targets_of
from foldwise.data.masks import MaskFiles
from foldwise.data.preprocess import TensorFiles
from foldwise.data.tensors import TensorStore, open_tensors
from foldwise.errors import ConfigError, DataError, Words
from foldwise.inference.metrics import finite_or_none
from foldwise.models.network import Network, build_network, count_outputs, count_parameters, side_step
from foldwise.models.weights import write_weights
from foldwise.tasks.task import Task, TaskFiles, read_task
from foldwise.training.callbacks import KeepWeights, ReportEpochs
from foldwise.training.module import FoldModule
from foldwise.training.objective import build_objective


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
    masks: MaskFiles | None = None,
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
    masks : MaskFiles, optional
        Masks of a segmentation task.

    Returns
    -------
    dict
        The content of ``model.json``.

    Raises
    ------
    MissingData, DataError
        If data is missing, damaged or made for another definition, or a loss is not finite.
    ConfigError
        If the pipeline cannot serve the task type or the size of the images.
    """
    data = read_task(task, config.task)
    store = open_tensors(tensors, config.tensors, masks, workers=torch.get_num_threads())
    return train_model(config, pipeline_name, fold, data, store, files, revision, report)


def train_model(
    config: TrainConfig,
    pipeline_name: str,
    fold: int,
    data: Task,
    store: TensorStore,
    files: ModelFiles,
    revision: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Train on data that has been read, and write the model; see `train_fold`."""
    check_fold(data, fold)
    module, keep = fit(config, data, store, fold, report)
    weights = write_weights(files.weights, keep.weights) if files.weights else None
    columns = list(module.curves[0])
    write_csv(files.curves, columns, ([row[column] for column in columns] for row in module.curves))
    best, scale = module.curves[keep.epoch], module.objective.scale
    record = {
        "format_version": FORMAT_VERSION,
        "pipeline": pipeline_name,
        "task": data.name,
        "type": data.type,
        "fold": fold,
        "score": best["val_loss"],
        "epoch": keep.epoch,
        "metrics": finite_or_none({key: best[key] for key in module.objective.metrics}),
        "classes": list(data.classes),
        **({"target": scale._asdict()} if scale else {}),
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
    places = {split: task.split(split, fold) for split in ("train", "val")}
    rows = {split: store.rows_of(task, places[split]) for split in places}
    targets = {split: targets_of(store, task, places[split]) for split in places}
    plan = TrainingPlan(targets["train"], pipeline.sampling, config.seed)
    train = Batches(store.images, rows["train"], targets["train"], plan)
    val = Batches(store.images, rows["val"], targets["val"], BatchPlan(len(rows["val"]), pipeline.sampling.batch_size))
    check_limits(pipeline.trainer, train=len(train), val=len(val))
    torch.manual_seed(config.seed)
    height, width, channels = store.images.shape[1:]
    network = build_network(pipeline.arch, channels, [count_outputs(task.type, task.classes)], [task.type])
    check_size(network, pipeline.arch, (height, width, channels))
    normalize = Normalize(*normalization_statistics(pipeline.augmentations, store.channel_statistics(rows["train"])))
    augment = build_augmentation(task.type, pipeline.augmentations.operations, (height, width), normalize)
    objective = build_objective(pipeline.loss, task, targets["train"])
    steps = -(-limit_batches(len(train), pipeline) // pipeline.trainer.accumulate_grad_batches)
    module = FoldModule(network, pipeline, objective, augment, normalize, config.seed, steps)
    keep = KeepWeights(pipeline.mode.store_best)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = build_trainer(pipeline, [keep, ReportEpochs(report, pipeline.trainer.max_epochs, objective.metrics[0])])
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


def check_size(network: Network, arch: Arch, shape: tuple[int, ...]) -> None:
    """Raise `ConfigError` if a network cannot work on images of (height, width, channels)."""
    height, width, channels = shape
    found, step = Words(f"{height} x {width} pixels"), side_step(arch)
    if height % step or width % step:
        raise ConfigError("preprocessing.size", found, f"a multiple of {step} for {arch.name}")
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, channels, height, width))
    except RuntimeError as error:
        raise ConfigError("preprocessing.size", found, f"images large enough for {arch.name}", str(error)) from error
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
