"""Which artifacts the modes ask for."""

from pathlib import Path

import pytest

from foldwise.config.load import Library, load_config
from foldwise.config.selection import (
    Model,
    Prediction,
    base_tasks,
    models,
    predictions,
    preprocessed_tasks,
    scores,
    train_plan,
    with_weights,
)
from foldwise.errors import ConfigError

LIBRARY = Library.read(Path(__file__).parents[3] / "config")


def load(**keys):
    return load_config({"create__n_folds": 3, **keys}, LIBRARY)


def plan(mode="train", **keys):
    return train_plan(load(**keys), mode)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"cv": True, "nested": False}, [("digits", 0), ("digits", 1), ("digits", 2)]),
        ({"cv": False, "nested": False}, [("digits", 0)]),
        ({"cv": False, "nested": False, "inner_folds": "all"}, [("digits", 0)]),
        (
            {"cv": True, "nested": True},
            [("digits+nested-0", 0), ("digits+nested-1", 0), ("digits+nested-2", 0)],
        ),
        ({"cv": False, "nested": True}, [("digits+nested-0", 0)]),
        (
            {"cv": False, "nested": True, "inner_folds": "all"},
            [("digits+nested-0", 0), ("digits+nested-0", 1), ("digits+nested-0", 2)],
        ),
        (
            {"cv": True, "nested": True, "inner_folds": "all"},
            [(f"digits+nested-{outer}", inner) for outer in range(3) for inner in range(3)],
        ),
    ],
)
def test_models(keys, expected):
    assert list(models(plan(train=keys))) == [Model("default", task, fold) for task, fold in expected]


def test_every_pipeline_has_its_models():
    keys = {"pipelines": {"a": {}, "b": {}, "c": {}}, "train__cv": False, "train__nested": False}
    assert [model.pipeline for model in models(plan(**keys))] == ["a", "b", "c"]
    assert [model.pipeline for model in models(plan(**keys, train__pipelines=["c", "a"]))] == ["c", "a"]
    assert list(models(plan(**keys, train__pipelines=[]))) == []


def test_a_model_predicts_its_own_task():
    found = list(predictions(plan(train={"nested": False})))
    assert found == [Prediction("default", "digits", fold, "digits") for fold in range(3)]


def test_a_nested_model_predicts_its_own_variant_and_the_pivot():
    found = list(predictions(plan(train={"cv": False, "inner_folds": "all"})))
    targets = [(fold, target) for fold in range(3) for target in ("digits+nested-0", "digits")]
    assert found == [Prediction("default", "digits+nested-0", fold, target) for fold, target in targets]


@pytest.mark.parametrize("nested", [True, False])
def test_every_model_is_scored_once_on_its_own_task(nested):
    made = plan(train={"nested": nested})
    assert [tuple(score[:3]) for score in scores(made)] == [tuple(model) for model in models(made)]
    assert all(score.target == score.task for score in scores(made))
    assert set(scores(made)) <= set(predictions(made))


def test_variants_of_the_pivot_decide_the_number_of_folds():
    assert [model.fold for model in models(plan(pivot="digits+nested-1-2", train={"nested": False}))] == [0, 1]
    tasks = [model.task for model in models(plan(pivot="digits+nested-1-2"))]
    assert tasks == ["digits+nested-1-2+nested-0", "digits+nested-1-2+nested-1"]


def test_a_pivot_has_its_canonical_name():
    assert str(plan(pivot="digits+nested-1-3").pivot) == "digits+nested-1"
    assert {model.task for model in models(plan(pivot="digits+identity", train={"nested": False}))} == {
        "digits+identity"
    }


@pytest.mark.parametrize("mode", ["predict", "test"])
def test_a_mode_takes_its_own_keys_and_else_those_of_train(mode):
    train = {"cv": False, "nested": False, "inner_folds": "all", "pipelines": ["a"]}
    keys = {"pipelines": {"a": {}, "b": {}}, "train": train}
    assert plan(mode, **keys) == plan("train", **keys)
    own = plan(mode, **keys, **{mode: {"cv": True, "nested": True, "inner_folds": "first", "pipelines": ["b"]}})
    assert (own.cv, own.nested, own.inner_folds, own.pipelines) == (True, True, "first", ("b",))
    assert plan("train", **keys, **{mode: {"cv": True}}).cv is False


@pytest.mark.parametrize("mode", ["train", "predict", "test"])
def test_without_a_pivot_there_is_nothing_to_train(mode):
    with pytest.raises(ConfigError, match=f"pivot: got nothing, expected a task of digits. Mode {mode} works on one"):
        plan(mode, pivot=None)


def test_modes_that_need_weights_need_them_stored():
    stored, lost = plan("predict"), plan("predict", train={"store_parameters": False})
    assert with_weights(stored, "predict") is stored
    with pytest.raises(ConfigError, match=r"train\.store_parameters: got false, expected true\. Mode predict needs"):
        with_weights(lost, "predict")


def test_tensors_are_made_for_the_pivot_or_for_all():
    definitions = {"other": {"dataset": "digits"}}
    tasks = ["digits+nested-0", "other"]
    assert preprocessed_tasks(load(definitions=definitions, tasks=tasks, pivot="other+identity")) == ["other"]
    assert preprocessed_tasks(load(definitions=definitions, tasks=tasks, pivot=None)) == ["digits", "other"]


def test_the_bases_of_tasks_are_created_each_once():
    definitions = {"other": {"dataset": "digits"}}
    tasks = ["digits+nested-0", "digits", "other", "digits+identity"]
    assert base_tasks(load(definitions=definitions, tasks=tasks)) == ["digits", "other"]
