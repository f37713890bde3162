"""A training that is stopped or killed goes on to the very bytes of one that is not."""

import contextlib
import logging
import multiprocessing
import os
import random
import signal
import time
import warnings

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler as schedules

from foldwise.errors import DataError
from foldwise.job import Job, StopRequest, hold_stops
from foldwise.training.saving import SaveState
from foldwise.training.state import StateIO, position, read_state, write_state

BATCHES, EPOCHS, KEY = 5, 3, "key"
SCHEDULES = {
    "one_cycle": lambda optimizer, steps: schedules.OneCycleLR(optimizer, 0.05, total_steps=steps),
    "plateau": lambda optimizer, steps: schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=9.0),
    "warmup": lambda optimizer, steps: schedules.SequentialLR(
        optimizer,
        [schedules.LinearLR(optimizer, 0.1, 1.0, 3), schedules.CosineAnnealingLR(optimizer, steps - 3)],
        [3],
    ),
}


class Loader:
    """Batches in an order of the epoch's own; the last is smaller."""

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        samples = 4 * BATCHES - 2
        self.images = torch.randn(samples, 2, 4, 4, generator=generator).contiguous(memory_format=torch.channels_last)
        self.targets = torch.randint(3, (samples,), generator=generator)
        self.epoch = self.first = 0

    def __len__(self):
        return BATCHES

    def set_epoch(self, epoch):
        self.epoch = epoch

    def start_at(self, batch):
        self.first = batch

    def __iter__(self):
        first, self.first = self.first, 0
        order = torch.randperm(len(self.targets), generator=torch.Generator().manual_seed(self.epoch))
        for places in order.split(4)[first:]:
            yield self.images[places], self.targets[places]


class Toy(lightning.LightningModule):
    """A network with all that has a state; notes what happens to it."""

    def __init__(self, schedule="one_cycle", lr=0.02, pause=0.0, diverges=None):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, 3)]
        self.network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.schedule, self.lr, self.pause, self.diverges = schedule, lr, pause, diverges
        self.curves, self.train_losses, self.val_losses = [], [], []
        self.seen = []

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), self.lr)
        scheduler = SCHEDULES[self.schedule](optimizer, 3 * EPOCHS)
        if self.schedule == "plateau":
            watched = {"interval": "epoch", "monitor": "val_loss"}
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **watched}}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_start(self):
        self.seen.append(("epoch", self.current_epoch))
        self.trainer.train_dataloader.set_epoch(self.current_epoch)

    def training_step(self, batch, index):
        if index == 0:
            self.train_losses.clear()
        torch.manual_seed(1000 * self.current_epoch + index)
        self.seen.append((self.current_epoch, index, self.trainer.is_last_batch, len(batch[1])))
        time.sleep(self.pause)
        loss = functional.cross_entropy(self.network(batch[0].to(self.dtype)), batch[1])
        if self.diverges == (self.current_epoch, index):
            loss = loss * torch.nan
        self.train_losses.append(loss.detach())
        return loss

    def check_finite(self):
        if not all(loss.isfinite() for loss in self.train_losses):
            raise DataError("the training loss", "nan", "a finite loss")

    def on_validation_epoch_start(self):
        self.val_losses = []

    def validation_step(self, batch, index):
        self.val_losses.append(functional.cross_entropy(self.network(batch[0].to(self.dtype)), batch[1]))

    def on_validation_epoch_end(self):
        self.seen.append(("validation", self.current_epoch))
        row = {
            "epoch": self.current_epoch,
            "lr": self.optimizers().param_groups[0]["lr"],
            "steps": len(self.train_losses),
            "train_loss": torch.stack(self.train_losses).mean().item(),
            "val_loss": torch.stack(self.val_losses).mean().item(),
        }
        self.log("val_loss", row["val_loss"])
        self.curves.append(row)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["curves"] = self.curves
        checkpoint["train_losses"] = torch.stack(self.train_losses)

    def on_load_checkpoint(self, checkpoint):
        self.curves = checkpoint["curves"]
        self.train_losses = list(checkpoint["train_losses"].to(self.device).unbind())


