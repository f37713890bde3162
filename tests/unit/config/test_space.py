"""Search spaces: resolved parameters, all their points, and the recipes that they stand for."""

import pytest

from foldwise.config.pipeline import Pipeline
from foldwise.config.space import (
    all_points_once,
    all_values,
    apply_point,
    cases,
    check_space,
    longest,
    mode_key,
    points,
    recipes_of_data,
    resolve_space,
)
from foldwise.errors import ConfigError, ConfigErrors, FoldwiseError
from unit.config.loading import LIBRARY, load

SGD = {
    "optimizer.name": ["adamw", "sgd"],
    "optimizer.momentum": {"low": 0, "high": 0.9, "when": {"optimizer.name": "sgd"}},
}


def resolve(space, **keys):
    config = load({"hpo": {"search_space": space}, **keys})
    return resolve_space(config.hpo.search_space, config.pipelines["default"], LIBRARY)


def recipe(**keys):
    return load(keys).pipelines["default"]


def refusal(space, **keys):
    with pytest.raises(FoldwiseError) as caught:
        check_space(recipe(**keys), resolve(space, **keys))
    return caught.value.message


def test_keys_come_by_name_after_those_that_they_depend_on():
    space = {
        "sampling.batch_size": [1],
        "arch.dropout": {"low": 0, "high": 0.5, "when": {"sampling.batch_size": 1}},
        **SGD,
    }
    keys = ["optimizer.name", "sampling.batch_size", "arch.dropout", "optimizer.momentum"]
    assert [one.key for one in resolve(space)] == keys
    assert resolve(dict(reversed(space.items()))) == resolve(space)


def test_a_point_changes_a_recipe():
    space = resolve({"optimizer.lr": {"low": 1e-4, "high": 1}, "sampling.batch_size": [16, 32]})
    found = apply_point(recipe(), space, {"optimizer.lr": 0.01, "sampling.batch_size": 16})
    assert (found.optimizer.lr, found.sampling.batch_size) == (0.01, 16)
    assert found.arch == recipe().arch


def test_another_component_drops_the_arguments_of_the_old_one_and_keeps_its_own():
    base = recipe(optimizer={"name": "adamw", "weight_decay": 0.3})
    found = apply_point(base, resolve(SGD), {"optimizer.name": "sgd", "optimizer.momentum": 0.5})
    assert (found.optimizer.name, found.optimizer.momentum, found.optimizer.weight_decay) == ("sgd", 0.5, 0.0)
    assert apply_point(base, resolve(SGD), {"optimizer.name": "adamw"}) == base


def test_whole_sections_are_presets_or_mappings():
    space = resolve({"arch": ["small", {"name": "resnet34"}], "arch.dropout": [0.0, 0.25]})
    small = apply_point(recipe(), space, {"arch": "small", "arch.dropout": 0.25})
    assert small.arch == recipe(arch={"preset": "small", "dropout": 0.25}).arch
    assert apply_point(recipe(), space, {"arch": {"name": "resnet34"}}).arch.name == "resnet34"


def test_keys_deep_in_a_section():
    space = resolve({"cbs.early_stopping.patience": {"low": 2, "high": 9}})
    base = recipe(cbs={"early_stopping": {"monitor": "train_loss", "patience": 5}})
    found = apply_point(base, space, {"cbs.early_stopping.patience": 3}).cbs.early_stopping
    assert (found.patience, found.monitor) == (3, "train_loss")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "hpo.search_space: got {}, expected keys of a pipeline"),
        ({"optimizer.lrr": [1]}, "optimizer.lrr: got an unknown key"),
        ({"optimizer.": [1]}, "hpo.search_space.optimizer.: got a path with an empty part"),
        ({"optimzer.lr": [1]}, "optimzer.lr: got an unknown section"),
        ({"tta": ["flip"]}, "It decides predictions, and no score."),
        ({"metrics.bootstrap": [1]}, "It decides reports, and no score."),
        ({"arch": ["smal"]}, "Did you mean 'small'?"),
        ({"arch": {"low": 1, "high": 2}}, "expected a list of presets or mappings, as this is a whole section"),
        ({"arch.name": ["resnet19"]}, "Did you mean 'resnet18'?"),
        ({"optimizer.lr": {"low": -1, "high": 1}}, "optimizer.lr: got -1"),
        ({"optimizer.momentum": [0.5]}, "optimizer.momentum: got an unknown key"),
        (
            {"optimizer.lr": {"low": 1, "high": 2, "when": {"loss.name": "x"}}},
            "when: got 'loss.name', expected no condition",
        ),
        (
            {**SGD, "optimizer.lr": {"low": 1, "high": 2, "when": {"optimizer.name": "adm"}}},
            "expected one of adamw, sgd",
        ),
        (
            {"a": [1], "optimizer.lr": {"choices": [1], "when": {"a": 1}}},
            "hpo.search_space.a: got an unknown section",
        ),
        (
            {
                "optimizer.lr": {"choices": [1], "when": {"sampling.batch_size": 1}},
                "sampling.batch_size": {"choices": [1], "when": {"optimizer.lr": 1}},
            },
            "got a circle of optimizer.lr, sampling.batch_size, expected no circle",
        ),
    ],
)
def test_what_is_no_search_space(space, message):
    assert message in refusal(space)


