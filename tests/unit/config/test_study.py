"""What the trials of a study need to know, and whether a study on disk is the one that is asked for."""

import json

import pytest

from foldwise.artifacts import write_json
from foldwise.config.canonical import component
from foldwise.config.jobs import read_slice, slice_json, train_config
from foldwise.config.selection import train_plan
from foldwise.config.space import apply_point
from foldwise.config.study import (
    StudyConfig,
    best_config,
    check_same_study,
    direction_warning,
    is_lost,
    recorded_parallel,
    studied_recipes,
    study_config,
    trial_config,
    trial_count,
    trials_before,
)
from foldwise.errors import FoldwiseError
from unit.config.loading import LIBRARY, load

SPACE = {"optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True}, "sampling.batch_size": [16, 32]}


def study(hpo=None, **keys):
    config = load({"hpo": {"study": "s", "search_space": SPACE, **(hpo or {})}, **keys})
    return config, train_plan(config, "hpo")


def slice_of(hpo=None, **keys):
    return study_config(*study(hpo, **keys), LIBRARY)


def refusal(hpo=None, **keys):
    with pytest.raises(FoldwiseError) as caught:
        slice_of(hpo, **keys)
    return caught.value.message


@pytest.mark.parametrize(
    ("keys", "models"),
    [
        ({"train": {"cv": False}}, [("digits+nested-0", 0)]),
        ({"hpo": {"cv": False, "nested": False}}, [("digits", 0)]),
        ({"hpo": {"nested": False}, "create": {"n_folds": 2}}, [("digits", 0), ("digits", 1)]),
        (
            {"hpo": {"cv": False, "inner_folds": "all"}, "create": {"n_folds": 2}},
            [("digits+nested-0", k) for k in (0, 1)],
        ),
    ],
)
def test_trials_train_what_train_would(keys, models):
    found = slice_of(keys.pop("hpo", None), **keys)
    assert [(model.task, model.fold) for model in found.models] == models


def test_the_slice_survives_its_text():
    found = slice_of({"sampler": "random", "pruner": {"name": "median", "n_startup_trials": 2}})
    assert read_slice(StudyConfig, slice_json(found)) == found


def test_the_order_of_keys_decides_nothing():
    assert slice_json(slice_of()) == slice_json(slice_of({"search_space": dict(reversed(SPACE.items()))}))


@pytest.mark.parametrize("hpo", [{"trials": 7}, {"parallel": 2}, {"storage": "a.log"}])
def test_how_many_trials_run_decides_none_of_them(hpo):
    assert slice_json(slice_of(hpo)) == slice_json(slice_of())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hpo": {"study": None}}, "hpo.study: got nothing, expected a name for the study."),
        ({"pipelines": {"a": {}, "b": {}}}, "hpo.pipelines: got 2 pipelines, a, b, expected one pipeline."),
        ({"hpo": {"metric": "acuracy"}}, "Did you mean 'accuracy'?"),
        ({"hpo": {"search_space": {"loss.name": ["huber"]}}}, "hpo.search_space.loss"),
        (
            {
                "hpo": {"nested": False, "search_space": {"cbs.early_stopping.patience": [1]}},
                "cbs": {"early_stopping": {}},
            },
            "cbs.early_stopping.monitor",
        ),
        ({"pivot": None}, "pivot: got nothing"),
    ],
)
def test_what_is_no_study(keys, message):
    assert message in refusal(keys.pop("hpo", None), **keys)


def test_one_of_several_pipelines_is_chosen():
    pipelines = {"a": {}, "b": {"optimizer": {"lr": 0.5}}}
    assert slice_of({"pipelines": ["b"]}, pipelines=pipelines).pipeline.optimizer.lr == 0.5


def test_a_model_of_a_trial_is_that_of_mode_train():
    config, plan = study(
        {"search_space": {**SPACE, "mode.multitask": [False, 2]}},
        tasks=["digits", "again"],
        definitions={"again": {"dataset": "digits"}},
    )
    found = study_config(config, plan, LIBRARY)
    for multitask in (False, 2):
        point = {"optimizer.lr": 0.01, "sampling.batch_size": 16, "mode.multitask": multitask}
        recipe = apply_point(found.pipeline, found.space, point)
        made = trial_config(found, recipe, found.models[1])
        mode = {"multitask": multitask} if multitask else {}
        beside = load(
            {
                "tasks": ["digits", "again"],
                "definitions": {"again": {"dataset": "digits"}},
                "optimizer": {"lr": 0.01},
                "sampling": {"batch_size": 16},
                "mode": mode,
            }
        )
        names = ["again"] if multitask else []
        assert made == train_config(beside, beside.pipelines["default"], "digits+nested-1", names)


