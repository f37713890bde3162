"""What each option of trainer, callbacks and adapters does, seen in what a training leaves."""

import dataclasses
import importlib.util
import time

import numpy as np
import pytest
import torch

from foldwise.config.callbacks import FALLING
from foldwise.data.batches import TrainingPlan
from foldwise.errors import ConfigError, DataError
from foldwise.inference.metrics import compute_metrics
from foldwise.inference.predict import load_network, predict
from foldwise.training.fit import Run
from foldwise.training.prepare import prepare
from foldwise.training.state import position, read_state
from unit.training.toys import UNET, column, make_toy, toy_config, train_toys

ERRATIC = {"name": "sgd", "lr": 0.1}
LAST = {"store_best": False}
SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.0}
PLAIN_UNET = {**UNET, "norm": "instance"}  # what a network computes depends on no other sample
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture
def train(make_pipeline, tmp_path):
    """Train on a toy, each time into a folder of its own."""
    runs = iter(range(100))
    return lambda toy="classification", **settings: train_toys(
        tmp_path / str(next(runs)), [toy], make_pipeline, **settings
    )


@pytest.fixture(scope="module")
def once(make_pipeline, tmp_path_factory):
    """A training that several tests compare theirs with."""
    return train_toys(tmp_path_factory.mktemp("once"), ["classification"], make_pipeline)


@pytest.fixture(scope="module")
def erratic(make_pipeline, tmp_path_factory):
    """A long training whose losses rise and fall."""
    folder = tmp_path_factory.mktemp("erratic")
    return train_toys(folder, ["classification"], make_pipeline, optimizer=ERRATIC, trainer={"max_epochs": 10})


def start_of(make_pipeline, **settings):
    """Return the weights that a training on the first toy starts from."""
    toys = [make_toy("classification")]
    return prepare(toy_config(toys, make_pipeline, **settings), toys, 0, "none", None).module.network.state_dict()


def stops_after(values, patience, min_delta, falling):
    """Return after how many values early stopping ends."""
    best, waited = np.inf, 0
    for count, value in enumerate(values if falling else np.negative(values), 1):
        if value < best - min_delta:
            best, waited = value, 0
        else:
            waited += 1
        if waited >= patience:
            return count
    return len(values)


class TestEarlyStopping:
    @pytest.mark.parametrize(
        ("monitor", "patience", "min_delta"),
        [("val_loss", 1, 0.0), ("val_loss", 2, 0.05), ("accuracy", 1, 0.0), ("train_loss", 1, 0.0), ("mcc", 2, 0.1)],
    )
    def test_training_ends_when_what_is_watched_no_longer_improves(self, train, erratic, monitor, patience, min_delta):
        expected = stops_after(column(erratic, monitor), patience, min_delta, monitor in FALLING)
        assert expected < 10, "this training tells nothing"
        stopping = {"monitor": monitor, "patience": patience, "min_delta": min_delta}
        made = train(optimizer=ERRATIC, trainer={"max_epochs": 10}, cbs={"early_stopping": stopping})
        assert made.curves == erratic.curves[:expected]

    def test_not_before_the_least_number_of_epochs(self, train, erratic):
        assert stops_after(column(erratic, "val_loss"), 1, 0.0, True) < 6
        trainer = {"max_epochs": 10, "min_epochs": 6}
        made = train(optimizer=ERRATIC, trainer=trainer, cbs={"early_stopping": {"patience": 1}})
        assert made.curves == erratic.curves[:6]

    @pytest.mark.parametrize("monitor", ["val_loss", "train_loss"])
    def test_it_counts_validations(self, train, erratic, monitor):
        expected = stops_after(column(erratic, monitor)[1::2], 1, 0.0, True)
        assert expected < 5, "this training tells nothing"
        trainer = {"max_epochs": 10, "check_val_every_n_epoch": 2}
        made = train(optimizer=ERRATIC, trainer=trainer, cbs={"early_stopping": {"patience": 1, "monitor": monitor}})
        assert made.curves == erratic.curves[1::2][:expected]


