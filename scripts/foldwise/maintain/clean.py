"""What may be deleted: leftovers of runs that were killed, archives, weights that have served. Nothing else ever is.

Every path is reached from its root folder by folder, without following a link, when it is found and again when it is
deleted.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from foldwise.artifacts import TEMPORARY
from foldwise.config.maintenance import CleanConfig
from foldwise.errors import ConfigError, DataProblems, Problem

OF_A_PROCESS = re.compile(rf"{re.escape(TEMPORARY)}.+-(\d+)-[0-9a-f]{{8}}")
PARTIAL_DOWNLOAD, JOURNAL = ".part-", ".checked.jsonl"
SHARED = ("datasets", "tasks", "tensors")  # folders of data_dir that temporary files may lie in
OWN = (
    "pipelines", "models", "logits", "scores", "calibrated", "ensembles", "tables", "studies", "info", "report", "logs",
    "provenance", "benchmarks",
)  # fmt: skip
SHOWN = 50
UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Leftover(NamedTuple):
    """A file or folder that may be deleted.

    Parameters
    ----------
    root : Path
        The root that it lies below.
    place : str
        Where, relative to the root.
    size : int
        Bytes, of a folder those of all its files.
    what : str
        What it is, in words.
    """

    root: Path
    place: str
    size: int
    what: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.root / self.place


class Cleaned(NamedTuple):
    """How much was deleted, and what could not be."""

    files: int
    size: int
    problems: list[Problem]


def check_roots(config: CleanConfig) -> list[Path]:
    """Return the roots that are there.

    Raises
    ------
    ConfigError
        If one of them is a folder that Foldwise cannot have made: the root of the file system, a home, one that holds
        the working directory, or one without its file ``VERSION``.
    """
    found = []
    for key, root in (("data_dir", Path(config.data)), ("results_dir", Path(config.project))):
        if not root.exists():
            continue
        real = root.resolve()
        if real == Path(real.anchor) or real == Path.home().resolve() or Path.cwd().resolve().is_relative_to(real):
            raise ConfigError(key, str(root), "a folder of its own", "Nothing is deleted there.")
        if not is_file(root / "VERSION"):
            expected = "a folder that Foldwise has written: it would have a file VERSION"
            raise ConfigError(key, str(root), expected, "Nothing is deleted there.")
        found.append(root)
    return found


def find_leftovers(config: CleanConfig) -> list[Leftover]:
    """Return what mode clean would delete, in the order of paths.

    Raises
    ------
    ConfigError
        If a root is no folder of Foldwise's own.
    """
    roots = check_roots(config)
    found: list[Leftover] = []
    if Path(config.data) in roots:
        data = Path(config.data)
        if "temp" in config.subroutines:
            found += temporary_data(data, config)
        if "download" in config.subroutines:
            found += downloads(data, config)
    if Path(config.project) in roots and "temp" in config.subroutines:
        found += temporary_results(Path(config.project), config)
    return sorted(set(found), key=lambda one: str(one.path))


def temporary_data(data: Path, config: CleanConfig) -> Iterator[Leftover]:
    """Yield temporary files of shared data, and downloads that broke off."""
    for name in SHARED:
        names = config.tasks if name == "tasks" else config.datasets
        for entry in entries(data / name):
            if not config.all and not is_of(entry.name, names):
                continue
            yield from search(data, entry, temporary_kind)
    for entry in entries(data / "downloads"):
        if (config.all or entry.name in config.datasets) and is_folder(entry):
            yield from search(data, entry, partial_kind)


def is_of(name: str, known: Sequence[str]) -> bool:
    """Tell whether an entry, or the temporary form of one, is that of one of some tasks or datasets."""
    plain = name.removeprefix(TEMPORARY)
    return any(plain == one or plain.startswith((f"{one}.", f"{one}-", f"{one}+")) for one in known)


def downloads(data: Path, config: CleanConfig) -> Iterator[Leftover]:
    """Yield the archives of the datasets concerned."""
    for entry in entries(data / "downloads"):
        if (config.all or entry.name in config.datasets) and is_folder(entry):
            for inner in entries(entry.path):
                if not inner.name.startswith("."):
                    yield leftover(data, inner, "archive")


def temporary_results(project: Path, config: CleanConfig) -> Iterator[Leftover]:
    """Yield what killed runs of a project have left, and weights that are not to be kept."""
    for name in OWN:
        for entry in entries(project / name):
            yield from search(project, entry, temporary_kind)
    for entry in entries(project):
        if kind := temporary_kind(entry):
            yield leftover(project, entry, kind)
        if entry.name == ".aside" and is_folder(entry):
            yield leftover(project, entry, "old outputs of a run that was killed")
    for entry in entries(project / "checkpoints"):
        yield from (leftover(project, inner, "state of a training") for inner in states(entry, config))
    if config.parameters:
        for entry in entries(project / "models"):
            yield from search(project, entry, weights_kind)


def states(pipeline: os.DirEntry[str], config: CleanConfig) -> Iterator[os.DirEntry[str]]:
    """Yield the folders of states below that of a pipeline, or of all studies: those of the tasks concerned."""
    if not is_folder(pipeline):
        return
    for entry in entries(pipeline.path):
        if pipeline.name == "studies" or config.all or is_of(entry.name, config.tasks):
            yield entry


def temporary_kind(entry: os.DirEntry[str]) -> str | None:
    """Return what a temporary file or folder is; None if it is none, or is just being written."""
    if entry.name == JOURNAL:
        return "findings of a check that was not finished"
    if not entry.name.startswith(TEMPORARY) or is_being_written(entry.name):
        return None
    return "temporary folder" if is_folder(entry) else "temporary file"


def partial_kind(entry: os.DirEntry[str]) -> str | None:
    """Return what a download that broke off is; None for anything else."""
    return "download that broke off" if entry.name.startswith(PARTIAL_DOWNLOAD) else temporary_kind(entry)


def weights_kind(entry: os.DirEntry[str]) -> str | None:
    """Return what the weights of a model are; None for anything else."""
    return "weights" if entry.name == "model.safetensors" else None


def is_being_written(name: str) -> bool:
    """Tell whether the process that a temporary file is named after is alive."""
    match = OF_A_PROCESS.fullmatch(name)
    if match is None:
        return False
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def search(root: Path, entry: os.DirEntry[str], kind: Callable[[os.DirEntry[str]], str | None]) -> Iterator[Leftover]:
    """Yield an entry, or what lies below it, if it is of a kind; links are passed over."""
    if entry.is_symlink():
        return
    if what := kind(entry):
        yield leftover(root, entry, what)
    elif is_folder(entry):
        for inner in entries(entry.path):
            yield from search(root, inner, kind)


def leftover(root: Path, entry: os.DirEntry[str], what: str) -> Leftover:
    """Return an entry as something to be deleted."""
    return Leftover(root, os.path.relpath(entry.path, root), size_of(entry), what)


def size_of(entry: os.DirEntry[str]) -> int:
    """Return the bytes of a file, or of all files in a folder; links count as nothing."""
    if entry.is_symlink():
        return 0
    if is_folder(entry):
        return sum(map(size_of, entries(entry.path)))
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder; nothing of a link, or of what cannot be read."""
    try:
        if Path(folder).is_symlink():
            return []
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder and no link to one."""
    return entry.is_dir(follow_symlinks=False)


def is_file(path: Path) -> bool:
    """Tell whether a path is a plain file and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def delete(leftovers: Sequence[Leftover], report: Callable[[str], None] = lambda text: None) -> Cleaned:
    """Delete what was found; go on with the others where something cannot be.

    Parameters
    ----------
    leftovers : sequence of Leftover
        What `find_leftovers` has found.
    report : callable
        Receives a line of progress.
    """
    files = size = 0
    problems = []
    for place, one in enumerate(leftovers, 1):
        try:
            remove(one)
        except OSError as error:
            problems.append(Problem(str(one.path), os.strerror(error.errno or 0).lower()))
            continue
        files, size = files + 1, size + one.size
        report(f"deleted {place} of {len(leftovers)}")
    return Cleaned(files, size, problems)


