"""Multi-label metrics against scikit-learn and against formulas written out."""

import numpy as np
import pytest
from sklearn import metrics as reference

from foldwise.config.metrics import MULTILABEL_METRICS
from foldwise.inference.multilabel import MULTILABEL, multilabel_metrics


def draw(classes=4, samples=300, seed=0):
    """Draw logits that know something about their targets."""
    generator = np.random.default_rng(seed)
    targets = (generator.random((samples, classes)) < np.linspace(0.2, 0.7, classes)).astype(np.uint8)
    logits = generator.normal(size=(samples, classes)) + 1.5 * (targets - 0.5)
    return logits.astype(np.float32), targets


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def compute(name, logits, targets):
    return multilabel_metrics([name], np.asarray(logits), np.asarray(targets))[name]


def calibration_by_hand(probabilities, targets, bins=15):
    """Sum the gaps of frequency and probability, class by class and bin by bin."""
    errors = []
    for p, y in zip(probabilities.T, targets.T, strict=True):
        inside = [(p >= k / bins) & ((p < (k + 1) / bins) | (k == bins - 1)) for k in range(bins)]
        errors.append(sum(part.mean() * abs(y[part].mean() - p[part].mean()) for part in inside if part.any()))
    return np.mean(errors)


REFERENCES = {
    "exact_match": lambda p, t: reference.accuracy_score(t, p >= 0.5),
    "hamming_accuracy": lambda p, t: 1 - reference.hamming_loss(t, p >= 0.5),
    "f1": lambda p, t: reference.f1_score(t, p >= 0.5, average="macro"),
    "f1_micro": lambda p, t: reference.f1_score(t, p >= 0.5, average="micro"),
    "auroc": lambda p, t: reference.roc_auc_score(t, p, average="macro"),
    "average_precision": lambda p, t: reference.average_precision_score(t, p, average="macro"),
    "log_loss": lambda p, t: np.mean([reference.log_loss(t[:, k], p[:, k]) for k in range(t.shape[1])]),
    "brier": lambda p, t: np.mean([reference.brier_score_loss(t[:, k], p[:, k]) for k in range(t.shape[1])]),
    "calibration_error": calibration_by_hand,
}


@pytest.mark.parametrize("name", MULTILABEL_METRICS)
def test_a_metric_agrees_with_its_reference(name):
    logits, targets = draw()
    expected = REFERENCES[name](sigmoid(logits), targets)
    assert 0.02 < expected < 0.98
    assert compute(name, logits, targets) == pytest.approx(expected, rel=1e-9)


def test_every_metric_of_the_configuration_is_there():
    assert tuple(MULTILABEL) == MULTILABEL_METRICS


@pytest.mark.parametrize("name", MULTILABEL_METRICS)
def test_a_single_class_is_enough(name):
    logits, targets = draw(classes=1)
    whole = np.hstack([logits, logits]), np.hstack([targets, targets])
    assert compute(name, logits, targets) == pytest.approx(compute(name, *whole))


PERFECT = {"exact_match", "hamming_accuracy", "f1", "f1_micro", "auroc", "average_precision"}


@pytest.mark.parametrize("name", MULTILABEL_METRICS)
def test_logits_without_fault_have_the_best_value(name):
    _, targets = draw()
    assert compute(name, 1000.0 * targets - 500, targets) == pytest.approx(float(name in PERFECT))


def test_hand_values_of_two_samples():
    logits, targets = [[2.0, -1.0], [-3.0, -0.5]], [[1, 1], [0, 0]]
    assert compute("exact_match", logits, targets) == 0.5
    assert compute("hamming_accuracy", logits, targets) == 0.75
    assert compute("f1", logits, targets) == 0.5
    assert compute("f1_micro", logits, targets) == pytest.approx(2 / 3)
    assert compute("auroc", logits, targets) == 0.5
    probabilities = sigmoid(logits)
    right = np.where(targets, probabilities, 1 - probabilities)
    assert compute("log_loss", logits, targets) == pytest.approx(-np.log(right).mean())
    assert compute("brier", logits, targets) == pytest.approx(((1 - right) ** 2).mean())


class TestSoft:
    LOGITS, HARD = draw()
    TARGETS = np.where(HARD, 0.8, 0.3).astype(np.float32)

    @pytest.mark.parametrize("name", sorted(PERFECT))
    def test_ranks_and_decisions_take_soft_targets_from_one_half_on_as_yes(self, name):
        assert compute(name, self.LOGITS, self.TARGETS) == compute(name, self.LOGITS, self.HARD)

    def test_probabilities_are_compared_with_soft_targets_as_they_are(self):
        p, y = sigmoid(self.LOGITS), self.TARGETS.astype(np.float64)
        expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
        assert compute("log_loss", self.LOGITS, self.TARGETS) == pytest.approx(expected)
        assert compute("brier", self.LOGITS, self.TARGETS) == pytest.approx(np.mean((p - y) ** 2))
        assert compute("calibration_error", self.LOGITS, self.TARGETS) == pytest.approx(calibration_by_hand(p, y))

    def test_probabilities_equal_to_soft_targets_are_perfectly_calibrated(self):
        logits = np.log(self.TARGETS / (1 - self.TARGETS))
        assert compute("calibration_error", logits, self.TARGETS) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("name", ["auroc", "average_precision"])
def test_a_class_of_one_answer_alone_is_left_out_of_the_mean(name, value):
    logits, targets = draw()
    targets[:, 1] = value
    rest = [0, 2, 3]
    assert compute(name, logits, targets) == pytest.approx(compute(name, logits[:, rest], targets[:, rest]))


def test_f1_averages_over_the_classes_with_positives():
    logits, targets = draw()
    targets[:, 1] = 0
    rest = [0, 2, 3]
    assert compute("f1", logits, targets) == pytest.approx(compute("f1", logits[:, rest], targets[:, rest]))


def test_without_any_positive_what_is_not_defined_is_nan_and_the_rest_is_not():
    found = multilabel_metrics(MULTILABEL_METRICS, -np.ones((5, 2)), np.zeros((5, 2), np.uint8))
    assert {name for name, value in found.items() if np.isnan(value)} == {
        "f1",
        "f1_micro",
        "auroc",
        "average_precision",
    }
    assert found["exact_match"] == 1


def test_a_sure_mistake_costs_its_logit_and_not_infinity():
    assert compute("log_loss", [[1000.0], [-1000.0]], [[0], [1]]) == pytest.approx(1000.0)
