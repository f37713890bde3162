"""Work on chunks in processes: order, what is given back, processes that die."""

import os
import zlib

import numpy as np
import pytest

from foldwise.data.workers import Chunk, Place, Work, stamp_of, work_off
from foldwise.errors import DataError
from unit.data.making import MAKER, TESTS, write_files


@pytest.fixture(autouse=True)
def _tests_are_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", TESTS)


def chunks_of(files, rows=2):
    return [Chunk(number, files[start : start + rows]) for number, start in enumerate(range(0, len(files), rows))]


def run(folder, files, workers=2, place=None, rows=2, maker=MAKER, **arguments):
    work = Work(maker, {"folder": str(folder), **arguments}, str(folder), place)
    return [(answer, bytes(content)) for answer, content in work_off(work, iter(chunks_of(files, rows)), workers)]


@pytest.mark.parametrize("rows", [2, 100], ids=["processes", "alone"])
def test_contents_come_in_order_with_their_checksums_and_facts(tmp_path, rows):
    files = write_files(tmp_path, 9)
    found = run(tmp_path, files, rows=rows)
    assert b"".join(content for _, content in found) == b"".join(b"%04d" % number for number in range(9))
    assert [answer.number for answer, _ in found] == list(range(len(found)))
    assert [answer.crc for answer, _ in found] == [zlib.crc32(content) for _, content in found]
    assert [answer.facts["total"] for answer, _ in found] == [sum(content) for _, content in found]
    assert sum(answer.images for answer, _ in found) == 9


def test_no_chunks_make_nothing(tmp_path):
    assert run(tmp_path, []) == []


def test_workers_write_chunks_where_they_belong(tmp_path):
    files = write_files(tmp_path, 7)
    with open(tmp_path / "target", "wb+") as target:
        found = run(tmp_path, files, place=Place(target.fileno(), 3, 8))
        assert target.read() == b"\0\0\0" + b"".join(b"%04d" % number for number in range(7))
    assert {content for _, content in found} == {b""}


def test_an_image_without_files_has_a_blank_row(tmp_path):
    write_files(tmp_path, 1)
    assert run(tmp_path, [[], ["i0"]])[0][1] == b"\xff\xff\xff\xff0000"


@pytest.mark.parametrize("rows", [2, 100], ids=["processes", "alone"])
def test_files_that_cannot_be_used_are_all_told(tmp_path, rows):
    files = write_files(tmp_path, 9, i1="broken", i2="large", i8="broken")
    found = run(tmp_path, files, rows=rows)
    assert [problem for answer, _ in found for problem in map(list, answer.problems)] == [
        [f"{tmp_path}/i1", "it is broken"],
        [f"{tmp_path}/i2", "not enough memory to decode it"],
        [f"{tmp_path}/i8", "it is broken"],
    ]


def test_a_file_that_ends_its_process_is_named_and_the_others_are_made(tmp_path):
    files = write_files(tmp_path, 8, i2="deadly", i3="deadly", i6="broken")
    found = run(tmp_path, files, rows=4)
    told = [list(problem) for answer, _ in found for problem in answer.problems]
    death = "decoding it ended the process (SIGSEGV)"
    assert told == [[f"{tmp_path}/i2", death], [f"{tmp_path}/i3", death], [f"{tmp_path}/i6", "it is broken"]]


def test_processes_that_cannot_even_start_are_an_error(tmp_path, capfd):
    with pytest.raises(
        DataError, match=r"worker process: got exit status 1, expected to run until all images are done"
    ):
        run(tmp_path, write_files(tmp_path, 4), maker="unit.data.making:Nobody")
    assert "Nobody" in capfd.readouterr().err


def test_what_cannot_be_written_is_told_with_its_reason(tmp_path):
    files = write_files(tmp_path, 4)
    (tmp_path / "target").touch()
    with open(tmp_path / "target", "rb") as target:
        found = run(tmp_path, files, place=Place(target.fileno(), 0, 8), rows=4)
    assert [os.strerror(answer.errno) for answer, _ in found] == ["Bad file descriptor"]


def test_a_change_of_a_file_shows_in_the_stamp(tmp_path):
    files = write_files(tmp_path, 3)
    before = stamp_of(str(tmp_path), files)
    assert stamp_of(str(tmp_path), files) == before
    os.utime(tmp_path / "i1", ns=(5, 5))
    changed = stamp_of(str(tmp_path), files)
    (tmp_path / "i2").unlink()
    assert len({before, changed, stamp_of(str(tmp_path), files)}) == 3


def test_many_chunks_of_unequal_cost_keep_their_order(tmp_path):
    files = write_files(tmp_path, 200)
    (tmp_path / "i0").write_bytes(b"0000" * 2_000_000)
    found = run(tmp_path, files, rows=3)
    assert np.frombuffer(b"".join(content for _, content in found), "S4").astype(int).tolist() == list(range(200))
