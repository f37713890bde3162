"""Learning rate and batch size found by Lightning's tuner before training; recorded, never silent."""

from __future__ import annotations

import gc
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import numpy as np
from lightning.pytorch.tuner.tuning import Tuner

from foldwise.artifacts import read_json, write_json
from foldwise.config.jobs import TrainConfig
from foldwise.config.optimization import Constant
from foldwise.config.pipeline import Pipeline
from foldwise.data.batches import Batch, Batches, Together
from foldwise.data.files import Data
from foldwise.errors import ConfigError, Words
from foldwise.job import Stopped, StopRequest
from foldwise.training.fit import Run, build_trainer
from foldwise.training.module import FoldModule
from foldwise.training.prepare import Training, prepare
from foldwise.training.state import StateIO
from foldwise.training.transfer import Source

LOWEST, HIGHEST = 1e-7, 1.0  # of the range test
WARMING = 10  # steps of the range test that do not count
SPAN = 20  # steps over which a fall of the loss is measured, so that it is no noise
LARGEST = 65_536  # samples in a batch
TUNED = "tuned.json"


class Tuned(NamedTuple):
    """What was found; None where it was not asked for."""

    lr: float | None = None
    batch_size: int | None = None

    def apply(self, config: TrainConfig) -> TrainConfig:
        """Return a configuration that has what was found."""
        pipeline = config.pipeline
        changes: dict[str, Any] = {}
        if self.lr is not None:
            changes["optimizer"] = pipeline.optimizer.model_copy(update={"lr": self.lr})
        if self.batch_size is not None:
            changes["sampling"] = pipeline.sampling.model_copy(update={"batch_size": self.batch_size})
        return config.model_copy(update={"pipeline": pipeline.model_copy(update=changes)})


