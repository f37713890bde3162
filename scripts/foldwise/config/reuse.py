"""Models of other projects: found on disk while the workflow is planned, read, never written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from foldwise.config.model import unnested
from foldwise.config.pipeline import Pipeline
from foldwise.config.selection import Model
from foldwise.errors import ConfigError, nearest, one_of

FOLD = re.compile(r"fold-(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class ReusedModel:
    """A model of another project.

    Parameters
    ----------
    model : Model
        Its pipeline in full form, ``project~name``, its task and fold.
    folder : str
        Where ``model.json`` and ``model.safetensors`` are.
    recipe : Pipeline
        How it was trained, and how its project predicts with it.
    """

    model: Model
    folder: str
    recipe: Pipeline


@dataclass(frozen=True)
class Found:
    """Models of other projects, and how many were passed over for each reason."""

    models: list[ReusedModel]
    skipped: dict[str, int]


def find_models(results_dir: str, projects: Iterable[str], task: str, nested: bool) -> Found:
    """Find the models of a task in other projects.

    Parameters
    ----------
    results_dir : str
        Root of the results of all projects.
    projects : iterable of str
        Names of projects.
    task : str
        The pivot. If `nested`, models of its nested variants are found, else models of itself.

    Raises
    ------
    ConfigError
        If there is no such project.
    """
    models: list[ReusedModel] = []
    skipped: dict[str, int] = {}
    for index, project in enumerate(projects):
        check_project(results_dir, project, f"reuse.models[{index}]")
        root = Path(results_dir) / project
        for folder in model_folders(root / "models", task, nested):
            found = read_model(root, project, folder)
            if isinstance(found, str):
                skipped[found] = skipped.get(found, 0) + 1
            else:
                models.append(found)
    return Found(models, skipped)


def check_project(results_dir: str, project: str, where: str) -> None:
    """Raise `ConfigError` if there is no project of a name."""
    if (Path(results_dir) / project / "models").is_dir():
        return
    known = sorted(path.parent.name for path in Path(results_dir).glob("*/models"))
    expected = f"a project with models in {results_dir}: {one_of(known) if known else 'there is none'}"
    raise ConfigError(where, project, expected, nearest(project, known))


def model_folders(root: Path, task: str, nested: bool) -> Iterator[Path]:
    """Yield the folders of the models of a task, sorted."""
    for folder in sorted(root.glob("*/*")):
        if (folder.name != task) if not nested else not is_nested_of(folder.name, task):
            continue
        folds = (path for path in folder.glob("fold-*") if FOLD.fullmatch(path.name))
        yield from sorted(folds, key=lambda path: int(path.name.partition("-")[2]))


def is_nested_of(name: str, task: str) -> bool:
    """Tell whether a name is that of a nested variant of a task."""
    return name.startswith(f"{task}+nested-") and unnested(name, "task") == unnested(task, "task")


def read_model(root: Path, project: str, folder: Path) -> ReusedModel | str:
    """Read what is told about a model; return why it cannot be used if so."""
    if not (folder / "model.safetensors").is_file():
        return "without weights"
    pipeline, task = folder.parent.parent.name, folder.parent.name
    try:
        record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        recipe = Pipeline.model_validate(record["recipe"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return "without a readable model.json"
    recipe = recipe.model_copy(update=reporting(root / "pipelines" / f"{pipeline.partition('@')[0]}.yaml"))
    model = Model(f"{project}~{pipeline}", task, int(folder.name.partition("-")[2]))
    return ReusedModel(model, str(folder), recipe)


def reporting(path: Path) -> dict[str, object]:
    """Return how a project predicts and what it reports, which decides no weights, from its stored pipeline."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        stored = Pipeline.model_validate({key: tree[key] for key in ("tta", "metrics") if key in tree})
    except (OSError, ValueError, TypeError, yaml.YAMLError, ValidationError):
        return {}
    return {key: getattr(stored, key) for key in ("tta", "metrics")}


def describe_skipped(skipped: dict[str, int]) -> str:
    """Say how many models were passed over."""
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items())
