"""Which artifacts the modes ask for."""

from dataclasses import replace

import pytest

from foldwise.config.checks import check_recipes
from foldwise.config.load import load_config
from foldwise.config.losses import LOSSES, LossChoice
from foldwise.config.names import TaskName, parse_task
from foldwise.config.section import nested_sections, tag_words
from foldwise.config.selection import (
    Model,
    Prediction,
    base_tasks,
    co_tasks,
    models,
    predictions,
    preprocessed_tasks,
    scores,
    source_plan,
    source_recipe,
    train_plan,
    with_weights,
)
from foldwise.errors import ConfigError
from unit.config.loading import LIBRARY


def load(**keys):
    return load_config({"create__n_folds": 3, **keys}, LIBRARY)


def plan(mode="train", **keys):
    return train_plan(load(**keys), mode)


def predicted(made):
    return list(predictions(made, models(made)))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"cv": True, "nested": False}, [("digits", 0), ("digits", 1), ("digits", 2)]),
        ({"cv": False, "nested": False}, [("digits", 0)]),
        ({"cv": False, "nested": False, "inner_folds": "all"}, [("digits", 0)]),
        (
            {"cv": True, "nested": True},
            [("digits+nested-0", 0), ("digits+nested-1", 0), ("digits+nested-2", 0)],
        ),
        ({"cv": False, "nested": True}, [("digits+nested-0", 0)]),
        (
            {"cv": False, "nested": True, "inner_folds": "all"},
            [("digits+nested-0", 0), ("digits+nested-0", 1), ("digits+nested-0", 2)],
        ),
        (
            {"cv": True, "nested": True, "inner_folds": "all"},
            [(f"digits+nested-{outer}", inner) for outer in range(3) for inner in range(3)],
        ),
    ],
)
def test_models(keys, expected):
    assert list(models(plan(train=keys))) == [Model("default", task, fold) for task, fold in expected]


def test_every_pipeline_has_its_models():
    keys = {"pipelines": {"a": {}, "b": {}, "c": {}}, "train__cv": False, "train__nested": False}
    assert [model.pipeline for model in models(plan(**keys))] == ["a", "b", "c"]
    assert [model.pipeline for model in models(plan(**keys, train__pipelines=["c", "a"]))] == ["c", "a"]
    assert list(models(plan(**keys, train__pipelines=[]))) == []


def test_a_model_predicts_its_own_task():
    found = predicted(plan(train={"nested": False}))
    assert found == [Prediction("default", "digits", fold, "digits") for fold in range(3)]


def test_a_nested_model_predicts_its_own_variant_and_the_pivot():
    found = predicted(plan(train={"cv": False, "inner_folds": "all"}))
    targets = [(fold, target) for fold in range(3) for target in ("digits+nested-0", "digits")]
    assert found == [Prediction("default", "digits+nested-0", fold, target) for fold, target in targets]


@pytest.mark.parametrize("nested", [True, False])
def test_every_model_is_scored_once_on_its_own_task(nested):
    made = plan(train={"nested": nested})
    found = list(scores(made, models(made)))
    assert [tuple(score[:3]) for score in found] == [tuple(model) for model in models(made)]
    assert all(score.target == score.task for score in found)
    assert set(found) <= set(predicted(made))


def test_variants_of_the_pivot_decide_the_number_of_folds():
    assert [model.fold for model in models(plan(pivot="digits+nested-1-2", train={"nested": False}))] == [0, 1]
    tasks = [model.task for model in models(plan(pivot="digits+nested-1-2"))]
    assert tasks == ["digits+nested-1-2+nested-0", "digits+nested-1-2+nested-1"]


def test_a_pivot_has_its_canonical_name():
    assert str(plan(pivot="digits+nested-1-3").pivot) == "digits+nested-1"
    assert {model.task for model in models(plan(pivot="digits+identity", train={"nested": False}))} == {
        "digits+identity"
    }