def test_a_grid_has_no_more_trials_than_points():
    config, plan = study({"sampler": "grid", "search_space": {"sampling.batch_size": [8, 16, 32]}, "trials": 9})
    assert trial_count(config.hpo, study_config(config, plan, LIBRARY).space) == 3
    config, plan = study({"trials": 9})
    assert trial_count(config.hpo, study_config(config, plan, LIBRARY).space) == 9


@pytest.mark.parametrize("parallel", [1, 2, 3, 7])
def test_a_trial_waits_for_all_up_to_its_number_less_parallel(parallel):
    known = {}
    for number in range(30):
        waits = list(trials_before(number, parallel))
        known[number] = set(waits).union(*(known[other] for other in waits))
        assert known[number] == set(range(number - parallel + 1))
        assert len(waits) <= parallel


def write_trial(folder, found, number=0):
    tree = {"trial": number, "parallel": 3, "definition": json.loads(json.dumps(component(found)))}
    write_json(folder / "trials" / f"{number}.json", tree)


def test_the_same_study_goes_on(tmp_path):
    write_trial(tmp_path, slice_of())
    assert check_same_study(slice_of({"trials": 200, "parallel": 1}), tmp_path) is None
    assert recorded_parallel(tmp_path / "trials/0.json") == 3
    assert recorded_parallel(tmp_path / "trials/1.json") is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"hpo": {"search_space": {**SPACE, "sampling.batch_size": [16, 64]}}},
            ("search_space.sampling.batch_size.choices", "[16, 64]", "[16, 32]"),
        ),
        (
            {"hpo": {"search_space": {"optimizer.lr": SPACE["optimizer.lr"]}}},
            ("hpo.search_space.sampling.batch_size", "[16, 32]"),
        ),
        ({"seed": 7}, ("seed: got 7, expected 42 as in",)),
        ({"hpo": {"sampler": "random"}}, ('hpo.sampler.name: got "random", expected "tpe"',)),
        ({"trainer": {"max_epochs": 3}}, ("trainer.max_epochs: got 3, expected 50",)),
    ],
)
def test_another_study_of_the_same_name_is_refused_with_both(tmp_path, keys, words):
    write_trial(tmp_path, slice_of())
    with pytest.raises(FoldwiseError) as caught:
        check_same_study(slice_of(keys.pop("hpo", None), **keys), tmp_path)
    text = caught.value.message
    assert all(word in text for word in words)
    assert str(tmp_path) in text
    assert text.endswith("Give the study another name, or delete its folder to begin anew.")


def test_broken_trials_say_nothing_of_a_study(tmp_path):
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials/0.json").write_text("{")
    assert check_same_study(slice_of(), tmp_path) is None


def test_recipes_of_all_pipelines_that_may_be_varied():
    config, _ = study({"search_space": {"preprocessing.size": [32, 64]}}, pipelines={"a": {}})
    assert [recipe.preprocessing.size for recipe in studied_recipes(config, LIBRARY)] == [32, 64]
    assert studied_recipes(load({}), LIBRARY) == []


def test_what_the_blueprint_holds():
    config, plan = study(train={"pipeline_keys": ["arch", "optimizer", "seed"]})
    found = best_config(config, plan)
    assert (found.study, found.pivot, found.sections) == ("s", "digits", ["arch", "sampling", "optimizer"])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, ""),
        ({"metric": "accuracy", "direction": "maximize"}, ""),
        ({"metric": "brier"}, ""),
        ({"metric": "accuracy"}, "hpo.direction: minimize with metric accuracy seeks the worst model"),
        ({"direction": "maximize"}, "hpo.direction: maximize with the validation loss seeks the worst model"),
    ],
)
def test_a_study_that_seeks_the_worst_is_warned_of(keys, words):
    warning = direction_warning(study(keys)[0].hpo)
    assert warning.startswith(words)
    assert bool(warning) == bool(words)


@pytest.mark.parametrize("storage", ["sqlite:///{}/a.db", "{}/a.log"])
def test_a_lost_copy_is_noticed(tmp_path, storage):
    address = storage.format(tmp_path)
    assert is_lost(address)
    (tmp_path / "a.db").touch()
    (tmp_path / "a.log").touch()
    assert not is_lost(address)


@pytest.mark.parametrize("storage", ["postgresql://me@host/name", "sqlite:///${HOME}/a.db"])
def test_of_others_nobody_knows(storage):
    assert not is_lost(storage)


def test_sizes_that_a_network_cannot_work_on_are_told_before():
    space = {"preprocessing.size": [16, 24]}
    text = refusal(
        {"search_space": space}, pivot="digits_segmentation", tasks=["digits_segmentation"], arch={"name": "basicunet"}
    )
    assert text == "preprocessing.size: got 24 x 24 pixels, expected a multiple of 16 for basicunet."


def test_too_few_tasks_are_told_at_the_key_that_asks_for_them():
    assert refusal({"search_space": {"mode.multitask": [False, 5]}}).startswith(
        "hpo.search_space.mode.multitask: got 5"
    )
