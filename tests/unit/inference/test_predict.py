"""Logits of a trained model: which splits, which samples, in which order, from which network."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foldwise.artifacts import read_npz, write_json
from foldwise.config.definition import Description, TaskRecord
from foldwise.config.jobs import PredictConfig
from foldwise.data.tensors import TensorStore
from foldwise.errors import DataError, MissingData
from foldwise.inference.predict import load_network, predict, predict_fold
from foldwise.models.network import build_network
from foldwise.tasks.task import TaskFiles, create_task, read_task


@pytest.fixture
def predict_digits(trained, digits, tmp_path):
    """Predict with the trained model; returns the arrays."""

    def run(task=digits.task, record=digits.task_record, weights=trained.files.weights, report=lambda text: None):
        config = PredictConfig(task=record, tensors=digits.tensor_record)
        logits = tmp_path / "logits.npz"
        predict_fold(config, trained.files.record, weights, task, digits.tensors, logits, report)
        return read_npz(logits)

    return run


@pytest.fixture
def other(digits, tmp_path):
    """Another task on the digits, with other splits."""
    record = TaskRecord(dataset="digits", seed=7)
    files = TaskFiles.of(tmp_path / "tasks/other")
    create_task("other", record, digits.dataset_record, Description(), 1, digits.dataset, files)
    return files, record


def names_of(*splits):
    return {f"{split}_{kind}" for split in splits for kind in ("logits", "targets", "ids")}


def test_on_its_own_task_a_model_predicts_the_held_out_fold_test_and_unlabeled(predict_digits, digits_task):
    arrays = predict_digits()
    assert set(arrays) == names_of("val", "test", "unlabeled")
    for split in ("val", "test", "unlabeled"):
        places = digits_task.split(split, 0)
        assert arrays[f"{split}_ids"].tolist() == digits_task.sample_ids[places].tolist()
        assert arrays[f"{split}_targets"].tolist() == digits_task.labels[places].tolist()
        assert arrays[f"{split}_logits"].shape == (len(places), 10)
        assert arrays[f"{split}_logits"].dtype == np.float32
        assert arrays[f"{split}_targets"].dtype == np.int64
    assert (arrays["unlabeled_targets"] == -1).all()
    assert (arrays["test_targets"] >= 0).all()


def test_logits_are_those_of_the_stored_network_for_each_sample(predict_digits, trained, digits_store):
    arrays = predict_digits()
    network = build_network(trained.config.pipeline.arch, 3, [10])
    network.load_state_dict(load_file(trained.files.weights))
    mean, std = (torch.tensor(trained.record["normalization"][key])[:, None, None] for key in ("mean", "std"))
    for split, place in (("val", 0), ("val", 279), ("test", 100), ("unlabeled", 99)):
        pixels = torch.tensor(digits_store.images[digits_store.rows[str(arrays[f"{split}_ids"][place])]])
        image = (pixels.permute(2, 0, 1) / 255 - mean) / std
        with torch.inference_mode():
            expected = network.eval()(image[None])[0].numpy()
        np.testing.assert_allclose(arrays[f"{split}_logits"][place], expected, rtol=1e-4, atol=1e-4)


def test_images_are_found_by_name_wherever_they_are_stored(trained, digits_store, digits_task):
    images, sums = digits_store.images[::-1].copy(), digits_store.channel_sums[::-1]
    turned = TensorStore(images, sums, {name: 1796 - row for name, row in digits_store.rows.items()})
    network, normalize = load_network(trained.record, trained.files.weights)
    places = digits_task.split("test", 0)
    straight, found = (predict(network, normalize, store, digits_task, places, 64) for store in (digits_store, turned))
    np.testing.assert_array_equal(found, straight)


def test_on_another_task_a_model_predicts_test_and_unlabeled_only(predict_digits, other):
    files, record = other
    task, arrays = read_task(files, record), predict_digits(files, record)
    assert set(arrays) == names_of("test", "unlabeled")
    assert arrays["test_ids"].tolist() == task.sample_ids[task.splits == "test"].tolist()
    own = predict_digits()
    shared, left, right = np.intersect1d(arrays["test_ids"], own["test_ids"], return_indices=True)
    assert 0 < len(shared) < len(own["test_ids"])
    np.testing.assert_allclose(arrays["test_logits"][left], own["test_logits"][right], rtol=1e-4, atol=1e-4)


def test_two_predictions_have_the_same_bytes(predict_digits, tmp_path):
    predict_digits()
    first = (tmp_path / "logits.npz").read_bytes()
    predict_digits()
    assert (tmp_path / "logits.npz").read_bytes() == first


def test_each_split_is_reported_with_its_samples(predict_digits):
    lines = []
    predict_digits(report=lines.append)
    assert lines == ["val: 280 samples", "test: 299 samples", "unlabeled: 100 samples"]


def test_a_target_of_other_classes_is_refused_with_both_lists(predict_digits, make_dataset, tmp_path):
    toy = make_dataset({}, {f"i{number:03d}": "cat" if number % 2 else "dog" for number in range(60)})
    record, files = TaskRecord(dataset="toy"), TaskFiles.of(tmp_path / "tasks/toy")
    create_task("toy", record, toy.record, Description(), 1, toy.dataset, files)
    with pytest.raises(DataError, match=r"model\.json: got .*'9'.*, expected the classes of toy: \['cat', 'dog'\]"):
        predict_digits(files, record)


def test_weights_that_are_missing_or_damaged_are_told_by_name(predict_digits, trained, tmp_path):
    weights = tmp_path / "model.safetensors"
    with pytest.raises(MissingData, match=r"model\.safetensors"):
        predict_digits(weights=weights)
    raw = bytearray(trained.files.weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(DataError) as caught:
        predict_digits(weights=weights)
    assert caught.value.where == str(weights)
    assert not (tmp_path / "logits.npz").exists()


def test_a_task_of_another_definition_is_refused(predict_digits, other):
    with pytest.raises(DataError, match=r"task\.json"):
        predict_digits(other[0])


@pytest.mark.parametrize("batch_size", [7, 93, 1000])
def test_the_batch_size_changes_no_decision(predict_digits, trained, digits, tmp_path, batch_size):
    record = {**trained.record, "recipe": {**trained.record["recipe"], "sampling": {"batch_size": batch_size}}}
    write_json(tmp_path / "model.json", record)
    config = PredictConfig(task=digits.task_record, tensors=digits.tensor_record)
    logits = tmp_path / "other.npz"
    predict_fold(config, tmp_path / "model.json", trained.files.weights, digits.task, digits.tensors, logits)
    found = read_npz(logits)
    for name, expected in predict_digits().items():
        if name.endswith("_logits"):
            np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-4)
            assert np.array_equal(found[name].argmax(axis=1), expected.argmax(axis=1))
        else:
            assert np.array_equal(found[name], expected)
