"""Slices of the configuration that jobs get: what decides their outputs and nothing else."""

import json

import pytest

from foldwise.config import jobs
from foldwise.config.definition import DatasetRecord
from foldwise.errors import ConfigError
from unit.config.loading import load

DEFINITIONS = {
    "tenfold": {"dataset": "digits", "n_folds": 10, "licence": "mine", "keywords": ["ten"]},
    "other": {"dataset": "digits", "licence": "other"},
}


def training(config, pipeline, task):
    recipe = config.pipelines[pipeline]
    return jobs.train_config(config, recipe, task, (), config.train.store_parameters)


def train_text(raw=None, pipeline="default", task="digits", **keys):
    return jobs.slice_json(training(load(raw, **keys), pipeline, task))


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
    {"definitions": {"digits": {"on_error": "skip"}}},
    {"preprocessing": {"quality": 80}},
    {"augmentations": "default"},
    {"create": {"check": "none", "on_error": "skip"}},
    {"tagging": {"all": "+subset-0.5", "variants": ["+identity"]}},
]
DIFFERENT = [
    {"seed": 43},
    {"create": {"n_folds": 4}},
    {"create": {"seed": 1}},
    {"create": {"ensure_balancing": False}},
    {"preprocessing": {"size": 64}},
    {"preprocessing": {"steps": [{"name": "resize"}]}},
    {"preprocessing": {"storage": "jpeg"}},
    {"preprocessing": {"storage": "jpeg", "quality": 80}},
    {"preprocessing": {"id": "mine"}},  # the record of a model names the folder of its tensors
    {"train": {"store_parameters": False}},
    {"train": {"store_best": False}},
    {"mode": {"store_best": False}},
    {"definitions": {"digits": {"n_folds": 7}}},
    {"definitions": {"digits": {"folds": 5}}},
    {"definitions": {"digits": {"test_fraction": 0.5}}},
    {"definitions": {"digits": {"classes": ["0", "1"]}}},
    {"definitions": {"digits": {"columns": {"class": "parity"}}}},
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
    slices = [[jobs.slice_json(training(config, name, "digits")) for name in "ab"] for config in (one, two)]
    assert slices[0][0] == slices[1][0]
    assert slices[0][1] != slices[1][1]


FILES = ["https://a.org/images.zip", "https://b.org/table.csv"]
LESIONS = {
    "source": "table",
    "url": FILES,
    "sha256": ["a" * 64, "b" * 64],
    "table": "table.csv",
    "images": "images",
    "columns": {"image": "file", "class": "diagnosis", "group": "patient"},
    "classes": {"melanoma": ["mel"], "benign": ["nv", "bkl"]},
    "test_fraction": 0.2,
}
ABOUT = {"licence": "CC0", "reference": "Somebody 2020", "keywords": ["skin"]}
ORIGIN = {"mirrors": ["https://c.org/copy"], "on_error": "skip"}


def lesions(task="lesions", create=None, **changes):
    return load(definitions={task: {**LESIONS, **ABOUT, **ORIGIN, **changes}}, tasks=[task], pivot=task, create=create)


CONFIG = load(
    definitions={**DEFINITIONS, "lesions": LESIONS},
    tasks=["digits", "tenfold", "other", "lesions"],
    seed=7,
    arch="small",
    optimizer={"name": "sgd", "lr": 0.1},
    lr_scheduler={"name": "cosine"},
    augmentations="flips",
    metrics={"classification": ["f1", "mcc"]},
    preprocessing={"size": 32},
)
RECIPE = CONFIG.pipelines["default"]


@pytest.mark.parametrize(
    "section",
    [
        jobs.task_config(CONFIG, "tenfold"),
        jobs.task_config(CONFIG, "tenfold+nested-9-3"),
        jobs.task_config(CONFIG, "lesions"),
        jobs.mask_config(CONFIG, "digits_segmentation", CONFIG.pipelines["default"].preprocessing),
        jobs.dataset_config(CONFIG, "lesions"),
        jobs.fetch_record(CONFIG, "lesions"),
        jobs.score_config(CONFIG, RECIPE, "digits_regression"),
        training(CONFIG, "default", "tenfold+nested-9"),
        jobs.predict_config(CONFIG, RECIPE, "tenfold"),
        jobs.table_config(CONFIG, {"default": RECIPE}, "tenfold"),
        jobs.ScoreConfig(metrics=CONFIG.pipelines["default"].metrics),
        jobs.PipelineConfig(pipeline=CONFIG.pipelines["default"]),
        jobs.TensorConfig(
            tensors=jobs.predict_config(CONFIG, RECIPE, "digits").tensors,
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
    section = jobs.predict_config(CONFIG, RECIPE, "tenfold+nested-0")
    assert section.task.tags == ["nested-0"]
    assert (section.tensors.dataset, section.tensors.preprocessing.size) == ("digits", 32)


def test_the_metrics_of_a_pipeline_are_those_of_its_table():
    assert jobs.table_config(CONFIG, {"default": RECIPE}, "digits").metrics == {"default": ["f1", "mcc"]}


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
    with pytest.raises(ConfigError, match=r"task: got 'birds', expected one of digits, .*tenfold"):
        function(CONFIG, "birds")


def test_the_name_of_a_set_that_is_that_of_the_dataset_is_the_default():
    spelled, other = ({"digits": {"name": name}} for name in ("digits", "digits_regression"))
    assert jobs.dataset_record(load(definitions=spelled), "digits") == jobs.dataset_record(load(), "digits")
    assert jobs.dataset_record(load(definitions=other), "digits").name == "digits_regression"


def test_an_unknown_dataset_is_named():
    with pytest.raises(ConfigError, match=r"dataset: got 'birds', expected one of digits, .*lesions"):
        jobs.dataset_record(CONFIG, "birds")


# Datasets and tasks


def test_what_identifies_a_dataset_and_nothing_else_is_in_its_slice():
    assert json.loads(jobs.slice_json(jobs.dataset_record(lesions(), "lesions"))) == {
        "dataset": "lesions",
        "image_column": "file",
        "images": "images",
        "sha256": ["a" * 64, "b" * 64],
        "source": "table",
        "table": "table.csv",
    }


def test_columns_of_masks_are_those_of_all_tasks_of_segmentation_on_a_table():
    table = {"source": "table", "path": "t.csv", "dataset": "scans"}
    own = {"source": "masks", "path": "scans", "type": "segmentation"}
    config = load(
        definitions={
            "organs": {**table, "type": "segmentation", "columns": {"mask": "seg"}},
            "tumours": {**table, "type": "segmentation"},
            "ages": {**table, "type": "regression"},
            "own": own,
        }
    )
    assert jobs.dataset_record(config, "scans").mask_columns == ["mask", "seg"]
    assert jobs.dataset_record(config, "own").mask_columns == []


DATASET_CHANGES = {
    "sha256": ["c" * 64, "b" * 64],
    "table": "other.csv",
    "images": "pictures",
    "columns": {**LESIONS["columns"], "image": "picture"},
}
FREE_CHANGES = {
    "url": [file.replace("https", "ftp") for file in FILES],
    "mirrors": [],
    "on_error": "stop",
    "licence": None,
    "reference": "Nobody 1999",
    "keywords": [],
    "n_folds": 7,
    "ensure_balancing": False,
}
TASK_CHANGES = {
    "classes": {"benign": ["nv", "bkl"], "melanoma": ["mel"]},
    "test_fraction": 0.3,
    "columns": {**LESIONS["columns"], "group": "visit"},
    "folds": 4,
}
TASK_FREE = {key: value for key, value in FREE_CHANGES.items() if key not in ("n_folds", "ensure_balancing")}


def texts(config):
    """Return the slices of fetching, describing and splitting the dataset of the lesions."""
    record = jobs.fetch_record(config, "lesions")
    sections = record, jobs.dataset_config(config, "lesions"), jobs.task_config(config, "lesions")
    return [jobs.slice_json(section) for section in sections]


@pytest.mark.parametrize("key", FREE_CHANGES)
def test_what_tells_no_more_than_where_files_come_from_is_in_no_slice_of_a_dataset(key):
    assert texts(lesions(**{key: FREE_CHANGES[key]}))[:2] == texts(lesions())[:2]


@pytest.mark.parametrize("key", TASK_FREE)
def test_what_describes_a_task_is_not_in_its_slice(key):
    assert texts(lesions(**{key: TASK_FREE[key]})) == texts(lesions())


@pytest.mark.parametrize("key", DATASET_CHANGES)
def test_what_changes_a_dataset_is_in_its_slice_and_in_that_of_its_task(key):
    (fetched, described, split), (old_fetched, *old) = texts(lesions(**{key: DATASET_CHANGES[key]})), texts(lesions())
    assert (fetched != old_fetched) == (key == "sha256")
    assert described != old[0]
    assert split != old[1]


@pytest.mark.parametrize("key", TASK_CHANGES)
def test_what_changes_a_task_is_in_its_slice_alone(key):
    *changed, split = texts(lesions(**{key: TASK_CHANGES[key]}))
    *old, old_split = texts(lesions())
    assert changed == old
    assert split != old_split


def test_whether_images_are_opened_concerns_the_dataset_alone():
    fetched, described, split = texts(lesions(create={"check": "none"}))
    old_fetched, old, old_split = texts(lesions())
    assert (fetched, split) == (old_fetched, old_split)
    assert described != old
    assert texts(lesions(create={"on_error": "skip"}, on_error=None)) == texts(lesions())


def test_a_definition_says_how_images_that_cannot_be_read_are_met_and_else_create_does():
    assert jobs.dataset_origin(lesions(), "lesions") == (FILES, ["https://c.org/copy"], "skip")
    assert jobs.dataset_origin(lesions(on_error=None), "lesions").on_error == "stop"
    assert jobs.dataset_origin(lesions(on_error=None, create={"on_error": "skip"}), "lesions").on_error == "skip"
    assert jobs.dataset_origin(lesions(url=FILES[0], sha256="a" * 64, table=None), "lesions").url == FILES[:1]
    assert jobs.dataset_origin(load(), "digits") == ([], [], "stop")


def test_masks_depend_on_task_dataset_and_preprocessing():
    own = {"dataset": "digits_segmentation", "type": "segmentation", "classes": {"ink": [1], "no": [0]}}
    config = load(definitions={"own": own}, preprocessing={"id": "mine", "size": 64})
    section = jobs.mask_config(config, "own", config.pipelines["default"].preprocessing)
    assert json.loads(jobs.slice_json(section)) == {
        "dataset": {"dataset": "digits_segmentation"},
        "task": {
            "classes": [["ink", [1]], ["no", [0]]],
            "dataset": "digits_segmentation",
            "ensure_balancing": False,
            "type": "segmentation",
        },
        "tensors": {"dataset": "digits_segmentation", "preprocessing": {"size": 64}},
    }


def test_only_metrics_of_the_task_type_are_scored():
    config = load(metrics={"classification": ["f1"], "regression": ["mae"], "segmentation": ["iou"]})
    sections = {task: jobs.score_config(config, config.pipelines["default"], task) for task in config.definitions}
    assert {task: json.loads(jobs.slice_json(section)) for task, section in sections.items()} == {
        "digits": {"metrics": {"classification": ["f1"]}},
        "digits_segmentation": {"type": "segmentation", "metrics": {"segmentation": ["iou"]}},
        "digits_multilabel": {"type": "multilabel"},
        "digits_regression": {"type": "regression", "metrics": {"regression": ["mae"]}},
    }
    table = jobs.table_config(config, config.pipelines, "digits_regression+identity")
    assert table.metrics == {"default": ["mae"]}


@pytest.mark.parametrize(
    ("keys", "file"),
    [
        ({"source": "table", "path": "birds/birds.csv"}, "birds/birds.csv"),
        ({"source": "table", "path": "birds"}, None),
        ({"source": "table", "path": "birds", "table": "lists/birds.csv"}, "birds/lists/birds.csv"),
        ({"source": "table", "path": "birds.zip", "table": "birds.csv"}, None),
        ({"source": "table", "sha256": "a" * 64, "table": "birds.csv"}, None),
        ({"source": "coco", "path": "birds", "annotations": "all.json"}, "birds/all.json"),
        ({"source": "coco", "path": "birds", "annotations": {"train": "a.json", "test": "b.json"}}, None),
        ({"source": "coco", "path": "birds/all.json"}, "birds/all.json"),
        ({"source": "arrays", "path": "birds.npz"}, "birds.npz"),
        ({"source": "arrays", "path": "birds"}, None),
        ({"source": "dicom", "path": "scans", "table": "scans.csv"}, "scans/scans.csv"),
        ({"source": "folder", "path": "birds"}, None),
        ({"source": "masks", "path": "birds"}, None),
        ({"source": "python", "path": "code.py", "function": "a:b"}, None),
        ({"source": "medmnist", "name": "pathmnist"}, None),
        ({}, None),
    ],
)
def test_the_one_local_file_that_tells_about_images_is_an_input(keys, file):
    assert jobs.local_file(DatasetRecord(dataset="birds", **keys)) == file
