"""Where artifacts come from: every job leaves a record of what it read and wrote, and records make a chain."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import yaml

from foldwise.artifacts import read_json, write_csv
from foldwise.errors import ConfigError, nearest
from foldwise.report.inventory import folders, walk
from foldwise.report.skipped import Skipped
from foldwise.report.tables import printable

FOLDER = "provenance"
DEPTH = 12
KEY = "info.artifact"
SEPARATOR = os.sep
COLUMNS = ("artifact", "rule", "started", "seconds", "version", "commit", "clean", "command", "host", "log")
ENDING = 3  # last parts of a path, by which files are found whose root lies elsewhere now
CLEAN: Mapping[bool | None, str] = {True: "yes", False: "no"}
CLEAN_WORDS: Mapping[bool | None, str] = {True: ", nothing changed", False: ", with changes that are not committed"}
LINES = 200
NAMED = 20  # inputs
TIMES = ("seconds", "cpu_seconds", "peak_memory_mb")
NEAR = 2000  # names, among which the nearest is looked for


class Record(NamedTuple):
    """What a job wrote down."""

    path: Path
    tree: Mapping[str, Any]


class Step(NamedTuple):
    """An artifact, what made it, and how many steps it is away from the one that is asked for."""

    depth: int
    artifact: str
    record: Record


class Records:
    """All records, found by what they made.

    Parameters
    ----------
    records : iterable of Record
        Of two that made one file the one that comes first counts.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.made: dict[str, Record] = {}
        self.endings: dict[str, list[str]] = {}
        for record in records:
            for output in record.tree["outputs"]:
                path = absolute(output)
                if path not in self.made:
                    self.made[path] = record
                    self.endings.setdefault(ending(path), []).append(path)

    def find(self, artifact: str, root: str) -> Record | None:
        """Return what made a file, or the folder that it is in.

        Parameters
        ----------
        artifact : str
            An absolute path.
        root : str
            The absolute path of the root of results. A file below it may be told at another root, with the same path
            below; any other file by its last three parts, if just one is told that ends so.
        """
        places = chain([artifact], map(str, PurePath(artifact).parents))
        found = (self.made.get(place) or self.find_moved(place, root) for place in places)
        return next(filter(None, found), None)

    def find_moved(self, artifact: str, root: str) -> Record | None:
        """Return what made a file whose root lies elsewhere now."""
        told = self.endings.get(ending(artifact), [])
        if below(artifact, root):
            tail = artifact[len(root) :]
            told = [path for path in told if path.endswith(tail)]
        elif len(told) > 1 or artifact.count(SEPARATOR) < ENDING:
            return None
        return self.made[told[0]] if told else None


def absolute(path: str | Path) -> str:
    """Return an absolute path without ``..``; links stay as jobs saw them."""
    return os.path.abspath(path)  # noqa: PTH100


def ending(path: str) -> str:
    """Return the last parts of a path."""
    return SEPARATOR.join(path.rsplit(SEPARATOR, ENDING)[-ENDING:])


def trace(artifact: Path, results_dir: Path, table: Path) -> str:
    """Tell what made an artifact, and what that was made from.

    Parameters
    ----------
    artifact : Path
        A file that a job wrote, or that is in a folder that one wrote.
    results_dir : Path
        The root of the results of all projects: shared data may be from another project.
    table : Path
        The ``.csv`` file to write: a row for the artifact, then one for each file that it was made from.

    Returns
    -------
    str
        All that is known of the job, and an indented list of what came before, each job once.

    Raises
    ------
    ConfigError
        If there is no such file, or no record tells of it.
    """
    skipped, root = Skipped(), absolute(results_dir)
    path = absolute(artifact)
    records = Records(read_records(order_projects(path, root, table), skipped))
    found = records.find(path, root) if Path(path).exists() else None
    if found is None:
        raise ConfigError(KEY, str(artifact), expected(path), remedy(path, records))
    steps = list(walk_back(path, found, records, root))
    write_csv(table, COLUMNS, map(row_of, steps))
    return "\n\n".join([tell_record(path, found), tell_steps(steps), *skipped.told()])


