"""A project opened in a notebook: where it is found, its tables, arrays and models, and what is told if not."""

import contextlib
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import foldwise
from foldwise import errors
from foldwise.artifacts import read_csv, read_json, read_npz, write_csv, write_json, write_npz
from foldwise.config.jobs import PredictConfig, ScoreConfig
from foldwise.errors import ConfigError, DataError, MissingData
from foldwise.inference.predict import predict_fold
from foldwise.inference.score import score_fold
from unit.hpo.studies import make_record, make_study, write_records
from unit.training.toys import train_toy, validate

SHORT = {"trainer": {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1}}
MODEL = ("default", "digits", 0)
LOGITS = "logits/default/digits/fold-0/digits.npz"
BLOCK = re.compile(r"(?:<!-- raises: (\w+) -->\n)?```python\n(.*?)```", re.DOTALL)
SCRIPTS = Path(foldwise.__file__).parents[1]


@pytest.fixture(scope="module")
def work(digits, train, tmp_path_factory):
    """A working directory with a project: a model, its logits and scores."""
    root = tmp_path_factory.mktemp("work")
    (root / "data").symlink_to(digits.root)
    project = root / "results/tiny"
    made = train(project / "models/default/digits/fold-0", preprocessing={"size": 8}, **SHORT)
    write_json(made.folder / "run.json", {"seconds": 1.5, "versions": {"foldwise": "0.1.0"}})
    logits, scores = (project / kind / "default/digits/fold-0/digits" for kind in ("logits", "scores"))
    logits, scores = logits.with_suffix(".npz"), scores.with_suffix(".json")
    config = PredictConfig(task=digits.task_record, tensors=digits.tensor_record)
    predict_fold(config, made.files.record, made.files.weights, digits.task, digits.tensors, logits)
    score_fold(ScoreConfig(type="classification"), logits, scores, "default", "digits", 0, "digits")
    return root


@pytest.fixture(scope="module")
def project(work):
    return foldwise.open_project(work / "results/tiny")


@pytest.fixture
def own(work, tmp_path):
    """A copy of the project, to be changed."""
    shutil.copytree(work / "results", tmp_path / "results")
    (tmp_path / "data").symlink_to((work / "data").resolve())
    return tmp_path


def add_config(folder, **keys):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(keys))


class TestOpening:
    @pytest.mark.parametrize("place", ["results/tiny", "results", "."])
    def test_a_project_is_found_by_its_folder_and_from_above(self, work, monkeypatch, place):
        monkeypatch.chdir(work)
        for path in (place, work / place):
            found = foldwise.open_project(path)
            assert (found.folder, found.data, found.name) == (work / "results/tiny", work / "data", "tiny")

    def test_of_several_none_is_chosen(self, own):
        (own / "results/other/logits").mkdir(parents=True)
        with pytest.raises(DataError, match="got 2 projects: other, tiny, expected one project"):
            foldwise.open_project(own)
        assert foldwise.open_project(own / "results/other").models().empty

    def test_what_is_none_is_told_with_the_nearest_name(self, work):
        with pytest.raises(MissingData, match=r"results/tinny: got nothing, .* Did you mean 'tiny'\?"):
            foldwise.open_project(work / "results/tinny")
        with pytest.raises(MissingData, match="data: got no project, expected results of one"):
            foldwise.open_project(work / "data")

    @pytest.mark.parametrize(
        ("results", "data", "expected"),
        [
            ("results", "data", "data"),
            ("out/deep", "shared/data", "shared/data"),
            ("results", "/elsewhere", "/elsewhere"),
            ("{root}/out", "data", "data"),
        ],
    )
    def test_data_lies_where_the_kept_configuration_says(self, tmp_path, results, data, expected):
        results = results.format(root=tmp_path)
        folder = tmp_path / results / "mine"
        add_config(folder, results_dir=results, data_dir=data)
        (folder / "VERSION").write_text("2.0.0\n")
        found = foldwise.open_project(folder)
        assert found.data == tmp_path / expected
        assert found.config == {"results_dir": results, "data_dir": data}
        assert foldwise.open_project(folder, "/given").data == Path("/given")

    def test_results_that_were_moved_take_the_data_beside_them(self, own):
        add_config(own / "results/tiny", results_dir="far/away", data_dir="data")
        assert foldwise.open_project(own).data == own / "data"

    def test_a_damaged_configuration_is_named(self, own):
        (own / "results/tiny/config.yaml").write_text("a: [")
        with pytest.raises(DataError, match=r"tiny/config\.yaml: got a file that cannot be read"):
            foldwise.open_project(own)

    def test_data_may_be_missing_until_it_is_needed(self, own):
        (own / "data").unlink()
        found = foldwise.open_project(own)
        assert len(found.models()) == 1
        assert repr(found) == f"Project 'tiny' in {own}/results/tiny: 0 tasks, 1 model, 0 studies"
        for call in (found.tasks, lambda: found.samples("digits"), lambda: found.image("digits", "0000")):
            with pytest.raises(MissingData, match=r"got nothing, .* open_project\(path, data=\.\.\.\)"):
                call()

    def test_it_is_imported_when_it_is_asked_for(self):
        code = (
            "import sys; before = set(sys.modules); import foldwise; print(*sorted(set(sys.modules) - before))\n"
            "foldwise.open_project; print(*{name.partition('.')[0] for name in sys.modules})"
        )
        result = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True)
        first, then = result.stdout.splitlines()
        assert first == "foldwise"
        assert not {"torch", "pandas", "lightning", "matplotlib", "sklearn", "optuna"} & set(then.split())
        with pytest.raises(AttributeError, match="has no attribute 'open_projects'"):
            foldwise.open_projects  # noqa: B018


