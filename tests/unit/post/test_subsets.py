"""Sets of members: all of them, each once, in order or at random."""

import math
from collections import Counter
from itertools import combinations, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldwise.post.subsets import Subsets, permutation, random_below, ranked_subsets, subset_at

SIZES = st.integers(1, 8).flatmap(lambda members: st.tuples(st.just(members), st.integers(1, members)))


@given(SIZES)
def test_ranked_sets_are_all_sets_by_the_sum_of_ranks(sizes):
    members, size = sizes
    expected = sorted(combinations(range(members), size), key=lambda subset: (sum(subset), subset))
    assert list(ranked_subsets(members, size)) == expected


@given(SIZES)
def test_places_are_those_of_the_lexicographic_order(sizes):
    members, size = sizes
    found = [subset_at(place, members, size) for place in range(math.comb(members, size))]
    assert found == list(combinations(range(members), size))


@given(SIZES, st.lists(st.booleans(), min_size=70, max_size=70), st.integers(0, 9))
def test_no_set_is_handed_out_twice_and_none_is_left_out(sizes, is_random, seed):
    members, size = sizes
    subsets, found = Subsets(members, size, np.random.default_rng(seed)), []
    for kind in islice(is_random, subsets.left):
        found.append(subsets.draw() if kind else subsets.next_ranked())
    assert subsets.left == 0
    assert sorted(found) == list(combinations(range(members), size))


def test_sets_of_more_members_than_can_be_listed_come_at_once():
    subsets = Subsets(600, 200, np.random.default_rng(0))
    assert subsets.next_ranked() == tuple(range(200))
    assert subsets.next_ranked() == (*range(199), 200)
    assert len({subsets.draw() for _ in range(20)}) == 20


def test_a_permutation_has_every_order_equally_often():
    generator = np.random.default_rng(0)
    counts = Counter(tuple(permutation(3, generator)) for _ in range(6000))
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts.values()) < 120  # four standard deviations


@pytest.mark.parametrize("limit", [1, 255, 256, 257, 10**30])
def test_random_numbers_reach_up_to_their_limit(limit):
    generator = np.random.default_rng(0)
    drawn = [random_below(limit, generator) for _ in range(2000)]
    assert min(drawn) >= 0
    assert 0.99 * (limit - 1) <= max(drawn) < limit
