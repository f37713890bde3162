"""Slices of the configuration that jobs get: what decides their outputs and nothing else."""

import json
from pathlib import Path

import pytest

from foldwise.config import jobs
from foldwise.config.load import Library, load_config
from foldwise.errors import ConfigError

LIBRARY = Library.read(Path(__file__).parents[3] / "config")
DEFINITIONS = {
    "tenfold": {"dataset": "digits", "n_folds": 10, "licence": "mine", "keywords": ["ten"]},
    "other": {"dataset": "digits", "licence": "other"},
}


def load(raw=None, **keys):
    return load_config({**(raw or {}), **keys}, LIBRARY)


def train_text(raw=None, pipeline="default", task="digits", **keys):
    return jobs.slice_json(jobs.train_config(load(raw, **keys), pipeline, task))


def test_with_defaults_a_slice_holds_only_what_must_be_there():
    assert train_text() == '{"task":{"dataset":"digits"},"tensors":{"dataset":"digits"}}'


SAME = [
    {"seed": 42, "optimizer": {"lr": 5e-4, "name": "adamw"}},
    {"optimizer": {"name": "adamw", "lr": "5e-4"}, "seed": "42"},
    {"project": "other", "results_dir": "elsewhere", "data_dir": "there"},
    {"metrics": {"classification": ["f1"]}},
    {"train": {"cv": False, "nested": False, "inner_folds": "all", "subroutines": ["predict"]}},
    {"predict": {"cv": False}, "test": {"pipelines": ["default"]}},
    {"tasks": ["digits", "digits+identity"], "pivot": None},
    {"train": {"store_best": True}},
    {"pipelines": {"other": {"arch": "small"}, "default": {}}},
    {"definitions": {"digits": {"licence": "none", "keywords": ["a"]}}},
    {"augmentations": "default"},
]
DIFFERENT = [
    {"seed": 43},
    {"create": {"n_folds": 4}},
    {"create": {"seed": 1}},
    {"create": {"ensure_balancing": False}},
    {"preprocessing": {"size": 64}},
    {"preprocessing": {"id": "mine"}},  # the record of a model names the folder of its tensors
    {"train": {"store_parameters": False}},
    {"train": {"store_best": False}},
    {"mode": {"store_best": False}},
    {"optimizer": {"lr": 1e-3}},
    {"arch": "small"},
    {"arch": {"name": "resnet34"}},
    {"lr_scheduler": {"name": "cosine"}},
    {"augmentations": {"operations": []}},
    {"augmentations": {"normalization": None}},
    {"trainer": {"limit_train_batches": 1}},
    {"trainer": {"limit_train_batches": 1.0}},
]


@pytest.mark.parametrize("raw", SAME, ids=json.dumps)
def test_what_cannot_change_a_model_is_not_in_its_slice(raw):
    assert train_text(raw) == train_text()


@pytest.mark.parametrize("raw", DIFFERENT, ids=json.dumps)
def test_what_can_change_a_model_is_in_its_slice(raw):
    assert train_text(raw) != train_text()


def test_no_two_changes_give_the_same_slice():
    texts = {json.dumps(raw): train_text(raw) for raw in DIFFERENT}
    assert texts.pop('{"train": {"store_best": false}}') == texts['{"mode": {"store_best": false}}']
    assert len(set(texts.values())) == len(texts)


def test_swapped_values_differ():
    one = train_text(optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.2})
    assert one != train_text(optimizer={"name": "sgd", "lr": 0.2, "momentum": 0.1})


def test_reordered_keys_are_the_same():
    raw = {"seed": 1, "arch": {"name": "resnet34", "dropout": 0.1}, "optimizer": {"lr": 0.1, "eps": 1e-6}}
    turned = {key: dict(reversed(v.items())) if isinstance(v, dict) else v for key, v in reversed(raw.items())}
    assert list(turned) != list(raw)
    assert train_text(turned) == train_text(raw)