class TestAverages:
    def test_a_moving_average_is_validated_and_kept_while_training_goes_on_as_without(self, train, once):
        made = train(cbs={"ema": {"decay": 0.9}})
        assert column(made, "train_loss") == column(once, "train_loss")
        assert column(made, "val_loss") != column(once, "val_loss")
        assert_scored(made)

    def test_the_last_epochs_are_averaged_from_the_given_share_on(self, train, once):
        made = train(cbs={"swa": {"start": 0.75}}, mode=LAST)  # from the fifth of six epochs on
        assert column(made, "train_loss") == column(once, "train_loss")
        assert column(made, "val_loss")[:5] == column(once, "val_loss")[:5]
        assert column(made, "val_loss")[5] != column(once, "val_loss")[5]
        assert_scored(made)


def assert_scored(made):
    """Assert that the score is that of the weights."""
    task, store = make_toy("classification")
    network, normalize = load_network(made.record, made.files.weights)
    places = task.split("val", 0)
    logits = predict(network, normalize, store, task, places, 16)
    found = compute_metrics("classification", ["log_loss"], logits, task.targets[places])["log_loss"]
    assert found == pytest.approx(made.record["score"], rel=1e-4)


class TestMixing:
    @pytest.mark.parametrize("kind", ["classification", "multilabel", "soft", "regression"])
    def test_mixed_images_make_another_model_the_same_each_time(self, train, kind):
        callbacks = [{}, {"mixup": {"alpha": 1.0}}]
        callbacks += [{"cutmix": {}}, {"mixup": {}, "cutmix": {}}] if kind != "regression" else []
        trainer = {"max_epochs": 1}
        made = [train(make_toy(kind), cbs=one, trainer=trainer).bytes["model.safetensors"] for one in callbacks]
        assert len(set(made)) == len(callbacks)
        assert train(make_toy(kind), cbs=callbacks[-1], trainer=trainer).bytes["model.safetensors"] == made[-1]


class TestWatching:
    def test_learning_rates_of_backbone_and_heads_are_columns(self, train, once):
        made = train(cbs={"lr_monitor": True}, optimizer={"name": "adamw", "lr": 0.01, "backbone_lr_factor": 0.1})
        assert column(made, "lr_heads") == column(made, "lr") == [0.01] * 6
        assert column(made, "lr_backbone") == pytest.approx([0.001] * 6)
        assert not {"lr_heads", "lr_backbone"} & set(once.curves[0])

    def test_seconds_and_memory_go_to_the_run_and_nowhere_else(self, train, once):
        made = train(cbs={"device_stats": True})
        assert [row["epoch"] for row in made.stats] == list(range(6))
        assert all(row["seconds"] >= 0 and row["peak_memory_mb"] > 10 for row in made.stats)
        assert once.stats is None
        assert made.bytes["metrics.csv"] == once.bytes["metrics.csv"]
        assert made.bytes["model.safetensors"] == once.bytes["model.safetensors"]

    @pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="the extra `tensorboard` is not installed")
    def test_curves_for_tensorboard_are_written_and_change_nothing(self, train, once, tmp_path):
        for _ in range(2):  # the curves of the first training make room for those of the second
            made = train(cbs={"tensorboard": True}, run=Run(tensorboard=tmp_path / "curves"))
        (events,) = (tmp_path / "curves").glob("events*")
        assert b"val_loss" in events.read_bytes()
        assert made.bytes["metrics.csv"] == once.bytes["metrics.csv"]

    @pytest.mark.skipif(bool(importlib.util.find_spec("tensorboard")), reason="the extra `tensorboard` is installed")
    def test_tensorboard_that_is_not_installed_is_told(self, train, tmp_path):
        with pytest.raises(ConfigError, match=r"cbs\.tensorboard: got true, .*pip install 'foldwise\[tensorboard\]'"):
            train(cbs={"tensorboard": True}, run=Run(tensorboard=tmp_path / "curves"))


class TestSchedules:
    @pytest.mark.parametrize("monitor", ["val_loss", "train_loss"])
    def test_the_rate_falls_where_a_loss_stays(self, train, erratic, monitor):
        schedule = {"name": "plateau", "monitor": monitor, "patience": 0, "factor": 0.1}
        made = train(optimizer=ERRATIC, trainer={"max_epochs": 10}, lr_scheduler=schedule)
        rate, best, expected = ERRATIC["lr"], np.inf, []
        for loss in column(made, monitor):
            expected.append(rate)
            rate, best = (rate, loss) if loss < best * (1 - 1e-4) else (0.1 * rate, best)
        assert column(made, "lr") == pytest.approx(expected)
        assert len(set(expected)) > 1
        assert made.curves[0] == erratic.curves[0]


