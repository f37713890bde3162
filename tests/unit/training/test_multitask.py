"""Several tasks learned together: a batch of each in every step, and the pivot decides."""

import dataclasses

import numpy as np
import pytest
import torch

from foldwise.config.metrics import Metrics
from foldwise.data.files import Data
from foldwise.errors import ConfigError, DataError
from foldwise.inference.predict import load_network
from foldwise.training.prepare import prepare
from unit.training.toys import UNET, column, make_store, make_toy, toy_config, train_toys

TYPES = ("classification", "multilabel", "regression", "segmentation")
LAST = {"store_best": False}
ONE_EPOCH = {"max_epochs": 1}
PLAIN_UNET = {**UNET, "norm": "instance"}  # what a network computes depends on no other batch
AUGMENTED = {"operations": [{"name": "RandomAffine", "degrees": 10.0, "p": 1.0}]}


def with_samples(toy, count):
    """Return a toy that trains and validates on its first samples only."""
    task, store = toy
    splits = np.where((task.splits == "train") & (np.arange(len(task.splits)) >= count), "unlabeled", task.splits)
    return Data(dataclasses.replace(task, splits=splits, folds=np.where(splits == "train", task.folds, -1)), store)


def with_folds(toy, count):
    """Return a toy of another number of folds."""
    task, store = toy
    folds = np.where(task.splits == "train", np.arange(len(task.splits)) % count, -1)
    return Data(dataclasses.replace(task, folds=folds), store)


@pytest.fixture
def train(make_pipeline, tmp_path):
    """Train a pivot with co-tasks, each time into a folder of its own."""
    runs = iter(range(100))
    return lambda *toys, **settings: train_toys(tmp_path / str(next(runs)), toys, make_pipeline, **settings)


@pytest.mark.parametrize("co_task", TYPES)
@pytest.mark.parametrize("pivot", TYPES)
def test_any_types_are_learned_together(train, pivot, co_task):
    made = train(pivot, co_task, arch=UNET, trainer={"max_epochs": 4})
    names = f"{pivot}0", f"{co_task}1"
    for name in names:
        first, *_, last = column(made, f"{name}/train_loss")
        assert last < first
    metrics = Metrics().of(co_task)
    assert list(made.curves[0]) == [
        *("epoch", "lr", "train_loss", "val_loss"),
        *Metrics().of(pivot),
        *(f"{name}/train_loss" for name in names),
        f"{names[1]}/val_loss",
        *(f"{names[1]}/{metric}" for metric in metrics),
    ]
    best, (told,) = made.curves[made.record["epoch"]], made.record["co_tasks"]
    assert (told["task"], told["type"], list(told["metrics"])) == (names[1], co_task, metrics)
    assert told["score"] == best[f"{names[1]}/val_loss"]
    assert ("target" in told) == (co_task == "regression")
    assert {"heads.0.weight", "heads.1.weight"} <= set(made.weights)


def test_three_tasks_have_three_heads_and_are_augmented_each(train):
    made = train("classification", "segmentation", "regression", augmentations=AUGMENTED, trainer={"max_epochs": 2})
    assert [task["type"] for task in made.record["co_tasks"]] == ["segmentation", "regression"]
    assert {name for name in made.weights if name.startswith("heads.2")} == {"heads.2.weight", "heads.2.bias"}


@pytest.mark.parametrize("pivot_is_short", [True, False])
def test_every_step_has_a_batch_of_every_task_until_the_longest_is_through(train, pivot_is_short):
    long, short = make_toy("classification", name="long"), make_toy("multilabel", name="short")
    toys = [with_samples(short, 24), long] if pivot_is_short else [long, with_samples(short, 24)]
    made = train(*toys, mode=LAST, trainer={"max_epochs": 3}, lr_scheduler={"name": "cosine"})
    assert column(made, "lr") == pytest.approx([0.0075, 0.0025, 0.0])
    counts = {made.weights[name].item() for name in made.weights if name.endswith("num_batches_tracked")}
    assert counts == {4 * 3}  # steps (60 samples by 16), epochs: every task counts its own


def test_a_share_of_the_batches_is_one_of_the_longest_task(train):
    short = with_samples(make_toy("multilabel", name="short"), 16)
    trainer = {"max_epochs": 1, "limit_train_batches": 0.5}
    made = train(make_toy("classification"), short, trainer=trainer)
    counts = {made.weights[name].item() for name in made.weights if name.endswith("num_batches_tracked")}
    assert counts == {2}