class Diverging(FoldModule):
    """A module whose loss may become anything, as it does where a learning rate is too high.

    Parameters
    ----------
    stop : StopRequest
        Tells when the job was asked to end; nothing is saved then.
    **arguments
        Those of `FoldModule`.
    """

    def __init__(self, stop: StopRequest, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.stop = stop

    def on_train_batch_end(self, outputs: Any, batch: tuple[Batch, ...], index: int) -> None:
        """End if the job was asked to."""
        if self.stop.requested:
            raise Stopped

    def check_finite(self) -> None:
        """Accept every loss."""

    def tell_of_divergence(self, what: str, step: int, value: float) -> None:
        """Accept every loss."""


class Rebatched(lightning.LightningDataModule):
    """The data of a training in batches of a size that the tuner changes.

    Parameters
    ----------
    training : Training
        The batches to start from.
    batch_size : int
        The first size.
    """

    def __init__(self, training: Training, batch_size: int) -> None:
        super().__init__()
        self.training = training
        self.batch_size = batch_size

    def train_dataloader(self) -> Together:
        """Return training batches of the present size."""
        if not self.batch_size:
            raise ConfigError("tune.bs", Words("no size that fits"), "memory for a batch of one")
        return Together([task.with_batch_size(self.batch_size) for task in self.training.train.tasks])

    def val_dataloader(self) -> list[Batches]:
        """Return nothing: validation needs less memory than training."""
        return []


def tune(
    config: TrainConfig, data: Sequence[Data], fold: int, run: Run, key: str, source: Source | None = None
) -> Tuned:
    """Find what `tune` asks for: first the batch size, then the learning rate with batches of that size.

    A stopped training with the same `key` goes on with what it had found.
    """
    wanted = config.pipeline.tune
    if not (wanted.lr or wanted.bs):
        return Tuned()
    if (known := recall(run.state, key)) is not None:
        return known
    found = Tuned()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.pytorch")  # that nothing is validated is meant
        if wanted.bs:
            found = found._replace(batch_size=find_batch_size(config, data, fold, run, source))
            run.announce(f"tune.bs found batches of {found.batch_size}")
            gc.collect()  # what the tuner has trained holds memory of the device until then
        if wanted.lr:
            found = found._replace(lr=find_learning_rate(found.apply(config), data, fold, run, source))
            run.announce(f"tune.lr found a learning rate of {found.lr:.3g}")
            gc.collect()
    remember(run.state, key, found)
    return found


def find_batch_size(config: TrainConfig, data: Sequence[Data], fold: int, run: Run, source: Source | None) -> int:
    """Return the greatest size, doubled from that of the recipe, that the device has memory for.

    Raises
    ------
    ConfigError
        If there is no memory for a batch of one.
    """
    training = prepare_tuning(config, data, fold, run, source)
    batches = Rebatched(training, config.pipeline.sampling.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        tuner = Tuner(tuning_trainer(config.pipeline, folder))
        found = tuner.scale_batch_size(
            training.module, datamodule=batches, init_val=batches.batch_size, max_val=LARGEST
        )
    return int(found or batches.batch_size)


def find_learning_rate(config: TrainConfig, data: Sequence[Data], fold: int, run: Run, source: Source | None) -> float:
    """Return the learning rate at which the loss falls most steeply.

    Raises
    ------
    ConfigError
        If it falls nowhere.
    """
    training = prepare_tuning(config, data, fold, run, source)
    with tempfile.TemporaryDirectory() as folder:
        finder = Tuner(tuning_trainer(config.pipeline, folder)).lr_find(
            training.module, training.train, min_lr=LOWEST, max_lr=HIGHEST, update_attr=False
        )
    results = finder.results if finder is not None else {}
    found = steepest(results.get("lr", []), results.get("loss", []))
    if found is None:
        remedy = "Set optimizer.lr, or give the range test more samples."
        raise ConfigError("tune.lr", Words("no suggestion"), "a loss that falls over a range of rates", remedy)
    return found


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate in the middle of the span over which the loss falls most; None if it falls nowhere.

    Lightning's own suggestion looks at slopes from one step to the next over the rates themselves, which are steepest
    at the lowest rates whatever the network.
    """
    pairs = list(zip(rates, losses, strict=False))[WARMING:-1]
    finite = np.array([pair for pair in pairs if np.isfinite(pair[1])])
    if len(finite) <= SPAN:
        return None
    falls = finite[SPAN:, 1] - finite[:-SPAN, 1]
    return float(finite[falls.argmin() + SPAN // 2, 0]) if falls.min() < 0 else None


def prepare_tuning(config: TrainConfig, data: Sequence[Data], fold: int, run: Run, source: Source | None) -> Training:
    """Build a training whose learning rate stays as it is set, as a schedule would end before the tuner does."""
    constant = config.pipeline.model_copy(update={"lr_scheduler": Constant()})
    config = config.model_copy(update={"pipeline": constant})
    return prepare(config, data, fold, run.cache, source, partial(Diverging, stop=run.stop))


def tuning_trainer(pipeline: Pipeline, folder: str) -> lightning.Trainer:
    """Build a trainer for the tuner, which decides when to end and keeps its states in a folder of its own."""
    free = {
        "max_epochs": -1, "min_epochs": None, "max_time": None, "accumulate_grad_batches": 1, "detect_anomaly": False,
    }  # fmt: skip
    recipe = pipeline.model_copy(update={"trainer": pipeline.trainer.model_copy(update=free)})
    return build_trainer(recipe, [], [StateIO("tuning")], resources={"default_root_dir": folder})


def recall(folder: Path | None, key: str) -> Tuned | None:
    """Return what a stopped training had found, if it had the same key."""
    path = folder / TUNED if folder else None
    if path is None or not path.is_file():
        return None
    tree = read_json(path)
    return Tuned(tree["lr"], tree["batch_size"]) if tree.get("key") == key else None


def remember(folder: Path | None, key: str, found: Tuned) -> None:
    """Write what was found beside the state of the training."""
    if folder is not None:
        write_json(folder / TUNED, {"key": key, **found._asdict()})


def forget(folder: Path) -> None:
    """Remove what was found, once the model is there."""
    (folder / TUNED).unlink(missing_ok=True)
