"""Checks of tasks, tags and the datasets that they share, and the records of tasks."""

import pytest

from foldwise.config.definition import TaskRecord
from foldwise.config.model import check_choice, definition_of, pivot_task, tagged_tasks, task_record
from foldwise.errors import ConfigError
from unit.config.loading import load, message

# Datasets


def test_a_definition_needs_a_dataset_that_exists():
    text = message(definitions={"birds": {"n_folds": 3}})
    assert text == (
        "definitions.birds: got 'birds', expected one of digits, digits_segmentation, digits_multilabel, "
        "digits_regression. Set name to a set of source embedded, or source to another."
    )


BIRDS = {"source": "folder", "url": "https://a.org/birds.zip", "sha256": "a" * 64}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"source": "masks"}, "source: got 'masks', expected 'folder'"),
        ({"sha256": "b" * 64}, f"sha256: got '{'b' * 64}', expected '{'a' * 64}'"),
        ({"url": "ftp://a.org/birds.zip"}, "url: got 'ftp://a.org/birds.zip', expected 'https://a.org/birds.zip'"),
        ({"mirrors": ["file:///mnt"]}, "mirrors: got ['file:///mnt'], expected []"),
        ({"on_error": "skip"}, "on_error: got 'skip', expected null"),
        ({"columns": {"image": "file"}}, "columns.image: got 'file', expected 'image'"),
    ],
)
def test_two_definitions_on_one_dataset_must_agree_on_what_is_fetched(change, text):
    definitions = {"birds": BIRDS, "eggs": {**BIRDS, "dataset": "birds", **change}}
    assert message(definitions=definitions) == f"definitions.eggs.{text} as in definition 'birds' of dataset 'birds'."


def test_what_follows_an_address_is_not_shown_where_two_do_not_agree():
    other = {**BIRDS, "dataset": "birds", "url": f"{BIRDS['url']}?key=hunter2"}
    for definitions in ({"birds": BIRDS, "eggs": other}, {"birds": other, "eggs": {**BIRDS, "dataset": "birds"}}):
        text = message(definitions=definitions)
        assert text.startswith("definitions.eggs.url: got 'https://a.org/birds.zip")
        assert "?***" in text
        assert "hunter2" not in text


def test_two_definitions_on_one_dataset_may_see_it_differently():
    other = {**BIRDS, "dataset": "birds", "type": "multilabel", "classes": ["a", "b"], "n_folds": 3, "licence": "CC0"}
    config = load(definitions={"birds": {**BIRDS, "columns": {"image": "image"}}, "eggs": other})
    assert task_record(config, "eggs").dataset == task_record(config, "birds").dataset == "birds"


def test_a_definition_on_an_embedded_set_names_the_one_it_does_not_agree_with():
    text = message(definitions={"birds": {**BIRDS, "dataset": "digits"}})
    assert text.startswith("definitions.birds.source: got 'folder', expected 'embedded' as in definition 'digits' of")


# Tags


def test_tags_of_all_tasks_are_those_of_the_pivot_too():
    config = load(tasks=["digits", "digits_regression"], tagging={"all": "+subset-.50"}, pivot="digits+nested-0")
    assert tagged_tasks(config) == ["digits+subset-0.5", "digits_regression+subset-0.5"]
    assert pivot_task(config) == "digits+subset-.50+nested-0"
    assert pivot_task(load()) == "digits"


def test_variants_multiply_the_tasks():
    tagging = {"all": "+subset-0.5", "variants": ["+identity", "+nested-0-5", ""]}
    config = load(tasks=["digits", "digits_regression"], tagging=tagging)
    assert tagged_tasks(config) == [
        f"{task}+subset-0.5{tags}" for task in config.tasks for tags in ("+identity", "+nested-0", "")
    ]
    assert tagged_tasks(load(tasks=["digits+identity"])) == ["digits+identity"]


@pytest.mark.parametrize(
    ("tagging", "text"),
    [
        ({"all": "nested-0"}, "tagging.all: got 'nested-0', expected tags, each after a `+`."),
        ({"all": "+nest-0"}, "tagging.all: got '+nest-0', expected one of +identity, +nested"),
        ({"all": "+nested-5"}, "tagging.all: got '+nested-5', expected an outer fold from 0 to 4."),
        (
            {"all": "+noise-0.1"},
            "tagging.all: got '+noise-0.1', expected a task of type classification, digits_regression is regression.",
        ),
        ({"variants": ["+identity", "+noise-0.1"]}, "tagging.variants[1]: got '+noise-0.1', expected a task of type"),
        ({"all": "+nested-0-3", "variants": ["+nested-3"]}, "tagging.variants[0]: got '+nested-3', expected an outer"),
        (
            {"variants": ["+subset-.5", "+subset-0.5"]},
            "tagging.variants: got ['+subset-.5', '+subset-0.5'], expected no variant twice, as digits+subset-0.5",
        ),
        ({"variants": "+identity"}, "tagging.variants: got '+identity', expected a list of tags, each after a `+`."),
        ({"every": "+identity"}, "tagging.every: got an unknown key, expected one of all, functions, variants."),
        ({"all": "+identity" * 22}, "tagging.all: got 'digits+identity"),
    ],
)
def test_tags_must_fit_every_task(tagging, text):
    assert message(tasks=["digits", "digits_regression"], pivot=None, tagging=tagging).startswith(text)


