"""Newton's method for convex functions of few parameters."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

import numpy as np

SMALL = 1e-6  # the error after a Newton step is of the order of its square
ARMIJO = 1e-4
ROUNDING = 1e-14  # relative error of a function value
SHORTEST = 1e-30  # where probabilities are 0 or 1 there is no curvature, and whole steps are far too long


class Evaluated(Protocol):
    """A function at a point: its value, and whatever derivatives need that was computed on the way."""

    @property
    def value(self) -> float: ...


Point = TypeVar("Point", bound=Evaluated)


class Convex(Protocol[Point]):
    """A convex function with two derivatives, the second positive definite."""

    def evaluate(self, parameters: np.ndarray) -> Point:
        """Return value and what derivatives need."""

    def derivatives(self, point: Point) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and Hessian."""

    def reach(self, point: Point, step: np.ndarray) -> float:
        """Return how far a step to a point has moved anything that matters, 1 being far."""


class Minimum(NamedTuple):
    """Where a function is least."""

    parameters: np.ndarray
    iterations: int


def minimise(function: Convex[Point], start: np.ndarray, max_iter: int) -> Minimum:
    """Minimise a convex function by Newton's method with backtracking (Boyd and Vandenberghe 2004, section 9.5).

    Parameters
    ----------
    function : Convex
        What to minimise.
    start : ndarray of float, shape (p,)
        Parameters to begin with.
    max_iter : int
        Most steps to take. It stops before if a whole step has moved nothing by more than 1e-6.
    """
    parameters, point = start, function.evaluate(start)
    for iteration in range(1, max_iter + 1):
        gradient, hessian = function.derivatives(point)
        step = newton_step(gradient, hessian)
        slope, length = float(gradient @ step), 1.0
        trial = function.evaluate(parameters + step)
        while not trial.value <= point.value + ARMIJO * length * slope + ROUNDING * abs(point.value):
            length /= 2
            if length < SHORTEST:
                return Minimum(parameters, iteration)
            trial = function.evaluate(parameters + length * step)
        parameters, point = parameters + length * step, trial
        if length == 1 and function.reach(point, step) <= SMALL:
            return Minimum(parameters, iteration)
    return Minimum(parameters, max_iter)


def newton_step(gradient: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Return the step to the minimum of a quadratic function; parameters may have very different scales."""
    scale = 1 / np.sqrt(np.diagonal(hessian))
    return -scale * np.linalg.solve(hessian * scale * scale[:, np.newaxis], scale * gradient)
