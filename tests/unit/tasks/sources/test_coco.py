"""Annotations in the format of COCO."""

import json

import numpy as np
import pytest
from PIL import Image

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.tasks.sources import coco as module
from foldwise.tasks.sources.coco import image_root, read_coco
from foldwise.tasks.sources.listing import Raw

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 2, "name": "big cat"}]
LEFT, ALL = [[0, 0, 1, 0, 1, 2, 0, 2]], [[0, 0, 3, 0, 3, 2, 0, 2]]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "toy").mkdir()
    return tmp_path / "toy"


def image(id_, name=None, **keys):
    return {"id": id_, "file_name": name or f"{id_}.jpg", "height": 2, "width": 3, **keys}


def annotation(id_, image_id=1, category_id=7, **keys):
    return {"id": id_, "image_id": image_id, "category_id": category_id, **keys}


ONE_IMAGE = [image(1)]


def write(path, images=ONE_IMAGE, annotations=(), categories=CATEGORIES):
    path.parent.mkdir(parents=True, exist_ok=True)
    tree = {"images": list(images), "annotations": list(annotations), "categories": list(categories)}
    path.write_text(json.dumps(tree))


def read(source, **keys):
    record = DatasetRecord(dataset="toy", source="coco", path="toy", **keys)
    folder = source.parent / "dataset"
    listing = read_coco(record, Raw(source, folder))
    assert list(listing.annotations) == ["image", "split", "group", "classes", "class", "mask"]
    assert listing.paths == {name: f"files/{name}" for name in listing.annotations["image"]}
    assert set(listing.annotations["group"]) == {""}
    return listing


def mask(root, name="1.jpg"):
    with Image.open(root.parent / f"dataset/masks/{name}.png") as found:
        return np.asarray(found).tolist()


def problems_of(root, *arguments, **keys):
    write(root / "a.json", *arguments, **keys)
    with pytest.raises(DataProblems, match=r"a\.json: got \d+ problems?, expected annotations") as caught:
        read(root)
    return [tuple(problem) for problem in caught.value.problems]


def test_objects_are_drawn_and_their_categories_listed(root):
    images = [image(1, "sub/ü 1.jpg"), image(2), image(3)]
    shapes = [annotation(10, 1, 7, segmentation=LEFT), annotation(11, 1, 2, segmentation=ALL)]
    write(root / "a.json", images, [*shapes, annotation(12, 2, 2, segmentation={"size": [2, 3], "counts": "42"})])
    listing = read(root)
    assert listing.class_names == ["background", "big cat", "dog"]
    assert listing.annotations == {
        "image": ["sub/ü 1.jpg", "2.jpg", "3.jpg"],
        "split": ["train"] * 3,
        "group": [""] * 3,
        "classes": ["big cat;dog", "big cat", ""],
        "class": ["", "big cat", ""],
        "mask": ["masks/sub/ü 1.jpg.png", "masks/2.jpg.png", "masks/3.jpg.png"],
    }
    assert mask(root, "sub/ü 1.jpg") == [[2, 1, 1], [2, 1, 1]]
    assert mask(root, "2.jpg") == [[0, 0, 1], [0, 0, 1]]
    assert mask(root, "3.jpg") == [[0, 0, 0], [0, 0, 0]]


def test_crowds_are_drawn_like_objects(root):
    crowd = {"size": [2, 3], "counts": [0, 2, 4]}
    write(root / "a.json", annotations=[annotation(1, iscrowd=1, segmentation=crowd)])
    read(root)
    assert mask(root) == [[2, 0, 0], [2, 0, 0]]


def test_boxes_are_drawn_only_without_any_segmentation(root):
    box = annotation(1, bbox=[1, 0, 2, 1], segmentation=[])
    write(root / "a.json", annotations=[box])
    read(root)
    assert mask(root) == [[0, 2, 2], [0, 0, 0]]
    write(root / "a.json", [image(1), image(2)], [box, annotation(2, 2, 2, segmentation=LEFT)])
    listing = read(root)
    assert mask(root) == [[0, 0, 0], [0, 0, 0]]
    assert listing.annotations["class"] == ["dog", "big cat"]


def test_without_shapes_there_are_no_masks(root):
    write(root / "a.json", annotations=[annotation(1), annotation(2, 1, 2)])
    listing = read(root)
    assert listing.annotations["mask"] == [""]
    assert listing.annotations["classes"] == ["big cat;dog"]
    assert listing.class_names == ["big cat", "dog"]
    assert not (root.parent / "dataset").exists()


def test_a_category_named_background_is_the_background(root):
    categories = [{"id": 0, "name": "background"}, {"id": 1, "name": "cell"}]
    shapes = [annotation(1, 1, 1, segmentation=ALL), annotation(2, 1, 0, segmentation=LEFT)]
    write(root / "a.json", [image(1)], shapes, categories)
    listing = read(root)
    assert listing.class_names == ["background", "cell"]
    assert listing.annotations["class"] == ["cell"]
    assert mask(root) == [[0, 1, 1], [0, 1, 1]]


