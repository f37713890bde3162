"""Work on chunks of image files in processes: all cores are used, and a file that crashes one of them is named."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader, FileIO
from itertools import chain, islice
from pathlib import Path
from subprocess import PIPE
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from foldwise.errors import DataError, Problem, Words

AHEAD = 4  # chunks a worker that may be finished before the oldest unfinished one
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Unusable(Exception):
    """A file cannot be used.

    Parameters
    ----------
    file : str
        The file, relative to the dataset's folder.
    reason : str
        Why, in a few words without the path.
    """

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)
        self.file = file
        self.reason = reason


class Maker(Protocol):
    """Makes what is stored of images."""

    shape: tuple[int, ...]
    blank: int

    def fill(self, row: np.ndarray, files: Sequence[str]) -> None:
        """Fill the uint8 array of one image, of shape `shape`, from its files; raise `Unusable` if that cannot be."""

    def finish(self, rows: np.ndarray) -> tuple[bytes | memoryview, dict[str, Any]]:
        """Return what is stored of a chunk of images, and JSON facts about it."""


class Place(NamedTuple):
    """Where workers themselves write chunks of one length: chunk k at `start` + k `stride` of an open file."""

    descriptor: int
    start: int
    stride: int


class Work(NamedTuple):
    """What workers do.

    Parameters
    ----------
    maker : str
        Function that makes the maker, as ``module:function``.
    arguments : dict
        Its keyword arguments, JSON.
    folder : str
        The dataset's folder, which files are relative to.
    place : Place or None
        Where chunks are written; None: they are given back.
    """

    maker: str
    arguments: dict[str, Any]
    folder: str
    place: Place | None


class Chunk(NamedTuple):
    """Some images in a row: the files of each. An image without files has a blank row.

    `deaths` are reasons why images ended a worker, by their place in the chunk; with `careful`, a worker says at which
    place it is.
    """

    number: int
    files: Sequence[Sequence[str]]
    deaths: dict[str, str] = {}  # noqa: RUF012  never changed
    careful: bool = False


class Answer(NamedTuple):
    """What became of a chunk: checksums of its content and of sizes and dates of its files, facts, problems.

    `length` bytes of content follow it; `errno` tells why they could not be written where they belong.
    """

    number: int
    images: int
    crc: int
    stamp: int
    facts: dict[str, Any]
    problems: Sequence[Sequence[str]]
    length: int = 0
    errno: int = 0


def stamp_of(folder: str, files: Sequence[Sequence[str]]) -> int:
    """Return a checksum of sizes and dates of files, by which a change of them shows."""
    found = np.full((sum(map(len, files)), 2), -1, np.int64)
    for place, file in enumerate(chain.from_iterable(files)):
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(f"{folder}/{file}")  # noqa: PTH116  a path object costs more than this call
            found[place] = status.st_size, status.st_mtime_ns
    return zlib.crc32(found.data)


def build_maker(work: Work) -> Maker:
    """Build what makes rows of images."""
    module, function = work.maker.split(":")
    return cast("Maker", getattr(importlib.import_module(module), function)(**work.arguments))


def make_chunk(
    work: Work, maker: Maker, chunk: Chunk, begin: Callable[[int], None]
) -> tuple[Answer, bytes | memoryview]:
    """Make a chunk and write it if it has a place; return its content otherwise."""
    stamp = stamp_of(work.folder, chunk.files)  # before files are read: a change from here on shows in the next run
    rows = np.full((len(chunk.files), *maker.shape), maker.blank, np.uint8)
    problems = []
    for place, files in enumerate(chunk.files):
        try:
            if str(place) in chunk.deaths:
                raise Unusable(files[0], chunk.deaths[str(place)])
            begin(place)
            if files:
                maker.fill(rows[place], files)
        except Unusable as error:
            problems.append((f"{work.folder}/{error.file}", error.reason))
        except MemoryError:
            problems.append((f"{work.folder}/{files[0]}", "not enough memory to decode it"))
    content, facts = (b"", {}) if problems else maker.finish(rows)
    answer = Answer(chunk.number, len(chunk.files), zlib.crc32(content), stamp, facts, problems)
    if not work.place or problems:
        return answer._replace(length=len(content)), content
    try:
        write_at(work.place.descriptor, content, work.place.start + chunk.number * work.place.stride)
    except OSError as error:
        return answer._replace(errno=error.errno or 0), b""
    return answer, b""


def write_at(descriptor: int, content: bytes | memoryview, start: int) -> None:
    """Write all of some content at a place of an open file."""
    rest = memoryview(content)
    while rest:
        written = os.pwrite(descriptor, rest, start)
        rest, start = rest[written:], start + written


def work_off(work: Work, chunks: Iterator[Chunk], workers: int) -> Iterator[tuple[Answer, bytes | memoryview]]:
    """Make chunks, in processes unless there is one chunk only; yield answers and contents in the order of the chunks.

    Parameters
    ----------
    work : Work
        What is done.
    chunks : iterator of Chunk
        Taken as they are needed.
    workers : int
        Number of processes. Threads are as fast with large images but do not scale with small ones, as they wait for
        the interpreter: with PNG files of 28 x 28 pixels two threads were slower than one, two processes 1.9 times as
        fast.

    Raises
    ------
    DataError
        If a worker dies of something else than an image.
    """
    first = list(islice(chunks, 2))
    if len(first) < 2:
        maker = build_maker(work) if first else None
        yield from (make_chunk(work, cast("Maker", maker), chunk, lambda place: None) for chunk in first)
        return
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        waiting = enumerate(chain(first, chunks))
        idle = [Worker(work, stack) for _ in range(workers)]
        finished: dict[int, tuple[Answer, bytes]] = {}
        oldest, following = 0, next(waiting, None)
        while following or selector.get_map():
            while idle and following and following[0] - oldest < AHEAD * workers:
                idle.pop().take(*following, selector)
                following = next(waiting, None)
            for key, _ in selector.select():
                worker: Worker = key.data
                if result := worker.result(selector):
                    finished[worker.order] = result
                    idle.append(worker)
            while oldest in finished:
                yield finished.pop(oldest)
                oldest += 1


class Worker:
    """A process that makes one chunk after another; if it dies, another one finds out which image it was.

    Parameters
    ----------
    work : Work
        What is done.
    stack : ExitStack
        Ends the process.

    Notes
    -----
    It is a program of its own rather than one of `multiprocessing`, which would run the main script once more. It
    ends with its input, so that none outlives a job that was killed.
    """

    def __init__(self, work: Work, stack: contextlib.ExitStack) -> None:
        self.work = work
        self.stack = stack
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.process = self.stack.enter_context(running(self.work))
        self.questions = cast("FileIO", self.process.stdin)
        self.answers = BufferedReader(cast("FileIO", self.process.stdout))
        self.ask(self.work)

    def ask(self, question: Sequence[Any]) -> None:
        """Send a line."""
        with contextlib.suppress(BrokenPipeError):  # it has died, which shows when its answer is read
            send(self.questions, question)

    def take(self, order: int, chunk: Chunk, selector: selectors.BaseSelector) -> None:
        """Begin with a chunk, the `order`-th that is made."""
        self.order = order
        self.chunk = chunk
        self.begun: int | None = None
        self.ask(chunk)
        selector.register(self.answers, selectors.EVENT_READ, self)

    def result(self, selector: selectors.BaseSelector) -> tuple[Answer, bytes] | None:
        """Return what became of the chunk; None if the process died of it, and another has begun with it."""
        selector.unregister(self.answers)
        while isinstance(found := self.hear(), int):
            self.begun = found
        if found:
            answer = Answer(*found)
            content = self.answers.read(answer.length)
            if len(content) == answer.length:
                return answer, content
        self.take_again(selector)
        return None

    def hear(self) -> Any:
        """Return the next message; None if the process ended before it was whole."""
        line = self.answers.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def take_again(self, selector: selectors.BaseSelector) -> None:
        """Begin with the chunk once more, carefully, without the image of which the process died last."""
        how = describe_end(self.process.wait())
        deaths = dict(self.chunk.deaths)
        if self.chunk.careful:
            if self.begun is None:
                raise DataError("worker process", Words(how), "to run until all images are done", "See the log.")
            deaths[str(self.begun)] = f"decoding it ended the process ({how})"
        self.start()
        self.take(self.order, self.chunk._replace(deaths=deaths, careful=True), selector)


def describe_end(status: int) -> str:
    """Say in words how a process ended."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


