"""NumPy and HDF5 arrays become PNG files and a table."""

import re
import shutil
import sys
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.tasks.sources import convert
from foldwise.tasks.sources.arrays import read_arrays
from foldwise.tasks.sources.listing import Raw

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (5, 6, 7), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
LABELS = np.array([0, 2, 1, 0, 2])


@pytest.fixture
def read(tmp_path):
    """Read arrays from a file or folder into a dataset's folder."""

    def read(source, report=lambda text: None, **arrays):
        record = DatasetRecord(dataset="toy", source="arrays", path=str(source), arrays=arrays)
        return read_arrays(record, Raw(source, tmp_path / "toy"), report)

    return read


@pytest.fixture
def save(tmp_path):
    """Save arrays as an uncompressed ``.npz`` file."""

    def save(name="a.npz", writer=np.savez, **arrays):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        writer(path, **arrays)
        return path

    return save


def pixels(tmp_path, path):
    with Image.open(tmp_path / "toy" / path) as image:
        return np.asarray(image)


def write_hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def write_folder(path, **arrays):
    path.mkdir()
    for name, array in arrays.items():
        np.save(path / name, array)


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed, write_hdf5, write_folder])
def test_images_and_labels_of_splits_are_read_from_every_container(tmp_path, read, save, writer):
    name = {np.savez: "a.npz", np.savez_compressed: "a.npz", write_hdf5: "a.h5", write_folder: "folder"}[writer]
    arrays = {"train_images": COLOUR, "train_labels": LABELS, "val_images": COLOUR[:2], "val_labels": LABELS[:2]}
    listing = read(save(name, writer, **arrays, test_images=COLOUR[3:], unlabeled_images=COLOUR[:1]))
    assert list(listing.paths.items())[3] == ("train/000003.png", "files/train/000003.png")
    assert listing.annotations["image"][-4:] == [
        "val/000001.png", "test/000000.png", "test/000001.png", "unlabeled/000000.png"
    ]  # fmt: skip
    assert listing.annotations["split"] == ["train"] * 7 + ["test"] * 2 + ["unlabeled"]
    assert listing.annotations["class"] == ["0", "2", "1", "0", "2", "0", "2", "", "", ""]
    assert listing.annotations["value"] == listing.annotations["class"]
    for number in range(5):
        assert np.array_equal(pixels(tmp_path, f"files/train/{number:06d}.png"), COLOUR[number])
    assert np.array_equal(pixels(tmp_path, "files/test/000001.png"), COLOUR[4])


@pytest.mark.parametrize(
    ("images", "mode", "expected"),
    [
        (GREY, "L", GREY),
        (GREY[..., None], "L", GREY),
        (COLOUR, "RGB", COLOUR),
        (np.moveaxis(COLOUR, -1, 1), "RGB", COLOUR),
        (np.concatenate([COLOUR, COLOUR[..., :1]], axis=-1), "RGBA", None),
        (GREY > 100, "L", (GREY > 100) * 255),
        (GREY.astype(np.uint16) * 257, "I;16", GREY.astype(np.uint16) * 257),
        (GREY.astype(">u2") * 257, "I;16", GREY.astype(np.uint16) * 257),
        (COLOUR.astype(np.uint16) * 257, "RGB", COLOUR),
        (GREY / 255, "L", GREY),
        ((COLOUR / 255).astype(np.float32), "RGB", COLOUR),
        (np.asfortranarray(GREY), "L", GREY),
    ],
)
def test_values_become_pixels_by_type_and_shape(tmp_path, read, save, images, mode, expected):
    read(save(images=images))
    with Image.open(tmp_path / "toy/files/train/000002.png") as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image), images[2] if expected is None else expected[2])


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (GREY.astype(np.int64) - 3, "array images of type int64 between -3 and 2"),
        (GREY.astype(np.float32), "array images of type float32 between"),
        (np.full((2, 3, 3), np.nan), "array images of type float64 with NaN"),
        (GREY.astype(complex), "array images of type complex128"),
        (GREY.astype(str), "array images of type <U"),
        (GREY[0], "array images of shape (6, 7)"),
        (np.zeros((2, 6, 7, 2), np.uint8), "array images of shape (2, 6, 7, 2)"),
        (np.zeros((2, 0, 7), np.uint8), "array images of shape (2, 0, 7)"),
        (np.zeros((2, 3, 4, 5, 3), np.uint8), "array images of shape (2, 3, 4, 5, 3)"),
        (np.zeros((0, 6, 7), np.uint8), "no image in arrays of length 0"),
        (np.zeros(3, [("r", "u1"), ("g", "u1")]), "array images of shape (3,)"),
    ],
)
def test_images_of_another_type_or_shape_are_refused_by_name(tmp_path, read, save, images, words):
    with pytest.raises(DataError, match=re.escape(words)):
        read(save(images=images))
    assert not (tmp_path / "toy/files").exists()


