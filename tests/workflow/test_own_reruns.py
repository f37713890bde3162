"""A change of one's own images, table or definition reruns exactly what it can change."""

import shutil

import numpy as np
import pytest
from PIL import Image

from workflow.conftest import Project
from workflow.test_reruns import without_mode

SHARED = {"source": "table", "path": "birds.csv", "images": "images/birds", "dataset": "birds"}
KINDS = {**SHARED, "columns": {"image": "file", "class": "kind", "group": "nest"}}
AGES = {**SHARED, "type": "regression", "columns": {"image": "file", "value": "age"}}
TASK_JOBS = {"create_task": 1, "derive_task": 1, "train_fold": 1, "tabulate_validation": 1}
DATASET_JOBS = {"create_dataset": 1, "preprocess_dataset": 1, **TASK_JOBS}


def write_birds(project, count=12):
    """Write images, and a table that tells kind, age, nest and year of each."""
    folder = project.path("images/birds")
    folder.mkdir(parents=True)
    lines = ["file,copy,kind,age,nest,year"]
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        kind = "robin" if number % 2 else "wren"
        lines.append(f"{number}.png,{count - 1 - number}.png,{kind},{number / 4},{number // 2},{number // 4}")
    project.path("birds.csv").write_text("\n".join(lines) + "\n")


def configure(project, pivot="kinds", kinds=None, ages=None, **more):
    """Write the configuration of two tasks on one table, with changes of their definitions."""
    definitions = {"kinds": {**KINDS, **(kinds or {})}, "ages": {**AGES, **(ages or {})}}
    tasks = {"tasks": ["kinds", "ages"], "pivot": pivot, "definitions": definitions}
    project.configure({**tasks, "pipelines": {"a": {}}, "train": {"cv": False}, **more})


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """A project with two tasks of one's own on which modes up to train have run; not to be changed."""
    project = Project(tmp_path_factory.mktemp("birds") / "work")
    write_birds(project)
    configure(project)
    result = project.run("create", "pp", "train")
    assert result.status == 0, result.output
    return project, result.jobs


@pytest.fixture
def birds(made_once, tmp_path):
    """A copy of the project, dates and links included."""
    shutil.copytree(made_once[0].folder, tmp_path / "work", symlinks=True)
    return Project(tmp_path / "work")


def reruns(project, target="train"):
    """Return the table of jobs that a mode would run, without the mode itself."""
    return without_mode(project.dry_run(target).jobs, target)


def test_two_tasks_on_one_dataset_share_it_and_its_tensors(made_once, birds):
    jobs = made_once[1]
    assert (jobs["create_dataset"], jobs["create_task"], jobs["preprocess_dataset"]) == (1, 2, 1)
    configure(birds, pivot=None)
    assert reruns(birds, "pp") == {}
    configure(birds, pivot="ages")
    assert reruns(birds) == {"derive_task": 1, "train_fold": 1, "tabulate_validation": 1}


CHANGES = {
    "what only describes": (
        {"licence": "CC0", "reference": "Somebody 2020", "keywords": ["a"], "on_error": "skip"},
        {},
    ),
    "the group": ({"columns": {**KINDS["columns"], "group": "year"}}, TASK_JOBS),
    "the order of classes": ({"classes": ["wren", "robin"]}, TASK_JOBS),
    "a test split": ({"test_fraction": 0.3}, TASK_JOBS),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_a_definition(birds, name):
    changes, expected = CHANGES[name]
    more = {"ages": {"on_error": "skip"}} if "on_error" in changes else {}  # tasks on one dataset must agree on it
    configure(birds, kinds=changes, **more)
    assert reruns(birds) == expected


def test_another_column_of_images_is_another_dataset(birds):
    kinds, ages = ({"columns": {**task["columns"], "image": "copy"}} for task in (KINDS, AGES))
    configure(birds, kinds=kinds, ages=ages)
    assert reruns(birds) == DATASET_JOBS


def test_a_change_of_one_task_leaves_the_other_alone(birds):
    configure(birds, ages={"n_folds": 3, "test_fraction": 0.3})
    assert reruns(birds) == {}
    assert reruns(birds, "create") == {"create_task": 1}


def test_a_sample_more_in_the_table(birds):
    table, folder = birds.path("birds.csv"), birds.path("images/birds")
    shutil.copy(folder / "0.png", folder / "12.png")
    assert reruns(birds) == {}
    table.write_text(table.read_text() + "12.png,12.png,wren,7,7,7\n")
    assert reruns(birds) == DATASET_JOBS


def test_a_table_written_anew_with_the_same_content(birds):
    table = birds.path("birds.csv")
    table.write_text(table.read_text())
    assert reruns(birds) == {}


@pytest.mark.parametrize("names", [["images"], ["images", "birds.csv"]], ids=["images", "images and table"])
def test_what_was_read_may_go_once_all_is_made(birds, names):
    for name in names:
        path = birds.path(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert reruns(birds) == {}


def test_images_that_were_trusted_are_opened_when_that_is_wanted(tmp_path):
    project = Project(tmp_path / "work")
    write_birds(project, count=4)
    configure(project, create={"n_folds": 2, "check": "none"})
    assert project.run("create").status == 0
    assert reruns(project, "create") == {}
    configure(project)
    assert reruns(project, "create") == {"create_dataset": 1, "create_task": 2}