def order_projects(artifact: str, root: str, table: Path) -> list[Path]:
    """Return all projects: that of the artifact first, then that of the table, as far as they are below the root."""
    own = [PurePath(path).relative_to(root).parts[0] for path in (artifact, absolute(table)) if below(path, root)]
    there = [entry.name for entry in folders(root)]
    return [Path(root, name) for name in dict.fromkeys([*own, *there]) if name in there]


def below(path: str, root: str) -> bool:
    """Tell whether a path is below a folder."""
    return path.startswith(root + SEPARATOR)


def read_records(projects: Iterable[Path], skipped: Skipped) -> Iterator[Record]:
    """Yield the records of projects one after the other, of each project the latest first."""
    for project in projects:
        found = []
        for entry in walk(project / FOLDER, DEPTH):
            if entry.name.endswith(".json"):
                with skipped.noting(entry.path):
                    found.append(check_record(Record(Path(entry.path), read_json(entry.path))))
        yield from sorted(found, key=lambda record: str(record.tree.get("finished") or ""), reverse=True)


def check_record(record: Record) -> Record:
    """Raise `ValueError` if a record lacks what all else needs."""
    for key in ("inputs", "outputs"):
        if not all(isinstance(path, str) for path in record.tree[key]):
            raise ValueError(f"{key} that are no paths")
    if not isinstance(record.tree["rule"], str):
        raise ValueError("a rule without a name")
    for key in ("versions", "config", "git"):
        if not isinstance(record.tree.get(key) or {}, dict):
            raise ValueError(f"{key} is no mapping")
    return record


def expected(path: str) -> str:
    """Say what was looked for."""
    if not Path(path).exists():
        return "a file that exists"
    return "a file that a job has recorded; jobs of earlier releases left no records"


def remedy(path: str, records: Records) -> str:
    """Name the artifact that is nearest to a path: among those that are called so, else among all."""
    name = SEPARATOR + PurePath(path).name
    alike = [made for made in records.made if made.endswith(name)]
    names = list(islice((os.path.relpath(made) for made in alike or records.made if Path(made).exists()), NEAR))
    return nearest(os.path.relpath(path), names)


def walk_back(artifact: str, made: Record, records: Records, root: str) -> Iterator[Step]:
    """Yield an artifact and all it was made from, each file once, depth first."""
    stack, told, opened = [Step(0, artifact, made)], {artifact}, set[Path]()
    while stack:
        step = stack.pop()
        yield step
        if step.record.path in opened:
            continue
        opened.add(step.record.path)
        for path in reversed(list(map(absolute, step.record.tree["inputs"]))):
            if path not in told and (record := records.find(path, root)) and record.path != step.record.path:
                told.add(path)
                stack.append(Step(step.depth + 1, path, record))


def row_of(step: Step) -> list[Any]:
    """Return the row of an artifact."""
    tree = step.record.tree
    git = tree.get("git") or {}
    run = [tree.get("started"), tree.get("seconds"), (tree.get("versions") or {}).get("foldwise")]
    state = [git.get("commit"), CLEAN.get(git.get("clean"), "")]
    return [os.path.relpath(step.artifact), tree["rule"], *run, *state, *(tree.get(key) for key in COLUMNS[7:])]


