"""Files are there whole or not at all, and every failure names the file."""

import io
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from foldwise import artifacts
from foldwise.errors import DataError, FoldwiseError, MissingData

BYTES = np.random.default_rng(0).integers(0, 256, 5 * 2**18, dtype=np.uint8)  # 1.25 MiB
SCRIPTS = Path(artifacts.__file__).parents[1]
WRITERS = {
    "text": lambda path: artifacts.write_text(path, "x" * len(BYTES)),
    "json": lambda path: artifacts.write_json(path, {"x": "x" * len(BYTES)}),
    "yaml": lambda path: artifacts.write_yaml(path, {"x": "x" * len(BYTES)}),
    "csv": lambda path: artifacts.write_csv(path, ["x"], [["x" * 1000]] * 1300),
    "npz": lambda path: artifacts.write_npz(path, {"x": BYTES}),
    "npy": lambda path: artifacts.write_npy(path, BYTES),
    "many": lambda path: artifacts.write_many({path: BYTES.tobytes()}),
}
READERS = {
    "json": artifacts.read_json,
    "csv": lambda path: artifacts.read_csv(path, ["a", "b"]),
    "npz": artifacts.read_npz,
    "npy": artifacts.map_npy,
    "any": artifacts.sha256,
}
every_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
every_reader = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


