"""The digits as files, and the sets made of them."""

import hashlib

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from foldwise.config.definition import DatasetRecord
from foldwise.config.sources import EMBEDDED
from foldwise.tasks.embedded import MAX_ANGLE, draw, load, make_multilabel, read_embedded
from foldwise.tasks.sources.listing import Raw

LABELS = load_digits().target
SIZES = {"digits": (1797, 8), "digits_segmentation": (1797, 32), "digits_multilabel": (599, 24)}
SIZES["digits_regression"] = (1797, 32)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Read a set; once, however many tests look at it."""
    done = {}

    def read(name):
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            done[name] = folder, read_embedded(DatasetRecord(dataset=name), Raw(folder, folder))
        return done[name]

    return read


def pixels(folder, path):
    with Image.open(folder / path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def digest(folder):
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.png")):
        total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_set_has_its_images_and_a_row_for_each(read, name):
    folder, listing = read(name)
    count, side = SIZES[name]
    assert listing.annotations["image"] == list(listing.paths) == [f"{number:04d}" for number in range(count)]
    assert all(len(column) == count for column in listing.annotations.values())
    assert listing.paths["0003"] == "files/images/0003.png"
    assert len(list((folder / "files/images").iterdir())) == count
    for image in ("0000", f"{count - 1:04d}"):
        assert pixels(folder, listing.paths[image]).shape == (side, side)


@pytest.mark.parametrize("name", EMBEDDED)
def test_bytes_and_annotations_are_the_same_each_time(read, name, tmp_path):
    folder, listing = read(name)
    again = read_embedded(DatasetRecord(dataset="toy", name=name), Raw(tmp_path, tmp_path))
    assert again == listing
    assert digest(tmp_path) == digest(folder)


def test_digits_are_scikit_learns_scaled_to_eight_bits(read):
    folder, listing = read("digits")
    images = load_digits().images
    for number in (0, 1, 777, 1796):
        image = pixels(folder, f"files/images/{number:04d}.png")
        assert np.abs(image - images[number] * 255 / 16).max() <= 0.5
    assert listing.annotations["class"] == list(map(str, LABELS))
    assert listing.class_names == list("0123456789")


def test_masks_are_the_ink_of_enlarged_digits(read):
    folder, listing = read("digits_segmentation")
    assert listing.class_names == ["background", "ink"]
    for number in (0, 5, 1796):
        image = pixels(folder, f"files/images/{number:04d}.png")
        mask = pixels(folder, listing.annotations["mask"][number])
        assert np.array_equal(mask, image >= 128)
        assert 0.05 < mask.mean() < 0.6
        small = load_digits().images[number]
        coarse = mask.reshape(8, 4, 8, 4).mean(axis=(1, 3))
        assert coarse[small >= 15].min() > 0.4
        assert coarse[small == 0].max() < 0.4


def test_three_digits_lie_side_by_side_and_each_is_used_once(read):
    folder, listing = read("digits_multilabel")
    known = {digit.tobytes(): number for number, digit in enumerate(load()[0])}
    used = []
    for image, classes in zip(listing.annotations["image"], listing.annotations["classes"], strict=True):
        drawn = pixels(folder, listing.paths[image])
        assert not drawn[:8].any()
        assert not drawn[16:].any()
        numbers = [known[np.ascontiguousarray(drawn[8:16, place : place + 8]).tobytes()] for place in (0, 8, 16)]
        assert classes == ";".join(sorted({str(LABELS[number]) for number in numbers}))
        used += numbers
    assert sorted(used) == list(range(1797))


def test_digits_of_an_image_do_not_follow_the_order_of_the_source():
    digits, labels = load()
    counts = [len(classes.split(";")) for classes in make_multilabel(digits, labels).columns["classes"]]
    assert {1, 2, 3} == set(counts)
    assert 0.6 < counts.count(3) / len(counts) < 0.85


def test_digits_are_turned_counter_clockwise_by_their_value(read):
    folder, listing = read("digits_regression")
    angles = np.array(listing.annotations["value"], float)
    assert -MAX_ANGLE <= angles.min() < -40
    assert 40 < angles.max() <= MAX_ANGLE
    assert abs(angles.mean()) < 2
    plain = Image.fromarray(load()[0][0]).resize((32, 32), Image.Resampling.BILINEAR)
    turned = pixels(folder, "files/images/0000.png").astype(int)
    errors = [
        np.abs(turned - np.asarray(plain.rotate(float(angle), Image.Resampling.BILINEAR))).mean()
        for angle in (angles[0], -angles[0], angles[0] + 20)
    ]
    assert errors[0] == 0
    assert min(errors[1:]) > 1


def test_angles_depend_on_the_digit_alone():
    assert draw("regression", 7) == draw("regression", 7)
    assert len({draw("regression", number) for number in range(100)}) == 100
    assert draw("regression", 7) != draw("multilabel", 7)
