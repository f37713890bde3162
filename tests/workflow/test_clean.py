"""Mode clean: lists, asks on a terminal, deletes leftovers and nothing else."""

import os
import pty
import subprocess

import pytest

from workflow.conftest import environment

STATE = "results/default/checkpoints/a/digits+nested-0/fold-0/state.json"
ARCHIVE = "data/downloads/digits/digits.zip"
TEMPORARY = "results/default/models/a/digits+nested-0/fold-0/.tmp-model.json-2147480000-0123abcd"
LEFT = (STATE, ARCHIVE, TEMPORARY)


@pytest.fixture
def littered(trained):
    """Return a finished project with leftovers."""
    for name in LEFT:
        trained.path(name).parent.mkdir(parents=True, exist_ok=True)
        trained.path(name).write_bytes(bytes(1000))
    return trained


def there(project):
    return {name for name in LEFT if project.path(name).exists()}


def answer(project, text, *arguments):
    """Run mode clean on a terminal and answer its question; return status and output."""
    ours, theirs = pty.openpty()
    command = project.command("--cores", "1", "clean", *arguments)
    process = subprocess.Popen(
        command, cwd=project.folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(), close_fds=True
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            said += os.read(ours, 4096)
        except OSError:
            break
        if b"[y/N]" in said and text:
            os.write(ours, text)
            text = b""
    os.close(ours)
    return process.wait(timeout=60), said.decode()


def test_a_dry_run_lists_and_deletes_nothing(littered):
    result = littered.dry_run("clean")
    assert there(littered) == set(LEFT)
    for name in (STATE.rpartition("/")[0].rpartition("/")[0], ARCHIVE, TEMPORARY):
        assert name in result.output
    assert "3 files and folders, 3.0 kB" in result.output


def test_without_terminal_it_says_what_to_run(littered):
    result = littered.run("clean")
    assert result.status != 0
    assert there(littered) == set(LEFT)
    assert "clean.force: got false, expected true" in result.output
    assert "clean --config clean__force=true" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("text", "is_gone"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_on_a_terminal_it_asks(littered, text, is_gone):
    status, said = answer(littered, text)
    assert status == 0, said
    assert there(littered) == (set() if is_gone else set(LEFT))
    assert ("Deleted 3 files and folders, 3.0 kB are free now." in said) == is_gone
    assert ("Nothing was deleted." in said) != is_gone


def test_force_deletes_leftovers_and_nothing_else(littered):
    before = littered.contents("data/**/*", "results/**/*")
    result = littered.run("clean", "--config", "clean__force=true")
    assert result.status == 0, result.output
    after = littered.contents("data/**/*", "results/**/*")
    added = {name for name in after if name not in before}
    assert all(name.startswith(("results/default/logs/clean/", "results/default/config.yaml")) for name in added)
    assert set(before) - set(after) == {name for name in before if name in LEFT}
    assert littered.dry_run("test").jobs == {}
    assert "There is nothing to delete." in littered.run("clean").output


def test_parts_and_tasks(littered):
    result = littered.run("clean", "--config", "clean__force=true", "clean__subroutines=[download]")
    assert result.status == 0, result.output
    assert there(littered) == {STATE, TEMPORARY}
    littered.path("results/default/checkpoints/a/others/fold-0").mkdir(parents=True)
    assert "checkpoints/a/others" not in littered.dry_run("clean").output
    assert "checkpoints/a/others" in littered.dry_run("clean", "--config", "clean__all=true").output


def test_weights_of_a_finished_project(littered):
    result = littered.run("clean", "--config", "clean__force=true", "remove__parameters=true")
    assert result.status == 0, result.output
    assert littered.contents("results/**/model.safetensors") == {}


@pytest.mark.parametrize("root", ["/", "..", "."])
def test_roots_that_are_none(littered, root):
    result = littered.run("clean", "-n", "--config", f"data_dir={root}")
    assert result.status != 0
    assert "data_dir: got" in result.output
    assert "Traceback" not in result.output
    assert there(littered) == set(LEFT)