class Averages(lightning.Callback):
    """Keep a moving average of the weights, and the weights of the best epoch."""

    def __init__(self):
        self.average, self.best, self.score = {}, {}, float("inf")

    def on_train_batch_end(self, trainer, module, *batch):
        for name, tensor in module.state_dict().items():
            before = self.average.get(name, tensor)
            self.average[name] = before + 0.1 * (tensor - before)

    def on_validation_end(self, trainer, module):
        if module.curves[-1]["val_loss"] < self.score:
            self.score = module.curves[-1]["val_loss"]
            self.best = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def state_dict(self):
        return {"average": self.average, "best": self.best, "score": self.score}

    def load_state_dict(self, state_dict):
        vars(self).update(state_dict)


class At(lightning.Callback):
    """Do something at the nth event of a run."""

    def __init__(self, place, act):
        self.left, self.act = place, act

    def count(self, *_):
        if self.left == 0:
            self.act()
        self.left -= 1

    on_train_start = on_train_epoch_start = on_train_epoch_end = on_train_end = count
    on_train_batch_start = on_train_batch_end = on_validation_start = on_validation_end = count


# Events: the start of training; of each epoch its start, start and end of each batch, start and end of validation, its
# end; the end of training.
PER_EPOCH = 2 * BATCHES + 4
EVENTS = EPOCHS * PER_EPOCH + 2


class Crashed(Exception):
    pass


def crash():
    raise Crashed


def train(
    folder, module=None, stop=None, minutes=0.0, before=(), after=(), patience=None, accumulate=2, plugins=(), **options
):
    """Train, or go on from what lies in the folder; return all that must be the same."""
    module, averages, loader = module or Toy(), Averages(), Loader()
    stopping = [EarlyStopping("val_loss", min_delta=9.0, patience=patience)] if patience else []
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        accumulate_grad_batches=accumulate,
        callbacks=[averages, *stopping, *before, SaveState(folder, minutes, stop or StopRequest()), *after],
        plugins=[StateIO(KEY), *plugins],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    state = read_state(folder, KEY)
    if state is not None:
        epoch, batch = position(state)
        loader.set_epoch(epoch)
        loader.start_at(batch)
    trainer.fit(module, loader, Loader(), ckpt_path=folder if state is not None else None)
    kept = {"weights": module.state_dict(), "average": averages.average, "best": averages.best}
    made = {part: {name: bits(tensor) for name, tensor in tensors.items()} for part, tensors in kept.items()}
    return {**made, "curves": module.curves, "epochs": trainer.current_epoch, "steps": trainer.global_step}


def bits(tensor):
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def crash_at(folder, place, **options):
    """Train until an error after an event that all else has seen."""
    with pytest.raises(Crashed):
        train(folder, after=[At(place, crash)], **options)


def saved(folder):
    """Return where a training goes on, None if it begins."""
    state = read_state(folder, KEY)
    return None if state is None else position(state)


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """Let Lightning not tell of each run."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What trainings make that nothing has interrupted, and what their modules have seen, by schedule."""
    made = {}
    for schedule in SCHEDULES:
        module = Toy(schedule)
        result = train(tmp_path_factory.mktemp(schedule) / "state", module, minutes=1000)
        made[schedule] = result, module.seen
    return made


def test_saving_changes_nothing(whole, tmp_path):
    assert train(tmp_path / "state") == whole["one_cycle"][0]
    assert len({str(result) for result, _ in whole.values()}) == len(SCHEDULES)


@pytest.mark.parametrize("place", range(EVENTS))
def test_a_training_killed_at_any_event_goes_on_as_if_nothing_had_happened(whole, tmp_path, place):
    result, seen = whole["one_cycle"]
    crash_at(tmp_path / "state", place)
    epoch, event = divmod(max(0, place - 1), PER_EPOCH)
    batch = 0 if event < 4 else 2 if event < 8 else 4
    assert saved(tmp_path / "state") == ((epoch, batch) if (epoch, batch) != (0, 0) else None)
    module = Toy()
    assert train(tmp_path / "state", module) == result
    begins = [step for step in seen if step[:2] == ((epoch, batch) if batch else ("epoch", epoch))]
    assert module.seen == (seen[seen.index(begins[0]) :] if begins else [])


