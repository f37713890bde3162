"""Objectives of classification, by hand and against each other."""

import numpy as np
import pytest
import torch

from foldwise.config.pipeline import CrossEntropy, Focal
from foldwise.errors import ConfigError
from foldwise.training.losses import build_loss

CLASSES = ("a", "b", "c")
LABELS = np.array([0, 1, 1, 2, 2, 2, 2])
LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0], [0.0, 0.0, 3.0], [-1.0, 2.0, 0.3]], dtype=torch.float64)
TARGETS = torch.tensor([0, 2, 2, 1])
WEIGHTS = [1.0, 2.0, 0.5]


def build(labels=LABELS, **keys):
    kind = Focal if keys.get("name") == "focal" else CrossEntropy
    return build_loss(kind(**keys), labels, CLASSES).double()


def right_probabilities():
    """Return the probability of the right class of each sample, computed without torch's losses."""
    exponentials = np.exp(LOGITS.numpy())
    return (exponentials / exponentials.sum(axis=1, keepdims=True))[np.arange(4), TARGETS.numpy()]


@pytest.mark.parametrize("name", ["auto", "cross_entropy"])
def test_classification_minimises_cross_entropy(name):
    assert build(name=name)(LOGITS, TARGETS).item() == pytest.approx(-np.log(right_probabilities()).mean())


def test_label_smoothing_spreads_a_share_of_the_target_evenly():
    log_probabilities = LOGITS.log_softmax(1).numpy()
    expected = 0.7 * np.log(right_probabilities()).mean() + 0.3 * log_probabilities.mean()
    assert build(label_smoothing=0.3)(LOGITS, TARGETS).item() == pytest.approx(-expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS, "auto"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_focal_loss_of_gamma_0_is_cross_entropy_with_its_gradient(weights, smoothing):
    found = []
    for keys in ({"name": "focal", "gamma": 0.0}, {"name": "cross_entropy"}):
        logits = LOGITS.clone().requires_grad_()
        loss = build(class_weights=weights, label_smoothing=smoothing, **keys)(logits, TARGETS)
        loss.backward()
        found.append(torch.cat([loss.detach()[None], logits.grad.flatten()]))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_by_hand(gamma):
    right = right_probabilities()
    losses = (1 - right) ** gamma * -np.log(right)
    assert build(name="focal", gamma=gamma)(LOGITS, TARGETS).item() == pytest.approx(losses.mean())
    weights = np.array(WEIGHTS)[TARGETS.numpy()]
    weighted = build(name="focal", gamma=gamma, class_weights=WEIGHTS)(LOGITS, TARGETS)
    assert weighted.item() == pytest.approx((weights * losses).sum() / weights.sum())


def test_focal_loss_has_a_finite_slope_at_a_sample_without_doubt():
    logits = torch.tensor([[200.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    build(name="focal", gamma=0.5)(logits, torch.tensor([0])).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_automatic_class_weights_are_inverse_to_the_training_frequency_with_mean_1(name):
    weight = build(name=name, class_weights="auto").weight
    assert weight.tolist() == pytest.approx(np.array([4.0, 2.0, 1.0]) / 7 * 3)


def test_a_class_without_training_samples_leaves_automatic_weights_finite():
    weight = build(labels=np.array([0, 0, 2]), class_weights="auto").weight
    assert torch.isfinite(weight).all()
    assert (weight[2] / weight[0]).item() == pytest.approx(2.0)


def test_listed_class_weights_belong_to_the_classes_in_order():
    loss = build(class_weights=WEIGHTS)
    assert loss.weight.tolist() == WEIGHTS
    weights = np.array(WEIGHTS)[TARGETS.numpy()]
    expected = (weights * -np.log(right_probabilities())).sum() / weights.sum()
    assert loss(LOGITS, TARGETS).item() == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 4])
def test_a_wrong_number_of_class_weights_is_told_with_the_classes(count):
    with pytest.raises(ConfigError, match=rf"loss\.class_weights: got .*{count} weights.*expected 3,.* a, b, c"):
        build(class_weights=[1.0] * count)
