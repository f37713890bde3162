"""Checks of the arrays that estimators take, and of estimators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from foldwise.errors import NOTHING, DataError, Words

LARGEST = 1e100  # squares of larger ones overflow


def check_logits(
    logits: ArrayLike, classes: int | None = None, fewest: int = 2, where: str | Path = "logits"
) -> np.ndarray:
    """Return logits as float64.

    Parameters
    ----------
    logits : array_like of float, shape (n, c)
        Raw outputs of at least one sample.
    classes : int, optional
        Number of columns that there must be.
    fewest : int
        Number of columns that there must be at least.
    where : str or Path
        What messages call them.

    Raises
    ------
    DataError
        If shape or type are wrong, or a value is NaN, infinite or above 1e100.
    """
    found = np.asarray(logits)
    columns = f"{fewest} or more" if classes is None else f"{classes}"
    right = found.ndim == 2 and len(found) > 0 and found.shape[1] >= fewest
    if not right or classes not in (None, found.shape[1]):
        expected = f"(samples, classes) with 1 or more samples and {columns} classes"
        raise DataError(where, Words(f"shape {found.shape}"), expected)
    if found.dtype.kind not in "fiu":
        raise DataError(where, Words(f"type {found.dtype}"), "real numbers")
    values = found.astype(np.float64)
    wrong = ~(np.abs(values) <= LARGEST)
    if wrong.any():
        raise DataError(where, *count_wrong(wrong, "not finite", f"finite values, {LARGEST:g} at most"))
    return values


def check_targets(
    targets: ArrayLike, classes: int, samples: int | None = None, where: str | Path = "targets"
) -> np.ndarray:
    """Return class indices as int64.

    Parameters
    ----------
    targets : array_like of int, shape (n,)
        Class indices of at least one sample.
    classes : int
        Number of classes.
    samples : int, optional
        Number of samples that there must be.
    where : str or Path
        What messages call them.

    Raises
    ------
    DataError
        If shape or type are wrong, or there is no such class.
    """
    found = np.asarray(targets)
    if found.ndim != 1 or len(found) == 0 or samples not in (None, len(found)):
        expected = "(samples,) with 1 or more samples" if samples is None else f"({samples},), as there are logits"
        raise DataError(where, Words(f"shape {found.shape}"), expected)
    if found.dtype.kind not in "iu":
        raise DataError(where, Words(f"type {found.dtype}"), "whole numbers")
    wrong = (found < 0) | (found >= classes)
    if wrong.any():
        kind = f"outside of 0 to {classes - 1}"
        raise DataError(where, *count_wrong(wrong, kind, f"class indices from 0 to {classes - 1}"))
    return found.astype(np.int64)


def check_label_shares(
    targets: ArrayLike, classes: int, samples: int | None = None, where: str | Path = "targets"
) -> np.ndarray:
    """Return labels of many classes as float64.

    Parameters
    ----------
    targets : array_like of float, shape (n, c)
        1 where a sample has a label, 0 where it does not, or a number in between.
    classes : int
        Number of classes.
    samples : int, optional
        Number of samples that there must be.
    where : str or Path
        What messages call them.

    Raises
    ------
    DataError
        If shape or type are wrong, or a value is not in [0, 1].
    """
    found = np.asarray(targets)
    if found.ndim != 2 or len(found) == 0 or found.shape[1] != classes or samples not in (None, len(found)):
        rows = "samples" if samples is None else samples
        raise DataError(where, Words(f"shape {found.shape}"), f"({rows}, {classes}), as there are logits")
    if found.dtype.kind not in "biuf":
        raise DataError(where, Words(f"type {found.dtype}"), "numbers in [0, 1]")
    wrong = ~((found >= 0) & (found <= 1))
    if wrong.any():
        raise DataError(where, *count_wrong(wrong, "outside of [0, 1]", "numbers in [0, 1]"))
    return found.astype(np.float64)


def count_wrong(wrong: np.ndarray, kind: str, expected: str) -> tuple[Words, str]:
    """Say how many values of an array of samples are wrong, and where the first of them is."""
    count, row = np.count_nonzero(wrong), int(np.argwhere(wrong)[0][0])
    values = "1 value" if count == 1 else f"{count} values"
    return Words(f"{values} {kind}, the first in row {row}"), expected


def check_fitted(estimator: object, attribute: str) -> None:
    """Raise `DataError` if an estimator has not been fitted."""
    if not hasattr(estimator, attribute):
        raise DataError(type(estimator).__name__, NOTHING, "samples that it has been fitted to", "Call fit first.")
