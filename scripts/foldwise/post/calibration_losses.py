"""What calibration minimises, with derivatives, on standardised logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEAST_SCALE = 1e-6  # by the largest standardised logit: less tells nothing, or the contrary
CONSTANT = 1e-13  # relative to the size of logits: rounding errors of those that are all the same
FAR = 40.0  # logits that are this far below the largest have a probability of 0


class Standardised(NamedTuple):
    """Logits of shape (c, n): median 0 in each class, median absolute value 1 unless they are all the same."""

    values: np.ndarray
    centre: np.ndarray
    spread: float

    @property
    def largest(self) -> float:
        """Largest absolute value."""
        return float(np.abs(self.values).max())

    def start(self, function: AffineLoss | BinaryLoss) -> np.ndarray:
        """Return parameters to begin with: the best of some scales at which not all probabilities are 0 or 1."""
        count = 1 + int(np.log10(max(1.0, self.largest)))
        scales = [np.append(0.1**place, np.zeros(len(self.centre))) for place in range(count)]
        return min(scales, key=lambda parameters: function.evaluate(parameters).value)

    def undo(self, parameters: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the scale and the biases that do to raw logits what parameters do to these.

        Without a positive scale the least one is best, as the loss is convex, with biases that leave means at 0.
        """
        scale, bias, least = parameters[0], parameters[1:], LEAST_SCALE / max(1.0, self.largest)
        if scale < least:
            scale, bias = least, -least * (self.values @ weights)
        return float(scale / self.spread), bias - scale / self.spread * self.centre


def standardise(logits: np.ndarray, across: bool = True) -> Standardised:
    """Standardise logits of shape (c, n), by medians, so that a few of any size do no harm.

    With `across`, what all logits of a sample have in common counts for nothing.
    """
    top = logits.max(axis=0) if across else np.zeros(1)
    values = logits - top
    centre = np.median(values, axis=1)
    values -= centre[:, np.newaxis]
    sizes = np.abs(values)
    spread = float(np.median(sizes) or sizes.mean())
    size = np.median(np.abs(top)) + np.median(np.abs(centre))
    if spread <= CONSTANT * size:
        return Standardised(np.zeros_like(values), centre, float(size) or 1.0)
    return Standardised(values / spread, centre, spread)


class AffinePoint(NamedTuple):
    """Objective of a scale and biases, with them, the probabilities they give and these less the truth, (c, n)."""

    value: float
    parameters: np.ndarray
    proba: np.ndarray
    residual: np.ndarray


class AffineLoss:
    """Weighted log-loss and penalty of a scale and biases, of logits of shape (c, n).

    Logits are taken relative to that of the true class, so that losses and gradients near 0 keep all their digits.
    """

    def __init__(
        self, logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, prior: np.ndarray, strength: float
    ) -> None:
        self.own = targets, np.arange(len(targets))
        self.logits = logits - logits[self.own]
        self.weights, self.prior = weights, prior
        self.ridge = strength * np.append(1.0, prior)
        self.largest = float(np.abs(logits).max())

    def evaluate(self, parameters: np.ndarray) -> AffinePoint:
        """Return the objective."""
        bias = parameters[1:] + np.log(self.prior)
        found = parameters[0] * self.logits
        found += bias[:, np.newaxis]
        found -= bias[self.own[0]]
        top, rest, own = exponentials(found, self.own)
        losses = top + np.log1p(rest + np.expm1(-top))
        found /= rest + own
        residual = found.copy()
        residual[self.own] = -rest / (rest + own)
        found[self.own] = own / (rest + own)
        penalty = self.ridge @ parameters**2 / 2
        return AffinePoint(float(self.weights @ losses + penalty), parameters, found, residual)

    def derivatives(self, point: AffinePoint) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and Hessian."""
        weighted = point.proba * self.weights
        mean = np.einsum("kn,kn->n", point.proba, self.logits)
        gradient = np.append(self.weights @ mean, point.residual @ self.weights) + self.ridge * point.parameters
        apart = self.logits - mean
        slopes = weighted * apart
        shared = weighted @ point.proba.T
        np.fill_diagonal(shared, 0)
        hessian = np.empty((len(gradient), len(gradient)))
        hessian[0, 0] = np.vdot(slopes, apart)
        hessian[0, 1:] = hessian[1:, 0] = slopes.sum(axis=1)
        hessian[1:, 1:] = np.diag(shared.sum(axis=1)) - shared
        return gradient, hessian + np.diag(self.ridge)

    def reach(self, point: AffinePoint, step: np.ndarray) -> float:
        """Return how far a step moves a logit that matters at most."""
        return moved(point.parameters, step, self.largest)


class BinaryPoint(NamedTuple):
    """Objective of a scale and a bias, with them and the probabilities of both answers, shape (n,)."""

    value: float
    parameters: np.ndarray
    proba: np.ndarray
    other: np.ndarray


class BinaryLoss:
    """Weighted log-loss and penalty of a scale and a bias, of logits of shape (n,)."""

    def __init__(
        self, logits: np.ndarray, positive: np.ndarray, negative: np.ndarray, odds: float, strength: float
    ) -> None:
        self.features = np.stack([logits, np.ones_like(logits)])
        self.positive, self.negative = positive, negative
        self.odds, self.strength = odds, strength
        self.largest = float(np.abs(logits).max())

    def evaluate(self, parameters: np.ndarray) -> BinaryPoint:
        """Return the objective."""
        found = parameters @ self.features + self.odds
        losses, others = np.logaddexp(0.0, -found), np.logaddexp(0.0, found)
        penalty = self.strength / 2 * float(parameters @ parameters)
        value = float(self.positive @ losses + self.negative @ others) + penalty
        return BinaryPoint(value, parameters, np.exp(-losses), np.exp(-others))

    def derivatives(self, point: BinaryPoint) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and Hessian."""
        residual = self.negative * point.proba - self.positive * point.other
        curvature = (self.positive + self.negative) * point.proba * point.other
        gradient = self.features @ residual + self.strength * point.parameters
        return gradient, (self.features * curvature) @ self.features.T + self.strength * np.eye(2)

    def reach(self, point: BinaryPoint, step: np.ndarray) -> float:
        """Return how far a step moves a logit that matters at most."""
        return moved(point.parameters, step, self.largest)


def moved(parameters: np.ndarray, step: np.ndarray, largest: float) -> float:
    """Return how far a step of scale and biases moves a logit, other than those of a probability of 0."""
    return float(abs(step[0]) * min(largest, FAR / max(parameters[0], LEAST_SCALE)) + np.abs(step[1:]).max())


def exponentials(logits: np.ndarray, own: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Replace logits of shape (c, n), relative to that of the true class, by their exponentials, and the latter by 0.

    Returns the largest logit of each sample, which is taken out, the sum of the exponentials, and that of the true
    class.
    """
    top = logits.max(axis=0)
    logits -= top
    np.exp(logits, out=logits)
    logits[own] = 0
    return top, logits.sum(axis=0), np.exp(-top)


def weighted_log_loss(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    """Return the log-loss of logits of shape (c, n)."""
    own = targets, np.arange(len(targets))
    top, rest, _ = exponentials(logits - logits[own], own)
    return float(weights @ (top + np.log1p(rest + np.expm1(-top))))


def binary_log_loss(logits: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the log-loss of logits of shape (n,) with the weights of what is positive and what is not."""
    return float(positive @ np.logaddexp(0.0, -logits) + negative @ np.logaddexp(0.0, logits))
