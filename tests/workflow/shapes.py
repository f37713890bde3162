"""Small images with labels of every task type, and a project that has learned some of them."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from workflow.conftest import REPOSITORY, Project
from workflow.test_reruns import without_mode

COUNT = 16
SHARED = {"source": "table", "path": "shapes.csv", "images": "images", "dataset": "shapes"}
COLUMNS = {"image": "file"}
TASKS = {
    "kinds": {**SHARED, "columns": {**COLUMNS, "class": "kind"}},
    "sides": {**SHARED, "columns": {**COLUMNS, "class": "side"}},
    "sizes": {**SHARED, "type": "regression", "columns": {**COLUMNS, "value": "size"}},
    "marks": {**SHARED, "type": "multilabel", "columns": {**COLUMNS, "classes": "marks"}},
    "outlines": {**SHARED, "type": "segmentation", "columns": COLUMNS, "classes": {"ground": [0], "shape": [1]}},
}


def write_shapes(folder: Path, count: int = COUNT) -> None:
    """Write images of noise with a bright or a dark bar on one side, their masks, and a table of what they show."""
    (folder / "images/masks").mkdir(parents=True)
    lines = ["file,mask,kind,side,size,marks"]
    for number in range(count):
        kind, side, size = number % 2, number // 2 % 2, 4 + number % 5
        place = slice(0, size) if side else slice(-size, None)
        pixels = np.random.default_rng(number).integers(80, 160, (32, 32, 3), dtype=np.uint8)
        pixels[:, place] = 250 if kind else 10
        mask = np.zeros((32, 32), np.uint8)
        mask[:, place] = 1
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
        Image.fromarray(mask).save(folder / f"images/masks/{number}.png")
        marks = [name for name, shown in (("bright", kind), ("left", side)) if shown]
        words = ("bright" if kind else "dark", "left" if side else "right", size, ";".join(marks))
        lines.append(f"{number}.png,masks/{number}.png,{','.join(map(str, words))}")
    (folder / "shapes.csv").write_text("\n".join(lines) + "\n")


def settings(**changes: Any) -> dict[str, Any]:
    """Return the configuration of the project, overlaid with changes a top-level key each."""
    base = {"tasks": list(TASKS), "pivot": "kinds", "pipelines": {"a": {}}, "sampling": {"batch_size": 4}}
    return {**base, **changes, "definitions": merge(TASKS, changes.get("definitions", {}))}


@functools.cache
def made_once(folder: Path) -> Path:
    """Make a project with data of all tasks and two models of the pivot `kinds`; not to be changed."""
    project = Project(folder / "shapes/work")
    write_shapes(project.folder)
    project.configure(settings(pivot=None))
    assert project.run("create", "pp").status == 0
    project.configure(settings())
    result = project.run("train")
    assert result.status == 0, result.output
    return project.folder


def copy_shapes(factory: pytest.TempPathFactory, **changes: Any) -> Project:
    """Return a copy of the project, dates included, with another configuration."""
    folder = factory.mktemp("copy") / "work"
    shutil.copytree(made_once(factory.getbasetemp()), folder)
    project = Project(folder)
    project.configure(settings(**changes))
    return project


def weights_of(path: Path) -> dict[str, Any]:
    """Read the weights of a model."""
    from safetensors.numpy import load_file

    return load_file(path)


def merge(tree: Any, change: Any) -> Any:
    """Return a configuration overlaid with a change, key by key."""
    if not isinstance(tree, dict) or not isinstance(change, dict):
        return change
    return {**tree, **{key: merge(tree.get(key), value) for key, value in change.items()}}


def cases_in(folder: str) -> list[Path]:
    """Return the cases of a folder."""
    return sorted((REPOSITORY / "tests/cases" / folder).glob("*.yaml"))


def check_case(project: Project, path: Path, **base: Any) -> None:
    """Check which jobs a case reruns in a project that was finished with a configuration."""
    case = yaml.safe_load(path.read_text())
    project.configure(settings(**merge(base, case["config"])))
    result = project.dry_run(case["target"], *case.get("arguments", []))
    assert without_mode(result.jobs, case["target"]) == case["reruns"], result.output
