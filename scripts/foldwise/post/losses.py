"""What an ensemble minimises, for each task type: the mean loss of a weighted sum of logits.

All of these are convex functions of the weights. Sums of many weight vectors are computed at once: a block of samples
that fits into the cache is prepared once for all weight vectors, with the samples in the innermost place, so that sums
over classes run along vectors. Many are compared in single precision, in which product and exponential take half the
time and losses are right to about seven digits; `exact` and the derivatives are in double precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from foldwise.errors import ConfigError, nearest, one_of
from foldwise.post.inputs import Arrays, check_finite, check_labels, name_members, open_members

BLOCK = 4096  # logits of a member in a block: some 400 samples of 10 classes
BATCH = 32  # weight vectors whose sums lie in the cache together
LARGE = 80.0  # up to which the exponential of single precision is far from its largest number


class Slope(NamedTuple):
    """Loss of a weight vector, and its gradient."""

    loss: float
    gradient: np.ndarray


class Curve(NamedTuple):
    """Loss of a weight vector, and its gradient and Hessian in the weights of some members."""

    loss: float
    gradient: np.ndarray
    hessian: np.ndarray


class Objective(ABC):
    """Mean loss of weighted sums of members, for weights that are not negative and add up to one.

    Attributes
    ----------
    singles : ndarray of float64, shape (m,)
        Loss of each member on its own.
    unit : float
        What a loss is measured in: 1 for log-losses, the variance of the targets for squared errors.
    """

    singles: np.ndarray
    unit: float = 1.0

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.singles)

    @abstractmethod
    def arranged(self, order: np.ndarray) -> Self:
        """Return the same with members in another order."""

    @abstractmethod
    def scan(self, weights: np.ndarray) -> np.ndarray:
        """Return the losses of many weight vectors, shape (k, m), to the digits of single precision."""

    @abstractmethod
    def exact(self, weights: np.ndarray) -> np.ndarray:
        """Return the losses of weight vectors, shape (k, m), in double precision."""

    @abstractmethod
    def slope(self, weights: np.ndarray) -> Slope:
        """Return loss and gradient of one weight vector."""

    @abstractmethod
    def curve(self, used: np.ndarray, weights: np.ndarray) -> Curve:
        """Return loss, gradient and Hessian in the weights of some members; the others have none."""


class LogLoss(Objective):
    """What log-losses have in common: blocks of logits, read again for every question."""

    def __init__(self, members: Sequence[np.ndarray], targets: np.ndarray) -> None:
        self.members = list(members)
        self.targets = targets
        self.samples, self.classes = members[0].shape
        total = np.zeros(len(self.members))
        for rows, block in self.blocks(np.arange(len(self.members)), np.float64):
            total += self.add_up(block, rows)
        self.singles = total / self.terms

    @property
    @abstractmethod
    def terms(self) -> int:
        """Number of terms that the loss is the mean of."""

    @abstractmethod
    def prepare(self, block: np.ndarray, rows: slice) -> None:
        """Change logits, shape (m, classes, samples), in place so that their loss takes fewer steps."""

    @abstractmethod
    def add_up(self, sums: np.ndarray, rows: slice) -> np.ndarray:
        """Return the losses of prepared sums, shape (k, classes, samples), added up; the sums are used up."""

    @abstractmethod
    def differentiate(self, sums: np.ndarray, rows: slice) -> tuple[float, np.ndarray]:
        """Return the loss of prepared sums, shape (classes, samples), added up, and its derivatives by them."""

    @abstractmethod
    def bend(self, block: np.ndarray, sums: np.ndarray) -> np.ndarray:
        """Return the second derivatives of the added up loss by the weights of the members of a block."""

    def arranged(self, order: np.ndarray) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, singles=self.singles[order], members=[self.members[k] for k in order])
        return other

    def blocks(self, used: np.ndarray, dtype: Any) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield rows and the prepared logits of some members there, shape (members, classes, samples)."""
        step = max(16, BLOCK // self.classes)
        memory = np.empty(len(used) * self.classes * min(step, self.samples), dtype)
        for start in range(0, self.samples, step):
            rows = slice(start, min(start + step, self.samples))
            shape = len(used), self.classes, rows.stop - start
            block = memory[: np.prod(shape)].reshape(shape)
            for place, member in zip(block, used.tolist(), strict=True):
                place[:] = self.members[member][rows].T
            self.prepare(block, rows)
            yield rows, block

    def scan(self, weights: np.ndarray) -> np.ndarray:
        return self.losses(weights, np.float32)

    def exact(self, weights: np.ndarray) -> np.ndarray:
        return self.losses(weights, np.float64)

    def losses(self, weights: np.ndarray, dtype: Any) -> np.ndarray:
        """Return the losses of many weight vectors, shape (k, m); members of no weight cost nothing."""
        read = np.flatnonzero(weights.any(axis=0))
        weights = weights[:, read].astype(dtype)
        parts = [slice(start, start + BATCH) for start in range(0, len(weights), BATCH)]
        used = [np.flatnonzero(weights[part].any(axis=0)) for part in parts]
        batches = [(part, own, weights[part][:, own]) for part, own in zip(parts, used, strict=True)]
        memory = np.empty(BATCH * max(16 * self.classes, BLOCK), dtype)
        total = np.zeros(len(weights))
        for rows, block in self.blocks(read, dtype):
            logits = block.reshape(len(read), -1)
            for part, own, vectors in batches:
                out = memory[: len(vectors) * logits.shape[1]].reshape(len(vectors), -1)
                sums = np.matmul(vectors, logits[own], out=out)
                total[part] += self.add_up(sums.reshape(len(vectors), *block.shape[1:]), rows)
        return total / self.terms

    def slope(self, weights: np.ndarray) -> Slope:
        loss, gradient = 0.0, np.zeros(self.size)
        for rows, block in self.blocks(np.arange(self.size), np.float64):
            found, derivatives = self.differentiate(np.tensordot(weights, block, 1), rows)
            loss += found
            gradient += block.reshape(self.size, -1) @ derivatives.ravel()
        return Slope(loss / self.terms, gradient / self.terms)

    def curve(self, used: np.ndarray, weights: np.ndarray) -> Curve:
        loss, gradient, hessian = 0.0, np.zeros(len(used)), np.zeros((len(used), len(used)))
        for rows, block in self.blocks(used, np.float64):
            sums = np.tensordot(weights, block, 1)
            found, derivatives = self.differentiate(sums, rows)
            loss += found
            gradient += block.reshape(len(used), -1) @ derivatives.ravel()
            hessian += self.bend(block, sums)
        return Curve(loss / self.terms, gradient / self.terms, (hessian + hessian.T) / (2 * self.terms))


class CrossEntropy(LogLoss):
    """Log-loss of the softmax of weighted sums, in nats, mean over samples (or labelled pixels).

    Of all logits of a sample that of its class is taken away. That changes no probability, makes the loss the logarithm
    of a sum of exponentials, none of which can be lost beside the true class's own, and leaves nothing to look up.
    """

    @property
    def terms(self) -> int:
        return self.samples

    def prepare(self, block: np.ndarray, rows: slice) -> None:
        labels = self.targets[rows]
        block -= block[:, labels, np.arange(len(labels))][:, np.newaxis]

    def add_up(self, sums: np.ndarray, rows: slice) -> np.ndarray:
        if sums.max() <= LARGE:
            totals = np.exp(sums, out=sums).sum(axis=1)
            return np.log(totals, out=totals).sum(axis=1, dtype=np.float64)
        peaks = sums.max(axis=1)
        sums -= peaks[:, np.newaxis]
        totals = np.exp(sums, out=sums).sum(axis=1)
        return (np.log(totals, out=totals) + peaks).sum(axis=1, dtype=np.float64)

    def differentiate(self, sums: np.ndarray, rows: slice) -> tuple[float, np.ndarray]:
        peaks, probabilities, totals = softmax_parts(sums)
        derivatives = probabilities.copy()
        derivatives[self.targets[rows], np.arange(sums.shape[1])] -= 1
        return float(np.sum(np.log(totals) + peaks)), derivatives

    def bend(self, block: np.ndarray, sums: np.ndarray) -> np.ndarray:
        weighted = block * softmax_parts(sums)[1]
        means = weighted.sum(axis=1)
        return weighted.reshape(len(block), -1) @ block.reshape(len(block), -1).T - means @ means.T


def softmax_parts(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the largest logit of each sample, probabilities, and the sum of exponentials above the largest."""
    peaks = sums.max(axis=0)
    powers = np.exp(sums - peaks)
    totals = powers.sum(axis=0)
    return peaks, powers / totals, totals


class BinaryCrossEntropy(LogLoss):
    """Log-loss of the sigmoid of weighted sums, in nats, mean over samples and classes; labels may be soft.

    Logits of labels above one half change sign, so that the label asked for is the nearer one, no.
    """

    def __init__(self, members: Sequence[np.ndarray], targets: np.ndarray) -> None:
        labels = np.ascontiguousarray(targets.T)
        self.signs = np.where(labels > 0.5, -1, 1).astype(np.float32)
        soft = np.minimum(labels, 1 - labels)
        self.soft = soft if soft.any() else None
        super().__init__(members, targets)

    @property
    def terms(self) -> int:
        return self.samples * self.classes

    def prepare(self, block: np.ndarray, rows: slice) -> None:
        block *= self.signs[:, rows]

    def add_up(self, sums: np.ndarray, rows: slice) -> np.ndarray:
        count = len(sums)
        less = 0.0 if self.soft is None else np.tensordot(sums, self.soft[:, rows].astype(sums.dtype), 2)
        if sums.max() <= LARGE:
            np.exp(sums, out=sums)
            sums += 1
            np.log(sums, out=sums)
        else:
            sums = np.logaddexp(0, sums)
        return sums.reshape(count, -1).sum(axis=1, dtype=np.float64) - less

    def differentiate(self, sums: np.ndarray, rows: slice) -> tuple[float, np.ndarray]:
        soft = 0.0 if self.soft is None else self.soft[:, rows]
        return float(np.sum(np.logaddexp(0, sums) - soft * sums)), expit(sums) - soft

    def bend(self, block: np.ndarray, sums: np.ndarray) -> np.ndarray:
        weighted = block * (expit(sums) * expit(-sums))
        return weighted.reshape(len(block), -1) @ block.reshape(len(block), -1).T


class SquaredError(Objective):
    """Mean squared error of weighted sums: a quadratic form of the weights, as they add up to one.

    Its matrix holds the mean products of the members' errors (Bates and Granger 1969, doi:10.1057/jors.1969.103).
    """

    def __init__(self, members: Sequence[np.ndarray], targets: np.ndarray) -> None:
        samples, outputs = members[0].shape
        step = max(1, BLOCK // outputs)
        products = np.zeros((len(members), len(members)))
        for start in range(0, samples, step):
            rows = slice(start, start + step)
            errors = np.array([(member[rows] - targets[rows]).ravel() for member in members])
            products += errors @ errors.T
        self.products = products / targets.size
        self.singles = self.products.diagonal().copy()
        self.unit = float(targets.var()) or 1.0

    def arranged(self, order: np.ndarray) -> Self:
        other = object.__new__(type(self))
        products = self.products[np.ix_(order, order)]
        other.__dict__.update(self.__dict__, singles=self.singles[order], products=products)
        return other

    def scan(self, weights: np.ndarray) -> np.ndarray:
        return self.exact(weights)

    def exact(self, weights: np.ndarray) -> np.ndarray:
        return np.maximum(np.sum((weights @ self.products) * weights, axis=1), 0.0)

    def slope(self, weights: np.ndarray) -> Slope:
        half = self.products @ weights
        return Slope(float(weights @ half), 2 * half)

    def curve(self, used: np.ndarray, weights: np.ndarray) -> Curve:
        products = self.products[np.ix_(used, used)]
        half = products @ weights
        return Curve(float(weights @ half), 2 * half, 2 * products)


OBJECTIVES: dict[str, type[CrossEntropy | BinaryCrossEntropy | SquaredError]] = {
    "classification": CrossEntropy,
    "multilabel": BinaryCrossEntropy,
    "regression": SquaredError,
    "segmentation": CrossEntropy,
}


def objective_of(
    task_type: str, members: Arrays, targets: ArrayLike, names: Sequence[str] | None = None
) -> CrossEntropy | BinaryCrossEntropy | SquaredError:
    """Return what an ensemble for a task type minimises on given samples.

    Parameters
    ----------
    task_type : str
        ``classification``, ``multilabel``, ``regression`` or ``segmentation``.
    members : ndarray of float, shape (m, n, c), or sequence of m ndarrays or memory maps of shape (n, c)
        Logits; pixels count as samples in segmentation. They are read, never copied as a whole.
    targets : array_like
        Class indices, shape (n,); for multi-label labels between 0 and 1, shape (n, c); for regression values, shape
        (n,) or (n, c). All samples need their label: leave those out that have none.
    names : sequence of str, optional
        What messages call the members.

    Raises
    ------
    ConfigError
        If there is no such task type.
    DataError
        If there is no member or no sample, shapes differ, logits are not finite, or a label is not as it must be.
    """
    if task_type not in OBJECTIVES:
        raise ConfigError("task_type", task_type, one_of(OBJECTIVES), nearest(str(task_type), OBJECTIVES))
    arrays = open_members(members, names)
    labels = check_labels(task_type, targets, *arrays[0].shape)
    check_finite(arrays, name_members(len(arrays), names))
    return OBJECTIVES[task_type](arrays, labels)
