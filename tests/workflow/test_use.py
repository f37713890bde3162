"""Ways to use the workflow: command line, overlays, presets, other directories, as a module."""

from workflow.conftest import REPOSITORY, Project

MODULE = """
configfile: "mine.yaml"

module foldwise:
    snakefile: "{snakefile}"
    config: config["foldwise"]

use rule * from foldwise as foldwise_*

rule everything:
    default_target: True
    input: rules.foldwise_train.input
"""


def test_results_hold_all_artifacts(finished):
    folder = "results/default/models/a/digits+nested-1/fold-0"
    assert {path.name for path in finished.path(folder).iterdir()} == {
        "model.safetensors",
        "model.json",
        "metrics.csv",
        "run.json",
    }
    run = finished.json(f"{folder}/run.json")
    assert run["threads"] == 1
    assert run["seconds"] > 0
    assert run["versions"]["torch"]
    assert finished.path("data/VERSION").read_text() == finished.path("results/default/VERSION").read_text()
    logs = [path for path in finished.path("results/default/logs").rglob("*.log") if "Error: " in path.read_text()]
    assert logs == []


def test_nested_models_predict_variant_and_pivot(finished):
    import numpy as np

    folder = "results/default/logits/a/digits+nested-1/fold-0"
    own = np.load(finished.path(f"{folder}/digits+nested-1.npz"), allow_pickle=False)
    pivot = np.load(finished.path(f"{folder}/digits.npz"), allow_pickle=False)
    assert {name.partition("_")[0] for name in own} == {"val", "test"}
    assert {name.partition("_")[0] for name in pivot} == {"test", "unlabeled"}
    assert own["test_logits"].dtype == np.float32
    assert own["test_logits"].shape == (len(own["test_ids"]), 10)
    assert own["test_ids"].dtype.kind == "U"
    assert not set(own["test_ids"]) & {*own["val_ids"], *pivot["test_ids"]}


def test_terminal_shows_the_tables(trained):
    for table in ("validation", "test"):
        trained.path(f"results/default/tables/{table}.csv").unlink()
    output = trained.run("train", "test").output
    assert "Validation metrics of digits, mean ± standard deviation over folds" in output
    assert "Test metrics of digits, mean ± standard deviation over folds" in output
    assert "accuracy" in output


def test_command_line_wins_over_the_file(project):
    project.configure(train={"nested": True}, pipelines={"a": {}})
    jobs = project.dry_run("train", "--config", "train__nested=false", "create__n_folds=3").jobs
    assert jobs["train_fold"] == 3
    assert "derive_task" not in jobs


def test_command_line_takes_mappings(project):
    output = project.dry_run("train", "--config", "train={nested: false, cv: false}", "arch={name: resnet34}").output
    assert "Train resnet34 on digits, fold 0" in output


def test_overlay_file(project):
    project.path("more.yaml").write_text("trainer: {max_epochs: 7}\npipelines: {c: {arch: small}}\n")
    result = project.dry_run("train", "--configfile", "more.yaml")
    assert "7 epochs" in result.output
    assert result.jobs["train_fold"] == 6


def test_presets_of_the_working_directory(project):
    project.path("config/presets").mkdir()
    project.path("config/presets/arch.yaml").write_text("mine: {name: densenet121}\n")
    project.configure(arch="mine")
    assert "Train densenet121 on" in project.dry_run("train").output


def test_without_a_configuration_of_its_own_the_shipped_one_is_used(tmp_path):
    (tmp_path / "empty").mkdir()
    result = Project(tmp_path / "empty").dry_run("train")
    assert result.jobs["train_fold"] == 5
    assert "Train resnet10 on digits+nested-4, fold 0: 12 epochs" in result.output


def test_as_a_module(project):
    import yaml

    project.configure(train={"cv": False}, pipelines={"a": {}})
    tree = yaml.safe_load(project.path("config/config.yaml").read_text())
    project.path("mine.yaml").write_text(yaml.safe_dump({"foldwise": tree}))
    project.path("Snakefile").write_text(MODULE.format(snakefile=REPOSITORY / "Snakefile"))
    module = Project(project.folder, project.path("Snakefile"))
    result = module.run()
    assert result.status == 0, result.output
    assert result.jobs["foldwise_train_fold"] == 1
    assert project.path("results/default/tables/validation.csv").is_file()


def test_last_epoch_instead_of_the_best(project):
    recipe = {"trainer": {"max_epochs": 3, "limit_train_batches": 2}, "optimizer": {"lr": 0.05}}
    project.configure(
        {**recipe, "pipelines": {"best": {}, "last": {"mode": {"store_best": False}}}}, train={"cv": False}
    )
    assert project.run("train").status == 0
    best, last = (
        project.json(f"results/default/models/{name}/digits+nested-0/fold-0/model.json") for name in ("best", "last")
    )
    assert last["epoch"] == 2
    assert best["score"] <= last["score"]


def test_without_parameters_no_weights_are_written(project):
    project.configure(train={"cv": False, "store_parameters": False}, pipelines={"a": {}})
    assert project.run("train").status == 0
    folder = project.path("results/default/models/a/digits+nested-0/fold-0")
    assert {path.name for path in folder.iterdir()} == {"model.json", "metrics.csv", "run.json"}
    assert project.dry_run("train").jobs == {}