@pytest.mark.parametrize("schedule", ["plateau", "warmup"])
@pytest.mark.parametrize("place", range(5, EVENTS, 9))
def test_any_schedule_goes_on(whole, tmp_path, schedule, place):
    crash_at(tmp_path / "state", place, module=Toy(schedule))
    assert train(tmp_path / "state", Toy(schedule)) == whole[schedule][0]


def test_without_accumulation_every_batch_but_the_last_is_saved(tmp_path):
    expected = train(tmp_path / "whole", Toy("plateau"), minutes=1000, accumulate=1)
    for batch in range(BATCHES):
        folder = tmp_path / str(batch)
        crash_at(folder, 2 * batch + 3, module=Toy("plateau"), accumulate=1)
        assert saved(folder) == (0, min(batch + 1, BATCHES - 1))
        assert train(folder, Toy("plateau"), accumulate=1) == expected


@pytest.mark.parametrize("place", range(1, EVENTS, 5))
def test_what_a_killed_training_has_not_saved_is_done_again(whole, tmp_path, place):
    with pytest.raises(Crashed):
        train(tmp_path / "state", before=[At(place, crash)])
    assert train(tmp_path / "state") == whole["one_cycle"][0]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_training_killed_again_and_again_comes_to_the_same_end(whole, tmp_path, schedule):
    runs = 0
    while saved(tmp_path / "state") != (EPOCHS, 0) and runs < EVENTS:
        runs += 1
        with contextlib.suppress(Crashed):  # a run that ends an epoch sees seven events before that is saved
            train(tmp_path / "state", Toy(schedule), after=[At(7, crash)])
    assert runs > EPOCHS
    assert train(tmp_path / "state", Toy(schedule)) == whole[schedule][0]


@pytest.mark.parametrize("place", [1, 9, 18, 2 * PER_EPOCH, 2 * PER_EPOCH + 1])
def test_early_stopping_goes_on_and_is_not_forgotten(tmp_path, place):
    expected = train(tmp_path / "whole", patience=1, minutes=1000)
    assert expected["epochs"] == 2
    crash_at(tmp_path / "state", place, patience=1)
    assert train(tmp_path / "state", patience=1) == expected
    module = Toy()
    assert train(tmp_path / "state", module, patience=1) == expected
    assert module.seen == []


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # as steps are left out
def test_gradient_scaling_goes_on(tmp_path):
    def run(folder, **options):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30, growth_interval=2)
        with contextlib.suppress(Crashed):
            result = train(folder, plugins=[MixedPrecision("16-mixed", "cpu", scaler)], **options)
            return {**result, "scale": scaler.get_scale()}

    expected = run(tmp_path / "whole", minutes=1000)
    assert expected["scale"] < 2.0**30
    for place in range(5, EVENTS, 8):
        assert run(tmp_path / str(place), after=[At(place, crash)]) is None
        assert run(tmp_path / str(place)) == expected


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_any_precision_goes_on(tmp_path, precision):
    expected = train(tmp_path / "whole", Toy(), minutes=1000, precision=precision)
    for place in range(5, EVENTS, 12):
        crash_at(tmp_path / str(place), place, module=Toy(), precision=precision)
        assert train(tmp_path / str(place), Toy(), precision=precision) == expected


def test_within_an_epoch_nothing_is_saved_before_its_time(tmp_path):
    crash_at(tmp_path / "state", PER_EPOCH, minutes=1000)
    assert saved(tmp_path / "state") is None
    crash_at(tmp_path / "state", 2 * PER_EPOCH, minutes=1000)
    assert saved(tmp_path / "state") == (1, 0)


