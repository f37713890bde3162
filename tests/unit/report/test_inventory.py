"""What exists of a project is found without reading it, and its digest changes with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import foldwise
from foldwise.artifacts import write_json, write_text
from foldwise.report.inventory import (
    existing_studies,
    existing_tasks,
    listing,
    model_folders,
    walk,
    without_nested,
)

FILES = (
    "data/tasks/digits/samples.csv",
    "data/datasets/digits/images.csv",
    "data/tensors/digits/default-1/manifest.json",
    "project/models/quick/digits+nested-10/fold-0/model.json",
    "project/models/quick/digits+nested-10/fold-2/model.json",
    "project/models/quick/digits+nested-10/fold-10/model.json",
    "project/logits/quick/digits+nested-10/fold-0/digits.npz",
    "project/studies/first/trials/0.json",
    "project/studies/second/trials.csv",
)
MODEL, LOGITS, TRIAL = FILES[3], FILES[6], FILES[7]


@pytest.fixture
def root(tmp_path):
    for name in FILES:
        write_text(tmp_path / name, "{}")
    write_json(tmp_path / "data/tasks/digits/task.json", {"dataset": "digits"})
    (tmp_path / "project/studies/third/trials").mkdir(parents=True)
    return tmp_path


def digest(root, *parts, tasks=("digits",)):
    return listing(parts, root / "project", root / "data", tasks)


def test_folds_come_in_the_order_of_their_numbers(root):
    found = list(model_folders(root / "project"))
    assert [(folder.pipeline, folder.task, folder.fold) for folder in found] == [
        ("quick", "digits+nested-10", fold) for fold in (0, 2, 10)
    ]
    assert all(folder.path.is_dir() for folder in found)
    assert [folder.fold for folder in model_folders(root / "project", "logits")] == [0]


def test_what_is_no_fold_is_no_model(root):
    (root / "project/models/quick/digits+nested-10/fold-x").mkdir()
    write_text(root / "project/models/readme.txt", "")
    assert len(list(model_folders(root / "project"))) == 3


def test_only_created_tasks_and_studies_with_trials_exist(root):
    (root / "data/tasks/begun").mkdir()
    assert existing_tasks(root / "data", ["birds", "begun", "digits", "digits"]) == ["digits"]
    assert existing_studies(root / "project") == ["first", "second"]
    assert existing_studies(root / "nowhere") == []


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        (FILES[0], {"tasks", "samples"}),
        (FILES[1], {"tasks", "samples"}),
        (FILES[2], {"tasks"}),
        (MODEL, {"models"}),
        (LOGITS, {"models"}),
        (TRIAL, {"hpo"}),
    ],
)
def test_a_change_is_seen_by_the_parts_that_read_the_file(root, changed, parts):
    every = ("tasks", "samples", "models", "hpo")
    before = {part: digest(root, part) for part in every}
    os.utime(root / changed, ns=(0, 0))
    assert {part for part in every if digest(root, part) != before[part]} == parts


@pytest.mark.parametrize("change", ["size", "removed", "new"])
def test_size_and_names_count(root, change):
    before = digest(root, "models")
    if change == "size":
        status = (root / MODEL).stat()
        (root / MODEL).write_text("{ }")
        os.utime(root / MODEL, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "removed":
        (root / MODEL).unlink()
    else:
        write_text(root / "project/scores/quick/digits/fold-0/digits.json", "{}")
    assert digest(root, "models") != before


def test_what_is_not_read_does_not_count(root):
    before = digest(root, "tasks", "samples", "models", "hpo")
    for name in ("data/tasks/birds/task.json", "project/logs/x.log", f"{Path(MODEL).parent}/.tmp-model.json-1"):
        write_text(root / name, "{}")
    assert digest(root, "tasks", "samples", "models", "hpo") == before


def test_the_digest_is_the_same_wherever_the_roots_lie(root, tmp_path_factory):
    moved = tmp_path_factory.mktemp("other") / "deeper"
    before = digest(root, "tasks", "models")
    root.rename(moved)
    assert digest(moved, "tasks", "models") == before


@pytest.mark.parametrize("content", ["", "[]", '{"dataset": 3}', '{"dataset": "../.."}', '{"dataset"'])
def test_a_damaged_description_does_not_matter(root, content):
    write_text(root / "data/tasks/digits/task.json", content)
    assert len(digest(root, "tasks")) == 64


def test_a_link_that_leads_back_ends(root):
    (root / "project/models/quick/again").symlink_to(root / "project/models", target_is_directory=True)
    (root / "project/models/quick/nowhere").symlink_to(root / "missing")
    assert len(digest(root, "models")) == 64
    assert sum(1 for _ in walk(root / "project/models", 4)) < 20


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("digits", "digits"),
        ("digits+nested-0", "digits"),
        ("digits+nested-0-3+nested-1", "digits"),
        ("a+subset-0.5+nested-2", "a+subset-0.5"),
    ],
)
def test_nested_tags_are_left_out_of_names(task, name):
    assert without_nested(task) == name


def test_it_imports_no_numerical_library():
    code = "import sys, foldwise.report.inventory; print(sorted({'numpy', 'PIL', 'pydantic'} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(Path(foldwise.__file__).parents[1])}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == "[]"
