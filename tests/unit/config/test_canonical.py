"""Canonical text: what decides an output and nothing else."""

import copy
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldwise.config.architectures import DenseNet, ResNet
from foldwise.config.canonical import (
    JobConfig,
    canonical_json,
    component,
    differences,
    digest,
    tensor_folder,
    tensor_record,
)
from foldwise.config.definition import DatasetRecord, Description, TaskRecord
from foldwise.config.losses import Focal
from foldwise.config.optimization import SGD, AdamW, Cosine
from foldwise.config.pipeline import Augmentations, Pipeline, Sampling, TrainerSection
from foldwise.config.preprocessing import Preprocessing

KEYS = st.text(string.ascii_lowercase, min_size=1, max_size=3)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


def reverse(tree):
    if isinstance(tree, dict):
        return {key: reverse(value) for key, value in reversed(tree.items())}
    return [reverse(item) for item in tree] if isinstance(tree, list) else tree


@given(TREES)
def test_reordered_keys_are_the_same_text_and_the_text_reads_back(tree):
    assert canonical_json(reverse(tree)) == canonical_json(tree)
    assert json.loads(canonical_json(tree)) == tree


def test_canonical_json_has_no_white_space_and_takes_no_nan():
    assert canonical_json({"b": [1, 2.5, None], "a": {"d": True, "c": "é"}}) == (
        '{"a":{"c":"\\u00e9","d":true},"b":[1,2.5,null]}'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_swapped_values_differ():
    one, two = AdamW(lr=0.1, weight_decay=0.2), AdamW(lr=0.2, weight_decay=0.1)
    assert canonical_json(component(one)) != canonical_json(component(two))


def test_defaults_are_absent_also_if_set():
    assert differences(Pipeline()) == {}
    spelled = Pipeline.model_validate(Pipeline().model_dump())
    assert differences(spelled) == {}
    assert differences(TrainerSection(max_epochs=50, limit_train_batches=0.5)) == {"limit_train_batches": 0.5}
    assert differences(Sampling(batch_size=32)) == {"batch_size": 32}


def test_the_name_of_a_component_is_kept():
    assert differences(Pipeline(optimizer=SGD())) == {"optimizer": {"name": "sgd"}}
    assert differences(Pipeline(optimizer=AdamW(lr=0.1))) == {"optimizer": {"lr": 0.1, "name": "adamw"}}
    assert differences(Pipeline(arch=DenseNet(name="densenet121"))) == {"arch": {"name": "densenet121"}}
    assert differences(Pipeline(loss=Focal(gamma=1))) == {"loss": {"gamma": 1.0, "name": "focal"}}
    assert component(Sampling(balanced=True)) == {"balanced": True}


def test_a_share_and_a_count_differ():
    assert canonical_json(differences(TrainerSection(limit_train_batches=1))) == '{"limit_train_batches":1}'
    assert canonical_json(differences(TrainerSection(limit_train_batches=1.0))) == '{"limit_train_batches":1.0}'


def test_operations_keep_name_and_arguments():
    operations = [{"name": "RandomHorizontalFlip", "p": 0.5}]
    section = Augmentations.model_validate({"operations": operations, "normalization": None})
    assert differences(section) == {"operations": operations, "normalization": None}


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(),
        Pipeline(arch=ResNet(name="resnet10", dropout=0.1), lr_scheduler=Cosine(), optimizer=SGD(nesterov=True)),
        Pipeline(arch=DenseNet(name="densenet201"), trainer=TrainerSection(gradient_clip_val=1.0)),
        Pipeline.model_validate({"augmentations": {"operations": [{"name": "RandomAffine", "degrees": 3}]}}),
    ],
)
def test_what_differs_is_enough_to_build_the_pipeline_again(pipeline):
    assert Pipeline.model_validate(json.loads(canonical_json(differences(pipeline)))) == pipeline


