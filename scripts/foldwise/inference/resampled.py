"""Metrics of many resamples at once, from how often each resample holds each sample.

A class a task type. Its methods are named as the metrics, which are those of `foldwise.inference.metrics`; they take
weights of shape (n, b), see `foldwise.inference.weighted`, and return b values, NaN where a metric is not defined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

from foldwise.inference import classification, multilabel
from foldwise.inference.segmentation import count_pixels
from foldwise.inference.weighted import (
    Ranking,
    correlation,
    has_spread,
    mean,
    mean_defined,
    ranks,
    ratio,
    sum_groups,
    sum_values,
)


class Counts(NamedTuple):
    """Weights by class and resample, of shape (classes, b): of samples that are right, of true and predicted ones."""

    right: np.ndarray
    true: np.ndarray
    predicted: np.ndarray

    def f1(self) -> np.ndarray:
        """Return the F1 score of each class."""
        return ratio(2 * self.right, self.true + self.predicted)


class Classification:
    """Metrics of classification.

    Parameters
    ----------
    logits : ndarray of float, shape (n, classes)
        Raw outputs.
    targets : ndarray of int, shape (n,)
        Class indices.
    """

    def __init__(self, logits: np.ndarray, targets: np.ndarray) -> None:
        self.log_probabilities = log_softmax(np.asarray(logits, dtype=np.float64), axis=1)
        self.targets = np.asarray(targets)
        self.predicted = self.log_probabilities.argmax(axis=1)
        self.samples = np.arange(len(self.targets))

    @cached_property
    def rankings(self) -> list[Ranking]:
        """How the log-odds of each class rank its samples, where it has some and others too."""
        present = [self.targets == k for k in range(self.log_probabilities.shape[1])]
        odds = classification.log_odds
        return [Ranking(odds(self.log_probabilities, k), true) for k, true in enumerate(present) if both(true)]

    def counts(self, weights: np.ndarray) -> Counts:
        """Return the sizes of classes in each resample."""
        classes, right = self.log_probabilities.shape[1], self.predicted == self.targets
        return Counts(
            sum_groups(self.targets[right], classes, self.samples[right], weights),
            sum_groups(self.targets, classes, self.samples, weights),
            sum_groups(self.predicted, classes, self.samples, weights),
        )

    def accuracy(self, weights: np.ndarray) -> np.ndarray:
        """Share of samples that are right."""
        return mean((self.predicted == self.targets).astype(np.float64), weights)

    def balanced_accuracy(self, weights: np.ndarray) -> np.ndarray:
        """Mean recall over the classes that occur."""
        counts = self.counts(weights)
        return mean_defined(ratio(counts.right, counts.true))

    def f1(self, weights: np.ndarray) -> np.ndarray:
        """F1 score, averaged over the classes that occur."""
        counts = self.counts(weights)
        return mean_defined(np.where(counts.true > 0, counts.f1(), np.nan))

    def mcc(self, weights: np.ndarray) -> np.ndarray:
        """Matthews correlation coefficient; 0 where only one class is true or predicted."""
        counts, total = self.counts(weights), weights.sum(axis=0)
        shared = counts.right.sum(axis=0) * total - (counts.true * counts.predicted).sum(axis=0)
        true, predicted = (total**2 - (sizes**2).sum(axis=0) for sizes in (counts.true, counts.predicted))
        return np.nan_to_num(ratio(shared, np.sqrt(true * predicted)))

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """Area under the ROC curve, averaged over the classes for which it is defined."""
        return mean_over(self.rankings, Ranking.auroc, weights)

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Average precision, averaged over the same classes."""
        return mean_over(self.rankings, Ranking.average_precision, weights)

    def log_loss(self, weights: np.ndarray) -> np.ndarray:
        """Mean negative log-probability of the right class."""
        return mean(classification.log_losses(self.log_probabilities, self.targets), weights)

    def brier(self, weights: np.ndarray) -> np.ndarray:
        """Mean squared distance of probabilities and one-hot targets."""
        return mean(classification.squared_distances(self.log_probabilities, self.targets), weights)

    def calibration_error(self, weights: np.ndarray) -> np.ndarray:
        """Return the expected calibration error of the top class."""
        places, gaps = classification.calibration_gaps(self.log_probabilities, self.targets)
        sums = sum_values(gaps, places, classification.BINS, self.samples, weights)
        return np.abs(sums).sum(axis=0) / weights.sum(axis=0)


