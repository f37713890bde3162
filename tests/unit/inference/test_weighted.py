"""Sums, ranks and areas of many resamples at once, against copies of the samples."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from foldwise.inference.weighted import (
    Ranking,
    correlation,
    has_spread,
    mean,
    mean_defined,
    ranks,
    ratio,
    sum_from_top,
    sum_groups,
    sum_values,
)

SAMPLES, RESAMPLES = 40, 30
GENERATOR = np.random.default_rng(0)
PLACES = GENERATOR.integers(SAMPLES, size=(RESAMPLES, SAMPLES))
WEIGHTS = np.stack([np.bincount(places, minlength=SAMPLES) for places in PLACES], axis=1).astype(np.float64)
VALUES = GENERATOR.normal(size=SAMPLES)


def test_groups_are_summed_in_each_resample():
    groups = GENERATOR.integers(5, size=SAMPLES)
    expected = np.stack([np.bincount(groups[places], minlength=6) for places in PLACES], axis=1)
    np.testing.assert_array_equal(sum_groups(groups, 6, np.arange(SAMPLES), WEIGHTS), expected)
    expected = np.stack([np.bincount(groups[places], VALUES[places], minlength=6) for places in PLACES], axis=1)
    np.testing.assert_allclose(sum_values(VALUES, groups, 6, np.arange(SAMPLES), WEIGHTS), expected)


def test_items_have_the_weight_of_their_sample():
    found = sum_groups(np.array([0, 0, 1]), 2, np.array([3, 3, 4]), WEIGHTS)
    np.testing.assert_array_equal(found, [2 * WEIGHTS[3], WEIGHTS[4]])


def test_the_mean_is_that_of_the_copies():
    np.testing.assert_allclose(mean(VALUES, WEIGHTS), [VALUES[places].mean() for places in PLACES])


SCORES = {
    "distinct": VALUES,
    "ties": VALUES.round(),
    "few levels": (VALUES > 0).astype(float),
    "one level": np.zeros(SAMPLES),
}


@pytest.mark.parametrize("positives", [1, 12, 39])
@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES)
class TestAreas:
    @pytest.mark.parametrize(
        ("area", "score"),
        [
            (Ranking.auroc, reference.roc_auc_score),
            (Ranking.average_precision, reference.average_precision_score),
        ],
        ids=["auroc", "average precision"],
    )
    def test_an_area_is_that_of_the_copies(self, scores, positives, area, score):
        positive = np.arange(SAMPLES) < positives
        found = area(Ranking(scores, positive), WEIGHTS)
        expected = [
            score(positive[places], scores[places]) if 0 < positive[places].sum() < SAMPLES else np.nan
            for places in PLACES
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert np.isfinite(found).any()
        assert np.isnan(found).any() == (positives in (1, 39))


def test_sums_from_the_top_end_in_zeros():
    np.testing.assert_array_equal(
        sum_from_top(np.array([[1.0, 5], [2, 6], [4, 7]])), [[7, 18], [6, 13], [4, 7], [0, 0]]
    )


@pytest.mark.parametrize("values", [VALUES, VALUES.round()], ids=["distinct", "ties"])
def test_ranks_are_those_among_the_copies(values):
    found = ranks(np.unique(values, return_inverse=True)[1], WEIGHTS)
    for column, places in zip(found.T, PLACES, strict=True):
        np.testing.assert_allclose(column[places], stats.rankdata(values[places]))


def test_correlations_are_those_of_the_copies():
    other = VALUES + GENERATOR.normal(size=SAMPLES)
    expected = [np.corrcoef(VALUES[places], other[places])[0, 1] for places in PLACES]
    np.testing.assert_allclose(correlation(VALUES[:, None], other[:, None], WEIGHTS), expected)


def test_spread_is_told_of_what_a_resample_holds():
    values = np.where(np.arange(SAMPLES) < 2, 0.1, 0.7)
    expected = [np.ptp(values[places]) > 0 for places in PLACES]
    assert has_spread(values, WEIGHTS).tolist() == expected
    assert 0 < sum(expected) < RESAMPLES


def test_what_is_not_defined_is_left_out_of_means():
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    np.testing.assert_array_equal(mean_defined(values), [2, 5, np.nan])
    np.testing.assert_array_equal(ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0])), [0.5, np.nan])
