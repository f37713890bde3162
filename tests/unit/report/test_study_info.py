"""Tables and pictures of studies: what files of trials tell, and which parameters matter."""

import csv
import json
import math

import pytest
from PIL import Image

from foldwise.artifacts import read_csv, write_json, write_text
from foldwise.report.study_info import describe_studies
from unit.hpo.studies import make_record, make_study, write_records

CHOICES = [{"name": "resnet18"}, {"name": "vit"}]
SPACE = [
    {"key": "optimizer.lr", "low": 1e-5, "high": 0.1, "step": None, "log": True, "integer": False},
    {"key": "arch", "choices": CHOICES, "low": None, "high": None, "step": None, "log": False, "integer": False},
    {"key": "arch.depth", "choices": None, "low": 1, "high": 8, "step": 1, "log": False, "integer": True},
]


def add_trial(project, number, value=0.5, state="complete", study="first", seconds=None, direction="minimize", **keys):
    folder = project / "studies" / study
    parameters = keys.pop("parameters", {"optimizer.lr": 1e-3, "arch": CHOICES[0]})
    tree = {
        "study": study, "trial": number, "state": state, "value": value, "parameters": parameters,
        "intermediate_values": [[0, 1.0]], "error": None, "recipe": {},
        "folds": [{"task": "digits+nested-0", "fold": 0, "score": value, "epoch": 0, "metrics": {}}],
        "definition": {"direction": direction, "space": SPACE}, **keys,
    }  # fmt: skip
    write_json(folder / "trials" / f"{number}.json", tree)
    if seconds is not None:
        write_json(folder / "runs" / f"{number}.json", {"seconds": seconds})


def describe(project, *studies):
    out = project.parent / "info"
    tables = {name: out / f"{name}.csv" for name in ("studies", "trials", "importance")}
    pictures = {
        f"{study}.{what}": out / f"{study}.{what}.png" for study in studies for what in ("history", "importance")
    }
    text = describe_studies(project, studies, tables | pictures)
    for path in pictures.values():
        with Image.open(path) as image:
            image.load()
    return text, {name: list(csv.DictReader(path.open(encoding="utf-8"))) for name, path in tables.items()}


def add_many(project, study="first", direction="minimize", depth=False):
    """Add trials whose learning rate decides all."""
    sign = -1 if direction == "maximize" else 1
    for number in range(40):
        rate = 10 ** (-5 + number * 7 % 40 / 10)
        parameters = {"optimizer.lr": rate, "arch": CHOICES[number % 2]}
        if depth and number % 2:
            parameters["arch.depth"] = 1 + number % 8
        add_trial(
            project, number, sign * (math.log10(rate) + 3) ** 2, study=study, direction=direction, parameters=parameters
        )


def test_a_row_a_study_counts_trials_and_has_the_best(tmp_path):
    for number, (value, state) in enumerate([(0.5, "complete"), (0.25, "complete"), (0.1, "pruned"), (None, "failed")]):
        add_trial(tmp_path, number, value, state)
    text, tables = describe(tmp_path, "first")
    (row,) = tables["studies"]
    assert list(row.values())[:9] == ["first", "digits", "4", "2", "1", "1", "minimize", "0.25", "1"]
    assert json.loads(row["best_parameters"]) == {"optimizer.lr": 1e-3, "arch": CHOICES[0]}
    assert text.splitlines()[2].split() == ["first", "4", "2", "1", "1", "0.25", "1"]
    assert '  arch: {"name": "resnet18"}' in text.splitlines()


def test_the_best_of_what_is_maximised_is_the_largest(tmp_path):
    for number, value in enumerate([0.5, 0.75, 0.75]):
        add_trial(tmp_path, number, value, direction="maximize")
    _, tables = describe(tmp_path, "first")
    assert (tables["studies"][0]["best_value"], tables["studies"][0]["best_trial"]) == ("0.75", "1")


def test_trials_have_a_row_in_the_order_of_numbers_and_a_column_a_parameter(tmp_path):
    add_trial(tmp_path, 10, parameters={"optimizer.lr": 0.01, "arch": CHOICES[1], "arch.depth": 3}, seconds=12.5)
    add_trial(tmp_path, 2)
    add_trial(tmp_path, 0, study="second", parameters={"flag": True, "size": None, "word": "x"})
    _, tables = describe(tmp_path, "first", "second")
    rows = tables["trials"]
    assert [(row["study"], row["trial"], row["seconds"]) for row in rows] == [
        *(("first", "2", ""), ("first", "10", "12.5"), ("second", "0", "")),
    ]
    assert [row["arch.depth"] for row in rows] == ["", "3", ""]
    assert [row["arch"] for row in rows] == ['{"name": "resnet18"}', '{"name": "vit"}', ""]
    assert [rows[2][name] for name in ("flag", "size", "word")] == ["true", "null", "x"]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("depth", [False, True])
