"""The job layer: what every job does around its one call into the engine.

Its own log file for everything that is printed, threads, a readable message for a user's mistake, progress on the
terminal, and a record of how the job ran.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import resource
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from foldwise import __version__
from foldwise.artifacts import FORMAT_VERSION, stamp_version, write_json
from foldwise.errors import FoldwiseError

PROGRESS_SECONDS = 5.0
PACKAGES = (
    "torch", "lightning", "torchmetrics", "monai", "kornia", "numpy", "scipy", "scikit-learn", "pillow", "safetensors",
)  # fmt: skip
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


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

    def __enter__(self) -> Job:
        for variable in THREAD_VARIABLES:
            os.environ[variable] = str(self.threads)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        self.terminal = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
        handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.close(handle)
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True
        )
        logging.captureWarnings(True)
        warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.utilities\._pytree")
        signal.signal(signal.SIGTERM, stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, FoldwiseError):
            print(f"Error: {error.message}", file=sys.stderr, flush=True)
        elif isinstance(error, MemoryError):
            print(
                f"Error: {self.title}: out of memory. Give the job more memory or lower the batch size.",
                file=sys.stderr,
            )
        elif isinstance(error, KeyboardInterrupt | Stopped):
            print(f"Stopped: {self.title}.", file=sys.stderr, flush=True)
        elif error is not None and not isinstance(error, SystemExit):
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        if error is not None:
            raise SystemExit(1)

    def report(self, text: str) -> None:
        """Write a line of progress to the log, and now and then to the terminal."""
        logging.getLogger(self.rule).info(text)
        if time.monotonic() - self.last_report >= PROGRESS_SECONDS:
            self.last_report = time.monotonic()
            self.show(f"  {self.title}: {text}")

    def show(self, text: str) -> None:
        """Write text to the terminal and to the log."""
        print(text, flush=True)
        if self.terminal:
            print(text, file=self.terminal, flush=True)

    def stamp(self, root: str | Path) -> None:
        """Write the format version into a root of artifacts that has none."""
        stamp_version(root)

    def write_run(self, path: str | Path, config: str, code: str | Path) -> None:
        """Write how the job ran: times, host, versions, threads, state of the code.

        Parameters
        ----------
        path : str or Path
            The ``run.json`` to write.
        config : str
            The job's slice of the configuration.
        code : str or Path
            A folder of the workflow, whose git state is recorded.
        """
        usage = resource.getrusage(resource.RUSAGE_SELF)
        finished = time.time()
        write_json(
            path,
            {
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
                "git": git_state(Path(code)),
                "config": json.loads(config),
            },
        )


class Stopped(BaseException):
    """The job was asked to end."""


def stop(number: int, frame: Any) -> None:
    """End the job in order, so that temporary files are removed."""
    raise Stopped


def timestamp(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def versions() -> Mapping[str, str]:
    """Return the versions of the packages that matter to results."""
    found = {"foldwise": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def device_name() -> str:
    """Return the accelerator the job ran on, without importing anything for it."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else "cpu"


def git_state(folder: Path) -> Mapping[str, Any] | None:
    """Return commit and cleanness of the checkout that a folder is in, if it is in one."""
    commit = run_git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "clean": run_git(folder, "status", "--porcelain", "--untracked-files=no") == ""}


def run_git(folder: Path, *arguments: str) -> str | None:
    """Run git in a folder; return what it says, or None if it fails or is not there."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
