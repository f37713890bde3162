"""Minimum of a quadratic function on the simplex: it satisfies what an optimum must."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldwise.post.quadratic import minimise_quadratic


def start_at(members, support):
    weights = np.zeros(members)
    weights[:support] = 1 / support
    return weights


@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(0, 12), st.sampled_from([1e-6, 1.0, 1e6]), st.integers(0, 99)
)
def test_no_weight_can_be_moved_to_a_better_place(members, support, rank, scale, seed):
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(members, rank))
    hessian, gradient = scale * factor @ factor.T, scale * generator.normal(size=members)
    start = start_at(members, min(support, members))
    found = minimise_quadratic(hessian, gradient, start)
    slopes = gradient + hessian @ (found - start)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert found @ slopes - slopes.min() <= 1e-8 * scale


def test_an_inner_minimum_is_found_exactly():
    target = np.array([0.2, 0.5, 0.3])
    start = np.array([1.0, 0.0, 0.0])
    assert minimise_quadratic(np.eye(3), start - target, start) == pytest.approx(target, abs=1e-12)


def test_equal_members_share_what_they_have():
    found = minimise_quadratic(np.ones((3, 3)), np.zeros(3), start_at(3, 3))
    assert found == pytest.approx(start_at(3, 3))
