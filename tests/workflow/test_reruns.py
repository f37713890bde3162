"""A change reruns exactly what it can change."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from workflow.conftest import Project

CASES = sorted((Path(__file__).parents[1] / "cases").glob("*.yaml"))


def without_mode(jobs, target):
    """Drop the mode itself from a table of jobs."""
    return {rule: count for rule, count in jobs.items() if rule != target}


@pytest.fixture(scope="module")
def planned(finished, tmp_path_factory):
    """Return one copy of the finished project for all cases, as planning changes nothing but the configuration."""
    project = Project(tmp_path_factory.mktemp("cases") / "work")
    shutil.copytree(finished.folder, project.folder)
    return project


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(planned, path):
    case = yaml.safe_load(path.read_text())
    planned.configure(case["config"])
    result = planned.dry_run(case["target"], *case.get("arguments", []))
    assert without_mode(result.jobs, case["target"]) == case["reruns"], result.output


def test_the_reason_is_told(trained):
    trained.configure(pipelines={"a": {}, "b": {"optimizer": {"lr": 0.002}}})
    output = trained.dry_run("train").output
    assert "Params have changed since last execution" in output
    assert '"lr":0.001' in output
    assert '"lr":0.002' in output


@pytest.mark.parametrize(
    "name",
    [
        "data/tasks/digits/samples.csv",
        "data/tasks/digits/task.json",
        "data/datasets/digits/images.csv",
        "data/tensors/digits/default-44136fa3/images.npy",
        "data/tensors/digits/default-44136fa3/manifest.json",
        "results/default/models/a/digits+nested-0/fold-0/model.json",
    ],
)
def test_a_touched_file_reruns_nothing(trained, name):
    trained.path(name).touch()
    assert trained.dry_run("test").jobs == {}


def test_changed_folds_are_seen(trained):
    path = trained.path("data/tasks/digits+nested-0/folds.csv")
    path.write_text(path.read_text() + "more,1\n")
    assert trained.dry_run("train").jobs == {"train_fold": 2, "tabulate_validation": 1, "train": 1}


def test_a_lost_model_is_made_again(trained):
    trained.path("results/default/models/a/digits+nested-0/fold-0/model.json").unlink()
    assert trained.dry_run("train").jobs == {"train_fold": 1, "tabulate_validation": 1, "train": 1}


def test_lost_weights_are_made_again_for_predictions(trained):
    trained.path("results/default/models/a/digits+nested-0/fold-0/model.safetensors").unlink()
    assert trained.dry_run("train").jobs == {}
    trained.path("results/default/logits/a/digits+nested-0/fold-0/digits.npz").unlink()
    assert trained.dry_run("predict").jobs["train_fold"] == 1


def test_a_raised_revision_reruns_the_rule(trained, checkout):
    copy = Project(trained.folder, checkout / "Snakefile")
    assert copy.dry_run("test").jobs == {}
    rules = checkout / "rules/test.smk"
    rules.write_text(re.sub(r"revision=\d", "revision=9", rules.read_text(), count=1))
    assert copy.dry_run("test").jobs == {"score_fold": 4, "tabulate_test": 1, "test": 1}


def test_an_edited_script_or_engine_reruns_nothing(trained, checkout):
    for name in ("scripts/train_fold.py", "scripts/foldwise/training/fold.py"):
        path = checkout / name
        path.write_text(path.read_text() + "\n# edited\n")
    assert Project(trained.folder, checkout / "Snakefile").dry_run("test").jobs == {}


def test_two_projects_on_the_same_data_by_turns(trained):
    trained.configure(project="other", seed=7)
    assert trained.run("train").status == 0
    assert trained.dry_run("train").jobs == {}
    trained.configure()
    assert trained.dry_run("test").jobs == {}
    trained.configure(project="other", seed=7)
    assert trained.dry_run("train").jobs == {}


def test_a_second_working_directory_on_the_same_data(trained, tmp_path):
    other = Project(tmp_path / "other")
    other.configure(data_dir=str(trained.path("data")), train={"pipelines": ["a"], "cv": False})
    result = other.run("train")
    assert result.status == 0, result.output
    assert set(result.jobs) == {"train_fold", "resolve_pipeline", "tabulate_validation", "train"}


def test_a_second_working_directory_with_another_definition(trained, tmp_path):
    other = Project(tmp_path / "other")
    other.configure(data_dir=str(trained.path("data")), create={"n_folds": 2, "seed": 9}, train={"pipelines": ["a"]})
    before = trained.contents("data/**/*")
    result = other.run("train")
    assert result.status != 0
    assert "data made with seed 42" in result.errors[0]
    assert "expected seed 9 as configured" in result.errors[0]
    assert trained.contents("data/**/*") == before