@pytest.mark.parametrize("mode", ["predict", "test"])
def test_a_mode_takes_its_own_keys_and_else_those_of_train(mode):
    train = {"cv": False, "nested": False, "inner_folds": "all", "pipelines": ["a"]}
    keys = {"pipelines": {"a": {}, "b": {}}, "train": train}
    assert replace(plan(mode, **keys), mode="train") == plan("train", **keys)
    own = plan(mode, **keys, **{mode: {"cv": True, "nested": True, "inner_folds": "first", "pipelines": ["b"]}})
    assert (own.cv, own.nested, own.inner_folds, own.pipelines) == (True, True, "first", ("b",))
    assert plan("train", **keys, **{mode: {"cv": True}}).cv is False


@pytest.mark.parametrize("mode", ["train", "predict", "test"])
def test_without_a_pivot_there_is_nothing_to_train(mode):
    with pytest.raises(ConfigError, match=f"pivot: got nothing, expected a task of digits. Mode {mode} works on one"):
        plan(mode, pivot=None)


def test_the_tags_of_all_tasks_come_before_those_of_the_pivot():
    made = plan(tagging={"all": "+subset-.5"}, pivot="digits+identity", train={"cv": False})
    assert str(made.pivot) == "digits+subset-0.5+identity"
    assert [model.task for model in models(made)] == ["digits+subset-0.5+identity+nested-0"]


def test_a_pivot_whose_variants_have_too_long_a_name_cannot_be_nested():
    pivot = "digits" + "+identity" * 21
    assert str(plan(pivot=pivot, train={"nested": False}).pivot) == pivot
    with pytest.raises(ConfigError, match=r"pivot: got 'digits\+identity.*at most 200 characters with all tags"):
        plan(pivot=pivot)


def test_modes_that_need_weights_need_them_stored():
    stored, lost = plan("predict"), plan("predict", train={"store_parameters": False})
    assert with_weights(stored, "predict") is stored
    with pytest.raises(ConfigError, match=r"train\.store_parameters: got false, expected true\. Mode predict needs"):
        with_weights(lost, "predict")


def test_tensors_are_made_for_the_pivot_or_for_all():
    definitions = {"other": {"dataset": "digits"}}
    tasks = ["digits+nested-0", "other"]
    assert preprocessed_tasks(load(definitions=definitions, tasks=tasks, pivot="other+identity")) == ["other"]
    assert preprocessed_tasks(load(definitions=definitions, tasks=tasks, pivot=None)) == ["digits", "other"]


def test_the_bases_of_tasks_are_created_each_once():
    definitions = {"other": {"dataset": "digits"}}
    tasks = ["digits+nested-0", "digits", "other", "digits+identity"]
    assert base_tasks(load(definitions=definitions, tasks=tasks)) == ["digits", "other"]


# Recipes


NAMED = {name: {} if name == "auto" else {"name": name} for names in LOSSES.values() for name in names}


def check(task, mode="train", **recipe):
    config = load(tasks=[task], pivot=task, pipelines={"good": {"arch": {"name": "unet"}}, "odd": recipe})
    check_recipes(config, train_plan(config, mode), mode)


@pytest.mark.parametrize("loss", NAMED)
@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_must_fit_the_task_type(kind, loss):
    task = "digits" if kind == "classification" else f"digits_{kind}"
    recipe = {"loss": NAMED[loss], "arch": {"name": "segresnet"} if kind == "segmentation" else {}}
    if loss in LOSSES[kind]:
        assert check(task, **recipe) is None
    else:
        with pytest.raises(ConfigError) as caught:
            check(task, **recipe)
        accepted = ", ".join(LOSSES[kind])
        assert caught.value.message == (
            f"pipelines.odd.loss.name: got '{loss}', expected one of {accepted} for task type {kind}."
        )


def test_every_loss_fits_some_type():
    losses = [word for kind in nested_sections(LossChoice) for word in tag_words(kind)]
    assert set(losses) == set(NAMED)


