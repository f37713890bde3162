"""Metrics of segmentation tasks, from counts of pixels that are added up in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from foldwise.npz import row_chunks
from foldwise.tasks.masks import IGNORED


class Confusion:
    """Counts of pixels by true and predicted class, over any number of masks.

    Parameters
    ----------
    classes : int
        Number of classes.

    Attributes
    ----------
    counts : ndarray of int64, shape (classes, classes)
        A row a true class, a column a predicted one.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts = np.zeros((classes, classes), dtype=np.int64)

    def add(self, predicted: np.ndarray, targets: np.ndarray) -> None:
        """Count pixels of class indices of the same shape; those that `targets` ignores are left out."""
        known = targets != IGNORED
        pairs = targets[known].astype(np.int64) * self.classes + predicted[known]
        self.counts += np.bincount(pairs, minlength=self.classes**2).reshape(self.counts.shape)

    def metrics(self, names: Sequence[str]) -> dict[str, float]:
        """Return metrics of the pixels so far, in the order of `names`; NaN if there are none."""
        with np.errstate(invalid="ignore"):
            return {name: float(SEGMENTATION[name](self.counts)) for name in names}


def segmentation_metrics(names: Sequence[str], logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Compute metrics of a segmentation task over the pixels of all samples together.

    Parameters
    ----------
    names : sequence of str
        Metrics to compute.
    logits : ndarray of float, shape (n, classes, height, width)
        Raw outputs; may be a memory map, of which a few samples are read at a time.
    targets : ndarray of uint8, shape (n, height, width)
        Class indices, 255 where pixels are ignored.
    """
    confusion = Confusion(logits.shape[1])
    for chunk in row_chunks(logits):
        confusion.add(logits[chunk].astype(np.float32).argmax(axis=1), np.asarray(targets[chunk]))
    return confusion.metrics(names)


def count_pixels(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the pixels of each sample by class: those that are right, by true and by predicted class.

    Parameters
    ----------
    logits, targets : ndarray
        As `segmentation_metrics` takes them.

    Returns
    -------
    tuple of ndarray of float64, shape (n, classes)
    """
    samples, classes = logits.shape[:2]
    counts = np.zeros((3, samples, classes))
    for chunk in row_chunks(logits):
        predicted, true = logits[chunk].astype(np.float32).argmax(axis=1), np.asarray(targets[chunk])
        first = classes * np.arange(len(true))[:, np.newaxis, np.newaxis]
        known = true != IGNORED
        right = known & (predicted == true)
        for found, part, where in zip(counts, (true, true, predicted), (right, known, known), strict=True):
            places = (part + first)[where]
            found[chunk] = np.bincount(places, minlength=classes * len(true)).reshape(-1, classes)
    return counts[0], counts[1], counts[2]


def dice(counts: np.ndarray) -> float:
    """Dice coefficient (Dice 1945), averaged over the classes that occur in masks or predictions."""
    both = counts.sum(axis=0) + counts.sum(axis=1)
    return mean_of_ratios(2 * np.diag(counts), both)


def iou(counts: np.ndarray) -> float:
    """Intersection over union (Jaccard 1912), averaged over the classes that occur in masks or predictions."""
    shared = np.diag(counts)
    return mean_of_ratios(shared, counts.sum(axis=0) + counts.sum(axis=1) - shared)


def mean_of_ratios(shared: np.ndarray, sizes: np.ndarray) -> float:
    """Average the ratios of the classes that have a size."""
    return float(np.mean(shared[sizes > 0] / sizes[sizes > 0])) if sizes.any() else float("nan")


def pixel_accuracy(counts: np.ndarray) -> float:
    """Share of pixels whose class is right."""
    return float(np.trace(counts) / counts.sum())


SEGMENTATION: dict[str, Callable[[np.ndarray], float]] = {"dice": dice, "iou": iou, "pixel_accuracy": pixel_accuracy}
