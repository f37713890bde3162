"""Greedy selection: its steps against those written out, and its budget."""

import numpy as np
import pytest

from foldwise.post.greedy import GreedySelection
from foldwise.post.losses import objective_of
from unit.post.ensembling import TYPES, draw


def bags_by_hand(objective, steps):
    """Return weights of the best single member and of the bags that grow from it, in double precision."""
    bag = np.eye(1, objective.size, int(objective.singles.argmin()))[0]
    bags = [bag]
    for _ in range(steps):
        grown = bag + np.eye(objective.size)
        bag = grown[objective.exact(grown / grown.sum(axis=1, keepdims=True)).argmin()]
        bags.append(bag / bag.sum())
    return np.array(bags)


@pytest.mark.parametrize("task_type", TYPES)
def test_each_step_adds_the_member_that_helps_most(task_type):
    members, targets = draw(task_type, members=5)
    objective = objective_of(task_type, members, targets)
    bags = bags_by_hand(objective, 12)
    found = GreedySelection(task_type=task_type, budget=60).fit(members, targets)
    assert found.weights_ == pytest.approx(bags[objective.exact(bags).argmin()], abs=1e-12)


def test_a_member_may_be_in_the_bag_more_than_once():
    members, targets = draw("regression", members=2, samples=1000)
    members[0], members[1] = targets + 1, targets - 3
    found = GreedySelection("regression", budget=2 * 3).fit(members, targets)
    assert found.weights_ == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("budget", [1, 4, 5, 6, 13])
def test_the_budget_is_spent_exactly(budget):
    members, targets = draw(members=5)
    assert GreedySelection(budget=budget).fit(members, targets).evaluated_ == budget


def test_a_budget_below_a_step_tries_the_best_ranks_first():
    members, targets = draw("regression", members=4)
    members[:] = targets + np.array([1.0, -1.5, -3, -1.1])[:, np.newaxis, np.newaxis]
    found = [GreedySelection("regression", budget=budget).fit(members, targets).weights_ for budget in (1, 2)]
    assert found[0].tolist() == [1, 0, 0, 0]
    assert found[1].tolist() == [0.5, 0, 0, 0.5]


def test_a_worse_step_does_not_end_the_search():
    members, targets = draw("regression", members=2)
    members[:] = targets + np.array([2.0, -2.0001])[:, np.newaxis, np.newaxis]
    found = GreedySelection("regression", budget=2 * 5).fit(members, targets)
    assert found.weights_.tolist() == [0.5, 0.5]
