"""A training that is stopped or killed anywhere ends, when it is run again, with the bytes of one that was not."""

import dataclasses
import os
import random
import signal
import time

import pytest

from foldwise.config.pipeline import DEFAULT_OPERATIONS, Pipeline
from foldwise.data.files import Data
from foldwise.errors import FoldwiseError
from foldwise.job import Job
from foldwise.training.fit import Run
from foldwise.training.state import STATE, position, read_state
from unit.conftest import overlay
from unit.training.test_multitask import with_samples
from unit.training.toys import UNET, column, make_toy, processes, train_toys

KEY = "key"
READS = 6  # of the pivot an epoch: four training batches and two of validation
RECIPES = {
    "single": {
        "augmentations": {"operations": DEFAULT_OPERATIONS},
        "cbs": {"ema": {"decay": 0.9}, "early_stopping": {"patience": 2, "min_delta": 0.5}},
        "lr_scheduler": {"name": "one_cycle"},
        "trainer": {"max_epochs": 5, "accumulate_grad_batches": 2},
    },
    "tasks": {"mode": {"task_weights": [1.0, 2.0]}, "trainer": {"max_epochs": 3}},
    "maps": {
        "arch": UNET,
        "cbs": {"swa": {"start": 0.5}},
        "lr_scheduler": {"name": "plateau", "patience": 0, "factor": 0.5, "warmup_epochs": 1},
        "optimizer": {"name": "sgd", "lr": 0.2},
        "trainer": {"max_epochs": 4},
    },
    "mixed": {
        "arch": {"name": "resnet10", "block_inplanes": [4, 4, 8, 8], "no_max_pool": True, "dropout": 0.3},
        "cbs": {"mixup": {}, "cutmix": {}, "lr_monitor": True},
        "lr_scheduler": {"name": "cosine", "warmup_epochs": 1},
        "trainer": {"max_epochs": 3, "gradient_clip_val": 0.5},
    },
    "adapters": {"peft": {"lora": {"r": 2, "dropout": 0.2}}, "trainer": {"max_epochs": 3}},
    "erratic": {  # one that is told to stop after two epochs, and gets better after that
        "optimizer": {"name": "sgd", "lr": 0.1},
        "cbs": {"early_stopping": {"patience": 1}},
        "trainer": {"max_epochs": 6, "min_epochs": 3},
    },
    "tuned": {"tune": {"lr": True}, "trainer": {"max_epochs": 3}},
    "rarely": {"trainer": {"max_epochs": 4, "check_val_every_n_epoch": 2, "precision": "64-true"}},
    "halves": {
        "optimizer": {"name": "rmsprop", "lr": 0.01},
        "trainer": {"max_epochs": 3, "precision": "bf16-mixed", "max_time": "01:00:00:00"},
    },
}


class Crashed(Exception):
    """What an interrupted training ends with."""


class Watched:
    """Images that do something when a batch of them is read."""

    def __init__(self, images, act):
        self.images, self.shape, self.act = images, images.shape, act

    def __getitem__(self, rows):
        self.act()
        return self.images[rows]


def crash_after(reads):
    """Return what crashes when it is called once more than so often."""
    left = iter(range(reads))

    def act():
        if next(left, None) is None:
            raise Crashed

    return act


def toys_of(recipe, act=lambda: None):
    """Return the toys of a recipe, whose pivot does something when a batch is read."""
    if recipe == "maps":
        toys = [make_toy("segmentation")]
    elif recipe == "tasks":
        toys = [make_toy("classification"), with_samples(make_toy("multilabel", 1, "other"), 24)]
    else:
        toys = [make_toy("classification")]
    (task, store), *others = toys
    return [Data(task, dataclasses.replace(store, images=Watched(store.images, act))), *others]


class Trainings:
    """Trainings by recipe into folders below one."""

    def __init__(self, root, make_pipeline):
        self.root, self.make_pipeline = root, make_pipeline
        self.state = root / "checkpoints/toy"
        self.done = {}

    def run(self, recipe, act=lambda: None, name="model", key=KEY, minutes=0.0, report=lambda text: None, **sections):
        """Train with a state."""
        settings = {**RECIPES[recipe], **sections}
        run = Run(report, report, minutes=minutes, cache="none")
        toys = toys_of(recipe, act)
        return train_toys(self.root / name, toys, self.make_pipeline, run=run, state=self.state, key=key, **settings)

    def crash(self, recipe, reads, **settings):
        """Train until some batches of the pivot were read."""
        with pytest.raises(Crashed):
            self.run(recipe, crash_after(reads), **settings)

    def saved(self, key=KEY):
        """Return where a training goes on; None if it begins."""
        state = read_state(self.state, key)
        return None if state is None else position(state)


