"""A pipeline that an earlier run has written overrides one of the configuration."""

import pytest
import yaml

from workflow.conftest import Project
from workflow.test_mistakes import check_message

BLUEPRINT = {
    "format_version": "2.0.0",
    "task": "digits",
    "study": "first",
    "optimizer": {"name": "sgd", "lr": 0.3},
    "sampling": {"batch_size": 32},
    "loss": {"name": "focal"},
    "seed": 9,
}
PLACES = {"old/first": "results/old/studies/first/blueprint.yaml", "mine.yaml": "mine.yaml"}
PLAN = "Train resnet10 on digits+nested-0, fold 0: 1 epoch"


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A project without data, with a blueprint of a study and one in a file."""
    project = Project(tmp_path_factory.mktemp("blueprints") / "work")
    for place in PLACES.values():
        write(project, place)
    return project


def write(project, place, **changes):
    """Write a blueprint."""
    path = project.path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**BLUEPRINT, **changes}))


def configure(project, blueprint, **train):
    """Let the pipeline `a` be overridden."""
    project.configure(train={"use_blueprint": True, "pipelines": ["a"], **train}, reuse={"blueprint": blueprint})


@pytest.mark.parametrize("name", PLACES)
def test_sections_of_a_file_or_a_study(planned, name):
    configure(planned, name)
    result = planned.dry_run("train")
    assert f"{PLAN}, lr 0.3, batches of 32, seed 42, pipeline a" in result.output
    assert result.jobs["train_fold"] == 2


def test_only_the_keys_that_are_asked_for(planned):
    configure(planned, "mine.yaml", pipeline_keys=["sampling", "seed"])
    assert f"{PLAN}, lr 0.0005, batches of 32, seed 9, pipeline a" in planned.dry_run("test").output


def test_without_use_of_blueprints(planned):
    configure(planned, "mine.yaml", use_blueprint=False)
    assert f"{PLAN}, lr 0.0005, batches of 64, seed 42, pipeline a" in planned.dry_run("train").output


def test_the_resolved_pipeline_is_a_blueprint(planned):
    configure(planned, "mine.yaml", pipeline_keys=["optimizer", "seed"])
    stored = "results/default/pipelines/a.yaml"
    assert planned.run(stored).status == 0
    tree = yaml.safe_load(planned.path(stored).read_text())
    assert {"optimizer", "seed"} == set(tree) - {"format_version"}
    assert (tree["optimizer"]["name"], tree["optimizer"]["lr"], tree["seed"]) == ("sgd", 0.3, 9)
    planned.configure(train={"use_blueprint": True, "pipelines": ["b"]}, reuse={"blueprint": stored})
    assert "lr 0.3, batches of 64, seed 42, pipeline b" in planned.dry_run("train").output


MISTAKES = {
    "no blueprint": (None, {}, {}, ["reuse.blueprint: got nothing, expected a blueprint: a file, or PROJECT/STUDY"]),
    "no such file": ("gone.yaml", {}, {}, ["reuse.blueprint: gone.yaml: got nothing"]),
    "no such study": ("old/second", {}, {}, ["results/old/studies/second/blueprint.yaml: got nothing"]),
    "another task": (
        "bad.yaml",
        {"task": "pathmnist"},
        {},
        ["bad.yaml: task: got 'pathmnist', expected the pivot, digits"],
    ),
    "an unknown key": ("bad.yaml", {"optimiser": {}}, {}, ["bad.yaml: optimiser: got an unknown key", "'optimizer'?"]),
    "a wrong value": (
        "bad.yaml",
        {"optimizer": {"name": "sgd", "lr": "x"}},
        {},
        ["bad.yaml: optimizer.lr: got 'x', expected a number"],
    ),
    "two pipelines": (
        "mine.yaml",
        {},
        {"pipelines": None},
        ["train.use_blueprint: got 2 pipelines, a, b, expected one selected pipeline"],
    ),
    "a key that cannot be overridden": (
        "mine.yaml",
        {},
        {"pipeline_keys": ["optimiser"]},
        ["train.pipeline_keys[0]: got 'optimiser'", "Did you mean 'optimizer'?"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(planned, name):
    blueprint, changes, train, parts = MISTAKES[name]
    write(planned, "bad.yaml", **changes)
    configure(planned, blueprint, **train)
    check_message(planned.run("train", "-n"), *parts)


def test_a_nested_pivot_is_the_task(planned):
    configure(planned, "mine.yaml", nested=False)
    output = planned.dry_run("train", "--config", "pivot=digits+nested-0").output
    assert "lr 0.3, batches of 32" in output
