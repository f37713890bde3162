"""Annotations become samples; whatever cannot be used is named with its row."""

import numpy as np
import pytest

from foldwise.config.definition import TaskRecord
from foldwise.errors import DataError
from foldwise.tasks.samples import Sample, build_samples, is_soft, parse_targets, target_column
from unit.tasks.building import build, message_of, problems_of


def splits_of(annotations, **keys):
    return [sample.split for sample in build(annotations, **keys)[0]]


def test_a_row_becomes_a_sample():
    samples, classes, folds = build({"class": [" cat", "dog "], "group": ["a ", ""], "split": ["", "train"]})
    assert samples == [Sample("0.png", "train", "0.png", "cat", "a"), Sample("1.png", "train", "1.png", "dog", "")]
    assert (classes, folds) == (["cat", "dog"], None)


def test_columns_are_found_by_role():
    columns = {"class": "species", "id": "key", "split": "part", "group": "nest"}
    table = {
        "species": ["a", "b"],
        "key": ["x", "y"],
        "part": ["train", "train"],
        "nest": ["g", "h"],
        "class": ["", ""],
    }
    samples, _, _ = build(table, columns=columns)
    assert samples == [Sample("x", "train", "0.png", "a", "g"), Sample("y", "train", "1.png", "b", "h")]


def test_a_missing_column_is_named_with_the_nearest():
    assert message_of({"class": ["a", "b"], "species": ["a", "b"]}, columns={"class": "specie"}) == (
        "task birds: got columns image, class, species, expected a column specie as in columns.class. "
        "Did you mean 'species'?"
    )
    assert message_of({"label": ["a", "b"]}).endswith(
        "got columns image, label, expected a column class. Set columns.class to the column of targets."
    )


def test_a_table_without_rows_is_refused():
    with pytest.raises(DataError, match="annotations without rows"):
        build_samples({"image": [], "class": []}, TaskRecord(dataset="birds"), [], "task birds")


class TestIds:
    def test_the_same_id_twice_is_named_with_both_rows(self):
        assert problems_of({"id": ["x", "y", "x"], "class": ["a", "b", "a"]}) == [
            "row 4 (image 2.png): id 'x' is that of row 2 (image 0.png) too"
        ]

    @pytest.mark.parametrize("bad", ["", "  ", "a\nb", "a\0", "a\u2028b", "\ud800"])
    def test_an_id_that_cannot_be_written_is_named(self, bad):
        assert len(problems_of({"id": ["x", bad], "class": ["a", "b"]})) == 1

    def test_an_image_may_have_several_samples(self):
        samples, _, _ = build({"image": ["i", "i"], "id": ["x", "y"], "class": ["a", "b"]})
        assert [sample.image for sample in samples] == ["i", "i"]


class TestSplits:
    def test_words_for_splits(self):
        words = ["Train", "training", "val", "VALID", "validation", "test", " testing", "unlabeled", "unlabelled", ""]
        assert splits_of({"split": words, "class": ["a", "b"] * 5}) == ["train"] * 5 + ["test"] * 2 + [
            "unlabeled"
        ] * 2 + ["train"]

    def test_without_a_split_what_has_no_target_is_unlabeled(self):
        assert splits_of({"class": ["a", "b", " "]}) == ["train", "train", "unlabeled"]
        assert splits_of({"class": ["a", "b", ""], "split": [""] * 3}) == ["train", "train", "unlabeled"]
        assert splits_of({"value": ["1", ""]}, type="regression") == ["train", "unlabeled"]

    def test_targets_of_unlabeled_samples_are_dropped_unread(self):
        samples, classes, _ = build({"class": ["a", "b", "c;\n"], "split": ["train", "train", "unlabeled"]})
        assert samples[2].target == ""
        assert classes == ["a", "b"]

    def test_all_problems_are_told_at_once(self):
        table = {"id": ["x", "y", "z", "x"], "class": ["a", "b", "", "b"], "split": ["train", "tset", "test", "train"]}
        problems = problems_of(table)
        assert problems[0].startswith("row 5 (image 3.png): id 'x' is that of row 2")
        assert problems[1].startswith("row 3 (image 1.png): split 'tset', not one of train, training, test,")
        assert problems[1].endswith("Did you mean 'test'?")
        assert problems[2] == "row 4 (image 2.png): split test without class"

    def test_all_samples_of_an_unlabeled_task_are_unlabeled(self):
        samples, classes, _ = build({"class": ["a", "b"], "split": ["train", "?"]}, type="unlabeled")
        assert [(sample.split, sample.target) for sample in samples] == [("unlabeled", "")] * 2
        assert classes == []

    def test_there_must_be_training_samples(self):
        assert "no training sample, 1 for testing and 1 unlabeled" in message_of(
            {"value": ["1", ""], "split": ["test", ""]}, type="regression"
        )

    def test_a_group_in_train_and_test_is_named_with_a_sample_of_each(self):
        table = {"class": list("abab"), "group": list("pqqp"), "split": ["train", "train", "test", "unlabeled"]}
        assert problems_of(table) == [
            "group 'q': row 3 (image 1.png) in split train, row 4 (image 2.png) in split test"
        ]


