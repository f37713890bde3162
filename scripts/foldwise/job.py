"""The job layer: what every job does around its one call into the engine.

Its own log file for everything that is printed, threads, a readable message for a user's mistake, progress on the
terminal, and a record of how the job ran.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import logging
import os
import platform
import resource
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from foldwise.artifacts import FORMAT_VERSION, free_space, sha256, stamp_version, write_json, writing
from foldwise.config.section import hide_secrets
from foldwise.errors import DataError, FoldwiseError, Words
from foldwise.origin import COMMAND, Origin, device_name, git_state, is_small, record_path, timestamp, versions

PROGRESS_SECONDS = 5.0
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, KEPT_BYTES = -1, -3, 2**30  # of glibc's mallopt
STOPS = (signal.SIGTERM, signal.SIGINT)
ONE_REQUEST_SECONDS = 0.5  # a signal to a whole group of processes may come again from the parent that passes it on
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Description(Protocol):
    """What a workflow tells a job about itself."""

    rule: str
    log: Any
    threads: int
    input: Iterable[str]
    output: Iterable[str]
    params: Any
    scriptdir: str


class Job:
    """Context of one job.

    Parameters
    ----------
    rule : str
        Name of the rule.
    title : str
        What the job works on, for lines of progress.
    log : str or Path
        Log file; receives all output of the job, warnings and tracebacks.
    threads : int
        Threads that numerical libraries may use.

    Notes
    -----
    Numerical libraries read the number of threads when they are imported, so the engine is imported inside the
    context.
    """

    def __init__(self, rule: str, title: str, log: str | Path, threads: int = 1) -> None:
        self.rule = rule
        self.title = title
        self.log = Path(log)
        self.threads = threads
        self.started = time.time()
        self.last_report = time.monotonic()
        self.terminal: TextIO | None = None
        self.origin: Origin | None = None

    @classmethod
    def of(cls, description: Description, title: str, threads: int | None = None) -> Job:
        """Return the context of a job of a workflow, which keeps a record of what it made, and from what.

        The record lies under ``provenance`` where the log lies under ``logs``. Numerical libraries may use all threads
        of the job, or as many as `threads` tells where work is shared out among processes.
        """
        params = description.params
        job = cls(description.rule, title, description.log[0], threads or description.threads)
        inputs, outputs = (list(dict.fromkeys(map(str, files))) for files in (description.input, description.output))
        job.origin = Origin(inputs, outputs, params.cfg, params.revision, Path(description.scriptdir))
        return job

    def __enter__(self) -> Job:
        for variable in THREAD_VARIABLES:
            os.environ[variable] = str(self.threads)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        sys.stdout.flush()
        sys.stderr.flush()
        self.terminal = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
        try:
            self.redirect()
            self.prepare()
        except FoldwiseError as error:
            raise SystemExit(f"Error: {error.message}") from None
        except KeyboardInterrupt as error:
            self.tell(explain(error, self.title))
            raise SystemExit(1) from None
        return self

    def prepare(self) -> None:
        """Let messages of libraries go to the log, and requests to end be obeyed."""
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True
        )
        logging.captureWarnings(True)
        warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.utilities\._pytree")
        signal.signal(signal.SIGTERM, stop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            error = self.keep_record()
        if error is None or (isinstance(error, SystemExit) and not error.code):
            return
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            error = DataError(error.filename or self.log, Words("a full disk"), "room for it", free_space(self.log))
        self.tell(explain(error, self.title))
        raise SystemExit(1)

    def keep_record(self) -> BaseException | None:
        """Write what was made, from what and how; return the error if that fails."""
        if self.origin is None or is_helper():
            return None
        try:
            write_json(record_path(self.log, self.rule), self.describe_origin(self.origin))
        except (FoldwiseError, OSError) as error:
            return error
        return None

    def describe_origin(self, origin: Origin) -> dict[str, Any]:
        """Return the record of a job: what a model's ``run.json`` has, and files, log and command."""
        return {
            **self.describe_run(origin.config, origin.code),
            "title": self.title,
            "command": hide_secrets(os.environ.get(COMMAND, "")),
            "log": str(self.log),
            "revision": origin.revision,
            "inputs": origin.inputs,
            "checksums": {path: sha256(path) for path in filter(is_small, origin.inputs)},
            "outputs": origin.outputs,
        }

    def redirect(self) -> None:
        """Send all output of the process, that of C libraries too, to the log file."""
        with writing(self.log):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            emptied = 0 if is_helper() else os.O_TRUNC
            handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | emptied, 0o666)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.close(handle)

    def tell(self, text: str) -> None:
        """Write a last message to the log, or to the terminal if the log cannot be written."""
        try:
            sys.stdout.flush()  # what was printed before comes before
            print(text, file=sys.stderr, flush=True)
        except OSError:
            print(text, file=self.terminal, flush=True)

    def report(self, text: str) -> None:
        """Write a line of progress to the log, and now and then to the terminal if there is one."""
        if is_helper():
            return
        logging.getLogger(self.rule).info(text)
        is_watched = self.terminal is not None and self.terminal.isatty()
        if is_watched and time.monotonic() - self.last_report >= PROGRESS_SECONDS:
            self.last_report = time.monotonic()
            self.show(f"  {self.title}: {text}")

    def announce(self, text: str) -> None:
        """Write a line that happens once, such as where a training goes on, to log and terminal."""
        if not is_helper():
            logging.getLogger(self.rule).info(text)
            print(f"  {self.title}: {text}", file=self.terminal, flush=True)

    def show(self, text: str) -> None:
        """Write text to the terminal and to the log."""
        print(text, flush=True)
        if self.terminal and not is_helper():
            print(text, file=self.terminal, flush=True)

    def warn(self, text: str) -> None:
        """Write a warning to the terminal and to the log."""
        self.show(f"Warning: {text}")

    @property
    def ask(self) -> Callable[[str], bool] | None:
        """What puts a question to the user, and tells whether the answer is yes; None if there is no terminal."""
        terminal = self.terminal
        if terminal is None or not (terminal.isatty() and sys.stdin is not None and sys.stdin.isatty()):
            return None

        def put(question: str) -> bool:
            print(question, end="", file=terminal, flush=True)
            return sys.stdin.readline().strip().lower() in ("y", "yes")

        return put

    def stamp(self, root: str | Path) -> None:
        """Write the format version into a root of artifacts that has none."""
        stamp_version(root)

    def keep_freed_memory(self) -> None:
        """Let the C library keep memory that is freed, as networks ask for the same amounts again at every step.

        Giving it back and fetching it anew costs a quarter of the time of a step at 224 pixels. Libraries without
        `mallopt` are left as they are.
        """
        with contextlib.suppress(AttributeError, OSError):
            library = ctypes.CDLL(None)
            for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
                library.mallopt(option, KEPT_BYTES)

    def write_run(self, path: str | Path, config: str, code: str | Path, **more: Any) -> None:
        """Write how the job ran: times, host, versions, threads, state of the code.

        Parameters
        ----------
        path : str or Path
            The ``run.json`` to write.
        config : str
            The job's slice of the configuration.
        code : str or Path
            A folder of the workflow, whose git state is recorded.
        **more
            What else is told, by name; what is None is left out.
        """
        known = {key: value for key, value in more.items() if value is not None}
        write_json(path, {**self.describe_run(config, Path(code)), **known})

    def describe_run(self, config: str, code: Path) -> dict[str, Any]:
        """Return how the job ran until now."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        finished = time.time()
        return {
            "format_version": FORMAT_VERSION,
            "rule": self.rule,
            "started": timestamp(self.started),
            "finished": timestamp(finished),
            "seconds": round(finished - self.started, 3),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "peak_memory_mb": round(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), 1),
            "threads": self.threads,
            "device": device_name(),
            "host": platform.node(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "versions": versions(),
            "git": git_state(code),
            "config": json.loads(config),
        }


def is_helper() -> bool:
    """Tell whether this is a further process of a training on several devices, which runs the job's script again."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def explain(error: BaseException, title: str) -> str:
    """Return what a job says about the error that ended it: one line for what a user can act on, else the traceback."""
    if isinstance(error, FoldwiseError):
        return f"Error: {error.message}"
    if isinstance(error, MemoryError):
        return f"Error: {title}: out of memory. Give the job more memory or lower the batch size."
    if isinstance(error, KeyboardInterrupt | Stopped):
        return f"Stopped: {title}."
    if isinstance(error, SystemExit):
        return str(error)
    return "".join(traceback.format_exception(error)).rstrip()


class Stopped(BaseException):
    """The job was asked to end."""


def stop(number: int, frame: Any) -> None:
    """End the job in order, so that temporary files are removed."""
    raise Stopped


class StopRequest:
    """Whether the job was asked to end, for work that saves its state before it does.

    Attributes
    ----------
    requested : bool
        Whether it was.
    """

    def __init__(self) -> None:
        self.requested = False
        self.time = 0.0

    def receive(self, number: int, frame: Any) -> None:
        """Take note of a signal; raise `Stopped` if it is a further one."""
        if not self.requested:
            self.requested, self.time = True, time.monotonic()
        elif time.monotonic() - self.time > ONE_REQUEST_SECONDS:
            raise Stopped


@contextlib.contextmanager
def hold_stops() -> Iterator[StopRequest]:
    """Let signals to end the job only be noted while the block runs; a second one, half a second later, ends it.

    Outside of the main thread, which alone receives signals, the request is never made.

    Yields
    ------
    StopRequest
        To be looked at by what can end in order.

    Raises
    ------
    Stopped
        If the block has come to its end although the job was asked to end.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        for number in STOPS:
            signal.signal(number, request.receive)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if request.requested:
        raise Stopped