def test_a_pipeline_alone_decides_its_slice():
    one = load(pipelines={"a": {}, "b": {"optimizer": {"lr": 0.1}}})
    two = load(pipelines={"b": {"optimizer": {"lr": 0.2}}, "a": {}})
    slices = [[jobs.slice_json(jobs.train_config(config, name, "digits")) for name in "ab"] for config in (one, two)]
    assert slices[0][0] == slices[1][0]
    assert slices[0][1] != slices[1][1]


CONFIG = load(
    definitions=DEFINITIONS,
    tasks=["digits", "tenfold", "other"],
    seed=7,
    arch="small",
    optimizer={"name": "sgd", "lr": 0.1},
    lr_scheduler={"name": "cosine"},
    augmentations="flips",
    metrics={"classification": ["f1", "mcc"]},
    preprocessing={"size": 32},
)


@pytest.mark.parametrize(
    "section",
    [
        jobs.task_config(CONFIG, "tenfold"),
        jobs.task_config(CONFIG, "tenfold+nested-9-3"),
        jobs.train_config(CONFIG, "default", "tenfold+nested-9"),
        jobs.predict_config(CONFIG, "default", "tenfold"),
        jobs.table_config(CONFIG, ["default"], "tenfold"),
        jobs.ScoreConfig(metrics=CONFIG.pipelines["default"].metrics),
        jobs.PipelineConfig(pipeline=CONFIG.pipelines["default"]),
        jobs.TensorConfig(
            tensors=jobs.predict_config(CONFIG, "default", "digits").tensors,
            dataset=jobs.dataset_record(CONFIG, "digits"),
        ),
        jobs.dataset_record(CONFIG, "digits"),
    ],
    ids=lambda section: type(section).__name__,
)
def test_a_slice_survives_its_text(section):
    text = jobs.slice_json(section)
    assert jobs.read_slice(type(section), text) == section
    assert jobs.slice_json(jobs.read_slice(type(section), text)) == text


def test_a_task_is_made_from_its_dataset_and_a_variant_from_its_parent():
    base, variant = jobs.task_config(CONFIG, "tenfold"), jobs.task_config(CONFIG, "tenfold+identity+nested-2")
    assert (base.parent, base.dataset.dataset, base.task.n_folds) == (None, "digits", 10)
    assert (variant.dataset, variant.parent.tags, variant.task.tags) == (None, ["identity"], ["identity", "nested-2"])


def test_predictions_depend_on_the_target_and_the_preprocessing():
    section = jobs.predict_config(CONFIG, "default", "tenfold+nested-0")
    assert section.task.tags == ["nested-0"]
    assert section.tensors.model_dump() == {"dataset": "digits", "size": 32}


def test_the_metrics_of_a_pipeline_are_those_of_its_table():
    assert jobs.table_config(CONFIG, ["default"], "digits").metrics == {"default": ["f1", "mcc"]}


def test_descriptions_come_from_the_definition():
    assert jobs.describe_task(CONFIG, "tenfold+nested-0").model_dump() == {
        "licence": "mine",
        "reference": None,
        "keywords": ["ten"],
    }
    assert jobs.describe_dataset(CONFIG, "digits").licence == "CC BY 4.0"


def test_the_dataset_of_a_task_or_variant():
    assert jobs.dataset_of(CONFIG, "tenfold+nested-0") == "digits"
    assert jobs.dataset_of(CONFIG, "digits") == "digits"


@pytest.mark.parametrize("function", [jobs.dataset_of, jobs.task_config, jobs.describe_task])
def test_an_unknown_task_is_named(function):
    with pytest.raises(ConfigError, match="task: got 'birds', expected one of digits, other, tenfold"):
        function(CONFIG, "birds")


def test_an_unknown_dataset_is_named():
    with pytest.raises(ConfigError, match="dataset: got 'birds', expected digits"):
        jobs.dataset_record(CONFIG, "birds")
