"""Metrics of classification against scikit-learn and against formulas written out."""

import numpy as np
import pytest
from sklearn import metrics as reference

from foldwise.config.metrics import CLASSIFICATION_METRICS
from foldwise.inference.classification import CLASSIFICATION, classification_metrics
from foldwise.inference.metrics import finite_or_none


def draw(classes, samples=200, seed=0):
    """Draw logits that know something about their targets."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(classes, size=samples)
    logits = generator.normal(size=(samples, classes)) + 1.5 * np.eye(classes)[targets]
    return logits.astype(np.float32), targets


def softmax(logits):
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def compute(name, logits, targets):
    return classification_metrics([name], np.asarray(logits), np.asarray(targets))[name]


def expected_calibration_error(probabilities, targets, bins=15):
    """Sum the gaps of accuracy and confidence bin by bin."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    total = 0.0
    for k in range(bins):
        inside = (confidence >= k / bins) & ((confidence < (k + 1) / bins) | (k == bins - 1))
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


REFERENCES = {
    "accuracy": lambda p, t: reference.accuracy_score(t, p.argmax(1)),
    "balanced_accuracy": lambda p, t: reference.balanced_accuracy_score(t, p.argmax(1)),
    "f1": lambda p, t: reference.f1_score(t, p.argmax(1), average="macro"),
    "mcc": lambda p, t: reference.matthews_corrcoef(t, p.argmax(1)),
    "auroc": lambda p, t: np.mean([reference.roc_auc_score(t == k, p[:, k]) for k in range(p.shape[1])]),
    "average_precision": lambda p, t: reference.average_precision_score(np.eye(p.shape[1])[t], p, average="macro"),
    "log_loss": lambda p, t: reference.log_loss(t, p),
    "brier": lambda p, t: ((p - np.eye(p.shape[1])[t]) ** 2).sum(axis=1).mean(),
    "calibration_error": expected_calibration_error,
}


@pytest.mark.parametrize("name", CLASSIFICATION_METRICS)
@pytest.mark.parametrize("classes", [2, 5])
def test_a_metric_agrees_with_its_reference(name, classes):
    logits, targets = draw(classes)
    expected = REFERENCES[name](softmax(logits), targets)
    assert 0.02 < expected < 1.5
    assert compute(name, logits, targets) == pytest.approx(expected, rel=1e-9)


def test_auroc_of_many_classes_is_one_against_the_rest():
    logits, targets = draw(5)
    expected = reference.roc_auc_score(targets, softmax(logits), multi_class="ovr", average="macro")
    assert compute("auroc", logits, targets) == pytest.approx(expected)


def test_every_metric_of_the_configuration_is_computed_in_the_order_asked_for():
    assert tuple(CLASSIFICATION) == CLASSIFICATION_METRICS
    names = list(reversed(CLASSIFICATION_METRICS))
    found = classification_metrics(names, *draw(3))
    assert list(found) == names
    assert all(type(value) is float for value in found.values())


PERFECT = {"accuracy", "balanced_accuracy", "f1", "auroc", "average_precision", "mcc"}


@pytest.mark.parametrize("name", CLASSIFICATION_METRICS)
def test_logits_without_fault_have_the_best_value(name):
    targets = np.arange(12) % 3
    assert compute(name, 1000 * np.eye(3)[targets], targets) == pytest.approx(float(name in PERFECT))


def test_hand_values_of_two_samples():
    logits, targets = np.log([[0.8, 0.2], [0.7, 0.3]]), [0, 1]
    assert compute("accuracy", logits, targets) == 0.5
    assert compute("log_loss", logits, targets) == pytest.approx(-(np.log(0.8) + np.log(0.3)) / 2)
    assert compute("brier", logits, targets) == pytest.approx((2 * 0.2**2 + 2 * 0.7**2) / 2)
    assert compute("calibration_error", logits, targets) == pytest.approx((0.2 + 0.7) / 2)
    assert compute("auroc", logits, targets) == 1.0


def test_samples_in_one_bin_of_confidence_make_up_for_each_other():
    logits = np.log([[0.75, 0.25]] * 4)
    assert compute("calibration_error", logits, [0, 0, 0, 1]) == pytest.approx(0.0)


def test_ranking_does_not_saturate_where_probabilities_round_to_one():
    logits = [[60.0, 0.0], [70.0, 0.0], [80.0, 0.0], [90.0, 0.0]]
    assert compute("auroc", logits, [1, 1, 0, 0]) == 1.0


def test_a_sure_mistake_costs_its_logit_and_not_infinity():
    assert compute("log_loss", [[1000.0, 0.0]], [1]) == pytest.approx(1000.0)


@pytest.mark.parametrize("name", ["auroc", "average_precision"])
def test_a_class_without_samples_is_left_out_of_the_mean(name):
    logits, targets = draw(3)
    logits, targets = logits[targets != 1], targets[targets != 1]
    score = {"auroc": reference.roc_auc_score, "average_precision": reference.average_precision_score}[name]
    expected = np.mean([score(targets == k, softmax(logits)[:, k]) for k in (0, 2)])
    assert compute(name, logits, targets) == pytest.approx(expected)


def test_f1_averages_over_the_classes_that_occur():
    logits = np.eye(3)[[0, 0, 2, 1]]
    assert compute("f1", logits, [0, 0, 2, 2]) == pytest.approx((1.0 + 2 / 3) / 2)


def test_what_is_not_defined_becomes_none():
    found = finite_or_none(classification_metrics(CLASSIFICATION_METRICS, np.eye(3)[[0, 1, 0]], np.zeros(3, int)))
    assert found["auroc"] is None
    assert found["average_precision"] is None
    assert found["accuracy"] == pytest.approx(2 / 3)
