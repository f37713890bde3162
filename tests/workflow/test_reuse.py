"""Models of other projects are read, never written; weights that are not to be kept go when they have served."""

import csv
import re
import shutil

import pytest

from workflow.conftest import Project
from workflow.shapes import copy_shapes, settings
from workflow.test_mistakes import check_message
from workflow.test_transfer import contents

VARIANT = "kinds+nested-0"
TENSORS = "data/tensors/shapes"
REUSED = {
    "project": "mine",
    "preprocessing": {"size": 16},
    "metrics": {"classification": ["accuracy"]},
    "train": {"pipelines": []},
    "reuse": {"models": ["default"]},
}


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A project with predictions of its own; another one may reuse its models; not to be changed."""
    project = copy_shapes(tmp_path_factory, test={"cv": False})
    result = project.run("test")
    assert result.status == 0, result.output
    return project


@pytest.fixture(scope="module")
def reused(old, tmp_path_factory):
    """A project without pipelines that has tested models of another one, and what the run said; not to be changed.

    The tensors that those models read are gone before.
    """
    project = Project(tmp_path_factory.mktemp("reused") / "work")
    shutil.copytree(old.folder, project.folder)
    shutil.rmtree(project.path(TENSORS))
    before = contents(project, "results/default")
    project.configure(settings(**REUSED))
    result = project.run("test")
    assert result.status == 0, result.output
    assert contents(project, "results/default") == before
    return project, result


def test_reused_models_are_predicted_with_and_never_trained(reused):
    assert reused[1].jobs == {
        "preprocess_dataset": 1, "predict_fold": 2, "score_fold": 2, "tabulate_test": 1, "test": 1
    }  # fmt: skip
    for kind, suffix in (("logits", "npz"), ("scores", "json")):
        folder = reused[0].path(f"results/mine/{kind}/default~a")
        assert sorted(path.parents[1].name for path in folder.glob(f"*/fold-0/*.{suffix}")) == [
            VARIANT, "kinds+nested-1"
        ]  # fmt: skip


def test_the_preprocessing_is_that_of_the_models(old, reused):
    made = {path.name for path in reused[0].path(TENSORS).iterdir()}
    assert made == {path.name for path in old.path(TENSORS).iterdir()}
    logits, again = (
        project.path(f"results/{name}/{VARIANT}/fold-0/{VARIANT}.npz").read_bytes()
        for project, name in ((old, "default/logits/a"), (reused[0], "mine/logits/default~a"))
    )
    assert logits == again


def test_the_table_has_their_rows(reused):
    with reused[0].path("results/mine/tables/test.csv").open(newline="") as handle:
        rows = {(row["pipeline"], row["metric"]): row["folds"] for row in csv.DictReader(handle)}
    assert rows["default~a", "accuracy"] == "2"


def test_what_is_told_of_models_that_cannot_be_used(reused, tmp_path):
    project = Project(tmp_path / "work")
    shutil.copytree(reused[0].folder, project.folder)
    models = project.path("results/default/models")
    for name in ("b", "c"):
        shutil.copytree(models / "a", models / name)
        (models / name / "kinds+nested-1/fold-0/model.json").write_text("{}")
    (models / "b" / VARIANT / "fold-0/model.safetensors").unlink()
    project.configure(settings(**REUSED))
    result = project.dry_run("predict")
    warnings = [line for line in result.output.splitlines() if line.startswith("Warning: ")]
    passed_over = "passed over models of kinds: 1 without weights, 2 without a readable model.json."
    assert warnings == [f"Warning: reuse.models: {passed_over}"]
    found = set(re.findall(r"with the model of (\S+), fold 0: pipeline (\S+)", result.output))
    assert found == {(VARIANT, "default~a"), ("kinds+nested-1", "default~a"), (VARIANT, "default~c")}


def test_an_unknown_project(reused):
    reused[0].configure(settings(**REUSED | {"reuse": {"models": ["default", "defalt"]}}))
    check_message(reused[0].run("predict", "-n"), "reuse.models[1]: got 'defalt'", "Did you mean 'default'?")


def test_the_project_itself(reused):
    reused[0].configure(settings(**REUSED | {"reuse": {"models": ["mine"]}}))
    check_message(reused[0].run("test", "-n"), "reuse.models: got mine, this project itself, expected other projects")


def test_a_project_without_models_that_fit(reused):
    reused[0].configure(settings(**REUSED | {"train": {"nested": False, "pipelines": ["a"]}}))
    told = "Warning: reuse.models: project default has no models of kinds that can be used."
    assert reused[0].dry_run("predict").output.count(told) == 1


@pytest.mark.parametrize("mode", ["predict", "test"])
def test_nothing_to_predict_with(reused, mode):
    reused[0].configure(settings(**REUSED | {"reuse": {}}))
    check_message(reused[0].run(mode, "-n"), f"{mode}.pipelines: got no model to predict with")


def weights(project):
    """Return the names of the pipelines and tasks that have weights."""
    return {path.parts[-4] + "/" + path.parts[-3] for path in project.path("results").rglob("model.safetensors")}


@pytest.fixture(scope="module")
def removed(tmp_path_factory):
    """A project whose weights go, in which one pipeline was tested and one only trained; not to be changed."""
    project = copy_shapes(tmp_path_factory)
    pipelines = {"tested": {"sampling": {"batch_size": 8}}, "trained": {"sampling": {"batch_size": 2}}}
    changes = {"pipelines": pipelines, "train": {"cv": False}, "test": {"pipelines": ["tested"]}}
    project.configure(settings(**changes, predict={"pipelines": ["tested"]}, remove={"parameters": True}))
    result = project.run("train", "predict", "test")
    assert result.status == 0, result.output
    return project


def test_weights_are_gone_when_they_have_served(removed):
    assert weights(removed) == {f"a/{VARIANT}", "a/kinds+nested-1"}
    found = {path.parts[-4] for path in removed.path("results").glob("default/logits/*/*/*/*.npz")}
    assert found == {"tested"}
    assert removed.path(f"results/default/models/trained/{VARIANT}/fold-0/model.json").is_file()


def test_nothing_is_made_again_without_need(removed):
    assert removed.dry_run("train", "predict", "test").jobs == {}
    assert removed.dry_run("test").jobs == {}


def test_what_needs_weights_again_trains_again(removed):
    jobs = removed.dry_run("predict", "--config", "predict__pipelines=[trained]").jobs
    assert jobs == {"train_fold": 1, "predict_fold": 2, "predict": 1}