class TestWeights:
    @pytest.mark.parametrize("weights", [[1.0, 3.0], [3.0, 1.0], None])
    def test_the_training_loss_is_the_weighted_mean(self, train, weights):
        made = train("classification", "regression", mode={"task_weights": weights}, trainer=ONE_EPOCH)
        (row,), (first, second) = made.curves, weights or [1.0, 1.0]
        losses = [row["classification0/train_loss"], row["regression1/train_loss"]]
        assert row["train_loss"] == pytest.approx(np.average(losses, weights=[first, second]), rel=1e-5)

    def test_weights_change_the_result_and_only_by_their_ratio(self, train):
        given = (None, [2.0, 2.0], [1.0, 3.0])
        made = [train("classification", "regression", mode={"task_weights": one}, trainer=ONE_EPOCH) for one in given]
        equal, double, other = (one.bytes["model.safetensors"] for one in made)
        assert equal == double != other

    @pytest.mark.parametrize("co_task", ["regression", "segmentation"])
    def test_a_co_task_of_weight_zero_leaves_no_trace(self, train, make_pipeline, co_task):
        settings, mode = {"arch": PLAIN_UNET, "trainer": {"max_epochs": 2}}, {"task_weights": [1.0, 0.0]}
        toys = [make_toy("classification", name="pivot"), make_toy(co_task, 5, name="other")]
        both, alone = train(*toys, mode=mode, **settings), train(toys[0], **settings)
        start = prepare(toy_config(toys, make_pipeline, **settings), toys, 0, "none", None).module.network.state_dict()
        for name, tensor in both.weights.items():
            assert torch.equal(tensor, start[name] if name.startswith("heads.1") else alone.weights[name])
        for row, expected in zip(both.curves, alone.curves, strict=True):
            assert {name: row[name] for name in expected} == expected
            assert row["pivot/train_loss"] == expected["train_loss"]
        assert both.record["score"] == alone.record["score"]

    def test_heads_of_some_weight_learn(self, train, make_pipeline):
        toys = [make_toy("classification", name="pivot"), make_toy("regression", name="other")]
        made = train(*toys, trainer=ONE_EPOCH)
        start = prepare(toy_config(toys, make_pipeline), toys, 0, "none", None).module.network.state_dict()
        same = {name for name in start if torch.equal(made.weights[name], start[name])}
        assert not any(name.startswith("heads") for name in same)


@pytest.mark.parametrize(
    ("co_task", "callbacks", "is_mixed"),
    [
        ("segmentation", {"mixup": {"alpha": 1.0}}, False),
        ("segmentation", {"cutmix": {}}, False),
        ("regression", {"cutmix": {}}, False),
        ("regression", {"mixup": {"alpha": 1.0}}, True),
        ("multilabel", {"mixup": {"alpha": 1.0}, "cutmix": {}}, True),
    ],
)
def test_images_of_co_tasks_are_mixed_where_their_targets_can_be(train, co_task, callbacks, is_mixed):
    trainer = {"max_epochs": 1, "limit_train_batches": 1}
    toys = [make_toy("classification", name="pivot"), make_toy(co_task, name="other")]
    (mixed,), (plain,) = (train(*toys, trainer=trainer, cbs=one).curves for one in (callbacks, {}))
    assert mixed["pivot/train_loss"] != plain["pivot/train_loss"]
    assert (mixed["other/train_loss"] != plain["other/train_loss"]) == is_mixed


class TestFolds:
    @pytest.mark.parametrize(
        ("tags", "fold", "expected"),
        [
            ((), 0, 0),
            ((), 3, 1),
            (("nested-1",), 0, 1),
            (("subset-0.5", "nested-2-3"), 1, 0),
        ],
    )
    def test_co_tasks_validate_on_the_outer_fold_modulo_their_number(self, train, tags, fold, expected):
        task, store = other = with_folds(make_toy("regression", name="other"), 2)
        made = train(make_toy("classification"), other, fold=fold, tags=tags, trainer=ONE_EPOCH)
        (told,), targets = made.record["co_tasks"], task.targets.astype(np.float64)
        assert told["target"]["mean"] == pytest.approx(targets[task.split("train", expected)].mean())
        places = task.split("val", expected)
        network, normalize = load_network(made.record, made.files.weights)
        with torch.inference_mode():
            pixels = torch.from_numpy(store.images[store.rows_of(task, places)]).permute(0, 3, 1, 2)
            values = network(normalize(pixels), 1)[:, 0].double().numpy() * told["target"]["std"]
        errors = values + told["target"]["mean"] - targets[places]
        assert told["metrics"]["mse"] == pytest.approx((errors**2).mean(), rel=1e-3)

    def test_the_pivot_validates_on_its_own(self, train):
        task, _ = pivot = make_toy("regression")
        made = train(pivot, with_folds(make_toy("classification", name="other"), 2), fold=3, trainer=ONE_EPOCH)
        assert made.record["fold"] == 3
        assert made.record["target"]["mean"] == pytest.approx(task.targets[task.split("train", 3)].mean(), rel=1e-6)


