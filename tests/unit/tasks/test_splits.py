"""Splits and folds depend on ids and seed, and on nothing else."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.errors import DataError
from foldwise.tasks.splits import by_class, deal_balanced_folds, deal_folds, shuffle, take_stratified

IDS = [f"s{number:03d}" for number in range(100)]
LABELS = ["a" if number < 53 else "b" if number < 87 else "c" for number in range(100)]


def balanced(ids=IDS, labels=LABELS, n_folds=4, seed=42, purpose="fold"):
    return deal_balanced_folds(ids, labels, n_folds, seed, purpose, "task toy")


def sizes(folds, ids, n_folds):
    counts = Counter(folds[sample] for sample in ids)
    return [counts[fold] for fold in range(n_folds)]


def test_the_order_is_a_permutation_that_input_order_does_not_change():
    order = shuffle(IDS, 42, "test")
    assert sorted(order) == IDS
    assert order != IDS
    assert shuffle(IDS[::-1], 42, "test") == order


def test_the_order_is_the_same_on_every_platform():
    assert shuffle(["a", "b", "c", "d", "e"], 42, "fold") == ["c", "a", "d", "b", "e"]


@pytest.mark.parametrize(("seed", "purpose"), [(43, "test"), (42, "fold")])
def test_seed_and_purpose_change_the_order(seed, purpose):
    assert shuffle(IDS, seed, purpose) != shuffle(IDS, 42, "test")


def test_adding_a_sample_leaves_the_others_in_their_order():
    order = shuffle([*IDS, "new"], 42, "test")
    order.remove("new")
    assert order == shuffle(IDS, 42, "test")


def test_classes_are_grouped_in_sorted_order():
    assert list(by_class(["1", "2", "3"], ["b", "a", "b"]).items()) == [("a", ["2"]), ("b", ["1", "3"])]


def test_a_fraction_of_every_class_is_taken():
    taken = take_stratified(IDS, LABELS, 0.25, 42, "test")
    counts = Counter(label for sample, label in zip(IDS, LABELS, strict=True) if sample in taken)
    assert counts == {"a": 13, "b": 8, "c": 3}
    assert take_stratified(IDS[::-1], LABELS[::-1], 0.25, 42, "test") == taken
    assert take_stratified(IDS, LABELS, 0.25, 43, "test") != taken
    assert take_stratified(IDS, LABELS, 0.0, 42, "test") == set()
    assert take_stratified(IDS, LABELS, 1.0, 42, "test") == set(IDS)


@given(count=st.integers(2, 60), n_folds=st.integers(2, 7), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_plain_folds_partition_the_samples_in_equal_sizes(count, n_folds, seed):
    folds = deal_folds(IDS[:count], n_folds, seed, "fold")
    assert set(folds) == set(IDS[:count])
    assert max(sizes(folds, folds, n_folds)) - min(sizes(folds, folds, n_folds)) <= 1


@given(
    labels=st.lists(st.sampled_from("abc"), min_size=1, max_size=60), n_folds=st.integers(2, 5), seed=st.integers(0, 9)
)
@settings(max_examples=100, deadline=None)
def test_balanced_folds_are_equal_within_each_class_and_in_all(labels, n_folds, seed):
    labels = [*labels, *"abc" * n_folds]
    ids = [f"s{number}" for number in range(len(labels))]
    folds = balanced(ids, labels, n_folds, seed)
    assert set(folds) == set(ids)
    for members in (ids, *by_class(ids, labels).values()):
        assert max(sizes(folds, members, n_folds)) - min(sizes(folds, members, n_folds)) <= 1


@pytest.mark.parametrize("deal", [balanced, lambda ids=IDS, labels=LABELS, **k: deal_folds(ids, 4, **k)])
def test_folds_do_not_depend_on_input_order_and_do_on_the_seed(deal):
    first = deal(seed=42, purpose="fold")
    assert deal(ids=IDS[::-1], labels=LABELS[::-1], seed=42, purpose="fold") == first
    assert deal(seed=43, purpose="fold") != first
    assert deal(seed=42, purpose="fold:nested-0") != first


def test_a_class_with_fewer_samples_than_folds_is_named_with_its_size():
    with pytest.raises(DataError) as caught:
        balanced(labels=["rare"] * 3 + ["a"] * 97)
    assert caught.value.message == (
        "task toy: got class 'rare' with 3 training samples, expected at least n_folds = 4 samples of every class. "
        "Lower create.n_folds, or set create.ensure_balancing: false."
    )


def test_a_class_with_as_many_samples_as_folds_has_one_in_each():
    folds = balanced(labels=["rare"] * 4 + ["a"] * 96)
    assert sorted(folds[sample] for sample in IDS[:4]) == [0, 1, 2, 3]
