"""Writing chunk by chunk: what a killed run left is used, and nothing else is."""

import re
import zlib

import pytest

from foldwise.artifacts import read_json
from foldwise.data.chunks import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    chunks_to_check,
    journal_line,
    journal_of,
    leftover_of,
    publish,
    read_journal,
    rows_per_chunk,
    write_chunks,
)
from foldwise.data.packed import ShardStore
from foldwise.data.rows import RowStore
from foldwise.errors import DataError, DataProblems
from unit.data.making import TESTS, product, write_files


@pytest.fixture(autouse=True)
def _tests_are_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", TESTS)


class Stop(Exception):
    """Stands for the end of a run in the middle."""


class Kit:
    """Makes a target out of files, in either kind of store."""

    def __init__(self, folder, kind, count=9, **special):
        self.folder = folder / "files"
        self.target = folder / "out" / ("rows.npy" if kind == "rows" else "shards")
        self.kind = kind
        self.files = write_files(self.folder, count, **special)
        self.diary = folder / "diary"
        self.lines = []

    def store(self):
        if self.kind == "rows":
            return RowStore(self.target, (len(self.files), 4), 2)
        return ShardStore(self.target, len(self.files), 2, shard_bytes=16)

    def write(self, stop_after=None, digest="one", threads=1, finish=True):
        """Run; stop as a killed run would have, after some chunks; return names of the files that were read."""
        self.diary.unlink(missing_ok=True)
        received = []

        def receive(number, facts):
            received.append((number, facts["total"]))
            if len(received) == stop_after:
                raise Stop

        store = self.store()
        made = product(self.folder, self.files, 2, digest, diary=str(self.diary))
        try:
            crcs = write_chunks(made, store, receive, threads, self.lines.append)
            if finish:
                publish(store, self.target.with_suffix(".json"), {"chunks": crcs})
        except Stop:
            pass
        self.received = received
        return self.diary.read_text().split() if self.diary.exists() else []

    def content(self):
        """Return all bytes of the target."""
        paths = [self.target] if self.kind == "rows" else sorted(self.target.iterdir())
        return b"".join(path.read_bytes() for path in paths)


@pytest.fixture(params=["rows", "shards"])
def kit(request, tmp_path):
    return lambda **keys: Kit(tmp_path, request.param, **keys)


WHOLE = b"".join(b"%04d" % number for number in range(9))


def test_all_chunks_are_written_and_described(kit):
    one = kit()
    one.write()
    assert one.content().endswith(WHOLE)
    expected = [zlib.crc32(WHOLE[start : start + 8]) for start in range(0, 36, 8)]
    assert read_json(one.target.with_suffix(".json"))["chunks"] == expected
    assert one.received == [(number, sum(WHOLE[8 * number : 8 * number + 8])) for number in range(5)]
    left = {path.name for path in one.target.parent.iterdir() if "lock" not in path.name}
    assert left == {one.target.name, one.target.with_suffix(".json").name}


def test_a_stopped_run_is_continued(kit):
    one = kit()
    one.write(stop_after=3)
    assert not one.target.exists()
    again = one.write()
    assert again[-5:] == ["i4", "i5", "i6", "i7", "i8"] or again[-3:] == ["i6", "i7", "i8"]
    assert "i0" not in again
    assert "6 of 9 images were finished before" in one.lines or "4 of 9 images were finished before" in one.lines
    assert sorted(number for number, _ in one.received) == [0, 1, 2, 3, 4]
    assert one.content().endswith(WHOLE)
    assert len(one.content()) == (36 if one.kind == "shards" else 36 + 128)


def test_what_is_finished_but_not_published_is_not_made_again(kit):
    one = kit()
    one.write(finish=False)
    assert one.write() == []
    assert one.content().endswith(WHOLE)


def test_another_product_starts_anew(kit):
    one = kit()
    one.write(finish=False)
    assert len(one.write(digest="two")) == 9


@pytest.mark.parametrize("line", [0, 1, 3])
@pytest.mark.parametrize("damage", ["torn", "changed"])
def test_a_journal_counts_up_to_a_damaged_line(tmp_path, line, damage):
    lines = [journal_line(message) for message in ("digest", [0, 7], [1, 8], [2, 9])]
    bad = lines[line][:-2] if damage == "torn" else lines[line].replace(b"]", b" ]").replace(b"digest", b"Digest")
    (tmp_path / "journal").write_bytes(b"".join([*lines[:line], bad, *lines[line + 1 :]]))
    assert list(read_journal(tmp_path / "journal")) == ["digest", [0, 7], [1, 8], [2, 9]][:line]


def test_after_a_torn_line_the_run_is_continued(kit):
    one = kit()
    one.write(finish=False)
    journal = journal_of(one.target)
    journal.write_bytes(journal.read_bytes()[:-5])
    assert one.write() == ["i8"]
    assert one.content().endswith(WHOLE)


