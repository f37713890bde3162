"""Killed twenty times at random moments, a training of five folds ends with the bytes of an undisturbed one."""

import os
import random
import signal
import subprocess

from workflow.shapes import copy_shapes
from workflow.test_determinism import check_same_bytes
from workflow.test_recovery import leftovers

KILLS = 20
SECONDS = 16
RECIPE = {
    "create": {"n_folds": 5},
    "augmentations": "default",
    "lr_scheduler": {"name": "cosine", "warmup_epochs": 3.0},
    "trainer": {"max_epochs": 600},
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


def test_twenty_kills(tmp_path_factory):
    undisturbed, disturbed = (copy_shapes(tmp_path_factory, **RECIPE) for _ in range(2))
    assert undisturbed.run("train").status == 0
    moments, resumed = random.Random(0), 0
    for _ in range(KILLS):
        process = disturbed.start("train", start_new_session=True)
        assert not ends_within(process, moments.uniform(0.2, SECONDS)), "more epochs are needed to be killed so often"
        logs = disturbed.path("results/kills/logs/train_fold").rglob("*.log")
        resumed += sum("goes on from epoch" in log.read_text() for log in logs)
        assert disturbed.run("--unlock").status == 0
    result = disturbed.run("train")
    assert result.status == 0, result.output
    assert resumed > KILLS / 4
    assert [path for path in leftovers(disturbed) if path.name == ".aside"] == []
    assert not any(disturbed.path("results/kills/checkpoints").rglob("*.safetensors"))
    check_same_bytes(undisturbed, disturbed)