@pytest.mark.parametrize(
    ("targets", "columns"),
    [
        (LABELS, {"class": ["0", "2", "1", "0", "2"], "value": ["0", "2", "1", "0", "2"]}),
        (LABELS[:, None].astype(np.uint8), {"class": ["0", "2", "1", "0", "2"], "value": ["0", "2", "1", "0", "2"]}),
        (LABELS > 0, {"class": ["0", "1", "1", "0", "1"], "value": ["0", "1", "1", "0", "1"]}),
        (np.array(list("abcäe")), {"class": ["a", "b", "c", "ä", "e"]}),
        (np.array([b"a", b"b", b"c", b"d", b"e"]), {"class": ["a", "b", "c", "d", "e"]}),
        (np.array([0.1, 2, -3, 1e-9, 0], np.float32), {"value": ["0.1", "2.0", "-3.0", "1e-09", "0.0"]}),
        (np.eye(5, 3, dtype=int), {"classes": ["0", "1", "2", "", ""]}),
        (
            np.array([[1.0, 1], [0, 1], [0, 0], [0, 0], [0, 0]]),
            {"classes": ["0;1", "1", "", "", ""], "soft_classes": ["1.0;1.0", "0.0;1.0", *["0.0;0.0"] * 3]},
        ),
        (np.full((5, 2), 0.5, np.float16), {"soft_classes": ["0.5;0.5"] * 5}),
    ],
)
@pytest.mark.parametrize("name", ["labels", "targets"])
def test_targets_fill_columns_by_type_and_shape(read, save, targets, columns, name):
    listing = read(save(images=GREY, **{name: targets}))
    assert {key: value for key, value in listing.annotations.items() if key not in ("image", "split")} == columns
    several = targets.ndim == 2 and targets.shape[1] > 1
    assert listing.class_names == ([str(number) for number in range(targets.shape[1])] if several else [])


@pytest.mark.parametrize("name", ["labels", "masks"])
def test_masks_are_written_beside_the_images(tmp_path, read, save, name):
    masks = (GREY % 5)[..., None] if name == "masks" else GREY % 5
    listing = read(save(images=COLOUR, **{name: masks}))
    assert listing.annotations["mask"][4] == "masks/train/000004.png"
    assert np.array_equal(pixels(tmp_path, "masks/train/000004.png"), GREY[4] % 5)
    assert set(listing.annotations) == {"image", "split", "mask"}


def test_masks_of_truth_values_are_indices_and_labels_may_lie_beside_masks(tmp_path, read, save):
    listing = read(save(images=GREY, masks=GREY > 100, labels=LABELS))
    assert np.array_equal(pixels(tmp_path, "masks/train/000000.png"), GREY[0] > 100)
    assert listing.annotations["class"] == ["0", "2", "1", "0", "2"]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": LABELS[:3]}, "array labels of length 3, expected length 5"),
        ({"labels": np.array(3)}, "array labels with a single value"),
        ({"labels": np.array(["a", 1, None, 2.0, "b"], object)}, "array labels of Python objects"),
        ({"labels": LABELS * 1j}, "array labels of type complex128"),
        ({"labels": np.zeros((5, 2, 2, 2))}, "array labels of shape (5, 2, 2, 2)"),
        ({"labels": np.zeros((5, 0))}, "array labels of shape (5, 0)"),
        ({"labels": np.full((5, 2), "a")}, "text of shape (5, 2)"),
        ({"masks": GREY[:, :3]}, "masks masks of shape (5, 3, 7), expected (n, 6, 7)"),
        ({"masks": GREY.astype(int) * 2}, "class indices from 0 to 255"),
        ({"masks": GREY.astype(float)}, "of type float64"),
        ({"fold": np.array([0.0, 1, 2, 3, 4])}, "array fold of type float64"),
        ({"group": np.array([[1, 2]] * 5)}, "array group of shape (5, 2)"),
        ({"group": np.array([b"\xff"] * 5)}, "bytes in array group"),
    ],
)
def test_other_arrays_are_refused_by_name(read, save, arrays, words):
    with pytest.raises(DataError, match=re.escape(words)):
        read(save(images=GREY, **arrays))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": np.array([1.0, np.nan, 2, np.inf, 0])}, ["labels row 1: nan", "labels row 3: inf"]),
        ({"labels": np.array([[0, 1], [0, 2], [1, 1], [-1, 0], [0, 0]])}, ["labels row 1: 2", "labels row 3: -1"]),
        ({"labels": np.full((5, 2), np.nan)}, ["labels row 0: nan", "labels row 4: nan"]),
        ({"labels": np.full((5, 2), 1.5)}, ["labels row 0: 1.5"]),
        ({"split": np.array(["train", "Test", "", "val", "test"])}, ["split row 1: 'Test'", "split row 2: ''"]),
    ],
)
def test_bad_rows_are_told_together(read, save, arrays, words):
    with pytest.raises(DataProblems) as caught:
        read(save(images=GREY, **arrays))
    assert all(f"  {word}" in caught.value.message for word in words)
    assert str(caught.value.where).endswith("a.npz")