TABLE = {"class": list("abab"), "split": ["train", "train", "train", "test"]}


class TestFolds:
    def test_folds_of_the_source_are_taken_for_training_samples(self):
        folds = build({**TABLE, "fold": ["1", "0.0", " 0", ""]}, given_folds=True, n_folds=2)[2]
        assert folds == {"0.png": 1, "1.png": 0, "2.png": 0}
        assert build({**TABLE, "fold": ["?"] * 4})[2] is None

    @pytest.mark.parametrize("cell", ["", "2", "-1", "0.5", "x", "nan"])
    def test_a_fold_that_does_not_exist_is_named(self, cell):
        table = {**TABLE, "fold": ["1", "0", cell, ""]}
        assert problems_of(table, given_folds=True, n_folds=2) == [f"row 4 (image 2.png): fold {cell!r}"]

    def test_an_empty_fold_is_named(self):
        assert "no training sample in fold 0, 2" in message_of(
            {**TABLE, "fold": ["1", "1", "1", "0"]}, given_folds=True, n_folds=3
        )

    def test_a_missing_column_of_folds_is_told(self):
        assert "expected a column fold" in message_of(TABLE, given_folds=True, n_folds=2)

    def test_a_group_in_two_folds_is_named(self):
        table = {**TABLE, "fold": ["1", "0", "1", ""], "group": ["p", "q", "q", "r"]}
        assert problems_of(table, given_folds=True, n_folds=2) == [
            "group 'q': row 3 (image 1.png) in fold 0, row 4 (image 2.png) in fold 1"
        ]


@pytest.mark.parametrize(
    ("kind", "columns", "found", "expected"),
    [
        ("classification", {}, (), "class"),
        ("unlabeled", {}, (), "class"),
        ("regression", {}, (), "value"),
        ("segmentation", {}, (), "mask"),
        ("multilabel", {}, (), "classes"),
        ("multilabel", {"soft_classes": ["p", "q"]}, ("classes",), "soft_classes"),
        ("multilabel", {}, ("image", "soft_classes"), "soft_classes"),
        ("multilabel", {}, ("classes", "soft_classes"), "classes"),
        ("multilabel", {"classes": "labels"}, ("soft_classes",), "classes"),
    ],
)
def test_the_column_of_targets_follows_from_type_and_columns(kind, columns, found, expected):
    record = TaskRecord(dataset="birds", type=kind, columns=columns)
    assert target_column(record, found) == expected
    written = ("sample_id", "split", "image", expected, "group")
    assert target_column(record, written) == expected
    assert is_soft(written) == (expected == "soft_classes")


class TestNumbers:
    def parse(self, splits_and_targets, kind, classes=(), soft=False):
        samples = [Sample("i", split, "i", target, "") for split, target in splits_and_targets]
        return parse_targets(samples, kind, classes, soft)

    def test_classes_become_indexes(self):
        found = self.parse([("train", "b"), ("unlabeled", ""), ("test", "a")], "classification", ["b", "a"])
        assert found.dtype == np.int64
        assert found.tolist() == [0, -1, 1]

    def test_names_become_zeros_and_ones(self):
        rows = [("train", "a;c"), ("train", ""), ("unlabeled", ""), ("test", "b")]
        found = self.parse(rows, "multilabel", ["a", "b", "c"])
        assert found.dtype == np.uint8
        assert found.tolist() == [[1, 0, 1], [0, 0, 0], [255, 255, 255], [0, 1, 0]]

    def test_soft_labels_become_floats(self):
        found = self.parse([("train", "0.25;1.0"), ("unlabeled", "")], "multilabel", ["a", "b"], soft=True)
        assert found.dtype == np.float32
        assert np.array_equal(found, np.array([[0.25, 1], [np.nan, np.nan]], np.float32), equal_nan=True)

    def test_values_become_floats(self):
        found = self.parse([("train", "-1.5"), ("unlabeled", "")], "regression")
        assert found.dtype == np.float32
        assert np.array_equal(found, np.array([-1.5, np.nan], np.float32), equal_nan=True)

    @pytest.mark.parametrize("kind", ["segmentation", "unlabeled"])
    def test_masks_and_unlabeled_samples_have_no_numbers(self, kind):
        assert self.parse([("train", "masks/0.png"), ("unlabeled", "")], kind).shape == (2, 0)