def test_a_network_must_fit_the_task_type():
    expected = r"pipelines\.odd\.arch\.name: got 'resnet18', expected one of unet, .*segresnet.* for task type segm"
    with pytest.raises(ConfigError, match=expected):
        check("digits_segmentation")
    assert check("digits_segmentation", arch={"name": "unet"}) is None
    assert check("digits_regression", arch={"name": "densenet121"}) is None


@pytest.mark.parametrize("task", ["digits_multilabel", "digits_regression", "digits_segmentation"])
def test_only_one_class_a_sample_can_be_drawn_equally_often(task):
    kind = task.partition("_")[2]
    with pytest.raises(ConfigError, match=rf"odd\.sampling\.balanced: got true, expected false for task type {kind}"):
        check(task, sampling={"balanced": True}, arch={"name": "unet"})
    assert check("digits", sampling={"balanced": True}) is None


def test_only_pipelines_that_are_used_are_checked():
    keys = {"tasks": ["digits_regression"], "pivot": "digits_regression", "loss": {"name": "huber"}}
    config = load(**keys, pipelines={"a": {}, "b": {"loss": {"name": "bce"}}}, train={"pipelines": ["a"]})
    assert check_recipes(config, train_plan(config, "train"), "train") is None


@pytest.mark.parametrize("mode", ["train", "predict", "test"])
def test_images_without_labels_teach_nothing(mode):
    definitions = {"plain": {"source": "folder", "path": "images", "type": "unlabeled"}}
    config = load(definitions=definitions, tasks=["plain"], pivot="plain")
    with pytest.raises(ConfigError) as caught:
        check_recipes(config, train_plan(config, mode), mode)
    assert caught.value.message == f"pivot: got 'plain', expected a task with labels for mode {mode}. plain has none."


# Evaluation elsewhere, transfer


def test_models_are_predicted_and_scored_on_other_tasks_instead():
    made = plan("test", tasks=["digits"], test={"eval_on": ["digits+subset-.5", "digits_regression"]}, train__cv=False)
    targets = [prediction.target for prediction in predicted(made)]
    assert targets == ["digits+subset-0.5", "digits_regression"]
    assert [score.target for score in scores(made, models(made))] == targets


def test_models_of_transfer_join_those_of_predict_and_test():
    keys = {"tasks": ["digits", "digits_regression"], "tl": {"pretrain_task": "digits_regression"}}
    assert plan("train", **keys).pipelines == ("default",)
    assert plan("tl", **keys).pipelines == ("default@digits_regression",)
    assert plan("predict", **keys).pipelines == ("default", "default@digits_regression")
    assert plan("test").pipelines == ("default",)


def test_transfer_starts_from_the_models_that_train_would_make_there():
    keys = {"tasks": ["digits", "digits_regression"], "tl": {"pretrain_task": "digits_regression", "cv": False}}
    assert list(models(source_plan(load(**keys), "default"))) == [Model("default", "digits_regression+nested-0", 0)]
    keys["tl"]["nested"] = False
    assert list(models(source_plan(load(**keys), "default"))) == [Model("default", "digits_regression", 0)]


PROBE = {"tasks": ["digits", "digits_regression"], "pipelines": {"probe": "linear_probe", "plain": {}}}


def test_what_can_only_start_from_other_models_has_no_models_of_its_own_beside_those_of_transfer():
    keys = {**PROBE, "tl": {"pretrain_task": "digits_regression"}}
    assert plan("test", **keys).pipelines == ("plain", "probe@digits_regression", "plain@digits_regression")
    assert plan("train", **keys).pipelines == plan("test", **PROBE).pipelines == ("probe", "plain")


