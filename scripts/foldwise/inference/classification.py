"""Metrics of classification, by scikit-learn wherever it has them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import log_softmax, logsumexp

Metric = Callable[[np.ndarray, np.ndarray], float]
BINS = 15


def classification_metrics(names: Sequence[str], logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Compute metrics of a classification task.

    Parameters
    ----------
    names : sequence of str
        Metrics to compute.
    logits : ndarray of float, shape (n, classes)
        Raw outputs.
    targets : ndarray of int, shape (n,)
        Class indices.

    Returns
    -------
    dict of str to float
        In the order of `names`; a metric that is not defined on these targets (AUROC of a class
        without samples, for instance) averages over the classes for which it is; NaN if there is none.
    """
    log_probabilities = log_softmax(np.asarray(logits, dtype=np.float64), axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: float(CLASSIFICATION[name](log_probabilities, targets)) for name in names}


def accuracy(log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Share of samples whose most probable class is right."""
    return float(np.mean(log_probabilities.argmax(axis=1) == targets))


def balanced_accuracy(log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean recall over the classes that occur (Brodersen et al. 2010, doi:10.1109/ICPR.2010.764)."""
    from sklearn.metrics import balanced_accuracy_score

    return balanced_accuracy_score(targets, log_probabilities.argmax(axis=1))


def f1(log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """F1 score, averaged over the classes that occur."""
    from sklearn.metrics import f1_score

    return f1_score(
        targets, log_probabilities.argmax(axis=1), average="macro", labels=np.unique(targets), zero_division=0
    )


def mcc(log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Matthews correlation coefficient for any number of classes (Gorodkin 2004)."""
    from sklearn.metrics import matthews_corrcoef

    return matthews_corrcoef(targets, log_probabilities.argmax(axis=1))


def auroc(log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Area under the ROC curve, one class against the rest, averaged over classes."""
    from sklearn.metrics import roc_auc_score

    return mean_over_classes(roc_auc_score, log_probabilities, targets)


def average_precision(log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Area under the precision-recall curve as a step function, averaged over classes."""
    from sklearn.metrics import average_precision_score

    return mean_over_classes(average_precision_score, log_probabilities, targets)


def mean_over_classes(score: Metric, log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Average a binary score over the classes that have both positive and negative samples.

    Samples are ranked by log-odds, which rank like the probabilities and do not saturate at one.
    """
    classes = range(log_probabilities.shape[1])
    defined = [k for k in classes if 0 < np.sum(targets == k) < len(targets)]
    return float(np.mean([score(targets == k, log_odds(log_probabilities, k)) for k in defined] or [np.nan]))


def log_odds(log_probabilities: np.ndarray, k: int) -> np.ndarray:
    """Return the logarithm of the odds of class k against the rest."""
    return log_probabilities[:, k] - logsumexp(np.delete(log_probabilities, k, axis=1), axis=1)


def log_loss(log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean negative log-probability of the right class, in nats."""
    return float(np.mean(log_losses(log_probabilities, targets)))


def log_losses(log_probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the negative log-probability of the right class of each sample."""
    return -log_probabilities[np.arange(len(targets)), targets]


def brier(log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean squared distance of probabilities and one-hot targets, from 0 to 2 (Brier 1950)."""
    return float(np.mean(squared_distances(log_probabilities, targets)))


def squared_distances(log_probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the squared distance of probabilities and the one-hot target of each sample."""
    probabilities = np.exp(log_probabilities)
    probabilities[np.arange(len(targets)), targets] -= 1
    return np.sum(probabilities**2, axis=1)


def calibration_error(log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the expected calibration error of the top class (Guo et al. 2017, arXiv:1706.04599)."""
    places, gaps = calibration_gaps(log_probabilities, targets)
    return float(np.abs(np.bincount(places, weights=gaps, minlength=BINS)).sum() / len(targets))


def calibration_gaps(log_probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bin of the confidence in the top class of each sample, and by how much it is right beyond that."""
    confidence = np.exp(log_probabilities.max(axis=1))
    correct = log_probabilities.argmax(axis=1) == targets
    return np.minimum((confidence * BINS).astype(int), BINS - 1), correct - confidence


CLASSIFICATION: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "auroc": auroc,
    "average_precision": average_precision,
    "mcc": mcc,
    "log_loss": log_loss,
    "brier": brier,
    "calibration_error": calibration_error,
}
