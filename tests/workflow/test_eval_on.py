"""Models predict and are tested on other tasks of the same classes."""

import csv

import numpy as np
import pytest

from workflow.shapes import SHARED, copy_shapes, settings
from workflow.test_mistakes import check_message

VARIANT = "kinds+nested-0"
KINDS = {**SHARED, "test_fraction": 0.25}
NEW = {
    "again": {**KINDS, "columns": {"image": "file", "class": "kind"}},
    "renamed": {
        **KINDS,
        "columns": {"image": "file", "class": "kind"},
        "classes": {"black": ["dark"], "white": ["bright"]},
    },
    "five": {**SHARED, "columns": {"image": "file", "class": "size"}},
}
BASE = {"tasks": ["kinds", "sizes"], "definitions": NEW, "train": {"cv": False}}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A project whose models have been tested on two other tasks, and what the run said; not to be changed."""
    changes = {**BASE, "train": {"cv": False, "eval_on": ["again", "renamed"]}}
    project = copy_shapes(tmp_path_factory, **changes)
    result = project.run("predict", "test")
    assert result.status == 0, result.output
    return project, result


def test_only_the_other_tasks_are_predicted(evaluated):
    project, result = evaluated
    assert {"predict_fold": 2, "score_fold": 2, "create_task": 2}.items() <= result.jobs.items()
    assert "train_fold" not in result.jobs
    folder = project.path(f"results/default/logits/a/{VARIANT}/fold-0")
    assert {path.name for path in folder.iterdir()} == {"again.npz", "renamed.npz"}
    with np.load(folder / "again.npz") as again, np.load(folder / "renamed.npz") as renamed:
        assert again["test_logits"].shape == (4, 2)
        assert again["test_ids"].tolist() == renamed["test_ids"].tolist()
        assert np.array_equal(again["test_logits"], renamed["test_logits"])


def test_each_task_has_rows_of_its_own(evaluated):
    with evaluated[0].path("results/default/tables/test.csv").open(newline="") as handle:
        rows = {(row["pipeline"], row["task"]) for row in csv.DictReader(handle)}
    assert rows == {("a", "again"), ("a", "renamed")}


def test_class_names_that_differ_are_told(evaluated):
    warnings = [line for line in evaluated[1].output.splitlines() if "compared by their order" in line]
    assert len(warnings) == 1
    assert "renamed" in warnings[0]
    for name in ("dark", "bright", "black", "white"):
        assert name in warnings[0]


def test_other_classes(evaluated):
    evaluated[0].configure(settings(**BASE, predict={"eval_on": "five"}))
    result = evaluated[0].run("predict")
    check_message(result, "got a model of 2 classes ['bright', 'dark']", "the classes of five: 5 classes ['4', '5'")
    assert result.output.count("Error: ") == 1


MISTAKES = {
    "another type": (
        {"predict": {"eval_on": ["again", "sizes"]}},
        ["predict.eval_on: got 'sizes', expected a task of type classification, as the pivot kinds has"],
    ),
    "another number of classes that are declared": (
        {"pivot": "renamed", "tasks": ["renamed"], "predict": {"eval_on": "few"}},
        ["predict.eval_on: got 'few with classes 4, 5, 6'", "the 2 classes of renamed: black, white"],
    ),
    "an unknown task": ({"predict": {"eval_on": "agian"}}, ["predict.eval_on: got 'agian'", "Did you mean 'again'?"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(evaluated, name):
    changes, parts = MISTAKES[name]
    few = {**SHARED, "columns": {"image": "file", "class": "size"}, "classes": [4, 5, 6]}
    evaluated[0].configure(settings(**BASE | {"definitions": {**NEW, "few": few}} | changes))
    check_message(evaluated[0].run("predict", "-n"), *parts)
