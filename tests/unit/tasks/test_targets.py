"""Cells of annotations become the targets of each task type."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.tasks.building import build, message_of, problems_of

BINARY = {"type": "multilabel", "columns": {"classes": ["b", "a"]}}
SOFT = {"type": "multilabel", "columns": {"soft_classes": ["p", "q", "r"]}}
SOFT_CELLS = {"type": "multilabel", "columns": {"soft_classes": "soft"}}


def targets_of(annotations, class_names=(), **keys):
    samples, classes, _ = build(annotations, class_names, **keys)
    return [sample.target for sample in samples], classes


class TestClassification:
    def test_classes_are_those_of_train_and_test_in_natural_order(self):
        table = {"class": ["10", "2", "1", "2", "7"], "split": ["train", "train", "train", "test", "unlabeled"]}
        assert targets_of(table) == (["10", "2", "1", "2", ""], ["1", "2", "10"])

    def test_a_list_fixes_the_order(self):
        assert targets_of({"class": ["a", "b"]}, classes=["b", "a"])[1] == ["b", "a"]

    def test_a_mapping_merges(self):
        found = targets_of({"class": ["0", "1", "2"]}, classes={"lesion": [2, 1], "healthy": ["0"]})
        assert found == (["healthy", "lesion", "lesion"], ["lesion", "healthy"])

    def test_a_label_in_no_class_is_named_with_the_nearest(self):
        assert problems_of({"class": ["dog", "cat", "dgo", "nan"]}, classes=["dog", "cat"]) == [
            "row 4 (image 2.png): label 'dgo' is in none of the classes. Did you mean 'dog'?",
            "row 5 (image 3.png): NaN is no label",
        ]

    def test_only_a_listed_label_may_be_nan(self):
        assert targets_of({"class": ["nan", "b"]}, classes=["nan", "b"])[0] == ["nan", "b"]
        assert problems_of({"class": ["NaN", "b"]}) == ["row 2 (image 0.png): NaN is no label"]

    def test_one_class_is_too_few(self):
        assert "got one class 'a', expected at least two classes" in message_of({"class": ["a", "a"]})

    def test_a_class_without_training_samples_is_named_with_its_counts(self):
        table = {"class": ["a", "b", "c", "c"], "split": ["train", "train", "test", "test"]}
        assert problems_of(table) == ["class 'c': no training sample, 2 test samples"]
        assert problems_of({"class": ["a", "b"]}, classes=["a", "b", "d"]) == [
            "class 'd': no training sample, 0 test samples"
        ]

    def test_a_class_that_would_break_tables_is_named(self):
        assert problems_of({"class": ["a;b", "c"]})[0].startswith("class 'a;b': ")


class TestNames:
    @pytest.mark.parametrize("cell", ["a;b", "b;a", " b ; a ;", "a;b;a"])
    def test_names_are_joined_in_the_order_of_classes(self, cell):
        assert targets_of({"classes": [cell, "c"]}, type="multilabel") == (["a;b", "c"], ["a", "b", "c"])

    def test_no_class_is_a_target_too(self):
        samples, _, _ = build({"classes": ["a", "", "b"], "split": ["", "", "unlabeled"]}, type="multilabel")
        assert [(sample.split, sample.target) for sample in samples] == [
            ("train", "a"),
            ("train", ""),
            ("unlabeled", ""),
        ]

    def test_lists_and_mappings_hold_here_too(self):
        table = {"classes": ["1;2", "0"]}
        assert targets_of(table, type="multilabel", classes=[2, 1, 0]) == (["2;1", "0"], ["2", "1", "0"])
        merged = targets_of(table, type="multilabel", classes={"x": [1, 2], "y": [0]})
        assert merged == (["x", "y"], ["x", "y"])
        assert problems_of(table, type="multilabel", classes=[0, 1]) == [
            "row 2 (image 0.png): label '2' is in none of the classes"
        ]

    def test_there_must_be_a_class(self):
        assert "none of which has a class" in message_of({"classes": ["", ";"]}, type="multilabel")


class TestZerosAndOnes:
    def test_columns_become_names_in_their_order(self):
        table = {"a": ["1", "yes", "FALSE", ""], "b": ["1.0", "no", "0", ""]}
        samples, classes, _ = build(table, **BINARY)
        assert [sample.target for sample in samples] == ["b;a", "a", "", ""]
        assert [sample.split for sample in samples] == ["train"] * 3 + ["unlabeled"]
        assert classes == ["b", "a"]

    def test_columns_merge(self):
        keys = {**BINARY, "classes": {"any": ["a", "b"]}}
        assert targets_of({"a": ["1", "0"], "b": ["0", "0"]}, **keys) == (["any", ""], ["any"])

    @pytest.mark.parametrize("cell", ["2", "", "nan", "-1", "0.5"])
    def test_anything_else_is_named_with_its_column(self, cell):
        assert problems_of({"a": ["1", cell], "b": ["1", "1"]}, **BINARY) == [
            f"row 3 (image 1.png): {cell!r} in column a, neither 0 nor 1"
        ]

    def test_columns_and_classes_must_agree(self):
        table = {"a": ["1", "0"], "b": ["0", "1"]}
        assert problems_of(table, **BINARY, classes=["a", "c"]) == [
            "column b: label 'b' is in none of the classes",
            "class 'c': has no column",
        ]


class TestSoftLabels:
    def test_columns_of_numbers(self):
        table = {"p": ["0.10", "1"], "q": ["0", "1e-3"], "r": [" .5", "0.3"]}
        assert targets_of(table, **SOFT) == (["0.1;0.0;0.5", "1.0;0.001;0.3"], ["p", "q", "r"])

    def test_the_greatest_counts_where_columns_merge(self):
        table = {"p": ["0.1", "1"], "q": ["0.2", "0"], "r": ["0.3", "0"]}
        found = targets_of(table, **SOFT, classes={"r": ["r"], "pq": ["p", "q"]})
        assert found == (["0.3;0.2", "0.0;1.0"], ["r", "pq"])

    @pytest.mark.parametrize(
        ("names", "classes", "expected"),
        [
            ([], None, ("0.1;0.9", ["0", "1"])),
            (["x", "y"], None, ("0.1;0.9", ["x", "y"])),
            (["x", "y"], ["y", "x"], ("0.9;0.1", ["y", "x"])),
            ([], ["x", "y"], ("0.1;0.9", ["x", "y"])),
            ([], [1, 0], ("0.9;0.1", ["1", "0"])),
            ([], {"any": [0, 1]}, ("0.9", ["any"])),
        ],
    )
    def test_places_in_a_cell_are_named_by_source_or_definition(self, names, classes, expected):
        targets, found = targets_of({"soft": ["0.1;0.9", ""]}, names, **SOFT_CELLS, classes=classes)
        assert (targets[0], found) == expected

    @pytest.mark.parametrize("cell", ["1.1", "-0.1", "nan", "inf", "x", "", "1_0", "0,5"])
    def test_what_is_no_number_from_0_to_1_is_named(self, cell):
        assert len(problems_of({"soft": ["0.1;0.9", f"0;{cell}"]}, **SOFT_CELLS)) == 1

    def test_a_cell_with_another_count_is_named(self):
        assert problems_of({"soft": ["0;1", "0;1", "1"]}, **SOFT_CELLS) == [
            "row 4 (image 2.png): 1 numbers for 2 classes"
        ]


class TestValues:
    @given(values=st.lists(st.floats(-3e38, 3e38), min_size=1, max_size=5))
    @settings(max_examples=30, deadline=None)
    def test_numbers_keep_their_value(self, values):
        targets, classes = targets_of({"value": [f" {value!r} " for value in values]}, type="regression")
        assert [float(target) for target in targets] == values
        assert classes == []

    @pytest.mark.parametrize("cell", ["nan", "NaN", "inf", "-infinity", "1e39", "1_0", "1,5", "x", "٣"])
    def test_anything_else_is_named(self, cell):
        (problem,) = problems_of({"value": ["1", cell]}, type="regression")
        assert problem.startswith("row 3 (image 1.png): ")

    def test_nan_is_called_by_its_name(self):
        assert problems_of({"value": ["1", "nan"]}, type="regression") == ["row 3 (image 1.png): NaN target"]


def test_paths_of_masks_are_kept():
    keys = {"type": "segmentation", "classes": ["background", "ink"]}
    assert targets_of({"mask": ["files/m 1.png", ""]}, **keys) == (["files/m 1.png", ""], ["background", "ink"])
    assert targets_of({"mask": ["m"]}, ["a", "b"], type="segmentation")[1] == ["a", "b"]
    assert problems_of({"mask": ["m", ""], "split": ["train", "test"]}, type="segmentation") == [
        "row 3 (image 1.png): split test without mask"
    ]


def test_a_column_twice_or_two_kinds_of_targets_are_refused():
    table = {"a": ["1"], "s": ["1"]}
    assert "a column twice" in message_of(table, type="multilabel", columns={"classes": ["a", "a"]})
    keys = {"type": "multilabel", "columns": {"classes": "a", "soft_classes": "s"}}
    assert "columns.classes beside columns.soft_classes" in message_of(table, **keys)
