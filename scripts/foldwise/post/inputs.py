"""Logits and targets as they come in: logits are one array, or an array or a memory map a member."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from foldwise.errors import NOTHING, DataError, DataProblems, Problem, Words
from foldwise.post.arrays import check_label_shares, check_targets, count_wrong

CHECKED = 2**20  # numbers that are looked at together
HUGE = np.float32(1e30)  # squares of logits and their sums are still finite in double precision
Arrays = Sequence[np.ndarray] | np.ndarray


def open_members(members: Arrays, names: Sequence[str] | None = None) -> list[np.ndarray]:
    """Return the logits of each member without copying them.

    Parameters
    ----------
    members : ndarray of float, shape (m, n, c), or sequence of m ndarrays or memory maps of shape (n, c)
        Logits of `m` members on `n` samples.
    names : sequence of str, optional
        What messages call the members; by default ``member 0`` and so on.

    Returns
    -------
    list of ndarray of shape (n, c)

    Raises
    ------
    DataError
        If there is no member, they are not numbers in two dimensions, or their shapes differ.
    """
    arrays = [np.asarray(member) for member in members]
    if not arrays:
        raise DataError("members", NOTHING, "the logits of at least one member")
    called = name_members(len(arrays), names)
    shape = arrays[0].shape
    if len(shape) != 2 or 0 in shape:
        raise DataError(called[0], Words(f"shape {shape}"), "logits of shape (samples, classes), at least one of each")
    others = [
        Problem(name, f"shape {array.shape}")
        for name, array in zip(called, arrays, strict=True)
        if array.shape != shape
    ]
    if others:
        raise DataProblems(
            "members", others, f"the shape of {called[0]}, {shape}", "All members need the same samples."
        )
    kinds = [
        Problem(name, f"of type {array.dtype}")
        for name, array in zip(called, arrays, strict=True)
        if array.dtype.kind not in "fiu"
    ]
    if kinds:
        raise DataProblems("members", kinds, "real numbers")
    return arrays


def name_members(count: int, names: Sequence[str] | None) -> list[str]:
    """Return what messages call the members."""
    if names is None:
        return [f"member {place}" for place in range(count)]
    if len(names) != count:
        raise DataError("names", Words(f"{len(names)} names"), f"one for each of the {count} members")
    return [str(name) for name in names]


def check_finite(arrays: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Raise `DataError` if members have logits that are not finite, with how many each has."""
    problems = []
    for name, array in zip(names, arrays, strict=True):
        lacking = infinite = 0
        for part in row_parts(array):
            if not (np.abs(part) <= HUGE).all():
                lacking += int(np.isnan(part).sum())
                infinite += int((np.abs(part) > HUGE).sum())
        if lacking or infinite:
            problems.append(Problem(name, f"{lacking} NaN and {infinite} infinite or huge of {array.size} logits"))
    if problems:
        remedy = "Leave these members out, or train them anew."
        raise DataProblems("members", problems, "finite logits of at most 1e30", remedy)


def row_parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an array in parts of a few rows."""
    step = max(1, CHECKED * len(array) // array.size)
    for start in range(0, len(array), step):
        yield array[start : start + step]


def check_labels(task_type: str, targets: ArrayLike, samples: int, classes: int) -> np.ndarray:
    """Return the targets of a task type: class indices, shares of labels, or values, shape (n, outputs).

    Raises
    ------
    DataError
        If there is none, or they do not suit the logits or the task type.
    """
    if task_type == "multilabel":
        return check_label_shares(targets, classes, samples)
    if task_type != "regression":
        return check_targets(targets, classes, samples)
    values = np.asarray(targets)
    if values.shape != (samples, classes) and (classes > 1 or values.shape != (samples,)):
        expected = f"shape ({samples}, {classes}), as the members have"
        raise DataError("targets", Words(f"shape {values.shape}"), expected)
    if values.dtype.kind not in "fiu":
        raise DataError("targets", Words(f"type {values.dtype}"), "real numbers")
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise DataError("targets", *count_wrong(wrong, "that are not finite", "finite values"))
    return values.reshape(samples, classes).astype(np.float64)
