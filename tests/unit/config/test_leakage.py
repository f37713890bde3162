"""Warnings of what may not be meant: what is tested on what was learned, and backbones that learn nothing."""

import pytest

from foldwise.config.leakage import evaluation_warnings, share_images, training_warnings
from foldwise.config.selection import train_plan
from foldwise.errors import ConfigError
from unit.config.loading import load

SAME = "digits+classes-0.1.2.3.4"
OTHER = "digits+classes-5.6.7.8.9"
DEFINITIONS = {
    "again": {"dataset": "digits"},
    "listed": {"dataset": "digits", "classes": ["zero", "one", "two", "three"]},
    "merged": {"dataset": "digits", "classes": {"low": [0, 1], "high": [8, 9], "3": [3], "5": [5]}},
    "marks": {"dataset": "digits_multilabel", "type": "multilabel"},
}
KNOWN = ["digits", "digits_regression", "digits_multilabel"]


def warnings(asked="train", /, **keys):
    config = load(**{"definitions": DEFINITIONS, "tasks": [*KNOWN, *DEFINITIONS], **keys})
    return training_warnings(config, train_plan(config, asked))


def told_of_tests(**keys):
    config = load(**{"definitions": DEFINITIONS, "tasks": KNOWN, **keys})
    return evaluation_warnings(config, train_plan(config, "test"))


# Images in common


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("digits", "digits_regression"),
        (SAME, OTHER),
        (f"{SAME}+subset-0.1+nested-0", f"{OTHER}+noise-0.5"),
        ("digits+subset-0.5+classes-0.1", "digits+classes-2.3"),
        (f"{SAME}+classes-0.1", f"{OTHER}+classes-0.1"),
        ("listed+classes-zero.one", "listed+classes-2.3"),
        ("again+classes-dog.cat", "again+classes-cow.hen"),
    ],
)
def test_tasks_without_a_common_image(one, other):
    config = load(definitions=DEFINITIONS)
    assert not share_images(config, one, other)
    assert not share_images(config, other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("digits", "digits"),
        ("digits", "digits+nested-0"),
        ("digits", SAME),
        ("digits", "again"),
        (SAME, "digits+classes-4.5"),
        (SAME, OTHER.replace("digits", "again")),
        ("listed+classes-zero.one", "listed+classes-1.2"),
        ("merged+classes-low.3", "merged+classes-0.1"),
        ("again+classes-dog.cat", "again+classes-2.3"),
        ("digits+noise-0.5+classes-0.1", "digits+classes-2.3"),
        ("digits+classes-0.1+own-mine", "digits+classes-2.3"),
        ("marks+classes-0.1", "marks+classes-2.3"),
    ],
)
def test_tasks_that_may_have_images_in_common(one, other):
    config = load(definitions=DEFINITIONS, tagging={"functions": {"mine": "my_tags:mine"}})
    assert share_images(config, one, other)
    assert share_images(config, other, one)


def test_a_class_is_the_one_of_its_name_before_it_is_one_of_an_index():
    config = load(definitions=DEFINITIONS)
    assert share_images(config, "merged+classes-3.low", "merged+classes-3.5")
    assert not share_images(config, "merged+classes-0.1", "merged+classes-3.5")


# What is trained


@pytest.mark.parametrize("mode", ["tl", "predict", "test"])
def test_a_source_with_the_images_of_the_pivot_is_told(mode):
    assert warnings(mode, tl={"pretrain_task": "again"}) == [
        "tl.pretrain_task again has the images of the pivot digits: models that start from it may have learned from "
        "samples that they are tested on."
    ]
    assert warnings(mode, tl={"pretrain_task": "digits_regression"}) == []
    keys = {"tasks": ["digits", SAME, OTHER], "pivot": f"{OTHER}+subset-0.1", "definitions": {}}
    assert warnings(mode, **keys, tl={"pretrain_task": SAME}) == []
    assert len(warnings(mode, **keys, tl={"pretrain_task": "digits"})) == 1


def test_a_source_is_told_where_models_start_from_it():
    assert warnings("train", tl={"pretrain_task": "again"}) == []


def test_a_pivot_that_is_nested_once_more_is_told():
    assert warnings(pivot="digits+nested-0") == [
        "pivot digits+nested-0 is nested already: train.nested: true nests it once more."
    ]
    assert warnings(pivot="digits+nested-0", train={"nested": False}) == []


def test_co_tasks_with_the_images_of_the_pivot_are_told():
    mode = {"multitask": 3, "co_tasks": ["again", "digits_regression"]}
    assert warnings(pipelines={"a": {"mode": mode}, "b": {}}) == [
        "pipeline a: co-tasks have the images of the pivot digits (again): models may have learned from samples that "
        "they are tested on."
    ]
    assert warnings(mode={"multitask": 2, "co_tasks": ["digits_multilabel"]}) == []


