"""Logits of a trained model: which splits, which samples, in which order, from which network."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foldwise.artifacts import read_npz, write_json
from foldwise.config import callbacks
from foldwise.config.definition import Description, TaskRecord
from foldwise.config.jobs import PredictConfig
from foldwise.config.pipeline import Pipeline, TrainerSection
from foldwise.data.tensors import TensorStore
from foldwise.errors import ConfigErrors, DataError, MissingData
from foldwise.inference.checks import check_target
from foldwise.inference.metrics import compute_metrics
from foldwise.inference.predict import (
    NO_VARIATIONS,
    Bf16Backbone,
    load_network,
    predict,
    predict_fold,
    speed_up,
    write_logits,
)
from foldwise.models.network import build_network, count_outputs
from foldwise.models.weights import write_weights
from foldwise.tasks.task import TaskFiles, create_task, read_task
from unit.training.toys import KINDS, make_toy, train_toy


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """A model whose recipe is that of the tensors."""
    return train(tmp_path_factory.mktemp("model"), preprocessing={"size": 8})


@pytest.fixture
def predict_digits(trained, digits, tmp_path):
    """Predict with the trained model, or one whose record has other keys; returns the arrays."""

    def run(
        task=digits.task,
        record=digits.task_record,
        weights=trained.files.weights,
        report=lambda text: None,
        warn=lambda text: None,
        tta=NO_VARIATIONS,
        recipe=None,
        **changes,
    ):
        changed = {**trained.record, "recipe": {**trained.record["recipe"], **(recipe or {})}, **changes}
        write_json(tmp_path / "model.json", changed)
        config = PredictConfig(task=record, tensors=digits.tensor_record, tta=tta)
        logits = tmp_path / "logits.npz"
        predict_fold(config, tmp_path / "model.json", weights, task, digits.tensors, logits, report=report, warn=warn)
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


def test_each_split_is_reported_with_its_samples_and_how_far_all_are(predict_digits):
    lines = []
    predict_digits(report=lines.append)
    splits = [line for line in lines if " of " not in line]
    assert splits == ["val: 280 samples", "test: 299 samples", "unlabeled: 100 samples"]
    assert re.fullmatch(r"679 of 679 samples, \d+ a second", next(line for line in reversed(lines) if " of " in line))


def test_weights_that_are_damaged_are_told_by_name(predict_digits, trained, tmp_path):
    weights = tmp_path / "model.safetensors"
    raw = bytearray(trained.files.weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(DataError) as caught:
        predict_digits(weights=weights)
    assert caught.value.where == str(weights)
    assert not (tmp_path / "logits.npz").exists()


@pytest.mark.parametrize(("pipeline", "rule"), [("default", "train_fold"), ("default@birds", "transfer_fold")])
def test_weights_that_were_removed_are_told_with_what_to_do(predict_digits, tmp_path, pipeline, rule):
    with pytest.raises(MissingData, match=r"got nothing, as they were removed, .* train it again") as caught:
        predict_digits(weights=tmp_path / "model.safetensors", pipeline=pipeline)
    assert caught.value.where == str(tmp_path / "model.safetensors")
    assert caught.value.message.endswith(f"--forcerun {rule} {tmp_path / 'model.json'}")


def test_weights_of_a_network_whose_code_has_changed_are_told(predict_digits, trained):
    arch = {**trained.record["recipe"]["arch"], "block_inplanes": [4, 4, 8, 16]}
    with pytest.raises(DataError, match=r"got weights of another network .*size mismatch.*, expected those of the"):
        predict_digits(recipe={"arch": arch})


def test_a_task_of_another_definition_is_refused(predict_digits, other):
    with pytest.raises(DataError, match=r"task\.json"):
        predict_digits(other[0])


@pytest.mark.parametrize("batch_size", [7, 93, 1000])
def test_the_batch_size_changes_no_decision(predict_digits, batch_size):
    expected, found = predict_digits(), predict_digits(recipe={"sampling": {"batch_size": batch_size}})
    for name, array in expected.items():
        if name.endswith("_logits"):
            np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-4)
            assert np.array_equal(found[name].argmax(axis=1), array.argmax(axis=1))
        else:
            assert np.array_equal(found[name], array)


def test_a_record_holds_what_decides_and_no_more(predict_digits, trained, digits, tmp_path):
    recipe = {key: trained.record["recipe"][key] for key in ("arch", "preprocessing")}
    write_json(tmp_path / "short.json", {**trained.record, "recipe": recipe})
    config = PredictConfig(task=digits.task_record, tensors=digits.tensor_record)
    logits = tmp_path / "short.npz"
    predict_fold(config, tmp_path / "short.json", trained.files.weights, digits.task, digits.tensors, logits)
    np.testing.assert_array_equal(read_npz(logits)["test_logits"], predict_digits()["test_logits"])


class TestAugmented:
    def test_variations_of_each_image_are_predicted_too(self, predict_digits, trained, digits_store, digits_task):
        tta = callbacks.TestTimeAugmentation(variations=["identity", "hflip", "rot90"])
        found = predict_digits(tta=tta)
        network, normalize = load_network(trained.record, trained.files.weights)
        for split in ("val", "test", "unlabeled"):
            places, each = digits_task.split(split, 0), []
            for turn in (lambda images: images, lambda images: images[:, :, ::-1], lambda i: np.rot90(i, 1, (1, 2))):
                images = np.ascontiguousarray(turn(digits_store.images[np.arange(1797)]))
                store = TensorStore(images, digits_store.channel_sums, digits_store.rows)
                each.append(predict(network, normalize, store, digits_task, places, 64))
            np.testing.assert_allclose(found[f"{split}_logits"], np.mean(each, axis=0), rtol=1e-4, atol=1e-4)
            assert found[f"{split}_logits"].dtype == np.float32

    def test_the_original_alone_is_the_plain_prediction(self, predict_digits, tmp_path):
        predict_digits()
        plain = (tmp_path / "logits.npz").read_bytes()
        predict_digits(tta=callbacks.TestTimeAugmentation(variations=["identity"], mode="max"))
        assert (tmp_path / "logits.npz").read_bytes() == plain

    def test_maps_are_turned_back(self, toys, tmp_path):
        task, store, model, files = toys("segmentation")
        plain = write(model, files, task, store, tmp_path / "logits.npz")
        tta = callbacks.TestTimeAugmentation(variations=["identity", "hflip", "vflip", "rot90", "rot270"])
        varied = write(model, files, task, store, tmp_path / "logits.npz", tta=tta)
        assert varied["test_logits"].dtype == np.float16
        dice = [compute_metrics("segmentation", ["dice"], a["test_logits"], a["test_targets"]) for a in (plain, varied)]
        assert dice[1]["dice"] > dice[0]["dice"] - 0.05
        assert not np.array_equal(varied["test_logits"], plain["test_logits"])


class TestOtherTasks:
    @pytest.fixture
    def renamed(self, digits, tmp_path):
        """The digits with other names of classes."""

        def make(names):
            classes = {name: [str(digit)] for digit, name in enumerate(names)}
            record, files = TaskRecord(dataset="digits", classes=classes), TaskFiles.of(tmp_path / "tasks/other")
            create_task("other", record, digits.dataset_record, Description(), 1, digits.dataset, files)
            return files, record

        return make

    def test_other_names_are_warned_of_and_compared_by_place(self, predict_digits, renamed, tmp_path):
        warnings, names = [], [f"number {digit}" for digit in range(10)]
        found = predict_digits(*renamed(names), warn=warnings.append)
        (warning,) = warnings
        assert warning.startswith(f"{tmp_path / 'model.json'}: the model has 10 classes ['0', '1'")
        assert "other has 10 classes ['number 0', 'number 1'" in warning
        own = predict_digits()
        _, left, right = np.intersect1d(found["test_ids"], own["test_ids"], return_indices=True)
        assert np.array_equal(found["test_targets"][left], own["test_targets"][right])

    def test_the_same_names_are_not_warned_of(self, predict_digits, renamed):
        warnings = []
        predict_digits(*renamed([str(digit) for digit in range(10)]), warn=warnings.append)
        assert warnings == []

    def test_the_same_names_in_another_order_are_refused(self, predict_digits, renamed):
        with pytest.raises(DataError, match="The order must be the same"):
            predict_digits(*renamed([str(digit) for digit in reversed(range(10))]))

    def test_another_preprocessing_is_refused_with_both(self, predict_digits):
        expected = "got a model made for another preprocessing, size 16, expected one for that of the tensors, size 8"
        with pytest.raises(DataError, match=expected):
            predict_digits(recipe={"preprocessing": {"size": 16}})

    def test_what_a_preprocessing_is_called_does_not_matter(self, predict_digits):
        renamed = predict_digits(recipe={"preprocessing": {"size": 8, "id": "mine"}})
        expected = predict_digits()
        assert sorted(renamed) == sorted(expected)
        assert all(np.array_equal(renamed[name], array) for name, array in expected.items())

    def test_the_own_task_with_another_definition_is_refused(self, predict_digits):
        with pytest.raises(
            DataError, match="got a model of task digits with seed 7, expected one of digits with seed 42"
        ):
            predict_digits(definition={"dataset": "digits", "seed": 7})


@pytest.mark.parametrize("kind", ["classification", "regression", "segmentation"])
def test_of_several_tasks_the_first_head_answers(toys, kind, tmp_path):
    task, store, model, files = toys(kind)
    single, _ = load_network(model, files.weights)
    co_tasks = [
        {"task": "other", "type": "multilabel", "classes": ["a", "b", "c"]},
        {"task": "third", "type": "regression", "classes": []},
    ]
    kinds, outputs = [model["type"], "multilabel", "regression"], [count_outputs(kind, model["classes"]), 3, 1]
    arch = Pipeline.model_validate(model["recipe"]).arch
    several = build_network(arch, 3, outputs, kinds)
    several.load_state_dict({**several.state_dict(), **load_file(files.weights)})
    record = {**model, "co_tasks": co_tasks}
    record["weights"] = write_weights(tmp_path / "model.safetensors", several.state_dict())
    network, normalize = load_network(record, tmp_path / "model.safetensors")
    assert len(network.heads) == 3
    expected = predict(single, normalize, store, task, task.split("test", 0), 16)
    write_logits(record, network, normalize, task, store, tmp_path / "logits.npz", lambda text: None)
    np.testing.assert_array_equal(read_npz(tmp_path / "logits.npz")["test_logits"], expected)


def test_a_recipe_that_is_none_of_this_release_is_told(predict_digits):
    with pytest.raises(ConfigErrors, match=r"model\.json: recipe\.optimizer\.speed: got an unknown key"):
        predict_digits(recipe={"optimizer": {"name": "adamw", "speed": 1}})


def test_images_of_another_size_than_those_of_training_are_refused(predict_digits):
    with pytest.raises(DataError, match="got a model of images of 16 x 16 pixels, expected one of 8 x 8 pixels"):
        predict_digits(size=[16, 16])
    predict_digits(size=[8, 8])


class TestSpeed:
    IMAGES = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))

    @pytest.fixture
    def network(self, trained):
        return load_network(trained.record, trained.files.weights)[0]

    @torch.inference_mode()
    def test_bf16_ends_at_the_features_and_the_head_answers_in_full(self, network):
        plain, features = network(self.IMAGES), network.backbone(self.IMAGES)
        network.backbone = Bf16Backbone(network.backbone)
        found = network.backbone(self.IMAGES)
        assert found.dtype == torch.float32
        assert torch.equal(found, found.bfloat16().float())
        torch.testing.assert_close(found, features, rtol=0.05, atol=0.05)
        logits = network(self.IMAGES)
        assert torch.equal(logits, network.heads[0](found))
        assert not torch.equal(logits, logits.bfloat16().float())
        torch.testing.assert_close(logits, plain, rtol=0.05, atol=0.1)

    @pytest.mark.parametrize(
        ("device", "precision", "expected"),
        [
            ("cuda", "auto", True),
            ("cuda", "bf16-mixed", True),
            ("cuda", "32-true", False),
            ("cuda", "16-mixed", False),
            ("cpu", "auto", False),
            ("cpu", "bf16-mixed", False),
        ],
    )
    def test_a_gpu_works_in_bf16_if_training_did(self, network, device, precision, expected):
        speed_up(network, TrainerSection(precision=precision), torch.device(device), 1000)
        assert isinstance(network.backbone, Bf16Backbone) == expected

    @pytest.mark.parametrize(
        ("compile", "batches", "expected"), [(True, 51, True), (True, 50, False), (False, 1000, False)]
    )
    def test_many_batches_are_worth_compiling(self, network, compile, batches, expected):  # noqa: A002
        speed_up(network, TrainerSection(compile=compile), torch.device("cpu"), batches)
        assert (network.backbone._compiled_call_impl is not None) == expected


@pytest.fixture(scope="module")
def toys(make_pipeline, tmp_path_factory):
    """Train a model of each task type when it is first asked for."""
    models = {}

    def get(kind):
        if kind not in models:
            models[kind] = train_toy(tmp_path_factory.mktemp(kind), kind, make_pipeline)
        return models[kind]

    return get


def write(model, files, task, store, path, tta=NO_VARIATIONS, **changes):
    record = {**model, **changes}
    write_logits(record, *load_network(record, files.weights), task, store, path, lambda text: None, tta)
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
