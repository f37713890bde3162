"""Blueprints: what they override, and what is refused."""

import pytest
import yaml

from foldwise.config.blueprint import apply_blueprint
from foldwise.errors import FoldwiseError
from unit.config.loading import load

LEARNED = {"optimizer": {"name": "sgd", "lr": 0.3}, "arch": {"name": "resnet34"}, "metrics": {"classification": ["f1"]}}


@pytest.fixture
def blueprint(tmp_path):
    def write(name="blueprint.yaml", **tree):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"task": "digits", **LEARNED, **tree}))
        return str(path)

    return write


def applied(path, **keys):
    return apply_blueprint(load(train__use_blueprint=True, reuse__blueprint=path, **keys))


def message(path, **keys):
    with pytest.raises(FoldwiseError) as caught:
        applied(path, **keys)
    return caught.value.message


def test_a_blueprint_that_is_not_used_changes_nothing(blueprint):
    config = load(reuse__blueprint=blueprint())
    assert apply_blueprint(config) is config


def test_it_overrides_the_sections_of_pipeline_keys_alone(blueprint):
    recipe = applied(blueprint()).pipelines["default"]
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.arch.name) == ("sgd", 0.3, "resnet34")
    assert recipe.metrics == load().pipelines["default"].metrics
    some = applied(blueprint(), train__pipeline_keys=["optimizer", "metrics"]).pipelines["default"]
    assert (some.optimizer.name, some.arch.name, some.metrics.classification) == ("sgd", "resnet18", ["f1"])


@pytest.mark.parametrize(
    ("section", "before", "change", "after"),
    [
        ("optimizer", {"name": "sgd", "momentum": 0.5}, {"lr": 0.3}, {"name": "sgd", "momentum": 0.5, "lr": 0.3}),
        ("arch", {"name": "resnet34"}, {"dropout": 0.1}, {"name": "resnet34", "dropout": 0.1}),
        ("arch", {"source": "my:net", "dropout": 0.1}, {"dropout": 0.2}, {"source": "my:net", "dropout": 0.2}),
        ("arch", {"name": "resnet34"}, {"source": "my:net"}, {"source": "my:net"}),
        ("loss", {"name": "focal"}, {"label_smoothing": 0.1}, {"name": "focal", "label_smoothing": 0.1}),
        ("lr_scheduler", {}, {"warmup_epochs": 2}, {"warmup_epochs": 2}),
        ("optimizer", {"name": "sgd"}, {}, {"name": "sgd"}),
        ("optimizer", {"name": "sgd"}, None, {"name": "sgd"}),
        ("optimizer", {"name": "sgd", "momentum": 0.5}, {"name": "sgd"}, {"name": "sgd"}),
        ("sampling", {"batch_size": 8, "balanced": True}, {"batch_size": 32}, {"batch_size": 32}),
    ],
)
def test_a_section_without_a_name_changes_the_choice_of_the_pipeline(blueprint, section, before, change, after):
    made = applied(blueprint(**{"optimizer": {}, "arch": {}, section: change}), **{section: before})
    assert getattr(made.pipelines["default"], section) == getattr(
        load(**{section: after}).pipelines["default"], section
    )


def test_it_overrides_the_seed_only_where_it_is_a_pipeline_key(blueprint):
    assert applied(blueprint(seed=7)).seed == 42
    assert applied(blueprint(seed=7), train__pipeline_keys=["seed"]).seed == 7


def test_it_changes_the_one_selected_pipeline(blueprint):
    config = applied(blueprint(), pipelines={"a": {}, "b": {}}, train__pipelines=["b"])
    assert [config.pipelines[name].optimizer.name for name in "ab"] == ["adamw", "sgd"]
    text = message(blueprint(), pipelines={"a": {}, "b": {}})
    assert text.startswith("train.use_blueprint: got 2 pipelines, a, b, expected one selected pipeline.")


def test_nested_tags_aside_its_task_is_the_pivot(blueprint):
    path = blueprint(task="digits+nested-3")
    assert applied(path).pipelines["default"].arch.name == "resnet34"
    text = message(path, pivot="digits+subset-0.5")
    assert f"{path}: task: got 'digits+nested-3', expected the pivot, digits+subset-0.5" in text


def test_the_best_of_a_study_has_a_short_name(blueprint, tmp_path):
    blueprint("results/old/studies/wide/blueprint.yaml")
    config = applied("old/wide", results_dir=str(tmp_path / "results"))
    assert config.pipelines["default"].optimizer.lr == 0.3
    text = message("old/narrow", results_dir=str(tmp_path / "results"))
    expected = f"reuse.blueprint: {tmp_path}/results/old/studies/narrow/blueprint.yaml: got nothing, expected a blue"
    assert text.startswith(expected)


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"optimiser": {}}, "optimiser: got an unknown key, expected one of"),
        ({"optimizer": {"name": "sgdd"}}, ": optimizer.name: got 'sgdd', expected one of"),
        ({"optimizer": {"momentum": 0.5}}, ": optimizer.momentum: got an unknown key"),
        ({"optimizer": "sgd"}, ": optimizer: got 'sgd', expected a mapping"),
        ({"task": "3/4"}, ": task: got '3/4', expected a name of letters"),
    ],
)
def test_a_wrong_blueprint_is_told_with_file_and_key(blueprint, tree, text):
    path = blueprint(**tree)
    found = message(path)
    assert found.startswith(path)
    assert text in found


def test_without_a_blueprint_there_is_none_to_use():
    assert message(None).startswith("reuse.blueprint: got nothing, expected a blueprint: a file, or PROJECT/STUDY.")
