"""How far long work is."""

import re
import time

import pytest

from foldwise.progress import Progress, in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (5999, "100 min"), (6000, "1.7 h"), (90000, "25.0 h")],
)
def test_spans_of_time(seconds, words):
    assert in_words(seconds) == words


def test_a_line_now_and_then_and_one_at_the_end():
    lines = []
    progress = Progress(lines.append, 100, "samples", known=20)
    assert lines == ["20 of 100 samples were finished before"]
    progress.show(10)
    progress.last -= 60
    progress.started = time.monotonic() - 10
    progress.show(10)
    progress.show(10)
    progress.show(50)
    assert len(lines) == 3
    assert re.fullmatch(r"40 of 100 samples, 2 a second, 30 s left", lines[1])
    assert re.fullmatch(r"100 of 100 samples, 8 a second", lines[2])
