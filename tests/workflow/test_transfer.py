"""Models that start from models of another task: of this project or of another one."""

import csv
import shutil

import numpy as np
import pytest

from workflow.conftest import Project
from workflow.shapes import cases_in, check_case, copy_shapes, settings, weights_of
from workflow.test_mistakes import check_message

SOURCE, TARGET = "kinds+nested-0", "sides+nested-0"
MODELS = "results/default/models"
BASE = {"pivot": "sides", "train": {"cv": False}, "tl": {"pretrain_task": "kinds", "freeze": True}}
SHARED = "tl.pretrain_task kinds has the images of the pivot sides"


@pytest.fixture(scope="module")
def transferred(tmp_path_factory):
    """A project with a model that started from one of another task, and what the run said; not to be changed."""
    project = copy_shapes(tmp_path_factory, **BASE)
    result = project.run("tl", "test")
    assert result.status == 0, result.output
    return project, result


def contents(project, folder):
    """Return bytes and date of every file below a folder."""
    paths = (path for path in project.path(folder).rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def rows_of(project, table):
    """Return pipelines and metrics of a table."""
    with project.path(f"results/default/tables/{table}.csv").open(newline="") as handle:
        return {(row["pipeline"], row["task"], row["metric"]) for row in csv.DictReader(handle)}


def test_a_frozen_backbone_is_that_of_the_source(transferred):
    source, model = (
        weights_of(transferred[0].path(f"{MODELS}/{name}/fold-0/model.safetensors"))
        for name in (f"a/{SOURCE}", f"a@kinds/{TARGET}")
    )
    backbone = [name for name in source if name.startswith("backbone.")]
    assert any("running_mean" in name for name in backbone)
    assert all(np.array_equal(source[name], model[name]) for name in backbone)
    assert any(not np.array_equal(source[name], model[name]) for name in set(source) - set(backbone))


def test_a_model_tells_where_it_started(transferred):
    project = transferred[0]
    record, source = (
        project.json(f"{MODELS}/{name}/fold-0/model.json") for name in (f"a@kinds/{TARGET}", f"a/{SOURCE}")
    )
    assert record["pipeline"] == "a@kinds"
    assert record["source"] == {
        "model": f"a/{SOURCE}/fold-0",
        "pipeline": "a",
        "task": SOURCE,
        "fold": 0,
        "score": source["score"],
        "weights": source["weights"],
    }


def test_predict_and_test_take_the_models_in(transferred):
    project = transferred[0]
    assert {("a@kinds", "sides", "loss"), ("a@kinds", "sides", "accuracy")} <= rows_of(project, "transfer")
    assert not {row for row in rows_of(project, "transfer") if row[0] == "a"}
    assert {("a", "sides", "accuracy"), ("a@kinds", "sides", "accuracy")} <= rows_of(project, "test")
    for pipeline in ("a", "a@kinds"):
        assert project.path(f"results/default/logits/{pipeline}/{TARGET}/fold-0/{TARGET}.npz").is_file()


def test_what_the_run_said(transferred):
    output = transferred[1].output
    assert output.count(f"Warning: {SHARED}") == 1
    assert f"Transfer resnet10 from kinds to {TARGET}, fold 0: 1 epoch, lr 0.0005" in output
    assert "Validation metrics of sides, mean ± standard deviation over folds" in output


@pytest.mark.parametrize("path", cases_in("tl"), ids=lambda path: path.stem)
def test_case(transferred, path):
    check_case(transferred[0], path, **BASE)


def elsewhere(**tl):
    """Return the configuration of a project that may also start from models of the first one."""
    return settings(
        project="mine",
        pivot="sides",
        optimizer={"lr": 0.01},
        train={"cv": False},
        tl={"pretrain_task": "kinds", **tl},
        reuse={"models": ["default"]},
    )


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """A project that starts from its own models and those of another one, by each rule of choice, and its source.

    Its own models are not there before, and those of the other project must not change.
    """
    project = copy_shapes(tmp_path_factory)
    before, sources, outputs = contents(project, "results/default"), {}, {}
    for selection in ("created", "performance", "random"):
        project.configure(elsewhere(model_selection=selection))
        result = project.run("tl")
        assert result.status == 0, result.output
        outputs[selection] = result
        sources[selection] = project.json(f"results/mine/models/a@kinds/{TARGET}/fold-0/model.json")["source"]
    assert contents(project, "results/default") == before
    return project, sources, outputs


def test_missing_models_to_start_from_are_trained_first(joined):
    first, *others = joined[2].values()
    assert first.jobs["train_fold"] == 1
    assert first.output.index(f"Train resnet10 on {SOURCE}") < first.output.index("Transfer resnet10 from kinds")
    assert [run.jobs for run in others] == [{"transfer_fold": 1, "tabulate_validation": 1, "tl": 1}] * 2


def test_each_rule_of_choice(joined):
    project, sources, _ = joined
    records = [*project.folder.glob("results/*/models/a/kinds+nested-*/fold-0/model.json")]
    found = {str(path.relative_to(project.folder)): project.json(str(path)) for path in records}
    weights = {name: record["weights"] for name, record in found.items()}
    assert len(weights) == 3
    assert sources["created"]["weights"] == weights[f"results/mine/models/a/{SOURCE}/fold-0/model.json"]
    assert sources["performance"]["weights"] == min(found.values(), key=lambda record: record["score"])["weights"]
    assert sources["random"]["weights"] in weights.values()


def test_models_of_another_network_are_passed_over(joined):
    joined[0].configure(elsewhere() | {"arch": {"name": "resnet18"}})
    output = joined[0].dry_run("tl").output
    assert output.count("2 models of kinds of another network (resnet10; pipeline a has resnet18)") == 1


def test_models_of_another_network_alone(transferred, tmp_path):
    shutil.copytree(transferred[0].folder, tmp_path / "work")
    project = Project(tmp_path / "work")
    project.path(f"{MODELS}/a@kinds/{TARGET}/fold-0/model.json").unlink()
    project.configure(settings(**BASE, arch={"name": "resnet18"}))
    result = project.run("tl", "--rerun-triggers", "mtime")
    check_message(result, "arch: got 'resnet18', expected the network of the models of kinds: resnet10")


MISTAKES = {
    "no task to start from": ({}, ["tl.pretrain_task: got nothing, expected a task of kinds, sizes", "Mode tl starts"]),
    "a task of no name": ({"pretrain_task": "kindz"}, ["tl.pretrain_task: got 'kindz'", "Did you mean 'kinds'?"]),
    "a task that is not in tasks": (
        {"pretrain_task": "digits"},
        ["tl.pretrain_task: got 'digits', expected one of kinds, marks", "Add it to tasks"],
    ),
    "no rule of choice": (
        {"pretrain_task": "kinds", "model_selection": "best"},
        ["tl.model_selection: got 'best', expected one of performance, created, random"],
    ),
    "weights that are not kept": (
        {"pretrain_task": "kinds", "store_parameters": False, "subroutines": ["train", "predict"]},
        ["tl.store_parameters: got false, expected true with subroutines predict or test"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(transferred, name):
    section, parts = MISTAKES[name]
    transferred[0].configure(settings(pivot="sides", tl=section))
    check_message(transferred[0].run("tl", "-n"), *parts)


@pytest.mark.parametrize("mode", ["predict", "test"])
def test_models_without_weights_cannot_be_predicted_with(transferred, mode):
    transferred[0].configure(settings(pivot="sides", tl={"pretrain_task": "kinds", "store_parameters": False}))
    check_message(transferred[0].run(mode, "-n"), f"tl.store_parameters: got false, expected true. Mode {mode} needs")
