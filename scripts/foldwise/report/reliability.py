"""What pictures show of logits: how sure decisions are beside how often they are right, and what is taken for what.

Logits come in parts, with the targets of each, so that they need not be in memory all at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.special import expit, log_softmax

from foldwise.inference import classification, multilabel
from foldwise.inference.classification import BINS

QUANTILE = 1.959964  # of the normal distribution, for intervals of 95 %
Parts = Iterable[tuple[np.ndarray, np.ndarray]]


class Wording(NamedTuple):
    """What is on the axes, and whether one decision tells nothing about the next."""

    confidence: str
    share: str
    counted: str
    independent: bool


WORDS = {
    "classification": Wording("Confidence in the predicted class", "Share that is right", "Samples", True),
    "multilabel": Wording("Probability of yes", "Share of yes", "Answers", False),
}


class Reliability(NamedTuple):
    """Decisions in bins of confidence.

    Parameters
    ----------
    counts, confidences, shares : ndarray of float, shape (15,)
        Decisions in each bin, their mean confidence, and the share of them that is right; 0 where there are none.
    error : float
        Expected calibration error, as the metric of that name has it.
    words : Wording
        What this is called.
    """

    counts: np.ndarray
    confidences: np.ndarray
    shares: np.ndarray
    error: float
    words: Wording

    def intervals(self) -> np.ndarray:
        """Return bounds of the shares, of 95 % (Wilson 1927), shape (2, 15)."""
        counts, square = np.maximum(self.counts, 1), QUANTILE**2
        centres = (self.shares + square / (2 * counts)) / (1 + square / counts)
        widths = QUANTILE * np.sqrt(self.shares * (1 - self.shares) / counts + square / (4 * counts**2))
        return np.clip(centres + np.array([[-1], [1]]) * widths / (1 + square / counts), 0, 1)


def measure_reliability(kind: str, parts: Parts) -> Reliability:
    """Sort decisions by their confidence.

    Parameters
    ----------
    kind : str
        Task type. Of a classification the most probable class counts; of a multi-label task each answer does, by the
        probability of yes, the error that of each class, averaged.
    parts : iterable of pairs of ndarray
        Logits and targets; all samples have a label.
    """
    sums = np.zeros((3, 1, BINS))
    for logits, targets in parts:
        places, confidences, gaps = decisions(kind, logits.astype(np.float64), targets)
        size = BINS * (logits.shape[1] if kind == "multilabel" else 1)
        found = [np.bincount(places, weights, size) for weights in (np.ones(len(places)), confidences, gaps)]
        sums = sums + np.reshape(found, (3, -1, BINS))
    error = float(np.abs(sums[2]).sum() / sums[0].sum())
    counts, sure, beyond = sums.sum(axis=1)
    filled = np.maximum(counts, 1)
    return Reliability(counts, sure / filled, np.clip((sure + beyond) / filled, 0, 1), error, WORDS[kind])


def decisions(kind: str, logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return bin and confidence of each decision, and by how much it is right beyond that."""
    if kind == "multilabel":
        bins, gaps = multilabel.calibration_gaps(logits, targets.astype(np.float64))
        return bins.ravel(), expit(logits).ravel(), gaps.ravel()
    log_probabilities = log_softmax(logits, axis=1)
    places, gaps = classification.calibration_gaps(log_probabilities, targets)
    return places, np.exp(log_probabilities.max(axis=1)), gaps


def count_confusion(parts: Parts, classes: int) -> np.ndarray:
    """Count samples by true class, a row each, and predicted class."""
    counts = np.zeros(classes * classes, np.int64)
    for logits, targets in parts:
        counts += np.bincount(targets * classes + logits.argmax(axis=1), minlength=classes * classes)
    return counts.reshape(classes, classes)
