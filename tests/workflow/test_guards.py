"""What would leak a held-out fold, or cannot serve the pivot, ends with the reason before anything starts."""

import pytest

from workflow.conftest import Project
from workflow.shapes import settings, write_shapes
from workflow.test_mistakes import check_message

STOPPING = {"cbs": {"early_stopping": {}}}
PLATEAU = {"lr_scheduler": {"name": "plateau"}}
LEAK = ["The held-out fold that decides this is also what the model is reported on", "Set train.nested: true"]
UNET = {"arch": {"name": "unet"}}


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A project without data."""
    project = Project(tmp_path_factory.mktemp("guards") / "work")
    write_shapes(project.folder)
    return project


MISTAKES = {
    "a schedule that looks at the held-out fold": (
        "train",
        PLATEAU,
        {"train": {"nested": False}},
        ["pipelines.b.lr_scheduler.monitor: got 'val_loss', expected train_loss with train.cv", *LEAK],
    ),
    "stopping by the held-out fold": (
        "train",
        {"cbs": {"early_stopping": {"monitor": "accuracy"}}},
        {"train": {"nested": False}},
        ["pipelines.b.cbs.early_stopping.monitor: got 'accuracy', expected train_loss with train.cv", *LEAK],
    ),
    "a mode that is not nested": (
        "predict",
        STOPPING,
        {"predict": {"nested": False}},
        ["pipelines.b.cbs.early_stopping.monitor: got 'val_loss'", LEAK[0]],
    ),
    "a metric of another type": (
        "train",
        {"cbs": {"early_stopping": {"monitor": "dice"}}},
        {},
        ["pipelines.b.cbs.early_stopping.monitor: got 'dice'", "for task type classification"],
    ),
    "a loss of another type": (
        "train",
        {"loss": {"name": "bce"}},
        {},
        ["pipelines.b.loss.name: got 'bce', expected one of auto, cross_entropy, focal for task type classification"],
    ),
    "classes to draw where there are none": (
        "train",
        {"sampling": {"balanced": True}},
        {"pivot": "sizes"},
        ["pipelines.b.sampling.balanced: got true, expected false for task type regression"],
    ),
    "a network without a map": (
        "train",
        {"arch": {"name": "resnet10"}},
        {"pivot": "outlines", "pipelines": {"a": UNET}},
        ["pipelines.b.arch.name: got 'resnet10', expected one of unet", "for task type segmentation"],
    ),
    "mixed masks": (
        "train",
        {**UNET, "cbs": {"mixup": {}}},
        {"pivot": "outlines", "pipelines": {"a": UNET}},
        ["pipelines.b.cbs.mixup: got", "expected null for task type segmentation"],
    ),
    "pasted numbers": (
        "train",
        {"cbs": {"cutmix": {}}},
        {"pivot": "sizes"},
        ["pipelines.b.cbs.cutmix: got", "expected null for task type regression"],
    ),
    "crops of masks": (
        "train",
        {**UNET, "tta": "crop"},
        {"pivot": "outlines", "pipelines": {"a": UNET}},
        ["pipelines.b.tta.variations: got 'crop_center', expected variations that keep all pixels"],
    ),
    "another preprocessing than that of the model": (
        "predict",
        {},
        {"predict": {"preprocessing": {"size": 64}}},
        ["predict.preprocessing: got an unknown key"],
    ),
    "other models than those that are trained": (
        "test",
        {},
        {"test": {"store_best": False}},
        ["test.store_best: got false, expected true as in pipelines.a.mode.store_best", "set train.store_best"],
    ),
    "no weights to predict with": (
        "train",
        {},
        {"train": {"store_parameters": False, "subroutines": ["train", "predict"]}},
        ["train.store_parameters: got false, expected true with subroutines predict or test"],
    ),
    "a resource as a setting": ("train", {"trainer": {"devices": 2}}, {}, ["trainer.devices: got 2", "in a profile"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(planned, name):
    mode, recipe, changes, parts = MISTAKES[name]
    pipelines = {**changes.get("pipelines", {"a": {}}), "b": recipe}
    planned.configure(settings(**{**changes, "pipelines": pipelines}))
    result = planned.run(mode, "-n")
    check_message(result, *parts)
    assert len(result.errors) == 1
    assert len(result.errors[0]) < 300


@pytest.mark.parametrize(
    "train",
    [
        {"nested": True},
        {"nested": False, "cv": False},
        {"nested": False, "pipelines": ["a"]},
        {"nested": False, "subroutines": ["train"], "pipelines": ["watched"]},
    ],
    ids=["nested", "no cross-validation", "a pipeline that is not used", "the training loss"],
)
def test_what_leaks_nothing(planned, train):
    watched = {
        "cbs": {"early_stopping": {"monitor": "train_loss"}},
        "lr_scheduler": {"name": "plateau", "monitor": "train_loss"},
    }
    planned.configure(settings(pipelines={"a": {}, "b": {**STOPPING, **PLATEAU}, "watched": watched}, train=train))
    assert planned.dry_run("train").jobs["train_fold"]


def test_guards_are_for_modes_that_train(planned):
    planned.configure(settings(pipelines={"b": STOPPING}, train={"nested": False}))
    assert planned.dry_run("create", "pp").jobs["create_task"] == 5
