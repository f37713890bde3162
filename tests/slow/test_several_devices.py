"""Training on several devices is asked for by resources, and learns what one device learns."""

import csv

import pytest

from workflow.conftest import Project

FOLDER = "results/{}/models/a/digits+nested-0/fold-0"
RESOURCES = ("train_fold:devices=2", "train_fold:strategy=ddp", "train_fold:accelerator=cpu")
RUNS = {"one": (), "two": ("--set-resources", *RESOURCES)}


def curve(project, name):
    """Return the validation loss of each epoch."""
    with project.path(f"{FOLDER.format(name)}/metrics.csv").open(newline="") as handle:
        return [float(row["val_loss"]) for row in csv.DictReader(handle)]


def test_two_processes_learn_what_one_does(tmp_path):
    project = Project(tmp_path / "work")
    logs = {}
    for name, arguments in RUNS.items():
        recipe = {"pipelines": {"a": {}}, "trainer": {"max_epochs": 4, "limit_train_batches": 4}}
        project.configure(recipe, train={"cv": False}, project=name)
        result = project.run("train", *arguments)
        assert result.status == 0, result.output
        logs[name] = project.path(f"results/{name}/logs/train_fold/a/digits+nested-0/fold-0.log").read_text()
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in logs["two"]
    assert "GLOBAL_RANK" not in logs["one"]
    assert len(curve(project, "two")) == 4
    assert curve(project, "two") == pytest.approx(curve(project, "one"), rel=0.01)
    assert not project.path("results/two/checkpoints/a").exists()
