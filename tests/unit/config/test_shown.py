"""What mode info shows."""

import pytest

from foldwise.config.shown import info_config, part_files, shown_studies, shown_tasks
from unit.config.loading import load


@pytest.mark.parametrize(
    ("keys", "grid", "alone"),
    [
        ({}, True, True),
        ({"info_grid": False}, False, True),
        ({"subroutines": ["samples"], "info_individual": False}, True, False),
        ({"subroutines": ["sample_grid"]}, True, True),
        ({"subroutines": ["tasks"]}, False, False),
        ({"subroutines": ["tasks"], "info_grid": True}, True, False),
        ({"subroutines": ["tasks"], "info_grid": False, "info_individual": True}, False, True),
        ({"subroutines": ["models"], "info_grid": True}, False, False),
    ],
)
def test_which_pictures_of_samples_are_made(keys, grid, alone):
    section = load({"info": keys}).info
    assert (section.draws("info_grid"), section.draws("info_individual")) == (grid, alone)
    files = part_files("samples", section, ["a", "b"], [])
    assert ("grid" in files, {"samples_of_a", "samples_of_b"} <= set(files)) == (grid, alone)


def test_parts_from_the_command_line():
    assert load({"info__subroutines": "[sample_grid, tasks]"}).info.subroutines == ["samples", "tasks"]


def test_pictures_of_studies():
    files = part_files("hpo", load({}).info, [], ["s.1"])
    assert files["s.1.history"] == "history-s.1.png"
    assert files["s.1.importance"] == "importance-s.1.png"


def test_no_two_files_have_one_name():
    section = load({}).info
    files = [
        file
        for part in ("tasks", "samples", "models", "hpo", "artifact")
        for file in part_files(part, section, ["a"], ["a"]).values()
    ]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize(
    ("asked", "known", "found", "words"),
    [
        (None, [], [], ""),
        (None, ["a", "b"], ["a", "b"], "no study is named; these are known: a, b."),
        ("b", ["a", "b"], ["b"], ""),
        ("c", ["a", "b"], [], "got 'c', which is no study of the project; these are known: a, b."),
        ("c", [], [], "these are known: none."),
    ],
)
def test_studies_that_are_shown(asked, known, found, words):
    shown, warning = shown_studies(asked, known)
    assert shown == found
    assert words in warning if words else warning == ""


def test_tasks_that_are_shown():
    config = load({"tasks": ["digits", "digits_regression"], "pivot": {"name": "digits", "tags": "+subset-0.5"}})
    assert shown_tasks(config) == ["digits", "digits_regression", "digits+subset-0.5"]
    assert info_config(config, "tasks", "p", "d", ["s"]).tasks == shown_tasks(config)
    assert info_config(config, "hpo", "p", "d", ["s"]).studies == ["s"]
