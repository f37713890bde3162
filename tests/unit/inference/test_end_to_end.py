"""A segmentation task from files to scores, as jobs do it; its masks are files of their own."""

from types import SimpleNamespace

import numpy as np
import pytest

from foldwise.artifacts import read_json, read_npz
from foldwise.config.jobs import PredictConfig, ScoreConfig, TrainConfig
from foldwise.data.masks import MaskFiles, preprocess_masks
from foldwise.data.tensors import open_tensors
from foldwise.errors import DataError
from foldwise.inference.predict import predict_fold
from foldwise.inference.score import score_fold
from foldwise.tasks.task import read_task
from foldwise.training.fold import ModelFiles, train_fold
from unit.conftest import make_digits

FOLD = 1


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The embedded set with task, tensors and masks."""
    name = "digits_segmentation"
    found = make_digits(tmp_path_factory.mktemp(name), name, "segmentation", classes=["background", "ink"])
    found.masks = MaskFiles.of(found.tensors.manifest.parent, name)
    preprocess_masks(
        found.tensor_record, found.task_record, found.dataset_record, 1, found.dataset, found.task, found.masks
    )
    return found


@pytest.fixture(scope="module")
def result(made, make_pipeline, tmp_path_factory):
    """Files and score of a model."""
    folder = tmp_path_factory.mktemp("model")
    arch = {"name": "unet", "channels": [8, 16], "num_res_units": 1}
    train = TrainConfig(pipeline=make_pipeline(arch=arch), task=made.task_record, tensors=made.tensor_record)
    files = ModelFiles(folder / "model.json", folder / "metrics.csv", folder / "model.safetensors")
    train_fold(train, "default", FOLD, made.task, made.tensors, files, masks=made.masks)
    predict = PredictConfig(task=made.task_record, tensors=made.tensor_record)
    logits, score = folder / "logits.npz", folder / "score.json"
    predict_fold(predict, files.record, files.weights, made.task, made.tensors, logits, masks=made.masks)
    score_fold(ScoreConfig(type="segmentation"), logits, score, "default", made.task_record.dataset, FOLD, "toy")
    return SimpleNamespace(files=files, logits=logits, score=read_json(score))


def test_the_ink_of_test_images_is_found(result):
    assert result.score["type"] == "segmentation"
    assert result.score["metrics"]["dice"] > 0.8


def test_ids_logits_and_masks_belong_together(made, result):
    task, arrays = read_task(made.task, made.task_record), read_npz(result.logits)
    store = open_tensors(made.tensors, made.tensor_record, made.masks)
    for split in ("val", "test", "unlabeled"):
        places = task.split(split, FOLD)
        assert arrays[f"{split}_ids"].tolist() == task.sample_ids[places].tolist()
        assert arrays[f"{split}_logits"].shape == (len(places), 2, 8, 8)
        masks = store.mask_targets(task.classes)[store.rows_of(task, places)]
        np.testing.assert_array_equal(arrays[f"{split}_targets"], masks)
    assert set(np.unique(arrays["test_targets"])) == {0, 1}
    assert set(np.unique(arrays["unlabeled_targets"])) == {255}


def test_prediction_without_masks_is_told_and_leaves_nothing(made, result, tmp_path):
    config = PredictConfig(task=made.task_record, tensors=made.tensor_record)
    with pytest.raises(DataError, match="got tensors opened without masks"):
        predict_fold(config, result.files.record, result.files.weights, made.task, made.tensors, tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []
