"""Batches: which samples, in which order, gathered whole from the memory map."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from foldwise.config.pipeline import Sampling
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
        self.epoch = 0

    def __len__(self) -> int:
        return self.plan.batches_per_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        batches = map(self.gather, self.plan.batches(self.epoch))
        yield from one_ahead(batches) if getattr(self.images, "decodes", False) else batches

    def gather(self, places: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and targets of a batch, given the places of its samples."""
        pixels = torch.from_numpy(self.images[self.rows[places]])
        return pixels.permute(0, 3, 1, 2), torch.from_numpy(self.targets[places])


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
        self.bounds = batch_bounds(samples, batch_size, drop_last)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return len(self.bounds)

    def order(self, epoch: int) -> np.ndarray:
        """Return the places of the samples in the order of an epoch."""
        return np.arange(self.bounds[-1][1] if self.bounds else 0)

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield the places of the samples of each batch of an epoch."""
        order = self.order(epoch)
        for start, stop in self.bounds:
            yield order[start:stop]


class TrainingPlan(BatchPlan):
    """The order of samples in training: shuffled anew each epoch, a function of seed and epoch.

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

    def order(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, epoch])
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
