"""Tables and pictures of models: what files tell, grouped by pipeline and task, whatever is missing or damaged."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from foldwise.artifacts import write_csv, write_json, write_npz, write_text
from foldwise.inference.metrics import compute_metrics
from foldwise.report import curves, logit_info
from foldwise.report.model_info import describe_models, duration
from foldwise.report.score_charts import Scores, choose, draw_scores

NAMES = ("models", "curves", "reliability", "confusion")
CLASSES = ["cat", "dog", "cow"]
RUN = {"seconds": 90.5, "finished": "2026-01-02T03:04:05Z", "versions": {"foldwise": "0.1.0"}, "git": {"commit": "abc"}}


@pytest.fixture
def places(tmp_path):
    """Return root of the project and of data, where there is a task."""
    project, data = tmp_path / "project", tmp_path / "data"
    describe_task(data, "pets")
    return project, data


def describe_task(data, task, kind="classification"):
    write_json(data / "tasks" / task / "task.json", {"task": task, "type": kind, "classes": CLASSES})


def add_model(project, task="pets", fold=0, pipeline="quick", weights=b"123", run=RUN, **keys):
    folder = project / "models" / pipeline / task / f"fold-{fold}"
    tree = {
        "pipeline": pipeline, "task": task, "fold": fold, "type": "classification", "score": 0.5 + fold, "epoch": 1,
        "metrics": {"accuracy": 0.75, "mine:kappa": None}, "parameters": 7, **keys,
    }  # fmt: skip
    write_json(folder / "model.json", tree)
    losses = [(0, 0.1, 2.0, 1.5, 0.5), (1, 0.1, 1.0, 0.5, 0.75)]
    write_csv(folder / "metrics.csv", ["epoch", "lr", "train_loss", "val_loss", "accuracy"], losses)
    if run:
        write_json(folder / "run.json", run)
    if weights:
        (folder / "model.safetensors").write_bytes(weights)
    return folder


def add_logits(project, task="pets", target="pets", fold=0, kind="logits", seed=0, split="test", labelled=40):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(50, 3)).astype(np.float32)
    targets = np.where(np.arange(50) < labelled, generator.integers(0, 3, 50), -1)
    path = project / kind / "quick" / task / f"fold-{fold}" / f"{target}.npz"
    ids = np.array([f"s{n}" for n in range(50)])
    write_npz(path, {f"{split}_logits": logits, f"{split}_targets": targets, f"{split}_ids": ids})
    return logits[:labelled], targets[:labelled]


def describe(places):
    project, data = places
    out = project.parent / "info"
    outputs = {name: out / f"{name}.csv" for name in NAMES} | {f"{name}_png": out / f"{name}.png" for name in NAMES}
    text = describe_models(project, data, outputs)
    for name in NAMES:
        with Image.open(out / f"{name}.png") as image:
            image.load()
    return text, {name: list(csv.DictReader((out / f"{name}.csv").open(encoding="utf-8"))) for name in NAMES}


def test_a_row_a_model_tells_what_its_files_tell(places):
    add_model(places[0])
    add_logits(places[0])
    write_json(places[0] / "scores/quick/pets/fold-0/pets.json", {})
    _, tables = describe(places)
    assert tables["models"] == [
        {
            "pipeline": "quick", "task": "pets", "fold": "0", "type": "classification", "score": "0.5", "epoch": "1",
            "accuracy": "0.75", "mine:kappa": "", "parameters": "7", "seconds": "90.5", "size_mb": "0.0",
            "has_weights": "yes", "has_logits": "pets", "has_scores": "yes", "finished": RUN["finished"],
            "version": "0.1.0", "commit": "abc",
        }
    ]  # fmt: skip


def test_what_is_not_there_is_empty(places):
    add_model(places[0], weights=None, run=None, metrics={})
    _, tables = describe(places)
    (row,) = tables["models"]
    assert [row[name] for name in ("seconds", "size_mb", "has_weights", "has_logits", "has_scores", "commit")] == [
        *("", "", "no", "", "no", "")
    ]


def test_metrics_of_all_models_are_columns(places):
    add_model(places[0])
    add_model(places[0], "ages", type="regression", metrics={"mae": 3.0})
    _, tables = describe(places)
    assert [(row["accuracy"], row["mae"]) for row in tables["models"]] == [("", "3.0"), ("0.75", "")]


def test_the_text_has_a_line_for_each_pipeline_and_task_with_outer_folds_together(places):
    for fold in range(2):
        add_model(places[0], f"pets+nested-{fold}", score=0.5 + fold, weights=b"x" * 500_000 if fold else None)
    add_model(places[0], pipeline="slow", score=None, metrics={})
    add_logits(places[0], "pets+nested-0", "pets")
    text, _ = describe(places)
    lines = [" ".join(line.split()) for line in text.splitlines()[2:4]]
    assert lines == [
        "quick pets 2 1.0000 ± 0.7071 accuracy 0.7500 3 min 01 s 0.5 1 1",
        "slow pets 1 - - 1 min 30 s 0.0 0 1",
    ]


def test_without_models_tables_have_headers_and_pictures_say_so(places):
    text, tables = describe(places)
    assert text == "No model has been trained yet."
    assert list(tables.values()) == [[]] * 4


def test_a_training_under_way_is_no_model(places):
    (places[0] / "models/quick/pets/fold-0").mkdir(parents=True)
    assert describe(places)[0] == "No model has been trained yet."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.json", "{"),
        ("model.json", '{"type": "classification"}'),
        ("model.json", json.dumps({"type": "x", "score": "low", "metrics": {}})),
        ("run.json", '{"seconds": 3}'),
        ("metrics.csv", "epoch,train_loss\n0,1\n"),
        ("metrics.csv", "epoch,train_loss,val_loss\nfirst,1,1\n"),
        ("metrics.csv", "\x00\xff"),
    ],
)
def test_damaged_files_are_named_and_left_out(places, name, content):
    folder = add_model(places[0])
    add_model(places[0], fold=1)
    write_text(folder / name, content)
    text, tables = describe(places)
    assert len(tables["models"]) == (1 if name == "model.json" else 2)
    if content != "\x00\xff":
        assert f"Skipped 1 file that cannot be read: {folder / name}: " in text


class TestCurves:
    def test_a_row_an_epoch_has_losses_and_the_first_metric(self, places):
        add_model(places[0])
        _, tables = describe(places)
        assert [tuple(row.values()) for row in tables["curves"]] == [
            ("quick", "pets", "0", "0", "2.0", "1.5", "accuracy", "0.5"),
            ("quick", "pets", "0", "1", "1.0", "0.5", "accuracy", "0.75"),
        ]

    def test_those_of_the_first_models_are_read(self, places, monkeypatch):
        monkeypatch.setattr(curves, "MODELS", 2)
        for fold in range(3):
            add_model(places[0], fold=fold)
        text, tables = describe(places)
        assert len(tables["models"]) == 3
        assert {row["fold"] for row in tables["curves"]} == {"0", "1"}
        assert "Learning curves are those of the first 2 models; 1 are left out." in text

    def test_losses_that_are_not_finite_and_single_epochs_are_drawn(self, places):
        folder = add_model(places[0])
        write_text(folder / "metrics.csv", "epoch,train_loss,val_loss\n0,nan,\n")
        _, tables = describe(places)
        assert [row["val_loss"] for row in tables["curves"]] == [""]


class TestLogits:
    def test_bins_and_counts_are_those_of_all_folds(self, places):
        parts = [add_logits(places[0], fold=fold, seed=fold) for fold in range(2)]
        _, tables = describe(places)
        logits, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
        found = tables["reliability"]
        assert [row["logits"] for row in found] == ["logits"] * 15
        counts = np.array([int(row["count"]) for row in found])
        gaps = [abs(float(row["share"]) - float(row["confidence"])) if row["share"] else 0 for row in found]
        expected = compute_metrics("classification", ["calibration_error"], logits, targets)["calibration_error"]
        assert counts @ gaps / 80 == pytest.approx(expected)
        right = sum(int(row["count"]) for row in tables["confusion"] if row["true"] == row["predicted"])
        assert right == (logits.argmax(axis=1) == targets).sum()
        assert {row["true"] for row in tables["confusion"]} == set(CLASSES)

    def test_a_nested_model_is_judged_by_its_outer_fold(self, places):
        describe_task(places[1], "pets+nested-0")
        _, targets = add_logits(places[0], "pets+nested-0", "pets+nested-0", seed=1)
        add_logits(places[0], "pets+nested-0", "pets", seed=2, labelled=11)
        add_logits(places[0], "pets+nested-0", "pets", kind="calibrated", seed=2, labelled=12)
        _, tables = describe(places)
        counts = {}
        for row in tables["reliability"]:
            counts[row["target"], row["logits"]] = counts.get((row["target"], row["logits"]), 0) + int(row["count"])
        assert counts == {("pets", "logits"): len(targets), ("pets", "calibrated"): 12}

    @pytest.mark.parametrize("kind", ["regression", "segmentation"])
    def test_other_types_are_left_out(self, places, kind):
        describe_task(places[1], "pets", kind)
        add_logits(places[0])
        text, tables = describe(places)
        assert tables["reliability"] == tables["confusion"] == []
        assert "Skipped" not in text

    def test_multilabel_logits_have_no_confusion_matrix(self, places):
        describe_task(places[1], "pets", "multilabel")
        path = places[0] / "logits/quick/pets/fold-0/pets.npz"
        targets = np.array([[0, 1, 1], [255, 255, 255], [1, 0, 0]], np.uint8)
        write_npz(
            path, {"test_logits": np.zeros((3, 3), np.float32), "test_targets": targets, "test_ids": np.arange(3)}
        )
        _, tables = describe(places)
        assert sum(int(row["count"]) for row in tables["reliability"]) == 6
        assert tables["confusion"] == []

    def test_files_without_labelled_test_samples_are_passed_over(self, places):
        add_logits(places[0], labelled=0)
        add_logits(places[0], fold=1, split="val")
        text, tables = describe(places)
        assert tables["reliability"] == []
        assert "Skipped" not in text

    def test_damaged_files_are_named(self, places):
        write_text(places[0] / "logits/quick/pets/fold-0/pets.npz", "PK")
        add_logits(places[0], fold=1)
        write_npz(
            places[0] / "logits/quick/pets/fold-2/pets.npz",
            {"test_logits": np.zeros((1, 7), np.float32), "test_targets": np.zeros(1, np.int64)},
        )
        text, tables = describe(places)
        assert sum(int(row["count"]) for row in tables["reliability"]) == 40
        assert "Skipped 2 files" in text
        for fold in (0, 2):
            assert f"logits/quick/pets/fold-{fold}/pets.npz: " in text

    def test_some_files_are_read_and_the_others_counted(self, places, monkeypatch):
        monkeypatch.setattr(logit_info, "FILES", 2)
        for fold in range(5):
            add_logits(places[0], fold=fold)
        text, tables = describe(places)
        assert sum(int(row["count"]) for row in tables["reliability"]) == 80
        assert "Reliability and confusion are those of 2 of 5 files of logits; the others were not read." in text


def test_pictures_have_the_same_bytes_each_time(places):
    add_model(places[0], pipeline="$a_b$")
    add_logits(places[0])
    found = []
    for _ in range(2):
        describe(places)
        found.append([(places[0].parent / f"info/{name}.png").read_bytes() for name in NAMES])
    assert found[0] == found[1]


def test_the_best_pipelines_of_each_task_are_drawn(tmp_path):
    scores = [
        Scores(f"p{k:02d}", f"t{t:02d}", [(0, float(k)), (1, None)]) for t in range(14) for k in reversed(range(5))
    ]
    chosen = choose(scores)
    assert list(chosen) == [f"t{t:02d}" for t in range(12)]
    assert sum(map(len, chosen.values())) == 40
    assert all(
        [item.pipeline for item in found] == ["p00", "p01", "p02", "p03"][: len(found)] for found in chosen.values()
    )
    draw_scores(tmp_path / "scores.png", scores, "")
    assert (tmp_path / "scores.png").is_file()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (3_600_060, "1,000 h 01 min")]
)
def test_times_are_written_for_people(seconds, words):
    assert duration(seconds) == words


def test_it_imports_no_heavy_library(places):
    code = (
        "import sys; from foldwise.report import model_info, sample_info, task_info, study_info, provenance;"
        "print(sorted({'torch', 'pandas', 'sklearn', 'lightning', 'optuna', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert found.stdout.strip() == "[]"
