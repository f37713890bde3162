"""Logits are calibrated and models combined: in a finished project, from nothing, and on other task types."""

import csv
import hashlib
import shutil

import numpy as np
import pytest
import yaml

from workflow.conftest import TINY, Project
from workflow.shapes import TASKS, cases_in, copy_shapes, merge, settings
from workflow.test_mistakes import check_message
from workflow.test_reruns import without_mode

RESULTS = "results/default"
ENSEMBLE = f"{RESULTS}/ensembles/digits"
MEMBERS = [f"{pipeline}/digits+nested-{fold}/fold-0" for pipeline in "ab" for fold in range(2)]
JOBS = {"calibrate_fold": 4, "plot_calibration": 4, "combine_models": 1, "plot_ensemble": 1}
TOUCHED = "Warning: mode post touches the test split of digits, nested or not"
HELD = {"test_fraction": 0.25}
CONVEX = {"post": {"search": "convex"}}


def copy_of(project, folder):
    """Return a copy of a project, dates included."""
    shutil.copytree(project.folder, folder / "work")
    return Project(folder / "work")


def arrays(project, name):
    """Return all arrays of a file."""
    with np.load(project.path(name), allow_pickle=False) as stored:
        return dict(stored)


def check_ensemble(project, folder, known):
    """Check that the members of an ensemble are among those known, and that weights are shares; return its record."""
    record = project.json(f"{folder}/ensemble.json")
    assert record["members"]
    assert set(record["members"]) <= set(known)
    assert len(record["weights"]) == len(record["members"])
    assert sum(record["weights"]) == pytest.approx(1)
    assert min(record["weights"]) > 0
    return record


@pytest.fixture(scope="module")
def combined(finished, tmp_path_factory):
    """A project with calibrated logits and the best weights of all models, and what the run said; not to be changed."""
    project = copy_of(finished, tmp_path_factory.mktemp("post"))
    project.configure(merge(TINY, CONVEX))
    result = project.run("post")
    assert result.status == 0, result.output
    return project, result


def test_what_is_there_is_not_made_again(combined):
    project, result = combined
    assert result.jobs == {**JOBS, "post": 1}
    again = project.run("post")
    assert "Nothing to be done" in again.output
    assert again.status == 0


def test_what_is_missing_is_trained_and_predicted(project):
    expected = {"create_task": 1, "train_fold": 4, "predict_fold": 8, **JOBS}
    assert expected.items() <= project.dry_run("post").jobs.items()


def test_what_the_run_said(combined):
    output = combined[1].output
    assert output.count(TOUCHED) == 1
    assert "raw logits" not in output
    assert "Calibrate a on digits, model of digits+nested-1, fold 0: prior val" in output
    assert "Find an ensemble on digits: 4 members, search convex" in output
    assert "Ensemble on digits, metrics of" in output


@pytest.mark.parametrize("member", MEMBERS)
def test_calibrated_logits_are_log_probabilities(combined, member):
    raw, found = (arrays(combined[0], f"{RESULTS}/{kind}/{member}/digits.npz") for kind in ("logits", "calibrated"))
    assert set(raw) == set(found)
    for split in ("test", "unlabeled"):
        assert np.exp(found[f"{split}_logits"]).sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert np.array_equal(raw[f"{split}_ids"], found[f"{split}_ids"])


@pytest.mark.parametrize("member", MEMBERS)
def test_a_nested_model_is_calibrated_on_the_validation_samples_of_its_variant(combined, member):
    project = combined[0]
    own = arrays(project, f"{RESULTS}/logits/{member}/{member.split('/')[1]}.npz")
    raw, found = (arrays(project, f"{RESULTS}/{kind}/{member}/digits.npz") for kind in ("logits", "calibrated"))
    record = project.json(f"{RESULTS}/calibrated/{member}/digits.json")
    assert record["samples"] == len(own["val_ids"])
    assert record["prior"] == pytest.approx(np.bincount(own["val_targets"], minlength=10) / len(own["val_ids"]))
    assert record["prior_origin"] == "val"
    moved = record["scale"] * raw["test_logits"] + record["bias"] + np.log(record["prior"])
    normalised = moved - np.log(np.exp(moved).sum(axis=1, keepdims=True))
    assert found["test_logits"] == pytest.approx(normalised, abs=1e-4)


