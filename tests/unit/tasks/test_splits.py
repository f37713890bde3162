"""Splits and folds depend on ids and seed, and on nothing else."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.config.definition import TaskRecord
from foldwise.errors import DataError
from foldwise.tasks.samples import Sample
from foldwise.tasks.splits import (
    by_class,
    deal_balanced_folds,
    deal_folds,
    fold_samples,
    keep_folds,
    shuffle,
    take_split,
    take_stratified,
)

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


def record(**keys):
    return TaskRecord(dataset="toy", **keys)


def make_samples(labels, groups=None, split="train"):
    rows = zip(labels, groups or [""] * len(labels), strict=True)
    return [Sample(f"s{k:03d}", split, "i", label, group) for k, (label, group) in enumerate(rows)]


SAMPLES = make_samples(LABELS)
LABELLED_GROUPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", *"pqrstuvw"])), min_size=12)


class TestTakenSplits:
    def test_classification_takes_a_share_of_every_class(self):
        samples = take_split(SAMPLES, "test", 0.25, record())
        assert Counter(sample.target for sample in samples if sample.split == "test") == {"a": 13, "b": 8, "c": 3}
        assert {sample.sample_id for sample in samples if sample.split == "test"} == take_stratified(
            IDS, LABELS, 0.25, 42, "test"
        )

    @pytest.mark.parametrize("kind", ["multilabel", "regression", "segmentation"])
    def test_other_types_take_a_share_of_all(self, kind):
        samples = take_split(SAMPLES, "test", 0.25, record(type=kind))
        assert sum(sample.split == "test" for sample in samples) == 25

    def test_of_each_class_a_training_sample_is_left(self):
        samples = take_split(make_samples(["a", "b", "b", "b"]), "test", 0.9, record())
        assert Counter(sample.target for sample in samples if sample.split == "train") == {"a": 1, "b": 1}

    def test_only_training_samples_are_taken_and_unlabeled_ones_lose_their_target(self):
        others = [sample._replace(sample_id=f"t{sample.sample_id}", split="test") for sample in SAMPLES]
        samples = take_split([*SAMPLES, *others], "unlabeled", 0.25, record())
        assert samples[100:] == others
        assert Counter(sample.split for sample in samples[:100]) == {"train": 76, "unlabeled": 24}
        assert all((sample.target == "") == (sample.split == "unlabeled") for sample in samples)

    def test_no_share_takes_nothing(self):
        assert take_split(SAMPLES, "test", 0.0, record()) == SAMPLES

    @given(rows=LABELLED_GROUPS, fraction=st.sampled_from([0.1, 0.25, 0.5]), seed=st.integers(0, 9))
    @settings(max_examples=100, deadline=None)
    def test_groups_are_taken_whole_whatever_the_order_of_rows(self, rows, fraction, seed):
        samples = make_samples(*map(list, zip(*rows, strict=True)))
        taken = take_split(samples, "test", fraction, record(seed=seed))
        assert sorted(take_split(samples[::-1], "test", fraction, record(seed=seed))) == sorted(taken)
        for group in "pqrstuvw":
            assert len({sample.split for sample in taken if sample.group == group}) <= 1
        present = {sample.target for sample in samples}
        assert {sample.target for sample in taken if sample.split == "train"} == present

    def test_groups_come_near_to_the_share_of_each_class(self):
        labels = ["a" if k % 10 else "b" for k in range(1000)]
        groups = [f"g{k * 7 % 1000 // 10}" for k in range(1000)]
        taken = take_split(make_samples(labels, groups), "test", 0.2, record())
        counts = Counter(sample.target for sample in taken if sample.split == "test")
        assert abs(counts["a"] - 180) <= 9
        assert abs(counts["b"] - 20) <= 2

    def test_a_few_large_groups_leave_no_split_empty(self):
        samples = take_split(make_samples(["a"] * 12, list("pppppppqqqqq")), "test", 0.1, record(type="regression"))
        assert {sample.group for sample in samples if sample.split == "test"} == {"q"}


class TestFolds:
    def test_classification_is_balanced_if_wanted(self):
        assert fold_samples(SAMPLES, record(n_folds=4), "fold", "task toy") == balanced()
        plain = deal_folds(IDS, 4, 42, "fold")
        assert fold_samples(SAMPLES, record(n_folds=4, ensure_balancing=False), "fold", "task toy") == plain
        assert fold_samples(SAMPLES, record(n_folds=4, type="multilabel"), "fold", "task toy") == plain

    def test_only_training_samples_have_folds(self):
        others = [sample._replace(sample_id=f"t{sample.sample_id}", split="test") for sample in SAMPLES]
        assert fold_samples([*others, *SAMPLES], record(n_folds=4), "fold", "task toy") == balanced()
        assert fold_samples([], record(type="unlabeled"), "fold", "task toy") == {}

    @pytest.mark.parametrize("groups", [None, ["p", "p", "p", "p"]])
    def test_fewer_samples_than_folds_are_counted(self, groups):
        with pytest.raises(DataError, match=r"task toy: got 4 training samples, expected at least n_folds = 5"):
            fold_samples(make_samples("aabb", groups), record(), "fold", "task toy")

    def test_fewer_groups_than_folds_are_counted(self):
        samples = make_samples(list("ab") * 5, list("ppqqqrrr") + [""] * 2)
        with pytest.raises(DataError, match=r"got 5 groups of 10 training samples, expected at least n_folds = 6"):
            fold_samples(samples, record(n_folds=6), "fold", "task toy")
        assert set(fold_samples(samples, record(n_folds=5), "fold", "task toy").values()) == set(range(5))

    @given(rows=LABELLED_GROUPS, n_folds=st.integers(2, 4), seed=st.integers(0, 9), balance=st.booleans())
    @settings(max_examples=100, deadline=None)
    def test_no_group_spans_two_folds_whatever_the_order_of_rows(self, rows, n_folds, seed, balance):
        rows += [("a", "p"), ("b", "q"), ("c", ""), ("c", "")]
        samples = make_samples(*map(list, zip(*rows, strict=True)))
        keys = record(n_folds=n_folds, seed=seed, ensure_balancing=balance)
        folds = fold_samples(samples, keys, "fold", "task toy")
        assert fold_samples(samples[::-1], keys, "fold", "task toy") == folds
        assert set(folds) == {sample.sample_id for sample in samples}
        assert set(folds.values()) == set(range(n_folds))
        for group in "pqrstuvw":
            assert len({folds[sample.sample_id] for sample in samples if sample.group == group}) <= 1

    def test_grouped_folds_mirror_the_classes_as_far_as_groups_allow(self):
        labels = [label for k in range(120) for label in ["a" if k % 4 else "b"] * (1 + k % 7)]
        groups = [f"g{k}" for k in range(120) for _ in range(1 + k % 7)]
        folds = fold_samples(make_samples(labels, groups), record(), "fold", "task toy")
        for label in "ab":
            members = [f"s{k:03d}" for k, found in enumerate(labels) if found == label]
            assert max(sizes(folds, members, 5)) - min(sizes(folds, members, 5)) <= 2

    def test_a_class_in_fewer_groups_than_folds_is_no_error(self):
        samples = make_samples(["a"] * 20 + ["rare"] * 2, [f"g{k // 2}" for k in range(22)])
        assert set(fold_samples(samples, record(), "fold", "task toy").values()) == set(range(5))

    def test_a_sample_without_group_is_no_member_of_a_group_named_like_it(self):
        samples = [Sample("x", "train", "i", "a", ""), Sample("y", "train", "i", "b", "x")]
        assert sorted(fold_samples(samples, record(n_folds=2), "fold", "task toy").values()) == [0, 1]

    def test_folds_are_kept_for_training_samples_alone(self):
        samples = take_split(SAMPLES, "test", 0.25, record())
        kept = keep_folds(samples, balanced(), 4, "task toy")
        assert kept == {one.sample_id: balanced()[one.sample_id] for one in samples if one.split == "train"}
        with pytest.raises(DataError, match=r"task toy: got no training sample in fold 4, expected .* from 0 to 4"):
            keep_folds(samples, balanced(), 5, "task toy")


def test_splits_and_folds_are_the_same_on_every_platform():
    samples = [Sample(f"{k:04d}", "train", "i", str(k * k % 10), "") for k in range(60)]
    taken = take_split(take_split(samples, "test", 1 / 6, record()), "unlabeled", 1 / 15, record())
    folds = fold_samples(taken, record(n_folds=2), "fold", "task toy")
    found = "".join(str(folds.get(sample.sample_id, sample.split[1])) for sample in taken)
    assert found == "e1e1e10001000nn10e010ee100101110110e00100e11111e0110n1e0100n"
    grouped = [sample._replace(group=f"g{k // 3}") for k, sample in enumerate(samples)]
    folds = fold_samples(grouped, record(n_folds=3), "fold", "task toy")
    assert "".join(str(folds[sample.sample_id]) for sample in grouped[::3]) == "20210200111110102022"