def test_co_tasks_are_those_of_the_mode():
    keys = {"tl": {"pretrain_task": "digits_regression", "multitask": 2, "co_tasks": ["again"]}}
    assert [text.partition(":")[0] for text in warnings("tl", **keys)] == ["pipeline default@digits_regression"]
    assert warnings("train", **keys) == []


def test_what_cannot_be_chosen_is_a_mistake():
    with pytest.raises(ConfigError, match=r"pipelines.default.mode.multitask: got 3 with 0 tasks beside the pivot"):
        warnings(mode={"multitask": 3}, tasks=["digits"])


FROZEN = {"optimizer": {"backbone_lr_factor": 0}}


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        (FROZEN, 1),
        ({**FROZEN, "tl": {"pretrain_task": "digits_regression"}}, 1),
        ({**FROZEN, "arch": {"weights": "some.safetensors"}}, 0),
        ({**FROZEN, "arch": {"source": "timm", "pretrained": True}}, 0),
        ({**FROZEN, "arch": {"source": "my:network"}}, 0),
        ({"optimizer": {"backbone_lr_factor": 0.1}}, 0),
    ],
)
def test_a_backbone_that_stays_random_is_told(keys, count):
    found = warnings("tl" if "tl" in keys else "train", **keys)
    start = "pipelines.default.optimizer.backbone_lr_factor: 0 freezes the backbone, and without arch.weights it stays"
    assert [text.startswith(start) for text in found] == [True] * count


def test_a_pipeline_that_is_used_after_transfer_alone_is_told():
    keys = {"pipelines": {"probe": "linear_probe", "plain": {}}, "tl": {"pretrain_task": "digits_regression"}}
    text = "pipeline probe has no weights to start from: it is used as probe@digits_regression alone."
    assert warnings("test", **keys) == [text]
    assert warnings("tl", **keys) == []


# What is tested


def test_the_true_test_split_is_told():
    assert told_of_tests() == []
    assert told_of_tests(train={"nested": False}) == [
        "Testing without nesting touches the test split of digits: use it once, at the end. With train.nested: true "
        "each outer fold is a test split instead."
    ]


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("section", ["train", "test"])
@pytest.mark.parametrize(
    ("pivot", "target"),
    [
        ("digits", "digits"),
        ("digits", "digits+identity"),
        ("digits", "digits+subset-0.5"),
        ("digits+subset-0.1", "digits"),
        ("digits+nested-0", "digits"),
        ("digits+nested-0", "digits+nested-0+noise-0.1"),
        (f"{SAME}+subset-0.1", SAME),
    ],
)
def test_another_name_of_the_test_split_is_told(pivot, target, section, nested):
    keys = {"train": {"nested": nested}} | {section: {"nested": nested, "eval_on": target}}
    assert told_of_tests(pivot=pivot, **keys) == [
        f"{section}.eval_on: testing on {target} touches a test split that is kept for the end: use it once."
    ]


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(
    ("pivot", "target"),
    [
        ("digits", "digits+nested-1"),
        ("digits", "digits+subset-0.5+nested-1"),
        ("digits+nested-0", "digits+nested-1"),
        ("digits+nested-0", "digits+nested-0+nested-1"),
        ("digits", "again"),
    ],
)
def test_a_test_split_that_models_learned_from_is_told(pivot, target, nested):
    assert told_of_tests(pivot=pivot, train={"nested": nested}, test={"eval_on": target}) == [
        f"test.eval_on: images of the pivot {pivot} are in {target}: models may have learned from samples that they "
        "are tested on."
    ]


def test_all_tasks_to_test_on_are_told_of_together():
    found = told_of_tests(
        test={"eval_on": ["digits", "digits+nested-1", "digits+identity", "again", "digits+nested-0"]}
    )
    assert [text.partition(":")[2] for text in found] == [
        " testing on digits, digits+identity touches a test split that is kept for the end: use it once.",
        " images of the pivot digits are in digits+nested-1, again, digits+nested-0: models may have learned from "
        "samples that they are tested on.",
    ]


@pytest.mark.parametrize(
    ("pivot", "target", "cv"),
    [("digits", "digits+nested-0", False), (SAME, OTHER, True), ("digits", "digits_multilabel", True)],
)
def test_what_models_have_not_seen_may_be_tested_on(pivot, target, cv):
    assert told_of_tests(pivot=pivot, train={"cv": cv}, test={"eval_on": target}) == []
