"""Makers for tests of chunks: what they make of files shows which file it was and how often it was read."""

import os
import signal
from pathlib import Path

import numpy as np

from foldwise.data.chunks import Product
from foldwise.data.workers import Unusable


class Reader:
    """Makes rows of the first bytes of files. Words in a file say what becomes of it; names go into a diary."""

    blank = 255

    def __init__(self, folder, side=4, diary=None):
        self.folder = Path(folder)
        self.shape = (side,)
        self.diary = diary

    def fill(self, row, files):
        text = (self.folder / files[0]).read_bytes()
        if self.diary:
            with open(self.diary, "a") as diary:
                diary.write(f"{files[0]}\n")
        if text == b"broken":
            raise Unusable(files[0], "it is broken")
        if text == b"deadly":
            os.kill(os.getpid(), signal.SIGSEGV)
        if text == b"large":
            raise MemoryError
        row[:] = np.frombuffer(text.ljust(len(row))[: len(row)], np.uint8)

    def finish(self, rows):
        return rows.reshape(-1).data, {"total": int(rows.sum()), "lengths": [len(row) for row in rows]}


MAKER = "unit.data.making:Reader"
TESTS = str(Path(__file__).parents[2])


def write_files(folder, count, **special):
    """Write numbered files, some with words of their own: i3="broken"."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"i{number}").write_text(special.get(f"i{number}", f"{number:04d}"))
    return [[f"i{number}"] for number in range(count)]


def product(folder, files, rows=2, digest="one", **arguments):
    """Return what is made of files."""
    return Product(
        "toy", "images", MAKER, {"folder": str(folder), **arguments}, folder, len(files),
        lambda start, stop: files[start:stop], rows, digest,
    )  # fmt: skip
