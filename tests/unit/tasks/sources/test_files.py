"""Image files below a folder, and what tables call them."""

import os

import pytest

from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.tasks.sources.files import ImageRoot, find_splits, list_images


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_images_are_listed_by_suffix_and_others_counted(tmp_path):
    touch(tmp_path, "b/1.JPG", "a.Png", "b/c d/ü x.tiff", "b/text.txt", "Thumbs.db", ".hidden.png", ".git/a.png")
    touch(tmp_path, "__MACOSX/b/._1.jpg", "b/png", "b/.png")
    files = list_images(tmp_path)
    assert files.images == ["a.Png", "b/1.JPG", "b/c d/ü x.tiff"]
    assert files.folders == ["b", "b/c d"]
    assert (files.others, files.hidden) == (3, 4)


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "root/a/1.png", "root/b/2.png", "elsewhere/deep/3.png")
    links = {"root/a/to-b": "root/b", "root/b/to-a": "root/a", "root/a/up": "root", "root/a/self": "root/a"}
    for link, target in {**links, "root/c": "elsewhere", "root/link.png": "elsewhere/deep/3.png"}.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    (tmp_path / "root/nowhere.png").symlink_to("missing")
    (tmp_path / "root/loop.png").symlink_to("loop.png")
    assert list_images(tmp_path / "root").images == [
        *("a/1.png", "a/to-b/2.png", "b/2.png", "b/to-a/1.png", "c/deep/3.png"),
        *("link.png", "loop.png", "nowhere.png"),
    ]


def test_folders_that_all_link_to_each_other_are_refused_at_once(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}").mkdir()
        for other in range(20):
            (tmp_path / f"{number}/to-{other}").symlink_to(tmp_path / f"{other}")
    with pytest.raises(DataError, match="a link within 8 linked folders"):
        list_images(tmp_path)


def test_names_that_cannot_be_written_are_listed(tmp_path):
    for name in (b"fine.png", b"\xff\xfe.png", b"two\nlines.png", b"return\r.png", "separator\u2028.png".encode()):
        (tmp_path / os.fsdecode(name)).touch()
    touch(tmp_path, os.fsdecode(b"\xe9t\xe9/a.png"))
    with pytest.raises(DataProblems) as caught:
        list_images(tmp_path)
    named = {problem.where for problem in caught.value.problems}
    assert named == {
        r"'\udcff\udcfe.png'",
        r"'two\nlines.png'",
        r"'return\r.png'",
        r"'separator\u2028.png'",
        r"'\udce9t\udce9'",
    }
    assert "not valid UTF-8 or contains a line break" in caught.value.message.encode().decode()


def test_what_is_neither_file_nor_folder_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataProblems, match=r"pipe\.png: neither a file nor a folder"):
        list_images(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(DataProblems, match="locked/: permission denied"):
        list_images(tmp_path)


def test_a_root_that_is_no_folder_is_named(tmp_path):
    touch(tmp_path, "file")
    (tmp_path / "link").symlink_to("missing")
    for name, error, found in (
        ("none", MissingData, "nothing"),
        ("file", DataError, "a file"),
        ("link", DataError, "a link that leads nowhere"),
    ):
        with pytest.raises(error, match=f"{name}: got {found}, expected a folder"):
            list_images(tmp_path / name)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["Train", "TESTING", "valid"], {"Train": "train", "TESTING": "test", "valid": "val"}),
        (["training", "Unlabelled"], {"training": "train", "Unlabelled": "unlabeled"}),
        (["train", "test", "cats"], {}),
        (["cats", "dogs", "unlabeled"], {"unlabeled": "unlabeled"}),
        (["val", "unlabeled"], {"unlabeled": "unlabeled"}),
        (["cats"], {}),
        ([], {}),
    ],
)
def test_folders_are_splits_if_all_are_and_one_is_for_training_or_testing(folders, expected):
    assert find_splits(folders) == expected


class TestImageRoot:
    @pytest.fixture
    def root(self, tmp_path):
        touch(tmp_path, "real/a/1.png", "real/2.jpg", "real/2.tif", r"real/back\slash.png", "real/v1.5.PNG")
        (tmp_path / "link").symlink_to("real")
        return ImageRoot(tmp_path / "link")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a/1.png", "a/1.png"),
            ("./a//1.png", "a/1.png"),
            ("a/../a/1.png", "a/1.png"),
            (r"a\1.png", "a/1.png"),
            (r"back\slash.png", r"back\slash.png"),
            ("with space/ü.png", "with space/ü.png"),
            ("..1.png", "..1.png"),
            ("a/1", "a/1.png"),
            ("a/", "a"),
            ("v1.5", "v1.5.PNG"),
            ("no/such", "no/such"),
            ("no/such.gif", "no/such.gif"),
            ("2.jpg", "2.jpg"),
        ],
    )
    def test_paths_are_taken_as_they_are_meant(self, root, text, expected):
        assert root.find(text) == expected

    def test_absolute_paths_are_made_relative(self, root, tmp_path):
        assert root.find(f"{tmp_path}/link/a/1.png") == "a/1.png"
        assert root.find(f"{tmp_path}/real/a/../a/1") == "a/1.png"

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "no image is named"),
            ("  ", "no image is named"),
            ("../a.png", "does not lie below"),
            ("a/../../real/a/1.png", "does not lie below"),
            ("..\\a.png", "does not lie below"),
            ("/etc/passwd.png", "does not lie below"),
            ("C:\\images\\a.png", "does not lie below"),
            (".", "does not lie below"),
            ("a/..", "does not lie below"),
            ("a\n.png", "cannot be the name of a file"),
            ("a\0.png", "cannot be the name of a file"),
            ("\ud800.png", "cannot be the name of a file"),
            ("2", "'2' may be 2.jpg or 2.tif"),
        ],
    )
    def test_others_are_refused_with_a_reason(self, root, text, reason):
        with pytest.raises(ValueError, match=reason):
            root.find(text)

    def test_a_folder_beside_with_the_same_beginning_is_outside(self, root, tmp_path):
        with pytest.raises(ValueError, match="does not lie below"):
            root.find(f"{tmp_path}/real2/a.png")
