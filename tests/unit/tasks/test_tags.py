"""Tags change what they should, leave the rest alone, and do not depend on the order of rows."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.config.definition import TaskRecord
from foldwise.config.names import parse_tag
from foldwise.errors import DataError
from foldwise.tasks.samples import Sample, target_column
from foldwise.tasks.splits import deal_balanced_folds, fold_samples
from foldwise.tasks.tags import Content, apply_tag

CLASSES = ["b", "a", "c"]
OTHERS = [Sample("t0", "test", "i", "a", ""), Sample("t1", "test", "i", "c", ""), Sample("u", "unlabeled", "i", "", "")]


def make_samples(labels, groups=None):
    rows = zip(labels, groups or [""] * len(labels), strict=True)
    return [Sample(f"s{k:03d}", "train", "i", label, group) for k, (label, group) in enumerate(rows)] + OTHERS


SAMPLES = make_samples(["a"] * 50 + ["b"] * 30 + ["c"] * 20)


def apply(text, samples=SAMPLES, classes=CLASSES, folds=None, parent_folds=5, column=None, **keys):
    tag = parse_tag(text, "tasks")
    parent = TaskRecord(dataset="toy", **{**keys, "n_folds": parent_folds})
    if folds is None:
        folds = fold_samples(samples, parent, "fold", "task toy")
    record = TaskRecord(dataset="toy", **{"n_folds": parent_folds, **keys}, tags=[str(tag)])
    content = Content(samples, folds, classes, column or target_column(record))
    made = apply_tag(tag, content, record, f"task toy+{tag}")
    return list(made.samples), dict(made.folds), list(made.classes)


def message_of(text, *args, **keys):
    with pytest.raises(DataError) as caught:
        apply(text, *args, **keys)
    return caught.value.message


def split_of(samples, split):
    return {sample.sample_id for sample in samples if sample.split == split}


FOLDS = fold_samples(SAMPLES, TaskRecord(dataset="toy"), "fold", "task toy")


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        *[(tag, "classification") for tag in ("nested-1", "subset-0.5", "classes-a.c", "noise-0.3")],
        *[(tag, "regression") for tag in ("nested-1", "subset-0.5")],
    ],
)
def test_the_order_of_rows_does_not_matter(tag, kind):
    samples, folds, classes = apply(tag, type=kind)
    turned, turned_folds, turned_classes = apply(tag, SAMPLES[::-1], type=kind)
    assert sorted(turned) == sorted(samples)
    assert (turned_folds, turned_classes) == (folds, classes)


def test_what_is_drawn_is_the_same_on_every_platform():
    subset = apply("subset-0.1")[1]
    noise = [new for old, new in zip(SAMPLES, apply("noise-0.03")[0], strict=True) if old != new]
    assert subset == {
        "s006": 4,
        "s010": 1,
        "s027": 0,
        "s034": 3,
        "s035": 2,
        "s053": 3,
        "s063": 0,
        "s071": 4,
        "s088": 2,
        "s094": 1,
    }
    assert [(sample.sample_id, sample.target) for sample in noise] == [("s024", "b"), ("s037", "c"), ("s072", "c")]


def test_identity_changes_nothing():
    assert apply("identity") == (SAMPLES, FOLDS, CLASSES)
    assert apply("identity", OTHERS[2:], [], type="unlabeled") == (OTHERS[2:], {}, [])


def test_other_tags_need_training_samples():
    assert message_of("nested-0", OTHERS[2:], [], type="unlabeled").startswith(
        "task toy+nested-0: got no training samples"
    )


class TestNested:
    @pytest.mark.parametrize("outer", range(5))
    def test_a_fold_becomes_the_test_split_and_the_rest_is_dealt_anew(self, outer):
        samples, folds, classes = apply(f"nested-{outer}-3", n_folds=3)
        assert split_of(samples, "test") == {sample for sample, fold in FOLDS.items() if fold == outer}
        assert split_of(samples, "train") == set(folds) == set(FOLDS) - split_of(samples, "test")
        assert split_of(samples, "unlabeled") == set()
        assert classes == CLASSES
        rest = [sample for sample in samples if sample.split == "train"]
        ids, labels = [sample.sample_id for sample in rest], [sample.target for sample in rest]
        assert folds == deal_balanced_folds(ids, labels, 3, 42, f"fold:nested-{outer}-3", "")

    def test_groups_are_respected(self):
        samples = make_samples(list("abc") * 20, [f"g{k // 4}" for k in range(60)])
        nested, folds, _ = apply("nested-2", samples)
        for group in {sample.group for sample in nested}:
            assert len({folds.get(sample.sample_id) for sample in nested if sample.group == group}) == 1

    def test_folds_of_the_source_are_kept_where_their_number_fits(self):
        given = {sample: (fold * 2) % 5 for sample, fold in FOLDS.items()}
        _, folds, _ = apply("nested-1-4", folds=given, given_folds=True, n_folds=4)
        assert folds == {sample: fold - (fold > 1) for sample, fold in given.items() if fold != 1}
        _, folds, _ = apply("nested-1-3", folds=given, given_folds=True, n_folds=3)
        assert set(folds.values()) == {0, 1, 2}

    def test_too_small_a_class_is_an_error(self):
        samples = make_samples(["a"] * 30 + ["b"] * 30 + ["c"] * 5)
        assert "class 'c' with 4 training samples" in message_of("nested-0", samples)


class TestSubset:
    @given(
        sizes=st.tuples(*[st.integers(10, 40)] * 3),
        fraction=st.floats(0.2, 1).map(lambda number: round(number, 3)),
        seed=st.integers(0, 5),
    )
    @settings(max_examples=60, deadline=None)
    def test_a_share_of_every_class_is_kept_and_folds_stay_balanced(self, sizes, fraction, seed):
        parent = make_samples([label for label, size in zip("abc", sizes, strict=True) for _ in range(size)])
        base = fold_samples(parent, TaskRecord(dataset="toy"), "fold", "task toy")
        samples, folds, _ = apply(f"subset-{fraction}-{seed}", parent, folds=base)
        assert set(samples) <= set(parent)
        assert [sample for sample in samples if sample.split != "train"] == OTHERS
        assert folds == {sample: base[sample] for sample in split_of(samples, "train")}
        for label, size in zip("abc", sizes, strict=True):
            kept = [folds[sample.sample_id] for sample in samples if sample.split == "train" and sample.target == label]
            assert len(kept) == max(1, round(fraction * size))
            counts = [kept.count(fold) for fold in range(5)]
            assert max(counts) - min(counts) <= 1

    @given(fractions=st.tuples(*[st.integers(10, 100)] * 2).map(sorted), seed=st.integers(0, 5))
    @settings(max_examples=40, deadline=None)
    def test_a_smaller_subset_is_part_of_a_greater_one(self, fractions, seed):
        small, great = (split_of(apply(f"subset-{share / 100}-{seed}")[0], "train") for share in fractions)
        assert small <= great

    def test_the_seed_decides_which(self):
        first, second = (split_of(apply(f"subset-0.5{seed}")[0], "train") for seed in ("", "-1"))
        assert first != second
        assert split_of(apply("subset-0.5", seed=7)[0], "train") != first

    def test_all_and_other_types(self):
        assert apply("subset-1") == (SAMPLES, FOLDS, CLASSES)
        samples, _, _ = apply("subset-0.25", classes=[], type="regression")
        assert len(split_of(samples, "train")) == 25

    def test_few_samples_reach_all_folds(self):
        _, folds, _ = apply("subset-0.02", make_samples([f"{k % 10}" for k in range(100)]))
        assert Counter(folds.values()) == dict.fromkeys(range(5), 2)

    def test_a_fold_that_runs_empty_is_named(self):
        assert message_of("subset-0.01") == (
            "task toy+subset-0.01: got no training sample in fold 2, 4, expected training samples in each fold from "
            "0 to 4."
        )


class TestClasses:
    @pytest.mark.parametrize("tag", ["classes-a.c", "classes-c.a", "classes-1.2", "classes-a.2"])
    def test_samples_of_other_classes_are_dropped_but_unlabeled_ones(self, tag):
        samples, folds, classes = apply(tag)
        assert classes == ["a", "c"]
        assert samples == [sample for sample in SAMPLES if sample.target != "b"]
        assert folds == {sample.sample_id: FOLDS[sample.sample_id] for sample in samples if sample.split == "train"}

    def test_names_win_over_indexes(self):
        samples = make_samples(["1", "0", "x"] * 20)
        assert apply("classes-0.1", samples, ["1", "x", "0"])[2] == ["1", "0"]
        assert apply("classes-2.1", samples, ["1", "x", "0"])[2] == ["1", "0"]

    def test_an_unknown_class_is_an_error_with_the_list(self):
        message = message_of("classes-cat.bird", classes=["cats", "dogs"])
        assert "got class 'cat' in +classes-cat.bird, expected one of cats, dogs, or an index from 0 to 1" in message
        assert "Did you mean 'cats'?" in message
        assert "by name and by index" in message_of("classes-a.1")

    @pytest.mark.parametrize(
        ("column", "targets", "expected"),
        [
            ("classes", ["b;a;c", "b", ""], ["a;c", "", ""]),
            ("soft_classes", ["0.1;0.2;0.3", "1.0;0.0;0.5"], ["0.2;0.3", "0.0;0.5"]),
        ],
    )
    def test_multilabel_samples_stay_and_lose_targets(self, column, targets, expected):
        parent = [Sample(f"s{k}", "train", "i", target, "") for k, target in enumerate(targets)]
        unlabeled = Sample("u", "unlabeled", "i", "", "")
        folds = {f"s{k}": k % 2 for k in range(len(targets))}
        keys = {"type": "multilabel", "column": column, "parent_folds": 2}
        samples, kept, classes = apply("classes-a.c", [*parent, unlabeled], folds=folds, **keys)
        assert [sample.target for sample in samples] == [*expected, ""]
        assert (kept, classes) == (folds, ["a", "c"])

    def test_masks_keep_their_samples(self):
        samples, folds, classes = apply("classes-a.c", type="segmentation")
        assert samples == SAMPLES
        assert len(folds) == 100
        assert classes == ["a", "c"]


class TestNoise:
    @given(percent=st.integers(1, 100), seed=st.integers(0, 5))
    @settings(max_examples=60, deadline=None)
    def test_exactly_a_share_of_training_samples_gets_another_class(self, percent, seed):
        samples, folds, classes = apply(f"noise-{percent / 100}-{seed}")
        changed = [(old, new) for old, new in zip(SAMPLES, samples, strict=True) if old != new]
        assert len(changed) == round(percent / 100 * 100)
        assert all(old._replace(target=new.target) == new and new.target in CLASSES for old, new in changed)
        assert {old.split for old, _ in changed} == {"train"}
        assert (folds, classes) == (FOLDS, CLASSES)

    def test_other_classes_are_equally_likely(self):
        samples, _, _ = apply("noise-1", make_samples(["a"] * 900 + ["b"] * 5 + ["c"] * 5))
        counts = Counter(sample.target for sample in samples[:900])
        assert counts["a"] == 0
        assert 390 < counts["b"] < 510

    def test_the_seed_decides_which(self):
        assert apply("noise-0.5")[0] != apply("noise-0.5-1")[0]
        assert apply("noise-0.5")[0] != apply("noise-0.5", folds=FOLDS, seed=7)[0]
