"""Every task type is trained until it clearly has learned, the same way each time."""

import csv
import dataclasses
import threading

import numpy as np
import pytest

from foldwise.artifacts import read_json
from foldwise.config.metrics import Metrics
from foldwise.errors import ConfigError
from unit.training.toys import KINDS, UNET, contents, make_toy, train_toy

TURN = {"operations": [{"name": "RandomRotation90", "times": [0, 3], "p": 1.0}]}
LEARNED = {
    "classification": ("accuracy", 0.8),
    "multilabel": ("auroc", 0.8),
    "soft": ("auroc", 0.8),
    "regression": ("r2", 0.7),
    "segmentation": ("dice", 0.9),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_task_type_learns(kind, make_pipeline, tmp_path):
    lines = []
    task, _, record, files = train_toy(tmp_path, kind, make_pipeline, report=lines.append)
    metric, least = LEARNED[kind]
    assert record["metrics"][metric] > least
    assert record["type"] == task.type
    assert record["classes"] == list(task.classes)
    assert list(record["metrics"]) == Metrics().of(task.type)
    assert read_json(files.record) == record
    columns = next(csv.reader(files.curves.open()))
    assert columns == ["epoch", "lr", "train_loss", "val_loss", *record["metrics"]]
    assert f", {Metrics().of(task.type)[0]} " in lines[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["unet", "segresnet"])
def test_encoder_decoders_serve_every_task_type(kind, name, make_pipeline, tmp_path):
    arch = UNET if name == "unet" else {"name": name, "init_filters": 8}
    train_toy(tmp_path, kind, make_pipeline, arch=arch)
    assert learns(tmp_path / "metrics.csv")


def learns(curves):
    first, *_, last = (float(row["train_loss"]) for row in csv.DictReader(curves.open()))
    return last < first


@pytest.mark.parametrize("kind", KINDS[1:])
def test_two_runs_have_the_same_bytes(kind, make_pipeline, tmp_path):
    for run in ("one", "other"):
        train_toy(tmp_path / run, kind, make_pipeline, augmentations=TURN, trainer={"max_epochs": 2})
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("classification", {"name": "focal", "class_weights": "auto"}),
        ("multilabel", {"name": "bce", "class_weights": "auto", "label_smoothing": 0.1}),
        ("soft", {"name": "auto", "class_weights": "auto"}),
        ("regression", {"name": "mse"}),
        ("regression", {"name": "huber", "delta": 0.5}),
        ("segmentation", {"name": "auto", "class_weights": "auto"}),
        ("segmentation", {"name": "cross_entropy", "label_smoothing": 0.1}),
        ("segmentation", {"name": "dice_ce", "dice_weight": 2.0, "class_weights": [1.0, 3.0]}),
    ],
)
@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_every_loss_is_minimised_in_every_precision(kind, loss, precision, make_pipeline, tmp_path):
    trainer = {"max_epochs": 3, "precision": precision}
    train_toy(tmp_path, kind, make_pipeline, loss=loss, trainer=trainer)
    assert learns(tmp_path / "metrics.csv")


class Decoding:
    """Images that say that they decode."""

    decodes = True

    def __init__(self, images):
        self.images, self.shape = images, images.shape

    def __getitem__(self, rows):
        return self.images[rows]


def test_images_that_are_decoded_ahead_make_the_same_model_and_leave_no_thread(make_pipeline, tmp_path):
    task, store = make_toy("classification")
    threads = set(threading.enumerate())
    limits = {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1}
    for name, images in (("plain", store.images), ("decoding", Decoding(store.images))):
        toy = task, dataclasses.replace(store, images=images)
        train_toy(tmp_path / name, toy, make_pipeline, trainer=limits)
    assert contents(tmp_path / "plain") == contents(tmp_path / "decoding")
    assert set(threading.enumerate()) <= threads


def test_units_of_a_regression_are_those_of_its_training_targets(make_pipeline, tmp_path):
    task, _, record, _ = train_toy(tmp_path, "regression", make_pipeline, trainer={"max_epochs": 1})
    targets = task.targets[task.split("train", 0)].astype(np.float64)
    assert record["target"] == {"mean": targets.mean(), "std": targets.std()}
    assert 1000 < record["target"]["mean"] < 1050


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "regression"])
def test_other_records_have_no_units(kind, make_pipeline, tmp_path):
    assert "target" not in train_toy(tmp_path, kind, make_pipeline, trainer={"max_epochs": 1})[2]


def test_masks_are_augmented_with_their_images(make_pipeline, tmp_path):
    _, _, record, _ = train_toy(tmp_path, "segmentation", make_pipeline, augmentations=TURN)
    assert record["metrics"]["dice"] > 0.9


def test_masks_without_known_pixels_are_no_obstacle(make_pipeline, tmp_path):
    task, store = make_toy("segmentation")
    store.mask_targets(task.classes)[:] = 255
    _, _, record, _ = train_toy(tmp_path, (task, store), make_pipeline, trainer={"max_epochs": 1})
    assert record["score"] == 0
    assert record["metrics"] == {"dice": None, "iou": None, "pixel_accuracy": None}


def test_classes_without_positives_are_no_obstacle(make_pipeline, tmp_path):
    task, store = make_toy("multilabel")
    task.targets[:104, 1] = 0
    loss = {"name": "auto", "class_weights": "auto"}
    record = train_toy(tmp_path, (task, store), make_pipeline, loss=loss, trainer={"max_epochs": 1})[2]
    assert all(value is not None for value in record["metrics"].values())


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"arch": {"name": "resnet10"}},
            r"arch\.name: got 'resnet10', expected one of unet, .* for task type seg",
        ),
        (
            {"arch": {"name": "unet", "channels": [4, 4, 4, 4, 4]}},
            r"preprocessing\.size: got 8 x 8 pixels, expected a multiple of 16 for unet",
        ),
        ({"loss": {"name": "bce"}}, r"loss\.name: got 'bce', expected one of auto, dice_ce, cross_entropy"),
        (
            {"augmentations": {"operations": [{"name": "RandomCrop", "padding": -2, "p": 1.0}]}},
            r"RandomCrop: got arguments that mix the classes of masks",
        ),
    ],
)
def test_what_segmentation_cannot_use_is_told(sections, message, make_pipeline, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train_toy(tmp_path, "segmentation", make_pipeline, **sections)
    assert contents(tmp_path) == {}
