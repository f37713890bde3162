"""Images and masks in two folders."""

import pytest

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.tasks.sources.listing import Raw
from foldwise.tasks.sources.masks import image_root, read_masks


@pytest.fixture
def root(tmp_path):
    (tmp_path / "toy").mkdir()
    return tmp_path / "toy"


def read(root, *paths, **keys):
    """Touch files and pair them; returns (split, mask) by image."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    record = DatasetRecord(dataset="toy", source="masks", path="toy", **keys)
    assert image_root(record, root) == root
    listing = read_masks(record, Raw(root, root.parent / "dataset"))
    assert list(listing.annotations) == ["image", "split", "mask"]
    assert listing.paths == {image: f"files/{image}" for image in listing.annotations["image"]}
    rows = zip(*(listing.annotations[column] for column in ("image", "split", "mask")), strict=True)
    return {image: (split, mask) for image, split, mask in rows}


def problems_of(root, *paths, **keys):
    with pytest.raises(DataProblems) as caught:
        read(root, *paths, **keys)
    return [tuple(problem) for problem in caught.value.problems]


def test_images_and_masks_are_paired_by_path_without_suffix(root):
    files = ["images/a/1 ü.JPG", "images/b/1 ü.jpg", "masks/a/1 ü.png", "masks/b/1 ü.gif", "masks/notes.txt"]
    assert read(root, *files, "other/x.png") == {
        "images/a/1 ü.JPG": ("train", "files/masks/a/1 ü.png"),
        "images/b/1 ü.jpg": ("train", "files/masks/b/1 ü.gif"),
    }


@pytest.mark.parametrize("ending", ["", "_mask", "_seg", "_segmentation", "_label", "_gt", "_Mask"])
def test_masks_may_have_an_ending(root, ending):
    assert read(root, "images/1.jpg", f"masks/1{ending}.png") == {
        "images/1.jpg": ("train", f"files/masks/1{ending}.png")
    }


def test_a_mask_of_the_same_name_precedes_one_with_an_ending(root):
    assert read(root, "images/1.jpg", "images/1_gt.jpg", "masks/1.png", "masks/1_gt.png") == {
        "images/1.jpg": ("train", "files/masks/1.png"),
        "images/1_gt.jpg": ("train", "files/masks/1_gt.png"),
    }


def test_split_folders_may_hold_both(root):
    files = ["Train/images/1.png", "Train/masks/1.png", "test/images/1.png", "test/masks/1_mask.png"]
    more = ["valid/images/1.png", "valid/masks/1.png", "unlabeled/images/2.png"]
    assert read(root, *files, *more, "docs/figure.png") == {
        "Train/images/1.png": ("train", "files/Train/masks/1.png"),
        "test/images/1.png": ("test", "files/test/masks/1_mask.png"),
        "unlabeled/images/2.png": ("unlabeled", ""),
        "valid/images/1.png": ("train", "files/valid/masks/1.png"),
    }


def test_split_folders_may_lie_in_both(root):
    files = ["images/train/1.png", "masks/Training/1.png", "images/val/1.png", "masks/val/1.png"]
    more = ["images/test/a/1.png", "masks/test/a/1.png", "images/unlabelled/1.png"]
    assert read(root, *files, *more) == {
        "images/test/a/1.png": ("test", "files/masks/test/a/1.png"),
        "images/train/1.png": ("train", "files/masks/Training/1.png"),
        "images/unlabelled/1.png": ("unlabeled", ""),
        "images/val/1.png": ("train", "files/masks/val/1.png"),
    }


@pytest.mark.parametrize(
    "files",
    [
        ["images/1.png", "masks/1.png", "images/unlabeled/2.png"],
        ["images/1.png", "masks/1.png", "unlabeled/2.png"],
        ["images/1.png", "masks/1.png", "Unlabeled/images/2.png"],
        ["train/images/1.png", "train/masks/1.png", "unlabeled/2.png"],
    ],
)
def test_unlabeled_images_need_no_masks(root, files):
    assert read(root, *files)[files[-1]] == ("unlabeled", "")
    assert len(read(root)) == 2


def test_folders_may_have_other_names(root):
    keys = {"images": "data/imagesTr", "masks": "./data/labelsTr/"}
    assert read(root, "data/imagesTr/1.png", "data/labelsTr/1.png", **keys) == {
        "data/imagesTr/1.png": ("train", "files/data/labelsTr/1.png")
    }
    assert read(root, "train/x/2.png", "train/y/2.png", images="x", masks="y") == {
        "train/x/2.png": ("train", "files/train/y/2.png")
    }


def test_one_folder_may_lie_in_the_other(root):
    assert read(root, "1.png", "masks/1.png", "unlabeled/2.png", images=".") == {
        "1.png": ("train", "files/masks/1.png"),
        "unlabeled/2.png": ("unlabeled", ""),
    }


def test_in_one_folder_masks_are_told_by_their_ending(root):
    assert read(root, "all/1.png", "all/1_mask.png", images="all", masks="all") == {
        "all/1.png": ("train", "files/all/1_mask.png")
    }
    assert problems_of(root, "all/2.png", images="all", masks="all") == [("all/2.png", "an image without mask")]


def test_what_pairs_with_nothing_is_named(root):
    files = ["images/1.png", "images/2.png", "masks/1.png", "masks/3.png", "masks/1_seg.png", "masks/x/2.png"]
    assert problems_of(root, *files) == [
        ("images/2.png", "an image without mask"),
        ("masks/1_seg.png", "a mask without image"),
        ("masks/3.png", "a mask without image"),
        ("masks/x/2.png", "a mask without image"),
    ]


def test_masks_of_another_split_do_not_count(root):
    files = ["train/images/1.png", "train/masks/2.png", "test/images/2.png", "test/masks/1.png"]
    assert len(problems_of(root, *files)) == 4


def test_names_that_pair_twice_are_named(root):
    files = ["images/1.png", "images/1.jpg", "masks/1.png", "masks/1.gif"]
    assert problems_of(root, *files)[:2] == [
        ("images/1.png", "pairs with the same as images/1.jpg"),
        ("masks/1.png", "pairs with the same as masks/1.gif"),
    ]


def test_missing_folders_are_named(root):
    with pytest.raises(DataError, match="got no folder, expected a folder images, or split folders"):
        read(root)
    with pytest.raises(DataError, match="got folders pictures, train, expected a folder images"):
        read(root, "pictures/1.png", "train/1.png")
    with pytest.raises(MissingData, match="toy/masks: got nothing, expected a folder"):
        read(root, "images/1.png")
    with pytest.raises(DataError, match="toy/masks: got no image"):
        read(root, "masks/1.txt")


def test_a_split_folder_without_images_is_no_empty_split(root):
    with pytest.raises(MissingData, match="toy/test/images: got nothing, expected a folder"):
        read(root, "train/images/1.png", "train/masks/1.png", "test/1.png")
