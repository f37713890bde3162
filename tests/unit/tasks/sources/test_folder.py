"""Folders that stand for classes and splits."""

import pytest

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.tasks.sources.folder import image_root, read_folder
from foldwise.tasks.sources.listing import Raw

RECORD = DatasetRecord(dataset="toy", source="folder", path="toy")


def read(root, *paths):
    """Touch image files and read their folder; returns (split, class) by image."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    listing = read_folder(RECORD, Raw(root, root.parent / "dataset"))
    assert list(listing.annotations) == ["image", "split", "class"]
    assert listing.paths == {image: f"files/{image}" for image in listing.annotations["image"]}
    rows = zip(*(listing.annotations[column] for column in ("image", "split", "class")), strict=True)
    return {image: (split, label) for image, split, label in rows}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "toy").mkdir()
    return tmp_path / "toy"


def test_each_folder_is_a_class(root):
    assert read(root, "cat/1.jpg", "cat/old/2.PNG", "big dog/ü 1.jpeg", "cat/notes.txt", ".git/x.png", "README.md") == {
        "cat/1.jpg": ("train", "cat"),
        "cat/old/2.PNG": ("train", "cat"),
        "big dog/ü 1.jpeg": ("train", "big dog"),
    }
    assert image_root(RECORD, root) == root


def test_folders_of_splits_hold_those_of_classes(root):
    assert read(
        root, "Training/cat/1.jpg", "test/cat/x/2.jpg", "VALID/dog/3.jpg", "unlabelled/4.jpg", "unlabelled/x/5.jpg"
    ) == {
        "Training/cat/1.jpg": ("train", "cat"),
        "test/cat/x/2.jpg": ("test", "cat"),
        "VALID/dog/3.jpg": ("train", "dog"),
        "unlabelled/4.jpg": ("unlabeled", ""),
        "unlabelled/x/5.jpg": ("unlabeled", ""),
    }


def test_unlabeled_images_may_lie_beside_classes(root):
    assert read(root, "cat/1.jpg", "Unlabeled/2.jpg") == {
        "cat/1.jpg": ("train", "cat"),
        "Unlabeled/2.jpg": ("unlabeled", ""),
    }


def test_one_folder_that_is_no_split_makes_all_of_them_classes(root):
    assert read(root, "train/1.jpg", "plane/2.jpg") == {
        "train/1.jpg": ("train", "train"),
        "plane/2.jpg": ("train", "plane"),
    }


def test_images_in_no_folder_of_a_class_have_no_class(root):
    assert read(root, "1.jpg", "2.jpg") == {"1.jpg": ("train", ""), "2.jpg": ("train", "")}
    assert read(root, "cat/3.jpg")["1.jpg"] == ("train", "")


def test_images_directly_in_the_folder_of_a_split_have_no_class(root):
    assert read(root, "train/1.jpg", "test/2.jpg") == {"train/1.jpg": ("train", ""), "test/2.jpg": ("test", "")}


@pytest.mark.parametrize("inner", [("cat/1.jpg", "dog/2.jpg"), ("train/cat/1.jpg", "test/dog/2.jpg")])
def test_a_folder_that_wraps_all_others_is_passed_through(root, inner):
    wrapped = read(root, *(f"set-1.0/images/{path}" for path in inner), "set-1.0/LICENSE.txt")
    assert {image: label for image, (_, label) in wrapped.items()} == {image: image.split("/")[-2] for image in wrapped}
    assert sorted(wrapped) == sorted(f"set-1.0/images/{path}" for path in inner)


def test_a_single_class_with_images_is_a_class(root):
    assert read(root, "cat/1.jpg", "cat/old/2.jpg") == {
        "cat/1.jpg": ("train", "cat"),
        "cat/old/2.jpg": ("train", "cat"),
    }


def test_text_named_as_an_image_and_links_stay_in_the_list(root, tmp_path):
    (root / "cat").mkdir()
    (root / "cat/text.png").write_text("no image")
    (root / "cat/link.png").symlink_to("text.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.png").touch()
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "circle").symlink_to(root)
    assert list(read(root)) == ["cat/link.png", "cat/text.png", "dog/1.png"]


@pytest.mark.parametrize(
    ("files", "folders", "named"),
    [
        (["cat/1.jpg"], ["dog", "bird/inner"], ["bird", "dog"]),
        (["cat/1.jpg", "dog/notes.txt"], ["unlabeled"], ["dog", "unlabeled"]),
        (["train/cat/1.jpg"], ["test/cat", "val"], ["test", "test/cat", "val"]),
        (["a/train/cat/1.jpg"], ["a/train/dog"], ["a/train/dog"]),
    ],
)
def test_folders_without_images_are_named(root, files, folders, named):
    for folder in folders:
        (root / folder).mkdir(parents=True)
    with pytest.raises(DataProblems, match="holds no image") as caught:
        read(root, *files)
    assert [problem.where for problem in caught.value.problems] == named


def test_classes_that_cannot_be_written_are_named(root):
    with pytest.raises(DataProblems) as caught:
        read(root, "a;b/1.jpg", "tab\there/2.jpg", "fine, too/3.jpg")
    assert [problem.where for problem in caught.value.problems] == ["'a;b'", r"'tab\there'"]


def test_a_folder_without_images_tells_what_it_holds(root):
    with pytest.raises(DataError, match=r"got no image \(2 other files, 1 hidden files or folders\)"):
        read(root, "cat/a.txt", "b.json", ".c.png")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(MissingData, match="none: got nothing, expected a folder"):
        read_folder(RECORD, Raw(tmp_path / "none", tmp_path))
