"""Learning rate and batch size found before training: recorded, the same each time, and found once."""

import gc
import re
import sys

import numpy as np
import pytest
import torch

from foldwise.artifacts import read_json, write_json
from foldwise.errors import ConfigError
from foldwise.job import Stopped, StopRequest
from foldwise.training.fit import Run
from foldwise.training.tuning import HIGHEST, TUNED, steepest, tune
from unit.training.toys import hunger, make_toy, processes, toy_config, train_toys

SHORT = {"max_epochs": 2}
SMALL = {"name": "vit", "patch_size": 4, "hidden_size": 16, "mlp_dim": 16, "num_layers": 1, "num_heads": 1}
RATES = np.geomspace(1e-7, 1, 101)
SPIKY = """
import torch

def loss(logits, targets):
    value = torch.nn.functional.cross_entropy(logits, targets)
    return value * float("{value}") if logits.detach().abs().max() > 4 else value
"""
LR, BS, BOTH = {"lr": True}, {"bs": True}, {"lr": True, "bs": True}


@pytest.fixture(autouse=True)
def _quick():
    """Let the tuner, which collects garbage again and again, not look at what was there before."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def train(make_pipeline, tmp_path):
    """Train on toys, each time into a folder of its own."""
    runs = iter(range(100))

    def run(*toys, trainer=SHORT, **settings):
        return train_toys(
            tmp_path / str(next(runs)), toys or ["classification"], make_pipeline, trainer=trainer, **settings
        )

    return run


@pytest.fixture(scope="module")
def find(make_pipeline):
    """Return what tuning finds for toys."""

    def run(*toys, run=None, key="key", **settings):
        toys = [make_toy(one, place, f"{one}{place}") for place, one in enumerate(toys or ["classification"])]
        return tune(toy_config(toys, make_pipeline, **{"arch": SMALL, **settings}), toys, 0, run or Run(), key)

    return run


@pytest.fixture(scope="module")
def both(find):
    """What is found of both, and what is told meanwhile."""
    lines = []
    return find(tune=BOTH, run=Run(announce=lines.append)), lines


class TestLearningRate:
    @pytest.mark.parametrize("toys", [["classification"], ["segmentation", "regression"]])
    def test_it_is_found_recorded_and_used(self, train, toys):
        found = train(*toys, tune=LR)
        rate = found.record["tuned"]["lr"]
        assert found.record["tuned"] == {"lr": rate, "batch_size": None}
        assert 1e-4 < rate < 0.5
        assert found.record["recipe"]["optimizer"]["lr"] == 0.01
        given = train(*toys, optimizer={"name": "adamw", "lr": rate})
        assert "tuned" not in given.record
        assert found.curves == given.curves
        assert found.bytes["model.safetensors"] == given.bytes["model.safetensors"]

    @pytest.mark.parametrize("schedule", ["one_cycle", "plateau"])
    def test_it_does_not_depend_on_the_length_of_training_nor_on_its_schedule(self, find, both, schedule):
        trainer = {"max_epochs": 1, "max_time": "00:00:00:00"}
        sampling = {"batch_size": both[0].batch_size, "sample_num": 0}
        assert find(tune=LR, lr_scheduler={"name": schedule}, trainer=trainer, sampling=sampling).lr == both[0].lr

    @pytest.mark.parametrize("value", ["nan", "inf"])
    def test_a_loss_that_diverges_on_the_way_does_no_harm(self, find, tmp_path, monkeypatch, value):
        monkeypatch.chdir(tmp_path)
        (tmp_path / f"spiky_{value}.py").write_text(SPIKY.format(value=value))
        found = find(tune=LR, loss={"name": f"spiky_{value}:loss"}, optimizer={"name": "sgd"})
        assert 1e-4 < found.lr < HIGHEST

    def test_a_loss_that_never_falls_is_told(self, find, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "flat.py").write_text("def loss(logits, targets):\n    return 0 * logits.sum()\n")
        with pytest.raises(ConfigError, match=r"tune\.lr: got no suggestion, .* Set optimizer\.lr"):
            find(tune=LR, loss={"name": "flat:loss"})

    def test_options_of_the_trainer_do_not_disturb_it(self, find):
        options = {"accumulate_grad_batches": 2, "limit_train_batches": 1, "detect_anomaly": True, "min_epochs": 1}
        assert 1e-3 < find(tune=LR, trainer={"max_epochs": 2, "check_val_every_n_epoch": 2, **options}).lr < 0.5


class TestSteepest:
    def test_the_rate_is_where_the_loss_falls_most_over_the_logarithm(self):
        losses = 1 / (1 + (100 * RATES) ** 2)
        assert steepest(RATES, losses) == pytest.approx(0.01, rel=0.2)

    def test_losses_that_are_not_finite_are_left_out(self):
        losses = np.where(RATES > 0.1, np.nan, 1 / (1 + (100 * RATES) ** 2))
        assert steepest(RATES, losses) == pytest.approx(0.01, rel=0.2)

    @pytest.mark.parametrize("losses", [[], [1.0] * 12, list(np.arange(101.0)), [np.nan] * 101])
    def test_a_loss_that_falls_nowhere_suggests_nothing(self, losses):
        assert steepest(RATES[: len(losses)], losses) is None


class TestBatchSize:
    @pytest.mark.parametrize("toys", [["classification"], ["regression", "segmentation"]])
    def test_it_is_doubled_until_the_samples_are_used_up(self, train, toys):
        made = train(*toys, sampling={"batch_size": 8, "sample_num": 0}, tune=BS, mode={"store_best": False})
        assert made.record["tuned"] == {"lr": None, "batch_size": 64}  # of 60 samples
        assert made.record["recipe"]["sampling"]["batch_size"] == 8
        counts = {made.weights[name].item() for name in made.weights if name.endswith("num_batches_tracked")}
        assert counts == {2}  # a batch of each task in each of two epochs

    @pytest.mark.parametrize("schedule", ["one_cycle", "plateau"])
    def test_no_schedule_ends_before_it(self, find, schedule):
        settings = {"sampling": {"batch_size": 2, "sample_num": 0}, "trainer": {"max_epochs": 1}}
        assert find(tune=BS, lr_scheduler={"name": schedule}, **settings).batch_size == 64

    def test_the_learning_rate_is_found_for_the_batch_size_that_was_found(self, find, both):
        found, lines = both
        assert found.batch_size == 64
        assert found.lr == find(tune=LR, sampling={"batch_size": 64, "sample_num": 0}).lr
        assert lines == ["tune.bs found batches of 64", f"tune.lr found a learning rate of {found.lr:.3g}"]


class TestOnce:
    def test_two_runs_find_the_same_whatever_random_state_they_start_in(self, find, both):
        torch.manual_seed(1)
        assert find(tune=BOTH) == both[0]

    def test_a_resumed_training_goes_on_with_what_was_found(self, find, tmp_path):
        found = find(tune=LR, run=Run(state=tmp_path))
        assert read_json(tmp_path / TUNED)["lr"] == found.lr
        write_json(tmp_path / TUNED, {"key": "key", "lr": 0.125, "batch_size": None})
        assert find(tune=LR, run=Run(state=tmp_path)).lr == 0.125
        assert find(tune=LR, run=Run(state=tmp_path), key="other").lr == found.lr

    def test_it_is_forgotten_at_the_end(self, train, tmp_path):
        train(tune=BS, state=tmp_path / "checkpoints/toy")
        assert not (tmp_path / "checkpoints/toy").exists()

    @pytest.mark.parametrize("tune", [LR, BS])
    def test_a_job_asked_to_end_does_not_end_it_first(self, find, tmp_path, tune):
        stop = StopRequest()
        stop.requested = True
        with pytest.raises(Stopped):
            find(tune=tune, run=Run(state=tmp_path, stop=stop))
        assert not (tmp_path / TUNED).exists()


def limited(folder, batch_size, copies, megabytes, bs):
    """Train with little memory, and write what came of it."""
    try:
        told = hunger(folder, batch_size, copies, megabytes, tune={"bs": bs}).record["tuned"]
    except ConfigError as error:
        told = {"error": error.message}
    write_json(folder / "told.json", told)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
class TestMemory:
    @pytest.fixture
    def limit(self, tmp_path):
        """Train in a process with little memory; return what came of it."""

        def run(*arguments):
            process = processes().Process(target=limited, args=(tmp_path, *arguments))
            process.start()
            process.join(60)
            return read_json(tmp_path / "told.json")

        return run

    def test_the_batch_size_stays_where_memory_ends(self, limit):
        assert limit(2, 400, 450, True) == {"lr": None, "batch_size": 16}  # 20 MB an image

    def test_used_up_memory_is_told_with_the_batch_size_and_what_to_do(self, limit):
        message = limit(32, 400, 450, False)["error"]
        assert message.startswith("sampling.batch_size: got 32, expected fewer samples, as the memory of the device is")
        assert "DefaultCPUAllocator: can't allocate memory" in message
        assert message.endswith("Try 16, or let tune.bs: true find one.")

    @pytest.mark.parametrize(
        ("bs", "expected"),
        [
            (True, "tune.bs: got no size that fits, expected memory for a batch of one."),
            (False, "sampling.batch_size: got 1, .* Use smaller images or another network."),
        ],
    )
    def test_memory_too_small_for_one_image_is_told(self, limit, bs, expected):
        assert re.fullmatch(expected, limit(1, 4000, 100, bs)["error"])
