"""The check of a dataset: what it finds, and that it goes on where it was."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foldwise.errors import DataError, DataProblems
from foldwise.tasks import check
from foldwise.tasks.check import check_images, in_words, sample_sizes
from foldwise.tasks.sources.listing import Listing

CHILD = """
import sys
from pathlib import Path
from foldwise.tasks.check import check_images
from foldwise.tasks.sources.listing import Listing

folder = Path(sys.argv[1])
names = sorted(path.name for path in folder.iterdir())
listing = Listing(dict(zip(names, names)), {"image": names}, [])
check_images(listing, folder, 2, print, folder.with_name("journal"))
"""


class Dataset:
    """A folder with images and masks, of which a listing is made."""

    def __init__(self, folder):
        self.folder = folder
        self.journal = folder / "check.jsonl"
        self.paths = {}
        self.rows = []
        self.lines = []
        folder.mkdir()

    def write(self, path, content, **options):
        """Write an image, or bytes, and return its path."""
        if isinstance(content, bytes):
            (self.folder / path).write_bytes(content)
        else:
            content.save(self.folder / path, **options)
        return path

    def add(self, name, content=None, mask="", **options):
        """Add an image under the path of its name, if there is content to write."""
        self.paths[name] = name
        self.rows.append((name, mask))
        return None if content is None else self.write(name, content, **options)

    @property
    def listing(self):
        images, masks = zip(*self.rows, strict=True) if self.rows else ((), ())
        return Listing(dict(self.paths), {"image": list(images), "mask": list(masks)}, [])

    def check(self, threads=1):
        self.lines = []
        return check_images(self.listing, self.folder, threads, self.lines.append, self.journal)

    def reasons(self):
        return {name: problem.reason for name, problem in self.check().problems.items()}

    def examined(self):
        """Return the paths in the journal, in its order."""
        return [json.loads(line)[1] for line in self.journal.read_bytes().splitlines()[1:]]


@pytest.fixture
def data(tmp_path):
    return Dataset(tmp_path / "data")


def noise(seed, size=(6, 4)):
    """Return a grey image that no other seed gives."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8))


def fill(folder, count, different=7):
    """Write images of a few contents under many names."""
    folder.mkdir(exist_ok=True)
    names = [f"{number:05d}.png" for number in range(count)]
    for number, name in enumerate(names):
        if number < different:
            noise(number).save(folder / name)
        else:
            os.link(folder / names[number % different], folder / name)
    return names


def test_sizes_are_told_as_images_are_seen(data):
    exif = Image.Exif()
    exif[0x0112] = 6
    data.add("grey.png", noise(0))
    data.add("turned.jpg", noise(1), exif=exif)
    data.add("alpha.png", Image.new("RGBA", (5, 3)))
    found = data.check()
    assert found.sizes == {"grey.png": (6, 4, 1), "turned.jpg": (4, 6, 1), "alpha.png": (5, 3, 4)}
    assert (found.problems, found.duplicates, found.mask_values) == ({}, [], [])


def test_the_digest_of_all_files_tells_when_one_is_replaced(data):
    data.add("a.png", noise(0))
    data.add("b.png", noise(1))
    before = data.check().content
    assert data.check().content == before
    data.add("b.png", noise(2))
    assert data.check().content != before


def test_nothing_to_check_is_no_problem(data):
    found = data.check()
    assert (found.sizes, found.problems, found.duplicates, found.mask_values) == ({}, {}, [], [])
    assert data.lines == ["checked 0 of 0 images before"]


def test_all_problems_are_told_together(data):
    noise(0, (40, 30)).save(data.folder / "whole.jpg")
    data.add("good.png", noise(0))
    data.add("cut.jpg", (data.folder / "whole.jpg").read_bytes()[:500])
    data.add("text.png", b"not an image")
    data.add("empty.png", b"")
    data.add("missing.png")
    (data.folder / "folder.png").mkdir()
    data.add("folder.png")
    os.mkfifo(data.folder / "pipe.png")
    data.add("pipe.png")
    (data.folder / "loop.png").symlink_to("loop.png")
    data.add("loop.png")
    found = data.check()
    assert list(found.sizes) == ["good.png"]
    message = DataProblems(data.folder, list(found.problems.values()), "images that can be read").message
    assert message.splitlines()[1:] == [
        f"  {data.folder}/cut.jpg: truncated",
        f"  {data.folder}/text.png: no image: text",
        f"  {data.folder}/empty.png: 0 bytes",
        f"  {data.folder}/missing.png: missing",
        f"  {data.folder}/folder.png: a folder",
        f"  {data.folder}/pipe.png: no regular file",
        f"  {data.folder}/loop.png: too many levels of symbolic links",
    ]


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_processes_find_the_same_as_one(data, threads):
    for name in fill(data.folder, 200):
        data.add(name)
    data.add("bad.png", b"text")
    found = data.check(threads)
    assert len(found.sizes) == 200
    assert list(found.problems) == ["bad.png"]
    assert [len(group) for group in found.duplicates] == [29, 29, 29, 29, 28, 28, 28]


