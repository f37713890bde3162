"""Images a CPU-second of training and of prediction, against a bare PyTorch loop in the same process.

Run by hand, with nothing else running: ``python tests/benchmarks/throughput.py``. Both sides use the same tensors,
network and batch size, and one thread. Runs alternate; medians are shown, the ratio is the median over pairs of
neighbouring runs. Nothing passes or fails here.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import kornia.augmentation
import numpy as np
import torch
from PIL import Image
from side_by_side import print_table, spread
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from foldwise.config.jobs import TrainConfig, train_config
from foldwise.config.load import Library, load_config
from foldwise.data.augment import IMAGENET_MEAN, IMAGENET_STD, Normalize
from foldwise.data.files import Data
from foldwise.data.tensors import TensorStore
from foldwise.inference.predict import predict
from foldwise.models.network import Network, build_network
from foldwise.tasks.task import Task
from foldwise.training.fit import Run, fit

ROOT = Path(__file__).resolve().parents[2]
CLASSES = tuple("0123456789")
FOLDS = 5
HELD_OUT = 0
SYNTHETIC_IMAGES = 320
DIGITS_SIZE, SYNTHETIC_SIZE = 32, 64

Step = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Case:
    """Something to train and to predict with."""

    name: str
    config: TrainConfig
    task: Task
    store: TensorStore

    @property
    def batch_size(self) -> int:
        """Samples in a batch."""
        return self.config.pipeline.sampling.batch_size

    @property
    def train_places(self) -> np.ndarray:
        """Samples that are learned from."""
        return self.task.split("train", HELD_OUT)

    def network(self) -> Network:
        """Return the network before training."""
        torch.manual_seed(self.config.seed)
        return build_network(self.config.pipeline.arch, self.store.images.shape[3], [len(CLASSES)])

    def batches(self, places: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield batches of images, uint8 in channels-last order, and class indices, as a bare loop gathers them."""
        for start in range(0, len(places), self.batch_size):
            chosen = places[start : start + self.batch_size]
            pixels = torch.from_numpy(self.store.images[chosen]).permute(0, 3, 1, 2)
            yield pixels, torch.from_numpy(self.task.targets[chosen])


def main() -> None:
    """Measure all cases and print two tables."""
    options = parse_options()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="lightning")
    with tempfile.TemporaryDirectory() as folder:
        cases = build_cases(Path(folder), options.epochs)
        training = [measure_training(case, options) for case in cases]
        prediction = [measure_prediction(case, options) for case in (cases[0], cases[2])]
    columns = ["", "runs", "Foldwise CPU s", "bare CPU s", "Foldwise images/s", "bare images/s", "ratio of images/s"]
    print_table("Training, first epoch left out, validation included; target: at least 0.85", columns, training)
    print_table("Prediction; target: at least 0.85", columns, prediction)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs (default: 5)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs measured in a run, after a first (default: 4)")
    return parser.parse_args()


def build_cases(folder: Path, epochs: int) -> list[Case]:
    """Build the three cases."""
    digits = digits_data(folder)
    synthetic = synthetic_data(folder)
    small = f"digits, {DIGITS_SIZE} px, small"
    return [
        Case(f"{small}, no augmentation", configure("small", "none", epochs), *digits),
        Case(f"{small}, default augmentation", configure("small", "default", epochs), *digits),
        Case(
            f"synthetic, {SYNTHETIC_SIZE} px, resnet18, no augmentation",
            configure({"name": "resnet18"}, "none", epochs),
            *synthetic,
        ),
    ]


def configure(arch: Any, augmentations: str, epochs: int) -> TrainConfig:
    """Return what decides training, with one epoch more than is measured."""
    tree = {"arch": arch, "augmentations": augmentations, "trainer": {"max_epochs": epochs + 1}}
    config = load_config(tree, Library.read(ROOT / "config"))
    return train_config(config, config.pipelines["default"], "digits")


