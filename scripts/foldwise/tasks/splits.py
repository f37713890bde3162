"""Splits and folds that depend on sample ids and a seed, never on file order or platform."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from foldwise.config.definition import TaskRecord
from foldwise.errors import DataError, Words
from foldwise.tasks.groups import ALL, Units, deal_units, draw_units, unit_of

if TYPE_CHECKING:
    from foldwise.tasks.samples import Sample


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


def take_stratified(
    ids: Sequence[str], labels: Sequence[str], fraction: float, seed: int, purpose: str, spare: int = 0
) -> set[str]:
    """Draw a fraction of every class.

    Parameters
    ----------
    ids, labels : sequences of str
        Sample ids and their classes.
    fraction : float
        Share of each class, between 0 and 1; the number of samples is rounded to the nearest.
    seed, purpose
        See `shuffle`.
    spare : int
        Samples of each class that are never drawn.

    Returns
    -------
    set of str
        The drawn ids.
    """
    drawn: set[str] = set()
    for members in by_class(ids, labels).values():
        number = min(round(fraction * len(members)), len(members) - spare)
        drawn.update(shuffle(members, seed, purpose)[:number])
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


def take_split(samples: Sequence[Sample], split: str, fraction: float, record: TaskRecord) -> list[Sample]:
    """Set a share of the training samples apart as another split.

    Parameters
    ----------
    samples : sequence of Sample
        Those that are not for training stay as they are.
    split : str
        ``test`` or ``unlabeled``; targets of unlabeled samples are dropped.
    fraction : float
        Share of the training samples of every class (classification), or of all; from 0 to below 1. Groups are taken
        whole, as near to the share as can be. Of each class a training sample is left.
    record : TaskRecord
        Task type and seed.

    Returns
    -------
    list of Sample
        All samples, in the same order.
    """
    train = [sample for sample in samples if sample.split == "train"]
    if not fraction or not train:
        return list(samples)
    ids, labels = [sample.sample_id for sample in train], labels_of(train, record.type == "classification")
    if any(sample.group for sample in train):
        units = group_units(train, labels)
        drawn = draw_units(units, shuffle(list(units), record.seed, split), fraction)
        taken = {sample.sample_id for sample in train if unit_of(sample.sample_id, sample.group) in drawn}
    else:
        taken = take_stratified(ids, labels, fraction, record.seed, split, spare=1)
    return [move(sample, split) if sample.sample_id in taken else sample for sample in samples]


def move(sample: Sample, split: str) -> Sample:
    """Put a sample into another split."""
    return sample._replace(split=split, target="" if split == "unlabeled" else sample.target)


def labels_of(samples: Sequence[Sample], by_target: bool) -> list[str]:
    """Return what samples are balanced by: their class, or nothing."""
    return [sample.target if by_target else ALL for sample in samples]


def group_units(samples: Sequence[Sample], labels: Sequence[str]) -> Units:
    """Return the labels of what is dealt as a whole: groups, and samples without a group."""
    units: Units = {}
    for sample, label in zip(samples, labels, strict=True):
        units.setdefault(unit_of(sample.sample_id, sample.group), []).append(label)
    return units


def fold_samples(samples: Sequence[Sample], record: TaskRecord, purpose: str, where: str) -> dict[str, int]:
    """Deal the training samples into folds.

    Parameters
    ----------
    samples : sequence of Sample
        Those that are not for training are passed over.
    record : TaskRecord
        Number of folds, whether they mirror the classes, seed.
    purpose : str
        See `shuffle`.
    where : str
        What messages are about.

    Returns
    -------
    dict of str to int
        Fold of each training sample. Without groups sizes differ by at most one, balanced: also within each class.
        No group spans two folds; sizes and classes are then as even as the groups allow.

    Raises
    ------
    DataError
        If there are fewer training samples or groups than folds, or, without groups, fewer samples of a class than
        balanced folds.
    """
    if record.type == "unlabeled":
        return {}
    train = [sample for sample in samples if sample.split == "train"]
    check_count(len(train), "training samples", record.n_folds, where)
    ids, balanced = [sample.sample_id for sample in train], record.ensure_balancing and record.type == "classification"
    labels = labels_of(train, balanced)
    if any(sample.group for sample in train):
        units = group_units(train, labels)
        check_count(len(units), f"groups of {len(train)} training samples", record.n_folds, where)
        folds = deal_units(units, shuffle(list(units), record.seed, purpose), record.n_folds)
        return {sample.sample_id: folds[unit_of(sample.sample_id, sample.group)] for sample in train}
    if balanced:
        return deal_balanced_folds(ids, labels, record.n_folds, record.seed, purpose, where)
    return deal_folds(ids, record.n_folds, record.seed, purpose)


def check_count(number: int, what: str, n_folds: int, where: str) -> None:
    """Raise `DataError` if there are fewer samples or groups than folds."""
    if number < n_folds:
        found = Words(f"{number} {what}")
        raise DataError(where, found, f"at least n_folds = {n_folds} of them", "Lower create.n_folds.")


def keep_folds(
    samples: Sequence[Sample], folds: Mapping[str, int], n_folds: int, where: str, remedy: str = ""
) -> dict[str, int]:
    """Return the folds of those samples that are for training.

    Raises
    ------
    DataError
        If a fold is empty.
    """
    kept = {sample.sample_id: folds[sample.sample_id] for sample in samples if sample.split == "train"}
    filled = set(kept.values())
    empty = [str(fold) for fold in range(n_folds) if fold not in filled]
    if empty:
        found = Words(f"no training sample in fold {', '.join(empty[:20])}")
        raise DataError(where, found, f"training samples in each fold from 0 to {n_folds - 1}", remedy)
    return kept