def test_a_mask_of_another_size_names_both(data):
    data.add("a.png", noise(0), mask=data.write("a.mask.png", Image.new("L", (4, 6))))
    data.add("b.png", noise(1), mask=data.write("b.mask.png", Image.new("L", (6, 4))))
    found = data.check()
    assert found.problems == {
        "a.png": (
            f"{data.folder}/a.mask.png",
            f"a mask of 4 x 6 pixels for the image {data.folder}/a.png of 6 x 4",
        )
    }
    assert set(found.sizes) == {"a.png", "b.png"}


def test_a_mask_fits_the_image_as_it_is_seen(data):
    exif = Image.Exif()
    exif[0x0112] = 8
    data.add("a.jpg", noise(0), mask=data.write("a.mask.png", Image.new("L", (4, 6))), exif=exif)
    assert data.reasons() == {}


def test_masks_that_cannot_be_read_are_problems_of_their_images(data):
    data.add("a.png", noise(0), mask="gone.png")
    data.add("b.png", noise(1), mask=data.write("b.mask.png", Image.new("RGB", (6, 4), (1, 2, 3))))
    data.add("c.png", b"text", mask="gone.png")
    data.add("d.png", noise(2))
    found = data.check()
    assert found.problems["a.png"] == (f"{data.folder}/gone.png", "missing")
    assert found.problems["b.png"].reason.startswith("a colour mask")
    assert found.problems["c.png"] == (f"{data.folder}/c.png", "no image: text")
    assert "d.png" not in found.problems


def test_values_of_all_masks_are_collected(data):
    for name, values in {"a": [0, 255], "b": [0, 3], "c": [4, 5]}.items():
        mask = Image.fromarray(np.array([values], np.uint8))
        data.add(f"{name}.png", noise(ord(name), (2, 1)), mask=data.write(f"{name}.mask.png", mask))
    data.add("d.png", noise(0, (1, 1)), mask=data.write("d.mask.png", Image.fromarray(np.array([[700]], np.uint16))))
    for _ in range(2):  # examined, then taken from the journal
        assert data.check().mask_values == [0, 3, 4, 5, 255, 700]


def test_duplicates_are_files_of_equal_bytes(data):
    data.add("b.png", noise(0))
    data.add("a.png", noise(0))
    data.add("c.png", noise(1))
    data.add("same pixels.bmp", noise(0))
    data.paths["same file"] = "b.png"
    data.add("empty.png", b"")
    data.add("also empty.png", b"")
    assert data.check().duplicates == [["a.png", "b.png"]]


def test_each_file_is_examined_once_however_often_it_is_used(data):
    mask = data.write("mask.png", Image.new("L", (6, 4)))
    data.add("a.png", noise(0), mask=mask)
    data.rows.append(("a.png", mask))
    data.paths["again"] = "a.png"
    data.rows.append(("again", mask))
    assert set(data.check().sizes) == {"a.png", "again"}
    assert sorted(data.examined()) == ["a.png", "mask.png"]


def test_a_finished_check_is_not_repeated(data):
    data.add("a.png", noise(0))
    data.add("bad.png", b"text")
    first, journal = data.check(), data.journal.read_bytes()
    assert data.check() == first
    assert data.journal.read_bytes() == journal
    assert data.lines == ["checked 2 of 2 images before"]


