"""Tensors as training reads them: checked, gathered, measured."""

import numpy as np
import pytest

from foldwise.config.preprocessing import Preprocessing, TensorRecord
from foldwise.data.preprocess import TensorFiles, preprocess_dataset
from foldwise.data.tensors import open_tensors
from foldwise.errors import DataError, MissingData


def open_own(own_digits):
    return open_tensors(own_digits.tensors, own_digits.tensor_record)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.fixture
def packed_digits(digits, tmp_path):
    """The digits in JPEG storage, with the record of their tensors."""
    files = TensorFiles.of(tmp_path / "packed")
    record = TensorRecord(dataset="digits", preprocessing=Preprocessing(size=8, storage="jpeg", quality=100))
    preprocess_dataset(record, digits.dataset_record, 1, digits.dataset.description, digits.images, files)
    return files, record


def test_images_are_those_that_were_stored(digits, digits_store):
    rows = np.array([1796, 3, 3, 0])
    assert digits_store.images.shape == (1797, 8, 8, 3)
    assert np.array_equal(digits_store.images[rows], np.load(digits.tensors.images)[rows])


@pytest.mark.parametrize("workers", [1, 2])
def test_images_in_jpeg_storage_are_nearly_the_same(digits_store, packed_digits, workers):
    store = open_tensors(*packed_digits, workers=workers)
    assert store.images.shape == digits_store.images.shape
    found, exact = (one.images[np.arange(0, 1797, 9)].astype(int) for one in (store, digits_store))
    assert np.abs(found - exact).max() <= 8
    pixels = found / 255
    rows = np.arange(0, 1797, 9)
    assert store.channel_statistics(rows)[0] == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-12)


def test_rows_follow_the_names_of_the_images(digits_store, digits_task):
    found = digits_store.rows_of(digits_task, np.array([5, 0, 1796]))
    assert found.dtype == np.int64
    assert found.tolist() == [5, 0, 1796]
    assert digits_store.rows_of(digits_task, np.array([], dtype=int)).tolist() == []


def test_an_image_without_a_tensor_is_named_with_the_task(digits_store, digits_task):
    fewer = type(digits_store)(digits_store.images, digits_store.channel_sums, {"0000": 0, "0001": 1})
    with pytest.raises(DataError) as caught:
        fewer.rows_of(digits_task, np.array([0, 7]))
    expected = "task digits: got image 0007, expected one of the 2 images with tensors."
    assert caught.value.message == expected


@pytest.mark.parametrize("rows", [np.array([3]), np.arange(0, 1797, 7)])
def test_channel_statistics_are_numpys(digits_store, rows):
    mean, std = digits_store.channel_statistics(rows)
    pixels = np.asarray(digits_store.images[rows], np.float64) / 255
    assert mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-12)
    assert std == pytest.approx(pixels.std(axis=(0, 1, 2)), abs=1e-9)


def test_channels_have_statistics_of_their_own(digits_store):
    images = np.array([[[[0, 10, 255]], [[0, 30, 255]]]], np.uint8)
    sums = np.stack([images.sum((1, 2), float), (images.astype(float) ** 2).sum((1, 2))], axis=1)
    mean, std = type(digits_store)(images, sums, {"a": 0}).channel_statistics(np.array([0]))
    assert mean == pytest.approx([0, 20 / 255, 1])
    assert std[1] == pytest.approx(10 / 255)
    assert min(std) > 0  # a constant channel does not divide by zero


class TestChecks:
    @pytest.mark.parametrize("place", [128, 100_000, -1])
    def test_a_flipped_bit_in_the_images_is_noticed(self, own_digits, place):
        open_own(own_digits)
        flip(own_digits.tensors.images, place)
        with pytest.raises(DataError) as caught:
            open_own(own_digits)
        message = caught.value.message
        assert message.startswith(f"{own_digits.tensors.images}: got damaged rows 0 to 1796 (checksum differs)")
        assert message.endswith("Delete the file and run again to make it anew.")

    @pytest.mark.parametrize("length", [0, 50, 127, 128, 200, -1])
    def test_truncated_images_are_named(self, own_digits, length):
        path = own_digits.tensors.images
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(DataError, match=r"images\.npy: got"):
            open_own(own_digits)

    def test_images_of_another_shape_are_told_with_both(self, own_digits):
        np.save(own_digits.tensors.images, np.zeros((2, 8, 8, 3), np.uint8))
        with pytest.raises(DataError, match=r"got uint8 of shape \(2, 8, 8, 3\), expected uint8 of shape \[1797, 8"):
            open_own(own_digits)

    def test_a_flipped_bit_in_the_channel_sums_is_noticed(self, own_digits):
        flip(own_digits.tensors.channel_sums, -3)
        with pytest.raises(DataError, match=r"channel_sums\.npy: got other content than manifest\.json vouches for"):
            open_own(own_digits)

    @pytest.mark.parametrize("name", ["images", "channel_sums", "manifest"])
    def test_a_missing_file_is_named(self, own_digits, name):
        path = getattr(own_digits.tensors, name)
        path.unlink()
        with pytest.raises(MissingData, match=rf"{path.name}: got nothing"):
            open_own(own_digits)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("index.npy", r"index\.npy: got other content than manifest\.json vouches for"),
            ("shards/00000.jpegs", r"00000\.jpegs: got damaged images 0 to 1796 \(checksum differs\)"),
        ],
    )
    def test_a_flipped_bit_in_jpeg_storage_is_noticed(self, packed_digits, name, message):
        flip(packed_digits[0].manifest.parent / name, -3)
        with pytest.raises(DataError, match=message):
            open_tensors(*packed_digits)

    @pytest.mark.parametrize("name", ["index.npy", "shards/00000.jpegs"])
    def test_a_missing_file_of_jpeg_storage_is_named(self, packed_digits, name):
        path = packed_digits[0].manifest.parent / name
        path.unlink()
        with pytest.raises(MissingData, match=rf"{path.name}: got nothing"):
            open_tensors(*packed_digits)

    def test_another_definition_is_told_with_both(self, digits):
        record = TensorRecord(dataset="digits", preprocessing=Preprocessing(size=16))
        with pytest.raises(DataError, match=r"got data made with .*'size': 8.*, expected .*'size': 16.* as configured"):
            open_tensors(digits.tensors, record)
