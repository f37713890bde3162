"""Metrics that are functions of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from foldwise.errors import DataError, Words, shorten
from foldwise.functions import failure_told, load_function

Metric = Callable[[np.ndarray, np.ndarray], float]
EXPECTED = "a function of logits and targets that returns a number"


def is_own(name: str) -> bool:
    """Tell whether a metric is a function of the user's own, ``module:function``."""
    return ":" in name


def load_metric(name: str) -> Metric:
    """Return a metric that is a function of the user's own.

    Parameters
    ----------
    name : str
        ``module:function``.

    Returns
    -------
    callable
        Takes logits and targets, arrays as `compute_metrics` has them, which may be maps of a file that must not be
        written to; returns a number, NaN where the metric is not defined. Raises `DataError` naming the function, and
        the line if it fails, or what it returns if that is no number.

    Raises
    ------
    ConfigError
        If there is no such function.
    """
    function = load_function(name, "metrics")

    def metric(logits: np.ndarray, targets: np.ndarray) -> float:
        with failure_told(name, function):
            value = function(logits, targets)
        return number(value, name)

    return metric


def number(value: Any, name: str) -> float:
    """Return a number, also of an array without axes; raise `DataError` if it is none."""
    found = Words(f"{shorten(Words(' '.join(repr(value).split())), 60)} of type {type(value).__name__}")
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of several lengths are no array
        raise DataError(name, found, EXPECTED) from error
    if array.ndim or array.dtype.kind not in "iuf":
        raise DataError(name, found, EXPECTED)
    return float(array)
