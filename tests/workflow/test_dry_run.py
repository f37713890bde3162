"""What each mode plans, and how the plan reads."""

import pytest

DATA = {"create_dataset": 1, "create_task": 1}
TENSORS = {"create_dataset": 1, "preprocess_dataset": 1}
NESTED = {**DATA, "preprocess_dataset": 1, "derive_task": 2}
MODELS = {**NESTED, "train_fold": 4}
PLANS = {
    "create": {**DATA, "create": 1},
    "pp": {**TENSORS, "pp": 1},
    "train": {**MODELS, "resolve_pipeline": 2, "tabulate_validation": 1, "train": 1},
    "predict": {**MODELS, "predict_fold": 8, "predict": 1},
    "test": {**MODELS, "predict_fold": 4, "score_fold": 4, "tabulate_test": 1, "test": 1},
}


@pytest.mark.parametrize("mode", PLANS)
def test_jobs_of_each_mode(project, mode):
    assert project.dry_run(mode).jobs == PLANS[mode]


def test_train_is_the_default_target(project):
    assert project.dry_run().jobs == {"all": 1, **{k: v for k, v in PLANS["train"].items() if k != "train"}}


@pytest.mark.parametrize(
    ("settings", "models"),
    [
        ({"cv": False}, 1),
        ({"nested": False}, 2),
        ({"nested": False, "cv": False}, 1),
        ({"inner_folds": "all"}, 4),
        ({"inner_folds": "all", "cv": False}, 2),
        ({"pipelines": ["b"]}, 1),
    ],
)
def test_models_by_cv_nesting_and_pipelines(project, settings, models):
    project.configure(train=settings)
    jobs = project.dry_run("train").jobs
    pipelines = 1 if "pipelines" in settings else 2
    expected = 2 if "pipelines" in settings else models * pipelines
    assert jobs["train_fold"] == expected
    assert jobs["resolve_pipeline"] == pipelines


def test_subroutines_of_train(project):
    project.configure(train={"subroutines": ["train", "predict", "test"]})
    jobs = project.dry_run("train").jobs
    assert (jobs["train_fold"], jobs["predict_fold"], jobs["score_fold"]) == (4, 8, 4)


def test_subroutines_of_predict(project):
    project.configure(predict={"subroutines": ["predict", "test"]})
    assert {"predict_fold": 8, "score_fold": 4}.items() <= project.dry_run("predict").jobs.items()


def test_a_mode_may_train_fewer_folds_than_train(project):
    project.configure(test={"nested": False, "cv": False})
    assert project.dry_run("train").jobs["train_fold"] == 4
    assert project.dry_run("test").jobs["train_fold"] == 2


def test_create_of_a_dataset_alone(project):
    project.configure(create={"subroutines": ["dataset"]})
    assert project.dry_run("create").jobs == {"create_dataset": 1, "create": 1}


def test_messages_read_like_a_plan(project):
    output = project.dry_run("test").output
    for line in (
        "Create dataset digits: source embedded",
        "Create task digits: classification, 2 balanced folds, seed 42",
        "Derive task digits+nested-1 from digits: classification, 2 balanced folds, seed 42",
        "Preprocess dataset digits as default-44136fa3: size auto",
        "Train resnet10 on digits+nested-1, fold 0: 1 epoch, lr 0.001, batches of 64, seed 42, pipeline b",
        "Predict digits+nested-0 with the model of digits+nested-0, fold 0: pipeline a",
        "Score the model of digits+nested-0, fold 0, on digits+nested-0: pipeline a",
        "Tabulate test metrics: digits, pipelines a, b",
    ):
        assert line in output


def test_testing_without_nesting_warns(project):
    project.configure(train={"nested": False})
    warning = "Testing without nesting touches the test split of digits"
    assert project.dry_run("test").output.count(warning) == 1
    assert warning not in project.dry_run("train").output


def test_nesting_a_nested_pivot_warns(project):
    project.configure(pivot={"name": "digits", "tags": "+nested-1"})
    result = project.dry_run("train")
    assert "is nested already" in result.output
    assert "on digits+nested-1+nested-0, fold 0" in result.output


def test_finished_project_has_nothing_to_do(finished):
    for mode in PLANS:
        assert "Nothing to be done" in finished.dry_run(mode).output


def test_dry_run_writes_nothing(project):
    project.dry_run("test")
    assert not project.path("data").exists()
    assert not project.path("results").exists()
