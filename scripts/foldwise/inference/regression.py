"""Metrics of regression tasks, in the units of the targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]


def regression_metrics(names: Sequence[str], logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Compute metrics of a regression task.

    Parameters
    ----------
    names : sequence of str
        Metrics to compute.
    logits : ndarray of float, shape (n, 1)
        Predicted values.
    targets : ndarray of float, shape (n,)
        True values.

    Returns
    -------
    dict of str to float
        In the order of `names`; NaN where a metric is not defined, as correlations with a constant are not.
    """
    values, targets = np.asarray(logits, dtype=np.float64)[:, 0], np.asarray(targets, dtype=np.float64)
    return {name: float(REGRESSION[name](values, targets)) for name in names}


def r2(values: np.ndarray, targets: np.ndarray) -> float:
    """Share of the variance of the targets that is explained."""
    if np.ptp(targets) == 0:
        return float("nan")
    return float(1 - np.sum((targets - values) ** 2) / np.sum((targets - targets.mean()) ** 2))


def spearman(values: np.ndarray, targets: np.ndarray) -> float:
    """Correlation of ranks (Spearman 1904)."""
    return pearson(ranks(values), ranks(targets))


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[places]


def pearson(values: np.ndarray, targets: np.ndarray) -> float:
    """Linear correlation."""
    if np.ptp(values) == 0 or np.ptp(targets) == 0:
        return float("nan")
    left, right = values - values.mean(), targets - targets.mean()
    return float(np.sum(left * right) / np.sqrt(np.sum(left**2) * np.sum(right**2)))


def mse(values: np.ndarray, targets: np.ndarray) -> float:
    """Mean squared error."""
    return float(np.mean((values - targets) ** 2))


def mae(values: np.ndarray, targets: np.ndarray) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(values - targets)))


REGRESSION: dict[str, Metric] = {"r2": r2, "spearman": spearman, "pearson": pearson, "mse": mse, "mae": mae}
