"""A segmentation task from files to scores, as jobs do it; its masks are files of their own."""

from types import SimpleNamespace

import numpy as np
import pytest

from foldwise.artifacts import read_json, read_npz
from foldwise.config import callbacks
from foldwise.config.jobs import PredictConfig, ScoreConfig, TrainConfig
from foldwise.data.files import DataFiles
from foldwise.data.masks import MaskFiles, preprocess_masks
from foldwise.data.tensors import open_tensors
from foldwise.errors import ConfigError, DataError
from foldwise.inference.metrics import compute_metrics
from foldwise.inference.predict import NO_VARIATIONS, predict_fold
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


def predict_config(made, tta=NO_VARIATIONS):
    return PredictConfig(task=made.task_record, tensors=made.tensor_record, tta=tta)


@pytest.fixture(scope="module")
def result(made, make_pipeline, tmp_path_factory):
    """Files and score of a model."""
    folder = tmp_path_factory.mktemp("model")
    arch = {"name": "unet", "channels": [8, 16], "num_res_units": 1}
    recipe = make_pipeline(arch=arch, preprocessing={"size": 8})
    train = TrainConfig(pipeline=recipe, task=made.task_record, tensors=made.tensor_record)
    files = ModelFiles(folder / "model.json", folder / "metrics.csv", folder / "model.safetensors")
    train_fold(train, "default", FOLD, [DataFiles(made.task, made.tensors, made.masks)], files, revision=1)
    predict = predict_config(made)
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


def test_variations_of_images_and_maps_agree(made, result, tmp_path):
    tta = callbacks.TestTimeAugmentation(variations=["identity", "hflip", "rot90", "rot180"])
    config, logits = predict_config(made, tta), tmp_path / "logits.npz"
    predict_fold(config, result.files.record, result.files.weights, made.task, made.tensors, logits, masks=made.masks)
    arrays = read_npz(logits)
    dice = compute_metrics("segmentation", ["dice"], arrays["test_logits"], arrays["test_targets"])["dice"]
    assert dice > 0.8
    assert dice != result.score["metrics"]["dice"]


def test_crops_are_told_and_leave_nothing(made, result, tmp_path):
    config = predict_config(made, callbacks.TestTimeAugmentation(variations=["identity", "crop_center"]))
    files, logits = result.files, tmp_path / "logits.npz"
    with pytest.raises(ConfigError, match=r"tta\.variations: got 'crop_center', expected variations that keep"):
        predict_fold(config, files.record, files.weights, made.task, made.tensors, logits, masks=made.masks)
    assert list(tmp_path.iterdir()) == []


def test_prediction_without_masks_is_told_and_leaves_nothing(made, result, tmp_path):
    config = predict_config(made)
    with pytest.raises(DataError, match="got tensors opened without masks"):
        predict_fold(config, result.files.record, result.files.weights, made.task, made.tensors, tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []
