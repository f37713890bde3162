"""Data roots of mml-core: what counts as a task, and what it is called here."""

import json
from pathlib import Path

import pytest

from foldwise.config.names import NAME
from foldwise.errors import DataError
from foldwise.migrations.mml.root import MmlTag, dataset_names, find_tasks, our_name, our_names

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def put(tmp_path):
    """Write a description that is no more than a name."""

    def run(place, name, key="name"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({key: name}))
        return path

    return run


def test_tasks_come_with_dataset_base_tags_and_version(put, tmp_path):
    put("RAW/DSET_a/TASK_x.json", "x")
    put("RAW/DSET_a/TASK_x+nested?0.json", "x+nested?0?5+subset?0_05")
    put("RAW/b/my TASK.json", "y", "alias")
    found = {task.name: task for task in find_tasks(tmp_path)}
    assert {name: (task.dataset, task.version) for name, task in found.items()} == {
        "x": ("DSET_a", "1.0"),
        "x+nested?0?5+subset?0_05": ("DSET_a", "1.0"),
        "y": ("b", "0.11"),
    }
    variant = found["x+nested?0?5+subset?0_05"]
    assert (variant.base, variant.tags) == ("x", (MmlTag("nested", ("0", "5")), MmlTag("subset", ("0_05",))))
    assert all(task.state == "task" for task in found.values())


def test_left_overs_are_passed_over(put, tmp_path):
    put("RAW/DSET_a/TASK_x.json", "x")
    put("RAW/DSET_a/TASK_empty_name.json", "")
    put("RAW/DSET_a/deeper/TASK_y.json", "y")
    put("RAW/TASK_z.json", "z")
    put("tasks/z/task.json", "z")
    for name in ("temp.json", "temp_0.json", "notes.json"):
        (tmp_path / "RAW/DSET_a" / name).write_bytes(b"")
    (tmp_path / "VERSION").write_text("1")
    assert [task.name for task in find_tasks(tmp_path)] == ["x"]


def test_linked_folders_are_followed(put, tmp_path):
    put("elsewhere/TASK_x.json", "x")
    (tmp_path / "RAW").mkdir()
    (tmp_path / "RAW" / "DSET_a").symlink_to(tmp_path / "elsewhere")
    assert [(task.name, task.dataset) for task in find_tasks(tmp_path)] == [("x", "DSET_a")]


def test_duplicates_are_reported(put, tmp_path):
    first = put("RAW/DSET_a/TASK_x.json", "x")
    put("RAW/DSET_b/TASK_x.json", "x")
    states = [(task.dataset, task.state, task.reason) for task in find_tasks(tmp_path)]
    assert states == [("DSET_a", "task", ""), ("DSET_b", "duplicate", f"{first} has the name x too")]


def test_tasks_that_are_only_preprocessed_are_reported_once(put, tmp_path):
    put("RAW/DSET_a/TASK_x.json", "x")
    for folder in ("default", "size224"):
        put(f"PREPROCESSED/{folder}/DSET_a/TASK_x.json", "x")
        put(f"PREPROCESSED/{folder}/DSET_a/TASK_y.json", "y")
    assert [(task.name, task.state) for task in find_tasks(tmp_path)] == [("x", "task"), ("y", "preprocessed")]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"", "is empty"), (b"{", "cannot be read"), (b'{"task_type": ""}', "no name"), (b'{"name": 1}', "no name")],
)
def test_what_cannot_be_read_does_not_stop_the_others(put, tmp_path, raw, reason):
    put("RAW/DSET_a/TASK_b.json", "b")
    (tmp_path / "RAW/DSET_a/TASK_a.json").write_bytes(raw)
    broken, task = find_tasks(tmp_path)
    assert (broken.state, task.name) == ("unreadable", "b")
    assert reason in broken.reason
    assert "TASK_a.json" in broken.reason


def test_tasks_are_found_one_by_one(put, tmp_path):
    put("RAW/DSET_a/TASK_a.json", "a")
    tasks = find_tasks(tmp_path)
    put("RAW/DSET_b/TASK_b.json", "b")
    assert next(tasks).name == "a"
    assert next(tasks).name == "b"


def test_another_folder_is_no_data_root(tmp_path):
    with pytest.raises(DataError, match="expected a data root of mml-core"):
        next(find_tasks(tmp_path))


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("birds", "birds"),
        ("h.dot", "h.dot"),
        ("birds+nested?0", "birds.nested-0"),
        ("birds+subset?0_05+identity", "birds.subset-0_05.identity"),
        ("a__b", "a_b"),
        ("_private", "private"),
        ("Bäume im Wald", "Baume-im-Wald"),
        ("100%", "100-"),
        ("花", "task"),
        ("", "task"),
        ("+x", "x"),
    ],
)
def test_names(name, ours):
    assert our_name(name) == ours
    assert NAME.fullmatch(ours)


def test_long_names_stay_different():
    names = ["x" * 150 + end for end in "ab"]
    assert len({our_name(name) for name in names}) == 2
    assert all(len(our_name(name)) == 100 and NAME.fullmatch(our_name(name)) for name in names)


def test_no_two_tasks_have_one_name_whatever_the_order():
    names = ["a b", "a-b", "a%b", "a?b", "c"]
    expected = {"a b": "a-b-2", "a%b": "a-b-3", "a-b": "a-b", "a?b": "a-b-4", "c": "c"}
    assert our_names(names) == our_names(names[::-1]) == expected


def test_numbers_of_long_names_fit():
    long = "x" * 100
    given = our_names([long, f"_{long}"])
    assert given[long] == long
    assert len(given[f"_{long}"]) == 100
    assert len(set(given.values())) == 2


def test_datasets_lose_their_prefix():
    assert dataset_names(["DSET_a", "a", "DSET_b c"]) == {"DSET_a": "a", "a": "a-2", "DSET_b c": "b-c"}