@pytest.mark.parametrize("preset", ["linear_probe", "fine_tune"])
def test_models_to_start_from_are_trained_without_what_only_serves_to_start_from_weights(preset):
    recipe = load(pipelines={"a": {"preset": preset, "peft": "lora"}} if preset == "fine_tune" else {"a": preset})
    recipe = recipe.pipelines["a"]
    made = source_recipe(recipe)
    assert (made.augmentations.normalization, made.optimizer.backbone_lr_factor, made.peft.lora) == ("task", 1.0, None)
    changed = {"augmentations", "optimizer", "peft"}
    assert made.model_dump(exclude=changed) == recipe.model_dump(exclude=changed)
    assert made.augmentations.operations == recipe.augmentations.operations
    assert made.optimizer.lr == recipe.optimizer.lr


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"optimizer": {"backbone_lr_factor": 0.0}},
        {"preset": "linear_probe", "arch": {"weights": "some.safetensors"}},
        {"preset": "linear_probe", "arch": {"source": "timm", "pretrained": True}},
        {"preset": "linear_probe", "augmentations": {"normalization": "imagenet"}},
    ],
)
def test_a_recipe_that_can_be_trained_by_itself_is_that_of_models_to_start_from(sections):
    recipe = load(pipelines={"a": sections}).pipelines["a"]
    assert source_recipe(recipe) is recipe


def test_transfer_needs_a_task_to_start_from():
    with pytest.raises(ConfigError, match=r"tl.pretrain_task: got nothing, expected a task of digits_regression"):
        plan("tl", tasks=["digits", "digits_regression"])


# Co-tasks


MANY = ["digits", "digits+identity", "digits_regression", "digits_multilabel", "digits_segmentation"]


def learned_beside(tasks=MANY, seed=42, **mode):
    config = load(tasks=tasks, mode=mode, seed=seed)
    return co_tasks(config, config.pipelines["default"], TaskName("digits"), "pipelines.default.mode")


def test_one_task_is_learned_alone():
    assert learned_beside() == []


def test_random_co_tasks_are_never_the_pivot_or_a_variant_of_it():
    assert sorted(learned_beside(multitask=4)) == sorted(MANY[2:])
    text = "mode.multitask: got 5 with 3 tasks beside the pivot, expected at most 4"
    with pytest.raises(ConfigError, match=text):
        learned_beside(multitask=5)


def test_random_co_tasks_depend_on_seed_and_names_alone():
    one = learned_beside(multitask=2)
    assert learned_beside(multitask=2, tasks=MANY[::-1]) == one
    assert learned_beside(multitask=2, tasks=["digits", *one]) == one
    assert len({*(learned_beside(multitask=2, seed=seed)[0] for seed in range(20))}) == 3


def test_co_tasks_may_be_listed():
    assert learned_beside(multitask=3, co_tasks=MANY[2:4]) == MANY[2:4]


@pytest.mark.parametrize(
    ("task", "co_task", "role"),
    [
        ("digits+nested-0", "digits+identity", "the pivot digits"),
        ("digits_regression+nested-1", "digits_regression", "tl.pretrain_task digits_regression"),
    ],
)
def test_a_co_task_must_not_be_what_is_learned_itself(task, co_task, role):
    config = load(tasks=MANY, mode={"multitask": 2, "co_tasks": [co_task]}, tl={"pretrain_task": "digits_regression"})
    with pytest.raises(ConfigError) as caught:
        co_tasks(config, config.pipelines["default"], parse_task(task, "task"), "pipelines.default.mode")
    assert caught.value.message == (
        f"pipelines.default.mode.co_tasks: got '{co_task}', expected tasks other than {role} and its variants."
    )


@pytest.mark.parametrize(
    ("section", "keys", "place"),
    [
        ("train", {"multitask": 2, "co_tasks": ["digits"]}, "train.co_tasks"),
        ("train", {"multitask": 9}, "train.multitask"),
        ("mode", {"multitask": 9}, "pipelines.default.mode.multitask"),
    ],
)
def test_what_is_wrong_with_co_tasks_is_told_where_it_was_set(section, keys, place):
    config = load(tasks=MANY, **{section: keys})
    with pytest.raises(ConfigError) as caught:
        co_tasks(config, config.pipelines["default"], TaskName("digits"), "pipelines.default.mode")
    assert caught.value.where == place
