"""Raw storage as it is read: rows of a large file, in little memory."""

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from foldwise.data.rows import StoredRows, npy_header, open_rows
from foldwise.errors import DataError, MissingData

SHAPE = (50, 6, 5, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
RECORDED = {"rows": 20, "chunks": [zlib.crc32(PIXELS[start : start + 20].data) for start in (0, 20, 40)]}
SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "rows.npy", PIXELS)
    return tmp_path / "rows.npy"


@pytest.fixture
def stored(path):
    return open_rows(path, list(SHAPE), RECORDED)


@pytest.mark.parametrize(
    "rows", [np.array([3]), np.array([49, 0, 0, 7]), [5, 6], slice(None), slice(40, 2, -3), np.array([], int)]
)
def test_rows_are_those_of_the_array(stored, rows):
    found = stored[rows]
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert np.array_equal(found, PIXELS[rows])


def test_one_row_is_an_array_without_the_first_axis(stored):
    assert np.array_equal(stored[7], PIXELS[7])
    assert np.array_equal(stored[np.int64(7)], PIXELS[7])


@pytest.mark.parametrize("rows", [[50], [-1], [[1, 2]], np.array([True, False]), [0.5]])
def test_rows_that_do_not_exist_are_refused(stored, rows):
    with pytest.raises(IndexError, match="expected a list of whole numbers from 0 to 49"):
        stored[rows]


def test_it_looks_like_an_array(stored):
    assert (stored.shape, stored.dtype, len(stored)) == (SHAPE, np.uint8, 50)


@pytest.mark.parametrize("place", [128, 3000, -1])
def test_damage_is_noticed_with_its_rows(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    first, last = {128: (0, 19), 3000: (20, 39), -1: (40, 49)}[place]
    expected = (
        f"{path}: got damaged rows {first} to {last} (checksum differs), expected the file as written. "
        "Delete the file and run again to make it anew."
    )
    with pytest.raises(DataError) as caught:
        open_rows(path, list(SHAPE), RECORDED)
    assert caught.value.message == expected


@pytest.mark.parametrize("length", [0, 50, 127, 128, 200, -1])
def test_a_file_that_was_cut_is_named(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"rows\.npy: got"):
        open_rows(path, list(SHAPE), RECORDED)


def test_a_file_that_is_too_long_is_named(path):
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=r"rows\.npy: got 4632 bytes, expected 4628 bytes\."):
        open_rows(path, list(SHAPE), RECORDED)


@pytest.mark.parametrize("array", [np.zeros((2, 6, 5, 3), np.uint8), np.zeros(SHAPE, np.uint16)])
def test_another_shape_or_type_is_told_with_both(path, array):
    np.save(path, array)
    with pytest.raises(DataError) as caught:
        open_rows(path, list(SHAPE), RECORDED)
    assert f"got {array.dtype} of shape {array.shape}, expected uint8 of shape {list(SHAPE)}" in caught.value.message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingData, match=r"rows\.npy: got nothing"):
        open_rows(tmp_path / "rows.npy", list(SHAPE), RECORDED)


def test_a_file_that_is_cut_while_it_is_read_is_an_error_not_a_crash(path, stored):
    with open(path, "rb+") as handle:
        handle.truncate(1000)
    with pytest.raises(DataError, match=r"rows\.npy: got a file that was cut while it was read"):
        stored[[40]]


def test_a_file_that_is_replaced_while_it_is_read_stays_what_it_was(path, stored, tmp_path):
    np.save(tmp_path / "other.npy", PIXELS[::-1])
    (tmp_path / "other.npy").rename(path)
    assert np.array_equal(stored[[3]], PIXELS[[3]])


READ = """
import resource, sys
import numpy as np
from pathlib import Path
from foldwise.data.rows import StoredRows, npy_header
stored = StoredRows(Path(sys.argv[1]), (4000, 224, 224, 3), 128)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for rows in np.array_split(np.random.default_rng(0).permutation(4000), 60):
    stored[rows]
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_reading_a_large_file_takes_little_memory(tmp_path):
    path, shape = tmp_path / "rows.npy", (4000, 224, 224, 3)
    with open(path, "wb") as handle:
        handle.write(npy_header(shape))
        handle.truncate(len(npy_header(shape)) + int(np.prod(shape)))
    assert path.stat().st_size > 600e6
    command = [sys.executable, "-c", READ, path]
    done = subprocess.run(command, env={"PYTHONPATH": SCRIPTS}, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50


def test_a_header_is_numpys(tmp_path):
    (tmp_path / "rows.npy").write_bytes(npy_header(SHAPE) + PIXELS.tobytes())
    assert np.array_equal(np.load(tmp_path / "rows.npy"), PIXELS)
    assert np.array_equal(StoredRows(tmp_path / "rows.npy", SHAPE, len(npy_header(SHAPE)))[:], PIXELS)
