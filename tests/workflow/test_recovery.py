"""Killed or failed anywhere, nothing is lost or wrong."""

import os
import shutil
import signal
import time

import pytest

from workflow.conftest import Project
from workflow.test_determinism import check_same_bytes

TENSORS = "data/tensors/digits/default-44136fa3/images.npy"
MODELS = ("results/default/models/**/*",)


def damage(path):
    """Flip a byte of a file without changing its date."""
    status = path.stat()
    with path.open("r+b") as handle:
        handle.seek(5000)
        byte = handle.read(1)
        handle.seek(5000)
        handle.write(bytes([byte[0] ^ 255]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def stop(process, number):
    """Send a signal to a run and all its jobs."""
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=120)
    return output


def wait_for(condition, seconds=120):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def leftovers(project):
    """Return temporary files and old outputs that were left behind."""
    return [path for path in project.folder.rglob(".*") if path.name.startswith((".tmp-", ".aside"))]


def test_a_failed_rerun_puts_old_bytes_and_dates_back(trained):
    before = trained.contents(*MODELS)
    good = trained.path(TENSORS).read_bytes()
    damage(trained.path(TENSORS))
    trained.configure(seed=5)
    result = trained.run("train", "--keep-going")
    assert result.status != 0
    assert all("damaged rows 0 to 1364" in error for error in result.errors)
    assert trained.contents(*MODELS) == before
    assert leftovers(trained) == []
    assert trained.dry_run("train").jobs["train_fold"] == 4
    trained.configure()
    assert trained.dry_run("test").jobs == {}
    trained.path(TENSORS).write_bytes(good)
    trained.configure(seed=5)
    result = trained.run("train")
    assert result.status == 0, result.output
    after = trained.contents(*MODELS)
    assert sorted(after) == sorted(before)
    assert all(after[name] != before[name] for name in after if name.endswith("model.safetensors"))


def test_old_outputs_without_a_record_come_back_too(trained):
    shutil.rmtree(trained.path(".snakemake"))
    before = trained.contents(*MODELS)
    damage(trained.path(TENSORS))
    result = trained.run("train", "--forcerun", "train_fold", "--keep-going")
    assert result.status != 0
    assert trained.contents(*MODELS) == before
    assert leftovers(trained) == []
    assert trained.dry_run("train").jobs == {}


def test_a_failed_task_puts_the_old_one_back(trained):
    before = trained.contents("data/tasks/**/*")
    trained.configure(create={"n_folds": 500})
    result = trained.run("create")
    assert result.status != 0
    assert "class '0' with 138 training samples" in result.errors[0]
    assert "n_folds = 500" in result.errors[0]
    assert trained.contents("data/tasks/**/*") == before
    assert trained.dry_run("create").jobs == {"create_task": 1, "create": 1}
    trained.configure()
    assert trained.dry_run("test").jobs == {}


def test_a_first_failure_leaves_nothing_half_written(project):
    project.configure(create={"n_folds": 500})
    assert project.run("create").status != 0
    assert project.contents("data/tasks/**/*.csv", "data/tasks/**/*.json") == {}


@pytest.mark.parametrize("place", ["data/datasets", "results/default/models", "results/default/logits"])
def test_killed_and_run_again_gives_the_same_bytes(finished, tmp_path, place):
    project = Project(tmp_path / "work")
    project.configure()
    process = project.start("train", "predict", "test", start_new_session=True)
    wait_for(lambda: any(project.path(place).rglob("*.*")))
    stop(process, signal.SIGKILL)
    assert project.run("--unlock").status == 0
    result = project.run("train", "predict", "test")
    assert result.status == 0, result.output
    check_same_bytes(finished, project)


def test_killed_while_replacing_old_outputs(trained):
    trained.configure(seed=5)
    process = trained.start("train", start_new_session=True)
    wait_for(lambda: any(trained.path("results/default/.aside").rglob("*.json")))
    time.sleep(5)
    stop(process, signal.SIGKILL)
    assert trained.run("--unlock").status == 0
    assert trained.dry_run("train").jobs["train_fold"] > 0
    result = trained.run("train")
    assert result.status == 0, result.output
    assert [path for path in leftovers(trained) if path.name == ".aside"] == []
    assert all(trained.json(str(path))["seed"] == 5 for path in trained.path("results").rglob("model.json"))


def test_interrupted_by_the_keyboard(project):
    process = project.start("train", "--cores", "1", start_new_session=True)
    wait_for(lambda: any(project.path("results").rglob("train_fold/**/*.log")))
    output = stop(process, signal.SIGINT)
    assert process.returncode != 0
    assert "Traceback" not in output
    assert leftovers(project) == []
    assert project.contents("results/*/models/**/*.safetensors") == {}
    assert project.run("train").status == 0


def test_two_runs_in_one_directory(project):
    first = project.start("train", start_new_session=True)
    wait_for(lambda: project.path("data/datasets/digits/dataset.json").is_file())
    second = project.run("train")
    assert second.status != 0
    assert "cannot be locked" in second.output
    assert "--unlock" in second.output
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 0, output


def test_two_directories_on_the_same_data_at_once(tmp_path):
    projects = [Project(tmp_path / name) for name in ("one", "two")]
    for project in projects:
        project.configure(data_dir="../data")
    processes = [project.start("pp", "create") for project in projects]
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert projects[0].dry_run("pp", "create").jobs == {}
    assert projects[1].dry_run("pp", "create").jobs == {}
