"""Splits and folds that depend on sample ids and a seed, never on file order or platform."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from foldwise.errors import DataError, Words


def shuffle(ids: Sequence[str], seed: int, purpose: str) -> list[str]:
    """Order ids by a hash of seed, purpose and id.

    Parameters
    ----------
    ids : sequence of str
        Unique sample ids.
    seed : int
        Seed of the splits.
    purpose : str
        Word that keeps the orders for different purposes apart.

    Returns
    -------
    list of str
        The ids in an order that looks random and is the same everywhere.
    """
    return sorted(ids, key=lambda sample: (hashlib.sha256(f"{seed}:{purpose}:{sample}".encode()).digest(), sample))


def by_class(ids: Sequence[str], labels: Sequence[str]) -> dict[str, list[str]]:
    """Group ids by label, labels in sorted order."""
    groups: dict[str, list[str]] = {label: [] for label in sorted(set(labels))}
    for sample, label in zip(ids, labels, strict=True):
        groups[label].append(sample)
    return groups


def take_stratified(ids: Sequence[str], labels: Sequence[str], fraction: float, seed: int, purpose: str) -> set[str]:
    """Draw a fraction of every class.

    Parameters
    ----------
    ids, labels : sequences of str
        Sample ids and their classes.
    fraction : float
        Share of each class, between 0 and 1; the number of samples is rounded to the nearest.
    seed, purpose
        See `shuffle`.

    Returns
    -------
    set of str
        The drawn ids.
    """
    drawn: set[str] = set()
    for members in by_class(ids, labels).values():
        drawn.update(shuffle(members, seed, purpose)[: round(fraction * len(members))])
    return drawn


def deal_folds(ids: Sequence[str], n_folds: int, seed: int, purpose: str) -> dict[str, int]:
    """Deal ids into folds whose sizes differ by at most one."""
    return {sample: place % n_folds for place, sample in enumerate(shuffle(ids, seed, purpose))}


def deal_balanced_folds(
    ids: Sequence[str], labels: Sequence[str], n_folds: int, seed: int, purpose: str, where: str
) -> dict[str, int]:
    """Deal ids into folds that mirror the class distribution.

    Sizes differ by at most one within every class, and in all: each class goes on dealing where
    the one before stopped.

    Raises
    ------
    DataError
        If a class has fewer samples than there are folds; names the class and its size.
    """
    folds: dict[str, int] = {}
    for label, members in by_class(ids, labels).items():
        if len(members) < n_folds:
            raise DataError(
                where,
                Words(f"class {label!r} with {len(members)} training samples"),
                f"at least n_folds = {n_folds} samples of every class",
                "Lower create.n_folds, or set create.ensure_balancing: false.",
            )
        start = len(folds)
        for place, sample in enumerate(shuffle(members, seed, purpose)):
            folds[sample] = (start + place) % n_folds
    return folds
