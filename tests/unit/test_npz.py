"""Large archives of arrays: written in parts, read as maps, whole or refused."""

import tracemalloc
import zipfile

import numpy as np
import pytest

from foldwise.artifacts import read_npz, write_npz
from foldwise.errors import DataError, MissingData
from foldwise.npz import NpzWriter, open_npz, row_chunks

ARRAYS = {
    "maps": np.random.default_rng(0).normal(size=(7, 2, 3, 3)).astype(np.float16),
    "labels": np.arange(7) % 3,
    "ids": np.array([f"sample {k}" for k in range(7)]),
    "masks": np.arange(63, dtype=np.uint8).reshape(7, 3, 3),
}


def write_parts(path, shape, parts):
    """Write an archive of one array of int64."""
    with NpzWriter(path) as writer, writer.open("a", np.dtype(np.int64), shape) as put:
        for part in parts:
            put(part)


@pytest.fixture
def path(tmp_path):
    """An archive of all arrays, the maps in three parts."""
    with NpzWriter(tmp_path / "some.npz") as writer:
        with writer.open("maps", ARRAYS["maps"].dtype, ARRAYS["maps"].shape) as put:
            for part in np.split(ARRAYS["maps"], [3, 5]):
                put(part)
        for name in list(ARRAYS)[1:]:
            writer.add(name, ARRAYS[name])
    return tmp_path / "some.npz"


class TestWriting:
    def test_numpy_reads_what_was_written_in_parts(self, path):
        with np.load(path, allow_pickle=False) as archive:
            assert archive.files == list(ARRAYS)
            for name, array in ARRAYS.items():
                assert archive[name].dtype == array.dtype
                np.testing.assert_array_equal(archive[name], array)

    def test_the_bytes_are_those_of_numpy(self, path, tmp_path):
        write_npz(tmp_path / "other.npz", ARRAYS)
        assert path.read_bytes() == (tmp_path / "other.npz").read_bytes()

    def test_parts_become_the_type_and_order_of_the_array(self, tmp_path):
        with NpzWriter(tmp_path / "some.npz") as writer:
            with writer.open("a", np.dtype(np.float16), (4, 3)) as put:
                put(np.arange(6.0).reshape(3, 2).T)
                put(np.broadcast_to(np.uint8(7), (2, 3)))
        found = read_npz(tmp_path / "some.npz")["a"]
        assert found.dtype == np.float16
        assert found.tolist() == [[0, 2, 4], [1, 3, 5], [7, 7, 7], [7, 7, 7]]

    @pytest.mark.parametrize("parts", [0, 1, 3])
    def test_too_few_or_too_many_rows_are_refused_and_leave_no_file(self, tmp_path, parts):
        with pytest.raises(ValueError, match=r"a: the rows written do not fill shape \(4,\)"):
            write_parts(tmp_path / "some.npz", (4,), [np.zeros(2, np.int64)] * parts)
        assert list(tmp_path.iterdir()) == []

    def test_objects_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="pickle"), NpzWriter(tmp_path / "some.npz") as writer:
            writer.add("a", np.array([None]))
        assert list(tmp_path.iterdir()) == []

    def test_an_archive_without_arrays_is_valid(self, tmp_path):
        with NpzWriter(tmp_path / "none.npz"):
            pass
        with np.load(tmp_path / "none.npz") as archive:
            assert archive.files == []
        assert list(open_npz(tmp_path / "none.npz")) == []

    def test_an_error_keeps_the_old_file(self, path):
        before = path.read_bytes()
        with pytest.raises(ZeroDivisionError), NpzWriter(path) as writer:
            writer.add("a", np.array(1 / 0))
        assert path.read_bytes() == before
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_a_full_disk_is_named_and_leaves_nothing(self, small_disk):
        path = small_disk / "some.npz"
        with pytest.raises(DataError) as caught:
            write_parts(path, (2**19,), [np.zeros(2**15, np.int64)] * 16)
        assert caught.value.message.startswith(f"{path}: got a full disk")
        assert list(small_disk.iterdir()) == []

    def test_memory_does_not_grow_with_the_array(self, tmp_path):
        tracemalloc.start()
        write_parts(tmp_path / "some.npz", (64, 2**13), (np.zeros((1, 2**13), np.int64) for _ in range(64)))
        first = open_npz(tmp_path / "some.npz")["a"][:1]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert first.shape == (1, 2**13)
        assert peak < 3 * 2**20 < (tmp_path / "some.npz").stat().st_size


