"""Prior probabilities of classes: checks, and estimates from samples without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from foldwise.errors import DataError, Words
from foldwise.post.arrays import check_fitted, check_label_shares, check_logits, check_targets

FLOOR = 1e-8
RANK = 1e-10  # singular values below it, relative to the largest, are rounding errors


def prevalences(targets: ArrayLike, classes: int) -> np.ndarray:
    """Return the share of the samples that each class has.

    Parameters
    ----------
    targets : array_like of int, shape (n,)
        Class indices.
    classes : int
        Number of classes, those without samples included.

    Raises
    ------
    DataError
        If targets are not class indices.
    """
    found = check_targets(targets, classes)
    return np.bincount(found, minlength=classes) / len(found)


def check_prior(prior: ArrayLike, classes: int, where: str | Path = "prior") -> np.ndarray:
    """Return a prior of classes that exclude each other, with a sum of 1.

    Parameters
    ----------
    prior : array_like of float, shape (c,)
        Prior of each class in any unit.
    classes : int
        Number of classes.
    where : str or Path
        What messages call it.

    Returns
    -------
    ndarray of float64, shape (c,)
        Values below 1e-8 are raised to it.

    Raises
    ------
    DataError
        If the length is wrong, or values are negative, not finite or all zero.
    """
    found = check_numbers(prior, classes, where)
    if (found < 0).any() or not found.any():
        got = Words("zeros only") if not found.any() else Words(f"{found.min()} of class {found.argmin()}")
        raise DataError(where, got, "numbers of at least 0, one of them above 0")
    shares = found / found.max()
    floored = np.maximum(shares / shares.sum(), FLOOR)
    return floored / floored.sum()


def check_label_prior(prior: ArrayLike, classes: int, where: str | Path = "prior") -> np.ndarray:
    """Return a prior of classes of which a sample may have many.

    Parameters
    ----------
    prior : array_like of float, shape (c,)
        Share of the samples that have each class.
    classes : int
        Number of classes.
    where : str or Path
        What messages call it.

    Returns
    -------
    ndarray of float64, shape (c,)
        At least 1e-8 away from 0 and 1.

    Raises
    ------
    DataError
        If the length is wrong, or a value is not in [0, 1].
    """
    found = check_numbers(prior, classes, where)
    wrong = np.flatnonzero((found < 0) | (found > 1))
    if len(wrong):
        raise DataError(where, Words(f"{found[wrong[0]]} of class {wrong[0]}"), "numbers in [0, 1]")
    return np.clip(found, FLOOR, 1 - FLOOR)


def check_numbers(prior: ArrayLike, classes: int, where: str | Path) -> np.ndarray:
    """Return a prior as float64; raise `DataError` unless it has a finite number a class."""
    found = np.asarray(prior)
    if found.ndim != 1:
        raise DataError(where, Words(f"shape {found.shape}"), f"({classes},), a number a class")
    if len(found) != classes:
        raise DataError(where, Words(f"{len(found)} numbers"), f"{classes}, one a class")
    if found.dtype.kind not in "fiu":
        raise DataError(where, Words(f"type {found.dtype}"), "real numbers")
    wrong = np.flatnonzero(~np.isfinite(found))
    if len(wrong):
        raise DataError(where, Words(f"{found[wrong[0]]} of class {wrong[0]}"), "finite numbers")
    return found.astype(np.float64)


class AdjustedCount:
    """Estimate how frequent classes are among samples without labels: adjusted classify and count.

    Held-out samples tell how often class j is taken for class i. The prevalences that, confused like this, come nearest
    to how often each class is decided for among samples without labels are the estimate (Forman 2008,
    doi:10.1007/s10618-008-0097-y; Bunse 2022 for many classes). It holds if classes look alike in both sets and only
    their prevalences differ.

    Attributes
    ----------
    confusion_ : ndarray of float64, shape (c, c)
        In row i and column j: the share of the samples of class j that is taken for class i.
    prevalences_ : ndarray of float64, shape (c,)
        Prevalences among the samples it is fitted to.
    absent_ : ndarray of bool, shape (c,)
        Classes without a sample. Their confusion cannot be estimated: they are taken to be recognised always.
    rank_ : int
        Rank of the confusion matrix. Where it is below c, some classes cannot be told apart, and many prevalences
        explain the same decisions; of these, the nearest to `prevalences_` are the estimate, as nothing speaks for a
        change. Logits that tell nothing thus give `prevalences_` back.

    Notes
    -----
    The class with the largest logit is decided for, the first of those with equal logits. Distances are Euclidean, and
    the least one on the simplex is found exactly; prevalences may be 0.
    """

    confusion_: np.ndarray
    prevalences_: np.ndarray
    absent_: np.ndarray
    rank_: int

    def fit(self, logits: ArrayLike, targets: ArrayLike) -> Self:
        """Estimate how classes are confused.

        Parameters
        ----------
        logits : array_like of float, shape (n, c)
            Raw outputs for samples that the model was not trained on.
        targets : array_like of int, shape (n,)
            Class indices.

        Raises
        ------
        DataError
            If an array is not as it must be; see `check_logits` and `check_targets`.
        """
        raw = check_logits(logits)
        classes = raw.shape[1]
        target = check_targets(targets, classes, len(raw))
        pairs = np.bincount(raw.argmax(axis=1) * classes + target, minlength=classes**2)
        return self._set(pairs.reshape(classes, classes).astype(np.float64))

    def _set(self, pairs: np.ndarray) -> Self:
        """Set all attributes from the number of samples by decided and true class."""
        counts = pairs.sum(axis=0)
        self.prevalences_ = counts / counts.sum()
        self.absent_ = counts == 0
        self.confusion_ = np.where(self.absent_, np.eye(len(pairs)), pairs / np.where(self.absent_, 1, counts))
        self.rank_ = rank(self.confusion_)
        return self

    def predict(self, logits: ArrayLike) -> np.ndarray:
        """Estimate prevalences of samples without labels.

        Parameters
        ----------
        logits : array_like of float, shape (n, c)
            Raw outputs of the same model.

        Returns
        -------
        ndarray of float64, shape (c,)
            With a sum of 1.

        Raises
        ------
        DataError
            If logits are not as they must be, or it has not been fitted.
        """
        check_fitted(self, "confusion_")
        raw = check_logits(logits, len(self.confusion_))
        return self._solve(prevalences(raw.argmax(axis=1), len(self.confusion_)))

    def _solve(self, decided: np.ndarray) -> np.ndarray:
        """Return the prevalences that explain best how often each class is decided for."""
        nearest = nearest_mixture(self.confusion_, decided)
        if self.rank_ == len(self.confusion_):
            return nearest
        return nearest_equivalent(self.confusion_, nearest, self.prevalences_)


class LabelAdjustedCount:
    """The same for classes of which a sample may have none, one or many: `AdjustedCount` of each class and the rest.

    A class is decided for where its logit is above 0.

    Attributes
    ----------
    counts_ : list of AdjustedCount
        One a class, of the rest and the class, in this order.
    """

    counts_: list[AdjustedCount]

    def fit(self, logits: ArrayLike, targets: ArrayLike) -> Self:
        """Estimate how classes are confused.

        Parameters
        ----------
        logits : array_like of float, shape (n, c)
            Raw outputs for samples that the model was not trained on.
        targets : array_like of float, shape (n, c)
            1 where a sample has a class, 0 where it does not, or a number in between.

        Raises
        ------
        DataError
            If an array is not as it must be; see `check_logits` and `check_label_shares`.
        """
        raw = check_logits(logits, fewest=1)
        shares = check_label_shares(targets, raw.shape[1], len(raw))
        decided = (raw > 0).astype(np.float64)
        self.counts_ = []
        for mine, share in zip(decided.T, shares.T, strict=True):
            pairs = np.stack([1 - mine, mine]) @ np.stack([1 - share, share], axis=1)
            self.counts_.append(AdjustedCount()._set(pairs))
        return self

    def predict(self, logits: ArrayLike) -> np.ndarray:
        """Estimate the share of samples that have each class, shape (c,), from logits of shape (n, c).

        Raises
        ------
        DataError
            If logits are not as they must be, or it has not been fitted.
        """
        check_fitted(self, "counts_")
        shares = (check_logits(logits, len(self.counts_), fewest=1) > 0).mean(axis=0)
        return np.array([c._solve(np.array([1 - q, q]))[1] for c, q in zip(self.counts_, shares, strict=True)])


def nearest_mixture(columns: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return weights of columns, not negative and with a sum of 1, whose mixture is nearest to a target.

    The mixture of differences to the target that is nearest to 0 is the solution, up to its sum, of non-negative least
    squares with a row of ones that asks for a sum of 1 (Lawson and Hanson 1974, chapter 23): a finite number of exact
    steps.

    Parameters
    ----------
    columns : ndarray of float, shape (m, c)
    target : ndarray of float, shape (m,)
    """
    from scipy.optimize import nnls

    differences = columns - target[:, np.newaxis]
    count = columns.shape[1]
    found, _ = nnls(np.vstack([differences, np.ones(count)]), np.append(np.zeros(len(target)), 1.0))
    used = np.flatnonzero(found)
    weights = found / found.sum()
    refined = np.zeros(count)
    refined[used] = weights[used] + polish(differences[:, used], weights[used])
    return refined / refined.sum() if refined.min() >= 0 else weights