def test_records_leave_out_their_defaults():
    assert differences(TaskRecord(dataset="digits", n_folds=5)) == {"dataset": "digits"}
    assert differences(TaskRecord(dataset="digits", tags=["nested-0"])) == {"dataset": "digits", "tags": ["nested-0"]}


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_job_config_keeps_text_and_attributes_when_copied(duplicate):
    about = Description(licence="CC BY 4.0", keywords=["a"])
    cfg = JobConfig('{"seed":1}', plan="50 epochs", about=about, text="also a word")
    made = duplicate(cfg)
    assert made == cfg == '{"seed":1}'
    assert type(made) is JobConfig
    assert vars(made) == {"plan": "50 epochs", "about": about, "text": "also a word"}


def test_only_the_text_of_a_job_config_is_compared():
    one, two = JobConfig("{}", plan="a"), JobConfig("{}", plan="b")
    assert one == two
    assert hash(one) == hash(two)
    assert json.loads(one) == {}


def test_digests_depend_on_values_alone():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1, "b": 2}) != digest({"a": 2, "b": 1})
    assert len(digest({})) == 64
    assert digest({}, 8) == digest({})[:8]


def test_a_name_that_chooses_nothing_is_no_more_than_a_key():
    assert component(DatasetRecord(dataset="digits")) == {"dataset": "digits"}
    assert component(DatasetRecord(dataset="a", name="digits")) == {"dataset": "a", "name": "digits"}


def test_the_order_of_classes_is_kept_and_that_of_other_mappings_is_not():
    one = TaskRecord(dataset="a", classes={"normal": [0], "abnormal": [1, 2]}, columns={"id": "a", "class": "b"})
    two = TaskRecord(dataset="a", classes={"abnormal": [1, 2], "normal": [0]}, columns={"class": "b", "id": "a"})
    text = canonical_json(differences(one))
    assert text == ('{"classes":[["normal",[0]],["abnormal",[1,2]]],"columns":{"class":"b","id":"a"},"dataset":"a"}')
    assert text != canonical_json(differences(two))
    read = TaskRecord.model_validate(json.loads(text))
    assert read == one
    assert list(read.classes) == ["normal", "abnormal"]


OPTIONS = {
    "size": 64,
    "steps": [{"name": "resize"}],
    "reduced_decoding": False,
    "storage": "jpeg",
    "quality": 90,
}


def test_a_preprocessing_has_a_folder_for_each_definition():
    assert set(OPTIONS) | {"id"} == set(Preprocessing.model_fields)
    changed = [Preprocessing.model_validate({key: value}) for key, value in OPTIONS.items() if key != "quality"]
    changed += [Preprocessing(storage="jpeg", quality=90)]
    changed += [Preprocessing.model_validate({"steps": [{"name": "resize", "interpolation": "box"}]}), Preprocessing()]
    assert len({tensor_folder(recipe) for recipe in changed}) == len(changed)


def test_the_folder_of_a_preprocessing_never_changes_its_name():
    steps = [{"name": "resize_shorter", "interpolation": "bilinear"}, {"name": "center_crop"}]
    assert tensor_folder(Preprocessing()) == "default-44136fa3"
    assert tensor_folder(Preprocessing.model_validate({"id": "mine", "steps": steps})) == "mine-44136fa3"


def test_the_quality_of_jpegs_that_are_not_stored_decides_nothing():
    raw = Preprocessing(quality=90)
    assert tensor_folder(raw) == tensor_folder(Preprocessing())
    assert tensor_record("digits", raw) == tensor_record("digits", Preprocessing())


def test_the_record_of_tensors_holds_all_of_a_preprocessing_but_its_name():
    record = tensor_record("digits", Preprocessing(id="mine", size=64))
    assert differences(record) == {"dataset": "digits", "preprocessing": {"size": 64}}
    assert record == tensor_record("digits", Preprocessing(id="other", size=64))
    assert differences(tensor_record("digits", Preprocessing())) == {"dataset": "digits"}
