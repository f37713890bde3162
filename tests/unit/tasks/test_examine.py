"""The examination of files in processes of their own, which may die."""

import os
import signal
import threading
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from foldwise.tasks.examine import CHUNK_FILES, examine, examine_all, value_ranges

# What a decoder with a fault does to the process, for files of one name.
CRASHES = """
import os, signal, sys

def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith("crash.png"):
        os.kill(os.getpid(), signal.SIGSEGV)

sys.addaudithook(hook)
"""


def make_files(folder, count):
    """Write one small image under many names."""
    folder.mkdir(exist_ok=True)
    paths = [f"{number:05d}.png" for number in range(count)]
    Image.new("L", (5, 4)).save(folder / paths[0])
    for path in paths[1:]:
        os.link(folder / paths[0], folder / path)
    return [("image", path) for path in paths]


def examine_sorted(folder, files, workers):
    return sorted(facts for chunk in examine_all(folder, iter(files), workers) for facts in chunk)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 1, CHUNK_FILES, CHUNK_FILES + 1, 5 * CHUNK_FILES])
def test_every_file_is_examined_once(tmp_path, count, workers):
    files = make_files(tmp_path / "files", max(1, count))[:count]
    found = examine_sorted(tmp_path / "files", files, workers)
    assert [facts.path for facts in found] == [path for _, path in files]
    assert {tuple(facts.size) for facts in found} <= {(5, 4, 1)}


def test_all_names_travel(tmp_path):
    names = ["a b.png", "new\nline.png", "ü.png", os.fsdecode(b"\xff.png"), '"quoted".png']
    for name in names:
        Image.new("L", (2, 2)).save(tmp_path / name)
    files = [*make_files(tmp_path, CHUNK_FILES), *(("image", name) for name in names)]
    found = examine_sorted(tmp_path, files, 2)
    assert [facts.path for facts in found if not facts.reason] == sorted(path for _, path in files)


def test_a_file_that_crashes_the_process_is_named_and_no_other(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CRASHES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    files = make_files(tmp_path / "files", CHUNK_FILES + 6)
    (tmp_path / "files" / files[40][1]).rename(tmp_path / "files" / "crash.png")
    files[40] = ("image", "crash.png")
    found = examine_sorted(tmp_path / "files", files, 2)
    assert [(facts.path, facts.reason) for facts in found if facts.reason] == [
        ("crash.png", "decoding it ended the process (SIGSEGV)")
    ]
    assert len(found) == len(files)
    assert max(facts.mtime_ns for facts in found if facts.reason) == -1


def test_a_killed_process_is_replaced(tmp_path):
    files = make_files(tmp_path / "files", 40 * CHUNK_FILES)
    killed = []

    def kill_one():
        while not killed:
            for process in psutil.Process().children():
                killed.append(process.pid)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)

    thread = threading.Thread(target=kill_one)
    thread.start()
    found = examine_sorted(tmp_path / "files", files, 2)
    thread.join()
    assert [facts.path for facts in found if not facts.reason] == [path for _, path in files]
    assert killed


def test_processes_end_with_the_block_that_needed_them(tmp_path):
    files = make_files(tmp_path / "files", 20 * CHUNK_FILES)
    chunks = examine_all(tmp_path / "files", iter(files), 2)
    next(chunks)
    assert len(psutil.Process().children()) == 2
    chunks.close()
    assert not psutil.Process().children()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000"])
def test_an_image_has_its_size_and_digest(tmp_path, kind):
    for name, colour in (("a", 1), ("b", 1), ("c", 200)):
        Image.new("RGB", (40, 30), (colour, 0, 0)).save(tmp_path / name, kind)
    first, second, other = (examine(tmp_path, "image", name) for name in "abc")
    assert first.size == (40, 30, 1 if kind == "GIF" else 3)
    assert first.digest == second.digest != other.digest
    assert len(first.digest) == 32
    assert (first.file_bytes, first.reason) == ((tmp_path / "a").stat().st_size, "")


def test_stray_bytes_in_a_jpeg_do_not_change_its_size(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a", "JPEG")
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-2] + bytes(4) + content[-2:])
    assert examine(tmp_path, "image", "a").size == (40, 30, 3)


def test_what_is_no_file_leaves_no_lasting_knowledge(tmp_path):
    facts = examine(tmp_path, "image", "a")
    assert (facts.reason, facts.file_bytes, facts.mtime_ns) == ("missing", -1, -1)


@pytest.mark.parametrize(
    ("values", "ranges"),
    [([0], [(0, 0)]), ([0, 1, 2, 255], [(0, 2), (255, 255)]), ([65_535, 7, 9, 8], [(7, 9), (65_535, 65_535)])],
)
def test_values_are_ranges(values, ranges):
    mask = np.array([values, values], np.uint16 if max(values) > 255 else np.uint8)
    assert value_ranges(mask) == ranges


def test_values_of_a_large_mask_are_all_found():
    mask = np.zeros((3_000, 1_000), np.uint8)
    mask[-1, -1] = 5
    assert value_ranges(mask) == [(0, 0), (5, 5)]
