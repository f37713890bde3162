"""Killed again and again at random moments, a run ends with the bytes of an undisturbed one."""

import os
import random
import signal
import time

from workflow.conftest import Project
from workflow.test_determinism import check_same_bytes

KILLS = 12
SECONDS = 12


def test_random_kills(tmp_path):
    undisturbed, disturbed = Project(tmp_path / "undisturbed"), Project(tmp_path / "disturbed")
    for project in (undisturbed, disturbed):
        project.configure()
    assert undisturbed.run("train", "predict", "test").status == 0
    moments = random.Random(0)
    for _ in range(KILLS):
        process = disturbed.start("train", "predict", "test", start_new_session=True)
        time.sleep(moments.uniform(0.2, SECONDS))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert disturbed.run("--unlock").status == 0
    result = disturbed.run("train", "predict", "test")
    assert result.status == 0, result.output
    check_same_bytes(undisturbed, disturbed)
