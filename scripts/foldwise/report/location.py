"""Where the results of a project lie, and the data that they came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from foldwise.artifacts import reading
from foldwise.errors import NOTHING, DataError, MissingData, Words, nearest, one_of
from foldwise.report.inventory import STUDIES, folders

KINDS = ("models", "logits", "scores", "calibrated", "ensembles", "pipelines", STUDIES)
CONFIG, RESULTS, DATA = "config.yaml", "results", "data"


def find_project(path: Path) -> Path:
    """Return the folder of a project.

    Parameters
    ----------
    path : Path
        This folder, or a root of results or a working directory in which exactly one project lies.

    Raises
    ------
    MissingData, DataError
        If there is no project, or several.
    """
    if not path.is_dir():
        found = [entry.name for entry in folders(path.parent)]
        raise MissingData(path, NOTHING, "the folder of a project's results", nearest(path.name, found))
    inside = projects_in(path / RESULTS)
    if not inside and is_project(path):
        return path
    inside = inside or projects_in(path)
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = Words(f"{len(inside)} projects: {', '.join(folder.name for folder in inside)}")
        raise DataError(path, names, "one project", f"Open one of them, such as {inside[0]}.")
    raise MissingData(path, Words("no project"), "results of one", "Give its folder, such as results/default.")


def is_project(folder: Path) -> bool:
    """Tell whether a folder holds results, or at least what every run keeps."""
    kept = (folder / CONFIG).is_file() and (folder / "VERSION").is_file()
    return kept or any((folder / kind).is_dir() for kind in KINDS)


def projects_in(folder: Path) -> list[Path]:
    """Return the folders of projects in a root of results."""
    return [Path(entry.path) for entry in folders(folder) if is_project(Path(entry.path))]


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration that is kept beside results; nothing if there is none."""
    if not (folder / CONFIG).is_file():
        return {}
    with reading(folder / CONFIG, "the configuration of a project") as path:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("no mapping")
        return tree


def find_data(folder: Path, config: dict[str, Any]) -> Path:
    """Return the root of data: paths in a configuration start in the working directory, which results lie below."""
    results = Path(config.get("results_dir", RESULTS))
    depth = len(results.parts)
    working = folder.parents[depth] if depth < len(folder.parents) else folder.parent.parent
    if working / results / folder.name != folder:  # the results were moved, or lie elsewhere
        working = folder.parent.parent
    return working / config.get("data_dir", DATA)


def missing(path: Path, name: str, found: Sequence[str], expected: str) -> MissingData:
    """Return the error of a part of a path that is not there: what there is, or what there should be."""
    return MissingData(path, NOTHING, one_of(found) if found else expected, nearest(name, found))
