"""Killed twenty times at random moments, a training of five folds ends with the bytes of an undisturbed one."""

import os
import random
import signal
import subprocess

import pytest

from workflow.shapes import copy_shapes
from workflow.test_determinism import check_same_bytes
from workflow.test_recovery import leftovers, wait_for

KILLS = 20
SECONDS = (8, 1)  # after the start of a run, or after it has saved a state; by turns
HOUR = 3600
RECIPE = {
    "create": {"n_folds": 5},
    "augmentations": "default",
    "lr_scheduler": {"name": "cosine", "warmup_epochs": 3.0},
    "trainer": {"max_epochs": 200},
    "cbs": {"ema": {"decay": 0.9}},
    "train": {"nested": False},
    "project": "kills",
}


def ends_within(process, seconds):
    """Tell whether a run ends by itself within some seconds; kill it and its jobs otherwise."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        return False
    assert process.returncode == 0, output
    return True


def states(project):
    """Return what is saved of running trainings."""
    return project.contents("results/kills/checkpoints/**/state.json")


@pytest.mark.timeout(7200)
def test_twenty_kills(tmp_path_factory):
    undisturbed, disturbed = (copy_shapes(tmp_path_factory, **RECIPE) for _ in range(2))
    assert ends_within(undisturbed.start("train", start_new_session=True), HOUR)
    moments, resumed = random.Random(0), 0
    for kill in range(KILLS):
        before = states(disturbed)
        process = disturbed.start("train", start_new_session=True)
        if kill % 2:  # while it trains for certain, however slow its start is
            wait_for(lambda before=before: states(disturbed) != before)
        seconds = moments.uniform(0, SECONDS[kill % 2])
        assert not ends_within(process, seconds), "more epochs are needed to be killed so often"
        logs = disturbed.path("results/kills/logs/train_fold").rglob("*.log")
        resumed += sum("goes on from epoch" in log.read_text() for log in logs)
        assert disturbed.run("--unlock").status == 0
    assert ends_within(disturbed.start("train", start_new_session=True), HOUR)
    assert resumed >= KILLS / 2
    assert [path for path in leftovers(disturbed) if path.name == ".aside"] == []
    assert not any(disturbed.path("results/kills/checkpoints").rglob("*.safetensors"))
    check_same_bytes(undisturbed, disturbed)
