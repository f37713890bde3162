"""The digits as files."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from foldwise.artifacts import read_csv
from foldwise.tasks.embedded import write_digits


@pytest.fixture(scope="module")
def folder(digits):
    return digits.dataset.parent / "files"


def test_images_are_scikit_learns_scaled_to_eight_bits(folder):
    pixels = load_digits().images
    for number in (0, 1, 777, 1796):
        with Image.open(folder / f"images/{number:04d}.png") as image:
            assert image.mode == "L"
            assert np.abs(np.asarray(image) - pixels[number] * 255 / 16).max() <= 0.5
    assert len(list((folder / "images").iterdir())) == 1797


def test_labels_are_scikit_learns(folder):
    table = read_csv(folder / "labels.csv", ["image", "class"])
    assert table["class"] == [str(label) for label in load_digits().target]
    assert table["image"] == [f"{number:04d}" for number in range(1797)]


def test_rows_describe_the_files_and_bytes_are_the_same_each_time(folder, tmp_path):
    rows = write_digits(tmp_path)
    assert rows[3] == ("0003", "files/images/0003.png", 8, 8, 1)
    assert len(rows) == 1797
    for name in ("labels.csv", "images/0000.png", "images/1796.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