def test_a_variant_that_is_a_task_already_would_be_there_twice():
    text = message(tasks=["digits", "digits+identity"], tagging={"variants": ["", "+identity"]})
    assert text.endswith("expected no variant twice, as digits+identity would be.")


@pytest.mark.parametrize(
    ("task", "kinds"),
    [
        ("digits_regression+noise-0.1", "classification, digits_regression is regression"),
        ("digits_multilabel+noise-0.1", "classification, digits_multilabel is multilabel"),
        ("digits_segmentation+noise-1", "classification, digits_segmentation is segmentation"),
        (
            "digits_regression+classes-0.1",
            "classification or multilabel or segmentation, digits_regression is regression",
        ),
        ("digits_regression+identity+classes-0.1", "classification or multilabel or segmentation"),
    ],
)
def test_a_tag_must_fit_the_task_type(task, kinds):
    tag = f"+{task.rpartition('+')[2]}"
    assert message(tasks=[task], pivot=None).startswith(f"tasks[0]: got '{tag}', expected a task of type {kinds}")


@pytest.mark.parametrize("tag", ["identity", "nested-0", "subset-0.5"])
@pytest.mark.parametrize("task", ["digits", "digits_regression", "digits_multilabel", "digits_segmentation"])
def test_other_tags_fit_every_type(task, tag):
    assert task_record(load(tasks=[f"{task}+{tag}"], pivot=None), f"{task}+{tag}").tags == [tag]


# Records


def test_the_record_of_a_task_holds_what_decides_it():
    config = load(create={"n_folds": 4, "seed": 7, "ensure_balancing": False}, tasks=["digits+nested-1-3"])
    assert task_record(config, "digits") == TaskRecord(dataset="digits", n_folds=4, ensure_balancing=False, seed=7)
    record = task_record(config, "digits+nested-1-3")
    assert (record.n_folds, record.tags) == (3, ["nested-1-3"])
    assert task_record(config, "digits+nested-1-4").tags == ["nested-1"]


def test_a_definition_overrides_the_defaults_of_create():
    definitions = {"own": {"dataset": "digits", "n_folds": 3, "ensure_balancing": True}, "other": {"dataset": "digits"}}
    config = load(definitions=definitions, create={"n_folds": 4, "ensure_balancing": False})
    own, other = task_record(config, "own"), task_record(config, "other")
    assert (own.n_folds, own.ensure_balancing, other.n_folds, other.ensure_balancing) == (3, True, 4, False)


@pytest.mark.parametrize("kind", ["segmentation", "multilabel", "regression"])
@pytest.mark.parametrize("balanced", [True, False])
def test_a_task_without_one_class_a_sample_has_no_balancing(kind, balanced):
    definitions = {"own": {"dataset": f"digits_{kind}", "type": kind, "ensure_balancing": balanced}}
    config = load(create={"ensure_balancing": balanced}, definitions=definitions)
    records = task_record(config, "own"), task_record(config, f"digits_{kind}")
    assert [record.ensure_balancing for record in records] == [False, False]
    assert {record.type for record in records} == {kind}


def test_folds_that_the_source_brings_are_as_many_as_declared():
    config = load(definitions={"own": {"dataset": "digits", "folds": 3}}, tasks=["own+nested-2"], pivot=None)
    record = task_record(config, "own")
    assert (record.n_folds, record.given_folds) == (3, True)
    assert task_record(config, "own+nested-2").n_folds == 3
    assert task_record(config, "digits").given_folds is False


def test_the_column_of_images_is_the_datasets_and_the_others_are_the_tasks():
    columns = {"image": "file", "class": "kind", "group": "patient"}
    config = load(definitions={"own": {"source": "table", "path": "a.csv", "columns": columns}})
    assert task_record(config, "own").columns == {"class": "kind", "group": "patient"}


def test_a_task_without_definition_is_named():
    with pytest.raises(ConfigError, match="task: got 'birds', expected one of digits, digits_multilabel"):
        definition_of(load(), "birds")
    with pytest.raises(ConfigError, match="key: got 'b', expected one of a, c"):
        check_choice("key", "b", {"c": 1, "a": 2})
