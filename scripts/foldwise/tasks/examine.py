"""The examination of image files, one by one, in processes that may die of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from io import BufferedReader, FileIO
from itertools import chain, islice
from pathlib import Path
from subprocess import PIPE
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from PIL import Image

from foldwise.tasks.decode import Unreachable, Unreadable, decode, file_of, load_mask, open_image, oriented_size

Kind = Literal["image", "mask"]
File = tuple[Kind, str]
CHUNK_FILES = 64
DIGEST_BYTES = 16
BLOCK_BYTES = 2**20


class Facts(NamedTuple):
    """What the examination of one file found; a line of the journal.

    Without size and date of the file it is no lasting knowledge: the file could not be got at. Values of masks are
    ranges, first and last value of each.
    """

    kind: Kind
    path: str
    file_bytes: int = -1
    mtime_ns: int = -1
    size: Sequence[int] = (0, 0, 0)
    digest: str = ""
    values: Sequence[Sequence[int]] = ()
    reason: str = ""


def stamp(folder: Path, path: str) -> tuple[int, int]:
    """Return size and date of a file, by which a change of it shows."""
    try:
        found = os.stat(os.path.join(folder, path))  # noqa: PTH116, PTH118  (a million of them; pathlib takes longer)
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


def examine(folder: Path, kind: Kind, path: str) -> Facts:
    """Decode one file and tell what it is, or why it is not usable."""
    file_bytes, mtime_ns = stamp(folder, path)  # before it is read: a change from here on shows in the next run
    facts = Facts(kind, path, file_bytes, mtime_ns)
    try:
        return examine_mask(folder / path, facts) if kind == "mask" else examine_image(folder / path, facts)
    except Unreachable as error:
        return Facts(kind, path, reason=error.reason)
    except MemoryError:
        return Facts(kind, path, reason="not enough memory to decode it")
    except Unreadable as error:
        return facts._replace(reason=error.reason)


def examine_image(file: Path, facts: Facts) -> Facts:
    """Complete what is known about an image; a JPEG is read to its end, but decoded at an eighth of its size."""
    with open_image(file) as image:
        digest = digest_of(image)
        decode(image, smallest=1)
        return facts._replace(size=oriented_size(image), digest=digest)


def examine_mask(file: Path, facts: Facts) -> Facts:
    """Complete what is known about a mask."""
    mask = load_mask(file)
    with open(file, "rb") as handle:
        digest = hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()
    return facts._replace(size=(mask.shape[1], mask.shape[0], 1), digest=digest, values=value_ranges(mask))


def digest_of(image: Image.Image) -> str:
    """Return a digest of an opened image's file; the file is left at the place where it was."""
    handle = file_of(image)
    place = handle.tell()
    handle.seek(0)
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    while block := handle.read(BLOCK_BYTES):
        digest.update(block)
    handle.seek(place)
    return digest.hexdigest()


def value_ranges(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return the values that occur in a mask as ranges, first and last value of each."""
    seen = np.zeros(np.iinfo(mask.dtype).max + 1, bool)
    rows = max(1, BLOCK_BYTES // mask.shape[1])
    for start in range(0, len(mask), rows):
        seen[mask[start : start + rows]] = True
    values = np.flatnonzero(seen)
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return [(int(run[0]), int(run[-1])) for run in runs]


def examine_all(folder: Path, files: Iterator[File], workers: int) -> Iterator[list[Facts]]:
    """Examine files chunk by chunk, in processes unless there are none or one chunk only; yield finished chunks."""
    chunks = iter(lambda: list(islice(files, CHUNK_FILES)), [])
    first = list(islice(chunks, 2))
    waiting = chain(first, chunks)
    if len(first) < 2 or not workers:
        yield from ([examine(folder, *file) for file in chunk] for chunk in waiting)
        return
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for chunk in islice(waiting, workers):
            Worker(folder, stack).take(chunk, selector)
        while selector.get_map():
            for key, _ in selector.select():
                worker: Worker = key.data
                done = worker.result(selector)
                if more := next(waiting, None):
                    worker.take(more, selector)
                yield done


class Worker:
    """A process that examines one chunk of files after another; a file that crashes it does not crash the check.

    Parameters
    ----------
    folder : Path
        The dataset's folder.
    stack : ExitStack
        Ends the process.

    Notes
    -----
    It is a program of its own rather than one of `multiprocessing`, which would run the main script once more. It
    ends with its input, so that none outlives a check that was killed.
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.start()

    def start(self) -> None:
        """Start the process."""
        process = self.stack.enter_context(running(self.folder))
        self.questions = cast("FileIO", process.stdin)
        self.answers = BufferedReader(cast("FileIO", process.stdout))

    def take(self, chunk: list[File], selector: selectors.BaseSelector) -> None:
        """Begin with a chunk."""
        self.chunk = chunk
        with contextlib.suppress(BrokenPipeError):  # it has died, which shows when its answer is read
            self.questions.write(json_line(chunk))
        selector.register(self.answers, selectors.EVENT_READ, self)

    def result(self, selector: selectors.BaseSelector) -> list[Facts]:
        """Return what was found; if the process died, start another and find out why."""
        selector.unregister(self.answers)
        answer = self.answers.readline()
        if answer:
            return [Facts(*fields) for fields in json.loads(answer)]
        self.start()
        return examine_apart(self.folder, self.chunk)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker process while the block runs."""
    command, environment = worker_command(folder)
    with subprocess.Popen(command, bufsize=0, stdin=PIPE, stdout=PIPE, env=environment, process_group=0) as process:
        try:
            yield process
        finally:
            process.kill()


def examine_apart(folder: Path, files: list[File]) -> list[Facts]:
    """Examine files in a process of their own; halve them if it dies, until the file is found that it dies of."""
    command, environment = worker_command(folder)
    done = subprocess.run(command, input=json_line(files), stdout=PIPE, env=environment, check=False)
    if done.returncode >= 0:
        done.check_returncode()
        return [Facts(*fields) for fields in json.loads(done.stdout)]
    if len(files) == 1:
        name = signal.Signals(-done.returncode).name
        return [Facts(*files[0], reason=f"decoding it ended the process ({name})")]
    half = len(files) // 2
    return examine_apart(folder, files[:half]) + examine_apart(folder, files[half:])


def worker_command(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command of a worker process, and its environment, in which it finds this package."""
    places = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    program = "import sys; from foldwise.tasks.examine import serve; serve(sys.argv[1])"
    return [sys.executable, "-P", "-c", program, str(folder)], {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def json_line(values: Sequence[Any]) -> bytes:
    """Write values as one line of JSON."""
    return f"{json.dumps(values)}\n".encode()


def serve(folder: str) -> None:
    """Examine chunks of files that come as lines of JSON on the standard input; answer likewise."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin.buffer:
        found = [examine(Path(folder), *file) for file in json.loads(line)]
        with contextlib.suppress(BrokenPipeError):  # whoever asked is gone
            answers.write(json_line(found))
