"""Files exactly as the known sets publish them are read; damaged ones are told."""

import gzip

import numpy as np
import pytest
from scipy.io import savemat

from foldwise.errors import DataError, MissingData
from foldwise.tasks.sources import binary
from foldwise.tasks.sources.binary import find_file, read_cifar, read_idx, read_svhn

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)


def pixels(labelled):
    return np.concatenate(list(labelled.chunks))


def cifar_bytes(labels, images):
    """Records of CIFAR: labels, then all red values, all green, all blue."""
    return b"".join(
        bytes(label) + image.transpose(2, 0, 1).tobytes() for label, image in zip(labels, images, strict=True)
    )


def idx_bytes(array):
    """An IDX file: magic number with type and dimensions, big-endian sides, values."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture(params=[None, 3073 * 2], ids=["one chunk", "small chunks"])
def _chunks(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(binary, "CHUNK_BYTES", request.param)


@pytest.mark.usefixtures("_chunks")
def test_cifar_records_become_images_in_order_of_the_files(tmp_path):
    (tmp_path / "1.bin").write_bytes(cifar_bytes([[3], [9], [0]], IMAGES[:3]))
    (tmp_path / "2.bin").write_bytes(cifar_bytes([[1], [2], [3], [4]], IMAGES[3:]))
    labelled = read_cifar([tmp_path / "1.bin", tmp_path / "2.bin"], 1)
    assert labelled.labels[:, 0].tolist() == [3, 9, 0, 1, 2, 3, 4]
    assert np.array_equal(pixels(labelled), IMAGES)


def test_cifar_records_may_have_two_labels(tmp_path):
    (tmp_path / "train.bin").write_bytes(cifar_bytes([[1, 30], [19, 99]], IMAGES[:2]))
    labelled = read_cifar([tmp_path / "train.bin"], 2)
    assert labelled.labels.tolist() == [[1, 30], [19, 99]]
    assert np.array_equal(pixels(labelled), IMAGES[:2])


@pytest.mark.parametrize("content", [b"", b"\0" * 3072, b"\0" * 3074])
def test_cifar_files_of_broken_records_are_told(tmp_path, content):
    (tmp_path / "1.bin").write_bytes(content)
    with pytest.raises(DataError, match=rf"1\.bin: got {len(content)} bytes, expected whole records of 3073 bytes"):
        read_cifar([tmp_path / "1.bin"], 1)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("transposed", [False, True])
def test_idx_files_are_read_compressed_or_not(tmp_path, pack, transposed):
    images = IMAGES[..., 0]
    stored = images.transpose(0, 2, 1) if transposed else images
    (tmp_path / "images").write_bytes(pack(idx_bytes(np.ascontiguousarray(stored))))
    (tmp_path / "labels").write_bytes(pack(idx_bytes(np.arange(7, dtype=np.uint8))))
    labelled = read_idx(tmp_path / "images", tmp_path / "labels", transposed)
    assert labelled.labels.tolist() == [[number] for number in range(7)]
    assert np.array_equal(pixels(labelled), images)


IDX = idx_bytes(IMAGES[..., 0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "begins with"),
        (b"<html>not found</html>", "begins with 3c68746d"),
        (idx_bytes(IMAGES), "begins with 00000804"),
        (IDX[:12], "begins with 00000803"),
        (idx_bytes(np.zeros((7, 0, 3), np.uint8)), "shape"),
        (IDX[:-1500], "ends after 5 of 7 rows"),
        (IDX + b"\0", "more than 7 rows"),
        (gzip.compress(IDX)[:-20], "ended before"),
        (gzip.compress(IDX)[:-6] + b"\0" * 6, "CRC"),
    ],
)
def test_damaged_idx_files_are_told(tmp_path, content, reason):
    (tmp_path / "images").write_bytes(content)
    (tmp_path / "labels").write_bytes(idx_bytes(np.zeros(7, np.uint8)))
    with pytest.raises(DataError, match=f"images: got a file that cannot be read .*{reason}"):
        pixels(read_idx(tmp_path / "images", tmp_path / "labels", transposed=False))


def test_images_and_labels_of_different_number_are_told(tmp_path):
    (tmp_path / "images").write_bytes(IDX)
    (tmp_path / "labels").write_bytes(idx_bytes(np.zeros(6, np.uint8)))
    with pytest.raises(DataError, match="labels: got 6 labels, expected 7"):
        read_idx(tmp_path / "images", tmp_path / "labels", transposed=False)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("compressed", [True, False])
def test_house_numbers_are_read_and_ten_means_zero(tmp_path, compressed):
    content = {"X": IMAGES.transpose(1, 2, 3, 0), "y": np.array([[1], [10], [3], [9], [10], [2], [5]], np.uint8)}
    savemat(tmp_path / "train_32x32.mat", content, do_compression=compressed)
    labelled = read_svhn(tmp_path / "train_32x32.mat")
    assert labelled.labels[:, 0].tolist() == [1, 0, 3, 9, 0, 2, 5]
    assert np.array_equal(pixels(labelled), IMAGES)


@pytest.mark.parametrize(
    "content",
    [
        {"X": IMAGES, "y": np.zeros((7, 1), np.uint8)},
        {"X": IMAGES.transpose(1, 2, 3, 0).astype(float), "y": np.zeros((7, 1), np.uint8)},
        {"X": IMAGES.transpose(1, 2, 3, 0), "y": np.zeros((6, 1), np.uint8)},
        {"X": IMAGES.transpose(1, 2, 3, 0)},
        {"X": "text", "y": {"a": 1}},
    ],
)
def test_matlab_files_of_other_content_are_told(tmp_path, content):
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(DataError, match=r"a\.mat: got"):
        read_svhn(tmp_path / "a.mat")


@pytest.mark.parametrize(
    "content", [b"", b"<html></html>", b"\x89HDF\r\n\x1a\n" + b"\0" * 500, b"MATLAB 7.3" + b" " * 114 + b"\0\2IM" * 9]
)
def test_files_that_are_no_matlab_files_are_told(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mat: got a file that cannot be read"):
        read_svhn(tmp_path / "a.mat")


def test_files_are_found_extracted_or_not_wherever_they_lie(tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    packed = tmp_path / "deep/er/labels.gz"
    packed.write_bytes(b"")
    assert find_file(tmp_path, "labels") == packed
    (tmp_path / "deep/labels").write_bytes(b"")
    assert find_file(tmp_path, "labels") == tmp_path / "deep/labels"
    with pytest.raises(MissingData, match="images: got nothing, expected a file of the set"):
        find_file(tmp_path, "images")