def test_score_and_kept_epoch_are_the_pivots(train):
    trainer = {"max_epochs": 5, "limit_train_batches": 2}
    made = train("classification", "multilabel", optimizer={"name": "adamw", "lr": 0.03}, trainer=trainer)
    losses, others = column(made, "val_loss"), column(made, "multilabel1/val_loss")
    best = int(np.argmin(losses))
    assert best not in (len(losses) - 1, int(np.argmin(others))), "this training tells nothing"
    assert (made.record["epoch"], made.record["score"]) == (best, losses[best])


def test_two_runs_have_the_same_bytes_whatever_random_state_they_start_in(train):
    made = []
    for state in (1, 2):
        torch.manual_seed(state)
        arch = {**UNET, "dropout": 0.3}
        made.append(train("classification", "segmentation", "multilabel", arch=arch, augmentations=AUGMENTED))
    assert made[0].bytes == made[1].bytes


class TestStatistics:
    """A batch is normalised by its own task in training: so it must be in validation."""

    @pytest.fixture
    def made(self, train):
        task, store = make_toy("regression", 5, name="other")
        images = np.sort(store.images, axis=2)  # brighter to the right
        other = Data(task, make_store(images, task.sample_ids, None))
        return train(make_toy("classification", name="pivot"), other, mode=LAST, trainer={"max_epochs": 8})

    def test_every_task_gathers_its_own(self, made):
        shared, own = (made.weights[f"{name}.running_mean"] for name in ("backbone.bn1", "statistics.0.0"))
        assert not torch.allclose(shared, own, rtol=0.1)

    def test_a_model_is_as_good_in_validation_as_in_training(self, made):
        last = made.curves[-1]
        assert last["val_loss"] < 2 * last["pivot/train_loss"] + 0.1

    @pytest.mark.parametrize("arch", [UNET, {}])
    def test_a_co_task_of_weight_zero_does_not_change_those_of_the_pivot(self, train, arch):
        toys = [make_toy("classification", name="pivot"), make_toy("regression", 5, name="other")]
        settings = {"trainer": {"max_epochs": 2}, **({"arch": arch} if arch else {})}
        both, alone = train(*toys, mode={"task_weights": [1.0, 0.0]}, **settings), train(toys[0], **settings)
        assert any(name.endswith("running_mean") for name in alone.weights)
        assert all(torch.equal(tensor, both.weights[name]) for name, tensor in alone.weights.items())

    def test_a_saved_network_keeps_them(self, made):
        network, _ = load_network(made.record, made.files.weights)
        images = torch.rand(4, 3, 8, 8)
        with network.statistics_of(1):
            means = network.get_buffer("backbone.bn1.running_mean").clone()
            inside = network(images, 0)
        assert torch.equal(means, made.weights["statistics.0.0.running_mean"])
        assert not torch.equal(inside, network(images, 0))


class TestImages:
    @pytest.mark.parametrize(
        ("pivot", "co_task"), [("classification", "regression"), ("segmentation", "classification")]
    )
    def test_co_tasks_may_have_images_of_another_size(self, train, pivot, co_task):
        made = train(make_toy(pivot), make_toy(co_task, size=12, name="other"), augmentations=AUGMENTED)
        assert made.record["size"] == [8, 8]
        assert np.isfinite(made.record["co_tasks"][0]["score"])

    def test_a_size_that_the_network_cannot_take_is_told(self, train):
        with pytest.raises(ConfigError, match=r"preprocessing\.size: got 9 x 9 pixels, expected a multiple of 2"):
            train(make_toy("segmentation"), make_toy("classification", size=9, name="other"))

    def test_images_of_other_channels_are_told(self, train):
        expected = r"task other: got images of 1 channels, expected 3, as those of toy have"
        with pytest.raises(DataError, match=expected):
            train(make_toy("classification"), make_toy("classification", name="other", channels=1))

    def test_each_task_has_statistics_of_its_own(self, train):
        dark = make_toy("regression", name="dark")
        dark.store.images[:] //= 4
        pixels = dark.store.images.astype(np.float64)
        dark.store.channel_sums[:] = np.stack([pixels.sum(axis=(1, 2)), (pixels**2).sum(axis=(1, 2))], axis=1)
        augmentations = {"operations": [], "normalization": "task"}
        alone, both = (
            train(*toys, augmentations=augmentations, trainer=ONE_EPOCH)
            for toys in ([make_toy("classification")], [make_toy("classification"), dark])
        )
        assert both.record["normalization"] == alone.record["normalization"]


def test_batches_of_the_pivot_are_balanced_and_those_of_other_types_are_as_they_are(train):
    sampling = {"batch_size": 16, "sample_num": 32, "balanced": True}
    made = train("classification", "regression", sampling=sampling, mode=LAST, trainer=ONE_EPOCH)
    counts = {made.weights[name].item() for name in made.weights if name.endswith("num_batches_tracked")}
    assert counts == {2}
