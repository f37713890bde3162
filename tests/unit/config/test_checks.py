"""Leakage guards and what a recipe must be able to serve."""

import pytest

from foldwise.config.checks import check_co_tasks, check_recipes, network_of
from foldwise.config.model import task_record
from foldwise.config.selection import train_plan
from foldwise.errors import ConfigError
from unit.config.loading import load, recipe

STOPPING = {"cbs": {"early_stopping": {}}}
PLATEAU = {"lr_scheduler": {"name": "plateau"}}


def check(mode="train", **keys):
    config = load(**keys)
    check_recipes(config, train_plan(config, mode), mode)


def refusal(mode="train", **keys):
    with pytest.raises(ConfigError) as caught:
        check(mode, **keys)
    return caught.value.message


@pytest.mark.parametrize(
    ("section", "key"),
    [(STOPPING, "cbs.early_stopping.monitor"), (PLATEAU, "lr_scheduler.monitor")],
)
def test_a_held_out_fold_that_is_reported_must_not_decide(section, key):
    text = refusal(**section, train={"nested": False})
    assert text.startswith(f"pipelines.default.{key}: got 'val_loss', expected train_loss with train.cv. The held-out")
    assert "Set train.nested: true" in text


@pytest.mark.parametrize("train", [{"nested": True}, {"nested": False, "cv": False}])
@pytest.mark.parametrize("section", [STOPPING, PLATEAU])
def test_it_may_decide_where_it_is_not_reported(section, train):
    assert check(**section, train=train) is None


def test_a_validation_metric_leaks_like_the_validation_loss():
    keys = {"cbs": {"early_stopping": {"monitor": "accuracy"}}, "train": {"nested": False}}
    assert "got 'accuracy', expected train_loss" in refusal(**keys)


@pytest.mark.parametrize(
    "section",
    [
        {"cbs": {"early_stopping": {"monitor": "train_loss"}}},
        {"lr_scheduler": {"name": "plateau", "monitor": "train_loss"}},
    ],
)
def test_the_training_loss_may_always_decide(section):
    assert check(**section, train={"nested": False}) is None


def test_a_mode_with_a_plan_of_its_own_has_its_own_guard():
    assert check("train", **STOPPING, predict={"nested": False}) is None
    assert "expected train_loss" in refusal("predict", **STOPPING, predict={"nested": False})


@pytest.mark.parametrize(
    ("task", "cbs", "text"),
    [
        ("digits_segmentation", {"mixup": {}}, "cbs.mixup: got a mapping, expected null for task type segmentation"),
        ("digits_segmentation", {"cutmix": {}}, "cbs.cutmix: got a mapping, expected null for task type segmentation"),
        ("digits_regression", {"cutmix": {}}, "cbs.cutmix: got a mapping, expected null for task type regression"),
        ("digits_regression", {"early_stopping": {"monitor": "accuracy"}}, "expected one of val_loss, train_loss, r2"),
    ],
)
def test_callbacks_must_fit_the_task_type(task, cbs, text):
    assert text in refusal(tasks=[task], pivot=task, cbs=cbs, arch={"name": "unet"})


def test_variations_of_maps_must_not_lose_pixels():
    keys = {"tasks": ["digits_segmentation"], "pivot": "digits_segmentation", "arch": {"name": "unet"}}
    text = refusal(**keys, tta=["crop_center"])
    assert "tta.variations: got 'crop_center', expected variations that keep all" in text
    assert check(**keys, tta=["hflip"]) is None
    assert check(tta=["crop_center"]) is None


# Starts


def test_a_pipeline_that_needs_weights_cannot_be_trained_by_itself():
    keys = {"pipelines": {"probe": "linear_probe"}, "tasks": ["digits", "digits_regression"]}
    for mode in ("train", "predict", "test"):
        assert refusal(mode, **keys) == (
            "pipelines.probe.augmentations.normalization: got 'pretraining', expected imagenet, task or null, as there "
            "are no weights to start from. Set arch.weights, or arch.pretrained with a network of timm; or use it in "
            "mode tl alone."
        )
    assert check(**keys, arch={"weights": "some.safetensors"}) is None
    for mode in ("tl", "predict", "test"):
        assert check(mode, **keys, tl={"pretrain_task": "digits_regression"}) is None
    assert "got 'pretraining'" in refusal(**keys, tl={"pretrain_task": "digits_regression"})


