"""A training that is killed or asked to end goes on from its last saved state and ends with the same bytes."""

import os
import signal

import psutil
import pytest

from workflow.shapes import copy_shapes, settings
from workflow.test_recovery import leftovers, wait_for

FOLD = "watched/kinds+nested-0/fold-0"
WHAT = ("results/*/models/watched/**/model.*", "results/*/models/watched/**/metrics.csv", "results/*/logits/**/*.npz")
LOG = f"results/default/logs/train_fold/{FOLD}.log"
# Order of samples, augmentation, schedule, averages and patience all have a state that must survive.
RECIPE = {
    "pipelines": {
        "watched": {
            "augmentations": "default",
            "lr_scheduler": {"name": "cosine", "warmup_epochs": 3.0},
            "trainer": {"max_epochs": 60},
            "cbs": {"ema": {"decay": 0.9}, "early_stopping": {"monitor": "train_loss", "patience": 50}},
        }
    },
    "train": {"cv": False},
}
STOPS = {"killed": signal.SIGKILL, "asked to end": signal.SIGTERM, "interrupted": signal.SIGINT}


def trained_by(process):
    """Return the process of a training job below that of Snakemake."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if any("train_fold.py" in word for word in child.cmdline()) and not child.name().startswith(("sh", "bash")):
            return child
    raise AssertionError("no job is training")


def stop(project, number):
    """Start a training, stop its job as soon as it has saved a state of its own, and return what was said.

    The signal of the keyboard goes to all processes, others to the job alone.
    """
    state = project.path(f"results/default/checkpoints/{FOLD}/state.json")
    before = state.read_bytes() if state.is_file() else b""
    process = project.start("train", start_new_session=True)
    wait_for(lambda: state.is_file() and state.read_bytes() != before)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        trained_by(process).send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    return output


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A project whose training was stopped in each way and then ended; what each run said; an undisturbed project."""
    undisturbed, project = (copy_shapes(tmp_path_factory, **RECIPE) for _ in range(2))
    logits = f"results/default/logits/{FOLD}/kinds+nested-0.npz"
    assert undisturbed.run("train", logits).status == 0
    said = {}
    for name, number in STOPS.items():
        said[name] = stop(project, number), project.path(LOG).read_text()
        assert project.contents("results/*/models/watched/**/*") == {}
        assert leftovers(project) == []
    last = project.run("train", logits)
    assert last.status == 0, last.output
    said["gone on"] = last.output, project.path(LOG).read_text()
    return undisturbed, project, said


def test_the_bytes_are_those_of_an_undisturbed_training(resumed):
    undisturbed, project, _ = resumed
    expected, found = undisturbed.contents(*WHAT), project.contents(*WHAT)
    assert {name.rpartition("/")[2] for name in expected} == {
        "model.json", "model.safetensors", "metrics.csv", "kinds+nested-0.npz"
    }  # fmt: skip
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


def test_each_run_goes_on_where_the_one_before_ended(resumed):
    logs = [log for _, log in resumed[2].values()]
    assert "goes on from" not in logs[0]
    epochs = [int(log.partition("goes on from epoch ")[2].partition(",")[0]) for log in logs[1:]]
    assert epochs == sorted(set(epochs))
    assert epochs[0] > 1


@pytest.mark.parametrize("name", ["asked to end", "interrupted"])
def test_a_job_that_is_asked_to_end_saves_and_says_so(resumed, name):
    output, log = resumed[2][name]
    assert f"the state of the training is saved in results/default/checkpoints/{FOLD}" in log
    assert "Stopped: watched on kinds+nested-0, fold 0." in log
    assert "Traceback" not in output + log


def test_nothing_is_left_of_the_state(resumed):
    _, project, said = resumed
    assert list(project.path("results/default").rglob("state*")) == []
    assert not project.path(f"results/default/checkpoints/{FOLD}").exists()
    assert "Traceback" not in said["gone on"][0]


def test_a_state_of_other_settings_is_not_used(resumed):
    undisturbed = resumed[0]
    undisturbed.configure(settings(**RECIPE, seed=7))
    stop(undisturbed, signal.SIGKILL)
    undisturbed.configure(settings(**RECIPE, seed=8))
    stop(undisturbed, signal.SIGTERM)
    told = "the state found there is of other settings or data; training begins anew"
    assert told in undisturbed.path(LOG).read_text()
