"""The section of mode hpo: search spaces, samplers, pruners, addresses of storages."""

import pytest

from foldwise.config.hpo import conditions
from foldwise.errors import ConfigErrors
from unit.config.loading import load


def section(**keys):
    return load({"hpo": keys}).hpo


def dimension(value):
    return section(search_space={"optimizer.lr": value}).search_space["optimizer.lr"]


def refusal(**keys):
    with pytest.raises(ConfigErrors) as caught:
        section(**keys)
    return caught.value.message


def test_a_list_is_a_choice():
    assert dimension([1e-3, 1e-2]).choices == [1e-3, 1e-2]
    assert dimension({"choices": [1e-3, 1e-2]}) == dimension([1e-3, 1e-2])


def test_what_comes_from_the_command_line_is_read():
    found = section(
        search_space="{optimizer.lr: {low: 1e-5, high: '0.1', log: 'true'}, sampling.batch_size: ['32', '64']}"
    )
    assert (found.search_space["optimizer.lr"].low, found.search_space["optimizer.lr"].log) == (1e-5, True)
    assert found.search_space["sampling.batch_size"].choices == [32, 64]


@pytest.mark.parametrize(
    ("low", "high", "step", "is_integer"),
    [(1, 9, None, True), (1, 9, 2, True), (1, 9.5, None, False), (1, 9, 0.5, False)],
)
def test_whole_bounds_make_whole_numbers(low, high, step, is_integer):
    assert dimension({"low": low, "high": high, "step": step}).is_integer is is_integer


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"low": 1}, "high: got nothing, expected a list of choices, or low and high."),
        ({}, "low: got nothing, expected a list of choices, or low and high."),
        ({"low": 2, "high": 1}, "high: got 1, expected at least low, 2."),
        ({"low": 0, "high": 1, "log": True}, "low: got 0, expected a number > 0 with log."),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "step: got 2, expected null with log."),
        ({"low": 1, "high": 9, "step": 0}, "step: got 0, expected a number > 0, or null."),
        ({"choices": [1, 2], "low": 1}, "low: got 1, expected choices, or low and high, but not both."),
        ({"choices": [1, 1]}, "choices[1]: got 1, expected each choice once."),
        ({"low": 1, "hihg": 2}, "hihg: got an unknown key"),
    ],
)
def test_what_is_no_dimension(value, message):
    assert f"hpo.search_space.optimizer.lr.{message}" in refusal(search_space={"optimizer.lr": value})


def test_true_is_another_choice_than_one():
    assert section(search_space={"a.b": [True, 1]}).search_space["a.b"].choices == [True, 1]


def test_conditions_are_lists_of_values():
    found = dimension({"low": 0, "high": 1, "when": {"a.b": "32", "c.d": ["x", "y"]}})
    assert dict(conditions(found)) == {"a.b": [32], "c.d": ["x", "y"]}


@pytest.mark.parametrize("name", ["tpe", "random", "grid"])
def test_a_sampler_is_asked_for_by_its_name(name):
    assert section(sampler=name) == section(sampler={"name": name})
    assert section(sampler=name).sampler.name == name


@pytest.mark.parametrize("name", ["none", "median", "hyperband"])
def test_a_pruner_is_asked_for_by_its_name(name):
    assert section(pruner=name).pruner.name == name


def test_names_of_samplers_and_pruners():
    assert (
        refusal(sampler="grd") == "hpo.sampler.name: got 'grd', expected one of tpe, random, grid. Did you mean 'grid'?"
    )
    assert refusal(pruner="medain").endswith("expected one of none, median, hyperband. Did you mean 'median'?")
    assert "hpo.sampler.n_startup_trials: got -1" in refusal(sampler={"name": "tpe", "n_startup_trials": -1})


@pytest.mark.parametrize(
    "address",
    ["sqlite:///study.db", "postgresql://user@host/name", "postgresql://user:${SECRET}@host/name", "results/study.log"],
)
def test_addresses_of_storages(address):
    assert section(storage=address).storage == address


@pytest.mark.parametrize("password", ["hunter2", "$SECRET", "${A}${B}", ""])
def test_a_password_is_refused_and_not_told(password):
    text = refusal(storage=f"postgresql://user:{password}@host/name")
    assert "hpo.storage: got a password, expected an address without one" in text
    assert "hunter2" not in text


def test_what_is_no_storage():
    assert refusal(storage="study").startswith("hpo.storage: got 'study', expected an address of SQLAlchemy")


@pytest.mark.parametrize(("key", "value"), [("trials", 0), ("parallel", 0), ("direction", "up"), ("study", "a__b")])
def test_other_keys(key, value):
    assert refusal(**{key: value}).startswith(f"hpo.{key}: got ")