def digits_data(folder: Path) -> tuple[Task, TensorStore]:
    """Return scikit-learn's digits, enlarged."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = [Image.fromarray((image * 15.9).astype(np.uint8)).convert("RGB") for image in digits.images]
    side = (DIGITS_SIZE, DIGITS_SIZE)
    images = np.stack([np.asarray(picture.resize(side, Image.Resampling.BILINEAR)) for picture in pictures])
    return store_data(folder / "digits.npy", images, digits.target)


def synthetic_data(folder: Path) -> tuple[Task, TensorStore]:
    """Return random images: their brightness tells the class."""
    generator = np.random.default_rng(0)
    labels = np.arange(SYNTHETIC_IMAGES) % len(CLASSES)
    images = generator.integers(0, 128, (SYNTHETIC_IMAGES, SYNTHETIC_SIZE, SYNTHETIC_SIZE, 3)) + 12 * labels.reshape(
        -1, 1, 1, 1
    )
    return store_data(folder / "synthetic.npy", images.astype(np.uint8), labels)


def store_data(path: Path, images: np.ndarray, labels: np.ndarray) -> tuple[Task, TensorStore]:
    """Store images as a memory map and make a task of them, row k in fold k modulo 5."""
    np.save(path, images)
    mapped = np.load(path, mmap_mode="r")
    names = np.array([f"{place:05d}" for place in range(len(images))])
    pixels = images.astype(np.float64)
    sums = np.stack([pixels.sum(axis=(1, 2)), (pixels**2).sum(axis=(1, 2))], axis=1)
    task = Task(
        name="digits",
        type="classification",
        dataset="digits",
        classes=CLASSES,
        sample_ids=names,
        images=names,
        splits=np.full(len(names), "train"),
        targets=labels.astype(np.int64),
        folds=np.arange(len(names)) % FOLDS,
    )
    return task, TensorStore(mapped, sums, {name: row for row, name in enumerate(names.tolist())})


def measure_training(case: Case, options: argparse.Namespace) -> list[str]:
    """Train in turns; return a row of the table."""
    images = len(case.train_places)
    steps = -(-images // case.batch_size)

    def engine() -> float:
        return time_epochs(lambda: fit(case.config, [Data(case.task, case.store)], HELD_OUT, Run()), steps)

    def bare() -> float:
        return time_epochs(lambda: train_bare(case), steps)

    return compare(case.name, engine, bare, options.pairs, images * options.epochs)


def time_epochs(train: Callable[[], Any], steps: int) -> float:
    """Return CPU seconds from the last optimiser step of the first epoch to the last of all.

    One validation lies between two epochs, so that there are as many of them as epochs in that time.
    """
    stamps: list[float] = []
    hook = register_optimizer_step_post_hook(lambda *_: stamps.append(time.process_time()))
    try:
        train()
    finally:
        hook.remove()
    return stamps[-1] - stamps[steps - 1]


def measure_prediction(case: Case, options: argparse.Namespace) -> list[str]:
    """Predict in turns; return a row of the table."""
    network, places = case.network().eval(), np.arange(len(case.task.targets))
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)

    def engine() -> float:
        started = time.process_time()
        for _ in range(options.epochs):
            predict(network, normalize, case.store, case.task, places, case.batch_size)
        return time.process_time() - started

    def bare() -> float:
        started = time.process_time()
        for _ in range(options.epochs):
            predict_bare(case, network, places)
        return time.process_time() - started

    return compare(case.name, engine, bare, options.pairs, len(places) * options.epochs)


def compare(name: str, engine: Callable[[], float], bare: Callable[[], float], pairs: int, images: int) -> list[str]:
    """Run engine and bare loop in turns, after one of each to warm up; return a row of the table."""
    seconds = [(measure(engine), measure(bare)) for _ in range(pairs + 1)][1:]
    ours, theirs = (median(column) for column in zip(*seconds, strict=True))
    ratio = spread([bare_run / engine_run for engine_run, bare_run in seconds])
    figures = [f"{ours:.2f}", f"{theirs:.2f}", f"{images / ours:.0f}", f"{images / theirs:.0f}"]
    print(f"{name}: {ratio}", file=sys.stderr, flush=True)
    return [name, f"2 x {pairs}", *figures, ratio]


def measure(run: Callable[[], float]) -> float:
    """Measure a run that owes nothing to the one before: no garbage, no global switches of it."""
    gc.collect()
    torch.use_deterministic_algorithms(False)
    return run()


def train_bare(case: Case) -> None:
    """Train with AdamW and validate with accuracy alone."""
    network, pipeline = case.network(), case.config.pipeline
    prepare, normalize = bare_augmentation(case), bare_normalization(255)
    settings = pipeline.optimizer
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    generator = np.random.default_rng(case.config.seed)
    for _ in range(pipeline.trainer.max_epochs):
        network.train()
        for pixels, labels in case.batches(generator.permutation(case.train_places)):
            loss = nn.functional.cross_entropy(network(prepare(pixels)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        validate_bare(case, network.eval(), normalize)


@torch.inference_mode()
def validate_bare(case: Case, network: Network, normalize: Step) -> float:
    """Return the accuracy on the held-out fold."""
    places = case.task.split("val", HELD_OUT)
    right = [(network(normalize(pixels)).argmax(dim=1) == labels).sum() for pixels, labels in case.batches(places)]
    return int(torch.stack(right).sum()) / len(places)


def bare_normalization(white: float) -> Step:
    """Return the step from pixels between 0 and `white` to the network's input."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    shift, scale = -mean / std, 1 / (white * std)
    return lambda pixels: torch.addcmul(shift, pixels.float(), scale)


def bare_augmentation(case: Case) -> Step:
    """Return the same for uint8 pixels, with kornia's operations before it if the pipeline has any."""
    operations = case.config.pipeline.augmentations.operations
    if not operations:
        return bare_normalization(255)
    normalize = bare_normalization(1)
    chain = nn.Sequential(*(getattr(kornia.augmentation, one.name)(**tuples(one.arguments)) for one in operations))

    def prepare(pixels: torch.Tensor) -> torch.Tensor:
        images = chain(pixels.float().div_(255))
        return normalize(images.contiguous(memory_format=torch.channels_last))

    return prepare


def tuples(arguments: dict[str, Any]) -> dict[str, Any]:
    """Turn lists into tuples, as kornia expects them."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}


@torch.inference_mode()
def predict_bare(case: Case, network: Network, places: np.ndarray) -> np.ndarray:
    """Return logits of samples."""
    normalize = bare_normalization(255)
    return torch.cat([network(normalize(pixels)) for pixels, _ in case.batches(places)]).numpy()


if __name__ == "__main__":
    main()