def polish(differences: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the change of weights, with a sum of 0, that brings their mixture nearest to 0."""
    free = null_space(np.ones((1, len(weights))))
    return free @ np.linalg.lstsq(differences @ free, -differences @ weights, rcond=RANK)[0]


def nearest_equivalent(columns: np.ndarray, weights: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the weights of columns that give the same mixture as others and are nearest to those wanted.

    Of all changes that keep mixture and sum, `weights + free @ t`, the least distance is one of least distance under
    inequalities, solved by non-negative least squares (Lawson and Hanson 1974, chapter 23).

    Parameters
    ----------
    columns : ndarray of float, shape (m, c)
    weights, wanted : ndarray of float, shape (c,)
        Neither is negative; both have a sum of 1.
    """
    from scipy.optimize import nnls

    free = null_space(np.vstack([columns, np.ones(len(weights))]))
    best = weights + free @ (free.T @ (wanted - weights))
    if best.min() < 0 < free.size:
        system = np.vstack([free.T, -best])
        found, _ = nnls(system, np.append(np.zeros(len(system) - 1), 1.0))
        rest = system @ found
        rest[-1] -= 1
        best = best + free @ (rest[:-1] / -rest[-1]) if rest[-1] < 0 else weights
    best = np.maximum(best, 0)
    return best / best.sum()


def null_space(matrix: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis, in columns, of what a matrix takes to 0."""
    return np.linalg.svd(matrix)[2][rank(matrix) :].T


def rank(matrix: np.ndarray) -> int:
    """Return the rank of a matrix; what is left of 0 by rounding counts as 0."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > RANK * values[0]).sum())
