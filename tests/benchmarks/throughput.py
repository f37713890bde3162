"""Images a CPU-second of training and of prediction, against bare PyTorch loops in the same process.

Run by hand, with nothing else running: ``python tests/benchmarks/throughput.py``. Both sides use the same tensors,
networks and batch sizes, and one thread. Of training the first epoch is left out; validation after each of the others
and, on the engine's side, all metrics and the saved state are in. The bare loop validates with loss and accuracy and
keeps the best weights. With two tasks both sides learn a batch of each in every step. Prediction writes its file.
Runs alternate after one of each; medians are shown, the ratio is the median over pairs of neighbouring runs. Nothing
passes or fails here.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import bare
import numpy as np
import torch
from digits import configure, make_data
from side_by_side import print_table, spread
from torch.optim.optimizer import register_optimizer_step_post_hook

from foldwise.config.definition import TaskRecord
from foldwise.config.jobs import CoTask, TrainConfig, train_config
from foldwise.data.augment import IMAGENET_MEAN, IMAGENET_STD, Normalize
from foldwise.data.files import Data, open_data
from foldwise.data.rows import StoredRows, read_npy_header
from foldwise.data.tensors import TensorStore
from foldwise.inference.predict import write_logits
from foldwise.tasks.task import Task
from foldwise.training.fit import Run
from foldwise.training.fold import ModelFiles, finish, train_model

CLASSES = tuple("0123456789")
FOLDS = 5
HELD_OUT = 0
SIDE = 224
KINDS = {
    "": ("none", False),
    "default augmentation": ("default", False),
    "two tasks": ("none", True),
    "two tasks, default augmentation": ("default", True),
}
COLUMNS = ["", "runs", "Foldwise CPU s", "bare CPU s", "Foldwise images/s", "bare images/s", "ratio of images/s"]


@dataclass(frozen=True)
class Case:
    """Something to train, and to predict with.

    Parameters
    ----------
    name : str
        What the table calls it.
    config : TrainConfig
        Of one epoch more than is measured.
    data : list of Data
        Of the pivot and of a task beside it, if there is one.
    images : ndarray of uint8
        The tensors of all of them, in memory.
    folder : Path
        Where the engine writes.
    """

    name: str
    config: TrainConfig
    data: list[Data]
    images: np.ndarray
    folder: Path

    @property
    def bare(self) -> list[bare.BareTask]:
        """The same for the bare loop."""
        return [bare_task(one, self.images) for one in self.data]


@dataclass(frozen=True)
class Cost:
    """CPU seconds of both sides, a pair of neighbouring runs each."""

    engine: list[float]
    bare: list[float]

    def row(self, name: str, images: int) -> list[str]:
        """Return a row of the table for so many images a run."""
        ours, theirs = median(self.engine), median(self.bare)
        ratio = spread([their / our for our, their in zip(self.engine, self.bare, strict=True)])
        print(f"{name}: {ratio}", file=sys.stderr, flush=True)
        figures = [f"{ours:.2f}", f"{theirs:.2f}", f"{images / ours:.0f}", f"{images / theirs:.0f}"]
        return [name, f"2 x {len(self.engine)}", *figures, ratio]


def main() -> None:
    """Measure all cases and print two tables."""
    options = parse_options()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="lightning")
    with tempfile.TemporaryDirectory() as folder:
        small, large = small_cases(Path(folder), options.epochs), large_cases(Path(folder), options)
        training = [measure_training(case, options.pairs) for case in small]
        training += [measure_training(case, options.large_pairs) for case in large]
        prediction = [
            measure_prediction(small[0], options.pairs, 5),
            measure_prediction(large[0], options.large_pairs, 1),
        ]
    print_table("Training; target: at least 0.9, with augmentation 0.8", COLUMNS, training)
    print_table("Prediction; target: at least 0.9", COLUMNS, prediction)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of runs (default: 7)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs measured in a run, after a first (default: 4)")
    parser.add_argument("--large-pairs", type=int, default=2, help=f"the same for {SIDE} pixels (default: 2)")
    parser.add_argument("--large-epochs", type=int, default=1, help=f"the same for {SIDE} pixels (default: 1)")
    parser.add_argument("--large-images", type=int, default=320, help=f"images of {SIDE} pixels (default: 320)")
    return parser.parse_args()


def small_cases(folder: Path, epochs: int) -> list[Case]:
    """Build the cases of the digits, 32 pixels."""
    files = make_data(folder, configure())
    record = training_config(epochs, "none", False, arch="small")
    data = open_data(files, record.task, record.tensors, 1)
    images = np.load(files.tensors.images)
    return build_cases("digits, 32 px, small", data, images, folder, partial(training_config, epochs, arch="small"))


def large_cases(folder: Path, options: argparse.Namespace) -> list[Case]:
    """Build the cases of random images, whose brightness tells the class."""
    generator = np.random.default_rng(0)
    labels = np.arange(options.large_images) % len(CLASSES)
    shape = (options.large_images, SIDE, SIDE, 3)
    images = generator.integers(0, 128, shape, dtype=np.uint8) + (12 * labels).astype(np.uint8).reshape(-1, 1, 1, 1)
    path = folder / "images.npy"
    np.save(path, images)
    found, _, start = read_npy_header(path)
    names = np.array([f"{place:05d}" for place in range(len(images))])
    folds = np.arange(len(images)) // len(CLASSES) % FOLDS
    train = np.full(len(images), "train")
    task = Task("digits", "classification", "digits", CLASSES, names, names, train, labels, folds)
    rows = {name: row for row, name in enumerate(names.tolist())}
    data = Data(task, TensorStore(StoredRows(path, found, start), np.zeros((len(images), 2, 3)), rows))
    configured = partial(training_config, options.large_epochs, arch={"name": "resnet18"})
    return build_cases(f"random, {SIDE} px, resnet18", data, images, folder, configured)


def build_cases(
    name: str, data: Data, images: np.ndarray, folder: Path, configured: Callable[[str, bool], TrainConfig]
) -> list[Case]:
    """Build a case of each kind."""
    other = Data(second_task(data.task), data.store)
    return [
        Case(
            ", ".join(filter(None, [name, kind])),
            configured(*settings),
            [data, other][: 1 + settings[1]],
            images,
            folder,
        )
        for kind, settings in KINDS.items()
    ]


def training_config(epochs: int, augmentations: str, is_double: bool, arch: Any) -> TrainConfig:
    """Return what decides training, with one epoch more than is measured."""
    config = configure(arch=arch, augmentations=augmentations, trainer={"max_epochs": epochs + 1})
    training = train_config(config, config.pipelines["default"], "digits")
    other = CoTask(name="parity", task=TaskRecord(dataset="digits"), tensors=training.tensors)
    return training.model_copy(update={"co_tasks": [other] if is_double else []})


def second_task(task: Task) -> Task:
    """Return a task on the same images: is the class an odd one?"""
    targets = np.where(task.targets < 0, task.targets, task.targets % 2)
    return replace(task, name="parity", classes=("even", "odd"), targets=targets)


def bare_task(data: Data, images: np.ndarray) -> bare.BareTask:
    """Return a task by the rows of its images, as the bare loop takes it."""
    task, store = data
    labels = np.full(len(images), -1)
    labels[store.rows_of(task, np.arange(len(task.targets)))] = task.targets
    rows = {split: store.rows_of(task, task.split(split, HELD_OUT)) for split in ("train", "val")}
    return bare.BareTask(images, labels, rows["train"], rows["val"], len(task.classes))


def measure_training(case: Case, pairs: int) -> list[str]:
    """Train in turns; return a row of the table."""
    recipe, tasks = case.config.pipeline, case.bare
    images = len(tasks[0].train)
    steps = -(-images // recipe.sampling.batch_size)
    engine = partial(time_epochs, partial(train_engine, case), steps)
    loop = partial(time_epochs, partial(bare.train, recipe, case.config.seed, tasks), steps)
    total = images * len(tasks) * (recipe.trainer.max_epochs - 1)
    return in_turns(engine, loop, pairs).row(case.name, total)


def train_engine(case: Case) -> None:
    """Train as a job does, with its saved states, and write the model."""
    record = case.folder / "results/models/default/digits/fold-0/model.json"
    files = ModelFiles.of(record, str(record.with_name("model.safetensors")))
    train_model(case.config, "default", HELD_OUT, case.data, files, 1, Run(), "key")
    finish(files)


def time_epochs(train: Callable[[], Any], steps: int) -> float:
    """Return CPU seconds from the last optimiser step of the first epoch to the last of all.

    One validation and one saved state lie between two epochs, so that there are as many of them as epochs in that time.
    """
    stamps: list[float] = []
    hook = register_optimizer_step_post_hook(lambda *_: stamps.append(time.process_time()))
    try:
        train()
    finally:
        hook.remove()
    return stamps[-1] - stamps[steps - 1]


def measure_prediction(case: Case, pairs: int, repeats: int) -> list[str]:
    """Predict all images in turns, several times a run; return a row of the table."""
    config, (task, store) = case.config, case.data[0]
    network = bare.new_network(config.pipeline, config.seed, case.bare).eval()
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    everything = replace(task, splits=np.full(len(task.targets), "unlabeled"), folds=np.full(len(task.targets), -1))
    recipe = config.pipeline.model_dump(mode="json")
    model = {"task": task.name, "type": task.type, "classes": task.classes, "fold": HELD_OUT, "recipe": recipe}
    rows, size = store.rows_of(task, np.arange(len(task.targets))), config.pipeline.sampling.batch_size

    def engine() -> None:
        write_logits(model, network, normalize, everything, store, case.folder / "logits.npz", lambda text: None)

    def loop() -> None:
        logits = bare.predict(network, case.bare[0], rows, size)
        np.savez(case.folder / "bare.npz", logits=logits, targets=everything.targets, ids=everything.sample_ids)

    cost = in_turns(partial(time_runs, engine, repeats), partial(time_runs, loop, repeats), pairs)
    return cost.row(case.name, len(rows) * repeats)


def time_runs(predict: Callable[[], None], repeats: int) -> float:
    """Return the CPU seconds of some predictions."""
    started = time.process_time()
    for _ in range(repeats):
        predict()
    return time.process_time() - started


def in_turns(engine: Callable[[], float], loop: Callable[[], float], pairs: int) -> Cost:
    """Run engine and bare loop in turns, after one of each to warm up."""
    seconds = [(measure(engine), measure(loop)) for _ in range(pairs + 1)][1:]
    ours, theirs = zip(*seconds, strict=True)
    return Cost(list(ours), list(theirs))


def measure(run: Callable[[], float]) -> float:
    """Measure a run that owes nothing to the one before."""
    bare.forget_switches()
    return run()


if __name__ == "__main__":
    main()
