"""One training, run by Lightning: callbacks, saved states, the trainer."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from foldwise.config.callbacks import Callbacks
from foldwise.config.jobs import TrainConfig
from foldwise.config.pipeline import Pipeline, TrainerSection
from foldwise.data.batches import Together
from foldwise.data.files import Data
from foldwise.errors import ConfigError
from foldwise.job import Job, StopRequest
from foldwise.training.averaging import MovingAverage, StochasticAverage
from foldwise.training.callbacks import DeviceStats, KeepWeights, Patience, ReportEpochs, WatchEpochs, Watcher
from foldwise.training.module import FoldModule
from foldwise.training.prepare import prepare
from foldwise.training.saving import SaveState, has_ended
from foldwise.training.state import StateIO, position, read_state
from foldwise.training.transfer import Source

RESOURCES = ("accelerator", "devices", "num_nodes", "strategy")


@dataclass(frozen=True)
class Run:
    """How a job runs: nothing of it changes what it makes.

    Parameters
    ----------
    report : callable
        Receives a line of progress an epoch.
    announce : callable
        Receives what happens once: where a stopped training goes on, what tuning has found.
    cache : str
        Where tensors are; see `Sampling.cache`.
    state : Path or None
        Folder of the state that a stopped training goes on from.
    minutes : float
        Minutes between two saved states within an epoch.
    stop : StopRequest
        Tells when the job was asked to end.
    tensorboard : Path or None
        Folder of curves for TensorBoard.
    resources : mapping
        Resources of `lightning.Trainer` that the job was given: accelerator, devices, num_nodes, strategy.
    watch : callable, optional
        Receives every epoch that was validated, in order, and the row of the curves of the epoch that is kept so far.
        What it raises ends the training. Epochs before a resumed training come just before the first one after.
    """

    report: Callable[[str], None] = lambda text: None
    announce: Callable[[str], None] = lambda text: None
    cache: str = "auto"
    state: Path | None = None
    minutes: float = 10.0
    stop: StopRequest = field(default_factory=StopRequest)
    tensorboard: Path | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    watch: Watcher | None = None

    @classmethod
    def of(cls, job: Job, record: Path, cache: str, minutes: float, resources: Mapping[str, Any]) -> Run:
        """Return how a job trains that writes the record of a model below ``models`` of a project."""
        tensorboard = record.parents[4].joinpath("tensorboard", *record.parent.parts[-3:])
        given = {key: resources[key] for key in RESOURCES if key in resources}
        return cls(job.report, job.announce, cache, minutes=minutes, tensorboard=tensorboard, resources=given)


@dataclass(frozen=True)
class Fitted:
    """What a training has made: module with its curves, the weights that are kept, use of memory by epoch."""

    module: FoldModule
    keep: KeepWeights
    device_stats: list[dict[str, float]] | None

    @property
    def kept(self) -> dict[str, float]:
        """The row of the curves of the epoch that is kept."""
        return next(row for row in self.module.curves if row["epoch"] == self.keep.epoch)


def fit(
    config: TrainConfig, data: Sequence[Data], fold: int, run: Run, key: str = "", source: Source | None = None
) -> Fitted:
    """Train with Lightning, from the state that a stopped training with the same `key` has left if there is one."""
    training = prepare(config, data, fold, run.cache, source)
    pipeline, module = config.pipeline, training.module
    keep = KeepWeights(pipeline.mode.store_best)
    stats = DeviceStats() if pipeline.cbs.device_stats else None
    report = ReportEpochs(run.report, pipeline.trainer.max_epochs, module.pivot.objective.metrics[0])
    watched = WatchEpochs(run.watch, pipeline.mode.store_best) if run.watch else None
    callbacks = [keep, report, *filter(None, (watched, stats)), *build_callbacks(pipeline.cbs)]
    plugins: list[Any] = [LightningEnvironment()]  # not that of Slurm, which would requeue jobs and look for states
    if run.state is not None:
        callbacks.append(SaveState(run.state, run.minutes, run.stop))
        plugins.append(StateIO(key))
    known = go_on(training.train, run, key)
    if not known:
        remove_curves(run.tensorboard)
    if module.network.frozen:
        warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")  # as they are meant to be
    trainer = build_trainer(pipeline, callbacks, plugins, run.tensorboard, run.resources)
    trainer.fit(module, training.train, training.val, ckpt_path=run.state if known else None)
    if not trainer.is_global_zero:  # a further process of several devices: the first one writes what was made
        raise SystemExit
    if watched:
        watched.tell(module.curves)  # of a training that had ended
    check_validated(keep, pipeline.trainer)
    return Fitted(module, keep, stats.rows if stats else None)


def go_on(train: Together, run: Run, key: str) -> bool:
    """Let batches begin where a stopped training with the same key ended; return whether there was one."""
    state = read_state(run.state, key) if run.state is not None else None
    if state is None:
        return False
    epoch, step = position(state)
    train.set_epoch(epoch)
    train.start_at(step)
    if has_ended(state):
        run.announce(f"was trained before: {epoch} epochs; only results are left to be written")
    else:
        run.announce(f"goes on from epoch {epoch + 1}, step {step + 1}")
    return True


def build_callbacks(callbacks: Callbacks) -> list[lightning.Callback]:
    """Build callbacks of the recipe; averages of weights come last, as they swap weights while others look."""
    built: list[lightning.Callback] = []
    if stopping := callbacks.early_stopping:
        built.append(
            Patience(
                stopping.monitor, stopping.min_delta, stopping.patience, mode=stopping.direction, check_finite=False
            )
        )
    if callbacks.ema:
        built.append(MovingAverage(callbacks.ema.decay))
    if callbacks.swa:
        built.append(StochasticAverage(callbacks.swa.start))
    return built


def check_validated(keep: KeepWeights, trainer: TrainerSection) -> None:
    """Raise `ConfigError` if no epoch was validated: none can be kept."""
    if not keep.weights:
        raise ConfigError("trainer.max_time", trainer.max_time, "time enough for the first validation")


def build_trainer(
    pipeline: Pipeline,
    callbacks: list[lightning.Callback],
    plugins: Sequence[Any] = (),
    tensorboard: Path | None = None,
    resources: Mapping[str, Any] | None = None,
) -> lightning.Trainer:
    """Build Lightning's trainer: deterministic, silent, without files but the state and curves that are asked for."""
    arguments = pipeline.trainer.model_dump(exclude={"precision", "compile"})
    clip = arguments.pop("gradient_clip_algorithm")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # That new memory be filled is for code that reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return lightning.Trainer(
        precision=resolve_precision(pipeline.trainer.precision),
        callbacks=callbacks,
        plugins=list(plugins),
        logger=build_logger(tensorboard) if pipeline.cbs.tensorboard and tensorboard else False,
        deterministic=True,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        gradient_clip_algorithm=clip if pipeline.trainer.gradient_clip_val else None,
        **{"accelerator": "auto", "devices": 1, **(resources or {})},
        **arguments,
    )


def remove_curves(folder: Path | None) -> None:
    """Remove curves for TensorBoard of an earlier training, which would be drawn beside those of the one to come."""
    for path in folder.glob("events.out.tfevents.*") if folder else ():
        path.unlink(missing_ok=True)


def build_logger(folder: Path) -> Any:
    """Build the logger of TensorBoard; raise `ConfigError` if that is not installed."""
    if not importlib.util.find_spec("tensorboard"):
        remedy = "Or install the extra: pip install 'foldwise[tensorboard]'."
        raise ConfigError("cbs.tensorboard", True, "false, as tensorboard is not installed", remedy)
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="", version="")


def resolve_precision(precision: str) -> Any:
    """Return the precision: `auto` is bf16 on a GPU and 32 bit on a CPU, where bf16 is slow."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if torch.cuda.is_available() else "32-true"
