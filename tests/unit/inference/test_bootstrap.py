"""Intervals by resampling: which samples are drawn, and what becomes of the values."""

import numpy as np
import pytest

from foldwise.config.metrics import CLASSIFICATION_METRICS
from foldwise.inference import bootstrap
from foldwise.inference.bootstrap import Bootstrap, bootstrap_metrics, draw_weights, percentile_interval
from foldwise.inference.metrics import compute_metrics

SAMPLES = 60
IDS = np.array([f"s{number}" for number in range(SAMPLES)])
GENERATOR = np.random.default_rng(0)
TARGETS = GENERATOR.integers(3, size=SAMPLES)
LOGITS = (GENERATOR.normal(size=(SAMPLES, 3)) + np.eye(3)[TARGETS]).astype(np.float32)


def draw(ids=IDS, resamples=50, seed=42):
    return np.concatenate(list(draw_weights(ids, resamples, seed)), axis=1)


def replicates(names, resamples=50, seed=42, order=slice(None), logits=LOGITS):
    found = bootstrap_metrics("classification", names, logits[order], TARGETS[order], IDS[order], resamples, seed)
    return {name: values.replicates for name, values in found.items()}


class TestDraws:
    def test_each_resample_holds_as_many_samples_as_there_are(self):
        weights = draw()
        assert weights.shape == (SAMPLES, 50)
        assert (weights.sum(axis=0) == SAMPLES).all()
        assert np.array_equal(weights, weights.round())

    def test_every_sample_is_as_likely(self):
        weights = draw(IDS[:10], 20_000)
        np.testing.assert_allclose(weights.mean(axis=1), 1, atol=0.03)
        np.testing.assert_allclose(weights.var(axis=1), 0.9, atol=0.03)

    def test_the_order_of_samples_does_not_matter_to_which_are_drawn(self):
        order = np.random.default_rng(1).permutation(SAMPLES)
        assert np.array_equal(draw(IDS[order]), draw()[order])

    def test_more_resamples_begin_with_the_same(self):
        assert np.array_equal(draw(resamples=80)[:, :50], draw())

    def test_how_many_are_drawn_at_a_time_does_not_matter(self, monkeypatch):
        whole = draw()
        monkeypatch.setattr(bootstrap, "BLOCK_VALUES", 7 * SAMPLES)
        assert [part.shape[1] for part in draw_weights(IDS, 50, 42)] == [7] * 7 + [1]
        assert np.array_equal(draw(), whole)

    @pytest.mark.parametrize(
        "other", [{"seed": 43}, {"ids": np.where(IDS == "s7", "t7", IDS)}], ids=["seed", "one other sample"]
    )
    def test_another_seed_or_other_samples_are_drawn_independently(self, other):
        correlation = np.corrcoef(draw(resamples=500).ravel(), draw(resamples=500, **other).ravel())[0, 1]
        assert abs(correlation) < 0.03


def test_values_are_those_of_copies_of_the_samples_drawn():
    found = replicates(CLASSIFICATION_METRICS, resamples=20)
    for number, counts in enumerate(draw(resamples=20).T.astype(int)):
        places = np.repeat(np.arange(SAMPLES), counts)
        expected = compute_metrics("classification", CLASSIFICATION_METRICS, LOGITS[places], TARGETS[places])
        assert {name: values[number] for name, values in found.items()} == pytest.approx(expected, rel=1e-9)


def test_models_on_the_same_samples_meet_the_same_resamples_in_any_order():
    order = np.random.default_rng(1).permutation(SAMPLES)
    one, other = replicates(["accuracy"]), replicates(["accuracy"], order=order)
    np.testing.assert_allclose(one["accuracy"], other["accuracy"], rtol=1e-12)
    worse = replicates(["accuracy"], logits=LOGITS + GENERATOR.normal(size=LOGITS.shape))
    assert np.corrcoef(one["accuracy"], worse["accuracy"])[0, 1] > 0.3


def test_own_metrics_see_the_samples_drawn(tmp_path, monkeypatch):
    code = "def share(logits, targets):\n    return (logits.argmax(axis=1) == targets).mean()\n"
    (tmp_path / "my_share_of_test.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    found = replicates(["my_share_of_test:share", "accuracy"])
    assert list(found) == ["my_share_of_test:share", "accuracy"]
    np.testing.assert_allclose(found["my_share_of_test:share"], found["accuracy"], rtol=1e-12)


def test_the_interval_of_accuracy_is_that_of_its_standard_error():
    generator = np.random.default_rng(0)
    right = generator.random(2000) < 0.8
    logits, targets = np.eye(2)[np.where(right, 0, 1)], np.zeros(2000, int)
    ids = np.array([f"{number}" for number in range(2000)])
    found = bootstrap_metrics("classification", ["accuracy"], logits, targets, ids, 2000, 42)["accuracy"]
    error = 1.96 * (right.mean() * (1 - right.mean()) / 2000) ** 0.5
    assert found.interval == pytest.approx([right.mean() - error, right.mean() + error], abs=0.002)


def test_what_is_not_defined_is_left_out_and_counted():
    found = Bootstrap(np.array([0.0, np.nan, 1.0, 0.123456789, np.nan]))
    assert found.undefined == 2
    assert found.interval == percentile_interval(np.array([0.0, 1.0, 0.123456789]))
    assert found.rounded == [0.0, None, 1.0, 0.123457, None]
    assert Bootstrap(np.full(3, np.nan)).interval is None


def test_an_interval_holds_the_middle_95_per_cent():
    assert percentile_interval(np.arange(1001) / 10) == pytest.approx([2.5, 97.5])