class TestEpochs:
    def test_epochs_between_two_validations_have_no_row(self, train, once):
        made = train(trainer={"max_epochs": 6, "check_val_every_n_epoch": 3})
        assert made.curves == [once.curves[2], once.curves[5]]
        assert made.record["epoch"] in (2, 5)

    def test_the_longest_time_ends_training_and_the_epoch_is_validated(self, train):
        started = time.monotonic()
        made = train(trainer={"max_epochs": 100_000, "max_time": "00:00:00:01"})
        assert 1 < time.monotonic() - started < 20
        assert 0 < len(made.curves) < 100_000
        assert column(made, "epoch") == list(range(len(made.curves)))

    def test_a_training_that_ends_before_its_first_validation_is_told(self, train, tmp_path):
        trainer = {"max_epochs": 100_000, "check_val_every_n_epoch": 100_000, "max_time": "00:00:00:01"}
        with pytest.raises(ConfigError, match=r"trainer\.max_time: got '00:00:00:01', expected time enough"):
            train(trainer=trainer)
        assert not (tmp_path / "0").exists()

    def test_limits_of_batches_are_counts_or_shares(self, train):
        trainers = [{"limit_train_batches": 2}, {"limit_train_batches": 0.5}, {"limit_train_batches": 1.0}]
        made = [train(mode=LAST, trainer={"max_epochs": 1, **one}) for one in trainers]
        counts = [one.weights["backbone.bn1.num_batches_tracked"].item() for one in made]
        assert counts == [2, 2, 4]

    def test_a_limit_of_validation_leaves_out_the_last_samples(self, train):
        made = train(trainer={"max_epochs": 1, "limit_val_batches": 1})
        task, store = make_toy("classification")
        network, normalize = load_network(made.record, made.files.weights)
        places = task.split("val", 0)[:16]
        logits = predict(network, normalize, store, task, places, 16)
        found = compute_metrics("classification", ["log_loss", "accuracy"], logits, task.targets[places])
        assert {name: made.record["metrics"][name] for name in found} == pytest.approx(found, rel=1e-4)