def test_all_mistakes_in_values_are_told():
    text = refusal({"optimizer.lr": [-1, 1], "sampling.batch_size": [0, 8]})
    assert "optimizer.lr: got -1" in text
    assert "sampling.batch_size: got 0" in text


def test_points_leave_out_what_does_not_count():
    space = resolve({**SGD, "optimizer.momentum": {"choices": [0.0, 0.5], "when": {"optimizer.name": "sgd"}}})
    assert points(space) == [
        {"optimizer.name": "adamw"},
        {"optimizer.name": "sgd", "optimizer.momentum": 0.0},
        {"optimizer.name": "sgd", "optimizer.momentum": 0.5},
    ]
    assert len(all_points_once(space)) == 3


@pytest.mark.parametrize(
    ("value", "values"),
    [
        ({"low": 0, "high": 0.9, "step": 0.3}, [0.0, 0.3, 0.6, 0.9]),
        ({"low": 1, "high": 4}, [1, 2, 3, 4]),
        ({"low": 2, "high": 9, "step": 3}, [2, 5, 8]),
        ([True, False], [True, False]),
    ],
)
def test_all_values(value, values):
    found = all_values(resolve({"optimizer.lr": value})[0])
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


def test_a_range_without_step_has_no_end():
    space = resolve({"optimizer.lr": {"low": 0.1, "high": 1}})
    with pytest.raises(ConfigError, match=r"hpo\.search_space\.optimizer\.lr: got a range without step"):
        points(space)


def test_too_many_points():
    space = resolve({f"optimizer.{key}": {"low": 1, "high": 99} for key in ("a", "b", "c")})
    with pytest.raises(ConfigError, match="more than 100000 points"):
        points(space)


def test_cases_hold_what_they_depend_on():
    assert [case.point for case in cases(resolve(SGD))] == [
        {"optimizer.name": "adamw"},
        {"optimizer.name": "sgd"},
        {"optimizer.name": "sgd", "optimizer.momentum": 0},
        {"optimizer.name": "sgd", "optimizer.momentum": 0.9},
    ]


def test_recipes_of_all_data():
    space = {
        "preprocessing.size": {"low": 32, "high": 64, "step": 32},
        "mode.multitask": [False, 2],
        "optimizer.lr": [1, 2],
    }
    found = recipes_of_data(recipe(), resolve(space))
    assert {(one.preprocessing.size, one.mode.multitask) for one in found} == {
        (32, False),
        (32, 2),
        (64, False),
        (64, 2),
    }
    assert len(found) == 4
    assert len({mode_key(one) for one in found}) == 2


def test_recipes_that_do_not_go_together_read_nothing():
    found = recipes_of_data(recipe(), resolve({"mode.multitask": [2, 3], "mode.co_tasks": [["a"], ["a", "b"]]}))
    assert [(one.mode.multitask, one.mode.co_tasks) for one in found] == [(2, ["a"]), (3, ["a", "b"])]


@pytest.mark.parametrize(
    ("space", "epochs"),
    [
        ({"optimizer.lr": [1]}, 50),
        ({"trainer.max_epochs": [5, 80]}, 80),
        ({"trainer.max_epochs": {"low": 10, "high": 90}}, 90),
        ({"trainer": ["short", {"max_epochs": 70}]}, 70),
    ],
)
def test_the_longest_trial(space, epochs):
    assert longest(Pipeline(), resolve(space)) == epochs


def test_a_point_that_does_not_go_together():
    space = resolve({"trainer.min_epochs": [60]})
    with pytest.raises(ConfigErrors, match=r"hpo\.search_space\.trainer\.min_epochs: got 60"):
        apply_point(Pipeline(), space, {"trainer.min_epochs": 60})