def fail(function, *arguments):
    """Return the message of the error that a call must end with; it is one line."""
    with pytest.raises(FoldwiseError) as caught:
        function(*arguments)
    assert len(caught.value.message.splitlines()) == 1
    return caught.value.message


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def start(code, *arguments):
    """Start a Python process that runs code with the engine."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


class TestAtomic:
    def test_a_file_appears_when_the_block_ends(self, tmp_path):
        path = tmp_path / "made/by/it/file.txt"
        with artifacts.atomic(path) as temporary:
            temporary.write_text("new")
            assert not path.exists()
            assert temporary.parent == path.parent
        assert path.read_text() == "new"
        assert names(path.parent) == ["file.txt"]

    def test_the_old_file_stays_until_the_block_ends(self, tmp_path):
        path = tmp_path / "file.txt"
        path.write_text("old")
        with artifacts.atomic(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"

    def test_who_has_the_old_file_open_reads_it_to_its_end(self, tmp_path):
        path = tmp_path / "file.txt"
        path.write_text("old")
        with path.open() as reader:
            artifacts.write_text(path, "new")
            assert reader.read() == "old"

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_an_exception_leaves_the_old_file_and_nothing_else(self, tmp_path, error):
        def write_half():
            with artifacts.atomic(path) as temporary:
                temporary.write_text("half of the n")
                raise error

        path = tmp_path / "file.txt"
        path.write_text("old")
        with pytest.raises(error):
            write_half()
        assert path.read_text() == "old"
        assert names(tmp_path) == ["file.txt"]

    def test_a_killed_writer_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "file.txt"
        path.write_text("old")
        code = (
            "import os, signal, sys; from foldwise.artifacts import atomic\n"
            "with atomic(sys.argv[1]) as temporary:\n"
            "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        assert start(code, path).wait(timeout=30) == -signal.SIGKILL
        assert path.read_text() == "old"
        left = [name for name in names(tmp_path) if name != "file.txt"]
        assert len(left) == 1
        assert left[0].startswith(artifacts.TEMPORARY)

    def test_two_writers_of_one_file_do_not_meet(self, tmp_path):
        path = tmp_path / "file.txt"
        with artifacts.atomic(path) as first, artifacts.atomic(path) as second:
            first.write_text("first")
            second.write_text("second")
        assert path.read_text() == "first"
        assert names(tmp_path) == ["file.txt"]


class TestMany:
    def test_all_files_are_written(self, tmp_path):
        artifacts.write_many({tmp_path / f"made/{k}": bytes([k]) * k for k in range(5)})
        assert [(tmp_path / f"made/{k}").read_bytes() for k in range(5)] == [bytes([k]) * k for k in range(5)]
        assert names(tmp_path / "made") == list("01234")

    def test_files_with_the_same_bytes_are_left_alone(self, tmp_path):
        artifacts.write_many({tmp_path / "a": b"same", tmp_path / "b": b"old"})
        date = (tmp_path / "a").stat().st_mtime_ns
        artifacts.write_many({tmp_path / "a": b"same", tmp_path / "b": b"new"})
        assert (tmp_path / "a").stat().st_mtime_ns == date
        assert (tmp_path / "b").read_bytes() == b"new"

    def test_a_failure_replaces_none_of_them(self, small_disk):
        (small_disk / "a").write_text("old")
        message = fail(artifacts.write_many, {small_disk / "a": b"new", small_disk / "b": BYTES.tobytes()})
        assert message.startswith(f"{small_disk / 'b'}: got a full disk")
        assert (small_disk / "a").read_text() == "old"
        assert names(small_disk) == ["a"]


@every_writer
class TestPlacesThatCannotBeWritten:
    def test_a_full_disk(self, small_disk, write):
        path = small_disk / "file"
        path.write_text("old")
        message = fail(write, path)
        assert message.startswith(f"{path}: got a full disk, expected room for the file.")
        assert "MiB are free" in message
        assert path.read_text() == "old"
        assert names(small_disk) == ["file"]

    def test_a_read_only_disk(self, read_only_disk, write):
        message = fail(write, read_only_disk / "old")
        assert message.startswith(f"{read_only_disk / 'old'}: got read-only file system, expected a folder that can be")
        assert str(read_only_disk / "new/file") in fail(write, read_only_disk / "new/file")
        assert (read_only_disk / "old").read_text() == "old"
        assert names(read_only_disk) == ["old"]

    @pytest.mark.parametrize("below", ["file", "deeper/file"])
    def test_a_file_where_a_folder_should_be(self, tmp_path, write, below):
        wrong = tmp_path / "wrong"
        wrong.write_text("old")
        message = fail(write, wrong / below)
        assert message.startswith(f"{wrong / below}: got a file where a folder should be")
        assert f"Move {wrong} away." in message
        assert wrong.read_text() == "old"

    def test_a_folder_where_a_file_should_be(self, tmp_path, write):
        (tmp_path / "wrong").mkdir()
        assert fail(write, tmp_path / "wrong").startswith(f"{tmp_path / 'wrong'}: got a folder where a file should be")
        assert names(tmp_path) == ["wrong"]


def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write into any folder")
    message = fail(artifacts.write_text, tmp_path / "file", "new")
    assert message.startswith(f"{tmp_path / 'file'}: got permission denied")
    assert str(tmp_path) in fail(artifacts.check_writable, tmp_path)


class TestReading:
    @every_reader
    def test_a_missing_file_is_named(self, tmp_path, read):
        with pytest.raises(MissingData) as caught:
            read(tmp_path / "none")
        assert caught.value.message.startswith(f"{tmp_path / 'none'}: got nothing, expected")

    @every_reader
    def test_a_folder_instead_of_a_file_is_named(self, tmp_path, read):
        assert fail(read, tmp_path).startswith(f"{tmp_path}: got a file that cannot be read")

    @every_reader
    def test_an_empty_file_is_named_unless_only_its_bytes_count(self, tmp_path, read):
        path = tmp_path / "empty"
        path.touch()
        if read is artifacts.sha256:
            assert read(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        else:
            assert fail(read, path).startswith(f"{path}: got a file that cannot be read")

    @pytest.mark.parametrize("content", [b"{", b"[1, 2]", b"3", b'{"a": "\xff"}', b"[" * 100_000], ids=range(5))
    def test_damaged_json_is_named(self, tmp_path, content):
        path = tmp_path / "a.json"
        path.write_bytes(content)
        assert fail(artifacts.read_json, path).startswith(f"{path}: got a file that cannot be read")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"a,c\n1,2\n", "not in list"),
            (b"a,b\n1,2\n3\n", "line 3 does not have 2 fields"),
            (b"a,b\n1,2,3\n", "line 2 does not have 2 fields"),
            (b"a,b\n\xff,2\n", "codec"),
            (b'a,b\n"' + b"x" * 200_000, "field"),
        ],
    )
    def test_damaged_csv_is_named_with_the_reason(self, tmp_path, content, reason):
        path = tmp_path / "a.csv"
        path.write_bytes(content)
        message = fail(artifacts.read_csv, path, ["a", "b"])
        assert message.startswith(f"{path}: got a file that cannot be read")
        assert reason in message
        assert "columns a, b" in message

    def test_a_header_that_cannot_be_read_is_named(self, tmp_path):
        path = tmp_path / "a.csv"
        with pytest.raises(MissingData, match="got nothing, expected a CSV file"):
            artifacts.read_header(path)
        path.write_bytes(b"a,\xff\n1,2\n")
        assert fail(artifacts.read_header, path).startswith(f"{path}: got a file that cannot be read")
        assert fail(artifacts.read_header, tmp_path).startswith(f"{tmp_path}: got a file that cannot be read")

    def test_the_remedy_is_the_readers_own(self, tmp_path):
        assert fail(artifacts.read_npz, tmp_path / "a.npz", "Predict again.").endswith(" Predict again.")

    @pytest.mark.parametrize("write", [artifacts.write_npz, artifacts.write_npy], ids=["npz", "npy"])
    def test_a_cut_array_file_is_always_noticed(self, tmp_path, write):
        path, arrays = tmp_path / "a", {"x": np.arange(6.0), "ids": np.array(["a", "bb"])}
        write(path, arrays if write is artifacts.write_npz else arrays["x"])
        read = artifacts.read_npz if write is artifacts.write_npz else artifacts.map_npy
        whole = path.read_bytes()
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            assert str(path) in fail(read, path)

    def test_a_changed_bit_in_an_npz_file_is_noticed_or_harmless(self, tmp_path):
        path, arrays = tmp_path / "a.npz", {"x": np.arange(3.0), "ids": np.array(["a", "bb"])}
        artifacts.write_npz(path, arrays)
        whole, noticed = path.read_bytes(), 0
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            try:
                found = artifacts.read_npz(path)
            except DataError:
                noticed += 1
                continue
            assert all(np.array_equal(found[name], array) for name, array in arrays.items())
        assert noticed > len(whole) // 2

    def test_a_changed_bit_in_the_header_of_an_npy_file_raises_nothing_but_data_errors(self, tmp_path):
        path, noticed = tmp_path / "a.npy", 0
        artifacts.write_npy(path, np.arange(3.0))
        whole = path.read_bytes()
        for place in range(128):
            for bit in range(8):
                path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
                try:
                    artifacts.map_npy(path)
                except DataError:
                    noticed += 1
        assert noticed > 600


class TestFormats:
    def test_text_is_utf_8_with_unix_line_ends(self, tmp_path):
        artifacts.write_text(tmp_path / "a.txt", "ä\nb\n")
        assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa4\nb\n"

    def test_json_keeps_the_order_of_keys_and_all_digits(self, tmp_path):
        tree = {"b": 0.1 + 0.2, "a": [1, None, "ä"]}
        artifacts.write_json(tmp_path / "a.json", tree)
        assert artifacts.read_json(tmp_path / "a.json") == tree
        assert list(artifacts.read_json(tmp_path / "a.json")) == ["b", "a"]
        assert "ä" in (tmp_path / "a.json").read_text(encoding="utf-8")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_json_holds_no_nan_and_the_old_file_stays(self, tmp_path, value):
        artifacts.write_json(tmp_path / "a.json", {"a": 1})
        with pytest.raises(ValueError, match="JSON"):
            artifacts.write_json(tmp_path / "a.json", {"a": value})
        assert artifacts.read_json(tmp_path / "a.json") == {"a": 1}
        assert names(tmp_path) == ["a.json"]

    def test_csv_keeps_digits_quotes_and_line_breaks(self, tmp_path):
        path = tmp_path / "a.csv"
        artifacts.write_csv(path, ["x", "y"], [(0.1 + 0.2, 'a,"b"\nc'), ("", 3)])
        assert artifacts.read_csv(path, ["y", "x"]) == {"y": ['a,"b"\nc', "3"], "x": ["0.30000000000000004", ""]}
        assert path.read_bytes().startswith(b"x,y\n0.30000000000000004,")

    def test_a_table_without_rows_has_its_header(self, tmp_path):
        artifacts.write_csv(tmp_path / "a.csv", ["x"], [])
        assert (tmp_path / "a.csv").read_text() == "x\n"
        assert artifacts.read_csv(tmp_path / "a.csv", ["x"]) == {"x": []}

    def test_the_header_of_a_table_has_the_names_of_its_columns(self, tmp_path):
        path = tmp_path / "a.csv"
        artifacts.write_csv(path, ["x", 'a "b", c', "ä"], [(1, 2, 3)])
        assert artifacts.read_header(path) == ["x", 'a "b", c', "ä"]
        path.write_bytes(b"")
        assert artifacts.read_header(path) == []

    def test_yaml_keeps_the_order_of_keys(self, tmp_path):
        artifacts.write_yaml(tmp_path / "a.yaml", {"b": {"y": 1, "x": [True, None]}, "a": "ä"})
        expected = "b:\n  y: 1\n  x:\n  - true\n  - null\na: ä\n"
        assert (tmp_path / "a.yaml").read_text(encoding="utf-8") == expected

    def test_npz_gives_back_what_was_written(self, tmp_path):
        arrays = {"x": np.ones((2, 3), np.float16), "ids": np.array(["a", "bcd"]), "none": np.empty((0, 4))}
        artifacts.write_npz(tmp_path / "a.npz", arrays)
        found = artifacts.read_npz(tmp_path / "a.npz")
        assert list(found) == list(arrays)
        assert all(found[name].dtype == array.dtype for name, array in arrays.items())
        assert all(np.array_equal(found[name], array) for name, array in arrays.items())

    def test_npz_is_the_same_bytes_whenever_it_is_written(self, tmp_path):
        for name in ("a.npz", "b.npz"):
            artifacts.write_npz(tmp_path / name, {"x": np.arange(5), "y": np.array(["z"])})
        assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
        with zipfile.ZipFile(tmp_path / "a.npz") as archive:
            dates = {member.date_time for member in archive.infolist()}
            assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert dates == {(1980, 1, 1, 0, 0, 0)}

    def test_npy_is_what_numpy_writes(self, tmp_path):
        for array in (np.arange(12.0).reshape(3, 4), np.asfortranarray(np.arange(12).reshape(3, 4)), np.empty((0, 2))):
            artifacts.write_npy(tmp_path / "a.npy", array)
            buffer = io.BytesIO()
            np.save(buffer, array)
            assert (tmp_path / "a.npy").read_bytes() == buffer.getvalue()
            assert np.array_equal(artifacts.map_npy(tmp_path / "a.npy"), array)

    def test_a_mapped_array_cannot_be_written(self, tmp_path):
        artifacts.write_npy(tmp_path / "a.npy", np.arange(3))
        mapped = artifacts.map_npy(tmp_path / "a.npy")
        assert isinstance(mapped, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            mapped[0] = 1

    @pytest.mark.parametrize("write", [artifacts.write_npz, artifacts.write_npy], ids=["npz", "npy"])
    def test_objects_are_never_written(self, tmp_path, write):
        array = np.array([None, "a"], dtype=object)
        with pytest.raises(ValueError, match="Object arrays"):
            write(tmp_path / "a", {"x": array} if write is artifacts.write_npz else array)
        assert names(tmp_path) == []

    def test_objects_are_never_read(self, tmp_path):
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        (tmp_path / "a.npy").write_bytes(buffer.getvalue() + b"N.")
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.write(tmp_path / "a.npy")
        assert str(tmp_path / "a.npz") in fail(artifacts.read_npz, tmp_path / "a.npz")
        assert str(tmp_path / "a.npy") in fail(artifacts.map_npy, tmp_path / "a.npy")

    def test_an_npy_file_is_no_npz_file(self, tmp_path):
        artifacts.write_npy(tmp_path / "a.npz", np.arange(3))
        assert str(tmp_path / "a.npz") in fail(artifacts.read_npz, tmp_path / "a.npz")

    def test_sha256_of_known_bytes(self, tmp_path):
        (tmp_path / "a").write_bytes(b"abc")
        expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert artifacts.sha256(tmp_path / "a") == expected


class TestVersions:
    def test_a_file_of_another_version_is_named_with_both(self, tmp_path):
        path = tmp_path / "a.json"
        artifacts.write_json(path, {"format_version": "1.0.0"})
        message = fail(artifacts.read_json, path)
        assert message.startswith(f"{path}: got format version 1.0.0, expected format version")
        assert artifacts.FORMAT_VERSION in message

    def test_a_root_is_stamped_once_and_checked_ever_after(self, tmp_path):
        artifacts.stamp_version(tmp_path / "root")
        version = tmp_path / "root/VERSION"
        assert version.read_text() == f"{artifacts.FORMAT_VERSION}\n"
        before = version.stat().st_mtime_ns
        artifacts.stamp_version(tmp_path / "root")
        assert version.stat().st_mtime_ns == before
        version.write_text("0.1.0\n")
        assert str(version) in fail(artifacts.stamp_version, tmp_path / "root")
        assert str(version) in fail(artifacts.check_root, tmp_path / "root")
        assert version.read_text() == "0.1.0\n"

    def test_a_root_that_is_not_there_is_fine_and_a_file_is_not(self, tmp_path):
        artifacts.check_root(tmp_path / "none")
        (tmp_path / "file").touch()
        assert fail(artifacts.check_root, tmp_path / "file").startswith(f"{tmp_path / 'file'}: got a file")

    def test_a_root_is_writable_if_it_can_be_made(self, tmp_path):
        artifacts.check_writable(tmp_path / "not/there/yet")
        assert names(tmp_path) == []

    def test_a_root_below_a_file_or_on_a_read_only_disk_is_not_writable(self, tmp_path, read_only_disk):
        (tmp_path / "file").touch()
        assert fail(artifacts.check_writable, tmp_path / "file/root").startswith(f"{tmp_path / 'file'}: got a file")
        message = fail(artifacts.check_writable, read_only_disk / "root")
        assert message.startswith(f"{read_only_disk}: got a folder that cannot be written")


class TestLock:
    def test_a_second_writer_waits_for_the_first(self, tmp_path):
        path, code = (
            tmp_path / "made/a",
            "import sys; from foldwise.artifacts import lock\nwith lock(sys.argv[1]): print(1)",
        )
        with artifacts.lock(path):
            other = start(code, path)
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(timeout=1.5)
        assert other.communicate(timeout=30)[0] == "1\n"

    def test_a_writer_of_another_artifact_does_not_wait(self, tmp_path):
        with artifacts.lock(tmp_path / "a"), artifacts.lock(tmp_path / "b"):
            assert names(tmp_path) == [".a.lock", ".b.lock"]

    def test_a_writer_that_failed_lets_the_next_one_in(self, tmp_path):
        with pytest.raises(ValueError), artifacts.lock(tmp_path / "a"):
            raise ValueError
        with artifacts.lock(tmp_path / "a"):
            pass

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="a file where a folder should be"), artifacts.lock(tmp_path / "file/a"):
            pass


class TestLinks:
    def test_a_link_is_made_where_it_can_be(self, tmp_path):
        source, target = tmp_path / "a", tmp_path / "b"
        source.write_text("old")
        artifacts.link_or_copy(source, target)
        assert source.samefile(target)

    def test_a_copy_with_the_same_date_is_made_on_another_disk(self, tmp_path, small_disk):
        source, target = tmp_path / "a", small_disk / "b"
        source.write_text("old")
        os.utime(source, (1000, 1000))
        artifacts.link_or_copy(source, target)
        assert (target.read_text(), target.stat().st_mtime) == ("old", 1000)
        assert not source.samefile(target)
