"""Groups of samples, such as patients or videos, that must not be torn apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

ALL = ""  # what samples of any class are counted under
Units = dict[str, list[str]]


def spanning(groups: Sequence[str], parts: Sequence[Any]) -> list[tuple[int, int]]:
    """Find groups that are in more than one part.

    Parameters
    ----------
    groups, parts : sequences
        Group and part of each sample; samples without a group, or in part None, are passed over.

    Returns
    -------
    list of tuple of int
        Places of two samples of each such group that are in different parts.
    """
    first: dict[str, int] = {}
    found: dict[str, tuple[int, int]] = {}
    for place, (group, part) in enumerate(zip(groups, parts, strict=True)):
        if group and part is not None:
            other = first.setdefault(group, place)
            if parts[other] != part:
                found.setdefault(group, (other, place))
    return list(found.values())


def unit_of(sample_id: str, group: str) -> str:
    """Name what a sample is dealt with: its group, or itself if it has none."""
    return f"group:{group}" if group else f"sample:{sample_id}"


def deal_units(units: Units, order: Sequence[str], n_folds: int) -> dict[str, int]:
    """Deal groups of samples into folds, the largest first.

    Each goes into the fold where the sum of squares, over folds and classes and over sizes, of the share of samples
    in the fold grows least. As long as there are enough groups no fold stays empty.

    Parameters
    ----------
    units : dict of str to list of str
        Classes of the samples of each group; `ALL` where folds need not be balanced.
    order : sequence of str
        The groups in the order in which those of equal size are dealt.
    n_folds : int
        Number of folds.

    Returns
    -------
    dict of str to int
        Fold of each group.
    """
    totals = total(units)
    loads = {label: [0] * n_folds for label in totals}
    folds = {}
    for unit in sorted(order, key=lambda unit: -len(units[unit])):
        counts = count(units[unit])
        costs = [0.0] * n_folds
        for label, number in counts:
            weight = number / totals[label] ** 2
            costs = [cost + weight * load for cost, load in zip(costs, loads[label], strict=True)]
        fold = folds[unit] = costs.index(min(costs))
        for label, number in counts:
            loads[label][fold] += number
    return folds


def draw_units(units: Units, order: Sequence[str], fraction: float) -> set[str]:
    """Draw groups of samples until a share of the samples, and of those of each class, is reached as near as can be.

    Parameters
    ----------
    units : dict of str to list of str
        Classes of the samples of each group; `ALL` where classes do not matter.
    order : sequence of str
        The groups in the order of drawing; one that would lead away from the share is passed over.
    fraction : float
        The share, above 0 and below 1.

    Returns
    -------
    set of str
        The drawn groups: at least one, unless that would take all samples of a class.
    """
    totals = total(units)
    taken = dict.fromkeys(totals, 0)
    drawn = set()
    for unit in order:
        counts = count(units[unit])
        growth = sum(
            number * (2 * (taken[label] - fraction * totals[label]) + number) / totals[label] ** 2
            for label, number in counts
        )
        if growth < 0 and all(taken[label] + number < totals[label] for label, number in counts):
            drawn.add(unit)
            for label, number in counts:
                taken[label] += number
    possible = [unit for unit in order if all(number < totals[label] for label, number in count(units[unit]))]
    return drawn or set(sorted(possible, key=lambda unit: len(units[unit]))[:1])


def total(units: Units) -> dict[str, int]:
    """Count the samples of each class, and of all."""
    counts = Counter(label for labels in units.values() for label in labels)
    return {**counts, ALL: sum(map(len, units.values()))}


def count(labels: Sequence[str]) -> list[tuple[str, int]]:
    """Count the samples of each class, and of all, classes in sorted order."""
    if len(labels) == 1:
        return [(ALL, 1)] if labels[0] == ALL else [(ALL, 1), (labels[0], 1)]
    return sorted({**Counter(labels), ALL: len(labels)}.items())
