"""Mode info shows what is there; a report holds it in one page; every artifact tells where it comes from."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import tarfile

import pytest
from PIL import Image

from workflow.conftest import Project

INFO = "results/default/info"
TABLES = (
    "tasks",
    "task_classes",
    "models",
    "learning_curves",
    "reliability",
    "confusion",
    "studies",
    "hpo",
    "importance",
)
PICTURES = ("tasks", "sample_grid", "sample-digits", "models", "learning_curves", "reliability", "confusion")
MODEL = "results/default/models/a/digits+nested-0/fold-0"
LOGITS = "results/default/logits/a/digits+nested-0/fold-0/digits+nested-0.npz"


def rows(project, name):
    """Return the rows of a table of mode info."""
    with open(project.path(f"{INFO}/{name}.csv"), newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def informed(finished, tmp_path_factory):
    """Return a copy of the finished project on which mode info has run, and what it said; not to be changed."""
    project = Project(tmp_path_factory.mktemp("info") / "work")
    shutil.copytree(finished.folder, project.folder)
    result = project.run("info")
    assert result.status == 0, result.output
    return project, result


def test_all_tables_and_pictures_are_there(informed):
    project, _ = informed
    for name in TABLES:
        assert project.path(f"{INFO}/{name}.csv").read_text().endswith("\n"), name
    for name in PICTURES:
        with Image.open(project.path(f"{INFO}/{name}.png")) as picture:
            picture.load()
            assert len(set(picture.convert("L").tobytes())) > 5, name


def test_what_the_tables_hold(informed):
    project, _ = informed
    (task,) = rows(project, "tasks")
    assert (task["task"], task["type"], task["classes"], task["train"]) == ("digits", "classification", "10", "1398")
    models = rows(project, "models")
    assert [(row["pipeline"], row["task"], row["fold"]) for row in models] == [
        (pipeline, f"digits+nested-{k}", "0") for pipeline in ("a", "b") for k in (0, 1)
    ]
    record, run = project.json(f"{MODEL}/model.json"), project.json(f"{MODEL}/run.json")
    assert float(models[0]["score"]) == record["score"]
    assert float(models[0]["seconds"]) == run["seconds"]
    assert {row["has_weights"] for row in models} == {"yes"}
    assert set(models[0]["has_logits"].split(";")) == {"digits", "digits+nested-0"}


def test_it_is_shown_each_time_and_made_once(informed):
    project, first = informed
    assert re.search(r"^digits +classification +10 ", first.output, re.MULTILINE)
    assert "There is no study to show." in first.output
    again = project.run("info")
    assert again.jobs == {"info": 1}
    assert re.search(r"^digits +classification +10 ", again.output, re.MULTILINE)


def test_nothing_is_trained_and_nothing_is_asked_for(project):
    result = project.run("info")
    assert result.status == 0, result.output
    assert not project.path("data").exists()
    assert not project.path("results/default/models").exists()
    assert "No model has been trained yet." in result.output
    assert "digits" in result.output  # not created yet


def test_what_is_new_is_shown(trained):
    assert trained.run("info").status == 0
    shutil.rmtree(trained.path("results/default/models/b"))
    planned = trained.dry_run("info").jobs
    assert planned == {"describe_models": 1, "info": 1}
    assert trained.run("info").status == 0
    assert {row["pipeline"] for row in rows(trained, "models")} == {"a"}


def test_broken_files_are_named_and_passed_over(trained):
    trained.path(f"{MODEL}/model.json").write_text('{"score": ')
    trained.path(f"{MODEL.replace('/a/', '/b/')}/metrics.csv").write_bytes(b"\xff\xfe\x00")
    result = trained.run("info", "--config", "info__subroutines=[models]")
    assert result.status == 0, result.output
    assert "Skipped 2 files" in result.output
    assert f"{MODEL}/model.json" in result.output
    assert len(rows(trained, "models")) == 3


@pytest.mark.parametrize(
    ("settings", "pictures"),
    [
        (["info__subroutines=[tasks]"], set()),
        (["info__subroutines=[tasks]", "info__info_grid=true"], {"sample_grid.png"}),
        (["info__subroutines=[sample_grid]", "info__info_individual=false"], {"sample_grid.png"}),
        (["info__subroutines=[samples]", "info__info_grid=false"], {"sample-digits.png"}),
    ],
)
def test_which_samples_are_drawn(trained, settings, pictures):
    result = trained.run("info", "--config", *settings)
    assert result.status == 0, result.output
    assert {path.name for path in trained.path(INFO).glob("sample*.png")} == pictures


def test_an_unknown_study_is_a_warning(trained):
    result = trained.run("info", "--config", "info__study_name=nowhere", "info__subroutines=[hpo]")
    assert result.status == 0, result.output
    assert (
        "Warning: info.study_name: got 'nowhere', which is no study of the project; these are known: none."
        in result.output
    )


def test_an_artifact_tells_where_it_comes_from(informed):
    project, _ = informed
    result = project.run("info", "--config", f"info__artifact={LOGITS}", "info__subroutines=[tasks]")
    assert result.status == 0, result.output
    for word in ("predict_fold", "train_fold", "derive_task", "create_dataset", "create pp train predict test"):
        assert word in result.output
    traced = rows(project, "provenance")
    assert traced[0]["artifact"].endswith("digits+nested-0.npz")
    assert {"predict_fold", "train_fold", "preprocess_dataset", "create_task"} <= {row["rule"] for row in traced}
    assert len({row["commit"] for row in traced}) == 1


def test_an_artifact_that_is_not_there(informed):
    project, _ = informed
    result = project.run("info", "--config", f"info__artifact={LOGITS}x")
    assert result.status != 0
    assert "info.artifact" in result.output
    assert LOGITS in result.output
    assert "Traceback" not in result.output


def test_records_tell_settings_inputs_and_command(informed):
    project, _ = informed
    record = project.json("results/default/provenance/train_fold/a/digits+nested-0/fold-0.json")
    assert record["command"].endswith("create pp train predict test")
    assert f"{MODEL}/model.safetensors" in record["outputs"]
    assert "data/tasks/digits+nested-0/folds.csv" in record["inputs"]
    assert record["config"]["pipeline"]["trainer"] == {"limit_train_batches": 2, "max_epochs": 1}
    assert record["versions"]["foldwise"]
    folds = project.path("data/tasks/digits+nested-0/folds.csv").read_bytes()
    assert record["checksums"]["data/tasks/digits+nested-0/folds.csv"] == hashlib.sha256(folds).hexdigest()


def test_results_are_run_again_elsewhere(informed, tmp_path):
    project, _ = informed
    archive = tmp_path / "project.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(project.path("results/default"), "results/default")
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.folder.mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(elsewhere.folder, filter="data")
    given = ("--configfile", "results/default/config.yaml")
    assert elsewhere.dry_run("test", *given).jobs == {}
    before = elsewhere.contents("results/default/logits/**/*.npz", "results/default/models/**/model.safetensors")
    assert len(before) == 12
    for name in ("logits", "models", "scores", "tables"):
        shutil.rmtree(elsewhere.path(f"results/default/{name}"))
    result = elsewhere.run("predict", "test", *given)
    assert result.status == 0, result.output
    assert (
        elsewhere.contents("results/default/logits/**/*.npz", "results/default/models/**/model.safetensors") == before
    )


def test_secrets_reach_no_record(project):
    project.configure(
        definitions={
            "far": {
                "source": "folder",
                "url": "https://h.invalid/a.zip?token=hunter2",
                "sha256": "0" * 64,
                "type": "classification",
            }
        },
        tasks=["digits", "far"],
    )
    assert project.run("create", "--config", "create__subroutines=[dataset]", "tasks=[digits]").status == 0
    project.configure()
    found = subprocess.run(
        ["grep", "-rl", "hunter2", "results"], cwd=project.folder, capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    assert json.loads(next(project.path("results/default/provenance").rglob("*.json")).read_text())["command"]
