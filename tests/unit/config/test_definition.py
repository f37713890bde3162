"""Definitions of tasks: labels, columns, classes and folds."""

import json

import pytest

from foldwise.config.canonical import canonical_json, differences
from foldwise.config.definition import EMBEDDED_TASKS, TARGETS, TaskRecord
from unit.config.loading import load, message

TABLE = {"source": "table", "path": "table.csv"}
LABELS = {role for roles in TARGETS.values() for role in roles}


def define(**keys):
    return load(definitions={"own": {**TABLE, **keys}}).definitions["own"]


def refuse(**keys):
    return message(definitions={"own": {**TABLE, **keys}}).removeprefix("definitions.own.")


# Columns


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("role", ["image", "id", "split", "fold", "group"])
def test_columns_that_are_no_labels_go_with_every_type(kind, role):
    assert define(type=kind, columns={role: "a"}).columns == {role: "a"}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("role", sorted(LABELS))
def test_columns_of_labels_go_with_their_type(kind, role):
    if role in TARGETS[kind]:
        assert define(type=kind, columns={role: "a"}).columns == {role: "a"}
    else:
        accepted = " or ".join(TARGETS[kind]) or "no column of labels"
        text = refuse(type=kind, columns={"id": "b", role: "a"})
        assert text == f"columns.{role}: got 'a', expected {accepted} for task type {kind}."


@pytest.mark.parametrize("role", ["classes", "soft_classes"])
def test_several_columns_may_hold_a_class_each(role):
    assert define(type="multilabel", columns={role: ["a", "b"]}).columns == {role: ["a", "b"]}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"columns": {"class": ["a"]}}, "columns.class: got ['a'], expected the name of one column."),
        ({"columns": {"image": ["a", "b"]}}, "columns.image: got ['a', 'b'], expected the name of one column."),
        (
            {"columns": {"classes": []}, "type": "multilabel"},
            "columns.classes: got [], expected the name of one column.",
        ),
        (
            {"columns": {"klass": "a"}},
            "columns.klass: got 'klass', expected one of image, id, split, fold, group, class",
        ),
        ({"columns": {"image": 5}}, "columns.image: got 5, expected a string or a list of strings. Write it in quotes"),
        ({"columns": ["a"]}, "columns: got ['a'], expected a mapping of roles (image, id, split, fold, group, class, "),
    ],
)
def test_columns_that_cannot_be(keys, text):
    assert refuse(**keys).startswith(text)


# Classes


@pytest.mark.parametrize("kind", ["classification", "multilabel", "segmentation"])
@pytest.mark.parametrize(
    "classes", [["a", "b"], ["one"], [0, 1, "2"], {"a": ["x", 1], "b": [2]}, {"a": [], "b": ["x"]}]
)
def test_classes_are_a_list_or_a_mapping(kind, classes):
    assert define(type=kind, classes=classes).classes == classes


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ([], "classes: got [], expected at least one class."),
        ({}, "classes: got {}, expected at least one class."),
        (
            5,
            "classes: got 5, expected a list of classes, a mapping of classes to lists of those that the source has,",
        ),
        ("a", "classes: got 'a', expected a list of classes, a mapping"),
        (["a", 1.5], 'classes[1]: got 1.5, expected a string or an integer. Write it in quotes: "1.5".'),
        ([True], 'classes[0]: got true, expected a string or an integer. Write it in quotes: "true".'),
        ([["a"]], "classes[0]: got ['a'], expected a string or an integer."),
        ({"a": 1}, "classes.a: got 1, expected a list of strings or integers."),
        ({"a": [1.5]}, "classes.a[0]: got 1.5, expected a string or an integer."),
        ({1: ["a"]}, 'classes.1: got 1, expected a string. Write it in quotes: "1".'),
        (["a", "a"], "classes: got 'a' twice, expected distinct classes."),
        ([1, "1"], "classes: got '1' twice, expected distinct classes."),
        ({"a": [1, 2], "b": [2]}, "classes: got '2' twice, expected each in one class."),
    ],
)
def test_classes_that_cannot_be(classes, text):
    assert refuse(classes=classes).startswith(text)
    assert len(refuse(classes=classes).splitlines()) == 1


def test_several_labels_of_one_image_may_be_merged_in_several_ways():
    classes = {"any": [1, 2], "second": [2]}
    assert define(type="multilabel", classes=classes).classes == classes
    assert refuse(type="segmentation", classes=classes).startswith("classes: got '2' twice")


@pytest.mark.parametrize("kind", ["regression", "unlabeled"])
def test_without_classes_none_can_be_named(kind):
    assert refuse(type=kind, classes=["a"]) == f"classes: got ['a'], expected nothing for task type {kind}."


@pytest.mark.parametrize("classes", [["b", "a"], {"b": [2, 1], "a": []}, {"a": ["x"], "b": ["y", 3]}])
def test_a_record_keeps_classes_and_their_order(classes):
    record = TaskRecord(dataset="own", classes=classes)
    read = TaskRecord.model_validate(json.loads(canonical_json(differences(record))))
    assert read == record
    assert list(read.classes) == list(classes)


# Folds


def test_existing_folds_are_declared():
    assert define(folds=3).folds == 3
    assert define(folds=3, n_folds=3).n_folds == 3
    assert refuse(folds=3, n_folds=4) == "n_folds: got 4, expected 3 as in folds, or nothing."


@pytest.mark.parametrize("key", ["folds", "n_folds"])
@pytest.mark.parametrize("value", [0, 1, 1001, 2.0, True, "many"])
def test_there_are_at_least_two_folds(key, value):
    assert f"{key}: got " in refuse(**{key: value})
    assert "expected an integer >= 2 and <= 1000 or null." in refuse(**{key: value})


@pytest.mark.parametrize("share", [1, 1.0, -0.1, "half"])
def test_a_test_split_is_a_share(share):
    assert refuse(test_fraction=share).startswith("test_fraction: got ")
    assert define(test_fraction=0.25).test_fraction == 0.25


def test_the_embedded_tasks_have_each_a_type():
    config = load()
    assert {name: config.definitions[name].type for name in EMBEDDED_TASKS} == {
        "digits": "classification",
        "digits_segmentation": "segmentation",
        "digits_multilabel": "multilabel",
        "digits_regression": "regression",
    }
    assert all(definition.licence == "CC BY 4.0" for definition in config.definitions.values())
