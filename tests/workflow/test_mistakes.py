"""A user's mistake gives one readable message, a status that is not zero, and no traceback."""

import os
import subprocess
from contextlib import contextmanager

import pytest

from workflow.test_recovery import TENSORS, damage

FIRST = "results/default/models/a/digits+nested-0/fold-0"


@contextmanager
def mounted(folder, options):
    """Mount a small file system in memory, or skip where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def check_message(result, *parts):
    """Check that a run failed with one message and no traceback."""
    assert result.status != 0
    assert "Traceback" not in result.output
    assert result.errors, result.output
    for part in parts:
        assert part in result.errors[0]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"trian": {}}, ["trian: got an unknown key", "Did you mean 'train'?"]),
        ({"train": {"nestd": True}}, ["train.nestd: got an unknown key", "Did you mean 'nested'?"]),
        ({"pipelines": {"a": {"optimiser": {}}}}, ["pipelines.a.optimiser", "Did you mean 'optimizer'?"]),
        ({"train": {"cv": "maybe"}}, ["train.cv: got 'maybe', expected true or false"]),
        ({"trainer": {"max_epochs": "ten"}}, ["trainer.max_epochs: got 'ten', expected an integer >= 1"]),
        ({"tasks": ["digitz"]}, ["tasks[0]: got 'digitz'", "Did you mean 'digits'?"]),
        ({"pivot": "digitz"}, ["pivot: got 'digitz'"]),
        ({"pivot": "digits+nested-9"}, ["pivot: got '+nested-9', expected an outer fold from 0 to 1"]),
        ({"create": {"n_folds": 1}}, ["create.n_folds: got 1, expected an integer >= 2"]),
        ({"arch": "smal"}, ["arch: got 'smal'", "Did you mean 'small'?"]),
        ({"arch": {"name": "resnet19"}}, ["arch.name: got 'resnet19'", "Did you mean 'resnet18'?"]),
        ({"multitask": 2}, ["multitask: got an unknown key"]),
        ({"train": {"store_parameters": False, "subroutines": ["train", "test"]}}, ["train.store_parameters"]),
        ({"project": "../up"}, ["project: got '../up', expected a name"]),
        ({"data_dir": "a{b}"}, ["data_dir: got 'a{b}', expected a path without braces"]),
    ],
)
def test_mistakes_in_the_configuration(project, changes, parts):
    project.configure(changes)
    check_message(project.run("train"), *parts)
    assert not project.path("data").exists()


def test_no_pivot(project):
    project.configure(pivot=None)
    check_message(project.run("train"), "pivot: got nothing", "Mode train works on one task")
    assert project.dry_run("create").jobs["create_task"] == 1


def test_predictions_without_weights(project):
    project.configure(train={"store_parameters": False})
    check_message(project.run("predict"), "train.store_parameters", "Mode predict needs the weights")


def test_a_task_without_its_dataset(project):
    project.configure(create={"subroutines": ["task"]})
    check_message(project.run("create"), "create.subroutines", "data/datasets/digits/dataset.json does not exist")


def test_a_configuration_file_that_is_no_yaml(project):
    project.path("config/presets").mkdir()
    project.path("config/presets/arch.yaml").write_text("a: [1")
    check_message(project.run("train"), "config/presets/arch.yaml", "expected a YAML file")


def test_data_dir_is_a_file(project):
    project.path("data").write_text("")
    check_message(project.run("train"), "data: got a file, expected a readable folder")


def test_data_dir_is_a_link_that_leads_nowhere(project):
    project.path("data").symlink_to("gone")
    check_message(project.run("train"), "data: got a link that leads nowhere, expected a readable folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_data_dir_that_cannot_be_read(project):
    project.path("data").mkdir(mode=0o000)
    check_message(project.run("train"), "data: got a folder that cannot be read")


def test_read_only_results(project):
    with mounted(project.path("results"), "ro,size=1m"):
        check_message(project.run("train"), "results: got a folder that cannot be written")
        assert project.dry_run("train").jobs["train_fold"] == 4


def test_full_disk(project):
    with mounted(project.path("results"), "size=160k"):  # too little for the first model
        result = project.run("train")
        check_message(result, "got a full disk", "MiB are free there")
        assert "results/default/" in result.errors[0]
        assert project.contents("results/**/*.safetensors", "results/**/.tmp-*") == {}
        subprocess.run(["mount", "-o", "remount,size=8m", str(project.path("results"))], check=True)
        assert project.run("train").status == 0


def test_corrupted_tensors(trained):
    damage(trained.path(TENSORS))
    result = trained.run("train", "--forcerun", "train_fold")
    check_message(result, f"{TENSORS}: got damaged rows 0 to 1364", "Delete the file and run again")
    trained.path(TENSORS).unlink()
    assert trained.run("train", "--forcerun", "train_fold").status == 0


def test_truncated_tensors(trained):
    with trained.path(TENSORS).open("r+b") as handle:
        handle.truncate(100_000)
    check_message(trained.run("train", "--forcerun", "train_fold"), TENSORS, "got 100000 bytes, expected 5520512 bytes")


def test_truncated_weights(trained):
    with trained.path(f"{FIRST}/model.safetensors").open("r+b") as handle:
        handle.truncate(10_000)
    result = trained.run("predict", "--forcerun", "predict_fold")
    check_message(
        result, f"{FIRST}/model.safetensors: got 10000 bytes with another checksum", "Delete it and run again"
    )
    trained.path(f"{FIRST}/model.safetensors").unlink()
    assert trained.run("predict").status == 0


def test_another_format_version(trained):
    trained.path("data/VERSION").write_text("9.0.0\n")
    check_message(trained.run("train"), "data/VERSION: got format version 9.0.0")


def test_a_file_that_no_rule_makes(project):
    result = project.run("results/default/models/c/digits/fold-0/model.json")
    assert result.status != 0
    assert "Traceback" not in result.output


def test_a_variant_of_an_unknown_task(project):
    check_message(project.run("data/tasks/birds/task.json"), "task: got 'birds', expected one of bloodmnist, ")
