"""Datasets: made once, kept while whole, made anew otherwise."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from foldwise.artifacts import FORMAT_VERSION, read_csv, read_json, sha256, write_json
from foldwise.config.definition import DatasetRecord, Description, TaskRecord
from foldwise.config.jobs import DatasetConfig, Origin
from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.tasks.dataset import create_dataset, setting_aside
from foldwise.tasks.descriptions import DatasetFiles, check_definition, check_files


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    """A dataset of this module's own."""
    folder = tmp_path_factory.mktemp("own") / "digits"
    shutil.copytree(digits.dataset.description.parent, folder)
    return DatasetFiles.of(folder)


def create(made, revision=1, licence="CC BY 4.0", on_error="stop", check="full", **record):
    config = DatasetConfig(dataset=DatasetRecord(**{"dataset": "digits", **record}), check=check)
    about = Description(licence=licence)
    create_dataset(config, Origin([], [], on_error), about, revision, None, made)


def dates(made):
    folder = made.description.parent
    files = [*folder.glob("*.*"), *folder.glob("files/images/00*.png")]
    return {path: path.stat().st_mtime_ns for path in files}


def contents(made):
    return {path: path.read_bytes() for path in made.description.parent.rglob("*") if path.is_file()}


def test_the_description_says_what_is_there(digits):
    found = read_json(digits.dataset.description)
    assert found == {
        "format_version": FORMAT_VERSION,
        "dataset": "digits",
        "source": "embedded",
        "counts": {"images": 1797, "samples": 1797, "skipped": 0},
        "check": "full",
        "class_names": found["class_names"],
        "mask_values": [],
        "content": found["content"],
        "skipped": [],
        "duplicates": found["duplicates"],
        "licence": "CC BY 4.0",
        "reference": None,
        "keywords": [],
        "definition": {"dataset": "digits"},
        "revision": 1,
        "inputs": {},
        "checksums": {name: sha256(path) for name, path in digits.dataset.tables.items()},
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
        assert dates(made)[made.description] > before[made.description]
        found = read_json(made.description)
        assert (found["revision"], found["licence"]) == (change.get("revision", 1), change.get("licence", "CC BY 4.0"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dataset.json", b"{"),
        ("images.csv", b"image,path\n"),
        ("annotations.csv", b"image,class\n0000,9\n"),
        ("files/images/0005.png", None),
    ],
)
def test_a_damaged_or_missing_file_is_written_anew(made, digits, name, content):
    path = made.description.parent / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    create(made)
    assert path.read_bytes() == (digits.dataset.description.parent / name).read_bytes()


class TestLocalFolder:
    @pytest.fixture
    def birds(self, tmp_path, monkeypatch):
        """Images of one's own in the working directory."""
        monkeypatch.chdir(tmp_path)
        for place, name in enumerate(["robin/a.png", "robin/b.png", "wren/a.png"]):
            path = tmp_path / "birds" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6), (place, 0, 0)).save(path)
        return DatasetFiles.of(Path("data/datasets/birds"))

    def create(self, birds, **more):
        create(birds, **{"dataset": "birds", "source": "folder", "path": "birds", **more})

    def test_images_are_reached_through_a_link_that_moves_along(self, birds):
        self.create(birds)
        link = birds.description.parent / "files"
        assert str(link.readlink()) == "../../../birds"
        table = read_csv(birds.images, ["path", "width", "height"])
        assert table["path"] == ["files/robin/a.png", "files/robin/b.png", "files/wren/a.png"]
        assert (table["width"][0], table["height"][0]) == ("8", "6")
        assert all((birds.description.parent / path).is_file() for path in table["path"])

    def test_another_source_never_touches_the_folder(self, birds, tmp_path):
        self.create(birds)
        create(birds, dataset="digits")
        assert not (birds.description.parent / "files").is_symlink()
        assert sorted(path.name for path in (tmp_path / "birds").rglob("*.png")) == ["a.png", "a.png", "b.png"]
        self.create(birds)
        assert (birds.description.parent / "files").is_symlink()

    def test_without_a_check_sizes_are_unknown_and_broken_images_stay(self, birds, tmp_path):
        (tmp_path / "birds/wren/a.png").write_bytes(b"")
        self.create(birds, check="none")
        assert read_csv(birds.images, ["width"])["width"] == ["", "", ""]
        with pytest.raises(DataProblems, match=r"wren/a\.png"):
            self.create(birds)

    def test_a_full_check_serves_those_who_want_none(self, birds):
        self.create(birds)
        before = dates(birds)
        self.create(birds, check="none")
        assert dates(birds) == before

    def test_skipped_images_are_recorded_and_left_out(self, birds, tmp_path):
        (tmp_path / "birds/wren/a.png").write_bytes(b"")
        self.create(birds, on_error="skip")
        found = read_json(birds.description)
        assert [item["image"] for item in found["skipped"]] == ["wren/a.png"]
        assert found["counts"] == {"images": 2, "samples": 2, "skipped": 1}
        assert read_csv(birds.annotations, ["image"])["image"] == ["robin/a.png", "robin/b.png"]

    def test_nothing_that_can_be_used_is_told(self, birds, tmp_path):
        for path in (tmp_path / "birds").rglob("*.png"):
            path.write_bytes(b"")
        with pytest.raises(DataError, match="no image that can be used"):
            self.create(birds, on_error="skip")

    def test_a_missing_folder_is_named(self, birds):
        with pytest.raises(MissingData, match="elsewhere: got nothing, expected the images of dataset birds"):
            self.create(birds, path="elsewhere")

    def test_the_folder_of_the_data_may_lie_behind_a_link(self, birds, tmp_path):
        disk = tmp_path / "disk/deep/data"
        disk.mkdir(parents=True)
        (tmp_path / "data").symlink_to(disk)
        self.create(birds)
        assert (birds.description.parent / "files/wren/a.png").is_file()

    @pytest.mark.parametrize("check", ["full", "none"])
    def test_what_changed_in_the_folder_is_seen_when_it_is_made_again(self, birds, tmp_path, check):
        self.create(birds, check=check)
        before = dates(birds)
        self.create(birds, check=check)
        assert dates(birds) == before
        Image.new("RGB", (8, 6), (9, 9, 9)).save(tmp_path / "birds/wren/b.png")
        self.create(birds, check=check)
        assert read_csv(birds.images, ["image"])["image"][2:] == ["wren/a.png", "wren/b.png"]
        before = dates(birds)
        Image.new("RGB", (8, 6), (7, 7, 7)).save(tmp_path / "birds/wren/b.png")
        self.create(birds, check=check)
        assert dates(birds)[birds.description] > before[birds.description]

    @pytest.mark.parametrize("arguments", [{"bright": 1}, {"bright": 2}])
    def test_images_of_old_come_back_if_others_cannot_be_made(self, birds, tmp_path, arguments):
        item = "{'image': np.full((4, 4), bright, 'u1'), 'name': 'a'}"
        code = f"import numpy as np\ndef draw(folder, bright):\n    yield {item}\n"
        (tmp_path / "drawn_here.py").write_text(code)
        keys = {"dataset": "birds", "source": "python", "function": "drawn_here:draw", "path": str(tmp_path)}
        create(birds, **keys, arguments={"bright": 1})
        before = contents(birds)
        (tmp_path / "drawn_here.py").write_text(f"{code.replace('bright,', 'bright + 8,')}    raise OSError\n")
        with pytest.raises(DataError, match="OSError"):
            create(birds, **keys, arguments=arguments)
        assert contents(birds) == before

    def test_images_set_aside_before_a_kill_come_back(self, birds):
        create(birds, dataset="digits")
        before = contents(birds)
        aside = setting_aside(birds.description)
        aside.__enter__()
        assert not (birds.description.parent / "files").exists()
        create(birds, dataset="digits")
        assert contents(birds) == before


class TestConvertedFiles:
    @pytest.fixture
    def scans(self, tmp_path, monkeypatch):
        """Two volumes, one of them cut short."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "scans/sick").mkdir(parents=True)
        for name in ("a", "b"):
            volume = np.arange(4 * 4 * 3, dtype=np.int16).reshape(4, 4, 3)
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / f"scans/sick/{name}.nii")
        cut = tmp_path / "scans/sick/b.nii"
        cut.write_bytes(cut.read_bytes()[:360])
        return DatasetFiles.of(Path("data/datasets/scans"))

    def test_broken_ones_are_told_and_stop(self, scans):
        with pytest.raises(DataProblems, match=r"sick/b\.nii: cannot be read"):
            create(scans, dataset="scans", source="nifti", path="scans")
        assert not scans.description.exists()

    @pytest.mark.parametrize("check", ["full", "none"])
    def test_broken_ones_are_skipped_if_wanted(self, scans, check):
        create(scans, dataset="scans", source="nifti", path="scans", on_error="skip", check=check)
        found = read_json(scans.description)
        assert [item["image"] for item in found["skipped"]] == ["sick/b.nii"]
        assert read_csv(scans.images, ["image"])["image"] == [f"sick/a/00{number}.png" for number in range(3)]


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