def test_a_loss_that_is_not_finite_leaves_the_last_good_state(tmp_path):
    with pytest.raises(DataError, match="a finite loss"):
        train(tmp_path / "state", Toy(diverges=(1, 2)))
    assert saved(tmp_path / "state") == (1, 2)


def test_a_state_of_other_settings_is_not_gone_on_from(whole, tmp_path, caplog):
    crash_at(tmp_path / "state", 9)
    state = read_state(tmp_path / "state", KEY)
    write_state(tmp_path / "state", "other", state)
    assert train(tmp_path / "state") == whole["one_cycle"][0]
    assert "of other settings" in caplog.text


def test_going_on_warns_of_nothing(tmp_path):
    crash_at(tmp_path / "state", 9)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(tmp_path / "state")
    assert [str(warning.message) for warning in caught if "resuming" in str(warning.message)] == []


def test_results_are_the_same_through_the_trainers_own_removal(tmp_path):
    crash_at(tmp_path / "state", 9)
    StateIO(KEY).remove_checkpoint(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def job(folder, place, ready, seconds, minutes, pause):
    """Train as a job does, which tells when it has come to an event and waits there, so that it can be stopped."""

    def wait():
        ready.set()
        time.sleep(seconds)

    with Job("train_fold", "toy", folder / "log"), hold_stops() as stop:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        train(folder / "state", Toy(pause=pause), stop, minutes, before=[At(place, wait)])


@pytest.fixture(scope="module")
def processes():
    """Processes that have imported everything; that takes seconds, but once for all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.fixture
def start(processes, tmp_path):
    """Start a job of its own process and return it when it has come to an event."""
    started = []

    def run(place, seconds=0.2, minutes=1000.0, pause=0.0):
        ready = processes.Event()
        process = processes.Process(target=job, args=(tmp_path, place, ready, seconds, minutes, pause))
        process.start()
        started.append(process)
        assert ready.wait(60)
        return process

    yield run
    for process in started:
        process.kill()
        process.join()


@pytest.mark.parametrize(
    ("place", "position", "number"),
    [
        (4, (0, 2), signal.SIGTERM),  # the second batch starts
        (6, (0, 4), signal.SIGTERM),  # the third, after which gradients wait for the fourth
        (6, (0, 4), signal.SIGINT),
        (10, (1, 0), signal.SIGINT),  # the last of the epoch
        (12, (1, 0), signal.SIGTERM),  # validation starts
        (EVENTS - 3, (EPOCHS, 0), signal.SIGTERM),  # the last validation has ended
    ],
)
def test_a_job_asked_to_end_saves_what_it_has_and_goes_on_later(whole, start, tmp_path, place, position, number):
    process = start(place)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 1
    assert saved(tmp_path / "state") == position
    *before, last = (tmp_path / "log").read_text().splitlines()
    assert last == "Stopped: toy."
    assert f"the state of the training is saved in {tmp_path / 'state'}" in before[-1]
    assert train(tmp_path / "state") == whole["one_cycle"][0]


def test_a_job_asked_to_end_before_its_first_step_ends_without_a_state(start, tmp_path):
    process = start(0)
    process.terminate()
    process.join(60)
    assert process.exitcode == 1
    assert (tmp_path / "log").read_text() == "Stopped: toy.\n"
    assert not (tmp_path / "state").exists()


def test_a_job_asked_twice_ends_at_once(start, tmp_path):
    process = start(6, seconds=60)
    process.terminate()
    time.sleep(0.7)
    process.terminate()
    process.join(20)
    assert process.exitcode == 1
    assert (tmp_path / "log").read_text() == "Stopped: toy.\n"


def test_jobs_killed_at_random_moments_come_to_the_same_end(whole, start, tmp_path):
    moments = random.Random(1)
    for _ in range(5):
        if saved(tmp_path / "state") == (EPOCHS, 0):
            break
        process = start(0, seconds=0, minutes=0.0, pause=0.02)
        time.sleep(moments.uniform(0.05, 0.2))
        process.kill()
        process.join(60)
    assert train(tmp_path / "state") == whole["one_cycle"][0]
