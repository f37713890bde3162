"""Training of one fold: what is written, from which epoch, and that it depends on nothing but the configuration."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foldwise.artifacts import FORMAT_VERSION, read_csv, read_json, sha256
from foldwise.config.definition import TaskRecord
from foldwise.config.jobs import SourceConfig, TransferConfig
from foldwise.config.metrics import CLASSIFICATION_METRICS
from foldwise.config.pipeline import Pipeline
from foldwise.errors import ConfigError, DataError
from foldwise.inference.classification import classification_metrics
from foldwise.inference.predict import load_network, predict
from foldwise.models.network import build_network
from foldwise.training.fold import ModelFiles, train_fold
from unit.conftest import make_digits

COLUMNS = ["epoch", "lr", "train_loss", "val_loss", *CLASSIFICATION_METRICS]
SHORT = {"trainer": {"max_epochs": 2, "limit_train_batches": 2}}
AUGMENTED = {"augmentations": {"operations": [{"name": "RandomAffine", "degrees": 10.0, "p": 1.0}]}}
HEAD = {"heads.0.weight", "heads.0.bias"}
ERRATIC = {"optimizer": {"name": "adamw", "lr": 0.3}, "trainer": {"max_epochs": 4, "limit_train_batches": 3}}


def curves_of(model):
    return {name: list(map(float, column)) for name, column in read_csv(model.files.curves, COLUMNS).items()}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestFiles:
    def test_the_record_tells_how_the_model_was_made_and_how_good_it_is(self, trained, digits_task):
        record, recipe = read_json(trained.files.record), trained.config.pipeline
        assert record == trained.record
        network = build_network(recipe.arch, 3, [10])
        assert record.pop("parameters") == sum(parameter.numel() for parameter in network.parameters())
        assert Pipeline.model_validate(record.pop("recipe")) == recipe
        assert record.pop("preprocessing").startswith("default-")
        assert record.pop("weights") == {
            "file": "model.safetensors",
            "bytes": trained.files.weights.stat().st_size,
            "sha256": sha256(trained.files.weights),
        }
        curves, epoch = curves_of(trained), record.pop("epoch")
        assert record.pop("score") == curves["val_loss"][epoch]
        assert record.pop("metrics") == {name: curves[name][epoch] for name in CLASSIFICATION_METRICS}
        assert record == {
            "format_version": FORMAT_VERSION,
            "pipeline": "default",
            "task": "digits",
            "type": "classification",
            "fold": 0,
            "classes": list(digits_task.classes),
            "channels": 3,
            "size": [8, 8],
            "normalization": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
            "seed": 42,
            "definition": {"dataset": "digits"},
            "revision": 3,
        }

    def test_curves_have_a_row_an_epoch(self, trained):
        header = trained.files.curves.read_text().splitlines()[0]
        assert header.split(",") == COLUMNS
        curves = curves_of(trained)
        assert curves["epoch"] == [0, 1]
        assert curves["lr"] == [0.01, 0.01]
        assert curves["val_loss"] == pytest.approx(curves["log_loss"], rel=1e-5)

    def test_weights_are_not_written_unless_asked_for(self, train, tmp_path):
        stored, plain = (train(tmp_path / name, store=name == "stored", **SHORT) for name in ("stored", "plain"))
        assert set(contents(plain.folder)) == {"model.json", "metrics.csv"}
        assert plain.record == {**stored.record, "weights": None}

    def test_normalisation_of_the_task_comes_from_the_training_rows_alone(
        self, train, tmp_path, digits_task, digits_store
    ):
        augmentations = {"operations": [], "normalization": "task"}
        found = train(tmp_path, fold=2, augmentations=augmentations, **SHORT).record["normalization"]
        rows = digits_store.rows_of(digits_task, digits_task.split("train", 2))
        pixels = digits_store.images[rows].reshape(-1, 3) / 255
        assert found["mean"] == pytest.approx(pixels.mean(axis=0).tolist())
        assert found["std"] == pytest.approx(pixels.std(axis=0).tolist())

    def test_every_epoch_is_reported_in_a_line(self, train, tmp_path):
        lines = []
        train(tmp_path, report=lines.append, **SHORT)
        number = r"\d+\.?\d*"
        figures = f"train_loss {number}, val_loss {number}, accuracy {number}; \\d+ s left"
        assert [bool(re.fullmatch(f"epoch {k} of 2: {figures}", line)) for k, line in enumerate(lines, 1)] == [True] * 2


class TestSeveralFiles:
    def test_co_tasks_are_read_from_files_of_their_own(self, train, tmp_path):
        other = make_digits(tmp_path / "data", "digits_regression", "regression")
        record = train(tmp_path / "model", others=[other], **SHORT).record
        (told,) = record["co_tasks"]
        assert (told["task"], told["type"]) == ("digits_regression", "regression")
        assert told["score"] > 0

    def test_a_transfer_starts_from_one_of_the_models_it_is_given(self, trained, digits, tmp_path):
        config = TransferConfig(**dict(trained.config), source=SourceConfig(task="digits", freeze=True))
        files = ModelFiles(tmp_path / "model.json", tmp_path / "metrics.csv", tmp_path / "model.safetensors")
        record = train_fold(config, "default@digits", 1, [digits.files], files, 1, models=[trained.files.record]).record
        assert record["source"]["weights"] == trained.record["weights"]
        source, weights = load_file(trained.files.weights), load_file(files.weights)
        assert {name for name in weights if not torch.equal(weights[name], source[name])} == HEAD


class TestDeterminism:
    def test_two_runs_have_the_same_bytes_whatever_random_state_they_start_in(self, train, tmp_path):
        found = []
        for state in (1, 2):
            torch.manual_seed(state)
            arch = {"name": "resnet10", "block_inplanes": [4, 4, 8, 8], "dropout": 0.2, "no_max_pool": True}
            train(tmp_path / str(state), arch=arch, **AUGMENTED, **SHORT)
            found.append(contents(tmp_path / str(state)))
        assert set(found[0]) == {"model.json", "metrics.csv", "model.safetensors"}
        assert found[0] == found[1]

    def test_seed_and_fold_make_other_models(self, train, tmp_path):
        variants = [{}, {"seed": 43}, {"fold": 1}]
        models = [train(tmp_path / str(k), **keys, **SHORT) for k, keys in enumerate(variants)]
        assert len({model.record["weights"]["sha256"] for model in models}) == 3
        assert [model.record["fold"] for model in models] == [0, 0, 1]


class TestKeptEpoch:
    @pytest.mark.parametrize("best", [True, False])
    def test_the_weights_are_those_of_the_best_epoch_or_of_the_last(
        self, train, tmp_path, digits_task, digits_store, best
    ):
        model = train(tmp_path, mode={"store_best": best}, **ERRATIC)
        curves = curves_of(model)
        lowest = int(np.argmin(curves["val_loss"]))
        assert lowest != 3, "the last epoch is the best: this training tells nothing"
        assert model.record["epoch"] == (lowest if best else 3)
        assert model.record["score"] == curves["val_loss"][model.record["epoch"]]
        places = digits_task.split("val", 0)
        network, normalize = load_network(model.record, model.files.weights)
        logits = predict(network, normalize, digits_store, digits_task, places, 64)
        found = classification_metrics(["log_loss", "accuracy"], logits, digits_task.targets[places])
        assert found["log_loss"] == pytest.approx(model.record["score"], rel=1e-3)
        assert found["accuracy"] == pytest.approx(model.record["metrics"]["accuracy"], abs=0.005)


class TestLearning:
    def test_training_lowers_the_loss_and_learns_the_digits(self, train, tmp_path):
        curves = curves_of(train(tmp_path, sampling={"sample_num": 0}, trainer={"max_epochs": 5}))
        assert curves["train_loss"][-1] < 0.5 * curves["train_loss"][0]
        assert curves["val_loss"][-1] < curves["val_loss"][0]
        assert max(curves["accuracy"]) > 0.7

    def test_batch_statistics_are_learnt_from_every_training_batch(self, trained):
        weights = load_file(trained.files.weights)
        counts = {weights[name].item() for name in weights if name.endswith("num_batches_tracked")}
        assert counts == {4 * (trained.record["epoch"] + 1)}

    def test_schedules_count_optimiser_steps(self, train, tmp_path):
        trainer = {"max_epochs": 2, "limit_train_batches": 3, "accumulate_grad_batches": 2}
        model = train(tmp_path, lr_scheduler={"name": "cosine"}, trainer=trainer)
        assert curves_of(model)["lr"] == pytest.approx([0.005, 0.0])

    @pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
    def test_every_precision_goes_with_class_weights(self, train, tmp_path, precision):
        trainer = {"max_epochs": 1, "limit_train_batches": 2, "precision": precision}
        record = train(tmp_path, loss={"name": "focal", "class_weights": "auto"}, trainer=trainer).record
        assert 0 < record["score"] < 3


class TestMistakes:
    def test_a_loss_that_is_not_finite_names_epoch_step_and_learning_rate(self, train, tmp_path):
        expected = r"the training loss in epoch 1, step 2, learning rate 1e\+30: got (nan|inf), expected a finite loss"
        with pytest.raises(DataError, match=expected) as caught:
            train(tmp_path / "model", optimizer={"name": "sgd", "lr": 1e30}, **SHORT)
        assert "optimizer.lr" in caught.value.remedy
        assert not (tmp_path / "model").exists()

    @pytest.mark.parametrize(
        ("sections", "message"),
        [
            ({"trainer": {"limit_train_batches": 0.1}}, r"trainer\.limit_train_batches: got 0\.1, .* 4 batches"),
            ({"trainer": {"limit_val_batches": 0.1}}, r"trainer\.limit_val_batches: got 0\.1, .* 5 batches"),
            (
                {"loss": {"name": "auto", "class_weights": [1.0, 2.0]}},
                r"loss\.class_weights: .*2 weights.* expected 10",
            ),
            (
                {"arch": {"name": "densenet121", "init_features": 4, "growth_rate": 2}},
                r"preprocessing\.size: got 8 x 8 pixels, expected images large enough for densenet121",
            ),
        ],
    )
    def test_settings_that_do_not_fit_the_data_are_told_by_key(self, train, tmp_path, sections, message):
        with pytest.raises(ConfigError, match=message):
            train(tmp_path, **sections)
        assert contents(tmp_path) == {}

    def test_batches_of_one_image_are_told(self, train, tmp_path):
        arch = {"name": "resnet10", "block_inplanes": [4, 4, 8, 8]}  # ends with a map of a single pixel
        with pytest.raises(DataError, match=r"got a batch of one image, .* Raise sampling\.batch_size"):
            train(tmp_path, arch=arch, sampling={"batch_size": 1, "sample_num": 4})

    def test_a_fold_that_is_not_there_is_told(self, train, tmp_path):
        with pytest.raises(DataError, match=r"task digits: got fold 5, expected a fold from 0 to 4"):
            train(tmp_path, fold=5)

    def test_a_task_of_another_definition_is_refused(self, train, tmp_path, own_digits):
        own_digits.task_record = TaskRecord(dataset="digits", n_folds=3)
        with pytest.raises(DataError, match=r"task\.json"):
            train(tmp_path / "model", data=own_digits)
