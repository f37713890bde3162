"""Calibration: known answers, optimality, invariances, and what cannot be estimated."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, logit, ndtri, softmax

from foldwise.errors import DataError
from foldwise.post.calibration import AffineCalibration, BinaryCalibration

REFERENCE = json.loads((Path(__file__).parent / "reference/calibration.json").read_text())["problems"]


def uniform(seed, size):
    raw = np.random.PCG64(seed).random_raw(size)  # the same in all versions of NumPy
    return ((raw >> np.uint64(11)) + 0.5) * 2.0**-53


def make(seed=0, samples=300, classes=4, signal=2.5, factor=1.0, offset=0.0):
    """Make logits that are twice too large and shifted, with targets of uneven frequency."""
    draws = uniform(seed, samples * classes + 2 * classes)
    tilt, shift, noise = np.split(draws, [classes, 2 * classes])
    targets = np.arange(samples) % classes
    targets = np.where(tilt[targets] * samples / classes < np.arange(samples) // classes, 0, targets)
    logits = ndtri(noise).reshape(samples, classes)
    logits[np.arange(samples), targets] += signal
    return factor * (2 * logits + ndtri(shift)) + offset, targets


def make_labels(seed=0, samples=200, classes=3):
    draws = uniform(seed, 2 * samples * classes).reshape(2, samples, classes)
    labels = (draws[0] < 0.3).astype(np.uint8)
    return 3 * ndtri(draws[1]) + 4 * labels - 1, labels


def weigh(targets, prior):
    return (prior / np.bincount(targets, minlength=len(prior)))[targets]


def loss(log_probabilities, targets, prior):
    return -weigh(targets, prior) @ log_probabilities[np.arange(len(targets)), targets]


def slopes(model, logits, targets):
    """Derivatives of the weighted log-loss by scale, for logits of spread 1, and by bias, relative to the prior."""
    residual = model.predict_proba(logits) - np.eye(logits.shape[1])[targets]
    residual *= weigh(targets, model.prior_)[:, np.newaxis]
    spread = logits - logits.mean(axis=0)
    return np.append(np.sum(residual * spread) / spread.std(), residual.sum(axis=0) / model.prior_)


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: f"{case['classes']}-{case['kind']}-{case['prior']}")
def test_it_agrees_with_a_reference_implementation(case):
    names = ("seed", "samples", "classes", "signal", "factor", "offset")
    logits, targets = make(**{name: case[name] for name in names})
    shares = 0.05 + uniform(case["seed"] + 500, case["classes"])
    found = AffineCalibration(None if case["prior"] == "val" else shares).fit(logits, targets)
    expected = np.array(case["log_probabilities"])
    rows = range(len(expected))
    own = found.predict_log_proba(logits[rows])
    if case["kind"] == "separable":  # the other classes have as low a probability as the penalty leaves them
        own, expected = own[rows, targets[rows]], expected[rows, targets[rows]]
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("prior", [None, [0.9, 0.1], [1.0, 3.0]])
def test_scale_and_bias_of_two_classes_are_those_of_the_observed_odds_under_any_prior(prior):
    positive = np.repeat([True, False], 100)
    targets = np.concatenate([np.arange(100) < 80, np.arange(100) < 30]).astype(int)
    logits = np.stack([np.zeros(200), np.where(positive, 7.0, 3.0)], axis=1)
    found = AffineCalibration(prior).fit(logits, targets)
    likelihood = logit([0.8, 0.3]) - logit(0.55)
    scale = (likelihood[0] - likelihood[1]) / 4
    assert found.scale_ == pytest.approx(scale, abs=1e-6)
    assert found.bias_[1] - found.bias_[0] == pytest.approx(likelihood[0] - 7 * scale, abs=1e-5)
    assert found.bias_.sum() == pytest.approx(0, abs=1e-12)


def test_a_planted_scale_bias_and_prior_shift_are_recovered():
    generator = np.random.default_rng(0)
    bias, prior = np.array([-1.0, 0.5, 0.2, 0.3]), np.array([0.1, 0.2, 0.3, 0.4])
    logits = generator.normal(size=(40_000, 4)) * 3
    posterior = softmax(0.7 * logits + bias + np.log(prior), axis=1)
    targets = (posterior.cumsum(axis=1) < generator.random((40_000, 1))).sum(axis=1)
    found = AffineCalibration().fit(logits, targets)
    shares = np.bincount(targets) / len(targets)
    assert found.scale_ == pytest.approx(0.7, rel=0.02)
    planted = bias + np.log(prior) - np.log(shares)
    np.testing.assert_allclose(found.bias_, planted - planted.mean(), atol=0.05)
    rates = prior[::-1] / shares
    kept = generator.random(40_000) < (rates / rates.max())[targets]
    shifted = AffineCalibration(prior[::-1]).fit(logits, targets)
    calibrated = shifted.predict_proba(logits[kept])
    np.testing.assert_allclose(calibrated.mean(axis=0), np.bincount(targets[kept]) / kept.sum(), atol=0.01)


@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 12),
    signal=st.floats(0, 3),
    exponent=st.integers(-6, 6),
    data=st.data(),
)
def test_no_other_scale_and_bias_are_better(seed, classes, signal, exponent, data):
    logits, targets = make(seed, 30 * classes, classes, signal, 10.0**exponent)
    prior = data.draw(st.none() | st.lists(st.floats(0.01, 1), min_size=classes, max_size=classes))
    found = AffineCalibration(prior).fit(logits, targets)
    assume(found.log_loss_after_ > 0.01)  # else the penalty counts as well
    steepest = slopes(found, logits, targets)
    if found.scale_ * logits.std() < 1e-4:
        assert steepest[0] > -1e-6  # a smaller scale would be better still
    else:
        np.testing.assert_allclose(steepest, 0, atol=1e-6)
    assert found.log_loss_after_ <= found.log_loss_before_ + 1e-7


@pytest.mark.parametrize("prior", [None, [0.5, 0.1, 0.2, 0.2]])
def test_losses_are_weighted_by_prior_over_frequency(prior):
    logits, targets = make()
    found = AffineCalibration(prior).fit(logits, targets)
    used = np.bincount(targets) / len(targets) if prior is None else np.array(prior)
    assert found.log_loss_before_ == pytest.approx(loss(log_softmax(logits, axis=1), targets, used))
    assert found.log_loss_after_ == pytest.approx(loss(found.predict_log_proba(logits), targets, used))
    np.testing.assert_allclose(found.prior_, used)


def test_predictions_are_the_documented_map():
    logits, targets = make()
    found = AffineCalibration([4, 3, 2, 1]).fit(logits, targets)
    expected = log_softmax(found.scale_ * logits + found.bias_ + np.log([0.4, 0.3, 0.2, 0.1]), axis=1)
    np.testing.assert_allclose(found.predict_log_proba(logits), expected, atol=1e-12)
    np.testing.assert_allclose(found.predict_proba(logits).sum(axis=1), 1)


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_the_order_of_samples_and_of_classes_does_not_matter(classes):
    logits, targets = make(3, 40 * classes, classes)
    prior = 0.1 + uniform(9, classes)
    expected = AffineCalibration(prior).fit(logits, targets)
    samples, order = np.random.default_rng(1).permutation(len(logits)), np.random.default_rng(2).permutation(classes)
    found = AffineCalibration(prior[order]).fit(logits[samples][:, order], np.argsort(order)[targets[samples]])
    assert found.scale_ == pytest.approx(expected.scale_, abs=1e-8)
    np.testing.assert_allclose(found.bias_, expected.bias_[order], atol=1e-8)


@pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
def test_scale_and_shifts_of_logits_change_nothing(factor):
    logits, targets = make(4, classes=5)
    shifts = np.random.default_rng(0)
    moved = factor * (logits + 1e3 * shifts.normal(size=5) + 1e3 * shifts.normal(size=(len(logits), 1)))
    expected = AffineCalibration().fit(logits, targets).predict_log_proba(logits)
    np.testing.assert_allclose(AffineCalibration().fit(moved, targets).predict_log_proba(moved), expected, atol=1e-7)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("signal", [20.0, 1e4])
def test_samples_that_can_be_separated_have_a_finite_answer(classes, signal):
    logits, targets = make(5, 5 * classes, classes, signal)
    found = AffineCalibration().fit(logits, targets)
    assert np.isfinite(found.scale_)
    assert np.isfinite(found.bias_).all()
    assert found.log_loss_after_ < 1e-6
    assert np.isfinite(found.predict_log_proba(logits)).all()
    assert found.n_iter_ < 60


def test_one_sample_a_class_is_enough():
    found = AffineCalibration().fit(np.eye(6), np.arange(6))
    assert found.log_loss_after_ < 1e-6
    assert np.isfinite(found.predict_log_proba(np.eye(6))).all()


@pytest.mark.parametrize("outlier", [1e7, 1e38])
def test_outliers_among_logits_do_no_harm(outlier):
    logits, targets = make(6)
    expected = AffineCalibration().fit(logits, targets)
    logits[7, targets[7]] = outlier
    logits[10:50, 1] = np.where(targets[10:50] == 1, logits[10:50, 1], -outlier)  # as what is masked may have
    found = AffineCalibration().fit(logits, targets)
    assert found.scale_ == pytest.approx(expected.scale_, rel=0.1)


def hostile(kind, generator, targets):
    logits = generator.normal(size=(len(targets), 4)) + 2 * np.eye(4)[targets]
    match kind:
        case "heavy tails":
            return generator.standard_cauchy(logits.shape) ** 3 + logits
        case "truth masked":
            return np.where(generator.random(logits.shape) < 0.3, -1e9, logits)
        case "classes of all scales":
            return logits * [1e-6, 1, 1e3, 1e6]
        case "samples of all scales":
            return logits * 10 ** generator.uniform(-6, 6, size=(len(targets), 1))
    return np.round(logits)


@pytest.mark.parametrize(
    "kind", ["heavy tails", "truth masked", "classes of all scales", "samples of all scales", "ties"]
)
@pytest.mark.parametrize("prior", [None, [1, 0, 0, 0]])
def test_nothing_nearby_is_better_for_logits_of_any_kind(kind, prior):
    generator = np.random.default_rng(0)
    targets = np.arange(200) % 4
    logits = hostile(kind, generator, targets)
    found = AffineCalibration(prior).fit(logits, targets)
    assert found.n_iter_ < 60
    scale, bias, best = found.scale_, found.bias_, found.log_loss_after_
    assert best < found.log_loss_before_
    for change in generator.normal(size=(50, 5)) * 0.1:
        found.scale_, found.bias_ = scale * np.exp(change[0]), bias + change[1:]
        assert loss(found.predict_log_proba(logits), targets, found.prior_) > best - 1e-7


@pytest.mark.parametrize(
    "logits", [np.zeros((90, 3)), np.tile([0.1, 1e6, -3.3], (90, 1)), -5 * np.eye(3)[np.arange(90) % 3]]
)
def test_logits_that_tell_nothing_or_the_contrary_give_the_prior(logits):
    found = AffineCalibration([0.2, 0.3, 0.5]).fit(logits, np.arange(90) % 3)
    assert found.scale_ > 0
    np.testing.assert_allclose(found.predict_proba(logits), np.tile([0.2, 0.3, 0.5], (90, 1)), atol=1e-5)


def test_a_prior_of_zero_becomes_small_and_changes_little_for_the_others():
    logits, targets = make(7)
    found = AffineCalibration([0, 1, 1, 1]).fit(logits, targets)
    assert found.prior_[0] == pytest.approx(1e-8)
    rest = targets > 0
    expected = AffineCalibration([1, 1, 1]).fit(logits[rest][:, 1:], targets[rest] - 1)
    assert found.scale_ == pytest.approx(expected.scale_, rel=1e-4)


def test_a_class_without_samples_keeps_its_place_and_gets_its_prior():
    logits, targets = make(8, classes=3)
    full = np.insert(logits, 1, logits.mean(axis=1), axis=1)
    prior = np.array([0.3, 0.1, 0.4, 0.2])
    found = AffineCalibration(prior).fit(full, np.array([0, 2, 3])[targets])
    expected = AffineCalibration(prior[[0, 2, 3]]).fit(logits, targets)
    assert found.absent_.tolist() == [False, True, False, False]
    assert found.bias_[1] == 0
    assert found.scale_ == pytest.approx(expected.scale_)
    np.testing.assert_allclose(found.bias_[[0, 2, 3]], expected.bias_, atol=1e-9)
    assert found.log_loss_after_ == pytest.approx(expected.log_loss_after_)
    proba = found.predict_proba(full)
    rest = proba[:, [0, 2, 3]] / proba[:, [0, 2, 3]].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(rest, expected.predict_proba(logits), atol=1e-9)
    doubled = AffineCalibration(prior * [1, 2, 1, 1]).fit(full, np.array([0, 2, 3])[targets]).predict_proba(full)
    np.testing.assert_allclose(doubled[:, 1] / doubled[:, 0], 2 * proba[:, 1] / proba[:, 0], rtol=1e-6)


def test_with_samples_of_one_class_only_logits_stay_and_the_prior_applies():
    logits, _ = make(9)
    found = AffineCalibration([0.1, 0.2, 0.3, 0.4]).fit(logits, np.full(len(logits), 2))
    assert found.scale_ == 1
    assert not found.bias_.any()
    assert found.log_loss_after_ == 0
    np.testing.assert_allclose(found.predict_log_proba(logits), log_softmax(logits + np.log(found.prior_), axis=1))


def spoil(array, place, value):
    array = np.array(array, dtype=float)
    array[place] = value
    return array


LOGITS, TARGETS = make()


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (
            spoil(LOGITS, ([5, 9], [1, 0]), np.nan),
            TARGETS,
            "logits: got 2 values not finite, the first in row 5",
        ),
        (spoil(LOGITS, (7, 1), np.inf), TARGETS, "logits: got 1 value not finite, the first in row 7"),
        (LOGITS[:, 0], TARGETS, r"logits: got shape \(300,\)"),
        (LOGITS[:, :1], TARGETS, "2 or more classes"),
        (LOGITS[:0], TARGETS, "1 or more samples"),
        (LOGITS.astype(str), TARGETS, "logits: got type <U"),
        (LOGITS, TARGETS[:-1], r"targets: got shape \(299,\), expected \(300,\), as there are logits"),
        (LOGITS, TARGETS.astype(float), "targets: got type float64, expected whole numbers"),
        (LOGITS, spoil(TARGETS, 3, 4).astype(int), "targets: got 1 value outside of 0 to 3, the first in row 3"),
        (LOGITS, spoil(TARGETS, 0, -1).astype(int), "the first in row 0"),
    ],
)
def test_wrong_arrays_are_named(logits, targets, message):
    with pytest.raises(DataError, match=message):
        AffineCalibration().fit(logits, targets)


def test_a_wrong_prior_or_penalty_is_named_and_nothing_is_predicted_before_a_fit():
    with pytest.raises(DataError, match="prior: got 3 numbers, expected 4, one a class"):
        AffineCalibration([1, 1, 1]).fit(LOGITS, TARGETS)
    with pytest.raises(DataError, match="regularization: got 0"):
        AffineCalibration(regularization=0).fit(LOGITS, TARGETS)
    with pytest.raises(DataError, match=r"AffineCalibration: got nothing.*Call fit first"):
        AffineCalibration().predict_proba(LOGITS)
    with pytest.raises(DataError, match="4 classes"):
        AffineCalibration().fit(LOGITS, TARGETS).predict_proba(LOGITS[:, :3])


@pytest.mark.parametrize("prior", [None, [0.2, 0.5, 0.9]])
def test_each_class_of_many_is_calibrated_like_two_classes(prior):
    logits, labels = make_labels()
    found = BinaryCalibration(prior).fit(logits, labels)
    losses = []
    for k in range(3):
        pair = None if prior is None else [1 - prior[k], prior[k]]
        columns = np.stack([np.zeros(len(logits)), logits[:, k]], axis=1)
        expected = AffineCalibration(pair).fit(columns, labels[:, k].astype(int))
        assert found.scale_[k] == pytest.approx(expected.scale_, rel=1e-5)
        np.testing.assert_allclose(found.predict_proba(logits)[:, k], expected.predict_proba(columns)[:, 1], atol=1e-6)
        losses.append((expected.log_loss_before_, expected.log_loss_after_))
    expected = np.mean(losses, axis=0)
    np.testing.assert_allclose([found.log_loss_before_, found.log_loss_after_], expected, atol=1e-6)


def test_probabilities_of_many_classes_are_the_documented_map():
    logits, labels = make_labels()
    found = BinaryCalibration([0.2, 0.5, 0.9]).fit(logits, labels)
    calibrated = found.scale_ * logits + found.bias_ + logit([0.2, 0.5, 0.9])
    np.testing.assert_allclose(found.decision_function(logits), calibrated)
    np.testing.assert_allclose(found.predict_proba(logits), expit(calibrated))
    np.testing.assert_allclose(np.exp(found.predict_log_proba(logits)), expit(calibrated))


def test_a_label_of_a_half_counts_as_half_a_sample_of_each():
    logits, labels = make_labels()
    doubled = np.concatenate([logits, logits])
    shares = np.concatenate([labels, 1 - labels]).astype(float)
    found = BinaryCalibration().fit(np.concatenate([doubled, logits]), np.concatenate([shares, labels]))
    half = BinaryCalibration().fit(np.concatenate([logits, logits, logits]), np.full((600, 3), 0.5) * 1.0)
    assert (half.scale_ * logits.std() < 1e-5).all()
    mixed = BinaryCalibration().fit(logits, (1 + labels) / 3)  # two thirds or one third of a sample
    np.testing.assert_allclose(mixed.scale_, found.scale_, rtol=1e-6)
    np.testing.assert_allclose(mixed.predict_proba(logits), found.predict_proba(logits), atol=1e-7)


@pytest.mark.parametrize("prior", [None, [0.2, 0.5, 0.9]])
def test_a_class_that_no_sample_or_every_sample_has_stays_as_it_is(prior):
    logits, labels = make_labels()
    labels[:, 0], labels[:, 2] = 0, 1
    found = BinaryCalibration(prior).fit(logits, labels)
    assert found.absent_.tolist() == [True, False, True]
    np.testing.assert_allclose(found.predict_proba(logits)[:, [0, 2]], expit(logits[:, [0, 2]]), atol=1e-12)
    assert found.n_iter_.tolist() == [0, found.n_iter_[1], 0]


@pytest.mark.parametrize("factor", [1e-6, 1, 1e6])
def test_classes_of_many_that_can_be_separated_or_tell_the_contrary_have_a_finite_answer(factor):
    _, labels = make_labels()
    logits = factor * (labels * [4.0, -4.0, 0.0] + 1e3)
    found = BinaryCalibration().fit(logits, labels)
    assert (found.scale_ > 0).all()
    proba = found.predict_proba(logits)
    np.testing.assert_allclose(proba[:, 0], labels[:, 0], atol=1e-5)
    np.testing.assert_allclose(proba[:, 1:], np.tile(labels[:, 1:].mean(axis=0), (len(labels), 1)), atol=1e-5)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros((200, 2)), r"shape \(200, 2\), expected \(200, 3\)"),
        (np.full((200, 3), np.nan), "600 values outside of"),
        (np.full((200, 3), 2), "the first in row 0"),
        (np.full((200, 3), "a"), "type <U1"),
    ],
)
def test_wrong_labels_of_many_classes_are_named(targets, message):
    with pytest.raises(DataError, match=message):
        BinaryCalibration().fit(make_labels()[0], targets)


def test_calibration_and_priors_import_little():
    code = "import sys; import foldwise.post.calibration, foldwise.post.priors; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, check=True)
    assert not {"torch", "sklearn", "pandas", "scipy.optimize"} & set(run.stdout.decode().split())
