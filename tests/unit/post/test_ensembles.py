"""What holds for every search: planted answers are found, order does not matter, the best single member competes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.base import clone

from foldwise.errors import ConfigError, DataError
from foldwise.post.convex import ConvexWeights
from foldwise.post.greedy import GreedySelection
from foldwise.post.losses import objective_of
from foldwise.post.search import RandomSearch
from unit.post.ensembling import TYPES, draw, equal_weights, plant

ENGINE = Path(__file__).resolve().parents[3] / "scripts"
SEARCHES = [RandomSearch, GreedySelection, ConvexWeights]
every_search = pytest.mark.parametrize("search", SEARCHES)
every_type = pytest.mark.parametrize("task_type", TYPES)


def loss_of(task_type, members, targets, weights):
    return objective_of(task_type, members, targets).exact(np.atleast_2d(weights))[0]


@every_type
@every_search
@pytest.mark.parametrize("planted", [(1, 4), (0, 3, 6)])
def test_the_planted_ensemble_is_found(search, task_type, planted):
    members, targets = plant(task_type, planted)
    options = {"weights_budget": 0} if search is RandomSearch else {}
    found = search(task_type=task_type, **options).fit(members, targets)
    expected = equal_weights(planted, len(members))
    assert found.score_ <= 1.03 * loss_of(task_type, members, targets, expected) + 0.03 * found.singles_.min()
    assert found.weights_ == pytest.approx(expected, abs=0.1)
    assert set(planted) <= set(found.members_)


@every_search
def test_the_planted_ensemble_is_found_exactly_where_only_it_makes_no_error(search):
    members, targets = plant("regression")
    options = {"weights_budget": 0} if search is RandomSearch else {}
    found = search(task_type="regression", **options).fit(members, targets)
    assert found.weights_ == pytest.approx(equal_weights((1, 4), 7), abs=1e-9)
    assert found.members_.tolist() == [1, 4]
    assert found.score_ == pytest.approx(0, abs=1e-12)


@every_type
@every_search
def test_members_in_another_order_get_the_same_weights(search, task_type):
    members, targets = draw(task_type)
    order = np.random.default_rng(3).permutation(len(members))
    found = search(task_type=task_type).fit(members, targets)
    permuted = search(task_type=task_type).fit(members[order], targets)
    assert np.array_equal(permuted.weights_, found.weights_[order])
    assert permuted.score_ == found.score_


@every_type
@every_search
def test_order_of_classes_and_samples_does_not_matter(search, task_type):
    members, targets = draw(task_type)
    generator = np.random.default_rng(3)
    classes, samples = generator.permutation(members.shape[2]), generator.permutation(members.shape[1])
    moved = members[:, samples][:, :, classes]
    labels = targets[samples]
    labels = np.argsort(classes)[labels] if labels.ndim == 1 else labels[:, classes]
    found = search(task_type=task_type).fit(members, targets)
    permuted = search(task_type=task_type).fit(moved, labels)
    assert permuted.weights_ == pytest.approx(found.weights_, abs=1e-6)
    assert permuted.score_ == pytest.approx(found.score_, rel=1e-9)


@every_type
@every_search
def test_one_member_is_the_ensemble(search, task_type):
    members, targets = draw(task_type, members=1)
    found = search(task_type=task_type).fit(members, targets)
    assert found.weights_.tolist() == [1]
    assert found.members_.tolist() == [0]
    assert found.evaluated_ == 0
    assert found.score_ == found.singles_[0] == pytest.approx(loss_of(task_type, members, targets, [1]))


@every_search
def test_the_best_single_member_is_the_ensemble_if_the_others_only_harm(search):
    members, targets = plant("regression", members=6)
    members[2] = targets
    members[[0, 1, 3, 4, 5]] = targets + np.arange(1, 6)[:, np.newaxis, np.newaxis]
    found = search(task_type="regression").fit(members, targets)
    assert found.weights_.tolist() == [0, 0, 1, 0, 0, 0]
    assert found.score_ == found.singles_[2]


@settings(max_examples=40)
@given(
    st.sampled_from(TYPES), st.integers(2, 6), st.integers(1, 40), st.integers(0, 999), st.sampled_from([0.1, 2, 50])
)
def test_convex_weights_are_never_worse_than_any_others(task_type, count, samples, seed, scale):
    members, targets = draw(task_type, count, samples, seed=seed, scale=scale)
    best = ConvexWeights(task_type=task_type).fit(members, targets)
    others = [
        RandomSearch(task_type=task_type, budget=60, seed=seed),
        RandomSearch(task_type=task_type, budget=60, weights_budget=0),
        GreedySelection(task_type=task_type, budget=60),
    ]
    for other in others:
        other.fit(members, targets)
        assert best.score_ <= other.score_ + best.gap_ + 1e-13 * max(1, best.score_)
        assert other.score_ <= other.singles_.min()
    unit = objective_of(task_type, members, targets).unit
    assert best.gap_ <= 1e-9 * max(unit, best.score_)


@every_search
@pytest.mark.parametrize("unit", [2.0**-20, 2.0**20])
def test_units_of_regression_do_not_matter(search, unit):
    members, targets = draw("regression")
    found = search(task_type="regression").fit(members, targets)
    other = search(task_type="regression").fit(unit * members, unit * targets)
    assert other.weights_ == pytest.approx(found.weights_, abs=1e-12)


@every_type
@every_search
def test_weights_are_shares_and_the_score_is_their_loss(search, task_type):
    members, targets = draw(task_type)
    found = search(task_type=task_type).fit(members, targets)
    assert found.weights_.min() >= 0
    assert found.weights_.sum() == pytest.approx(1, abs=1e-12)
    assert found.members_.tolist() == np.flatnonzero(found.weights_).tolist()
    assert found.score_ == pytest.approx(loss_of(task_type, members, targets, found.weights_), rel=1e-12)
    assert found.score_ < found.singles_.min()


@every_type
@every_search
def test_a_second_fit_gives_the_same_bits(search, task_type):
    members, targets = draw(task_type)
    first, second = (search(task_type=task_type).fit(members, targets) for _ in range(2))
    assert np.array_equal(first.weights_, second.weights_)
    assert first.score_ == second.score_


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_predicted_logits_are_the_weighted_sum(dtype):
    members, targets = draw()
    members = members.astype(dtype)
    found = ConvexWeights().fit(members, targets)
    logits = found.predict_logits(list(members[:, :50]))
    assert logits.dtype == max(np.float32, dtype, key=lambda one: np.dtype(one).itemsize)
    assert logits == pytest.approx(np.tensordot(found.weights_, members[:, :50].astype(float), 1), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("task_type", ["classification", "multilabel", "segmentation"])
def test_probabilities_are_those_of_the_logits(task_type):
    members, targets = draw(task_type)
    found = GreedySelection(task_type=task_type).fit(members, targets)
    logits = found.predict_logits(members)
    expected = expit(logits) if task_type == "multilabel" else softmax(logits, axis=1)
    assert found.predict_proba(members) == pytest.approx(expected)


def test_regression_has_no_probabilities():
    members, targets = draw("regression")
    with pytest.raises(ConfigError, match="The values are what predict_logits returns"):
        ConvexWeights(task_type="regression").fit(members, targets).predict_proba(members)


def test_prediction_looks_at_members_of_a_weight_only():
    members, targets = plant("regression")
    found = ConvexWeights(task_type="regression").fit(members, targets, list("abcdefg"))
    other = members.copy()
    other[[0, 2, 3, 5, 6]] = np.nan
    assert np.array_equal(found.predict_logits(other), found.predict_logits(members))
    other[4, 0, 0] = np.nan
    with pytest.raises(DataError, match="e: 1 NaN and 0 infinite"):
        found.predict_logits(other)


def test_prediction_needs_a_fit_and_the_same_members():
    members, targets = draw()
    with pytest.raises(DataError, match=r"GreedySelection: got no weights.*Call fit first"):
        GreedySelection().predict_logits(members)
    found = GreedySelection().fit(members, targets)
    with pytest.raises(DataError, match="members: got 5 members, expected the 6 of fit"):
        found.predict_logits(members[1:])


@every_search
def test_bad_members_are_told_by_name(search):
    members, targets = draw()
    members[3, :5, 1] = np.nan
    with pytest.raises(DataError, match="cat: 5 NaN and 0 infinite"):
        search().fit(members, targets, ["ant", "bee", "bug", "cat", "cow", "dog"])


@pytest.mark.parametrize(
    ("search", "name", "values"),
    [
        (RandomSearch, "budget", [0, -1, 1.5, True]),
        (RandomSearch, "weights_budget", [-1, 0.5]),
        (RandomSearch, "max_ensemble_size", [1, 0, 2.5]),
        (RandomSearch, "temperature", [-0.1, 1.1, np.nan]),
        (RandomSearch, "weights_temperature", [-0.1, 1.0, np.nan]),
        (RandomSearch, "seed", [-1, 0.5]),
        (GreedySelection, "budget", [0, 2.5]),
        (ConvexWeights, "tolerance", [0, -1e-9, np.nan]),
        (ConvexWeights, "task_type", ["classes"]),
    ],
)
def test_parameters_out_of_range_are_told(search, name, values):
    for value in values:
        with pytest.raises(ConfigError, match=f"{name}: got .*, expected"):
            search(**{name: value}).fit(*draw())


@every_search
def test_parameters_are_read_and_set_as_scikit_learn_does(search):
    ensemble = search(task_type="regression")
    copy = clone(ensemble)
    assert copy is not ensemble
    assert copy.get_params() == ensemble.get_params()
    assert copy.set_params(task_type="multilabel").task_type == "multilabel"
    with pytest.raises(ConfigError, match="depth: got 3, expected a parameter of task_type"):
        copy.set_params(depth=3)


def test_nothing_heavy_is_imported():
    program = (
        "import sys\n"
        "import foldwise.post.search, foldwise.post.greedy, foldwise.post.convex\n"
        "print(sorted({'torch', 'sklearn', 'pandas', 'lightning', 'scipy.optimize', 'scipy.stats'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ENGINE, check=True)
    assert result.stdout == "[]\n"
