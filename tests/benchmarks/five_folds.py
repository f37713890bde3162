"""CPU seconds of five folds of the digits, ten epochs each, against a bare loop that trains the same five folds.

Run by hand, with nothing else running: ``python tests/benchmarks/five_folds.py``. The default configuration with the
preset `small`: images of 32 pixels. Both sides run in one process with one thread, fold by fold in turns, after a short
training of each, so that nothing is imported while time is taken. The engine reads its files, checks them, validates
with all metrics, saves its state after every epoch and writes its model, as a job does; the bare loop validates with
loss and accuracy and keeps the best weights in memory. Nothing passes or fails here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import bare
import numpy as np
import torch
from digits import configure, make_data
from side_by_side import print_table, spread

from foldwise.config.jobs import TrainConfig, train_config
from foldwise.data.files import DataFiles, open_data
from foldwise.training.fold import ModelFiles, finish, train_fold

FOLDS = 5
COLUMNS = ["", "folds", "Foldwise CPU s", "bare CPU s", "Foldwise accuracy", "bare accuracy", "ratio of CPU s"]


class Sides(NamedTuple):
    """The configuration of a case and its data, on disk for the engine and in memory for the bare loop."""

    config: TrainConfig
    files: DataFiles
    images: np.ndarray
    folder: Path


class Cost(NamedTuple):
    """CPU seconds of a fold, and the accuracy of its best epoch."""

    seconds: float
    accuracy: float


def main() -> None:
    """Train with and without augmentation and print a table."""
    options = parse_options()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="lightning")
    with tempfile.TemporaryDirectory() as folder:
        files = make_data(Path(folder), configure())
        images = np.load(files.tensors.images)
        rows = []
        for name in ("default", "none"):
            config = configure(augmentations=name, trainer={"max_epochs": options.epochs})
            training = train_config(config, config.pipelines["default"], "digits")
            sides = Sides(training, files, images, Path(folder))
            rows.append(compare(f"augmentations: {name}", sides, options.rounds))
    title = f"Five folds of digits, {options.epochs} epochs, start-up excluded; target: at most 1.2"
    print_table(title, COLUMNS, rows)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="times that all folds are trained (default: 1)")
    parser.add_argument("--epochs", type=int, default=10, help="epochs (default: 10)")
    return parser.parse_args()


def compare(name: str, sides: Sides, rounds: int) -> list[str]:
    """Train all folds with engine and bare loop in turns; return a row of the table."""
    short = sides.config.pipeline.trainer.model_copy(update={"max_epochs": 1})
    pipeline = sides.config.pipeline.model_copy(update={"trainer": short})
    warm_up = sides._replace(config=sides.config.model_copy(update={"pipeline": pipeline}))
    for train in (train_engine, train_bare):
        measure(train, warm_up, 0)
    totals, accuracies = [], []
    for _ in range(rounds):
        pairs = [(measure(train_engine, sides, fold), measure(train_bare, sides, fold)) for fold in range(FOLDS)]
        totals.append(tuple(sum(cost.seconds for cost in side) for side in zip(*pairs, strict=True)))
        accuracies += [tuple(cost.accuracy for cost in pair) for pair in pairs]
        print(name, *(f"{ours.seconds / theirs.seconds:.2f}" for ours, theirs in pairs), file=sys.stderr, flush=True)
    means = [f"{np.mean(side):.4f}" for side in zip(*accuracies, strict=True)]
    seconds = [f"{median(side):.1f}" for side in zip(*totals, strict=True)]
    ratio = spread([ours / theirs for ours, theirs in totals])
    return [name, f"{rounds} x {FOLDS}", *seconds, *means, ratio]


def measure(train: Callable[[Sides, int], float], sides: Sides, fold: int) -> Cost:
    """Train a fold; return CPU seconds of the process and the accuracy."""
    bare.forget_switches()
    started = time.process_time()
    accuracy = train(sides, fold)
    return Cost(time.process_time() - started, accuracy)


def train_engine(sides: Sides, fold: int) -> float:
    """Train a fold as a job does; return its accuracy."""
    record = sides.folder / f"results/models/default/digits/fold-{fold}/model.json"
    files = ModelFiles.of(record, str(record.with_name("model.safetensors")))
    trained = train_fold(sides.config, "default", fold, [sides.files], files, 1)
    finish(files)
    shutil.rmtree(record.parent)
    return float(trained.record["metrics"]["accuracy"])


def train_bare(sides: Sides, fold: int) -> float:
    """Train the same fold in a bare loop; return its accuracy."""
    config = sides.config
    task, store = open_data(sides.files, config.task, config.tensors, 1)
    rows = {split: store.rows_of(task, task.split(split, fold)) for split in ("train", "val")}
    labels = np.full(len(sides.images), -1)
    labels[store.rows_of(task, np.arange(len(task.targets)))] = task.targets
    data = bare.BareTask(sides.images, labels, rows["train"], rows["val"], len(task.classes))
    _, accuracy = bare.train(config.pipeline, config.seed, [data])
    return accuracy


if __name__ == "__main__":
    main()
