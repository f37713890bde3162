"""What ensembles have in common: they are fitted on logits and targets, and predict from the logits of all members."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, softmax

from foldwise.errors import ConfigError, DataError, Words
from foldwise.post.inputs import Arrays, check_finite, name_members, open_members
from foldwise.post.losses import Objective, objective_of

COMPARED = 16  # candidates whose losses are computed in double precision
TRACE = 1e-6  # weights below are left out if that takes nothing from the ensemble
ROUNDING = 1e-12  # relative error of a loss


class Found(NamedTuple):
    """What a search ends with: weights of members by rank, and how many candidates it evaluated."""

    weights: np.ndarray
    evaluated: int


@dataclass(eq=False)
class Ensemble(ABC):
    """A weighted sum of the logits of members, with the weights that a search found.

    Weights are not negative and add up to one. Searches see members by rank, the one of least loss first; equal losses
    rank as they come in, so that another order of members changes nothing but the order of the weights. The best
    single member competes: no ensemble is worse than it on what it was fitted on. One member on its own is the
    ensemble, and nothing is searched.

    Attributes
    ----------
    weights_ : ndarray of float64, shape (m,)
        Weight of each member.
    members_ : ndarray of int
        Members of a weight above zero, in their order.
    score_ : float
        Loss of the ensemble on what it was fitted on.
    singles_ : ndarray of float64, shape (m,)
        Loss of each member there.
    evaluated_ : int
        Candidates that the search evaluated, beside the members on their own.
    """

    task_type: str = "classification"

    @abstractmethod
    def search(self, objective: Objective) -> Found:
        """Find weights of at least two members that are ranked."""

    @abstractmethod
    def check(self) -> None:
        """Raise `ConfigError` if a parameter is out of its range."""

    def fit(self, members: Arrays, targets: ArrayLike, names: Sequence[str] | None = None) -> Self:
        """Find the weights.

        Parameters
        ----------
        members : ndarray of float, shape (m, n, c), or sequence of m ndarrays or memory maps of shape (n, c)
            Logits; pixels count as samples in segmentation. They are read in blocks, never copied as a whole.
        targets : array_like
            Class indices, shape (n,); for multi-label labels between 0 and 1, shape (n, c); for regression values,
            shape (n,) or (n, c). Samples without a label must be left out.
        names : sequence of str, optional
            What messages call the members.

        Raises
        ------
        ConfigError
            If a parameter is out of its range.
        DataError
            If members and targets do not go together, or logits are not finite.
        """
        self.check()
        objective = objective_of(self.task_type, members, targets, names)
        order = np.argsort(objective.singles, kind="stable")
        ranked = objective.arranged(order)
        self.evaluated_ = 0
        weights, self.score_ = np.eye(1, objective.size)[0], float(ranked.singles[0])
        if objective.size > 1:
            found, self.evaluated_ = self.search(ranked)
            choices = np.array([found, np.where(found < TRACE, 0, found)])
            choices /= choices.sum(axis=1, keepdims=True)
            scores = ranked.exact(choices)
            best = int(scores[1] <= scores[0] * (1 + ROUNDING))
            if scores[best] < self.score_:
                weights, self.score_ = choices[best], float(scores[best])
        self.weights_ = np.empty(objective.size)
        self.weights_[order] = weights
        self.members_ = np.flatnonzero(self.weights_)
        self.singles_ = objective.singles
        self.names_ = name_members(objective.size, names)
        return self

    def predict_logits(self, members: Arrays) -> np.ndarray:
        """Return the weighted sum of logits, shape (n, c), in at least single precision.

        Parameters
        ----------
        members : ndarray of float, shape (m, n, c), or sequence of m ndarrays or memory maps of shape (n, c)
            Logits of the members that the ensemble was fitted on, in their order, on any samples. Those of no weight
            are not read.

        Raises
        ------
        DataError
            If the ensemble is not fitted yet, there is another number of members, or logits are not finite.
        """
        if not hasattr(self, "weights_"):
            raise DataError(type(self).__name__, Words("no weights"), "an ensemble that is fitted", "Call fit first.")
        if len(members) != len(self.weights_):
            raise DataError("members", Words(f"{len(members)} members"), f"the {len(self.weights_)} of fit")
        arrays = open_members(members, self.names_)
        check_finite([arrays[k] for k in self.members_], [self.names_[k] for k in self.members_])
        total = np.zeros(arrays[0].shape)
        for k in self.members_:
            total += self.weights_[k] * arrays[k]
        return total.astype(np.result_type(np.float32, *(arrays[k] for k in self.members_)))

    def predict_proba(self, members: Arrays) -> np.ndarray:
        """Return probabilities of the classes, shape (n, c); takes and raises what `predict_logits` does.

        Raises
        ------
        ConfigError
            If the task type is regression, where there are none.
        """
        if self.task_type == "regression":
            remedy = "The values are what predict_logits returns."
            raise ConfigError("task_type", self.task_type, "a task type with probabilities", remedy)
        logits = self.predict_logits(members)
        return expit(logits) if self.task_type == "multilabel" else softmax(logits, axis=1)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name, as scikit-learn asks for them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def set_params(self, **parameters: Any) -> Self:
        """Change parameters."""
        known = self.get_params()
        for name, value in parameters.items():
            if name not in known:
                raise ConfigError(f"{type(self).__name__}.{name}", value, f"a parameter of {', '.join(known)}")
            setattr(self, name, value)
        return self

    def check_count(self, name: str, least: int) -> None:
        """Raise `ConfigError` unless a parameter is an integer and large enough."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ConfigError(f"{type(self).__name__}.{name}", value, f"an integer of at least {least}")


def shortlist(scanned: np.ndarray) -> np.ndarray:
    """Return where the best losses are that are known to single precision; one of them is the best."""
    return np.argsort(scanned, kind="stable")[:COMPARED]


def best_of(objective: Objective, weights: np.ndarray) -> np.ndarray:
    """Return the weight vector of least loss, in double precision; the first if there are several."""
    return weights[np.argmin(objective.exact(weights))]