class TestSteps:
    @pytest.mark.parametrize(("algorithm", "most"), [("norm", 1e-4), ("value", 1e-4)])
    def test_gradients_are_clipped(self, train, make_pipeline, algorithm, most):
        trainer = {"max_epochs": 1, "gradient_clip_val": most, "gradient_clip_algorithm": algorithm}
        made, start = train(optimizer=SGD, trainer=trainer), start_of(make_pipeline)
        moved = {name: made.weights[name] - tensor for name, tensor in start.items() if not name.endswith(STATISTICS)}
        steps = 4
        if algorithm == "norm":
            length = torch.stack([change.norm() for change in moved.values()]).norm()
            assert 0 < length <= steps * SGD["lr"] * most * 1.01
        else:
            assert 0 < max(change.abs().max() for change in moved.values()) <= steps * SGD["lr"] * most * 1.01

    def test_gradients_of_several_batches_make_one_step(self, train):
        common = {"arch": PLAIN_UNET, "optimizer": SGD, "mode": LAST}
        whole = train(sampling={"batch_size": 16, "sample_num": 48}, **common)
        trainer = {"max_epochs": 6, "accumulate_grad_batches": 2}
        halves = train(sampling={"batch_size": 8, "sample_num": 48}, trainer=trainer, **common)
        for name, tensor in whole.weights.items():
            torch.testing.assert_close(halves.weights[name], tensor, rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize(("precision", "dtype"), [("64-true", torch.float64), ("bf16-mixed", torch.float32)])
    def test_precision_is_that_of_the_steps(self, train, once, precision, dtype):
        made = train(trainer={"max_epochs": 6, "precision": precision})
        assert {tensor.dtype for tensor in made.weights.values()} == {dtype, torch.int64}
        losses, others = column(made, "train_loss"), column(once, "train_loss")
        assert losses != others
        assert losses[0] == pytest.approx(others[0], rel=0.02)

    @pytest.mark.slow
    def test_a_compiled_network_learns_the_same_under_the_same_names(self, train, once):
        made = train(trainer={"max_epochs": 6, "compile": True})
        assert made.weights.keys() == once.weights.keys()
        assert column(made, "train_loss") == pytest.approx(column(once, "train_loss"), rel=1e-2)

    @pytest.mark.parametrize("wanted", [True, False])
    def test_anomalies_are_looked_for_if_asked_for(self, train, wanted):
        seen = []
        run = Run(report=lambda text: seen.append(torch.is_anomaly_enabled()))
        train(trainer={"max_epochs": 1, "detect_anomaly": wanted}, run=run)
        assert seen == [wanted]


class TestParts:
    @pytest.mark.parametrize("arch", [{}, {"arch": {**UNET}}])
    def test_a_factor_of_zero_leaves_weights_and_statistics_of_the_backbone_as_they_are(
        self, train, make_pipeline, arch
    ):
        settings = {"optimizer": {"name": "adamw", "lr": 0.01, "backbone_lr_factor": 0.0}, **arch}
        made, start = train(**settings), start_of(make_pipeline, **settings)
        same = {name for name, tensor in made.weights.items() if torch.equal(tensor, start[name])}
        assert same == {name for name in made.weights if name.startswith("backbone.")}
        assert made.record["parameters"] == sum(start[f"heads.0.{name}"].numel() for name in ("weight", "bias"))

    @pytest.mark.parametrize("layers", [None, ["layer2"]])
    def test_adapters_are_merged_into_the_backbone(self, train, once, make_pipeline, layers):
        made, start = train(peft={"lora": {"r": 2, "layers": layers}}), start_of(make_pipeline)
        assert made.weights.keys() == once.weights.keys()
        changed = {name for name, tensor in made.weights.items() if not torch.equal(tensor, start[name])}
        adaptable = {name for name, tensor in start.items() if name.startswith("backbone.") and tensor.ndim == 4}
        expected = {name for name in adaptable if layers is None or layers[0] in name}
        assert changed == {*expected, "heads.0.weight", "heads.0.bias"}
        assert made.record["parameters"] < once.record["parameters"]
        assert_scored(made)

    def test_dropout_changes_training_and_not_validation(self, train, once):
        made = train(arch={**once.record["recipe"]["arch"], "dropout": 0.5})
        assert made.curves[0]["train_loss"] > once.curves[0]["train_loss"]
        assert_scored(made)


class Counted:
    """Images that note which rows are read."""

    def __init__(self, images, reads):
        self.images, self.shape, self.reads = images, images.shape, reads

    def __getitem__(self, rows):
        self.reads.append(rows)
        return self.images[rows]


class TestDivergence:
    @pytest.mark.parametrize(("batch", "saved"), [(0, (1, 0)), (1, (1, 1))])
    def test_a_bad_loss_is_told_in_its_very_step_and_the_state_before_is_kept(
        self, train, make_pipeline, tmp_path, batch, saved
    ):
        task, store = make_toy("soft")
        sampling = {"batch_size": 16, "sample_num": 32}
        plan = TrainingPlan(task.targets[task.split("train", 0)], make_pipeline(sampling=sampling).sampling, 42)
        bad = next(place for place in plan.order(1)[16 * batch :] if place not in plan.order(0))
        task.targets[task.split("train", 0)[bad]] = np.nan
        where = rf"the training loss in epoch 2, step {batch + 1}, learning rate 0\.01"
        expected = f"{where}: got nan, expected a finite loss"
        with pytest.raises(DataError, match=expected):
            train((task, store), sampling=sampling, state=tmp_path / "state", run=Run(minutes=0))
        state = read_state(tmp_path / "state", "key")
        assert position(state) == saved
        assert all(tensor.isfinite().all() for tensor in state["state_dict"].values())
        assert not (tmp_path / "0").exists()

    def test_no_further_batch_is_read(self, train):
        task, store = make_toy("soft")
        task.targets[task.split("train", 0)] = np.nan
        reads = []
        with pytest.raises(DataError, match="the training loss in epoch 1, step 1"):
            train((task, dataclasses.replace(store, images=Counted(store.images, reads))))
        assert len(reads) == 1

    def test_advice_is_given(self, train):
        with pytest.raises(DataError, match=r"Lower optimizer\.lr or set trainer\.gradient_clip_val"):
            train(optimizer={"name": "sgd", "lr": 1e30})
