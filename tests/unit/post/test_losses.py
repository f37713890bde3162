"""Losses of weighted sums: against formulas written out, and derivatives against differences."""

import tracemalloc

import numpy as np
import pytest
from scipy.special import log_softmax

from foldwise.errors import ConfigError, DataError
from foldwise.post.losses import BLOCK, objective_of
from unit.post.ensembling import TYPES, draw


def draw_weights(count, members, seed=0):
    """Draw weight vectors, some of whose weights are zero."""
    generator = np.random.default_rng(seed)
    weights = generator.dirichlet(np.ones(members), count) * (generator.random((count, members)) < 0.6)
    weights[:, 0] += 0.1
    return weights / weights.sum(axis=1, keepdims=True)


def by_hand(task_type, logits, targets):
    """Return the loss of logits, computed as it is defined."""
    logits = np.asarray(logits, np.float64)
    if task_type == "regression":
        return np.mean((logits - targets) ** 2)
    if task_type == "multilabel":
        return np.mean(np.logaddexp(0, logits) - targets * logits)
    return -np.mean(log_softmax(logits, axis=1)[np.arange(len(targets)), targets])


def losses_by_hand(task_type, weights, members, targets):
    return [by_hand(task_type, np.tensordot(one, np.asarray(members, np.float64), 1), targets) for one in weights]


BORDERS = [1, BLOCK // 4, BLOCK // 4 + 1, 3 * BLOCK // 4 + 7]


@pytest.mark.parametrize("samples", BORDERS)
@pytest.mark.parametrize("task_type", TYPES)
def test_losses_are_those_of_weighted_sums(task_type, samples):
    members, targets = draw(task_type, samples=samples)
    objective, weights = objective_of(task_type, members, targets), draw_weights(70, len(members))
    expected = losses_by_hand(task_type, weights, members, targets)
    assert objective.exact(weights) == pytest.approx(expected, rel=1e-12)
    assert objective.scan(weights) == pytest.approx(expected, rel=1e-5)
    assert objective.singles == pytest.approx([by_hand(task_type, one, targets) for one in members], rel=1e-12)


def test_labels_may_be_soft():
    members, targets = draw("multilabel", samples=300)
    soft = np.abs(targets - np.random.default_rng(1).uniform(0, 0.4, targets.shape))
    objective, weights = objective_of("multilabel", members, soft), draw_weights(5, len(members))
    expected = losses_by_hand("multilabel", weights, members, soft)
    assert objective.exact(weights) == pytest.approx(expected, rel=1e-12)
    assert objective.scan(weights) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 300.0, 1e4, 1e25])
@pytest.mark.parametrize("task_type", ["classification", "multilabel"])
def test_large_and_small_logits_overflow_nowhere(task_type, scale):
    members, targets = draw(task_type, scale=scale)
    objective, weights = objective_of(task_type, members, targets), draw_weights(5, len(members))
    expected = losses_by_hand(task_type, weights, members, targets)
    assert objective.exact(weights) == pytest.approx(expected, rel=1e-10)
    assert objective.scan(weights) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(objective.curve(np.arange(len(members)), weights[0]).hessian).all()


