"""Convex weights: against SLSQP, against closed forms, and with a gap that holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from foldwise.post.convex import BEGINNING, ConvexWeights
from foldwise.post.losses import objective_of
from unit.post.ensembling import TYPES, draw


def by_slsqp(objective):
    """Return the loss at the weights that a general method for constrained problems finds."""
    constraint = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}
    start, bounds = np.full(objective.size, 1 / objective.size), [(0, 1)] * objective.size
    result = minimize(
        lambda w: tuple(objective.slope(w)), start, jac=True, bounds=bounds, constraints=constraint, method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    weights = np.clip(result.x, 0, None)
    return float(objective.exact(weights[np.newaxis] / weights.sum())[0])


@settings(max_examples=40)
@given(
    st.sampled_from(TYPES), st.integers(2, 9), st.integers(1, 60), st.sampled_from([0.1, 1, 30]), st.integers(0, 999)
)
def test_the_loss_is_that_of_slsqp_or_lower(task_type, count, samples, scale, seed):
    members, targets = draw(task_type, count, samples, scale=scale, seed=seed)
    found = ConvexWeights(task_type=task_type).fit(members, targets)
    expected = by_slsqp(objective_of(task_type, members, targets))
    unit = max(1, found.score_)
    assert found.score_ <= expected + 1e-9 * unit
    assert found.score_ + found.gap_ >= expected - 1e-5 * unit  # SLSQP ends a little above


@pytest.mark.parametrize("task_type", TYPES)
def test_the_gap_bounds_what_other_weights_can_gain(task_type):
    members, targets = draw(task_type, members=12)
    found = ConvexWeights(task_type=task_type, tolerance=0.01).fit(members, targets)
    best = ConvexWeights(task_type=task_type).fit(members, targets)
    assert best.gap_ <= 1e-9 * max(1, best.score_)
    assert found.score_ - found.gap_ - best.gap_ <= best.score_ <= found.score_ + best.gap_


def test_two_members_of_regression_have_their_closed_form():
    members, targets = draw("regression", members=2, classes=1)
    first, second = members[0].astype(float) - targets, members[1].astype(float) - targets
    share = np.mean(second * (second - first)) / np.mean((first - second) ** 2)
    found = ConvexWeights("regression").fit(members, targets)
    assert 0 < share < 1
    assert found.weights_ == pytest.approx([share, 1 - share], rel=1e-9)


def test_uncorrelated_errors_are_weighted_by_their_precision():
    errors = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 4)))[0].T * [[1], [2], [3], [4]]
    found = ConvexWeights("regression").fit(errors[:, :, np.newaxis], np.zeros(50))
    precision = 1 / np.array([1, 4, 9, 16])
    assert found.weights_ == pytest.approx(precision / precision.sum(), rel=1e-9)


@pytest.mark.parametrize("task_type", TYPES)
def test_there_may_be_more_members_than_it_begins_with(task_type):
    members, targets = draw(task_type, members=3 * BEGINNING, samples=300)
    found = ConvexWeights(task_type=task_type).fit(members, targets)
    assert found.gap_ <= 1e-9 * max(1, found.score_)
    assert set(found.members_) - set(np.argsort(found.singles_)[:BEGINNING])


@pytest.mark.parametrize("task_type", TYPES)
def test_members_may_be_there_twice(task_type):
    members, targets = draw(task_type)
    once = ConvexWeights(task_type=task_type).fit(members, targets)
    twice = ConvexWeights(task_type=task_type).fit(np.concatenate([members, members]), targets)
    assert twice.score_ == pytest.approx(once.score_, rel=1e-9)
    assert twice.weights_.reshape(2, -1).sum(axis=0) == pytest.approx(once.weights_, abs=1e-5)


def test_members_that_are_all_the_same_are_as_good_as_one():
    members, targets = draw(members=1)
    found = ConvexWeights().fit(np.repeat(members, 40, axis=0), targets)
    assert found.score_ == pytest.approx(found.singles_[0])
    assert found.gap_ <= 1e-9


def test_members_without_any_error_are_no_obstacle():
    members, targets = draw()
    members[:2] = 1000 * np.eye(4)[targets]
    found = ConvexWeights().fit(members, targets)
    assert found.score_ == 0
    assert found.gap_ <= 1e-9


@pytest.mark.parametrize("scale", [1e-6, 100.0, 1e4])
@pytest.mark.parametrize("task_type", TYPES)
def test_logits_of_any_scale_have_an_optimum(task_type, scale):
    members, targets = draw(task_type, scale=scale)
    found = ConvexWeights(task_type=task_type).fit(members, targets)
    assert found.gap_ <= 1e-9 * max(1, found.score_)
    assert found.score_ <= found.singles_.min()


def test_one_member_leaves_no_gap():
    assert ConvexWeights().fit(*draw(members=1)).gap_ == 0
