"""Priors, and prevalences of samples without labels."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from foldwise.errors import DataError
from foldwise.post.priors import (
    AdjustedCount,
    LabelAdjustedCount,
    check_label_prior,
    check_prior,
    nearest_equivalent,
    nearest_mixture,
    prevalences,
)

REFERENCE = json.loads((Path(__file__).parent / "reference/adjusted_count.json").read_text())["problems"]


def uniform(seed, size):
    raw = np.random.PCG64(seed).random_raw(size)  # the same in all versions of NumPy
    return ((raw >> np.uint64(11)) + 0.5) * 2.0**-53


def make(seed, samples, signal, shares):
    draws, classes = uniform(seed, samples * (len(shares) + 1)), len(shares)
    targets = np.searchsorted(np.cumsum(shares)[:-1], draws[:samples])
    logits = ndtri(draws[samples:]).reshape(samples, classes)
    logits[np.arange(samples), targets] += signal
    return logits, targets


def decide(counts):
    """Return logits that decide for each class as often as told."""
    return np.eye(len(counts))[np.repeat(np.arange(len(counts)), counts)]


def fit(pairs):
    """Fit to samples counted by decided class, in rows, and true class."""
    pairs = np.asarray(pairs)
    decided, true = np.indices(pairs.shape).reshape(2, -1).repeat(pairs.ravel(), axis=1)
    return AdjustedCount().fit(np.eye(len(pairs))[decided], true)


def test_prevalences_count_classes_without_samples_too():
    assert prevalences([0, 2, 2, 0], 4).tolist() == [0.5, 0, 0.5, 0]


def test_a_prior_is_normalised_and_its_zeros_are_raised():
    np.testing.assert_allclose(check_prior([1, 3], 2), [0.25, 0.75])
    found = check_prior([0, 5, 1e300, 1e300], 4)
    np.testing.assert_allclose(found, [1e-8, 1e-8, 0.5, 0.5], rtol=1e-7)
    assert found.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(check_label_prior([0, 1, 0.5], 3), [1e-8, 1 - 1e-8, 0.5], atol=1e-15)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ([0.5, 0.5], "prior: got 2 numbers, expected 3, one a class"),
        ([[0.5, 0.2, 0.3]], r"prior: got shape \(1, 3\)"),
        (0.5, r"prior: got shape \(\)"),
        ([0.5, -0.1, 0.6], "prior: got -0.1 of class 1, expected numbers of at least 0"),
        ([0, 0, 0], "prior: got zeros only"),
        ([0.5, np.nan, 0.5], "prior: got nan of class 1, expected finite numbers"),
        ([0.5, 0.5, np.inf], "prior: got inf of class 2"),
        (["a", "b", "c"], "prior: got type <U1"),
    ],
)
def test_a_wrong_prior_is_named(prior, message):
    with pytest.raises(DataError, match=message):
        check_prior(prior, 3)


def test_a_prior_of_many_classes_is_one_of_shares():
    with pytest.raises(DataError, match=r"prior: got 1.5 of class 1, expected numbers in \[0, 1\]"):
        check_label_prior([0.5, 1.5], 2)


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: f"{case['classes']}-{case['seed']}")
def test_it_agrees_with_a_reference_implementation(case):
    seed, classes, signal = case["seed"], case["classes"], case["signal"]
    shares = 0.2 / classes + uniform(seed, classes)
    found = AdjustedCount().fit(*make(seed + 1, 100 * classes, signal, np.full(classes, 1 / classes)))
    unlabeled, _ = make(seed + 2, 2000, signal, shares / shares.sum())
    np.testing.assert_allclose(found.predict(unlabeled), case["prevalences"], rtol=0, atol=1e-10)


def test_a_planted_shift_is_found():
    shares = np.array([0.6, 0.05, 0.1, 0.25])
    found = AdjustedCount().fit(*make(1, 20_000, 1.5, [0.1, 0.4, 0.3, 0.2]))
    logits, targets = make(2, 20_000, 1.5, shares)
    np.testing.assert_allclose(found.predict(logits), prevalences(targets, 4), atol=0.02)
    assert np.abs(prevalences(logits.argmax(axis=1), 4) - shares).max() > 0.05  # what is decided for is not the answer


def test_two_classes_have_formans_answer():
    found = fit([[90, 20], [10, 80]])
    assert found.confusion_.tolist() == [[0.9, 0.2], [0.1, 0.8]]
    assert found.predict(decide([60, 40]))[1] == pytest.approx((0.4 - 0.1) / (0.8 - 0.1), abs=1e-12)
    assert found.predict(decide([100, 0])).tolist() == [1, 0]


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 15), rows=st.integers(1, 15), kind=st.integers(0, 2))
def test_no_mixture_is_nearer(seed, classes, rows, kind):
    generator = np.random.default_rng(seed)
    columns, target = generator.dirichlet(np.full(rows, 0.3), classes).T, generator.dirichlet(np.ones(rows))
    if kind == 1:
        columns[:, -1] = columns[:, 0]
    if kind == 2:
        target = columns @ generator.dirichlet(np.ones(classes))
    found = nearest_mixture(columns, target)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, abs=1e-12)
    slopes = columns.T @ (columns @ found - target)
    assert slopes @ found - slopes.min() < 1e-12  # a gap of 0 is proof: no class would be a better place to move to


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 12), rows=st.integers(1, 4))
def test_of_equal_mixtures_the_nearest_to_those_wanted_is_taken(seed, classes, rows):
    generator = np.random.default_rng(seed)
    columns = generator.dirichlet(np.ones(rows), classes).T
    weights, wanted = generator.dirichlet(np.full(classes, 0.3), 2)
    found = nearest_equivalent(columns, weights, wanted)
    np.testing.assert_allclose(columns @ found, columns @ weights, atol=1e-10)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, abs=1e-12)
    for other in generator.dirichlet(np.full(classes, 0.3), 20):
        same = nearest_equivalent(columns, weights, other)  # any point with the same mixture
        assert (wanted - found) @ (same - found) < 1e-10  # lies on the far side of the projection


def test_the_order_of_classes_and_samples_does_not_matter():
    logits, targets = make(3, 300, 1.0, [0.2] * 5)
    unlabeled, _ = make(4, 200, 1.0, [0.7, 0.1, 0.1, 0.1, 0.0])
    order, samples = np.array([3, 0, 4, 1, 2]), np.random.default_rng(0).permutation(300)
    expected = AdjustedCount().fit(logits, targets).predict(unlabeled)
    found = AdjustedCount().fit(logits[samples][:, order], np.argsort(order)[targets[samples]])
    np.testing.assert_allclose(found.predict(unlabeled[:, order]), expected[order], atol=1e-10)


def test_decisions_that_tell_nothing_give_the_known_prevalences_back():
    found = fit([[10, 30, 60], [10, 30, 60], [0, 0, 0]])
    assert found.rank_ == 1
    np.testing.assert_allclose(found.predict(decide([5, 95, 0])), [0.1, 0.3, 0.6], atol=1e-12)


def test_classes_that_cannot_be_told_apart_share_what_they_have_as_before():
    found = fit([[80, 0, 0], [0, 30, 10], [20, 0, 0]])
    assert found.rank_ == 2
    estimate = found.predict(decide([40, 50, 10]))
    np.testing.assert_allclose(estimate[0], 0.5, atol=1e-12)
    before = np.array([30, 10]) / 140
    np.testing.assert_allclose(estimate[1:], before + (0.5 - before.sum()) / 2, atol=1e-12)


def test_a_class_without_samples_is_taken_to_be_recognised():
    found = fit([[90, 20, 0], [10, 80, 0], [0, 0, 0]])
    assert found.absent_.tolist() == [False, False, True]
    np.testing.assert_allclose(found.predict(decide([30, 20, 50])), [2 / 7, 1.5 / 7, 0.5], atol=1e-12)


@pytest.mark.parametrize("labels", [np.uint8, np.float32])
def test_classes_of_many_are_counted_each_for_itself(labels):
    logits, targets = make(5, 2000, 2.0, [0.3, 0.7])
    both = np.stack([logits[:, 1] - logits[:, 0], logits[:, 0] - logits[:, 1]], axis=1)
    unlabeled, true = make(6, 2000, 2.0, [0.8, 0.2])
    others = np.stack([unlabeled[:, 1] - unlabeled[:, 0], unlabeled[:, 0] - unlabeled[:, 1]], axis=1)
    found = LabelAdjustedCount().fit(both, np.stack([targets == 1, targets == 0], axis=1).astype(labels))
    expected = AdjustedCount().fit(logits, targets).predict(unlabeled)
    np.testing.assert_allclose(found.predict(others), expected[::-1], atol=1e-10)
    assert expected[1] == pytest.approx(np.mean(true), abs=0.03)


def test_wrong_arrays_are_named_and_nothing_is_predicted_before_a_fit():
    logits, targets = make(7, 50, 1.0, [0.5, 0.5])
    with pytest.raises(DataError, match="the first in row 4"):
        AdjustedCount().fit(np.where(np.arange(50)[:, np.newaxis] == 4, np.nan, logits), targets)
    with pytest.raises(DataError, match=r"\(50,\), as there are logits"):
        AdjustedCount().fit(logits, targets[:9])
    with pytest.raises(DataError, match="2 classes"):
        AdjustedCount().fit(logits, targets).predict(np.zeros((5, 3)))
    for estimator in (AdjustedCount(), LabelAdjustedCount()):
        with pytest.raises(DataError, match="Call fit first"):
            estimator.predict(logits)