@pytest.mark.parametrize("task_type", [*TYPES, "soft"])
def test_derivatives_are_limits_of_differences(task_type):
    members, targets = draw(task_type.replace("soft", "multilabel"), samples=BLOCK // 4 + 50, scale=1.0)
    if task_type == "soft":
        targets = 0.2 + 0.5 * targets
    objective = objective_of(task_type.replace("soft", "multilabel"), members, targets)
    weights = draw_weights(1, len(members))[0]
    shifts, step = np.eye(len(members)), 1e-5
    loss, gradient = objective.slope(weights)
    hessian = objective.curve(np.arange(len(members)), weights).hessian
    after, before = (objective.exact(weights + side * step * shifts) for side in (1, -1))
    bent = [objective.slope(weights + step * one).gradient - objective.slope(weights - step * one).gradient
            for one in shifts]  # fmt: skip
    assert loss == pytest.approx(objective.exact(weights[np.newaxis])[0], rel=1e-12)
    assert gradient == pytest.approx((after - before) / (2 * step), rel=1e-6, abs=1e-8)
    assert hessian == pytest.approx(np.array(bent) / (2 * step), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("task_type", TYPES)
def test_derivatives_in_some_members_are_part_of_those_in_all(task_type):
    members, targets = draw(task_type)
    objective, used, weights = objective_of(task_type, members, targets), np.array([1, 4]), np.zeros(len(members))
    weights[used] = 0.3, 0.7
    everything, part = objective.curve(np.arange(len(members)), weights), objective.curve(used, weights[used])
    assert part.loss == pytest.approx(everything.loss, rel=1e-12)
    assert part.gradient == pytest.approx(everything.gradient[used], rel=1e-12)
    assert part.hessian == pytest.approx(everything.hessian[np.ix_(used, used)], rel=1e-12)


@pytest.mark.parametrize("task_type", TYPES)
def test_members_in_another_order_have_the_same_losses(task_type):
    members, targets = draw(task_type)
    order, weights = np.array([3, 0, 5, 1, 2, 4]), draw_weights(4, len(members))
    objective = objective_of(task_type, members, targets)
    arranged, opened = objective.arranged(order), objective_of(task_type, members[order], targets)
    assert np.array_equal(arranged.singles, opened.singles)
    assert np.array_equal(arranged.scan(weights), opened.scan(weights))
    assert arranged.exact(weights[:, order]) == pytest.approx(objective.exact(weights), rel=1e-12)


@pytest.mark.parametrize("task_type", TYPES)
def test_the_same_question_has_the_same_answer_to_the_bit(task_type):
    members, targets = draw(task_type, samples=1500)
    weights = draw_weights(50, len(members))
    first, second = (objective_of(task_type, members, targets) for _ in range(2))
    assert np.array_equal(first.scan(weights), second.scan(weights))
    assert np.array_equal(first.slope(weights[0]).gradient, second.slope(weights[0]).gradient)


@pytest.mark.parametrize("task_type", TYPES)
def test_members_may_be_memory_maps_or_half_precision(task_type, tmp_path):
    members, targets = draw(task_type)
    members, weights = members.astype(np.float16), draw_weights(3, len(members))
    for place, member in enumerate(members):
        np.save(tmp_path / f"{place}.npy", member)
    maps = [np.load(tmp_path / f"{place}.npy", mmap_mode="r") for place in range(len(members))]
    found = [objective_of(task_type, one, targets).exact(weights) for one in (members, list(members), maps)]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    assert found[0] == pytest.approx(losses_by_hand(task_type, weights, members, targets), rel=1e-12)


@pytest.mark.parametrize("task_type", TYPES)
def test_members_are_not_copied(task_type):
    members, targets = draw(task_type, members=40, samples=20_000)
    weights = draw_weights(40, len(members))
    tracemalloc.start()
    objective = objective_of(task_type, members, targets)
    objective.scan(weights)
    objective.curve(np.arange(len(members)), weights[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < members.nbytes / 2


def test_values_of_regression_may_lack_the_axis_of_outputs():
    members, targets = draw("regression", classes=1)
    found, expected = (objective_of("regression", members, values) for values in (targets[:, 0], targets))
    assert np.array_equal(found.products, expected.products)


def test_the_unit_of_squared_errors_is_the_variance_of_targets():
    members, targets = draw("regression", classes=1)
    assert objective_of("regression", members, targets).unit == pytest.approx(np.var(targets))
    assert objective_of("regression", members, np.full(len(targets), 3.0)).unit == 1


@pytest.mark.parametrize(
    ("task_type", "change", "message"),
    [
        ("classification", lambda targets: targets[1:], r"shape \(199,\).*\(200,\)"),
        ("classification", lambda targets: np.where(targets == 1, -1, targets), "outside of 0 to 3"),
        ("segmentation", lambda targets: np.where(targets == 1, 255, targets), "outside of 0 to 3"),
        ("classification", lambda targets: targets.astype(float), "whole numbers"),
        ("multilabel", lambda targets: targets[:, 1:], r"\(200, 4\)"),
        ("multilabel", lambda targets: 255 * targets, r"outside of \[0, 1\]"),
        ("multilabel", lambda targets: np.where(targets, np.nan, 0), r"outside of \[0, 1\]"),
        ("regression", lambda targets: targets[:, 0], r"shape \(200,\).*shape \(200, 4\)"),
        ("regression", lambda targets: np.where(targets > 0, np.inf, targets), "finite values"),
        ("regression", lambda targets: targets > 0, "real numbers"),
    ],
)
def test_targets_that_do_not_suit_are_told(task_type, change, message):
    members, targets = draw(task_type)
    with pytest.raises(DataError, match=f"targets: got .*{message}"):
        objective_of(task_type, members, change(targets))


def test_an_unknown_task_type_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match=r"task_type: got 'multi-label'.*Did you mean 'multilabel'"):
        objective_of("multi-label", *draw("multilabel"))
