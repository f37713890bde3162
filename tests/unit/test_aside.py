"""What is about to be replaced is kept until it is clear that it will not be needed again."""

import os

import pytest

from foldwise.artifacts import write_text
from foldwise.aside import aside, put_back, release, restore_date, set_aside, status
from foldwise.errors import DataError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def output(tmp_path):
    path = tmp_path / "models/fold-0/model.json"
    write_text(path, "old")
    os.utime(path, (1000, 1000))
    set_aside([str(path)], tmp_path)
    return path


def test_a_lost_file_is_put_back_with_its_date(tmp_path, output):
    output.unlink()
    output.parent.rmdir()
    assert put_back([str(output)], tmp_path) == [output]
    assert output.read_text() == "old"
    assert output.stat().st_mtime == 1000
    release([str(output)], tmp_path)
    assert names(tmp_path) == ["models"]


def test_a_new_file_stays(tmp_path, output):
    write_text(output, "new")
    assert put_back([str(output)], tmp_path) == []
    assert output.read_text() == "new"


def test_the_file_itself_stays_where_it_is(tmp_path, output):
    assert output.read_text() == "old"
    release([str(output)], tmp_path)
    assert output.read_text() == "old"
    assert names(tmp_path) == ["models"]
    assert put_back([str(output)], tmp_path) == []


def test_release_leaves_what_others_set_aside(tmp_path, output):
    other = output.with_name("metrics.csv")
    write_text(other, "old")
    set_aside([str(other)], tmp_path)
    release([str(output)], tmp_path)
    other.unlink()
    assert put_back([str(output), str(other)], tmp_path) == [other]


def test_a_later_state_replaces_an_earlier_one(tmp_path, output):
    write_text(output, "newer")
    set_aside([str(output)], tmp_path)
    output.unlink()
    put_back([str(output)], tmp_path)
    assert output.read_text() == "newer"


def test_what_was_set_aside_by_a_killed_run_is_kept(tmp_path, output):
    output.unlink()
    set_aside([str(output)], tmp_path)
    assert put_back([str(output)], tmp_path) == [output]


def test_files_outside_the_root_and_missing_files_are_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x").write_text("old")
    paths = [str(tmp_path / "data/x"), str(tmp_path / "results/none")]
    set_aside(paths, tmp_path / "results")
    assert put_back(paths, tmp_path / "results") == []
    release(paths, tmp_path / "results")
    assert names(tmp_path) == ["data"]


def test_a_folder_is_left_alone(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    set_aside([str(folder)], tmp_path)
    assert names(tmp_path) == ["models"]
    folder.rmdir()
    assert put_back([str(folder)], tmp_path) == []


def test_nothing_is_copied_where_there_are_links(tmp_path, output):
    ((path, kept),) = aside([str(output)], tmp_path)
    assert (path, kept) == (output, tmp_path / ".aside/models/fold-0/model.json")
    assert path.samefile(kept)


def test_only_files_below_the_root_have_a_place(tmp_path):
    assert list(aside(["/etc/passwd", str(tmp_path / "a"), "b"], tmp_path)) == [(tmp_path / "a", tmp_path / ".aside/a")]


def test_a_file_that_took_the_place_of_a_folder_is_named(tmp_path, output):
    output.unlink()
    output.parent.rmdir()
    write_text(output.parent, "a file")
    with pytest.raises(DataError, match=f"Move {output.parent} away"):
        put_back([str(output)], tmp_path)


def test_a_disk_that_cannot_be_written_is_named(read_only_disk):
    with pytest.raises(DataError) as caught:
        set_aside([str(read_only_disk / "old")], read_only_disk)
    assert caught.value.message.startswith(f"{read_only_disk / '.aside/old'}: got read-only file system")


def test_the_date_of_a_file_is_given_back(tmp_path):
    path = tmp_path / "file"
    assert status(path) is None
    path.write_text("old")
    os.utime(path, ns=(5, 123456789123456789))
    before = status(path)
    path.write_text("new")
    restore_date(path, before)
    assert path.stat().st_mtime_ns == 123456789123456789
    path.unlink()
    restore_date(path, before)
    assert not path.exists()
