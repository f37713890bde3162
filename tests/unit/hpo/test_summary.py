"""A study in a table, a blueprint that mode train can use, and words for the terminal."""

import pytest
import yaml

from foldwise.artifacts import read_csv
from foldwise.config.blueprint import apply_blueprint
from foldwise.config.space import apply_point
from foldwise.config.study import BestConfig
from foldwise.errors import DataError
from foldwise.hpo.summary import tabulate_trials, write_blueprint
from unit.config.loading import load
from unit.hpo.studies import LR, make_record, make_study, write_records

POINTS = [
    {"arch.dropout": 0.1, "sampling": {"batch_size": 16}},
    {"arch.dropout": 0.25, "optimizer.lr": 0.0123456789, "sampling": {"batch_size": 32}},
    {"arch.dropout": 0.3, "optimizer.lr": 0.1, "sampling": {"batch_size": 32}},
    {"arch.dropout": 0.4, "sampling": {"batch_size": 16}},
]
SPACE = {
    "arch.dropout": {"low": 0.0, "high": 0.5},
    "optimizer.lr": {**LR, "when": {"arch.dropout": [0.25, 0.3]}},
    "sampling": [{"batch_size": 16}, {"batch_size": 32}],
}
SECTIONS = ["arch", "sampling", "optimizer", "trainer", "preprocessing", "augmentations", "loss", "mode", "tta"]


@pytest.fixture
def config():
    return make_study(SPACE)


@pytest.fixture
def trials(config, tmp_path):
    """Four trials, the second of which is the best."""
    recipes = [apply_point(config.pipeline, config.space, point).model_dump(mode="json") for point in POINTS]
    records = [
        make_record(config, 0, POINTS[0], 0.5, recipe=recipes[0]),
        make_record(config, 1, POINTS[1], 0.125, recipe=recipes[1], epochs=7),
        make_record(config, 2, POINTS[2], 0.0625, "pruned", recipe=recipes[2], epochs=1),
        make_record(config, 3, POINTS[3], state="failed", error="no\nway", epochs=0),
    ]
    return write_records(tmp_path, records)


@pytest.fixture
def summary(tmp_path):
    def of(trials, direction="minimize"):
        best = BestConfig(study="first", pivot="digits", direction=direction, sections=SECTIONS)
        tabulate_trials(trials, tmp_path / "trials.csv")
        return write_blueprint(best, trials, tmp_path / "blueprint.yaml")

    return of


def test_the_table_has_a_row_a_trial_and_a_column_a_parameter(summary, trials, tmp_path):
    summary(trials[::-1])
    columns = ["trial", "state", "value", "arch.dropout", "sampling", "optimizer.lr", "epochs", "error"]
    assert (tmp_path / "trials.csv").read_text().splitlines() == [
        ",".join(columns),
        '0,complete,0.5,0.1,"{""batch_size"": 16}",,2,',
        '1,complete,0.125,0.25,"{""batch_size"": 32}",0.0123456789,7,',
        '2,pruned,0.0625,0.3,"{""batch_size"": 32}",0.1,1,',
        '3,failed,,0.4,"{""batch_size"": 16}",,0,no way',
    ]
    assert read_csv(tmp_path / "trials.csv", columns)["trial"] == ["0", "1", "2", "3"]


def test_the_blueprint_makes_the_recipe_of_the_best_trial_of_mode_train(config, summary, trials, tmp_path):
    summary(trials)
    blueprint = tmp_path / "blueprint.yaml"
    tree = yaml.safe_load(blueprint.read_text())
    assert (tree["task"], tree["study"]) == ("digits", "first")
    assert "tta" not in tree  # as trials have none of it
    use = {"use_blueprint": True}
    loaded = load(tasks=["digits"], pivot="digits", train=use, reuse={"blueprint": str(blueprint)}, tta="flip")
    found = apply_blueprint(loaded).pipelines["default"]
    wanted = apply_point(config.pipeline, config.space, POINTS[1])
    assert found == wanted.model_copy(update={"tta": loaded.pipelines["default"].tta})
    assert found.tta != wanted.tta


def test_the_text_tells_the_best_and_how_trials_ended(summary, trials):
    assert summary(trials).splitlines() == [
        "best value    0.125",
        "trial         1 of 4 (2 complete, 1 pruned, 1 failed)",
        "arch.dropout  0.25",
        "optimizer.lr  0.0123457",
        'sampling      {"batch_size": 32}',
    ]


def test_the_direction_decides_which_is_best(summary, trials):
    assert summary(trials, "maximize").startswith("best value    0.5\n")


def test_a_study_without_a_complete_trial_tells_the_first_reason(summary, trials, tmp_path):
    expected = (
        r"study first: got no complete trial among 2 \(1 pruned, 1 failed\), expected at least one\. .*trial 3: no\nway"
    )
    with pytest.raises(DataError, match=expected):
        summary(trials[2:])
    assert len((tmp_path / "trials.csv").read_text().splitlines()) > 1
    assert not (tmp_path / "blueprint.yaml").exists()