def test_split_fold_group_and_ids_may_be_arrays(read, save):
    listing = read(
        save(
            images=GREY,
            split=np.array(["train", "val", "test", "unlabeled", "train"]),
            fold=np.array([0, 1, 0, 0, 1]),
            group=np.array(["p1", "p2", "p3", "p3", "p1"]),
            ids=np.array([10, 11, 12, 13, 14], np.uint16),
        )
    )
    assert listing.annotations == {
        "image": [
            f"{split}/00000{row}.png" for row, split in enumerate(["train", "val", "test", "unlabeled", "train"])
        ],
        "split": ["train", "train", "test", "unlabeled", "train"],
        "fold": ["0", "1", "0", "0", "1"],
        "group": ["p1", "p2", "p3", "p3", "p1"],
        "id": ["10", "11", "12", "13", "14"],
    }


def test_names_of_arrays_may_be_given(read, save):
    source = save(x_train=GREY, y_train=LABELS, x_test=GREY[:2], y_test=LABELS[:2], images=GREY[:1])
    listing = read(source, images="x_{split}", targets="y_{split}")
    assert listing.annotations["class"] == ["0", "2", "1", "0", "2", "0", "2"]
    assert read(save(x=GREY, y=LABELS), images="x", targets="y").annotations["class"][1] == "2"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"images": "pictures"}, "got arrays train_images, train_labels, expected an array pictures"),
        ({"images": "{split}_image"}, "Did you mean 'train_images'?"),
        ({"targets": "{split}_label"}, "expected an array train_label. Did you mean 'train_labels'?"),
        ({"targets": "train_labels"}, "{split} in both names or in none"),
    ],
)
def test_arrays_that_are_not_there_are_told_with_those_that_are(read, save, names, words):
    with pytest.raises(DataError, match=re.escape(words)):
        read(save(train_images=GREY, train_labels=LABELS), **names)


def test_a_file_without_images_lists_its_arrays(read, save):
    with pytest.raises(DataError, match=r"got arrays x, y, expected an array .*split.*_images or"):
        read(save(x=GREY, y=LABELS))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (LABELS, LABELS.astype(float)),
        (LABELS, LABELS.astype(str)),
        (np.eye(5, 3, dtype=int), np.eye(5, 4, dtype=int)),
        (np.eye(5, 3, dtype=int), np.eye(5, 3)),
        (np.eye(5, 3, dtype=int), LABELS),
        (GREY, LABELS),
    ],
)
def test_targets_of_one_kind_are_needed_in_all_splits(read, save, train, test):
    with pytest.raises(DataError, match=r"array test_labels .* the same kind of targets as train_labels"):
        read(save(train_images=GREY, train_labels=train, test_images=GREY, test_labels=test))


def test_classes_are_left_out_if_only_some_splits_have_whole_numbers(read, save):
    soft = np.full((5, 2), 0.25)
    listing = read(save(train_images=GREY, train_labels=soft, test_images=GREY[:2], test_labels=np.eye(2)))
    assert "classes" not in listing.annotations
    assert listing.annotations["soft_classes"][4:] == ["0.25;0.25", "1.0;0.0", "0.0;1.0"]


def test_objects_are_never_unpickled(tmp_path, read, save):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    objects = np.empty(5, object)
    objects[:] = [Trap()] * 5
    for name, writer in (("a.npz", np.savez), ("b.npz", np.savez_compressed), ("folder", write_folder)):
        source = save(name, writer, images=objects)
        with pytest.raises(DataError, match="array images of shape"):
            read(source)
        source = save(f"labelled-{name}", writer, images=GREY, labels=objects)
        with pytest.raises(DataError, match="array labels of Python objects"):
            read(source)
    assert not (tmp_path / "sprung").exists()