def remove(one: Leftover) -> None:
    """Delete a file or folder that is reached from its root without following a link; what is gone already is fine."""
    *folders, name = Path(one.place).parts
    with contextlib.ExitStack() as stack:
        folder = open_folder(str(one.root), None, follow=True, stack=stack)
        for part in folders:
            folder = open_folder(part, folder, follow=False, stack=stack)
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def open_folder(name: str, parent: int | None, follow: bool, stack: contextlib.ExitStack) -> int:
    """Open a folder inside another one, and close it with the stack; a link in its place is an error."""
    flags = os.O_RDONLY | os.O_DIRECTORY | (0 if follow else os.O_NOFOLLOW)
    folder = os.open(name, flags, dir_fd=parent)
    stack.callback(os.close, folder)
    return folder


def tell(leftovers: Sequence[Leftover]) -> str:
    """Return a list of what would be deleted, and how much that is."""
    if not leftovers:
        return "There is nothing to delete."
    lines = [f"  {in_bytes(one.size):>10}  {one.path}  ({one.what})" for one in leftovers[:SHOWN]]
    more = [f"  and {len(leftovers) - SHOWN} more"] if len(leftovers) > SHOWN else []
    return "\n".join([*lines, *more, f"{count(len(leftovers))}, {in_bytes(sum(one.size for one in leftovers))}"])


def in_bytes(size: float) -> str:
    """Write a number of bytes in the unit that suits it."""
    place = min(len(UNITS) - 1, max(0, (len(str(int(size))) - 1) // 3))
    return f"{size / 1000**place:.1f} {UNITS[place]}" if place else f"{size:.0f} {UNITS[0]}"


def count(number: int) -> str:
    """Write a number of files and folders."""
    return f"{number} file or folder" if number == 1 else f"{number} files and folders"


def clean(config: CleanConfig, ask: Callable[[str], bool] | None, show: Callable[[str], None], command: str) -> Cleaned:
    """Delete leftovers, after asking unless that is forced.

    Parameters
    ----------
    config : CleanConfig
        Where, what, of which tasks, and whether to ask.
    ask : callable, optional
        Puts a question to the user; None if there is no terminal.
    show : callable
        Receives what is to be read.
    command : str
        The command that deletes without asking, for those who have no terminal.

    Raises
    ------
    ConfigError
        If it must be asked and cannot, or a root is no folder of Foldwise's own.
    DataProblems
        If something could not be deleted.
    """
    leftovers = find_leftovers(config)
    show(f"\n{tell(leftovers)}\n")
    if not leftovers:
        return Cleaned(0, 0, [])
    if not config.force:
        if ask is None:
            remedy = f"There is no terminal to ask on, and nothing was deleted. Run: {command}"
            raise ConfigError("clean.force", False, "true, to delete without asking", remedy)
        if not ask("Delete all of this? [y/N] "):
            show("Nothing was deleted.")
            return Cleaned(0, 0, [])
    done = delete(leftovers)
    show(f"Deleted {count(done.files)}, {in_bytes(done.size)} are free now.")
    if done.problems:
        raise DataProblems("clean", done.problems, "files that may be deleted", "All else was deleted.")
    return done
