"""Sums and ranks of many resamples at once, from how often each of them holds each sample.

Weights have shape (n, b): how often each of b resamples holds each of n samples. Nothing is copied: sums by group are
products of a sparse matrix and the weights, and what needs ranks is sorted once for all resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix


def sum_groups(groups: np.ndarray, count: int, samples: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Add up weights by group.

    Parameters
    ----------
    groups : ndarray of int, shape (m,)
        Group of each item.
    count : int
        Number of groups.
    samples : ndarray of int, shape (m,)
        The sample whose weight each item has.
    weights : ndarray of float, shape (n, b)
        How often each resample holds each sample.

    Returns
    -------
    ndarray of float, shape (count, b)
    """
    return sum_values(np.ones(len(groups)), groups, count, samples, weights)


def sum_values(
    values: np.ndarray, groups: np.ndarray, count: int, samples: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Add up weighted values of shape (m,) by group; see `sum_groups`."""
    matrix: Any = csr_matrix((values, (groups, samples)), shape=(count, len(weights)))
    return matrix @ weights


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of values of shape (n,) in each resample."""
    return values @ weights / weights.sum(axis=0)


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Average values of shape (classes, b) over the classes for which they are defined; NaN if there is none."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0.0).sum(axis=0) / defined.sum(axis=0)


def ratio(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Divide; NaN where the divisor is 0."""
    return np.divide(upper, lower, out=np.full(np.broadcast(upper, lower).shape, np.nan), where=lower != 0)


def has_spread(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Tell for each resample whether the values of shape (n,) that it holds differ."""
    held, column = weights > 0, values[:, np.newaxis]
    return np.where(held, column, np.inf).min(axis=0) < np.where(held, column, -np.inf).max(axis=0)


class Ranking:
    """How a score ranks samples that are positive against those that are not.

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
        The higher, the likelier positive.
    positive : ndarray of bool, shape (n,)
        Which samples are.

    Notes
    -----
    Levels are the distinct scores of positive samples. Each other sample lies above a number of levels, and at or above
    a number of them that is greater by one if it ties with one; sums of weights by these numbers tell all that both
    curves need.
    """

    def __init__(self, scores: np.ndarray, positive: np.ndarray) -> None:
        self.levels, self.level = np.unique(scores[positive], return_inverse=True)
        self.positive, self.negative = np.flatnonzero(positive), np.flatnonzero(~positive)
        self.above = np.searchsorted(self.levels, scores[self.negative], side="left")
        self.reached = np.searchsorted(self.levels, scores[self.negative], side="right")

    def positives(self, weights: np.ndarray) -> np.ndarray:
        """Return the positive weight at each level."""
        return sum_groups(self.level, len(self.levels), self.positive, weights)

    def negatives(self, numbers: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the negative weight at each number of levels, from none to all."""
        return sum_groups(numbers, len(self.levels) + 1, self.negative, weights)

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """Return the area under the ROC curve, ties counted half; NaN without positives or negatives."""
        from_top = sum_from_top(self.positives(weights))
        reached = self.negatives(self.reached, weights)
        tied = bool((self.above != self.reached).any())
        above = self.negatives(self.above, weights) if tied else reached
        won = ((reached + above) / 2 * from_top).sum(axis=0)
        return ratio(won, from_top[0] * reached.sum(axis=0))

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Return the area under the precision-recall curve as a step function; NaN without positives or negatives."""
        positives = self.positives(weights)
        true = sum_from_top(positives)
        false = sum_from_top(self.negatives(self.reached, weights))
        precision = ratio(true[:-1], true[:-1] + false[1:-1])
        found = np.where(positives > 0, positives * precision, 0.0).sum(axis=0)
        return np.where(false[0] > 0, ratio(found, true[0]), np.nan)


def sum_from_top(values: np.ndarray) -> np.ndarray:
    """Return for each row the sum of it and all that follow, and a last row of zeros."""
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values[::-1], axis=0, out=sums[:-1][::-1])
    return sums


def ranks(groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the rank of each sample within each resample; equal values share the mean of theirs.

    Parameters
    ----------
    groups : ndarray of int, shape (n,)
        Place of each sample's value among the distinct values in order.
    weights : ndarray of float, shape (n, b)
        How often each resample holds each sample.
    """
    sizes = sum_groups(groups, int(groups.max()) + 1, np.arange(len(groups)), weights)
    return (sizes.cumsum(axis=0) - (sizes - 1) / 2)[groups]


def correlation(left: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the linear correlation of two arrays, of shape (n, 1) or (n, b), in each resample; NaN if undefined."""
    total = weights.sum(axis=0)
    left, right = (side - (side * weights).sum(axis=0) / total for side in (left, right))
    shared = (left * right * weights).sum(axis=0)
    return ratio(shared, np.sqrt((left**2 * weights).sum(axis=0) * (right**2 * weights).sum(axis=0)))