def test_hdf5_reads_groups_text_and_chunks(read, tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("train/images", data=COLOUR, chunks=(1, 6, 7, 3), compression="gzip")
        file["train/labels"] = list("abcde")
        file["test/images"] = COLOUR[:1]
        file["test/labels"] = np.array([b"a"])
        file["nothing"] = h5py.Empty("f")
    listing = read(path)
    assert listing.annotations["class"] == ["a", "b", "c", "d", "e", "a"]
    assert listing.annotations["image"][-1] == "test/000000.png"


def test_several_files_are_told_apart_by_their_names(read, save, tmp_path):
    save("set/train.npz", images=GREY, labels=LABELS)
    save("set/test.npz", images=GREY[:2], labels=LABELS[:2])
    (tmp_path / "set/README").write_text("read me")
    assert read(tmp_path / "set").annotations["split"] == ["train"] * 5 + ["test"] * 2


def test_a_missing_h5py_is_told_with_what_to_install(read, tmp_path, monkeypatch):
    write_hdf5(tmp_path / "a.h5", images=GREY)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match="pip install h5py"):
        read(tmp_path / "a.h5")


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


def flip(path):
    data = bytearray(path.read_bytes())
    data[400] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_damaged_files_are_told_by_name(read, save, damage, writer):
    path = save("a.npz", writer, images=GREY)
    damage(path)
    with pytest.raises(DataError, match=r"a\.npz: got a file that cannot be read"):
        read(path)


@pytest.mark.parametrize(("name", "writer"), [("a.h5", write_hdf5), ("folder/images.npy", None), ("a.npz", None)])
def test_files_of_other_content_are_told_by_name(read, tmp_path, name, writer):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if writer:
        writer(path, images=GREY)
        cut(path)
    else:
        path.write_bytes(b"something else")
    with pytest.raises(DataError, match="got a file that cannot be read"):
        read(path)


def test_an_npy_file_cut_short_is_told(read, save):
    folder = save("folder", write_folder, images=GREY)
    cut(folder / "images.npy")
    with pytest.raises(DataError, match="whole array images"):
        read(folder)


def test_sources_without_arrays_are_told(read, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingData, match="a file of arrays"):
        read(tmp_path / "empty")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match=r"another kind \(\.txt\)"):
        read(tmp_path / "a.txt")


def test_a_second_run_writes_nothing_and_mends_what_is_missing(read, save, tmp_path):
    source = save(images=GREY, masks=GREY)
    lines = []
    read(source, report=lines.append)
    assert lines == ["10 of 10 files"]
    files = tmp_path / "toy/files/train"
    (files / "000001.png").unlink()
    (files / "000002.png").write_bytes(b"half")
    before = {path.name: path.stat().st_ino for path in files.iterdir()}
    read(source)
    after = {path.name: path.stat().st_ino for path in files.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"000001.png", "000002.png"}
    assert np.array_equal(pixels(tmp_path, "files/train/000002.png"), GREY[2])


@pytest.mark.parametrize("images", [GREY, COLOUR.astype(np.uint16) * 257, COLOUR / 255])
def test_small_batches_and_chunks_give_the_same(tmp_path, read, save, monkeypatch, images):
    source = save(images=images, masks=GREY)
    whole = read(source)
    before = {path: path.read_bytes() for path in (tmp_path / "toy").rglob("*.png")}
    shutil.rmtree(tmp_path / "toy")
    monkeypatch.setattr(convert, "CHUNK_BYTES", 2 * images[0].nbytes)
    monkeypatch.setattr(convert, "BATCH_FILES", 4)
    monkeypatch.setattr(convert, "ENCODED_AT_ONCE", 3)
    lines = []
    assert read(source, report=lines.append) == whole
    assert lines == ["4 of 10 files", "8 of 10 files", "10 of 10 files"]
    assert {path: path.read_bytes() for path in (tmp_path / "toy").rglob("*.png")} == before
    monkeypatch.setattr(convert, "BATCH_BYTES", 1)
    read(source, report=lines.append)
    assert lines[3:] == [f"{number} of 10 files" for number in range(1, 11)]


def test_an_interrupted_run_goes_on(tmp_path, read, save, monkeypatch):
    def stop(text):
        raise KeyboardInterrupt

    source = save(images=GREY)
    monkeypatch.setattr(convert, "BATCH_FILES", 2)
    with pytest.raises(KeyboardInterrupt):
        read(source, report=stop)
    first = {path.name: path.stat().st_ino for path in (tmp_path / "toy/files/train").iterdir()}
    assert set(first) == {"000000.png", "000001.png"}
    read(source)
    after = {path.name: path.stat().st_ino for path in (tmp_path / "toy/files/train").iterdir()}
    assert len(after) == 5
    assert {name: after[name] for name in first} == first


def test_uncompressed_arrays_are_not_loaded_whole(read, save):
    source = save(images=np.zeros((60, 1024, 1024, 3), np.uint8))
    tracemalloc.start()
    read(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < source.stat().st_size / 1.5


def test_foreign_members_of_an_archive_are_passed_over(read, save):
    source = save(images=GREY)
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("README.txt", "read me")
    assert len(read(source).paths) == 5
