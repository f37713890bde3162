"""Metrics of many resamples at once, against all metrics of copies of the samples."""

import numpy as np
import pytest

from foldwise import npz
from foldwise.config.metrics import Metrics
from foldwise.inference.metrics import compute_metrics
from foldwise.inference.resampled import RESAMPLED

SAMPLES, RESAMPLES = 12, 40
GENERATOR = np.random.default_rng(0)
PLACES = GENERATOR.integers(SAMPLES, size=(RESAMPLES, SAMPLES))
PLACES[0], PLACES[1], PLACES[2] = np.arange(SAMPLES), 3, [3, 4] * 6  # the samples themselves, one alone, two
WEIGHTS = np.stack([np.bincount(places, minlength=SAMPLES) for places in PLACES], axis=1).astype(np.float64)
CLASSES = np.arange(SAMPLES) % 4
ANSWERS = GENERATOR.integers(0, 2, (SAMPLES, 3), dtype=np.uint8)
VALUES = GENERATOR.normal(size=SAMPLES)
MASKS = GENERATOR.integers(0, 2, (SAMPLES, 4, 5), dtype=np.uint8)
IGNORED = np.where(GENERATOR.random(MASKS.shape) < 0.3, 255, MASKS).astype(np.uint8)
IGNORED[3] = 255


def knowing(targets, samples=SAMPLES):
    return (GENERATOR.normal(size=targets.shape) + 1.5 * targets).astype(np.float32)


DATA = {
    "classes": ("classification", knowing(np.eye(4)[CLASSES]), CLASSES),
    "two classes": ("classification", knowing(np.eye(2)[CLASSES % 2]), CLASSES % 2),
    "tied logits": ("classification", knowing(np.eye(4)[CLASSES]).round(), CLASSES),
    "a class without samples": ("classification", knowing(np.eye(5)[CLASSES]), CLASSES),
    "one class alone": ("classification", knowing(np.eye(3)[0 * CLASSES]), 0 * CLASSES),
    "answers": ("multilabel", knowing(ANSWERS), ANSWERS),
    "tied answers": ("multilabel", knowing(ANSWERS).round(), ANSWERS),
    "soft answers": ("multilabel", knowing(ANSWERS), np.where(ANSWERS, 0.8, 0.3).astype(np.float32)),
    "no answer yes": ("multilabel", knowing(0 * ANSWERS), 0 * ANSWERS),
    "values": ("regression", knowing(VALUES)[:, None], (1000 + VALUES).astype(np.float32)),
    "tied values": ("regression", knowing(VALUES).round()[:, None], VALUES.round().astype(np.float32)),
    "constant predictions": ("regression", np.full((SAMPLES, 1), 0.1, np.float32), VALUES.astype(np.float32)),
    "masks": ("segmentation", knowing(np.moveaxis(np.eye(3)[MASKS], -1, 1)).astype(np.float16), MASKS),
    "ignored pixels": ("segmentation", knowing(np.moveaxis(np.eye(3)[MASKS], -1, 1)).astype(np.float16), IGNORED),
}


@pytest.mark.parametrize(("kind", "logits", "targets"), DATA.values(), ids=DATA)
def test_all_metrics_are_those_of_the_copies(kind, logits, targets):
    names = Metrics().of(kind)
    resampled = RESAMPLED[kind](logits, targets)
    found = {name: getattr(resampled, name)(WEIGHTS) for name in names}
    expected = [compute_metrics(kind, names, logits[places], targets[places]) for places in PLACES]
    for name in names:
        np.testing.assert_allclose(found[name], [each[name] for each in expected], rtol=1e-9, atol=1e-12, err_msg=name)


def test_what_is_compared_is_defined_in_some_resamples_and_not_in_others():
    kind, logits, targets = DATA["two classes"]
    auroc = RESAMPLED[kind](logits, targets).auroc(WEIGHTS)
    assert 0 < np.isnan(auroc).sum() < RESAMPLES / 2


def test_maps_are_counted_a_few_at_a_time(monkeypatch):
    kind, logits, targets = DATA["ignored pixels"]
    whole = RESAMPLED[kind](logits, targets).dice(WEIGHTS)
    monkeypatch.setattr(npz, "CHUNK_VALUES", 150)
    np.testing.assert_array_equal(RESAMPLED[kind](logits, targets).dice(WEIGHTS), whole)
