"""Random search for the members and weights of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foldwise.errors import ConfigError
from foldwise.post.ensembles import Ensemble, Found, best_of, shortlist
from foldwise.post.losses import Objective
from foldwise.post.subsets import Subset, Subsets

PASS = 4096  # weight vectors that are evaluated in one pass over the logits
SMALLEST, LARGEST = 1e-6, 1e6  # losses of members that weights are drawn by


Candidate = tuple[Subset, np.ndarray]  # members by rank, and a weight of each


@dataclass(eq=False)
class RandomSearch(Ensemble):
    """Ensembles of a few members, many tried at random, better members first.

    Each round draws a size, then the next untried set of that size, the one of the best ranks, or with a probability
    any untried one. Sets are ordered by the sum of their ranks, equal sums by the best rank in them, then the second
    best and so on. Sizes are drawn from those that have untried sets; a `max_ensemble_size` above the number of members
    means all of them. When all sets are used up before the budget is, half of what is left goes to the best half of
    the sets in equal shares, again and again until one set is left, which gets the rest; their weights are random even
    if `weights_budget` is 0, as there is nothing else to try.

    Losses in the parameters of the Dirichlet distribution are held between 1e-6 and 1e6, so that members without any
    error leave it defined. Squared errors are divided by the variance of the targets, so that units do not matter.

    Parameters
    ----------
    task_type : str
        ``classification``, ``multilabel``, ``regression`` or ``segmentation``.
    budget : int
        Candidates to evaluate, a set with a weight vector each. All of it is spent, if there are two members or more.
    weights_budget : int
        Weight vectors of a set, drawn from a Dirichlet distribution of parameters
        (1 / loss of the member) * (1 - `weights_temperature`). 0: one, of equal weights.
    max_ensemble_size : int
        Largest size of a set.
    temperature : float
        Probability that any untried set is taken, from 0 to 1.
    weights_temperature : float
        From 0 to below 1; the higher, the more do weights differ from each other.
    seed : int
        Decides all that is drawn.
    """

    budget: int = 1000
    weights_budget: int = 10
    max_ensemble_size: int = 5
    temperature: float = 0.3
    weights_temperature: float = 0.5
    seed: int = 42

    def check(self) -> None:
        self.check_count("budget", 1)
        self.check_count("weights_budget", 0)
        self.check_count("max_ensemble_size", 2)
        self.check_count("seed", 0)
        if not 0 <= self.temperature <= 1:
            raise ConfigError("RandomSearch.temperature", self.temperature, "a number from 0 to 1")
        if not 0 <= self.weights_temperature < 1:
            raise ConfigError(
                "RandomSearch.weights_temperature", self.weights_temperature, "a number from 0 to below 1"
            )

    def search(self, objective: Objective) -> Found:
        generator = np.random.default_rng(self.seed)
        losses = np.clip(objective.singles / objective.unit, SMALLEST, LARGEST)
        draws = Draws((1 - self.weights_temperature) / losses, generator)
        candidates = self.explore(draws)
        scanned = scan(objective, candidates)
        if len(candidates) < self.budget:
            further, results = exploit(objective, draws, best_subsets(candidates, scanned), self.budget - len(scanned))
            candidates, scanned = candidates + further, np.concatenate([scanned, results])
        best = [candidates[place] for place in shortlist(scanned).tolist()]
        return Found(best_of(objective, dense(best, objective.size)), len(candidates))

    def explore(self, draws: Draws) -> list[Candidate]:
        """Return a budget of candidates, or as many as there are sets for."""
        members, generator = len(draws.parameters), draws.generator
        sizes = range(2, min(self.max_ensemble_size, members) + 1)
        sources = [Subsets(members, size, generator) for size in sizes]
        candidates: list[Candidate] = []
        while sources and len(candidates) < self.budget:
            source = sources[generator.integers(len(sources))]
            subset = source.draw() if generator.random() < self.temperature else source.next_ranked()
            if not source.left:
                sources.remove(source)
            if self.weights_budget:
                candidates += draws.candidates(subset, min(self.weights_budget, self.budget - len(candidates)))
            else:
                candidates.append((subset, np.full(len(subset), 1 / len(subset))))
        return candidates


class Draws(NamedTuple):
    """Where weights come from: parameters of the members' Dirichlet distribution, by rank, and random numbers."""

    parameters: np.ndarray
    generator: np.random.Generator

    def candidates(self, subset: Subset, count: int) -> list[Candidate]:
        """Draw weights for a set."""
        return [(subset, weights) for weights in self.generator.dirichlet(self.parameters[list(subset)], count)]


def scan(objective: Objective, candidates: Sequence[Candidate]) -> np.ndarray:
    """Return the losses of candidates, as exact as a scan is."""
    passes = [candidates[start : start + PASS] for start in range(0, len(candidates), PASS)]
    return np.concatenate([objective.scan(dense(part, objective.size)) for part in passes])


def dense(candidates: Sequence[Candidate], members: int) -> np.ndarray:
    """Return candidates as weight vectors of all members."""
    weights = np.zeros((len(candidates), members))
    for row, (subset, values) in zip(weights, candidates, strict=True):
        row[list(subset)] = values
    return weights


def best_subsets(candidates: Sequence[Candidate], scanned: np.ndarray) -> dict[Subset, float]:
    """Return the least loss of each set, the best set first."""
    losses: dict[Subset, float] = {}
    for place in np.argsort(scanned, kind="stable").tolist():
        losses.setdefault(candidates[place][0], float(scanned[place]))
    return losses


def exploit(
    objective: Objective, draws: Draws, losses: dict[Subset, float], budget: int
) -> tuple[list[Candidate], np.ndarray]:
    """Spend a budget on further weights for the best sets; return candidates and their losses."""
    candidates: list[Candidate] = []
    scanned: list[np.ndarray] = []
    while budget:
        subsets = list(losses)[: max(1, len(losses) // 2)]
        share = budget if len(subsets) == 1 else -(-budget // 2)
        counts = [len(part) for part in np.array_split(np.arange(share), len(subsets))]
        found = [one for subset, count in zip(subsets, counts, strict=True) for one in draws.candidates(subset, count)]
        scanned.append(scan(objective, found))
        candidates += found
        budget -= share
        losses = best_of_both({subset: losses[subset] for subset in subsets}, best_subsets(found, scanned[-1]))
    return candidates, np.concatenate(scanned)


def best_of_both(old: dict[Subset, float], new: dict[Subset, float]) -> dict[Subset, float]:
    """Return the least loss of each set, the best set first."""
    losses = {subset: min(loss, new.get(subset, loss)) for subset, loss in old.items()}
    return dict(sorted(losses.items(), key=lambda item: item[1]))
