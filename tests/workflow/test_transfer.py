"""Models that start from models of another task: of this project or of another one."""

import csv
import re

import numpy as np
import pytest

from workflow.shapes import cases_in, check_case, copy_shapes, weights_of
from workflow.test_mistakes import check_message

SOURCE, TARGET = "kinds+nested-0", "sides+nested-0"
MODELS = "results/default/models"
BASE = {"pivot": "sides", "train": {"cv": False}, "tl": {"pretrain_task": "kinds", "freeze": True}}
SHARED = "tl.pretrain_task kinds has the images of the pivot sides"


@pytest.fixture(scope="module")
def transferred(tmp_path_factory):
    """A project with a model that started from one of another task, and what the run said; not to be changed."""
    project = copy_shapes(tmp_path_factory, **BASE)
    result = project.run("tl", "test", "predict")
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
