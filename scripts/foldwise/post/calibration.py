"""Affine calibration of logits, so that they give probabilities that hold under a prior of one's choice.

Calibrated are logits `a * z + b + log p`: one scale `a > 0` and a bias `b` a class, chosen on held-out samples, and the
prior `p`. What is minimised is the log-loss in which samples of class k count as if its frequency were its prior, that
is by prior / frequency (Brümmer and du Preez 2006, doi:10.1016/j.csl.2005.08.001; Ferrer 2022, arXiv:2209.05355), so
that `a * z + b` are log-likelihoods and another prior can be put in their place. Temperature scaling (Guo et al. 2017,
arXiv:1706.04599) is the same without biases.

Held-out samples that a scale and biases can separate have no best scale: the larger, the better. A weak penalty makes
it finite: `regularization / 2 * H(p) * (a² + sum of p * b²)`, with `a` and `b` those of logits that have a median of 0
in each class and a median absolute value of 1, and the entropy `H(p)`, which is the log-loss of who knows the prior
only, as the unit. Shift and scale of logits change nothing, therefore. Where samples cannot be separated, it moves
log-probabilities by 1e-6 or so.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from foldwise.errors import DataError
from foldwise.post.arrays import check_fitted, check_label_shares, check_logits, check_targets
from foldwise.post.calibration_losses import AffineLoss, BinaryLoss, binary_log_loss, standardise, weighted_log_loss
from foldwise.post.newton import minimise
from foldwise.post.priors import check_label_prior, check_prior

REGULARIZATION = 1e-8


class AffineCalibration:
    """Calibrate the logits of classes that exclude each other.

    Parameters
    ----------
    prior : array_like of float, shape (c,), optional
        Prior of each class among the samples to come, in any unit; by default the frequencies of the samples it is
        fitted to. Zeros become 1e-8.
    regularization : float
        Weight of the penalty, above 0.
    max_iter : int
        Most Newton steps.

    Attributes
    ----------
    scale_ : float
        Above 0. It is next to nothing, and predicted is the prior, if logits tell nothing or the contrary of the truth.
    bias_ : ndarray of float64, shape (c,)
        Its mean over the classes that occur is 0; that of absent classes is 0.
    prior_ : ndarray of float64, shape (c,)
        Adds up to 1.
    absent_ : ndarray of bool, shape (c,)
        Classes without a sample. Their bias cannot be estimated and is 0: they keep the place that their logits give
        them among the others. The loss leaves them out, and their prior applies. If one class only has samples, the
        scale is 1 and all biases are 0.
    log_loss_before_, log_loss_after_ : float
        Log-loss of the logits as they came and of the calibrated ones, weighted by prior / frequency, among the classes
        that occur.
    n_iter_ : int
        Newton steps taken.

    Notes
    -----
    The objective is convex and is solved by Newton's method; a start of any other kind gives the same. Where the best
    scale would be negative, the least one allowed is the best.
    """

    scale_: float
    bias_: np.ndarray
    prior_: np.ndarray
    absent_: np.ndarray
    log_loss_before_: float
    log_loss_after_: float
    n_iter_: int

    def __init__(
        self, prior: ArrayLike | None = None, regularization: float = REGULARIZATION, max_iter: int = 100
    ) -> None:
        self.prior = prior
        self.regularization = regularization
        self.max_iter = max_iter

    def fit(self, logits: ArrayLike, targets: ArrayLike) -> Self:
        """Choose scale and bias.

        Parameters
        ----------
        logits : array_like of float, shape (n, c)
            Raw outputs for samples that the model was not trained on.
        targets : array_like of int, shape (n,)
            Class indices.

        Raises
        ------
        DataError
            If an array is not as it must be; see `check_logits`, `check_targets` and `check_prior`.
        """
        check_regularization(self.regularization)
        raw = check_logits(logits)
        classes = raw.shape[1]
        target = check_targets(targets, classes, len(raw))
        counts = np.bincount(target, minlength=classes)
        self.prior_ = check_prior(counts if self.prior is None else self.prior, classes)
        self.absent_ = counts == 0
        present = np.flatnonzero(counts)
        place = np.searchsorted(present, target)
        prior = self.prior_[present] / self.prior_[present].sum()
        weights = (prior / counts[present])[place]
        columns = np.ascontiguousarray(raw[:, present].T)
        self.scale_, self.bias_, self.n_iter_ = 1.0, np.zeros(classes), 0
        if len(present) > 1:
            self._solve(columns, place, weights, prior, present)
        self.log_loss_before_ = weighted_log_loss(columns, place, weights)
        calibrated = self.scale_ * columns + (self.bias_[present] + np.log(prior))[:, np.newaxis]
        self.log_loss_after_ = weighted_log_loss(calibrated, place, weights)
        return self

    def _solve(
        self, columns: np.ndarray, place: np.ndarray, weights: np.ndarray, prior: np.ndarray, present: np.ndarray
    ) -> None:
        """Set scale and bias from logits of shape (classes that occur, n)."""
        standard = standardise(columns)
        entropy = -float(prior @ np.log(prior))
        loss = AffineLoss(standard.values, place, weights, prior, self.regularization * entropy)
        parameters, self.n_iter_ = minimise(loss, standard.start(loss), self.max_iter)
        self.scale_, bias = standard.undo(parameters, weights)
        self.bias_[present] = bias - bias.mean()

    def predict_log_proba(self, logits: ArrayLike) -> np.ndarray:
        """Return the logarithms of calibrated probabilities, float64 of shape (n, c).

        Raises
        ------
        DataError
            If logits are not as they must be, or it has not been fitted.
        """
        check_fitted(self, "bias_")
        raw = check_logits(logits, len(self.bias_))
        raw -= raw.max(axis=1, keepdims=True)
        raw *= self.scale_
        raw += self.bias_ + np.log(self.prior_)
        raw -= raw.max(axis=1, keepdims=True)
        raw -= np.log(np.exp(raw).sum(axis=1, keepdims=True))
        return raw

    def predict_proba(self, logits: ArrayLike) -> np.ndarray:
        """Return calibrated probabilities, float64 of shape (n, c); see `predict_log_proba`."""
        return np.exp(self.predict_log_proba(logits))


class BinaryCalibration:
    """Calibrate the logits of classes of which a sample may have none, one or many: a scale and a bias each.

    This is what Platt (1999) does for one class, with the prior apart: `sigmoid(a * z + b + log(p / (1 - p)))`.

    Parameters
    ----------
    prior : array_like of float, shape (c,), optional
        Share of the samples to come that have each class; by default that of the samples it is fitted to. It is kept
        1e-8 away from 0 and 1.
    regularization : float
        Weight of the penalty, above 0.
    max_iter : int
        Most Newton steps a class.

    Attributes
    ----------
    scale_ : ndarray of float64, shape (c,)
        Above 0, as with `AffineCalibration`.
    bias_, prior_ : ndarray of float64, shape (c,)
        Bias of each class, and prior.
    absent_ : ndarray of bool, shape (c,)
        Classes that no sample has, or all have. Nothing about them can be estimated: their probabilities stay those of
        the raw logits, with a scale of 1 and a bias that takes the prior out again.
    log_loss_before_, log_loss_after_ : float
        Log-loss of the logits as they came and of the calibrated ones, with samples that have a class weighted by
        prior / frequency and the others likewise; the mean over classes.
    n_iter_ : ndarray of int, shape (c,)
        Newton steps taken.
    """

    scale_: np.ndarray
    bias_: np.ndarray
    prior_: np.ndarray
    absent_: np.ndarray
    log_loss_before_: float
    log_loss_after_: float
    n_iter_: np.ndarray

    def __init__(
        self, prior: ArrayLike | None = None, regularization: float = REGULARIZATION, max_iter: int = 100
    ) -> None:
        self.prior = prior
        self.regularization = regularization
        self.max_iter = max_iter

    def fit(self, logits: ArrayLike, targets: ArrayLike) -> Self:
        """Choose scales and biases.

        Parameters
        ----------
        logits : array_like of float, shape (n, c)
            Raw outputs for samples that the model was not trained on.
        targets : array_like of float, shape (n, c)
            1 where a sample has a class, 0 where it does not, or a number in between.

        Raises
        ------
        DataError
            If an array is not as it must be; see `check_logits`, `check_label_shares` and `check_label_prior`.
        """
        check_regularization(self.regularization)
        raw = check_logits(logits, fewest=1)
        classes = raw.shape[1]
        shares = check_label_shares(targets, classes, len(raw))
        found = shares.mean(axis=0)
        self.prior_ = check_label_prior(found if self.prior is None else self.prior, classes)
        self.absent_ = (found == 0) | (found == 1)
        self.scale_, self.bias_ = np.ones(classes), np.where(self.absent_, -log_odds(self.prior_), 0.0)
        self.n_iter_ = np.zeros(classes, dtype=np.int64)
        losses = np.empty((2, classes))
        for k in range(classes):
            losses[:, k] = self._fit_class(k, raw[:, k], shares[:, k])
        self.log_loss_before_, self.log_loss_after_ = map(float, losses.mean(axis=1))
        return self

    def _fit_class(self, k: int, logits: np.ndarray, shares: np.ndarray) -> tuple[float, float]:
        """Set scale and bias of a class; returns its log-loss before and after."""
        prior = self.prior_[k]
        odds, entropy = float(log_odds(prior)), float(-prior * np.log(prior) - (1 - prior) * np.log1p(-prior))
        positive, negative = prior * shares, (1 - prior) * (1 - shares)
        if self.absent_[k]:
            positive, negative = shares / len(shares), (1 - shares) / len(shares)
        else:
            positive, negative = positive / shares.sum(), negative / (1 - shares).sum()
            standard = standardise(logits[np.newaxis], across=False)
            loss = BinaryLoss(standard.values[0], positive, negative, odds, self.regularization * entropy)
            parameters, self.n_iter_[k] = minimise(loss, standard.start(loss), self.max_iter)
            self.scale_[k], bias = standard.undo(parameters, positive + negative)
            self.bias_[k] = bias[0]
        calibrated = self.scale_[k] * logits + self.bias_[k] + odds
        return binary_log_loss(logits, positive, negative), binary_log_loss(calibrated, positive, negative)

    def decision_function(self, logits: ArrayLike) -> np.ndarray:
        """Return calibrated logits, float64 of shape (n, c).

        Raises
        ------
        DataError
            If logits are not as they must be, or it has not been fitted.
        """
        check_fitted(self, "bias_")
        raw = check_logits(logits, len(self.bias_), fewest=1)
        return self.scale_ * raw + (self.bias_ + log_odds(self.prior_))

    def predict_log_proba(self, logits: ArrayLike) -> np.ndarray:
        """Return the logarithm of the probability that a sample has a class, shape (n, c)."""
        return -np.logaddexp(0.0, -self.decision_function(logits))

    def predict_proba(self, logits: ArrayLike) -> np.ndarray:
        """Return the probability that a sample has a class, shape (n, c)."""
        return np.exp(self.predict_log_proba(logits))


def log_odds(prior: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p))."""
    return np.log(prior) - np.log1p(-prior)


def check_regularization(strength: float) -> None:
    """Raise `DataError` unless it is a positive number."""
    if not 0 < strength < np.inf:
        raise DataError("regularization", strength, "a number above 0")
