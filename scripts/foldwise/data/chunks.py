"""Writing of large files chunk by chunk, so that a killed run is continued where it ended."""

from __future__ import annotations

import contextlib
import heapq
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from foldwise.artifacts import TEMPORARY, atomic, flush_to_disk, writing
from foldwise.data.workers import Chunk, Place, Work, problems_of, stamp_of, work_off
from foldwise.errors import DataProblems, Problem
from foldwise.progress import Progress

CHUNK_BYTES = 4 * 2**20
CHUNK_ROWS = 4096
SYNC_SECONDS = 1.0
CHECKED_BYTES = 2**30
CHECKED_CHUNKS = 64
Receive = Callable[[int, dict[str, Any]], None]


class Entry(NamedTuple):
    """A line of a journal: a chunk that is on disk, checksums of its content and of its files' dates, facts."""

    number: int
    crc: int
    stamp: int
    facts: dict[str, Any]


class Store(Protocol):
    """Where chunks are kept until all are there: in a file or folder of a stable name beside the target.

    Parameters
    ----------
    target : Path
        What it becomes.
    ordered : bool
        Whether chunks must come in order.
    """

    target: Path
    ordered: bool

    def open(self, keep: bool) -> bool:
        """Open what an earlier run left; empty if that is not to be kept or not there. Tell whether it was kept."""

    def place(self) -> Place | None:
        """Return where workers write chunks; None if they are given to `add`."""

    def holds(self, entry: Entry) -> bool:
        """Tell whether a chunk is there as an earlier run claimed it."""

    def start(self) -> None:
        """Make ready for the chunks that are not there."""

    def add(self, entry: Entry, content: bytes | memoryview) -> None:
        """Take over a chunk."""

    def sync(self) -> None:
        """Ask the operating system to write all chunks to disk."""

    def publish(self) -> None:
        """Put all where it belongs."""

    def close(self) -> None:
        """Close the files."""


@dataclass(frozen=True)
class Product:
    """What is made of images, chunk by chunk.

    Parameters
    ----------
    name : str
        What messages are about.
    things : str
        What is counted: images, masks.
    maker : str
        Function that makes the maker, as ``module:function``.
    arguments : dict
        Its keyword arguments, JSON.
    folder : Path
        The dataset's folder, which files are relative to.
    count : int
        Number of images.
    files : callable
        Gives the files of the images from one place to another.
    rows : int
        Images in a chunk.
    digest : str
        Of all that decides the content.
    """

    name: str
    things: str
    maker: str
    arguments: Mapping[str, Any]
    folder: Path
    count: int
    files: Callable[[int, int], Sequence[Sequence[str]]]
    rows: int
    digest: str

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self.count // self.rows)

    def chunk(self, number: int) -> Chunk:
        """Return a chunk."""
        start = number * self.rows
        return Chunk(number, self.files(start, min(start + self.rows, self.count)))


