"""Sets of ranked members, made one at a time, as there may be far too many to list."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

Subset = tuple[int, ...]


class Subsets:
    """All sets of one size out of ranked members, each of which is handed out once.

    Parameters
    ----------
    members, size : int
        Number of members, and how many of them are in a set.
    generator : Generator
        Draws sets at random.

    Attributes
    ----------
    left : int
        Number of sets that were not handed out yet.
    """

    def __init__(self, members: int, size: int, generator: np.random.Generator) -> None:
        self.left = math.comb(members, size)
        self._ranked = ranked_subsets(members, size)
        self._drawn = (subset_at(place, members, size) for place in permutation(self.left, generator))
        self._tried: set[Subset] = set()

    def next_ranked(self) -> Subset:
        """Hand out the next set in the order of `ranked_subsets`."""
        return self._hand_out(self._ranked)

    def draw(self) -> Subset:
        """Hand out any set, all with the same probability."""
        return self._hand_out(self._drawn)

    def _hand_out(self, subsets: Iterator[Subset]) -> Subset:
        found = next(subset for subset in subsets if subset not in self._tried)
        self._tried.add(found)
        self.left -= 1
        return found


def ranked_subsets(members: int, size: int) -> Iterator[Subset]:
    """Yield all sets of some of the ranks 0, 1, ..., those of the least sum first, and equal sums by their first ranks.

    Of three out of many: 012, 013, 014, 023, 015, 024, 123, 016, ...
    """
    for total in range(size * (size - 1) // 2, largest_sum(members, size) + 1):
        found: Subset | None = complete((), total, members, size)
        while found is not None:
            yield found
            found = successor(found, members)


def largest_sum(members: int, size: int) -> int:
    """Return the sum of the last ranks."""
    return size * (2 * members - size - 1) // 2


def complete(first: Subset, total: int, members: int, size: int) -> Subset:
    """Add ranks of a sum to a set, each as small as the sum allows."""
    ranks = list(first)
    while len(ranks) < size:
        least = ranks[-1] + 1 if ranks else 0
        ranks.append(max(least, total - largest_sum(members, size - len(ranks) - 1)))
        total -= ranks[-1]
    return tuple(ranks)


def successor(subset: Subset, members: int) -> Subset | None:
    """Return the next set of the same size and sum, None if there is none."""
    size, total = len(subset), subset[-1]
    for place in range(size - 2, -1, -1):
        total += subset[place]
        rank, behind = subset[place] + 1, size - place - 1
        if total - rank >= behind * (rank + 1) + behind * (behind - 1) // 2:
            return complete((*subset[:place], rank), total - rank, members, size)
    return None


def permutation(count: int, generator: np.random.Generator) -> Iterator[int]:
    """Yield 0, 1, ..., count - 1 in random order, in memory that grows with what was yielded only.

    This is the shuffle of Fisher and Yates (Durstenfeld 1964, doi:10.1145/364520.364540), which notes what it moved.
    """
    moved: dict[int, int] = {}
    for left in range(count, 0, -1):
        place = random_below(left, generator)
        last = moved.pop(left - 1, left - 1)
        if place == left - 1:
            yield last
        else:
            yield moved.get(place, place)
            moved[place] = last


def random_below(limit: int, generator: np.random.Generator) -> int:
    """Return a random integer from 0 to below a limit of any size; eight bytes more than needed hide the remainder."""
    return int.from_bytes(generator.bytes(limit.bit_length() // 8 + 9), "little") % limit


def subset_at(place: int, members: int, size: int) -> Subset:
    """Return the set at a place of all of a size in lexicographic order."""
    ranks: list[int] = []
    for rank in range(members):
        if len(ranks) == size:
            break
        beginning = math.comb(members - rank - 1, size - len(ranks) - 1)
        if place < beginning:
            ranks.append(rank)
        else:
            place -= beginning
    return tuple(ranks)
