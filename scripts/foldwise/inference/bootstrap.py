"""Intervals of metrics by resampling test samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from foldwise.inference.own import is_own, load_metric

BLOCK_VALUES = 2**22
LEVELS = (2.5, 97.5)  # per cent


class Bootstrap(NamedTuple):
    """A metric in resamples: all values, NaN where it is not defined, and the interval of the others."""

    replicates: np.ndarray

    @property
    def undefined(self) -> int:
        """Number of resamples in which the metric is not defined."""
        return int(np.isnan(self.replicates).sum())

    @property
    def interval(self) -> list[float] | None:
        """Percentile interval of 95 %; None if the metric is defined in no resample."""
        return percentile_interval(self.replicates[~np.isnan(self.replicates)])

    @property
    def rounded(self) -> list[float | None]:
        """All values to six digits; None where the metric is not defined."""
        return [None if np.isnan(value) else float(f"{value:.6g}") for value in self.replicates]


def percentile_interval(values: np.ndarray | Sequence[float]) -> list[float] | None:
    """Return the percentile interval of 95 % (Efron and Tibshirani 1993, chapter 13); None without values."""
    return np.percentile(values, LEVELS).tolist() if len(values) else None


def bootstrap_metrics(
    kind: str,
    names: Sequence[str],
    logits: np.ndarray,
    targets: np.ndarray,
    ids: np.ndarray,
    resamples: int,
    seed: int,
) -> dict[str, Bootstrap]:
    """Compute metrics of resamples of samples, drawn with replacement, as many as there are.

    Parameters
    ----------
    kind : str
        Task type.
    names : sequence of str
        Metrics, functions of the user's own among them; those are called once a resample.
    logits, targets : ndarray
        As `compute_metrics` takes them.
    ids : ndarray of str, shape (n,)
        Ids of the samples.
    resamples : int
        Number of resamples.
    seed : int
        Seed of the draws.

    Returns
    -------
    dict of str to Bootstrap
        In the order of `names`.

    Notes
    -----
    Samples are drawn one by one: their groups (patients, videos) are not kept with logits. Where samples of a group are
    alike, intervals are too narrow.
    """
    from foldwise.inference.resampled import RESAMPLED

    own = {name: load_metric(name) for name in names if is_own(name)}
    resampled = RESAMPLED[kind](logits, targets)
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for weights in draw_weights(ids, resamples, seed):
        for name in names:
            if name in own:
                drawn = (np.repeat(np.arange(len(ids)), counts.astype(np.int64)) for counts in weights.T)
                values = np.array([own[name](logits[places], targets[places]) for places in drawn])
            else:
                values = getattr(resampled, name)(weights)
            blocks[name].append(values)
    return {name: Bootstrap(np.concatenate(values)) for name, values in blocks.items()}


def draw_weights(ids: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each resample holds each sample, shape (n, b), some resamples at a time.

    Draws depend on nothing but the seed and the set of ids: models that are tested on the same samples meet the same
    resamples, whatever the order of their files, so that differences and means over models can be taken resample by
    resample; draws on other samples are independent.
    """
    order, samples = np.argsort(ids), len(ids)
    digest = hashlib.sha256("\n".join(ids[order].tolist()).encode()).digest()
    generator = np.random.default_rng([seed, int.from_bytes(digest, "big")])
    size = max(1, BLOCK_VALUES // samples)
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        weights = np.empty((samples, count))
        for column in range(count):
            weights[order, column] = np.bincount(generator.integers(samples, size=samples), minlength=samples)
        yield weights
