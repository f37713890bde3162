"""Checks that look at more than one key."""

import math
from pathlib import Path

import pytest

from foldwise.config.definition import TaskRecord
from foldwise.config.load import Library, load_config
from foldwise.config.model import check_choice, definition_of, task_record
from foldwise.config.pipeline import DEFAULT_NAMES, Operation, Pipeline, kornia_operations
from foldwise.errors import ConfigError, FoldwiseError

LIBRARY = Library.read(Path(__file__).parents[3] / "config")


def load(**keys):
    return load_config(keys, LIBRARY)


def message(**keys):
    with pytest.raises(FoldwiseError) as caught:
        load(**keys)
    return caught.value.message


# Roots


@pytest.mark.parametrize(
    "path", ["", "a{b}", "a*", "a?", "a\nb", 'a"b', "a'b", "a\0b", "a\tb"], ids=lambda path: repr(path)[1:-1]
)
@pytest.mark.parametrize("key", ["data_dir", "results_dir"])
def test_a_root_must_be_a_plain_path(key, path):
    assert message(**{key: path}).startswith(f"{key}: got ")


@pytest.mark.parametrize(
    ("path", "root"), [("data", "data"), ("/a/b/", "/a/b"), ("/", "/"), ("my data", "my data"), ("dä", "dä")]
)
def test_a_root_has_no_slash_at_its_end(path, root):
    assert load(data_dir=path).data_dir == root


@pytest.mark.parametrize("project", ["", "../up", "a/b", "a__b", "a b", "a~b", "-a", "x" * 101])
def test_a_project_is_a_name(project):
    assert message(project=project).startswith("project: got ")


# Tasks and pivot


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"tasks": ["digitz"]}, "tasks[0]: got 'digitz', expected digits. Did you mean 'digits'?"),
        ({"tasks": ["digits", "a b"]}, "tasks[1]: got 'a b', expected a name"),
        ({"tasks": ["digits+nested-5"]}, "tasks[0]: got '+nested-5', expected an outer fold from 0 to 4."),
        ({"tasks": ["digits+nest-5"]}, "tasks[0]: got '+nest-5', expected one of +identity, +nested."),
        ({"tasks": ["digits", "digits"]}, "tasks: got ['digits', 'digits'], expected a list without repetitions."),
        ({"tasks": []}, "tasks: got [], expected a list of strings with at least 1 item."),
        ({"pivot": "birds"}, "pivot: got 'birds', expected digits."),
        ({"pivot": "digits+nested-5"}, "pivot: got '+nested-5', expected an outer fold from 0 to 4."),
        ({"pivot": "digits+nested-0-3+nested-3"}, "pivot: got '+nested-3', expected an outer fold from 0 to 2."),
        ({"pivot": "digits+nested"}, "pivot: got '+nested', expected `+nested-FOLD`"),
        ({"pivot": "digits+"}, "pivot.tags: got '+', expected tags, each after a `+`."),
        ({"pivot": {"name": "digits", "tags": "nested-0"}}, "pivot.tags: got 'nested-0', expected tags, each after"),
        ({"pivot": {"tags": "+nested-0"}}, "pivot.name: got nothing, expected a name"),
    ],
)
def test_tasks_and_pivot_must_exist(keys, text):
    assert message(**keys).startswith(text)


def test_outer_folds_are_bounded_by_the_folds_of_the_task():
    definitions = {"tenfold": {"dataset": "digits", "n_folds": 10}}
    tasks = ["digits", "tenfold"]
    assert load(definitions=definitions, tasks=tasks, pivot="tenfold+nested-9").pivot.task == "tenfold+nested-9"
    text = message(definitions=definitions, tasks=tasks, pivot="tenfold+nested-10")
    assert "an outer fold from 0 to 9" in text
    assert "an outer fold from 0 to 2" in message(create={"n_folds": 3}, pivot="digits+nested-3")


def test_the_pivot_may_be_a_variant_of_a_task_or_the_base_of_one():
    assert load(tasks=["digits"], pivot="digits+identity").pivot.task == "digits+identity"
    assert load(tasks=["digits+nested-0"], pivot="digits").pivot.task == "digits"


def test_a_definition_that_is_no_task_is_no_pivot():
    definitions = {"tenfold": {"dataset": "digits"}}
    assert message(definitions=definitions, pivot="tenfold").startswith("pivot: got 'tenfold', expected digits.")


def test_a_definition_needs_a_dataset_that_exists():
    text = message(definitions={"birds": {"n_folds": 3}})
    assert text == "definitions.birds.dataset: got 'birds', expected digits."


# Modes


@pytest.mark.parametrize("mode", ["train", "predict", "test"])
def test_pipelines_of_a_mode_must_exist(mode):
    text = message(pipelines={"fast": {}, "slow": {}}, **{mode: {"pipelines": ["fast", "slw"]}})
    assert text == f"{mode}.pipelines[1]: got 'slw', expected one of fast, slow. Did you mean 'slow'?"
    config = load(pipelines={"fast": {}, "slow": {}}, **{mode: {"pipelines": ["slow"]}})
    assert getattr(config, mode).pipelines == ["slow"]