@pytest.fixture
def trainings(make_pipeline, tmp_path):
    return Trainings(tmp_path, make_pipeline)


@pytest.fixture(scope="module")
def whole(make_pipeline, tmp_path_factory):
    """Return what a training makes that nothing has interrupted, and that saves no state."""
    made = {}

    def of(recipe):
        if recipe not in made:
            folder = tmp_path_factory.mktemp(recipe)
            made[recipe] = train_toys(folder, toys_of(recipe), make_pipeline, **RECIPES[recipe])
        return made[recipe]

    return of


PLACES = {
    "in the first epoch": (3, 0),
    "in its validation": (READS - 1, 1000),
    "between two epochs": (READS, 1000),
    "in a later validation": (2 * READS - 1, 0),
    "in a later epoch": (2 * READS + 2, 0),
}
CASES = [(recipe, place) for recipe in ("single", "tasks") for place in PLACES]
OTHERS = [recipe for recipe in RECIPES if recipe not in ("single", "tasks", "tuned")]
CASES += [(recipe, place) for recipe in OTHERS for place in ("in the first epoch", "in a later epoch")]


@pytest.mark.parametrize(("recipe", "place"), CASES)
def test_a_training_that_crashed_goes_on_to_the_same_bytes(trainings, whole, recipe, place):
    reads, minutes = PLACES[place]
    trainings.crash(recipe, reads, minutes=minutes)
    is_saved, lines = trainings.saved() is not None, []
    made = trainings.run(recipe, report=lines.append)
    assert made.bytes == whole(recipe).bytes
    assert [line for line in lines if "goes on from" in line] == lines[:is_saved]
    assert is_saved or place == "in its validation"
    assert not trainings.state.exists()


@pytest.mark.parametrize(
    ("reads", "minutes", "saved"),
    [
        (0, 0, None),
        (1, 0, (0, 1)),
        (3, 0, (0, 3)),
        (4, 0, (0, 3)),  # the last batch of an epoch is saved with its validation
        (READS, 0, (1, 0)),
        (READS + 2, 0, (1, 2)),
        (READS + 2, 1000, (1, 0)),
    ],
)
def test_what_is_lost_is_no_more_than_was_asked_for(trainings, reads, minutes, saved):
    trainings.crash("tasks", reads, minutes=minutes)
    assert trainings.saved() == saved


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("recipe", ["single", "tasks"])
def test_an_error_while_progress_is_told_loses_nothing(trainings, whole, recipe, epoch):
    def report(text):
        if text.startswith(f"epoch {epoch} of"):
            raise Crashed

    with pytest.raises(Crashed):
        trainings.run(recipe, report=report)
    assert trainings.run(recipe).bytes == whole(recipe).bytes


@pytest.mark.parametrize("recipe", ["single", "maps"])
def test_a_training_that_crashes_again_and_again_comes_to_the_same_end(trainings, whole, recipe):
    for _ in range(100):
        try:
            made = trainings.run(recipe, crash_after(4))
        except Crashed:
            continue
        break
    assert made.bytes == whole(recipe).bytes