class TestReading:
    def test_arrays_are_read_only_maps_of_the_file(self, path):
        found = open_npz(path)
        assert list(found) == list(ARRAYS)
        assert len(found) == 4
        for name, array in ARRAYS.items():
            assert isinstance(found[name], np.memmap)
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
            assert not found[name].flags.writeable

    def test_files_of_numpy_itself_are_mapped_too(self, tmp_path):
        turned = np.asfortranarray(np.arange(6.0).reshape(2, 3))
        np.savez(tmp_path / "some.npz", turned=turned, empty=np.zeros((0, 3)), number=np.array(5))
        found = open_npz(tmp_path / "some.npz")
        np.testing.assert_array_equal(found["turned"], turned)
        assert found["empty"].shape == (0, 3)
        assert found["number"] == 5

    def test_names_are_looked_up_without_reading(self, path):
        found = open_npz(path)
        assert "labels" in found
        assert "other" not in found
        with pytest.raises(KeyError):
            found["other"]

    def test_a_compressed_file_is_told(self, tmp_path):
        np.savez_compressed(tmp_path / "some.npz", a=np.zeros(9))
        with pytest.raises(DataError, match=r"some\.npz: got .*compressed.*, expected an uncompressed NumPy"):
            open_npz(tmp_path / "some.npz")["a"]

    def test_a_missing_file_is_told(self, tmp_path):
        with pytest.raises(MissingData, match=r"some\.npz: got nothing"):
            open_npz(tmp_path / "some.npz")

    def test_members_that_are_no_arrays_are_told(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "some.npz", "w") as archive:
            archive.writestr("a.npy", "no array")
        with pytest.raises(DataError, match=r"some\.npz"):
            open_npz(tmp_path / "some.npz")["a"]


def flip(raw, place):
    return raw[:place] + bytes([raw[place] ^ 16]) + raw[place + 1 :]


def read_all(path):
    return {name: np.array(array) for name, array in open_npz(path, "Make it anew.").items()}


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: b"no archive",
        lambda raw: raw[:-1],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[100:],
        lambda raw: flip(raw, raw.index(ARRAYS["maps"].tobytes()) + 3),
        lambda raw: flip(raw, raw.index(b"descr") + 12),
        lambda raw: flip(raw, raw.index(b"(7, 2") + 1),
        lambda raw: flip(raw, raw.index(b"labels.npy")),
        lambda raw: flip(raw, raw.rindex(b"labels.npy")),
    ],
    ids=["empty", "text", "a byte short", "half", "no start", "content", "type", "shape", "name", "name in the list"],
)
def test_damage_is_one_line_that_names_the_file_and_says_what_to_do(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        read_all(path)
    assert caught.value.where == str(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("Make it anew.")


def test_every_flipped_byte_is_noticed_or_harmless(path):
    raw, plain = path.read_bytes(), read_all(path)
    for place in range(0, len(raw), 3):
        path.write_bytes(flip(raw, place))
        try:
            found = read_all(path)
        except DataError:
            continue
        assert found.keys() == plain.keys(), place
        assert all(np.array_equal(found[name], plain[name]) for name in plain), place


def test_chunks_cover_all_rows_with_a_bounded_number_of_values():
    array = np.broadcast_to(np.uint8(0), (100, 2**20))
    chunks = list(row_chunks(array))
    assert [place for chunk in chunks for place in range(*chunk.indices(100))] == list(range(100))
    assert {array[chunk].size for chunk in chunks} == {2**22}
    assert list(row_chunks(np.zeros((0, 3)))) == []
