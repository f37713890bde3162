"""Metrics of multi-label tasks: every class is a yes-or-no question of its own.

Soft targets count as they are in log-loss, Brier score and calibration error, and as yes from one half on elsewhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import expit

Metric = Callable[[np.ndarray, np.ndarray], float]
BINS = 15


def multilabel_metrics(names: Sequence[str], logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Compute metrics of a multi-label task.

    Parameters
    ----------
    names : sequence of str
        Metrics to compute.
    logits : ndarray of float, shape (n, classes)
        Raw outputs.
    targets : ndarray of shape (n, classes)
        0 or 1, or between them if soft.

    Returns
    -------
    dict of str to float
        In the order of `names`; what is not defined for a class is averaged over the others; NaN if there is none.
    """
    logits, targets = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: float(MULTILABEL[name](logits, targets)) for name in names}


def answers(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted and true answers."""
    return logits >= 0, targets >= 0.5


def exact_match(logits: np.ndarray, targets: np.ndarray) -> float:
    """Share of samples of which all answers are right."""
    predicted, true = answers(logits, targets)
    return float(np.mean((predicted == true).all(axis=1)))


def hamming_accuracy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Share of answers that are right, over all samples and classes."""
    predicted, true = answers(logits, targets)
    return float(np.mean(predicted == true))


def f1(logits: np.ndarray, targets: np.ndarray) -> float:
    """F1 score, averaged over the classes that have positive samples."""
    predicted, true = answers(logits, targets)
    sizes = predicted.sum(axis=0) + true.sum(axis=0)
    return mean_where(true.any(axis=0), lambda k: float(2 * np.sum(predicted[:, k] & true[:, k]) / sizes[k]))


def f1_micro(logits: np.ndarray, targets: np.ndarray) -> float:
    """F1 score of all answers together."""
    predicted, true = answers(logits, targets)
    return float(2 * np.sum(predicted & true) / (np.sum(predicted) + np.sum(true)))


def auroc(logits: np.ndarray, targets: np.ndarray) -> float:
    """Area under the ROC curve, averaged over the classes with positive and negative samples."""
    from sklearn.metrics import roc_auc_score

    return mean_over_classes(roc_auc_score, logits, targets)


def average_precision(logits: np.ndarray, targets: np.ndarray) -> float:
    """Area under the precision-recall curve as a step function, averaged over the same classes."""
    from sklearn.metrics import average_precision_score

    return mean_over_classes(average_precision_score, logits, targets)


def mean_over_classes(score: Metric, logits: np.ndarray, targets: np.ndarray) -> float:
    """Average a binary score over the classes that have both positive and negative samples."""
    true = targets >= 0.5
    return mean_where(true.any(axis=0) & ~true.all(axis=0), lambda k: score(true[:, k], logits[:, k]))


def mean_where(defined: np.ndarray | np.bool, score: Callable[[int], float]) -> float:
    """Average the scores of the classes for which they are defined."""
    return float(np.mean([score(k) for k in np.flatnonzero(defined).tolist()] or [np.nan]))


def log_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Binary cross-entropy in nats, averaged over samples and classes."""
    return float(np.mean(cross_entropies(logits, targets)))


def cross_entropies(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the binary cross-entropy of each answer."""
    return np.logaddexp(0, logits) - targets * logits


def brier(logits: np.ndarray, targets: np.ndarray) -> float:
    """Squared distance of probabilities and targets, averaged over samples and classes (Brier 1950)."""
    return float(np.mean(squared_distances(logits, targets)))


def squared_distances(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the squared distance of probability and target of each answer."""
    return (expit(logits) - targets) ** 2


def calibration_error(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the expected calibration error of the answer yes (Guo et al. 2017, arXiv:1706.04599), class mean."""
    places, gaps = calibration_gaps(logits, targets)
    sums = np.bincount(places.ravel(), weights=gaps.ravel(), minlength=BINS * logits.shape[1])
    return float(np.abs(sums).sum() / logits.size)


def calibration_gaps(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bin of the probability of each answer, bins of a class together, and how far its target lies above."""
    probabilities = expit(logits)
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return bins + BINS * np.arange(logits.shape[1]), targets - probabilities


MULTILABEL: dict[str, Metric] = {
    "exact_match": exact_match,
    "hamming_accuracy": hamming_accuracy,
    "f1": f1,
    "f1_micro": f1_micro,
    "auroc": auroc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
    "calibration_error": calibration_error,
}
