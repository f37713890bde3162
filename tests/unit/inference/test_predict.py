"""Logits of a trained model: which splits, which samples, in which order, from which network."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foldwise.artifacts import read_npz, write_json
from foldwise.config.definition import Description, TaskRecord
from foldwise.config.jobs import PredictConfig
from foldwise.data.tensors import TensorStore
from foldwise.errors import DataError, MissingData
from foldwise.inference.metrics import compute_metrics
from foldwise.inference.predict import check_target, load_network, predict, predict_fold, write_logits
from foldwise.models.network import build_network
from foldwise.tasks.task import TaskFiles, create_task, read_task
from unit.training.toys import KINDS, make_toy, train_toy


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
        assert arrays[f"{split}_targets"].tolist() == digits_task.targets[places].tolist()
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
    create_task("toy", record, toy.record, Description(), 1, toy.files, files)
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


@pytest.fixture(scope="module")
def toys(make_pipeline, tmp_path_factory):
    """Train a model of each task type when it is first asked for."""
    models = {}

    def get(kind):
        if kind not in models:
            models[kind] = train_toy(tmp_path_factory.mktemp(kind), kind, make_pipeline)
        return models[kind]

    return get


def write(model, files, task, store, path, **changes):
    record = {**model, **changes}
    write_logits(record, *load_network(record, files.weights), task, store, path, lambda text: None)
    return read_npz(path)


FORMS = {  # type and shape of logits and of targets, without the samples; the value of no target
    "classification": (np.float32, (2,), np.int64, (), -1),
    "multilabel": (np.float32, (3,), np.uint8, (3,), 255),
    "soft": (np.float32, (3,), np.float32, (3,), np.nan),
    "regression": (np.float32, (1,), np.float32, (), np.nan),
    "segmentation": (np.float16, (2, 8, 8), np.uint8, (8, 8), 255),
}


@pytest.mark.parametrize("kind", KINDS)
class TestTypes:
    def test_logits_and_targets_have_the_form_of_their_task_type(self, toys, kind, tmp_path):
        task, store, model, files = toys(kind)
        arrays = write(model, files, task, store, tmp_path / "logits.npz")
        logits_type, outputs, target_type, shape, nothing = FORMS[kind]
        assert set(arrays) == names_of("val", "test", "unlabeled")
        for split, count in (("val", 20), ("test", 24), ("unlabeled", 16)):
            logits, targets = arrays[f"{split}_logits"], arrays[f"{split}_targets"]
            assert (logits.dtype, logits.shape) == (logits_type, (count, *outputs))
            assert (targets.dtype, targets.shape) == (target_type, (count, *shape))
            assert np.isfinite(logits).all()
        np.testing.assert_array_equal(arrays["unlabeled_targets"], np.full((16, *shape), nothing))

    def test_targets_are_those_of_the_task(self, toys, kind, tmp_path):
        task, store, model, files = toys(kind)
        arrays = write(model, files, task, store, tmp_path / "logits.npz")
        every = store.mask_targets(task.classes) if kind == "segmentation" else task.targets
        for split in ("val", "test"):
            np.testing.assert_array_equal(arrays[f"{split}_targets"], every[task.split(split, 0)])

    def test_validation_logits_have_the_recorded_metrics(self, toys, kind, tmp_path):
        task, store, model, files = toys(kind)
        arrays = write(model, files, task, store, tmp_path / "logits.npz")
        names = list(model["metrics"])
        found = compute_metrics(task.type, names, arrays["val_logits"], arrays["val_targets"])
        assert found == pytest.approx(model["metrics"], rel=1e-3)

    @pytest.mark.parametrize("batch_size", [7, 1000])
    def test_the_batch_size_changes_next_to_nothing(self, toys, kind, tmp_path, batch_size):
        task, store, model, files = toys(kind)
        recipe = {**model["recipe"], "sampling": {"batch_size": batch_size}}
        plain = write(model, files, task, store, tmp_path / "logits.npz")
        other = write(model, files, task, store, tmp_path / "logits.npz", recipe=recipe)
        for name, array in plain.items():
            if name.endswith("_logits"):
                np.testing.assert_allclose(other[name], array, rtol=2e-3, atol=2e-3)
            else:
                np.testing.assert_array_equal(other[name], array)

    def test_two_predictions_have_the_same_bytes(self, toys, kind, tmp_path):
        task, store, model, files = toys(kind)
        for name in ("one.npz", "other.npz"):
            write(model, files, task, store, tmp_path / name)
        assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()

    def test_images_without_any_labels_can_be_predicted(self, toys, kind, tmp_path):
        _, _, model, files = toys(kind)
        task, store = make_toy("unlabeled")
        check_target(model, task, files.record)
        arrays = write(model, files, dataclasses.replace(task, name="other"), store, tmp_path / "logits.npz")
        logits_type, outputs, target_type, shape, nothing = FORMS[kind]
        assert set(arrays) == names_of("unlabeled")
        assert (arrays["unlabeled_logits"].dtype, arrays["unlabeled_logits"].shape) == (logits_type, (120, *outputs))
        if kind == "soft":  # nothing tells that targets would have been soft
            target_type, nothing = np.uint8, 255
        assert arrays["unlabeled_targets"].dtype == target_type
        np.testing.assert_array_equal(arrays["unlabeled_targets"], np.full((120, *shape), nothing))

    def test_a_target_of_another_type_is_refused_with_both(self, toys, kind):
        _, _, model, files = toys(kind)
        other = "regression" if kind != "regression" else "segmentation"
        task, _ = make_toy(other)
        with pytest.raises(DataError) as caught:
            check_target(model, task, files.record)
        expected = f"got a model of task type {model['type']}, expected the type of toy: {other}."
        assert caught.value.message == f"{files.record}: {expected}"


def test_a_regression_answers_in_the_units_of_its_targets(toys):
    task, store, model, files = toys("regression")
    places = task.split("test", 0)
    values = predict(*load_network(model, files.weights), store, task, places, 16)[:, 0]
    assert 950 < values.min() < values.max() < 1100
    assert np.corrcoef(values, task.targets[places])[0, 1] > 0.8


def test_a_target_without_splits_to_predict_makes_an_empty_archive(toys, tmp_path):
    task, store, model, files = toys("classification")
    train = task.splits == "train"
    kept = {name: getattr(task, name)[train] for name in ("sample_ids", "images", "splits", "targets", "folds")}
    other = dataclasses.replace(task, name="other", **kept)
    assert write(model, files, other, store, tmp_path / "logits.npz") == {}


def test_maps_are_written_a_batch_at_a_time(toys, tmp_path):
    _, _, model, files = toys("segmentation")
    task, store = make_toy("segmentation")
    network, normalize = load_network(model, files.weights)
    asked = []

    class Counting(type(store)):
        def mask_targets(self, classes):
            masks = super().mask_targets(classes)

            class Rows:
                def __getitem__(self, rows):
                    asked.append(len(rows))
                    return masks[rows]

            return Rows()

    counting = Counting(store.images, store.channel_sums, store.rows)
    write_logits(model, network, normalize, task, counting, tmp_path / "logits.npz", lambda text: None)
    assert max(asked) == 16
    assert sum(asked) == 60