def test_members_have_paths_below_the_root_of_results(combined):
    project = combined[0]
    record = check_ensemble(project, ENSEMBLE, [f"default/calibrated/{member}/digits.npz" for member in MEMBERS])
    assert all(project.path(f"results/{member}").is_file() for member in record["members"])
    assert record["target"] == "digits"


def test_an_ensemble_has_logits_of_all_samples_of_the_task_in_their_order(combined):
    project = combined[0]
    record, found = project.json(f"{ENSEMBLE}/ensemble.json"), arrays(project, f"{ENSEMBLE}/logits.npz")
    splits = samples_of(project)
    assert set(found) == {f"{split}_{part}" for split in splits for part in ("logits", "targets", "ids")}
    members = [arrays(project, f"results/{member}") for member in record["members"]]
    for split, ids in splits.items():
        assert found[f"{split}_ids"].tolist() == ids
        total = sum(w * member[f"{split}_logits"] for w, member in zip(record["weights"], members, strict=True))
        assert found[f"{split}_logits"] == pytest.approx(total, abs=1e-5)


def samples_of(project):
    """Return the ids of the test and unlabeled samples of the digits, in their order."""
    found = {"test": [], "unlabeled": []}
    with project.path("data/tasks/digits/samples.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            found.get(row["split"], []).append(row["sample_id"])
    return found


def test_metrics_are_those_of_the_samples_that_did_not_select(combined):
    project = combined[0]
    record, metrics = (project.json(f"{ENSEMBLE}/{name}.json") for name in ("ensemble", "metrics"))
    found = arrays(project, f"{ENSEMBLE}/logits.npz")
    counts = record["selection"]["samples"], record["reporting"]["samples"]
    assert sum(counts) == len(found["test_ids"])
    assert metrics["samples"] == counts[1]
    assert set(metrics["metrics"]) == set(metrics["best_member"]["metrics"]) == set(metrics["difference"]["metrics"])
    assert metrics["best_member"]["name"] == record["best_single"]["name"]
    assert record["score"] <= record["best_single"]["score"]
    shuffled = np.random.default_rng(42).permutation(sum(counts))
    reporting = np.sort(found["test_ids"])[np.sort(shuffled[counts[0] :])]
    digest = hashlib.sha256("\n".join(reporting.tolist()).encode()).hexdigest()
    assert record["reporting"]["ids_sha256"] == digest


def test_two_runs_write_the_same_bytes(combined, tmp_path):
    project, folders = copy_of(combined[0], tmp_path), [f"{RESULTS}/{name}" for name in ("calibrated", "ensembles")]
    patterns = [f"{folder}/**/*" for folder in folders]
    before = project.contents(*patterns)
    for folder in folders:
        shutil.rmtree(project.path(folder))
    assert project.run("post").status == 0
    assert project.contents(*patterns) == before
    assert sum(name.endswith((".npz", ".json")) for name in before) == 11


@pytest.fixture(scope="module")
def planned(combined, tmp_path_factory):
    """Return one copy of the project for all cases, as planning changes nothing but the configuration."""
    return copy_of(combined[0], tmp_path_factory.mktemp("cases"))


@pytest.mark.parametrize("path", cases_in("post"), ids=lambda path: path.stem)
def test_case(planned, path):
    case = yaml.safe_load(path.read_text())
    planned.configure(merge(merge(TINY, CONVEX), case["config"]))
    result = planned.dry_run(case["target"])
    assert without_mode(result.jobs, case["target"]) == case["reruns"], result.output


MISTAKES = {
    "validation selects among nested models": (
        {"selection": "val"},
        ["post.selection: got train.nested: true, expected cv: true and nested: false"],
    ),
    "a prior of no class": ({"prior": [0, 0]}, ["post.prior: got [0.0, 0.0]", "a number above 0 for some class"]),
    "an unknown search": ({"search": "gready"}, ["post.search: got 'gready'", "Did you mean 'greedy'?"]),
    "weights that are not kept": ({"store_parameters": False}, ["post.store_parameters: got false"]),
    "no model": ({"pipelines": []}, ["post.pipelines: got no model to predict with"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(planned, name):
    section, parts = MISTAKES[name]
    planned.configure(merge(TINY, {"post": section}))
    check_message(planned.run("post", "-n"), *parts)


# Raw logits, other projects, other task types


def test_raw_logits_of_another_project(finished, tmp_path):
    project = copy_of(finished, tmp_path)
    model = "models/a/digits+nested-0/fold-0"
    shutil.copytree(project.path(f"{RESULTS}/{model}"), project.path(f"results/other/{model}"))
    shutil.copy(project.path(f"{RESULTS}/VERSION"), project.path("results/other/VERSION"))
    post = {"subroutines": ["ensemble"], "search": "greedy", "eval_frac": 0.25}
    project.configure(reuse={"models": ["other"]}, post=post, metrics={"bootstrap": 10})
    result = project.run("post")
    assert result.status == 0, result.output
    assert result.jobs == {"predict_fold": 1, "combine_models": 1, "plot_ensemble": 1, "post": 1}
    assert result.output.count("Warning: post.subroutines: without calibrate the ensemble combines raw logits") == 1
    assert not project.path(f"{RESULTS}/calibrated").exists()
    known = [f"default/logits/{member}/digits.npz" for member in (*MEMBERS, f"other~{MEMBERS[0]}")]
    record = check_ensemble(project, ENSEMBLE, known)
    assert record["search"]["eval_frac"] == 0.25
    metrics = project.json(f"{ENSEMBLE}/metrics.json")
    assert set(metrics["intervals"]) == set(metrics["metrics"])


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """A project with small images and labels of all types; runs are free to train what they need."""
    return copy_shapes(tmp_path_factory)


def configured(project, pivot, **changes):
    """Configure a pivot with a test split."""
    project.configure(settings(pivot=pivot, definitions={pivot: HELD}, **changes))


def test_where_validation_selects_members_are_pipelines_of_which_all_folds_are_averaged(typed):
    post = {"selection": "val", "search": "greedy", "prior": [0.5, 0.25]}
    configured(typed, "marks", train={"nested": False}, post=post)
    result = typed.run("post")
    assert result.status == 0, result.output
    record = check_ensemble(typed, f"{RESULTS}/ensembles/marks", ["default/calibrated/a"])
    assert record["type"] == "multilabel"
    assert (record["selection"]["samples"], record["reporting"]["samples"]) == (12, 4)
    folders = [f"{RESULTS}/calibrated/a/marks/fold-{fold}" for fold in range(2)]
    for folder in folders:
        calibrated = typed.json(f"{folder}/marks.json")
        assert calibrated["prior"] == [0.5, 0.25]
        assert calibrated["prior_asked"] == "list"
        assert len(calibrated["scale"]) == 2
    mean = np.mean([arrays(typed, f"{folder}/marks.npz")["test_logits"] for folder in folders], axis=0)
    assert arrays(typed, f"{RESULTS}/ensembles/marks/logits.npz")["test_logits"] == pytest.approx(mean, abs=1e-5)


def test_values_of_a_regression_task_are_combined_and_not_calibrated(typed):
    configured(typed, "sizes", train={"cv": False, "nested": False})
    check_message(typed.run("post", "-n"), "post.subroutines: got ['calibrate', 'ensemble'], expected [ensemble]")
    configured(typed, "sizes", train={"cv": False, "nested": False}, post={"subroutines": ["ensemble"]})
    result = typed.run("post")
    assert result.status == 0, result.output
    assert "a/sizes/fold-0/sizes.npz is the only member: the ensemble is that member" in result.output
    record = check_ensemble(typed, f"{RESULTS}/ensembles/sizes", ["default/logits/a/sizes/fold-0/sizes.npz"])
    assert record["weights"] == [1.0]
    single, ensemble = (
        arrays(typed, name)["test_logits"]
        for name in (f"results/{record['members'][0]}", f"{RESULTS}/ensembles/sizes/logits.npz")
    )
    assert np.array_equal(single, ensemble)


def test_a_pivot_without_labels_or_with_other_classes(typed):
    bare = {**TASKS["kinds"], "type": "unlabeled", "columns": {"image": "file"}}
    typed.configure(settings(definitions={"bare": bare}, tasks=["kinds", "bare"], pivot="bare"))
    check_message(typed.run("post", "-n"), "pivot: got 'bare', expected a task with labels for mode post")
    named = {"kinds": {**HELD, "classes": ["dark", "bright"]}}
    typed.configure(settings(definitions=named, post={"prior": [1, 1, 1]}))
    expected = "post.prior: got [1.0, 1.0, 1.0], expected 2 numbers, one for each of dark, bright"
    check_message(typed.run("post", "-n"), expected)
