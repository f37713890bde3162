"""Greedy selection of the members of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foldwise.post.ensembles import Ensemble, Found, best_of, shortlist
from foldwise.post.losses import Objective


@dataclass(eq=False)
class GreedySelection(Ensemble):
    """A bag of members that grows by the member that helps most (Caruana et al. 2004, doi:10.1145/1015330.1015432).

    It begins with the best member. In each step every member is tried as one more in the bag, in which it may be
    already; weights are shares of the bag. A step that makes the ensemble worse may be followed by one that makes it
    better, so that steps are taken until the budget is spent, and the best of all bags is the answer. If the budget
    ends within a step, members of the best ranks are tried first.

    Parameters
    ----------
    task_type : str
        ``classification``, ``multilabel``, ``regression`` or ``segmentation``.
    budget : int
        Candidates to evaluate; a step takes as many as there are members.
    """

    budget: int = 1000

    def check(self) -> None:
        self.check_count("budget", 1)

    def search(self, objective: Objective) -> Found:
        bag = np.eye(1, objective.size)[0]
        bags, losses = [bag], [float(objective.singles[0])]
        for left in range(self.budget, 0, -objective.size):
            grown = bag + np.eye(min(left, objective.size), objective.size)
            scanned = objective.scan(grown / grown[0].sum())
            best = shortlist(scanned)[0]
            bag = grown[best]
            bags.append(bag)
            losses.append(float(scanned[best]))
        first = [bags[place] / bags[place].sum() for place in shortlist(np.array(losses)).tolist()]
        return Found(best_of(objective, np.array(first)), self.budget)
