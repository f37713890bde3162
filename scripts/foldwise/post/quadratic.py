"""Minimum of a quadratic function on the simplex."""

from __future__ import annotations

import numpy as np

RIDGE = 1e-12  # beside the mean of the diagonal: equal members leave no minimum of its own otherwise
FLAT = 1e-10  # beside the largest slope: what bends less is a plane
ROUNDING = 1e-13
ROUNDS = 20  # changes of the free weights, a member


def minimise_quadratic(hessian: np.ndarray, gradient: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Minimise a convex quadratic function of weights that are not negative and add up to one.

    An active set method (Lawson and Hanson 1974, chapter 23, for sums of one): weights that are free take the minimum
    without bounds; those that would fall below zero on the way leave, and the one that lowers the function most joins.

    Parameters
    ----------
    hessian : ndarray of float, shape (m, m)
        Second derivatives.
    gradient : ndarray of float, shape (m,)
        First derivatives at the start.
    start : ndarray of float, shape (m,)
        Weights to begin with.

    Returns
    -------
    ndarray of float, shape (m,)
        Weights; those that are not free are exactly 0.
    """
    scale = max(float(np.mean(np.diagonal(hessian))), FLAT * float(np.abs(gradient).max())) or 1.0
    matrix = hessian / scale + RIDGE * np.eye(len(hessian))
    weights, free, joined = start, start > 0, None
    for _ in range(ROUNDS * len(start)):
        slopes = gradient / scale + matrix @ (weights - start)
        step = free_step(matrix, slopes, free)
        if joined is not None and step[joined] <= 0:
            break  # it joined by a rounding error
        weights, is_blocked = move(weights, step)
        free, joined = weights > 0, None
        if not is_blocked:
            joined = joining(gradient / scale + matrix @ (weights - start), free)
            if joined is None:
                break
            free[joined] = True
    return weights / weights.sum()


def free_step(matrix: np.ndarray, slopes: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Return the step to the minimum over the free weights whose sum stays as it is."""
    count = int(free.sum())
    system = np.ones((count + 1, count + 1))
    system[:count, :count] = matrix[np.ix_(free, free)]
    system[count, count] = 0
    step = np.zeros(len(slopes))
    step[free] = np.linalg.solve(system, np.append(-slopes[free], 0.0))[:count]
    return step


def move(weights: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, bool]:
    """Go a step, or as far as no weight is below zero; return weights, and whether it ended at zero."""
    falling = np.flatnonzero((weights > 0) & (weights + step <= 0))
    if not len(falling):
        return weights + step, False
    shares = weights[falling] / -step[falling]
    moved = np.maximum(weights + shares.min() * step, 0.0)
    moved[falling[shares.argmin()]] = 0.0
    return moved, True


def joining(slopes: np.ndarray, free: np.ndarray) -> int | None:
    """Return which weight lowers the function most if it becomes free, None if none does."""
    others = np.where(free, np.inf, slopes)
    least = int(others.argmin())
    level = slopes[free].mean() - ROUNDING * (1 + np.abs(slopes).max())
    return least if others[least] < level else None