class Multilabel:
    """Metrics of multi-label tasks; the parameters are those of `multilabel_metrics`."""

    def __init__(self, logits: np.ndarray, targets: np.ndarray) -> None:
        self.logits, self.targets = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
        self.predicted, self.true = multilabel.answers(self.logits, self.targets)

    @cached_property
    def rankings(self) -> list[Ranking]:
        """How the logits of each class rank samples, where some have it and some have not."""
        return [Ranking(scores, true) for scores, true in zip(self.logits.T, self.true.T, strict=True) if both(true)]

    def counts(self, weights: np.ndarray) -> Counts:
        """Return the number of answers yes by class in each resample."""
        answers = (self.predicted & self.true, self.true, self.predicted)
        return Counts(*(answer.T.astype(np.float64) @ weights for answer in answers))

    def exact_match(self, weights: np.ndarray) -> np.ndarray:
        """Share of samples of which all answers are right."""
        return mean((self.predicted == self.true).all(axis=1).astype(np.float64), weights)

    def hamming_accuracy(self, weights: np.ndarray) -> np.ndarray:
        """Share of answers that are right."""
        return mean((self.predicted == self.true).mean(axis=1), weights)

    def f1(self, weights: np.ndarray) -> np.ndarray:
        """F1 score, averaged over the classes that have positive samples."""
        counts = self.counts(weights)
        return mean_defined(np.where(counts.true > 0, counts.f1(), np.nan))

    def f1_micro(self, weights: np.ndarray) -> np.ndarray:
        """F1 score of all answers together."""
        return Counts(*(sizes.sum(axis=0) for sizes in self.counts(weights))).f1()

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """Area under the ROC curve, averaged over the classes for which it is defined."""
        return mean_over(self.rankings, Ranking.auroc, weights)

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Average precision, averaged over the same classes."""
        return mean_over(self.rankings, Ranking.average_precision, weights)

    def log_loss(self, weights: np.ndarray) -> np.ndarray:
        """Binary cross-entropy, averaged over samples and classes."""
        return mean(multilabel.cross_entropies(self.logits, self.targets).mean(axis=1), weights)

    def brier(self, weights: np.ndarray) -> np.ndarray:
        """Squared distance of probabilities and targets, averaged over samples and classes."""
        return mean(multilabel.squared_distances(self.logits, self.targets).mean(axis=1), weights)

    def calibration_error(self, weights: np.ndarray) -> np.ndarray:
        """Return the expected calibration error of the answer yes, class mean."""
        places, gaps = multilabel.calibration_gaps(self.logits, self.targets)
        samples, classes = self.logits.shape
        owners = np.repeat(np.arange(samples), classes)
        sums = sum_values(gaps.ravel(), places.ravel(), multilabel.BINS * classes, owners, weights)
        return np.abs(sums).sum(axis=0) / (classes * weights.sum(axis=0))


class Regression:
    """Metrics of regression tasks; the parameters are those of `regression_metrics`."""

    def __init__(self, logits: np.ndarray, targets: np.ndarray) -> None:
        self.values, self.targets = np.asarray(logits, dtype=np.float64)[:, 0], np.asarray(targets, dtype=np.float64)

    def r2(self, weights: np.ndarray) -> np.ndarray:
        """Share of the variance of the targets that is explained."""
        column = self.targets[:, np.newaxis]
        variance = ((column - mean(self.targets, weights)) ** 2 * weights).sum(axis=0)
        explained = 1 - ratio((self.targets - self.values) ** 2 @ weights, variance)
        return np.where(has_spread(self.targets, weights), explained, np.nan)

    def spearman(self, weights: np.ndarray) -> np.ndarray:
        """Correlation of ranks."""
        values, targets = (np.unique(numbers, return_inverse=True)[1] for numbers in (self.values, self.targets))
        return correlation(ranks(values, weights), ranks(targets, weights), weights)

    def pearson(self, weights: np.ndarray) -> np.ndarray:
        """Linear correlation."""
        found = correlation(self.values[:, np.newaxis], self.targets[:, np.newaxis], weights)
        spread = has_spread(self.values, weights) & has_spread(self.targets, weights)
        return np.where(spread, found, np.nan)

    def mse(self, weights: np.ndarray) -> np.ndarray:
        """Mean squared error."""
        return mean((self.values - self.targets) ** 2, weights)

    def mae(self, weights: np.ndarray) -> np.ndarray:
        """Mean absolute error."""
        return mean(np.abs(self.values - self.targets), weights)


class Segmentation:
    """Metrics of segmentation tasks, from the pixels of each sample; the parameters are those of `count_pixels`."""

    def __init__(self, logits: np.ndarray, targets: np.ndarray) -> None:
        self.pixels = count_pixels(logits, targets)

    def counts(self, weights: np.ndarray) -> Counts:
        """Return the number of pixels by class in each resample."""
        return Counts(*(pixels.T @ weights for pixels in self.pixels))

    def dice(self, weights: np.ndarray) -> np.ndarray:
        """Dice coefficient, averaged over the classes that occur in masks or predictions."""
        return mean_defined(self.counts(weights).f1())

    def iou(self, weights: np.ndarray) -> np.ndarray:
        """Intersection over union, averaged over the same classes."""
        counts = self.counts(weights)
        return mean_defined(ratio(counts.right, counts.true + counts.predicted - counts.right))

    def pixel_accuracy(self, weights: np.ndarray) -> np.ndarray:
        """Share of pixels whose class is right."""
        counts = self.counts(weights)
        return ratio(counts.right.sum(axis=0), counts.true.sum(axis=0))


def both(true: np.ndarray) -> bool:
    """Tell whether some are true and some are not."""
    return bool(true.any() and not true.all())


def mean_over(
    rankings: list[Ranking], area: Callable[[Ranking, np.ndarray], np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """Average the area under a curve over the classes for which it is defined in a resample; NaN if there is none."""
    return mean_defined(np.array([area(ranking, weights) for ranking in rankings] or [weights[0] * np.nan]))


RESAMPLED: dict[str, type[Classification | Multilabel | Regression | Segmentation]] = {
    "classification": Classification,
    "multilabel": Multilabel,
    "regression": Regression,
    "segmentation": Segmentation,
}


def whole_metrics(kind: str, names: Sequence[str], logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Compute metrics of a task type from all samples, each taken once.

    Up to rounding they are those of `foldwise.inference.metrics.compute_metrics`, whose parameters these are, without
    the second that importing scikit-learn takes and several times as fast on some thousand samples.
    """
    found, once = RESAMPLED[kind](logits, targets), np.ones((len(targets), 1))
    return {name: float(getattr(found, name)(once)[0]) for name in names}