def test_chunks_are_claimed_only_as_they_are_on_disk(kit):
    one = kit()
    one.write(finish=False)
    left = leftover_of(one.target)
    path = left if one.kind == "rows" else left / "00000.jpegs"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # of the last image, or of the fourth
    path.write_bytes(content)
    assert one.write() == (["i8"] if one.kind == "rows" else ["i2", "i3", "i4", "i5", "i6", "i7", "i8"])
    assert one.content().endswith(WHOLE)


def test_data_that_is_gone_is_made_again(kit):
    one = kit()
    one.write(finish=False)
    left = leftover_of(one.target)
    left.unlink() if one.kind == "rows" else (left / "00000.jpegs").unlink()
    assert len(one.write()) == 9
    assert one.content().endswith(WHOLE)


def test_a_file_that_changed_meanwhile_is_read_again(kit):
    one = kit()
    one.write(finish=False)
    (one.folder / "i7").write_text("NEW!")
    assert one.write()[:2] == ["i6", "i7"]
    assert one.content().endswith(WHOLE.replace(b"0007", b"NEW!"))


def test_problems_are_told_together_and_what_is_finished_is_kept(kit):
    one = kit(i3="broken", i8="broken")
    with pytest.raises(DataProblems) as caught:
        one.write()
    assert caught.value.message == (
        "toy: got 2 problems, expected images that can be read. Replace them, or remove them from the dataset; what is "
        f"finished is kept for the next run.\n  {one.folder}/i3: it is broken\n  {one.folder}/i8: it is broken"
    )
    assert not one.target.exists()
    for name in ("i3", "i8"):
        (one.folder / name).write_text(f"000{name[1]}")
    again = one.write()
    assert again == (["i2", "i3", "i8"] if one.kind == "rows" else [f"i{number}" for number in range(2, 9)])
    assert one.content().endswith(WHOLE)


def test_many_processes_write_the_same(kit, tmp_path):
    one = kit(count=60)
    one.write(threads=1)
    expected = one.content()
    one.write(threads=3, digest="two")
    assert one.content() == expected


def test_a_published_target_is_replaced_whole(kit):
    one = kit()
    one.write()
    (one.folder / "i0").write_text("NEW!")
    one.write(digest="two")
    assert one.content().endswith(WHOLE.replace(b"0000", b"NEW!"))


class TestDisk:
    def test_a_file_that_has_no_room_is_refused_before_anything_is_decoded(self, tmp_path, small_disk):
        files, diary = write_files(tmp_path / "files", 5), tmp_path / "diary"
        made = product(tmp_path / "files", files, side=2**19, diary=str(diary))
        with pytest.raises(DataError) as caught:
            write_chunks(made, RowStore(small_disk / "rows.npy", (5, 2**19), 2), lambda *_: None, 1, lambda text: None)
        expected = (
            r".*/rows\.npy: got a disk that is too small, expected 2\.5 MiB for the file\. 1\.0 MiB are free there"
        )
        assert re.match(expected, caught.value.message)
        assert not diary.exists()

    @pytest.mark.parametrize("kind", ["rows", "shards"])
    def test_a_disk_that_fills_up_is_named(self, tmp_path, small_disk, kind):
        files = write_files(tmp_path / "files", 6)
        made = product(tmp_path / "files", files, side=100_000)

        def store():
            target = small_disk / kind
            return RowStore(target, (6, 100_000), 2) if kind == "rows" else ShardStore(target, 6, 2)

        def fill(number, facts):
            if number == 0:
                (small_disk / "other").write_bytes(bytes(700_000))

        with pytest.raises(DataError, match=rf"{kind}: got a full disk, expected room for the file"):
            write_chunks(made, store(), fill, 1, lambda text: None)
        (small_disk / "other").unlink()
        lines = []
        write_chunks(made, store(), lambda *_: None, 1, lines.append)
        assert lines[0] == "2 of 6 images were finished before"
        assert lines[-1].startswith("6 of 6 images, ")


def test_progress_tells_rate_and_rest(tmp_path):
    one = Kit(tmp_path, "rows")
    one.write()
    assert re.fullmatch(r"9 of 9 images, \d+ a second", one.lines[-1])


@pytest.mark.parametrize(("row_bytes", "rows"), [(1, CHUNK_ROWS), (256 * 256 * 3, 21), (2**24, 1)])
def test_chunks_are_of_some_megabytes(row_bytes, rows):
    assert rows_per_chunk(row_bytes) == rows
    assert rows == 1 or rows * row_bytes <= CHUNK_BYTES


def test_of_large_files_some_chunks_are_checked():
    assert list(chunks_to_check(300, 2**30)) == list(range(300))
    some = list(chunks_to_check(30_000, 2**30 + 1))
    assert some == list(chunks_to_check(30_000, 2**30 + 1)) == sorted(set(some))
    assert len(some) == 64
    assert max(some) > 20_000
    assert min(some) < 10_000