def rows_per_chunk(row_bytes: int) -> int:
    """Return how many rows make a chunk."""
    return min(CHUNK_ROWS, max(1, CHUNK_BYTES // row_bytes))


def write_chunks(
    product: Product, store: Store, receive: Receive, threads: int, report: Callable[[str], None]
) -> list[int]:
    """Make all chunks that an interrupted run did not leave finished.

    Parameters
    ----------
    product : Product
        What is made.
    store : Store
        Where it is kept. It is as it was before until `publish`.
    receive : callable
        Receives number and facts of each chunk, also of those that were there.
    threads : int
        Processes that decode.
    report : callable
        Receives lines of progress.

    Returns
    -------
    list of int
        CRC-32 of each chunk.

    Raises
    ------
    DataProblems
        If images cannot be used; lists all of them. What is finished is kept for the next run.
    DataError
        If the disk is full.
    """
    crcs: dict[int, int] = {}

    def take(entry: Entry) -> None:
        crcs[entry.number] = entry.crc
        receive(entry.number, entry.facts)

    with contextlib.closing(store), writing(store.target):
        recover(product, store, take)
        known = sum(len(product.chunk(number).files) for number in crcs)
        progress = Progress(report, product.count, product.things, known)
        missing = (product.chunk(number) for number in range(product.chunks) if number not in crcs)
        workers = max(1, min(threads, product.chunks - len(crcs)))
        work = Work(product.maker, dict(product.arguments), str(product.folder), store.place())
        problems: list[Problem] = []
        with claiming(store) as claim:
            for answer, content in work_off(work, missing, workers):
                problems += problems_of(answer)
                if answer.errno:
                    raise OSError(answer.errno, os.strerror(answer.errno))
                if not answer.problems and not (problems and store.ordered):
                    entry = Entry(answer.number, answer.crc, answer.stamp, answer.facts)
                    store.add(entry, content)
                    claim(entry)
                    take(entry)
                progress.show(answer.images)
    if problems:
        remedy = "Replace them, or remove them from the dataset; what is finished is kept for the next run."
        raise DataProblems(product.name, problems, f"{product.things} that can be read", remedy)
    return [crcs[number] for number in range(product.chunks)]


def recover(product: Product, store: Store, take: Callable[[Entry], None]) -> None:
    """Open a store, and its journal, with what an interrupted run of the same product left and is whole."""
    store.target.parent.mkdir(parents=True, exist_ok=True)
    journal = journal_of(store.target)
    lines = read_journal(journal)
    kept = store.open(keep=next(lines, None) == product.digest)
    with atomic(journal) as temporary, open(temporary, "wb") as handle:
        handle.write(journal_line(product.digest))
        for entry in map(Entry._make, lines if kept else ()):
            unchanged = stamp_of(str(product.folder), product.chunk(entry.number).files) == entry.stamp
            if unchanged and store.holds(entry):
                handle.write(journal_line(entry))
                take(entry)
    store.start()


def leftover_of(target: Path) -> Path:
    """Return where a file or folder is made until it is whole."""
    return target.with_name(f"{TEMPORARY}{target.name}.part")


def journal_of(target: Path) -> Path:
    """Return the text file that claims the chunks that are on disk; its first line is the product's digest."""
    return target.with_name(f"{TEMPORARY}{target.name}.journal")


def journal_line(message: Any) -> bytes:
    """Return a line of a journal: a checksum and JSON."""
    text = json.dumps(message).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_journal(journal: Path) -> Iterator[Any]:
    """Yield the messages of a journal up to the first torn line; nothing if there is none."""
    with contextlib.suppress(FileNotFoundError), open(journal, "rb") as handle:
        for line in handle:
            message = line[9:].rstrip(b"\n")
            if line != b"%08x %s\n" % (zlib.crc32(message), message):
                return
            yield json.loads(message)


class Claims:
    """Claims finished chunks in the journal when they are on disk: the first at once, then every second.

    Parameters
    ----------
    store : Store
        Where the chunks are.
    handle : FileIO
        The journal.
    pool : ThreadPoolExecutor
        A thread, so that nothing waits for the disk.
    """

    def __init__(self, store: Store, handle: FileIO, pool: ThreadPoolExecutor) -> None:
        self.store = store
        self.handle = handle
        self.pool = pool
        self.pending: list[bytes] = []
        self.running: Future[None] = pool.submit(lambda: None)
        self.last = -math.inf

    def add(self, entry: Entry) -> None:
        """Take note of a chunk that is written, perhaps not to disk yet."""
        self.pending.append(journal_line(entry))
        if time.monotonic() - self.last >= SYNC_SECONDS and self.running.done():
            self.flush()

    def flush(self) -> None:
        """Claim in the background all chunks that were added."""
        self.running.result()
        lines, self.pending = b"".join(self.pending), []
        self.running = self.pool.submit(self.write, lines)
        self.last = time.monotonic()

    def write(self, lines: bytes) -> None:
        """Write chunks to disk, then the lines that claim them."""
        self.store.sync()
        while lines:
            lines = lines[self.handle.write(lines) :]
        os.fdatasync(self.handle.fileno())


@contextlib.contextmanager
def claiming(store: Store) -> Iterator[Callable[[Entry], None]]:
    """Yield a function that takes note of finished chunks; all are claimed when the block ends, however it does."""
    with FileIO(journal_of(store.target), "a") as handle, ThreadPoolExecutor(1) as pool:
        claims = Claims(store, handle, pool)
        try:
            yield claims.add
        finally:
            claims.flush()
            claims.running.result()


def publish(store: Store, manifest: Path, tree: Mapping[str, Any]) -> None:
    """Put all chunks where they belong, together with the manifest that vouches for them; forget the journal."""
    with atomic(manifest) as temporary:
        temporary.write_text(json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        flush_to_disk(temporary)
        with writing(store.target):
            store.publish()
    discard(store.target)


def discard(target: Path) -> None:
    """Remove what an interrupted run left beside a target."""
    leftover = leftover_of(target)
    if leftover.is_dir():
        shutil.rmtree(leftover)
    leftover.unlink(missing_ok=True)
    journal_of(target).unlink(missing_ok=True)


def chunks_to_check(chunks: int, size: int) -> Sequence[int]:
    """Return which chunks of a stored file are read when it is opened.

    Parameters
    ----------
    chunks : int
        How many there are.
    size : int
        Bytes of the file.

    Returns
    -------
    sequence of int
        All up to 1 GiB; of a larger file 64 that a hash chooses. Reading 100 GB before each fold would take longer than
        training on it, and damage of a disk rarely hits a single place.
    """
    if size <= CHECKED_BYTES:
        return range(chunks)
    return sorted(heapq.nsmallest(CHECKED_CHUNKS, range(chunks), key=lambda number: sha256(b"%d" % number).digest()))