@pytest.mark.parametrize("part", ["predict", "test"])
def test_what_needs_weights_needs_them_stored(part):
    text = message(train={"store_parameters": False, "subroutines": ["train", part]})
    assert text.startswith("train.store_parameters: got false, expected true with subroutines predict or test.")
    assert load(train={"store_parameters": False}).train.store_parameters is False


@pytest.mark.parametrize("mode", ["predict", "test"])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_stored_parameters_are_the_same_for_all_modes(mode, own, trained):
    keys = {"train": {"store_parameters": trained}, mode: {"store_parameters": own}}
    if own == trained:
        assert getattr(load(**keys), mode).store_parameters is own
    else:
        expected = f"{mode}.store_parameters: got {str(own).lower()}, expected {str(trained).lower()} as in train."
        assert message(**keys).startswith(expected)


@pytest.mark.parametrize("mode", ["predict", "test"])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("keys", "best", "where"),
    [
        ({}, True, "pipelines.default.mode.store_best"),
        ({"mode": {"store_best": False}}, False, "pipelines.default.mode.store_best"),
        ({"train": {"store_best": False}}, False, "train.store_best"),
        ({"mode": {"store_best": False}, "train": {"store_best": True}}, True, "train.store_best"),
    ],
)
def test_the_epoch_kept_is_the_same_for_all_modes(mode, own, keys, best, where):
    keys = {**keys, mode: {"store_best": own}}
    if own == best:
        assert load(**keys).pipelines["default"].mode.store_best is best
    else:
        assert message(**keys) == (
            f"{mode}.store_best: got {str(own).lower()}, expected {str(best).lower()} as in {where}. "
            "All modes use the same models: set train.store_best."
        )


# Records


def test_the_record_of_a_task_holds_what_decides_it():
    config = load(create={"n_folds": 4, "seed": 7, "ensure_balancing": False}, tasks=["digits+nested-1-3"])
    assert task_record(config, "digits") == TaskRecord(dataset="digits", n_folds=4, ensure_balancing=False, seed=7)
    record = task_record(config, "digits+nested-1-3")
    assert (record.n_folds, record.tags) == (3, ["nested-1-3"])
    assert task_record(config, "digits+nested-1-4").tags == ["nested-1"]


def test_a_definition_overrides_the_defaults_of_create():
    definitions = {"own": {"dataset": "digits", "n_folds": 3, "ensure_balancing": True}, "other": {"dataset": "digits"}}
    config = load(definitions=definitions, create={"n_folds": 4, "ensure_balancing": False})
    own, other = task_record(config, "own"), task_record(config, "other")
    assert (own.n_folds, own.ensure_balancing, other.n_folds, other.ensure_balancing) == (3, True, 4, False)


def test_a_task_without_definition_is_named():
    with pytest.raises(ConfigError, match="task: got 'birds', expected digits"):
        definition_of(load(), "birds")
    with pytest.raises(ConfigError, match="key: got 'b', expected one of a, c"):
        check_choice("key", "b", {"c": 1, "a": 2})


# Pipelines


def test_the_default_names_are_those_of_the_models():
    assert DEFAULT_NAMES == {"arch": "resnet18", "optimizer": "adamw", "lr_scheduler": "none", "loss": "auto"}
    assert Pipeline() == Pipeline.model_validate({key: {"name": name} for key, name in DEFAULT_NAMES.items()})


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": 1}, [0.1, [math.nan]], b"a", "2020-01-01", "!!set {a}"])
def test_an_argument_of_an_operation_must_fit_into_json(value):
    text = message(augmentations={"operations": [{"name": "RandomAffine", "degrees": value}]})
    assert text.startswith("augmentations.operations[0].degrees: got ")
    assert "expected a finite number, a string, true, false, null or a list of them." in text


def test_operations_are_known_by_name():
    operation = Operation.model_validate(
        {"name": "RandomAffine", "degrees": 5, "padding_mode": "border", "shear": None}
    )
    assert operation.arguments == {"degrees": 5, "padding_mode": "border", "shear": None}
    assert {"degrees", "translate", "p"} <= set(kornia_operations()["RandomAffine"])
    text = message(augmentations={"operations": [{"name": "RandomAffin"}]})
    assert text.startswith("augmentations.operations[0].name: got 'RandomAffin', expected one of ")
    assert text.endswith("Did you mean 'RandomAffine'?")


def test_metrics_are_not_repeated():
    text = message(metrics={"classification": ["f1", "f1"]})
    assert text == "metrics.classification: got ['f1', 'f1'], expected a list without repetitions."


def test_all_class_weights_zero_is_a_mistake():
    with pytest.raises(FoldwiseError, match=r"loss\.class_weights: got \[0\.0, 0\.0\], expected a weight above 0"):
        load_config({"loss": {"class_weights": [0.0, 0.0]}}, Library({}, {}))


def test_an_argument_of_another_loss_is_a_mistake():
    with pytest.raises(FoldwiseError, match=r"loss\.gamma: got an unknown key"):
        load_config({"loss": {"name": "cross_entropy", "gamma": 1.0}}, Library({}, {}))