def test_a_training_that_only_has_to_be_written_is_not_done_again(trainings, whole, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((FoldwiseError, OSError)):
        trainings.run("single", name="file/model")
    lines = []
    made = trainings.run("single", crash_after(0), report=lines.append)
    assert made.bytes == whole("single").bytes
    assert not [line for line in lines if line.startswith("epoch")]


@pytest.mark.parametrize("reads", [2 * READS, 2 * READS + 3])
def test_a_training_that_was_to_stop_early_but_had_to_go_on_stops_where_it_would_have(trainings, whole, reads):
    losses = column(whole("erratic"), "val_loss")
    assert losses[1] > losses[0] > losses[2] < losses[3], "this training tells nothing"
    assert len(losses) == 4
    trainings.crash("erratic", reads)
    assert trainings.run("erratic").bytes == whole("erratic").bytes


def test_a_training_goes_on_with_what_tuning_has_found(trainings, whole):
    def crash_in_training(text):
        if text.startswith("epoch 2"):
            raise Crashed

    with pytest.raises(Crashed):
        trainings.run("tuned", report=crash_in_training)
    lines = []
    made = trainings.run("tuned", report=lines.append)
    assert made.bytes == whole("tuned").bytes
    assert lines[0].startswith("goes on from")


class TestStates:
    def test_the_state_of_another_training_is_not_used(self, trainings, whole, caplog):
        trainings.crash("tasks", READS + 2, key="other")
        assert trainings.saved("other")
        lines = []
        assert trainings.run("tasks", report=lines.append).bytes == whole("tasks").bytes
        assert lines[0].startswith("epoch 1")
        assert "of other settings or data" in caplog.text

    @pytest.mark.parametrize("name", [STATE, "state-*.safetensors"])
    @pytest.mark.parametrize("share", [0.0, 0.5])
    def test_a_truncated_state_is_not_used(self, trainings, whole, caplog, name, share):
        trainings.crash("tasks", READS + 2)
        (path,) = trainings.state.glob(name)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        lines = []
        assert trainings.run("tasks", report=lines.append).bytes == whole("tasks").bytes
        assert lines[0].startswith("epoch 1")
        assert "cannot be used; training begins anew" in caplog.text

    def test_it_stays_until_all_is_written(self, trainings):
        trainings.crash("tasks", READS + 2)
        assert sorted(path.name for path in trainings.state.iterdir())[-1] == STATE
        trainings.run("tasks")
        assert not trainings.state.exists()
        assert sorted(path.name for path in trainings.root.iterdir()) == ["checkpoints", "model"]

    def test_seconds_of_epochs_are_told_from_where_it_goes_on(self, trainings):
        callbacks = {"device_stats": True}
        trainings.crash("tasks", READS + 2, cbs=callbacks)
        assert [row["epoch"] for row in trainings.run("tasks", cbs=callbacks).stats] == [1, 2]


def job(folder, recipe, reads, ready, minutes, pause):
    """Train as a job does, slowly, and tell when so many batches were read."""
    count = iter(range(10_000))

    def act():
        if next(count) == reads:
            ready.set()
        time.sleep(pause)

    with Job("train_fold", "toy", folder / "log") as running:
        trainings = Trainings(folder, lambda **sections: Pipeline.model_validate(overlay(sections)))
        trainings.run(recipe, act, minutes=minutes, report=running.report)


@pytest.fixture
def start(tmp_path):
    """Start a job in a process of its own, and return it when it has read so many batches."""
    started = []

    def run(recipe, reads, minutes=1000, pause=0.1):
        context = processes()
        ready = context.Event()
        process = context.Process(target=job, args=(tmp_path, recipe, reads, ready, minutes, pause))
        process.start()
        started.append(process)
        assert ready.wait(60)
        return process

    yield run
    for process in started:
        process.kill()
        process.join()


class TestSignals:
    @pytest.mark.parametrize(("reads", "number"), [(2, signal.SIGTERM), (READS + 4, signal.SIGINT)])
    def test_a_job_asked_to_end_saves_its_state_and_ends(self, trainings, whole, start, tmp_path, reads, number):
        process = start("single", reads)
        started = time.monotonic()
        os.kill(process.pid, number)
        process.join(60)
        assert process.exitcode == 1
        assert time.monotonic() - started < 10
        assert (tmp_path / "log").read_text().endswith("Stopped: toy.\n")
        assert trainings.saved() is not None
        assert trainings.run("single").bytes == whole("single").bytes

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_job_that_is_tuning_ends_too(self, start, tmp_path, number):
        process = start("tuned", 12)
        os.kill(process.pid, number)
        process.join(10)
        assert process.exitcode == 1
        assert (tmp_path / "log").read_text().endswith("Stopped: toy.\n")
        assert not (tmp_path / "checkpoints").exists()

    def test_a_job_killed_at_random_moments_comes_to_the_same_end(self, trainings, whole, start):
        moments = random.Random(1)
        for _ in range(3):
            process = start("tasks", 0, minutes=0, pause=0.03)
            time.sleep(moments.uniform(0.1, 0.5))
            process.kill()
            process.join(60)
        assert trainings.run("tasks").bytes == whole("tasks").bytes