@pytest.mark.parametrize("change", ["content", "date"])
def test_a_changed_file_is_checked_again(data, change):
    data.add("a.png", noise(0))
    data.add("b.png", noise(1))
    data.check()
    before = (data.folder / "a.png").stat()
    if change == "content":
        data.write("a.png", b"text")
        os.utime(data.folder / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        data.write("a.png", noise(2))
        os.utime(data.folder / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert data.reasons() == ({"a.png": "no image: text"} if change == "content" else {})
    assert data.examined() == ["a.png", "b.png", "a.png"]


def test_a_file_that_was_missing_is_looked_for_again(data):
    data.add("a.png")
    assert data.reasons() == {"a.png": "missing"}
    data.write("a.png", noise(0))
    assert data.reasons() == {}


def test_a_torn_line_is_passed_over(data):
    for name in fill(data.folder, 5):
        data.add(name)
    expected = data.check()
    whole = data.journal.read_bytes()
    for length in range(0, len(whole), 7):
        data.journal.write_bytes(whole[:length])
        assert data.check() == expected
        assert data.check() == expected
        assert data.lines == ["checked 5 of 5 images before"]


@pytest.mark.parametrize("content", [b"", b"\0" * 500, b'["foldwise check", 0]\n["image", "a.png"]\n', b"\xff\xfe"])
def test_a_journal_of_another_kind_is_begun_anew(data, content):
    data.add("a.png", noise(0))
    data.journal.write_bytes(content)
    assert set(data.check().sizes) == {"a.png"}
    data.check()
    assert data.lines == ["checked 1 of 1 images before"]


def test_a_killed_check_goes_on_and_finds_the_same(tmp_path):
    folder, journal = tmp_path / "files", tmp_path / "journal"
    names = fill(folder, 4_000)
    (folder / names[50]).unlink()
    (folder / names[50]).write_bytes(b"text")
    listing = Listing(dict(zip(names, names, strict=True)), {"image": names}, [])
    environment = {**os.environ, "PYTHONPATH": str(Path(check.__file__).parents[2])}
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], env=environment, stdout=subprocess.PIPE)
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 500:
        time.sleep(0.005)
        assert child.poll() is None, "the check ended before it could be killed"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    kept = journal.read_bytes()
    assert 500 <= kept.count(b"\n") < 4_000
    found = check_images(listing, folder, 2, lambda text: None, journal)
    assert found == check_images(listing, folder, 1, lambda text: None, tmp_path / "fresh")
    assert journal.read_bytes().startswith(kept)
    assert journal.read_bytes().count(b"\n") <= 4_000 + 2  # no file twice: a header, perhaps a torn line
    assert list(found.problems) == [names[50]]


def test_memory_is_bounded(tmp_path):
    names = fill(tmp_path / "files", 20_000)
    listing = Listing(dict(zip(names, names, strict=True)), {"image": names}, [])
    tracemalloc.start()
    try:
        found = check_images(listing, tmp_path / "files", 2, lambda text: None, tmp_path / "journal")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.sizes) == 20_000
    assert peak / 20_000 < 500  # bytes a file, names not counted


def test_progress_tells_how_long_it_will_take(data, monkeypatch):
    monkeypatch.setattr(check, "REPORT_SECONDS", 0)
    for name in fill(data.folder, 200):
        data.add(name)
    data.add("last.png", noise(9), mask=data.write("mask.png", Image.new("L", (6, 4))))
    data.check(2)
    assert len(data.lines) == 4
    assert all(re.fullmatch(r"checked \d+ of 202 images and masks, \d s left", line) for line in data.lines[:-1])
    assert data.lines[-1] == "checked 202 of 202 images and masks"


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "0 s"), (99, "99 s"), (600, "10 min"), (9_000, "2.5 h")])
def test_time_is_told_in_a_fitting_unit(seconds, words):
    assert in_words(seconds) == words


def test_a_full_disk_is_told(data, small_disk):
    data.add("a.png", noise(0))
    data.journal = small_disk / "journal"
    (small_disk / "filler").write_bytes(bytes(2**20))
    with pytest.raises(DataError, match="a full disk"):
        data.check()


def test_a_journal_that_is_a_folder_is_told(data):
    data.add("a.png", noise(0))
    data.journal.mkdir()
    with pytest.raises(DataError, match="a folder where a file should be"):
        data.check()


def test_a_sample_needs_headers_only(data):
    noise(0, (40, 30)).save(data.folder / "whole.jpg")
    data.add("cut.jpg", (data.folder / "whole.jpg").read_bytes()[:700])
    data.add("text.png", b"text")
    data.add("missing.png")
    data.add("good.png", noise(1))
    assert sample_sizes(data.listing, data.folder) == {"cut.jpg": (40, 30, 1), "good.png": (6, 4, 1)}


def test_a_sample_depends_on_names_alone(data):
    for name in fill(data.folder, 30):
        data.add(name)
    chosen = sample_sizes(data.listing, data.folder, limit=10)
    data.paths = dict(reversed(data.paths.items()))
    assert len(chosen) == 10
    assert sample_sizes(data.listing, data.folder, limit=10) == chosen
    assert set(chosen) != set(sorted(data.paths)[:10])
