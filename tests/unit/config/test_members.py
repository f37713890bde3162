"""What mode post refuses and warns of, and what an ensemble gives a weight."""

import pytest

from foldwise.config.members import Member, check_post, members_of, post_warnings
from foldwise.config.selection import Model, models, train_plan
from foldwise.errors import ConfigError
from unit.config.loading import load

DEFINITIONS = {
    "again": {"dataset": "digits"},
    "few": {"dataset": "digits", "classes": ["zero", "one", "two"]},
    "rare": {"dataset": "digits_multilabel", "type": "multilabel", "classes": ["odd", "round"]},
}
KNOWN = ["digits", "digits_regression", "digits_multilabel", "digits_segmentation", *DEFINITIONS]
VAL = {"selection": "val", "subroutines": ["ensemble"]}


def asked(post=None, **keys):
    config = load({"tasks": KNOWN, "definitions": DEFINITIONS, "create": {"n_folds": 3}, "post": post or {}}, **keys)
    return config, train_plan(config, "post")


def refusal(post, **keys):
    with pytest.raises(ConfigError) as caught:
        check_post(*asked(post, **keys))
    return caught.value.message


@pytest.mark.parametrize("kind", ["regression", "segmentation"])
def test_logits_of_some_task_types_cannot_be_calibrated(kind):
    text = refusal({}, pivot=f"digits_{kind}")
    assert text == (
        "post.subroutines: got ['calibrate', 'ensemble'], expected [ensemble], as logits of task type "
        f"{kind} cannot be calibrated. Its ensemble takes raw logits."
    )
    assert check_post(*asked({"subroutines": ["ensemble"]}, pivot=f"digits_{kind}")) is None


@pytest.mark.parametrize("pivot", ["digits", "digits_multilabel"])
def test_those_of_others_can(pivot):
    assert check_post(*asked(pivot=pivot)) is None


@pytest.mark.parametrize("pivot", ["few", "few+nested-1", "few+subset-0.5"])
def test_a_prior_has_a_number_a_class(pivot):
    expected = "post.prior: got [0.5, 0.5], expected 3 numbers, one for each of zero, one, two"
    assert refusal({"prior": [0.5, 0.5]}, pivot=pivot).startswith(expected)
    assert check_post(*asked({"prior": [2, 1, 0]}, pivot=pivot)) is None


@pytest.mark.parametrize("pivot", ["digits", "digits+classes-0.1"])
def test_the_number_of_classes_that_are_not_declared_is_open(pivot):
    assert check_post(*asked({"prior": [0.5, 0.5]}, pivot=pivot)) is None


@pytest.mark.parametrize("prior", [[0, 0], []])
def test_a_class_is_possible(prior):
    assert refusal({"prior": prior}).endswith("expected a number above 0 for some class.")


def test_classes_of_a_multi_label_task_have_a_share_each():
    text = refusal({"prior": [0.5, 2]}, pivot="rare")
    assert text.startswith("post.prior: got [0.5, 2.0], expected shares of at most 1, as each class of task type multi")
    assert check_post(*asked({"prior": [1, 1]}, pivot="rare")) is None
    assert check_post(*asked({"prior": [0, 0]}, pivot="rare")) is None


@pytest.mark.parametrize(
    ("train", "post", "got"),
    [
        ({}, {}, "train.nested: true"),
        ({"nested": False}, {"nested": True}, "post.nested: true"),
        ({"nested": False, "cv": False}, {}, "train.cv: false"),
        ({"nested": False}, {"cv": False}, "post.cv: false"),
    ],
)
def test_validation_selects_where_every_sample_is_held_out_once(train, post, got):
    text = refusal({**VAL, **post}, train=train)
    assert text.startswith(
        f"post.selection: got {got}, expected cv: true and nested: false with post.selection: val. Every sample"
    )


def test_validation_may_select_without_nesting():
    assert check_post(*asked(VAL, train={"nested": False})) is None
    assert check_post(*asked({**VAL, "nested": False})) is None


def test_what_selects_is_of_no_interest_without_an_ensemble():
    assert check_post(*asked({**VAL, "subroutines": ["calibrate"]})) is None


@pytest.mark.parametrize("nested", [True, False])
def test_the_test_split_is_touched_by_nested_models_too(nested):
    expected = "mode post touches the test split of digits, nested or not: use it once, at the end."
    assert post_warnings(*asked({"nested": nested})) == [expected]


def test_other_tasks_have_warnings_of_their_own():
    (text,) = post_warnings(*asked({"eval_on": "again"}))
    assert text.startswith("post.eval_on: images of the pivot digits are in again")


def test_where_test_samples_select_members_are_models():
    _, plan = asked(pipelines={"a": {}}, train={"inner_folds": "all", "cv": False})
    expected = [Member(f"a/digits+nested-0/fold-{fold}", (Model("a", "digits+nested-0", fold),)) for fold in range(3)]
    assert members_of(plan, "test", models(plan)) == expected


def folds(pipeline, places):
    return [Model(pipeline, "digits", fold) for fold in places]


def test_where_validation_selects_members_are_pipelines():
    _, plan = asked(pipelines={"a": {}, "b": {}}, train={"nested": False})
    other = folds("other~a", [2, 0, 1])
    found = members_of(plan, "val", [*models(plan), *other])
    assert found == [
        Member("a", tuple(folds("a", range(3)))),
        Member("b", tuple(folds("b", range(3)))),
        Member("other~a", tuple(other)),
    ]


def test_a_pipeline_of_another_project_has_all_folds():
    _, plan = asked(train={"nested": False})
    with pytest.raises(ConfigError) as caught:
        members_of(plan, "val", [*models(plan), *folds("other~a", [2, 0])])
    assert caught.value.message == (
        "reuse.models: got folds 0, 2 of other~a, expected all 3 folds with post.selection: val. "
        "Train the others there, or leave the project out."
    )