def test_more_categories_than_eight_bits_hold_make_masks_of_16(root):
    categories = [{"id": number, "name": f"c{number}"} for number in range(300)]
    write(root / "a.json", [image(1)], [annotation(1, 1, 299, segmentation=LEFT)], categories)
    read(root)
    assert mask(root) == [[300, 0, 0], [300, 0, 0]]


def test_masks_are_written_in_batches_and_kept_if_equal(root, monkeypatch):
    monkeypatch.setattr(module, "BATCH_FILES", 2)
    images = [image(number) for number in range(5)]
    write(root / "a.json", images, [annotation(1, 0, segmentation=LEFT), annotation(2, 4, segmentation=LEFT)])
    read(root)
    files = sorted(root.parent.glob("dataset/masks/*"))
    before = [file.stat().st_ino for file in files]
    assert len(before) == 5
    write(root / "a.json", images, [annotation(1, 0, segmentation=ALL), annotation(2, 4, segmentation=LEFT)])
    read(root)
    after = [file.stat().st_ino for file in files]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True, True, True]
    assert mask(root, "0.jpg") == [[2, 2, 2], [2, 2, 2]]


class TestFiles:
    def test_the_source_may_be_the_file(self, root):
        write(root / "a.json")
        assert read(root / "a.json").annotations["image"] == ["1.jpg"]
        assert image_root(DatasetRecord(dataset="toy"), root / "a.json") == root
        assert image_root(DatasetRecord(dataset="toy"), root) == root

    def test_the_only_file_is_taken_first_that_of_annotations(self, root):
        write(root / "info.json", [image(5)])
        assert read(root).annotations["image"] == ["5.jpg"]
        write(root / "annotations/a.json", [image(6)])
        assert read(root).annotations["image"] == ["6.jpg"]

    def test_of_several_one_must_be_named(self, root):
        write(root / "annotations/a.json", [image(1)])
        write(root / "annotations/b.json", [image(2)])
        with pytest.raises(
            DataError, match=r"got annotations/a\.json, annotations/b\.json, expected one file .* Set an"
        ):
            read(root)
        assert read(root, annotations="annotations/b.json").annotations["image"] == ["2.jpg"]

    def test_without_any_that_is_told(self, root):
        with pytest.raises(DataError, match="got nothing, expected one file annotations/"):
            read(root)
        with pytest.raises(MissingData, match=r"a\.json: got nothing, expected a COCO file"):
            read(root, annotations="a.json")
        with pytest.raises(MissingData, match="none: got nothing, expected a folder"):
            read(root / "none")

    def test_there_may_be_one_for_training_and_one_for_testing(self, root):
        write(root / "a.json", [image(1)], [annotation(1, 1, 7, segmentation=LEFT)], CATEGORIES[:1])
        write(root / "b.json", [image(1, "2.jpg")], [annotation(1, 1, 2, bbox=[0, 0, 3, 2])])
        listing = read(root, annotations={"train": "a.json", "test": "b.json"})
        assert listing.annotations["split"] == ["train", "test"]
        assert listing.class_names == ["background", "big cat", "dog"]
        assert mask(root) == [[2, 0, 0], [2, 0, 0]]
        assert mask(root, "2.jpg") == [[1, 1, 1], [1, 1, 1]]

    def test_of_two_files_only_those_with_shapes_have_masks(self, root):
        write(root / "a.json", [image(1)], [annotation(1, 1, 7, segmentation=LEFT)])
        write(root / "b.json", [image(1, "2.jpg")], [annotation(1, 1, 2)])
        listing = read(root, annotations={"train": "a.json", "test": "b.json"})
        assert listing.annotations["mask"] == ["masks/1.jpg.png", ""]
        assert len(list(root.parent.glob("dataset/masks/*"))) == 1

    def test_two_files_must_agree(self, root):
        files = {"train": "a.json", "test": "b.json"}
        write(root / "a.json")
        write(root / "b.json", [image(9, "1.jpg")])
        with pytest.raises(DataProblems, match=r"b\.json: .*\n  image 9: the same file as image 1 in a.json: 1.jpg"):
            read(root, annotations=files)
        write(root / "b.json", [image(2)], categories=[{"id": 7, "name": "wolf"}])
        with pytest.raises(DataProblems, match=r"b\.json: .*\n  category 7: 'wolf' here, 'dog' before"):
            read(root, annotations=files)
        write(root / "b.json", [image(2)], categories=[{"id": 8, "name": "dog"}])
        with pytest.raises(DataProblems, match=r"b\.json: .*\n.*\n  category 8: 'dog' like another one"):
            read(root, annotations=files)

    @pytest.mark.parametrize(
        ("file", "place", "keys", "name"),
        [
            ("a.json", "x/1.jpg", {"images": "x"}, "x/1.jpg"),
            ("annotations/a.json", "1.jpg", {}, "1.jpg"),
            ("annotations/a.json", "images/1.jpg", {}, "images/1.jpg"),
            ("train/a.json", "train/1.jpg", {"annotations": "train/a.json"}, "train/1.jpg"),
            ("a.json", "nowhere", {}, "1.jpg"),
        ],
    )
    def test_file_names_are_relative_to_the_folder_of_images(self, root, file, place, keys, name):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()
        write(root / file)
        assert read(root, **keys).annotations["image"] == [name]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'{"images": [', "got a file that cannot be read (Expecting value: line 1 column 13 (char 12)), expected"),
            (b"", "got a file that cannot be read (Expecting value: line 1 column 1 (char 0))"),
            (b'{"images": "\xff"}', "got a file that cannot be read ('utf-8' codec can't decode byte 0xff"),
            (b"[" * 100_000, "got a file that cannot be read ("),
            (b"[]", "got no list images and no list categories and no list annotations, expected a COCO file"),
            (b'{"images": [], "annotations": {}}', "got no list categories and no list annotations"),
            (b'{"images": [], "annotations": [], "categories": []}', "got no image, expected at least one"),
        ],
    )
    def test_broken_files_are_named(self, root, content, message):
        (root / "a.json").write_bytes(content)
        with pytest.raises(DataError) as caught:
            read(root)
        assert f"{root}/a.json: {message}" in caught.value.message


