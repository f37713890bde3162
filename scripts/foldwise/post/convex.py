"""Exact weights of an ensemble of all members: the loss is convex in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from foldwise.errors import ConfigError
from foldwise.post.ensembles import Ensemble, Found
from foldwise.post.inputs import Arrays
from foldwise.post.losses import Curve, Objective
from foldwise.post.quadratic import minimise_quadratic

BEGINNING = 32  # members to begin with
MORE = 32  # members that join at a time, at most
STEPS = 100  # weights that are evaluated with the same members and temperature
COOLING = 4.0  # from temperature to temperature
ROUGH = 0.01  # gap before the last temperature, relative to the loss
ARMIJO = 1e-4
ROUNDING = 1e-14  # relative error of a loss
SHORTEST = 1e-10  # a line search that comes here has met rounding errors only


class Progress(NamedTuple):
    """How far a search has come."""

    loss: float
    gap: float


class Cooled(NamedTuple):
    """An objective in the weights of some members, with logits divided and the loss multiplied by a temperature."""

    objective: Objective
    used: np.ndarray
    temperature: float

    def curve(self, weights: np.ndarray) -> Curve:
        """Return loss, gradient and Hessian."""
        loss, gradient, hessian = self.objective.curve(self.used, weights / self.temperature)
        return Curve(loss * self.temperature, gradient, hessian / self.temperature)


@dataclass(eq=False)
class ConvexWeights(Ensemble):
    """The best of all weights, by Newton steps within the simplex over those members that may have a weight.

    A step goes to the minimum of the quadratic approximation on the simplex, shortened as long as the loss does not
    fall (Boyd and Vandenberghe 2004, sections 9.5 and 10.2). Members are added while the gradient says that they lower
    the loss. By then no weights are better by more than the duality gap, the scalar product of gradient and weights
    less the gradient's least entry (Jaggi 2013, section 2.2). Where even the best member has a loss above one, as have
    logits that are far too large, the loss bends at corners that Newton steps do not see: these are rounded off by a
    temperature, which falls to one.

    Parameters
    ----------
    task_type : str
        ``classification``, ``multilabel``, ``regression`` or ``segmentation``.
    tolerance : float
        Gap at which it stops; relative to the loss if that is above one, or above the variance of the targets in
        regression, to which it is relative otherwise.

    Attributes
    ----------
    gap_ : float
        How much better the best weights can be than these, at most. It is above the tolerance if rounding errors ended
        the search, as they may with log-losses of thousands.
    """

    tolerance: float = 1e-9

    def check(self) -> None:
        if not self.tolerance > 0:
            raise ConfigError("ConvexWeights.tolerance", self.tolerance, "a number above 0")

    def fit(self, members: Arrays, targets: ArrayLike, names: Sequence[str] | None = None) -> Self:
        self.gap_ = 0.0  # of one member
        return super().fit(members, targets, names)

    def search(self, objective: Objective) -> Found:
        used = np.arange(min(BEGINNING, objective.size))
        own, evaluated, before = np.full(len(used), 1 / len(used)), 0, Progress(np.inf, np.inf)
        while True:
            own, steps = self.descend(objective, used, own)
            weights = np.zeros(objective.size)
            weights[used] = own
            loss, gradient = objective.slope(weights)
            evaluated += steps + 1
            self.gap_ = gap_of(gradient, weights)
            if self.gap_ <= self.enough(objective, loss) or not (loss < before.loss or self.gap_ < before.gap):
                return Found(weights, evaluated)
            before = Progress(loss, self.gap_)
            lower = np.flatnonzero(gradient < gradient @ weights - self.enough(objective, loss) / 2)
            joining = lower[np.argsort(gradient[lower], kind="stable")[:MORE]]
            used = np.union1d(np.flatnonzero(weights), joining)
            own = weights[used]

    def descend(self, objective: Objective, used: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the best weights of some members, and how many weights were evaluated on the way."""
        temperature, evaluated = max(1.0, float(objective.singles[0]) / objective.unit), 0
        while temperature > 1:
            weights, steps = self.newton(Cooled(objective, used, temperature), weights, ROUGH)
            temperature, evaluated = max(1.0, temperature / COOLING), evaluated + steps
        weights, steps = self.newton(Cooled(objective, used, temperature), weights, self.tolerance / 2)
        return weights, evaluated + steps

    def newton(self, function: Cooled, weights: np.ndarray, tolerance: float) -> tuple[np.ndarray, int]:
        """Return the weights that are the best up to a tolerance, and how many were evaluated on the way."""
        curve, length, unit = function.curve(weights), 1.0, function.objective.unit
        step = minimise_quadratic(curve.hessian, curve.gradient, weights) - weights
        for evaluated in range(1, STEPS):
            if length < SHORTEST or gap_of(curve.gradient, weights) <= tolerance * max(unit, curve.loss):
                return weights, evaluated
            trial = function.curve(weights + length * step)
            if trial.loss <= curve.loss * (1 + ROUNDING) + ARMIJO * length * float(curve.gradient @ step):
                weights, curve, length = weights + length * step, trial, 1.0
                step = minimise_quadratic(curve.hessian, curve.gradient, weights) - weights
            else:
                length /= 2
        return weights, STEPS

    def enough(self, objective: Objective, loss: float) -> float:
        """Return the gap at which to stop."""
        return self.tolerance * max(objective.unit, loss)


def gap_of(gradient: np.ndarray, weights: np.ndarray) -> float:
    """Return the duality gap: how much the loss can fall within the simplex, at most."""
    return max(0.0, float(gradient @ weights - gradient.min()))
