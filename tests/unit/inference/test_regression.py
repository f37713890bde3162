"""Metrics of regression against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from foldwise.config.metrics import REGRESSION_METRICS
from foldwise.inference.metrics import finite_or_none
from foldwise.inference.regression import REGRESSION, ranks, regression_metrics

REFERENCES = {
    "r2": lambda v, t: reference.r2_score(t, v),
    "spearman": lambda v, t: stats.spearmanr(v, t).statistic,
    "pearson": lambda v, t: stats.pearsonr(v, t).statistic,
    "mse": lambda v, t: reference.mean_squared_error(t, v),
    "mae": lambda v, t: reference.mean_absolute_error(t, v),
}


def draw(ties=False):
    generator = np.random.default_rng(0)
    targets = 1000 + 20 * generator.normal(size=200)
    values = targets + 10 * generator.normal(size=200)
    if ties:
        values, targets = values.round(-1), targets.round(-1)
    return values.astype(np.float32), targets.astype(np.float32)


def compute(values, targets):
    return regression_metrics(REGRESSION_METRICS, np.asarray(values)[:, None], np.asarray(targets))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", REGRESSION_METRICS)
def test_a_metric_agrees_with_its_reference(name, ties):
    values, targets = draw(ties)
    expected = REFERENCES[name](values.astype(np.float64), targets.astype(np.float64))
    assert compute(values, targets)[name] == pytest.approx(expected, rel=1e-9)


def test_every_metric_of_the_configuration_is_there():
    assert tuple(REGRESSION) == REGRESSION_METRICS


def test_hand_values():
    found = compute([1.0, 2.0, 4.0], [1.0, 3.0, 2.0])
    assert found["mse"] == pytest.approx((0 + 1 + 4) / 3)
    assert found["mae"] == pytest.approx(1.0)
    assert found["r2"] == pytest.approx(1 - 5 / 2)
    assert found["spearman"] == pytest.approx(0.5)


def test_a_perfect_prediction_has_the_best_values():
    _, targets = draw()
    expected = {"r2": 1.0, "spearman": 1.0, "pearson": 1.0, "mse": 0.0, "mae": 0.0}
    assert compute(targets, targets) == pytest.approx(expected)


def test_equal_values_share_the_mean_of_their_ranks():
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


@pytest.mark.parametrize(
    ("values", "targets", "undefined"),
    [
        ([1.0, 1.0, 1.0], [1.0, 2.0, 4.0], {"spearman", "pearson"}),
        ([0.1, 0.2, 0.4], [0.1, 0.1, 0.1], {"r2", "spearman", "pearson"}),
        ([1.0], [2.0], {"r2", "spearman", "pearson"}),
    ],
    ids=["constant values", "constant targets", "one sample"],
)
def test_what_is_not_defined_is_none(values, targets, undefined):
    found = finite_or_none(compute(values, targets))
    assert {name for name, value in found.items() if value is None} == undefined
