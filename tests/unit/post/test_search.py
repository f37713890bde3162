"""Random search: what it tries, in which order, and how much of it."""

import math

import numpy as np
import pytest

from foldwise.post.losses import objective_of
from foldwise.post.search import Draws, RandomSearch, dense
from unit.post.ensembling import draw


class Counting:
    """An objective that notes the weights it is asked for."""

    def __init__(self, members, targets, task_type="classification"):
        self.inner = objective_of(task_type, members, targets)
        self.inner = self.inner.arranged(np.argsort(self.inner.singles))
        self.asked = []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def scan(self, weights):
        self.asked.append(weights)
        return self.inner.scan(weights)


def explore(members=6, **options):
    """Return the candidates of a search over members of equal loss, before sets are used up."""
    draws = Draws(np.ones(members), np.random.default_rng(0))
    return RandomSearch(**options).explore(draws)


def sets_of(candidates):
    return list(dict.fromkeys(subset for subset, _ in candidates))


@pytest.mark.parametrize("members", [2, 3, 6])
@pytest.mark.parametrize("weights_budget", [0, 1, 7, 5000])
@pytest.mark.parametrize("budget", [1, 2, 23, 1000, 10_000])
def test_the_budget_is_spent_exactly(budget, weights_budget, members):
    logits, targets = draw(members=members, samples=10)
    objective = Counting(logits, targets)
    search = RandomSearch(budget=budget, weights_budget=weights_budget, max_ensemble_size=5)
    found = search.search(objective)
    weights = np.concatenate(objective.asked)
    assert len(weights) == found.evaluated == budget
    assert (np.count_nonzero(weights, axis=1) >= 2).all()
    assert weights.sum(axis=1) == pytest.approx(1)


def test_all_is_tried_where_all_can_be():
    candidates = explore(members=6, weights_budget=0, max_ensemble_size=4, budget=10_000)
    assert len(candidates) == len(sets_of(candidates)) == sum(math.comb(6, size) for size in (2, 3, 4))
    assert all(weights.tolist() == [1 / len(subset)] * len(subset) for subset, weights in candidates)


def test_sets_are_at_most_as_large_as_there_are_members():
    assert {len(subset) for subset, _ in explore(members=3, max_ensemble_size=9)} == {2, 3}


def test_at_no_temperature_each_size_goes_by_rank():
    pairs = [subset for subset in sets_of(explore(members=50, temperature=0.0)) if len(subset) == 2]
    assert pairs[:6] == [(0, 1), (0, 2), (0, 3), (1, 2), (0, 4), (1, 3)]


@pytest.mark.parametrize(("temperature", "lowest", "highest"), [(0.0, 0, 0), (0.5, 0.4, 0.6), (1.0, 0.95, 1)])
def test_temperature_is_the_share_of_any_sets(temperature, lowest, highest):
    sets = sets_of(explore(members=1000, temperature=temperature, weights_budget=1, budget=400))
    share = np.mean([max(subset) > 40 for subset in sets])  # 40: further than any goes by rank
    assert lowest <= share <= highest


def test_every_set_has_its_number_of_weights():
    candidates = explore(weights_budget=4, budget=30)
    assert [subset for subset, _ in candidates] == [subset for subset in sets_of(candidates) for _ in range(4)][:30]
    assert len({tuple(weights) for _, weights in candidates}) == 30


@pytest.mark.parametrize("weights_temperature", [0.0, 0.5, 0.9])
def test_weights_are_drawn_by_the_losses_of_members(weights_temperature):
    members, targets = draw(members=2, samples=400, scale=1.0)
    objective = Counting(members, targets)
    RandomSearch(budget=4000, weights_budget=4000, weights_temperature=weights_temperature).search(objective)
    weights, parameters = np.concatenate(objective.asked)[:, 0], (1 - weights_temperature) / objective.singles
    mean = parameters[0] / parameters.sum()
    assert weights.mean() == pytest.approx(mean, abs=0.02)
    assert weights.var() == pytest.approx(mean * (1 - mean) / (1 + parameters.sum()), rel=0.1)


def test_what_is_left_goes_to_the_best_sets():
    members, targets = draw(members=4, samples=300)
    objective = Counting(members, targets)
    RandomSearch(budget=2000, weights_budget=10).search(objective)
    explored, *further = objective.asked
    sets = [{tuple(np.flatnonzero(one)) for one in part} for part in further]
    assert len(explored) == 10 * (6 + 4 + 1)
    assert [len(part) for part in further] == [945, 473, 472]
    assert [len(found) for found in sets] == [5, 2, 1]
    losses = objective.inner.scan(explored).reshape(-1, 10).min(axis=1)
    best = explored.reshape(11, 10, 4)[np.argsort(losses)[:5]]
    assert sets[0] == {tuple(np.flatnonzero(one[0])) for one in best}
    assert sets[2] < sets[1] < sets[0]


@pytest.mark.parametrize(("difference", "budget"), [(1.0, 300), (1e-7, 15)])
def test_the_answer_is_the_best_of_all_that_was_tried(difference, budget):
    members, targets = draw()
    members = members[0] + difference * (members - members[0]).astype(np.float64)
    objective = Counting(members, targets)
    found = RandomSearch(budget=budget).search(objective)
    best = objective.exact(np.concatenate(objective.asked)).min()
    assert objective.exact(found.weights[np.newaxis])[0] == pytest.approx(best, rel=1e-13, abs=0)


def test_another_seed_tries_something_else():
    members, targets = draw()
    first, second = (RandomSearch(budget=50, seed=seed).fit(members, targets) for seed in (1, 2))
    assert not np.array_equal(first.weights_, second.weights_)


def test_members_without_any_error_are_no_obstacle():
    members, targets = draw(members=3)
    members[:2] = 1000 * np.eye(4)[targets]
    objective = Counting(members, targets)
    RandomSearch().search(objective)
    assert np.concatenate(objective.asked).sum(axis=1) == pytest.approx(1)
    found = RandomSearch().fit(members, targets)
    assert found.score_ == 0
    assert found.evaluated_ == 1000


@pytest.mark.parametrize("weights_temperature", [0.0, 1 - 1e-12])
def test_members_that_are_very_wrong_are_no_obstacle(weights_temperature):
    members, targets = draw(scale=1e12)
    found = RandomSearch(weights_temperature=weights_temperature).fit(members, targets)
    assert np.isfinite(found.weights_).all()
    assert found.score_ <= found.singles_.min()


def test_candidates_become_weights_of_all_members():
    found = dense([((0, 2), np.array([0.3, 0.7])), ((1, 3), np.array([0.5, 0.5]))], 4)
    assert found.tolist() == [[0.3, 0, 0.7, 0], [0, 0.5, 0, 0.5]]
