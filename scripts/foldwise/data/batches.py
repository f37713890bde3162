"""Batches: which samples, in which order, gathered whole from the memory map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from foldwise.config.pipeline import Sampling
from foldwise.data.cache import gather
from foldwise.data.tensors import TensorStore
from foldwise.tasks.task import Task

Item = TypeVar("Item")


@dataclass(frozen=True)
class Masks:
    """Masks of samples by place, as other targets are found.

    Parameters
    ----------
    masks : indexable by rows
        Gives class indices, uint8 of shape (b, height, width), 255 where pixels are ignored.
    rows : ndarray of int64, shape (n,)
        Rows of the samples.
    """

    masks: Any
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return self.masks[self.rows[places]]


Targets = np.ndarray | Masks
Batch = tuple[torch.Tensor, torch.Tensor]


def targets_of(store: TensorStore, task: Task, places: np.ndarray) -> Targets:
    """Return what is learned of some samples of a task."""
    if task.type == "segmentation":
        return Masks(store.mask_targets(task.classes), store.rows_of(task, places))
    return task.targets[places]


class Batches:
    """Iterable of batches, gathered a whole batch at a time without worker processes.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, height, width, channels)
        All tensors of a dataset, or what is indexed like them. If it has an attribute `decodes` that is true, the next
        batch is decoded in a thread while the one before is used.
    rows : ndarray of int64, shape (n,)
        Rows of the samples.
    targets : ndarray of shape (n, ...), or Masks
        What is learned of each sample.
    plan : BatchPlan
        Which samples make each batch.

    Notes
    -----
    A batch is a pair of images, uint8 of shape (b, channels, height, width) in channels-last memory
    order, and targets, of shape (b, ...).
    """

    def __init__(self, images: Any, rows: np.ndarray, targets: Targets, plan: BatchPlan) -> None:
        self.images = images
        self.rows = rows
        self.targets = targets
        self.plan = plan

    def __len__(self) -> int:
        return self.plan.batches_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        return self.run(0, 0, len(self))

    def run(self, epoch: int, start: int, stop: int, share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield the batches of an epoch from one place to another; a place after its end begins a further round.

        `share` is the place of a process among several, and their number: each has its part of every batch.
        """
        batches = map(self.gather, (part_of(places, *share) for places in self.plan.run(epoch, start, stop)))
        return one_ahead(batches) if getattr(self.images, "decodes", False) else batches

    def with_batch_size(self, size: int) -> Batches:
        """Return the same samples in batches of another size."""
        return Batches(self.images, self.rows, self.targets, self.plan.with_batch_size(size))

    def gather(self, places: np.ndarray) -> Batch:
        """Return images and targets of a batch, given the places of its samples."""
        return gather(self.images, self.rows[places]), torch.from_numpy(self.targets[places])


class Together:
    """Batches of all tasks in each step; shorter tasks begin anew until the longest is through.

    Parameters
    ----------
    tasks : sequence of Batches
        The pivot's first.

    Notes
    -----
    A step is a tuple of batches, one a task.
    """

    def __init__(self, tasks: Sequence[Batches]) -> None:
        self.tasks = tasks
        self.epoch = 0
        self.first = 0
        self.share = (0, 1)

    def __len__(self) -> int:
        return max(map(len, self.tasks))

    @property
    def dataset(self) -> np.ndarray:
        """The rows of the task with the most samples: what bounds the size of batches."""
        return max((task.rows for task in self.tasks), key=len)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def set_share(self, rank: int, world: int) -> None:
        """Let every batch be shared out among processes."""
        self.share = (rank, world)

    def start_at(self, step: int) -> None:
        """Let the next iteration, and that alone, begin with a later step, as a resumed training does."""
        self.first = step

    def __iter__(self) -> Iterator[tuple[Batch, ...]]:
        first, self.first = self.first, 0
        runs = (task.run(self.epoch, first, len(self), self.share) for task in self.tasks)
        yield from zip(*runs, strict=True)


def part_of(places: np.ndarray, rank: int, world: int) -> np.ndarray:
    """Return every `world`-th place from `rank` on; the first places make up for those that are missing."""
    if world == 1:
        return places
    missing = -len(places) % world
    return np.concatenate([places, np.resize(places, missing)])[rank::world]


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield items in order while the next is made in a thread, which ends with the iteration."""
    nothing = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, nothing)
        while (item := coming.result()) is not nothing:
            coming = pool.submit(next, items, nothing)
            yield item  # type: ignore[misc]


class BatchPlan:
    """The order of samples: in place for evaluation."""

    def __init__(self, samples: int, batch_size: int, drop_last: bool = False) -> None:
        self.samples = samples
        self.bounds = batch_bounds(samples, batch_size, drop_last)

    def with_batch_size(self, size: int) -> BatchPlan:
        """Return the same samples in batches of another size."""
        return BatchPlan(self.samples, size)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return len(self.bounds)

    def order(self, epoch: int, round_: int = 0) -> np.ndarray:
        """Return the places of the samples in the order of a round through them in an epoch."""
        return np.arange(self.bounds[-1][1] if self.bounds else 0)

    def run(self, epoch: int, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the places of the samples of batches `start` to `stop` of an epoch, in as many rounds as it takes."""
        for round_ in range(start // max(1, len(self.bounds)), -(-stop // max(1, len(self.bounds)))):
            order, begin = self.order(epoch, round_), round_ * len(self.bounds)
            for first, last in self.bounds[max(0, start - begin) : stop - begin]:
                yield order[first:last]

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield the places of the samples of each batch of an epoch."""
        return self.run(epoch, 0, len(self.bounds))


class TrainingPlan(BatchPlan):
    """The order of samples in training: shuffled anew each round, a function of seed, epoch and round.

    Parameters
    ----------
    targets : ndarray of shape (n, ...), or Masks
        What is learned of the training samples; balanced sampling needs class indices.
    sampling : Sampling
        Batch size, samples an epoch, balancing.
    seed : int
        Seed of training.
    """

    def __init__(self, targets: Targets, sampling: Sampling, seed: int) -> None:
        self.targets = targets
        self.sampling = sampling
        self.seed = seed
        super().__init__(sampling.sample_num or len(targets), sampling.batch_size, sampling.drop_last)

    def with_batch_size(self, size: int) -> TrainingPlan:
        return TrainingPlan(self.targets, self.sampling.model_copy(update={"batch_size": size}), self.seed)

    def order(self, epoch: int, round_: int = 0) -> np.ndarray:
        generator = np.random.default_rng([self.seed, epoch, round_] if round_ else [self.seed, epoch])
        samples = len(self.targets)
        count = self.sampling.sample_num or samples
        if self.sampling.balanced:
            return draw_balanced(np.asarray(self.targets), count, generator)
        rounds = -(-count // samples)
        return np.concatenate([generator.permutation(samples) for _ in range(rounds)])[:count]


def draw_balanced(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draw places with replacement so that all classes are equally likely."""
    frequencies = np.bincount(labels)
    weights = 1.0 / frequencies[labels]
    return generator.choice(len(labels), size=count, replace=True, p=weights / weights.sum())


def batch_bounds(samples: int, batch_size: int, drop_last: bool) -> list[tuple[int, int]]:
    """Return start and stop of each batch; a last batch of one joins the one before it.

    Batch normalisation has no variance to work with in a batch of one.
    """
    starts = range(0, samples, batch_size)
    bounds = [(start, min(start + batch_size, samples)) for start in starts]
    if len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] < batch_size and drop_last:
        return bounds[:-1]
    if len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] == 1:
        return [*bounds[:-2], (bounds[-2][0], samples)]
    return bounds