class TestProblems:
    def test_missing_keys_and_ids(self, root):
        assert problems_of(root, [{"id": 1}, 5, {"file_name": "a.jpg"}, {**image(2), "id": [1]}]) == [
            ("image 1", "no file_name and no width and no height"),
            ("images, entry 2", "no id"),
            ("images, entry 3", "no id"),
            ("images, entry 4", "no id"),
        ]
        assert problems_of(root, annotations=[{"id": 4, "category_id": 7}]) == [("annotation 4", "no image_id")]
        assert problems_of(root, categories=[{"id": 4}]) == [("category 4", "no name")]

    def test_ids_that_occur_twice(self, root):
        reason = "its id occurs more than once"
        assert problems_of(root, [image(1), image(1)]) == [("image 1", reason)]
        assert problems_of(root, annotations=[annotation(3), annotation(3)]) == [("annotation 3", reason)]
        assert problems_of(root, categories=[*CATEGORIES, {"id": 7, "name": "x"}]) == [("category 7", reason)]

    def test_images_and_categories_that_are_unknown(self, root):
        found = problems_of(
            root, annotations=[annotation(3, 99), annotation(4, 1, 99), annotation(5), annotation(6, [])]
        )
        assert found == [
            ("annotation 3", "image_id 99, which is unknown"),
            ("annotation 4", "category_id 99, which is unknown"),
            ("annotation 6", "image_id [], which is unknown"),
        ]

    def test_shapes_that_are_wrong(self, root):
        shapes = [[[0, 0, 1]], [[0, 0, 1, 1]], {"size": [3, 2], "counts": [6]}, LEFT]
        found = problems_of(root, annotations=[annotation(id_, segmentation=shape) for id_, shape in enumerate(shapes)])
        assert [where for where, _ in found] == ["annotation 0", "annotation 1", "annotation 2"]
        assert found[2][1] == "run lengths of size [3, 2], and an image of [2, 3]"
        assert not (root.parent / "dataset").exists()

    @pytest.mark.parametrize(
        ("keys", "reason"),
        [
            ({"name": "../1.jpg"}, "does not lie below"),
            ({"name": "a/../../1.jpg"}, "does not lie below"),
            ({"name": "/etc/1.jpg"}, "does not lie below"),
            ({"name": "a\0.jpg"}, "cannot be the name of a file"),
            ({"name": "x" * 201}, "a file_name of more than 200 bytes"),
            ({"name": 5}, "a file_name that is no text"),
            ({"height": 0}, "height 0 and width 3, which are not the size of an image"),
            ({"width": "3"}, "height 2 and width 3, which are not"),
            ({"width": 10**9}, "which are not the size"),
        ],
    )
    def test_images_that_are_wrong(self, root, keys, reason):
        ((where, found),) = problems_of(root, [image(1, **keys), image(2)])
        assert where == "image 1"
        assert reason in found

    def test_images_of_the_same_file(self, root):
        found = problems_of(root, [image(1, "a/b.jpg"), image(2, "./a/b.jpg")])
        assert found == [("image 2", "the same file as image 1 in a.json: a/b.jpg")]

    @pytest.mark.parametrize("name", ["a;b", "a\nb", "", 5, "\ud800"])
    def test_names_that_cannot_name_a_class(self, root, name):
        found = problems_of(root, categories=[*CATEGORIES, {"id": 3, "name": name}])
        assert found == [("category 3", f"the name {name!r}, expected text without `;` and control characters")]

    def test_too_many_categories_for_masks(self, root):
        categories = [{"id": number, "name": str(number)} for number in range(2**16)]
        write(root / "a.json", [image(1)], [annotation(1, segmentation=LEFT)], categories)
        with pytest.raises(DataError, match="got 65536 categories, expected at most 65535 for masks"):
            read(root)
