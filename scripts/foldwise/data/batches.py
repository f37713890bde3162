"""Batches: which samples, in which order, gathered whole from the memory map."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from foldwise.config.pipeline import Sampling


class Batches:
    """Iterable of batches, gathered a whole batch at a time without worker processes.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, height, width, channels)
        All tensors of a dataset.
    rows : ndarray of int64, shape (n,)
        Rows of the samples.
    labels : ndarray of int64, shape (n,)
        Class indices.
    plan : BatchPlan
        Which samples make each batch.

    Notes
    -----
    A batch is a pair of images, uint8 of shape (b, channels, height, width) in channels-last memory
    order, and labels, int64 of shape (b,).
    """

    def __init__(self, images: np.ndarray, rows: np.ndarray, labels: np.ndarray, plan: BatchPlan) -> None:
        self.images = images
        self.rows = rows
        self.labels = labels
        self.plan = plan
        self.epoch = 0

    def __len__(self) -> int:
        return self.plan.batches_per_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for places in self.plan.batches(self.epoch):
            pixels = torch.from_numpy(self.images[self.rows[places]])
            yield pixels.permute(0, 3, 1, 2), torch.from_numpy(self.labels[places])


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
    labels : ndarray of int64, shape (n,)
        Class indices of the training samples.
    sampling : Sampling
        Batch size, samples an epoch, balancing.
    seed : int
        Seed of training.
    """

    def __init__(self, labels: np.ndarray, sampling: Sampling, seed: int) -> None:
        self.labels = labels
        self.sampling = sampling
        self.seed = seed
        super().__init__(sampling.sample_num or len(labels), sampling.batch_size, sampling.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, epoch])
        count = self.sampling.sample_num or len(self.labels)
        if self.sampling.balanced:
            return draw_balanced(self.labels, count, generator)
        rounds = -(-count // len(self.labels))
        return np.concatenate([generator.permutation(len(self.labels)) for _ in range(rounds)])[:count]


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
