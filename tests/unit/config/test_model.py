"""Checks that look at more than one key."""

import math

import pytest

from foldwise.config.pipeline import DEFAULT_NAMES, Operation, Pipeline, kornia_operations
from unit.config.loading import load, message

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

EMBEDDED = "one of digits, digits_multilabel, digits_regression, digits_segmentation"


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"tasks": ["digitz"]}, f"tasks[0]: got 'digitz', expected {EMBEDDED}. Did you mean 'digits'?"),
        ({"tasks": ["digits", "a b"]}, "tasks[1]: got 'a b', expected a name"),
        ({"tasks": ["digits+nested-5"]}, "tasks[0]: got '+nested-5', expected an outer fold from 0 to 4."),
        ({"tasks": ["digits+nest-5"]}, "tasks[0]: got '+nest-5', expected one of +identity, +nested, +subset"),
        ({"tasks": ["digits", "digits"]}, "tasks: got ['digits', 'digits'], expected a list without repetitions."),
        (
            {"tasks": ["digits+subset-.5", "digits+subset-0.50"]},
            "tasks: got ['digits+subset-.5', 'digits+subset-0.50'],",
        ),
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


@pytest.mark.parametrize("mode", ["predict", "test", "post"])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_stored_parameters_are_the_same_for_all_modes(mode, own, trained):
    keys = {"train": {"store_parameters": trained}, mode: {"store_parameters": own}}
    if own == trained:
        assert getattr(load(**keys), mode).store_parameters is own
    else:
        expected = f"{mode}.store_parameters: got {str(own).lower()}, expected {str(trained).lower()} as in train."
        assert message(**keys).startswith(expected)


@pytest.mark.parametrize("mode", ["predict", "test", "post"])
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


# Pipelines


def test_the_default_names_are_those_of_the_models():
    named = {section: keys for section, keys in DEFAULT_NAMES.items() if keys}
    assert named == {
        "arch": {"source": "monai", "name": "resnet18"},
        "optimizer": {"name": "adamw"},
        "lr_scheduler": {"name": "none"},
        "loss": {"name": "auto"},
    }
    assert Pipeline() == Pipeline.model_validate(named)


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


@pytest.mark.parametrize(
    ("kind", "metric"),
    [("classification", "f1"), ("multilabel", "f1_micro"), ("regression", "r2"), ("segmentation", "dice")],
)
def test_metrics_are_not_repeated(kind, metric):
    text = message(metrics={kind: [metric, metric]})
    assert text == f"metrics.{kind}: got ['{metric}', '{metric}'], expected a list without repetitions."
    assert message(metrics={kind: []}).startswith(f"metrics.{kind}: got [], expected a list out of ")
    assert load(metrics={kind: [metric]}).pipelines["default"].metrics.of(kind) == [metric]


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "bce", "dice_ce"])
def test_all_class_weights_zero_is_a_mistake(name):
    text = message(loss={"name": name, "class_weights": [0.0, 0.0]})
    assert text == "loss.class_weights: got [0.0, 0.0], expected a weight above 0 for some class."


@pytest.mark.parametrize(
    ("name", "key"), [("cross_entropy", "gamma"), ("bce", "gamma"), ("huber", "class_weights"), ("mse", "delta")]
)
def test_an_argument_of_another_loss_is_a_mistake(name, key):
    assert message(loss={"name": name, key: 1.0}).startswith(f"loss.{key}: got an unknown key")
