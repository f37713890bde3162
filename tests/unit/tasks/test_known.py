"""Known public sets: files to fetch, and what the published formats become."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from foldwise.config.definition import DatasetRecord, TaskDefinition
from foldwise.config.load import Library
from foldwise.config.names import NAME
from foldwise.config.sources import EMNIST, KNOWN_SETS, MEDMNIST, MEDMNIST_SIZES
from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.tasks.known import EMNIST_CLASSES, downloads, facts, read_known
from foldwise.tasks.sources.listing import Raw

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
GREY = COLOUR[:, :28, :28, 0].copy()
ROOT = Path(__file__).parents[3]
EVERY_SET = [
    *(("medmnist", name, size) for name in MEDMNIST for size in MEDMNIST_SIZES),
    *(("emnist", name, 28) for name in EMNIST),
    *((source, None, 28) for source in KNOWN_SETS if source not in ("medmnist", "emnist")),
]


@pytest.fixture
def read(tmp_path):
    """Read a set from the files in `tmp_path`."""

    def read(source, name=None, **keys):
        record = DatasetRecord(dataset="toy", source=source, name=name, **keys)
        return read_known(record, Raw(tmp_path, tmp_path / "toy"), lambda text: None)

    return read


def pixels(tmp_path, name):
    with Image.open(tmp_path / "toy/files" / name) as image:
        return np.asarray(image)


def cifar(labels, images):
    return b"".join(
        bytes(label) + image.transpose(2, 0, 1).tobytes() for label, image in zip(labels, images, strict=True)
    )


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.mark.parametrize(("source", "name", "size"), EVERY_SET)
def test_every_set_has_addresses_and_checksums(source, name, size):
    files = downloads(DatasetRecord(dataset="toy", source=source, name=name, size=size))
    assert len({file.name for file in files}) == len(files) > 0
    for file in files:
        assert re.fullmatch(r"md5:[0-9a-f]{32}", file.checksum)
        assert all(re.fullmatch(rf"https?://[^ ]+/{re.escape(file.name)}(\?download=1)?", url) for url in file.urls)


def test_no_two_files_share_a_checksum():
    files = [
        file
        for source, name, size in EVERY_SET
        if name in (None, "balanced", *MEDMNIST)
        for file in downloads(DatasetRecord(dataset="toy", source=source, name=name, size=size))
    ]
    assert len({file.checksum for file in files}) == len(files) == 12 * 4 + 1 + 1 + 1 + 4 + 2


@pytest.mark.parametrize("size", [28, 64])
def test_the_file_of_medmnist_depends_on_name_and_size(size):
    (by_name,) = downloads(DatasetRecord(dataset="cells", source="medmnist", name="bloodmnist", size=size))
    (by_dataset,) = downloads(DatasetRecord(dataset="bloodmnist", source="medmnist", size=size))
    assert by_name == by_dataset
    assert by_name.name == {28: "bloodmnist.npz", 64: "bloodmnist_64.npz"}[size]


@pytest.mark.parametrize(
    ("name", "count"),
    list(zip(MEDMNIST, (9, 14, 7, 4, 2, 5, 2, 8, 8, 11, 11, 11), strict=True)),
)
def test_medmnist_has_names_for_its_classes(name, count):
    names = facts()["medmnist"]["sets"][name]["classes"]
    assert len(set(names)) == len(names) == count
    assert not any(";" in label for label in names)


def test_other_sets_have_names_for_their_classes():
    assert {name: len(classes) for name, classes in EMNIST_CLASSES.items()} == {
        "balanced": 47, "byclass": 62, "bymerge": 47, "digits": 10, "letters": 26, "mnist": 10
    }  # fmt: skip
    assert len(set(facts()["cifar100"]["classes"])) == 100
    assert len(set(facts()["cifar100"]["superclasses"])) == 20
    for source in ("cifar10", "fashion_mnist", "svhn"):
        assert len(set(facts()[source]["classes"])) == 10


def save_medmnist(path, labels, images=COLOUR[:, :28, :28]):
    arrays = {"train": slice(3), "val": slice(3, 4), "test": slice(4, 6)}
    np.savez_compressed(
        path,
        **{f"{split}_images": images[part] for split, part in arrays.items()},
        **{f"{split}_labels": labels[part] for split, part in arrays.items()},
    )


@pytest.mark.parametrize(("size", "file"), [(28, "bloodmnist.npz"), (64, "bloodmnist_64.npz")])
def test_medmnist_is_read_with_names_of_classes_and_val_is_for_training(tmp_path, read, size, file):
    save_medmnist(tmp_path / file, np.array([[0], [1], [7], [2], [3], [3]], np.uint8))
    listing = read("medmnist", "bloodmnist", size=size)
    assert listing.annotations["class"] == [
        "basophil", "eosinophil", "platelet", "erythroblast",
        *["immature granulocytes(myelocytes, metamyelocytes and promyelocytes)"] * 2,
    ]  # fmt: skip
    assert listing.annotations["value"] == ["0", "1", "7", "2", "3", "3"]
    assert listing.annotations["split"] == ["train"] * 4 + ["test"] * 2
    assert list(listing.paths)[3] == "val/000000.png"
    assert listing.class_names[7] == "platelet"
    assert np.array_equal(pixels(tmp_path, "test/000001.png"), COLOUR[5, :28, :28])


def test_chestmnist_has_several_classes_an_image(tmp_path, read):
    labels = np.zeros((6, 14), np.uint8)
    labels[0, [0, 13]] = labels[5, 6] = 1
    save_medmnist(tmp_path / "chestmnist.npz", labels, GREY)
    listing = read("medmnist", "chestmnist")
    assert listing.annotations["classes"] == ["atelectasis;hernia", "", "", "", "", "pneumonia"]
    assert "class" not in listing.annotations
    assert len(listing.class_names) == 14


def test_medmnist_with_unknown_labels_is_told(tmp_path, read):
    save_medmnist(tmp_path / "breastmnist.npz", np.array([[0], [1], [2], [1], [0], [5]], np.uint8), GREY)
    with pytest.raises(DataProblems, match=r"breastmnist\.npz: got 2 problems") as caught:
        read("medmnist", "breastmnist")
    assert "row 2: class 2" in caught.value.message
    assert "row 5: class 5" in caught.value.message


def test_medmnist_with_labels_of_another_kind_is_told(tmp_path, read):
    save_medmnist(tmp_path / "breastmnist.npz", np.linspace(0, 1, 6), GREY)
    with pytest.raises(DataError, match="labels that are classes"):
        read("medmnist", "breastmnist")


def test_cifar10_is_read(tmp_path, read):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for number in range(5):
        (folder / f"data_batch_{number + 1}.bin").write_bytes(cifar([[number]], COLOUR[number : number + 1]))
    (folder / "test_batch.bin").write_bytes(cifar([[9]], COLOUR[5:]))
    listing = read("cifar10")
    assert listing.annotations == {
        "image": [*(f"train/00000{number}.png" for number in range(5)), "test/000000.png"],
        "split": ["train"] * 5 + ["test"],
        "class": ["airplane", "automobile", "bird", "cat", "deer", "truck"],
    }
    assert np.array_equal(pixels(tmp_path, "train/000004.png"), COLOUR[4])


def test_cifar100_is_read_with_superclasses(tmp_path, read):
    (tmp_path / "train.bin").write_bytes(cifar([[0, 4], [19, 99], [2, 54]], COLOUR[:3]))
    (tmp_path / "test.bin").write_bytes(cifar([[1, 1]], COLOUR[5:]))
    columns = read("cifar100").annotations
    assert columns["class"] == ["beaver", "worm", "orchid", "aquarium_fish"]
    assert columns["superclass"] == ["aquatic_mammals", "vehicles_2", "flowers", "fish"]
    assert np.array_equal(pixels(tmp_path, "test/000000.png"), COLOUR[5])


def test_fashion_mnist_is_read(tmp_path, read):
    for split, images, labels in (("train", GREY[:4], [0, 9, 3, 3]), ("t10k", GREY[4:], [1, 8])):
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.array(labels, np.uint8)))
    listing = read("fashion_mnist")
    assert listing.annotations["class"] == ["T-shirt/top", "Ankle boot", "Dress", "Dress", "Trouser", "Bag"]
    assert listing.annotations["split"] == ["train"] * 4 + ["test"] * 2
    assert np.array_equal(pixels(tmp_path, "train/000003.png"), GREY[3])


@pytest.mark.parametrize(
    ("name", "labels", "classes"),
    [
        ("letters", [1, 26, 2], ["A", "Z", "B"]),
        ("balanced", [0, 10, 46], ["0", "A", "t"]),
        ("byclass", [9, 36, 61], ["9", "a", "z"]),
        ("bymerge", [35, 36, 37], ["Z", "a", "b"]),
        ("digits", [0, 5, 9], ["0", "5", "9"]),
        ("mnist", [0, 5, 9], ["0", "5", "9"]),
    ],
)
def test_emnist_is_read_upright(tmp_path, read, name, labels, classes):
    (tmp_path / "gzip").mkdir()
    for split in ("train", "test"):
        stored = np.ascontiguousarray(GREY[:3].transpose(0, 2, 1))
        (tmp_path / f"gzip/emnist-{name}-{split}-images-idx3-ubyte").write_bytes(idx(stored))
        (tmp_path / f"gzip/emnist-{name}-{split}-labels-idx1-ubyte").write_bytes(idx(np.array(labels, np.uint8)))
    listing = read("emnist", name)
    assert listing.annotations["class"] == classes * 2
    assert np.array_equal(pixels(tmp_path, "test/000002.png"), GREY[2])


def test_letters_of_emnist_have_no_label_zero(tmp_path, read):
    for split in ("train", "test"):
        (tmp_path / f"emnist-letters-{split}-images-idx3-ubyte").write_bytes(idx(GREY[:1]))
        (tmp_path / f"emnist-letters-{split}-labels-idx1-ubyte").write_bytes(idx(np.zeros(1, np.uint8)))
    with pytest.raises(DataProblems, match="expected classes from 0 to 25"):
        read("emnist", "letters")


def test_house_numbers_are_read_without_extra(tmp_path, read):
    for split, part, digits in (("train", slice(4), [10, 1, 2, 9]), ("test", slice(4, 6), [5, 10])):
        images = COLOUR[part].transpose(1, 2, 3, 0)
        savemat(tmp_path / f"{split}_32x32.mat", {"X": images, "y": np.array(digits, np.uint8)[:, None]})
    listing = read("svhn")
    assert listing.annotations["class"] == ["0", "1", "2", "9", "5", "0"]
    assert np.array_equal(pixels(tmp_path, "test/000001.png"), COLOUR[5])


@pytest.mark.parametrize(("source", "name"), [("medmnist", "pathmnist"), ("emnist", "mnist"), ("svhn", None)])
def test_missing_files_are_told(read, source, name):
    with pytest.raises(MissingData, match="Fetch the dataset again"):
        read(source, name)


SHIPPED = Library.read(ROOT / "config").tasks


@pytest.mark.parametrize("source", KNOWN_SETS)
def test_every_set_has_a_shipped_definition(source):
    names = {"medmnist": MEDMNIST, "emnist": EMNIST}.get(source, (None,))
    found = [task for task in SHIPPED.values() if task["source"] == source]
    assert sorted(str(task.get("name")) for task in found) == sorted(map(str, names))


@pytest.mark.parametrize("task", SHIPPED)
def test_shipped_definitions_are_valid_and_say_where_images_are_from(task):
    definition = TaskDefinition.model_validate(SHIPPED[task])
    assert NAME.fullmatch(task)
    assert definition.reference
    assert definition.keywords
    assert definition.size == 28
