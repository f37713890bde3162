"""Whether a model and what it is to predict belong together."""

import dataclasses
from pathlib import Path

import pytest

from foldwise.config.pipeline import Pipeline
from foldwise.config.preprocessing import Preprocessing
from foldwise.errors import DataError
from foldwise.inference.checks import check_preprocessing, check_target
from unit.training.toys import KINDS, make_toy

RECORD = Path("results/model.json")


def target(*classes, kind="classification"):
    return dataclasses.replace(make_toy("classification")[0], type=kind, classes=classes, name="pets")


def compare(own, theirs):
    warnings = []
    check_target({"type": "classification", "classes": list(own)}, target(*theirs), RECORD, warnings.append)
    return warnings


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_of_another_type_is_refused_with_both(kind):
    task, other = make_toy(kind)[0], "regression" if kind != "regression" else "segmentation"
    with pytest.raises(DataError) as caught:
        check_target({"type": task.type, "classes": list(task.classes)}, make_toy(other)[0], RECORD)
    expected = f"got a model of task type {task.type}, expected the type of toy: {other}."
    assert caught.value.message == f"{RECORD}: {expected}"


def test_equal_classes_are_fine():
    assert compare("abc", "abc") == []


@pytest.mark.parametrize("theirs", [("cat", "dog"), ("cat", "dog", "fish", "bird"), ()], ids=len)
def test_another_number_of_classes_is_refused_with_both(theirs):
    with pytest.raises(DataError) as caught:
        compare(("cat", "dog", "fish"), theirs)
    got = "got a model of 3 classes ['cat', 'dog', 'fish']"
    expected = f"expected the classes of pets: {len(theirs)} classes {list(theirs)}"
    assert caught.value.message == f"{RECORD}: {got}, {expected}. Numbers of classes must be equal."


@pytest.mark.parametrize("theirs", [("dog", "cat", "fish"), ("dog", "cat", "bird"), ("bird", "cat", "horse")], ids=str)
def test_a_class_at_another_place_is_refused(theirs):
    with pytest.raises(DataError, match="The order must be the same") as caught:
        compare(("cat", "dog", "fish"), theirs)
    assert str(list(theirs)) in caught.value.message


@pytest.mark.parametrize("theirs", [("Cat", "Dog", "Fish"), ("cat", "dog", "bird")], ids=str)
def test_other_names_are_warned_of_with_both(theirs):
    (warning,) = compare(("cat", "dog", "fish"), theirs)
    told = "the model has 3 classes ['cat', 'dog', 'fish'], pets has 3 classes"
    assert warning == f"{RECORD}: {told} {list(theirs)}: they are compared by their order."


def test_long_lists_are_cut():
    (warning,) = compare([f"class {k}" for k in range(1000)], [f"kind {k}" for k in range(1000)])
    assert len(warning) < 800
    assert "1000 classes ['class 0'" in warning


STEPS = [{"name": "resize"}]


@pytest.mark.parametrize(
    ("own", "theirs", "got", "expected"),
    [
        ({}, {"size": 64}, "size auto", "size 64"),
        ({"storage": "jpeg", "quality": 90}, {}, "quality 90, storage jpeg", "quality 95, storage raw"),
        (
            {"steps": STEPS},
            {"steps": STEPS, "reduced_decoding": False},
            "reduced_decoding True",
            "reduced_decoding False",
        ),
    ],
)
def test_another_preprocessing_is_refused_with_what_differs(own, theirs, got, expected):
    with pytest.raises(DataError) as caught:
        check_preprocessing(
            Pipeline.model_validate({"preprocessing": own}), Preprocessing.model_validate(theirs), RECORD
        )
    found = f"got a model made for another preprocessing, {got}, expected one for that of the tensors, {expected}."
    assert caught.value.message.startswith(f"{RECORD}: {found}")


@pytest.mark.parametrize(
    ("own", "theirs"),
    [({}, {}), ({"id": "mine"}, {"id": "yours"}), ({"quality": 80}, {}), ({"steps": STEPS}, {"steps": STEPS})],
)
def test_what_decides_nothing_may_differ(own, theirs):
    check_preprocessing(Pipeline.model_validate({"preprocessing": own}), Preprocessing.model_validate(theirs), RECORD)