@contextlib.contextmanager
def running(work: Work) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker process while the block runs."""
    places = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-P", "-c", "from foldwise.data.workers import serve; serve()"]
    shared = (work.place.descriptor,) if work.place else ()
    with subprocess.Popen(
        command, bufsize=0, stdin=PIPE, stdout=PIPE, env=environment, process_group=0, pass_fds=shared
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def send(stream: FileIO, message: Any, content: bytes | memoryview = b"") -> None:
    """Write a line of JSON and what follows it."""
    for part in (f"{json.dumps(message)}\n".encode(), content):
        rest = memoryview(part)
        while rest:
            rest = rest[stream.write(rest) :]


def serve() -> None:
    """Make chunks that come as lines of JSON on the standard input, after one that tells the work; answer likewise."""
    answers = FileIO(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    maker, arguments, folder, place = json.loads(sys.stdin.buffer.readline())
    work = Work(maker, arguments, folder, place and Place(*place))
    built = build_maker(work)
    with contextlib.suppress(BrokenPipeError):  # whoever asked is gone
        for line in sys.stdin.buffer:
            chunk = Chunk(*json.loads(line))
            begin = (lambda place: send(answers, place)) if chunk.careful else (lambda place: None)
            send(answers, *make_chunk(work, built, chunk, begin))


def problems_of(answer: Answer) -> list[Problem]:
    """Return the problems that an answer tells."""
    return [Problem(*problem) for problem in answer.problems]
