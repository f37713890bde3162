"""Several tasks learned together, as one asks for it on the command line."""

import csv
import hashlib

import numpy as np
import pytest

from workflow.conftest import Project
from workflow.shapes import TASKS, cases_in, check_case, copy_shapes, settings, write_shapes
from workflow.test_mistakes import check_message

VARIANT = "kinds+nested-0"
WEIGHTS = {"kinds": 1.0, "sizes": 0.5, "marks": 0.25, "sides": 0.0}
PIPELINES = {
    "drawn": {"mode": {"multitask": 2}},
    "weighed": {"mode": {"multitask": 4, "co_tasks": list(WEIGHTS)[1:], "task_weights": list(WEIGHTS.values())}},
    "maps": {"arch": {"name": "unet", "channels": [4, 8]}, "mode": {"multitask": 2, "co_tasks": ["outlines"]}},
}
RECIPE = {
    "tasks": [*TASKS, "digits_multilabel"],
    "pipelines": PIPELINES,
    "train": {"cv": False},
    "trainer": {"max_epochs": 2, "limit_train_batches": 2},
}
DRAWN = min(RECIPE["tasks"][1:], key=lambda name: hashlib.sha256(f"42:{name}".encode()).digest())


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A project that has learned the pivot together with other tasks, and what the run said; not to be changed."""
    project = copy_shapes(tmp_path_factory, **RECIPE)
    result = project.run("train", f"results/default/logits/weighed/{VARIANT}/fold-0/{VARIANT}.npz")
    assert result.status == 0, result.output
    return project, result


def curves(project, pipeline):
    """Return the rows of a model's metrics.csv."""
    with project.path(f"results/default/models/{pipeline}/{VARIANT}/fold-0/metrics.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize(
    ("pipeline", "columns"),
    [
        ("drawn", [f"{DRAWN}/val_loss", f"{DRAWN}/mae"]),
        ("weighed", ["sizes/mae", "marks/hamming_accuracy", "sides/accuracy", f"{VARIANT}/train_loss"]),
        ("maps", ["outlines/dice", "outlines/train_loss", "accuracy"]),
    ],
)
def test_curves_of_each_task(learned, pipeline, columns):
    for row in curves(learned[0], pipeline):
        assert all(np.isfinite(float(row[column])) for column in columns)


def test_the_loss_is_the_weighted_mean(learned):
    for row in curves(learned[0], "weighed"):
        losses = [float(row[f"{name.replace('kinds', VARIANT)}/train_loss"]) for name in WEIGHTS]
        assert float(row["train_loss"]) == pytest.approx(np.average(losses, weights=list(WEIGHTS.values())))


def test_a_model_tells_what_it_learned_beside_the_pivot(learned):
    found = {
        pipeline: {
            task["task"]: task["type"]
            for task in learned[0].json(f"results/default/models/{pipeline}/{VARIANT}/fold-0/model.json")["co_tasks"]
        }
        for pipeline in PIPELINES
    }
    assert found == {
        "drawn": {DRAWN: "regression"},
        "weighed": {"sizes": "regression", "marks": "multilabel", "sides": "classification"},
        "maps": {"outlines": "segmentation"},
    }


def test_the_table_has_rows_of_each_task(learned):
    with learned[0].path("results/default/tables/validation.csv").open(newline="") as handle:
        rows = {(row["pipeline"], row["task"], row["metric"]) for row in csv.DictReader(handle)}
    assert {("weighed", "kinds", "accuracy"), ("weighed", "sizes", "r2"), ("maps", "outlines", "dice")} <= rows


def test_the_head_of_the_pivot_predicts(learned):
    path = learned[0].path(f"results/default/logits/weighed/{VARIANT}/fold-0/{VARIANT}.npz")
    with np.load(path) as logits:
        assert logits["val_logits"].shape == (4, 2)
        assert logits["test_logits"].shape == (8, 2)


def test_the_plan_names_the_co_tasks(learned):
    for pipeline, names in (("drawn", DRAWN), ("weighed", "sizes, marks, sides"), ("maps", "outlines")):
        assert f"pipeline {pipeline}, with {names}\n" in learned[1].output


@pytest.mark.parametrize("path", cases_in("multitask"), ids=lambda path: path.stem)
def test_case(learned, path):
    check_case(learned[0], path, **RECIPE)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A project without data, in which nothing but planning goes on."""
    project = Project(tmp_path_factory.mktemp("empty") / "work")
    write_shapes(project.folder)
    return project


MISTAKES = {
    "one task": ({"multitask": 1}, {}, ["pipelines.a.mode.multitask: got 1, expected false or an integer >= 2"]),
    "too few tasks": (
        {"multitask": 3},
        {"tasks": ["kinds", "kinds+subset-0.5", "sides"]},
        ["pipelines.a.mode.multitask: got 3 with 1 tasks beside the pivot, expected at most 2"],
    ),
    "too many weights": (
        {"multitask": 2, "task_weights": [1, 2, 3]},
        {},
        ["pipelines.a.mode.task_weights: got [1.0, 2.0, 3.0], expected 2 numbers"],
    ),
    "no weight for the pivot": ({"multitask": 2, "task_weights": [0, 1]}, {}, ["a weight above 0 for the pivot"]),
    "too few co-tasks": ({"multitask": 3, "co_tasks": ["sides"]}, {}, ["co_tasks: got ['sides'], expected 2 distinct"]),
    "a co-task twice": ({"multitask": 3, "co_tasks": ["sides", "sides"]}, {}, ["expected 2 distinct tasks"]),
    "an unknown co-task": ({"multitask": 2, "co_tasks": ["sidez"]}, {}, ["Did you mean 'sides'?"]),
    "a co-task that is not in tasks": (
        {"multitask": 2, "co_tasks": ["sizes"]},
        {"tasks": ["kinds", "sides"]},
        ["co_tasks[0]: got 'sizes', expected one of kinds, sides"],
    ),
    "the pivot as its own co-task": (
        {"multitask": 2, "co_tasks": ["kinds"]},
        {},
        ["co_tasks: got 'kinds', expected tasks other than the pivot"],
    ),
    "a task type that the backbone cannot serve": (
        {"multitask": 2, "co_tasks": ["outlines"]},
        {},
        ["arch.name: got 'resnet10', expected one of unet", "The co-task outlines needs it"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(empty, name):
    mode, changes, parts = MISTAKES[name]
    empty.configure(settings(**changes, pipelines={"a": {"mode": mode}}))
    result = empty.run("train", "-n")
    check_message(result, *parts)
    assert len(result.errors) == 1