@pytest.mark.parametrize(
    ("pivot", "source", "sections", "text"),
    [
        (
            "digits",
            "digits_regression",
            {"loss": {"name": "focal"}},
            "loss.name: got 'focal', expected one of auto, hub",
        ),
        ("digits", "digits_segmentation", {}, "arch.name: got 'resnet18', expected one of unet"),
        (
            "digits",
            "digits_regression",
            {"cbs": {"early_stopping": {"monitor": "accuracy"}}},
            "cbs.early_stopping.monitor: got 'accuracy', expected one of val_loss, train_loss, r2",
        ),
    ],
)
def test_a_recipe_must_serve_the_task_that_transfer_starts_from(pivot, source, sections, text):
    text_told = refusal("tl", pivot=pivot, tasks=[pivot, source], tl={"pretrain_task": source}, **sections)
    assert text_told.startswith(f"pipelines.default.{text}")
    assert text_told.endswith(f"Models of tl.pretrain_task {source} are trained with it, too.")
    assert check("train", pivot=pivot, tasks=[pivot, source], tl={"pretrain_task": source}, **sections) is None


def test_what_no_model_can_be_trained_on_cannot_be_started_from():
    definitions = {"plain": {"source": "folder", "path": "images", "type": "unlabeled"}}
    text = refusal("tl", definitions=definitions, tasks=["digits", "plain"], tl={"pretrain_task": "plain"})
    assert text == "tl.pretrain_task: got 'plain', expected a task with labels. plain has none."


def test_what_differs_on_a_source_and_hurts_nobody_is_accepted():
    keys = {"tasks": ["digits", "digits_regression"], "tl": {"pretrain_task": "digits_regression"}}
    assert check("tl", **keys, sampling={"balanced": True}, cbs={"cutmix": {}}) is None


# Evaluation elsewhere


DEFINITIONS = {
    "two": {"dataset": "digits", "classes": ["0", "1"]},
    "pair": {"dataset": "digits", "classes": ["2", "3"]},
    "three": {"dataset": "digits", "classes": ["0", "1", "2"]},
}


def test_a_task_to_test_on_must_have_the_type_of_the_pivot():
    text = refusal(train={"eval_on": "digits_regression"})
    assert text.startswith(
        "train.eval_on: got 'digits_regression', expected a task of type classification, as the pivot digits has; "
        "digits_regression is regression."
    )


def test_a_task_to_test_on_must_have_as_many_classes_as_the_pivot():
    keys = {"definitions": DEFINITIONS, "tasks": ["two"], "pivot": "two"}
    text = refusal(**keys, train={"eval_on": ["pair", "three"]})
    assert "got 'three with classes 0, 1, 2', expected the 2 classes of two: 0, 1." in text
    assert check(**keys, train={"eval_on": "pair"}) is None
    assert check(**keys, train={"eval_on": "three+classes-0.1"}) is None  # known when it is made


def test_a_task_to_test_on_is_told_where_it_was_set():
    assert refusal("test", train={"eval_on": "digits_regression"}).startswith("train.eval_on: got 'digits_regression'")
    assert refusal("test", test={"eval_on": ["digits_regression"]}).startswith("test.eval_on: got 'digits_regression'")


# Co-tasks


@pytest.mark.parametrize(("name", "fits"), [("unet", True), ("resnet18", False)])
def test_a_backbone_must_serve_all_co_tasks(name, fits):
    records = {"digits_segmentation": task_record(load(), "digits_segmentation")}
    if fits:
        assert check_co_tasks(recipe(arch={"name": name}), records, "pipelines.default") is None
        return
    with pytest.raises(ConfigError, match=r"arch.name: got 'resnet18', .* The co-task digits_segmentation needs it"):
        check_co_tasks(recipe(arch={"name": name}), records, "pipelines.default")


# Networks


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"dropout": 0.5, "weights": "a.safetensors"}, True),
        ({"name": "resnet34"}, False),
        ({"conv1_t_size": 3}, False),
        ({"source": "timm", "name": "resnet18"}, False),
    ],
)
def test_what_makes_networks_the_same(other, same):
    assert (network_of(recipe().arch) == network_of(recipe(arch=other).arch)) is same
