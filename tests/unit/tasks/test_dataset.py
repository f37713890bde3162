"""Datasets: made once, kept while whole, made anew otherwise."""

import shutil
from types import SimpleNamespace

import pytest

from foldwise.artifacts import FORMAT_VERSION, read_csv, read_json, sha256, write_json
from foldwise.config.definition import DatasetRecord, Description, TaskRecord
from foldwise.errors import DataError, MissingData
from foldwise.tasks.dataset import check_definition, check_files, create_dataset


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    """A dataset of this module's own."""
    folder = tmp_path_factory.mktemp("own") / "digits"
    shutil.copytree(digits.dataset.parent, folder)
    return SimpleNamespace(folder=folder, dataset=folder / "dataset.json", images=folder / "images.csv")


def create(made, revision=1, licence="CC BY 4.0"):
    about = Description(licence=licence)
    create_dataset(DatasetRecord(dataset="digits"), about, revision, made.dataset, made.images)


def dates(made):
    files = [*made.folder.glob("*.*"), *made.folder.glob("files/*.csv"), *made.folder.glob("files/images/00*.png")]
    return {path: path.stat().st_mtime_ns for path in files}


def test_the_description_says_what_is_there(digits):
    found = read_json(digits.dataset)
    assert found == {
        "format_version": FORMAT_VERSION,
        "dataset": "digits",
        "source": "embedded",
        "counts": {"images": 1797},
        "licence": "CC BY 4.0",
        "reference": None,
        "keywords": [],
        "definition": {"dataset": "digits"},
        "revision": 1,
        "checksums": {"images.csv": sha256(digits.images), "files/labels.csv": sha256(digits.labels)},
    }


def test_the_table_names_files_that_exist(digits):
    table = read_csv(digits.images, ["image", "path", "width", "height", "channels"])
    assert len(set(table["image"])) == 1797
    assert all((digits.images.parent / path).is_file() for path in table["path"])
    assert (set(table["width"]), set(table["height"]), set(table["channels"])) == ({"8"}, {"8"}, {"1"})


def test_what_an_equal_definition_wrote_is_kept(made):
    before = dates(made)
    create(made)
    assert dates(made) == before
    assert len(before) > 100


def test_another_definition_is_written_anew(made):
    for change in ({"revision": 2, "licence": "MIT"}, {"revision": 2}, {}):
        before = dates(made)
        create(made, **change)
        assert dates(made)[made.dataset] > before[made.dataset]
        found = read_json(made.dataset)
        assert (found["revision"], found["licence"]) == (change.get("revision", 1), change.get("licence", "CC BY 4.0"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dataset.json", b"{"),
        ("images.csv", b"image,path\n"),
        ("files/labels.csv", b"image,class\n0000,9\n"),
        ("files/images/0005.png", None),
    ],
)
def test_a_damaged_or_missing_file_is_written_anew(made, digits, name, content):
    if content is None:
        (made.folder / name).unlink()
    else:
        (made.folder / name).write_bytes(content)
    create(made)
    assert (made.folder / name).read_bytes() == (digits.dataset.parent / name).read_bytes()


class TestCheckDefinition:
    @pytest.fixture
    def description(self, tmp_path):
        write_json(tmp_path / "task.json", {"definition": {"dataset": "digits", "n_folds": 3}})
        return tmp_path / "task.json"

    def test_an_equal_definition_gives_the_description(self, description):
        record = TaskRecord(dataset="digits", n_folds=3)
        assert check_definition(description, record, "create_task") == read_json(description)

    def test_of_different_definitions_both_values_are_shown(self, description):
        with pytest.raises(DataError) as caught:
            check_definition(description, TaskRecord(dataset="digits", seed=7), "create_task")
        message = caught.value.message
        assert message.startswith(f"{description}: got data made with n_folds 3, seed 42, expected n_folds 5, seed 7")
        assert message.endswith(f"--forcerun create_task {description}")

    def test_a_missing_description_is_named(self, tmp_path):
        with pytest.raises(MissingData, match=r"task\.json: got nothing"):
            check_definition(tmp_path / "task.json", TaskRecord(dataset="digits"), "create_task")


def test_a_file_that_a_description_does_not_vouch_for_is_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n")
    check_files(tmp_path / "a.json", {"a.csv": sha256(path)}, {"a.csv": path}, "make_it")
    path.write_text("b\n")
    with pytest.raises(DataError) as caught:
        check_files(tmp_path / "a.json", {"a.csv": "0" * 64}, {"a.csv": path}, "make_it")
    assert caught.value.message == (
        f"{path}: got other content than a.json vouches for, expected the file as written. "
        f"--forcerun make_it {tmp_path / 'a.json'}"
    )