def test_the_parameter_that_decides_is_the_most_important(tmp_path, direction, depth):
    add_many(tmp_path, direction=direction, depth=depth)
    _, tables = describe(tmp_path, "first")
    found = [(row["parameter"], float(row["importance"])) for row in tables["importance"]]
    assert found[0][0] == "optimizer.lr"
    assert found[0][1] > 0.5
    assert sum(value for _, value in found) == pytest.approx(1)


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [(0.5, "complete", {})],
        [(0.5, "complete", {}), (0.5, "complete", {})],
        [(0.5, "complete", {}), (0.6, "complete", {})],
        [(0.5, "pruned", {}), (0.6, "pruned", {})],
        [(None, "failed", {}), (None, "failed", {})],
        [(0.5, "complete", {"other": 1}), (0.25, "complete", {"optimizer.lr": 0.1})],
        [(0.5, "complete", {"arch": CHOICES[0]}), (0.25, "complete", {"arch": CHOICES[0]})],
    ],
)
def test_where_importance_cannot_be_told_a_picture_says_so(tmp_path, trials):
    for number, (value, state, parameters) in enumerate(trials):
        add_trial(tmp_path, number, value, state, parameters=parameters)
    text, tables = describe(tmp_path, "first")
    assert all(0 <= float(row["importance"]) <= 1 for row in tables["importance"])
    assert len(tables["trials"]) == len(trials)
    assert "Skipped" not in text


@pytest.mark.parametrize(
    "content",
    ["{", "{}", '{"trial": 1, "state": "running", "value": null}', '{"trial": "x", "state": "failed", "value": null}'],
)
def test_damaged_trials_are_named_and_left_out(tmp_path, content):
    add_trial(tmp_path, 0)
    write_text(tmp_path / "studies/first/trials/1.json", content)
    text, tables = describe(tmp_path, "first")
    assert [row["trial"] for row in tables["trials"]] == ["0"]
    assert f"Skipped 1 file that cannot be read: {tmp_path}/studies/first/trials/1.json: " in text


def test_a_value_that_the_search_space_does_not_have_is_told(tmp_path):
    add_trial(tmp_path, 0, 0.5, parameters={"arch.depth": 99})
    add_trial(tmp_path, 1, 0.25, parameters={"arch.depth": 3})
    add_trial(tmp_path, 2, 0.75, definition={})
    text, tables = describe(tmp_path, "first")
    assert len(tables["trials"]) == 3
    assert "Skipped 2 files" in text


def test_pictures_have_the_same_bytes_each_time(tmp_path):
    add_many(tmp_path / "project", study="a", depth=True)
    found = []
    for _ in range(2):
        describe(tmp_path / "project", "a")
        found.append([(tmp_path / f"info/a.{what}.png").read_bytes() for what in ("history", "importance")])
    assert found[0] == found[1]


def test_without_studies_tables_have_headers(tmp_path):
    text, tables = describe(tmp_path)
    assert text == "There is no study to show."
    assert list(tables.values()) == [[], [], []]


def test_importance_of_trials_as_they_are_written(tmp_path):
    space = {"optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True}, "sampling.batch_size": [16, 32]}
    config = make_study(space)
    points = [
        {"optimizer.lr": 10 ** -(1 + number / 4), "sampling.batch_size": 16 * (1 + number % 2)} for number in range(12)
    ]
    values = [abs(number - 5) / 10 for number in range(12)]
    records = [make_record(config, number, points[number], values[number]) for number in range(12)]
    write_records(tmp_path / "studies" / config.study, records)
    paths = {name: tmp_path / f"{name}.csv" for name in ("studies", "trials", "importance")}
    pictures = {f"{config.study}.{kind}": tmp_path / f"{kind}.png" for kind in ("history", "importance")}
    text = describe_studies(tmp_path, [config.study], {**paths, **pictures})
    assert "Skipped" not in text
    found = read_csv(paths["importance"], ["parameter", "importance"])
    assert sorted(found["parameter"]) == sorted(space)
    assert float(dict(zip(*found.values(), strict=True))["optimizer.lr"]) > 0.5
