"""Newton's method on functions whose minimum is known."""

from typing import NamedTuple

import numpy as np
import pytest

from foldwise.post.newton import minimise


class Place(NamedTuple):
    value: float
    parameters: np.ndarray


class Hyperbola:
    """The sum of sqrt(1 + (s * (x - 2))²): whole steps from far away go further away."""

    scale = np.array([1.0, 1e-4, 1e4])

    def evaluate(self, parameters):
        return Place(float(np.sqrt(1 + (self.scale * (parameters - 2)) ** 2).sum()), parameters)

    def derivatives(self, point):
        moved = self.scale * (point.parameters - 2)
        root = np.sqrt(1 + moved**2)
        return self.scale * moved / root, np.diag(self.scale**2 / root**3)

    def reach(self, point, step):
        return float(np.abs(self.scale * step).max())


@pytest.mark.parametrize("start", [-3.0, 2.0, 5.0])
def test_it_finds_the_minimum_from_far_away_and_in_parameters_of_any_scale(start):
    begin = 2 + (start - 2) / Hyperbola.scale
    found = minimise(Hyperbola(), begin, 100)
    np.testing.assert_allclose(Hyperbola.scale * (found.parameters - 2), 0, atol=1e-12)
    assert found.iterations < 20


def test_it_stops_after_the_most_steps_allowed_no_worse_than_it_began():
    begin = np.full(3, 50.0)
    found = minimise(Hyperbola(), begin, 2)
    assert found.iterations == 2
    assert Hyperbola().evaluate(found.parameters).value < Hyperbola().evaluate(begin).value