class TestTasks:
    def test_a_row_tells_what_the_task_is(self, project):
        (row,) = project.tasks().to_dict("records")
        classes = [str(digit) for digit in range(10)]
        assert row == {
            "task": "digits", "dataset": "digits", "type": "classification", "classes": classes, "train": 1398,
            "test": 299, "unlabeled": 100, "n_folds": 5, "licence": "",
        }  # fmt: skip

    def test_with_a_configuration_only_tasks_of_the_project_are_told(self, own, digits):
        (own / "data").unlink()
        for name in ("digits", "mine", "predicted", "foreign", "broken"):
            shutil.copytree(digits.task.description.parent, own / f"data/tasks/{name}")
        write_npz(own / "results/tiny/logits/default/digits/fold-0/predicted.npz", {"a": np.zeros(1)})
        assert foldwise.open_project(own).tasks()["task"].tolist() == [
            "broken", "digits", "foreign", "mine", "predicted",
        ]  # fmt: skip
        add_config(own / "results/tiny", tasks=["mine", "broken", "not_created"])
        (own / "data/tasks/broken/task.json").write_text("{")
        with pytest.warns(UserWarning, match=r"Skipped 1 file that cannot be read: .*broken/task\.json"):
            assert foldwise.open_project(own).tasks()["task"].tolist() == ["digits", "mine", "predicted"]

    def test_samples_have_their_folds(self, project, digits):
        samples = project.samples("digits")
        assert samples.columns.tolist() == ["sample_id", "split", "image", "class", "group", "fold"]
        assert samples["sample_id"].tolist()[:2] == ["0000", "0001"]
        folds = read_csv(digits.task.folds, ("sample_id", "fold"))
        of_training = samples[samples["split"] == "train"].set_index("sample_id")["fold"]
        assert of_training[folds["sample_id"]].tolist() == list(map(int, folds["fold"]))
        assert samples.loc[samples["split"] != "train", "fold"].isna().all()
        assert samples.loc[samples["split"] == "unlabeled", "class"].isna().all()

    def test_words_stay_words_and_values_numbers(self, tmp_path):
        (tmp_path / "results/p/models").mkdir(parents=True)
        for name, column, cells in (("words", "class", ["NA", "007", ""]), ("values", "value", ["1.5", "-2", ""])):
            rows = [(f"{place}", "train", f"{place}", cell, "") for place, cell in enumerate(cells)]
            folder = tmp_path / "data/tasks" / name
            write_csv(folder / "samples.csv", ["sample_id", "split", "image", column, "group"], rows)
            write_json(folder / "task.json", {})
        found = foldwise.open_project(tmp_path)
        assert found.samples("words")["class"].tolist()[:2] == ["NA", "007"]
        assert found.samples("values")["value"].tolist()[:2] == [1.5, -2.0]
        assert found.samples("words")["fold"].dtype == "Int64"

    def test_images_come_as_they_lie_on_disk(self, project, digits, digits_store):
        image = project.image("digits", "0005")
        assert (image.mode, image.size, image.format) == ("L", (8, 8), "PNG")
        np.testing.assert_array_equal(np.asarray(image), digits_store.images[digits_store.rows["0005"]][..., 0])

    def test_what_is_not_there_is_told(self, project):
        with pytest.raises(MissingData, match="tasks/digts: got nothing, expected digits"):
            project.samples("digts")
        with pytest.raises(MissingData, match=r"got no sample 00005, expected one of 1797 samples\. Did"):
            project.image("digits", "00005")

    def test_an_image_that_is_lost_or_damaged_is_named(self, own):
        source = (own / "data").resolve()
        (own / "data").unlink()
        shutil.copytree(source / "tasks", own / "data/tasks")
        shutil.copytree(source / "datasets", own / "data/datasets")
        table = own / "data/datasets/digits/images.csv"
        first, second = read_csv(table, ("path",))["path"][:2]
        (table.parent / first).unlink()
        (table.parent / second).write_bytes(b"")
        found = foldwise.open_project(own)
        for sample, reason in (("0000", "missing"), ("0001", "0 bytes")):
            with pytest.raises(DataError, match=rf"{sample}\.png: got {reason}, expected the image of a sample"):
                found.image("digits", sample)