def tell_record(artifact: str, record: Record) -> str:
    """Write all that is known of what made an artifact."""
    tree = record.tree
    git = tree.get("git") or {}
    state = CLEAN_WORDS.get(git.get("clean"), "")
    count = tree.get("threads")
    threads = (
        f"{count} thread{'' if count == 1 else 's'} on {tree.get('device')}, {tree.get('peak_memory_mb')} MB at most"
    )
    seconds = f"{tree.get('seconds')} s, {tree.get('cpu_seconds')} s of a processor"
    lines = {
        "made by": f"{tree['rule']}, revision {tree.get('revision')}: {tree.get('title')}",
        "started": tree.get("started"),
        "finished": f"{tree.get('finished')}, after {seconds}",
        "where": f"{tree.get('host')}, {tree.get('platform')}, Python {tree.get('python')}",
        "with": threads,
        "code": f"{git['commit']}{state}" if git.get("commit") else "not in a git repository",
        "versions": ", ".join(f"{name} {version}" for name, version in (tree.get("versions") or {}).items()),
        "command": tree.get("command"),
        "log": tree.get("log"),
        "record": os.path.relpath(record.path),
    }
    told = [f"  {name:<9} {printable(str(value))}" for name, value in lines.items() if value]
    config = yaml.safe_dump(tree.get("config") or {}, sort_keys=False, allow_unicode=True).rstrip()
    inputs = [f"    {printable(path)}" for path in tree["inputs"][:NAMED]]
    more = [f"    and {len(tree['inputs']) - NAMED} more"] if len(tree["inputs"]) > NAMED else []
    settings = [f"    {printable(line)}" for line in config.splitlines()]
    return "\n".join(
        [os.path.relpath(artifact), *told, "  configuration", *settings, "  inputs", *(inputs or ["    none"]), *more]
    )


def tell_steps(steps: Sequence[Step]) -> str:
    """Write the chain as an indented list, each job once."""
    lines, told = [], set[Path]()
    for step in steps:
        if step.record.path not in told:
            told.add(step.record.path)
            day = str(step.record.tree.get("started") or "")
            name = printable(os.path.relpath(step.artifact))
            lines.append(f"{'  ' * (step.depth + 1)}{name} <- {step.record.tree['rule']}, {day}")
    more = [f"  and {len(lines) - LINES} more, see the table"] if len(lines) > LINES else []
    return "\n".join(["What it was made from, each job once", *lines[:LINES], *more])


def summarise_software(project: Path, table: Path) -> None:
    """Write what the jobs of a project ran with: a row for each package and version, with the number of jobs.

    Parameters
    ----------
    project : Path
        Root of the results of a project.
    table : Path
        The ``.csv`` file to write; Python, platform and device have rows too.
    """
    jobs: Counter[tuple[str, str]] = Counter()
    for record in read_records([project], Skipped()):
        jobs.update((name, str(version)) for name, version in (record.tree.get("versions") or {}).items())
        jobs.update((key, str(record.tree[key])) for key in ("python", "platform", "device") if record.tree.get(key))
    write_csv(table, ("package", "version", "jobs"), ((*key, count) for key, count in sorted(jobs.items())))


def summarise_times(project: Path, table: Path) -> None:
    """Write how long the jobs of a project took: a row a rule, the one that took longest first.

    Parameters
    ----------
    project : Path
        Root of the results of a project.
    table : Path
        The ``.csv`` file to write; memory is the most that a job of the rule took, in MB.
    """
    rules: dict[str, list[Mapping[str, Any]]] = {}
    for record in read_records([project], Skipped()):
        rules.setdefault(record.tree["rule"], []).append(record.tree)
    rows = []
    for rule, trees in rules.items():
        seconds, cpu, memory = ([number(tree.get(key)) for tree in trees] for key in TIMES)
        total = round(sum(seconds), 3)
        rows.append((rule, len(trees), total, round(total / len(trees), 3), round(sum(cpu), 3), max(memory)))
    columns = ("rule", "jobs", "seconds", "mean_seconds", "cpu_seconds", "peak_memory_mb")
    write_csv(table, columns, sorted(rows, key=lambda row: (-row[2], row[0])))


def number(value: Any) -> float:
    """Return a number, 0 where there is none."""
    return float(value) if isinstance(value, (int, float)) else 0.0
