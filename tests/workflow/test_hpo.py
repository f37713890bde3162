"""Mode hpo: trials are files and jobs; a killed study goes on; its best is a blueprint."""

import csv
import json
import os
import shutil
import signal
import time
from pathlib import Path

import optuna
import pytest
import yaml

from workflow.conftest import Project
from workflow.test_reruns import without_mode

CASES = sorted((Path(__file__).parents[1] / "cases/hpo").glob("*.yaml"))
STUDY = "results/default/studies/s"
SPACE = {"optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True}, "sampling.batch_size": [16, 32]}
HPO = {"study": "s", "trials": 4, "parallel": 2, "search_space": SPACE}
SETTINGS = {"pipelines": {"a": {}}, "train": {"cv": False}}
TRIALS = f"{STUDY}/trials/*.json"


def configure(project, hpo=None, **more):
    """Write the configuration of the study with changes."""
    project.configure({**SETTINGS, "hpo": {**HPO, **(hpo or {})}}, **more)


def trial(project, number):
    return project.json(f"{STUDY}/trials/{number}.json")


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """Return a project with a study of four trials; not to be changed."""
    project = Project(tmp_path_factory.mktemp("hpo") / "work")
    configure(project)
    result = project.run("hpo")
    assert result.status == 0, result.output
    project.said = result.output
    return project


@pytest.fixture
def copied(studied, tmp_path):
    """Return a copy of the project, dates included."""
    shutil.copytree(studied.folder, tmp_path / "work")
    return Project(tmp_path / "work")


def test_what_a_study_leaves(studied):
    trials = [trial(studied, number) for number in range(4)]
    assert [one["state"] for one in trials] == ["complete"] * 4
    assert [one["trial"] for one in trials] == [0, 1, 2, 3]
    with open(studied.path(f"{STUDY}/trials.csv"), newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [float(row["value"]) for row in rows] == [one["value"] for one in trials]
    assert [float(row["optimizer.lr"]) for row in rows] == [one["parameters"]["optimizer.lr"] for one in trials]
    best = min(trials, key=lambda one: one["value"])
    blueprint = yaml.safe_load(studied.path(f"{STUDY}/blueprint.yaml").read_text())
    assert (blueprint["task"], blueprint["study"]) == ("digits", "s")
    assert blueprint["optimizer"]["lr"] == best["parameters"]["optimizer.lr"]
    assert blueprint["sampling"]["batch_size"] == best["parameters"]["sampling.batch_size"]
    assert f"best value           {best['value']:.6g}" in studied.said
    assert studied.json(f"{STUDY}/runs/0.json")["seconds"] > 0
    assert not list(studied.path("results/default/checkpoints").glob("*"))


def test_nothing_is_done_twice(studied):
    assert studied.dry_run("hpo").jobs == {}


@pytest.fixture(scope="module")
def planned(studied, tmp_path_factory):
    """Return one copy of the study for all cases, as planning changes nothing but the configuration."""
    project = Project(tmp_path_factory.mktemp("cases") / "work")
    shutil.copytree(studied.folder, project.folder)
    return project


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(planned, path):
    case = yaml.safe_load(path.read_text())
    changes = dict(case["config"])
    configure(planned, changes.pop("hpo", None), **changes)
    if "error" in case:
        result = planned.run(case["target"], "-n")
        assert result.status != 0
        assert case["error"] in result.output
        assert "Traceback" not in result.output
        return
    result = planned.dry_run(case["target"], *case.get("arguments", []))
    assert without_mode(result.jobs, case["target"]) == case["reruns"], result.output


def test_more_trials_go_on_from_those_that_are_there(copied):
    before = copied.contents(TRIALS)
    configure(copied, {"trials": 5, "parallel": 1})
    result = copied.run("hpo")
    assert result.status == 0, result.output
    after = copied.contents(TRIALS)
    assert {name: after[name] for name in before} == before
    assert trial(copied, 4)["parallel"] == 1
    assert len(copied.path(f"{STUDY}/trials.csv").read_text().splitlines()) == 6


def test_the_blueprint_trains_the_best(copied):
    best = min((trial(copied, number) for number in range(4)), key=lambda one: one["value"])
    configure(copied, train={"cv": False, "use_blueprint": True}, reuse={"blueprint": "default/s"})
    result = copied.run("train")
    assert result.status == 0, result.output
    model = copied.json("results/default/models/a/digits+nested-0/fold-0/model.json")
    assert model["score"] == best["value"]
    assert model["metrics"] == best["folds"][0]["metrics"]


@pytest.mark.slow
def test_a_killed_study_loses_and_repeats_nothing(studied, tmp_path):
    """It is killed as soon as one more trial is finished: Snakemake then does not know yet that it is."""
    project = Project(tmp_path / "work")
    configure(project)
    shutil.copytree(studied.path("data"), project.path("data"))
    seen, dates = {}, {}
    for _ in range(3):
        process = project.start("hpo", start_new_session=True)
        end = time.monotonic() + 120
        while process.poll() is None and not (set(project.contents(TRIALS)) - set(seen)):
            assert time.monotonic() < end
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        project.run("--unlock")
        for name, content in project.contents(TRIALS).items():
            assert seen.setdefault(name, content) == content
            dates.setdefault(name, project.path(name).stat().st_mtime_ns)
    assert project.run("hpo").status == 0
    files = (TRIALS, f"{STUDY}/trials.csv", f"{STUDY}/blueprint.yaml")
    assert project.contents(*files) == studied.contents(*files)
    for name, date in dates.items():
        if project.path(name).stat().st_mtime_ns != date:
            log = project.path(f"results/default/logs/run_trial/s/{Path(name).stem}.log").read_text()
            assert "was finished before" in log


def test_trials_that_fail_are_recorded_and_the_rest_goes_on(copied):
    shutil.rmtree(copied.path(STUDY))
    space = {"optimizer.lr": [0.001, 1.0e30]}  # no loss is finite with the second
    configure(copied, {"search_space": space, "sampler": "grid", "trials": 9})
    result = copied.run("hpo")
    assert result.status == 0, result.output
    assert "Warning: hpo.trials: the grid has 2 points, fewer than 9 trials." in result.output
    found = {trial(copied, number)["state"]: trial(copied, number) for number in (0, 1)}
    assert set(found) == {"complete", "failed"}
    assert found["failed"]["value"] is None
    assert found["failed"]["error"]
    blueprint = yaml.safe_load(copied.path(f"{STUDY}/blueprint.yaml").read_text())
    assert blueprint["optimizer"]["lr"] == 0.001


@pytest.mark.parametrize("storage", ["sqlite:///copies/study.db", "copies/study.log"])
def test_finished_trials_are_copied_for_dashboards(copied, storage):
    configure(copied, {"storage": storage})
    assert copied.dry_run("hpo").jobs == {"export_study": 1, "hpo": 1}
    result = copied.run("hpo")
    assert result.status == 0, result.output
    place = copied.path("copies") / storage.rpartition("/")[2]
    if storage.startswith("sqlite"):
        opened = optuna.storages.RDBStorage(f"sqlite:///{place}")
    else:
        opened = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(place)))
    study = optuna.load_study(study_name="s", storage=opened)
    assert [one.value for one in study.trials] == [trial(copied, number)["value"] for number in range(4)]
    assert study.best_params["optimizer.lr"] == study.best_trial.params["optimizer.lr"]
    assert copied.dry_run("hpo").jobs == {}


def test_info_shows_studies(copied):
    result = copied.run("info", "--config", "info__subroutines=[hpo]")
    assert result.status == 0, result.output
    assert "Warning: info.study_name: no study is named; these are known: s." in result.output
    for name in ("studies.csv", "hpo.csv", "importance.csv", "history-s.png", "importance-s.png"):
        assert copied.path(f"results/default/info/{name}").stat().st_size > 10
    result = copied.run("info", "--config", "info__subroutines=[hpo]", "info__study_name=s")
    assert "Warning" not in result.output
    shown = copied.run("--report", "page.html")
    assert shown.status == 0, shown.output
    text = copied.path("page.html").read_text()
    assert "7 Studies" in text
    assert "blueprint.yaml.html" in text


def test_a_damaged_trial_is_named(copied):
    copied.path(f"{STUDY}/trials/1.json").write_text('{"trial": 1}')
    os.utime(copied.path(f"{STUDY}/trials/1.json"), (0, 0))
    configure(copied, {"trials": 5})
    result = copied.run("hpo")
    assert result.status != 0
    assert f"Error: {STUDY}/trials/1.json: got" in result.output
    assert json.loads(copied.path(f"{STUDY}/trials/0.json").read_text())["state"] == "complete"