class TestResults:
    def test_a_row_a_model(self, project, work):
        models, record = project.models(), read_json(work / "results/tiny/models/default/digits/fold-0/model.json")
        metrics = list(record["metrics"])
        assert models.columns.tolist() == [
            "pipeline", "task", "fold", "score", "epoch", *metrics, "parameters", "seconds", "has_weights",
        ]  # fmt: skip
        (row,) = models.to_dict("records")
        assert tuple(row[key] for key in ("pipeline", "task", "fold")) == MODEL
        assert {key: row[key] for key in metrics} == record["metrics"]
        assert (row["score"], row["epoch"], row["seconds"], row["has_weights"]) == (
            record["score"], record["epoch"], 1.5, True,
        )  # fmt: skip

    def test_broken_models_and_scores_are_left_out_with_a_warning(self, own):
        project = own / "results/tiny"
        (project / "models/default/digits/fold-1").mkdir()
        (project / "models/default/digits/fold-1/model.json").write_text("{}")
        (project / "models/default/digits/fold-0/model.safetensors").unlink()
        write_json(project / "scores/default/digits/fold-1/digits.json", {"metrics": {"a": 1.0}})
        found = foldwise.open_project(own)
        with pytest.warns(UserWarning, match=r"fold-1/model\.json: it lacks 'metrics'") as caught:
            models = found.models()
        assert caught[0].filename == __file__
        assert models["has_weights"].tolist() == [False]
        with pytest.warns(UserWarning, match=r"fold-1/digits\.json: it lacks 'target'"):
            assert len(found.scores()) == 1

    def test_metrics_without_a_value_are_empty_numbers(self, own):
        path = own / "results/tiny/scores/default/digits/fold-0/digits.json"
        tree = read_json(path)
        write_json(path, {**tree, "metrics": {"accuracy": 0.5, "auroc": None}})
        scores = foldwise.open_project(own).scores()
        assert scores[["accuracy", "auroc"]].dtypes.tolist() == [float, float]
        assert np.isnan(scores["auroc"][0])

    def test_scores_and_curves(self, project, work):
        (row,) = project.scores().to_dict("records")
        written = read_json(work / "results/tiny/scores/default/digits/fold-0/digits.json")
        assert row == {
            "pipeline": "default", "task": "digits", "fold": 0, "target": "digits", **written["metrics"],
            "samples": 299,
        }  # fmt: skip
        curves = project.curves(*MODEL)
        assert curves["epoch"].tolist() == [0, 1]
        assert curves["val_loss"].min() == project.models()["score"][0]

    def test_logits_are_maps_of_the_file(self, project, work):
        arrays = project.logits(*MODEL)
        expected = read_npz(work / "results/tiny/logits/default/digits/fold-0/digits.npz")
        assert arrays.keys() == expected.keys()
        assert all(isinstance(array, np.memmap) for array in arrays.values())
        for name, array in expected.items():
            np.testing.assert_array_equal(arrays[name], array)

    def test_logits_of_other_targets_and_calibrated_ones(self, own):
        folder = own / "results/tiny/calibrated/default/digits/fold-0"
        write_npz(folder / "other.npz", {"test_logits": np.ones((2, 3), np.float32)})
        (folder / "other.json").write_text("{}")
        found = foldwise.open_project(own)
        assert found.logits(*MODEL, target="other", calibrated=True)["test_logits"].shape == (2, 3)
        with pytest.raises(MissingData, match=r"fold-0/digits\.npz: got nothing, expected other\."):
            found.logits(*MODEL, calibrated=True)

    @pytest.mark.parametrize(
        ("model", "words"),
        [
            (("defualt", "digits", 0), "expected default. Did you mean 'default'?"),
            (("default", "digit", 0), "expected digits. Did you mean 'digits'?"),
            (("default", "digits", 7), "fold-7: got nothing, expected fold-0."),
        ],
    )
    def test_a_wrong_name_is_told_with_what_there_is(self, project, model, words):
        for call in (project.logits, project.curves, project.model):
            with pytest.raises(MissingData, match=words):
                call(*model)

    def test_an_ensemble_has_members_and_logits(self, own):
        folder = own / "results/tiny/ensembles/digits"
        write_json(folder / "ensemble.json", {"members": ["a"], "weights": [1.0]})
        write_npz(folder / "logits.npz", {"test_logits": np.ones((2, 3))})
        told, arrays = foldwise.open_project(own).ensemble("digits")
        assert told["weights"] == [1.0]
        assert arrays["test_logits"].shape == (2, 3)

    def test_of_what_was_never_made_that_is_told(self, project):
        with pytest.raises(MissingData, match="expected ensembles, of which the project has none here"):
            project.ensemble("digits")
        with pytest.raises(MissingData, match="expected studies, of which the project has none here"):
            project.trials("first")

    def test_an_empty_project_has_empty_tables(self, tmp_path):
        (tmp_path / "results/p/pipelines").mkdir(parents=True)
        (tmp_path / "data").mkdir()
        found = foldwise.open_project(tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tables = [found.tasks(), found.models(), found.scores(), found.studies()]
        assert all(isinstance(table, pd.DataFrame) and table.empty for table in tables)
        assert found.config == {}


def test_studies_and_their_trials(own):
    config = make_study(direction="maximize")
    records = [
        make_record(config, 0, {"optimizer.lr": 0.1, "sampling.batch_size": 64}, 0.5),
        make_record(config, 1, {"optimizer.lr": 0.01}, 0.75),
        make_record(config, 2, {"optimizer.lr": 0.001}, 0.9, state="pruned"),
        make_record(config, 3, {"optimizer.lr": 1.0}, state="failed", error="no memory"),
    ]
    folder = own / "results/tiny/studies/first"
    write_records(folder, records)
    (folder / "trials/4.json").write_text("{")
    found = foldwise.open_project(own)
    with pytest.warns(UserWarning, match=r"4\.json"):
        assert found.studies().to_dict("records") == [
            {
                "study": "first", "trials": 4, "complete": 2, "pruned": 1, "failed": 1, "direction": "maximize",
                "best_value": 0.75, "best_trial": 1,
            }
        ]  # fmt: skip
    with pytest.warns(UserWarning, match=r"4\.json"):
        trials = found.trials("first")
    assert trials.columns.tolist() == ["trial", "state", "value", "optimizer.lr", "sampling.batch_size"]
    assert trials["state"].tolist() == ["complete", "complete", "pruned", "failed"]
    assert trials["optimizer.lr"].tolist() == [0.1, 0.01, 0.001, 1.0]
    assert trials.isna().sum().to_dict()["sampling.batch_size"] == 3
    assert repr(found).endswith("1 task, 1 model, 1 study")


class TestModel:
    def test_it_predicts_images_of_the_task_as_mode_predict_does(self, project):
        arrays, model = project.logits(*MODEL), project.model(*MODEL)
        images = [project.image("digits", name) for name in arrays["test_ids"]]
        np.testing.assert_array_equal(model.predict(images), arrays["test_logits"])
        assert model.classes == project.tasks()["classes"][0]

    def test_a_model_of_another_project_is_named_as_where_it_is_reused(self, own):
        (own / "results/new/models").mkdir(parents=True)
        found = foldwise.open_project(own / "results/new").model("tiny~default", "digits", 0)
        assert found.record["task"] == "digits"

    @pytest.mark.parametrize("kept", ["configuration", "pipeline", "both"])
    def test_variations_are_those_of_the_project(self, own, digits, kept):
        folder, tta = own / "results/tiny", {"variations": ["identity", "hflip"], "mode": "mean"}
        (folder / "pipelines").mkdir()
        if kept != "pipeline":
            add_config(folder, tasks=["digits"], pipelines={"default": {"tta": tta}})
        if kept != "configuration":
            stored = {"tta": tta} if kept == "pipeline" else {"tta": {"variations": ["vflip"]}}
            (folder / "pipelines/default.yaml").write_text(yaml.safe_dump(stored))
        model = foldwise.open_project(own).model(*MODEL)
        config = PredictConfig(task=digits.task_record, tensors=digits.tensor_record, tta=tta)
        place = folder / "models/default/digits/fold-0"
        predict_fold(
            config, place / "model.json", place / "model.safetensors", digits.task, digits.tensors, own / "new.npz"
        )
        expected = read_npz(own / "new.npz")
        images = [foldwise.open_project(own).image("digits", name) for name in expected["unlabeled_ids"][:3]]
        np.testing.assert_allclose(model.predict(images), expected["unlabeled_logits"][:3], atol=1e-5)
        assert not np.allclose(read_npz(folder / LOGITS)["unlabeled_logits"], expected["unlabeled_logits"], atol=1e-3)

    def test_a_network_of_ones_own_is_found_in_the_current_directory(self, tmp_path, monkeypatch):
        (tmp_path / "my_network.py").write_text(
            "from torch import nn\n\n"
            "def build(channels):\n"
            "    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 5))\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        folder = tmp_path / "results/p/models/default/digits/fold-0"
        recipe = {"arch": {"source": "my_network:build"}, "augmentations": {"operations": []}, **SHORT}
        train_toy(folder, "classification", validate, preprocessing={"size": 8}, **recipe)
        found = foldwise.open_project(tmp_path)
        assert found.model(*MODEL).predict(np.zeros((20, 30), np.uint8)).shape == (1, 2)
        for name in [name for name in sys.modules if name == "my_network"]:
            del sys.modules[name]
        monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
        monkeypatch.chdir("/")
        with pytest.raises(ConfigError, match=r"my_network:build.*expected a module in the working directory"):
            found.model(*MODEL)


def test_the_page_runs_as_it_stands(own, monkeypatch):
    folder = own / "results/default"
    (own / "results/tiny").rename(folder)
    for kind in ("models", "logits", "scores"):
        (folder / kind / "default/digits").rename(folder / kind / "default/digits+nested-0")
    logits = folder / "logits/default/digits+nested-0/fold-0/digits.npz"
    calibrated = folder / "calibrated/default/digits+nested-0/fold-0/digits.npz"
    for target in (calibrated, folder / "ensembles/digits/logits.npz"):
        target.parent.mkdir(parents=True)
        shutil.copy(logits, target)
    logits.rename(logits.with_name("digits+nested-0.npz"))
    write_json(folder / "ensembles/digits/ensemble.json", {"members": ["a"], "weights": [1.0]})
    write_records(folder / "studies/lr", [make_record(make_study(), 0, {"optimizer.lr": 0.1})])
    monkeypatch.chdir(own)
    blocks = BLOCK.findall((SCRIPTS.parent / "docs/notebook.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 10
    names = {}
    for error, code in blocks:
        with pytest.raises(getattr(errors, error)) if error else contextlib.nullcontext():
            exec(code, names)
    assert (own / "curve.png").stat().st_size > 1000
    assert names["shares"].shape == (3, 10)
