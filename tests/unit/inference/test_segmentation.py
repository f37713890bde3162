"""Metrics of segmentation, streamed, against scikit-learn on all pixels at once."""

import numpy as np
import pytest
from sklearn import metrics as reference

from foldwise import npz
from foldwise.config.metrics import SEGMENTATION_METRICS
from foldwise.inference.segmentation import SEGMENTATION, Confusion, segmentation_metrics

GENERATOR = np.random.default_rng(0)
TARGETS = GENERATOR.integers(0, 3, (6, 5, 4), dtype=np.uint8)
LOGITS = (GENERATOR.normal(size=(6, 3, 5, 4)) + 1.5 * np.moveaxis(np.eye(3)[TARGETS], -1, 1)).astype(np.float16)
IGNORED = np.where(GENERATOR.random(TARGETS.shape) < 0.3, 255, TARGETS).astype(np.uint8)
REFERENCES = {
    "dice": lambda p, t: reference.f1_score(t, p, average="macro"),
    "iou": lambda p, t: reference.jaccard_score(t, p, average="macro"),
    "pixel_accuracy": lambda p, t: reference.accuracy_score(t, p),
}


def compute(logits, targets):
    return segmentation_metrics(SEGMENTATION_METRICS, logits, targets)


@pytest.mark.parametrize("targets", [TARGETS, IGNORED], ids=["all known", "some ignored"])
@pytest.mark.parametrize("name", SEGMENTATION_METRICS)
def test_a_metric_agrees_with_its_reference_over_known_pixels(name, targets):
    known = targets != 255
    expected = REFERENCES[name](LOGITS.argmax(axis=1)[known], targets[known])
    assert 0.3 < expected < 0.95
    assert compute(LOGITS, targets)[name] == pytest.approx(expected)


def test_every_metric_of_the_configuration_is_there():
    assert tuple(SEGMENTATION) == SEGMENTATION_METRICS


def test_samples_are_read_a_few_at_a_time_and_counted_together(monkeypatch):
    whole = compute(LOGITS, IGNORED)
    monkeypatch.setattr(npz, "CHUNK_VALUES", 150)
    assert compute(LOGITS, IGNORED) == whole


def test_logits_of_ignored_pixels_do_not_matter():
    other = np.where((IGNORED == 255)[:, None], -LOGITS, LOGITS)
    assert (other.argmax(axis=1) != LOGITS.argmax(axis=1)).any()
    assert compute(other, IGNORED) == compute(LOGITS, IGNORED)


def test_hand_values():
    confusion = Confusion(3)
    confusion.add(np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 255]], np.uint8))
    assert confusion.counts.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    found = confusion.metrics(SEGMENTATION_METRICS)
    assert found == pytest.approx({"dice": 2 / 3, "iou": 0.5, "pixel_accuracy": 2 / 3})


def test_a_class_that_is_predicted_but_not_there_counts_as_missed():
    confusion = Confusion(3)
    confusion.add(np.array([0, 0, 0, 2]), np.zeros(4, np.uint8))
    assert confusion.metrics(["dice"])["dice"] == pytest.approx((2 * 3 / 7 + 0) / 2)


def test_a_perfect_prediction_has_the_best_values():
    logits = np.moveaxis(np.eye(3, dtype=np.float16)[TARGETS], -1, 1)
    assert set(compute(logits, IGNORED).values()) == {1.0}


def test_many_classes_have_room():
    targets = np.arange(255, dtype=np.uint8)[None]
    confusion = Confusion(255)
    confusion.add(targets, targets)
    assert confusion.metrics(SEGMENTATION_METRICS) == {"dice": 1.0, "iou": 1.0, "pixel_accuracy": 1.0}


def test_without_known_pixels_nothing_is_defined():
    found = compute(LOGITS, np.full_like(TARGETS, 255))
    assert np.isnan(list(found.values())).all()
