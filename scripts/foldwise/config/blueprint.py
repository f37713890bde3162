"""Blueprints: a pipeline that an earlier run has written overrides sections of one of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foldwise.config.load import Tree, check_keys, overlay, read_yaml_mapping, validate, with_pipelines
from foldwise.config.model import Config, pivot_task, unnested
from foldwise.config.modes import Seed
from foldwise.config.pipeline import DEFAULT_NAMES, PIPELINE_SECTIONS, Pipeline
from foldwise.config.section import Section
from foldwise.errors import NOTHING, ConfigError, Words

BLUEPRINT_KEYS = ("format_version", "task", "study", "seed", *PIPELINE_SECTIONS)


class SeedOnly(Section):
    """The seed that a blueprint may hold."""

    seed: Seed


def apply_blueprint(config: Config) -> Config:
    """Let the blueprint, if one is used, override the sections of `pipeline_keys` of the one selected pipeline.

    Raises
    ------
    ConfigError
        If there is none, or more than one pipeline is selected, or it was made for another task.
    """
    if not config.train.use_blueprint:
        return config
    names = list(config.pipelines) if config.train.pipelines is None else config.train.pipelines
    if len(names) != 1:
        got = Words(f"{len(names)} pipelines, {', '.join(names) or 'none'}")
        raise ConfigError("train.use_blueprint", got, "one selected pipeline", "Set train.pipelines to its name.")
    tree = read_blueprint(config)
    old = config.pipelines[names[0]].model_dump()
    changes = {
        key: override(old[key], tree[key], DEFAULT_NAMES.get(key, {}))
        for key in config.train.pipeline_keys
        if key in PIPELINE_SECTIONS and tree.get(key) is not None
    }
    path = blueprint_path(config)
    pipeline = validate(Pipeline, {**old, **changes}, f"{path}: ")
    changed = with_pipelines(config, {**config.pipelines, names[0]: pipeline})
    return changed.model_copy(update={"seed": seed_of(config, tree)})


def left_out(config: Config) -> str:
    """Return a warning of sections of the blueprint that are not taken over; an empty text if all are."""
    if not config.train.use_blueprint:
        return ""
    known = read_blueprint(config)
    keys = [key for key in PIPELINE_SECTIONS if known.get(key) is not None and key not in config.train.pipeline_keys]
    if not keys:
        return ""
    told = f"{blueprint_path(config)} has {', '.join(keys)}, which is not taken over"
    return f"{told}: add it to train.pipeline_keys if it should be."


def override(old: Tree, new: Any, defaults: Mapping[str, Any]) -> Any:
    """Return a section of a blueprint; where it names no component, it changes the one that the pipeline has."""
    if "name" in defaults and isinstance(new, Mapping) and "name" not in new:
        return overlay(old, dict(new), defaults)
    return new


def seed_of(config: Config, tree: Tree) -> int:
    """Return the seed of the configuration, or that of a blueprint if `pipeline_keys` has it."""
    if "seed" not in config.train.pipeline_keys or "seed" not in tree:
        return config.seed
    return validate(SeedOnly, {"seed": tree["seed"]}, f"{blueprint_path(config)}: ").seed


def blueprint_path(config: Config) -> Path:
    """Return the file of the blueprint: as it is named, or the best of a study."""
    name = config.reuse.blueprint
    if name is None:
        expected = "a blueprint: a file, or PROJECT/STUDY"
        raise ConfigError("reuse.blueprint", NOTHING, expected, "train.use_blueprint asks for it.")
    project, slash, study = name.partition("/")
    made = Path(config.results_dir) / project / "studies" / study / "blueprint.yaml"
    if slash and "/" not in study and not Path(name).is_file() and (made.is_file() or not Path(name).suffix):
        return made
    return Path(name)


def read_blueprint(config: Config) -> Tree:
    """Read the blueprint and compare its task with the pivot, nested tags aside.

    Raises
    ------
    ConfigError
        If there is no such file, it is no pipeline, or its task is another.
    """
    path = blueprint_path(config)
    if not path.is_file():
        remedy = "Give the path of a file, or PROJECT/STUDY of a study that has ended."
        raise ConfigError(f"reuse.blueprint: {path}", NOTHING, "a blueprint", remedy)
    tree = read_yaml_mapping(path)
    check_keys(tree, BLUEPRINT_KEYS, f"{path}: ")
    task = tree.get("task")
    if task is None or config.pivot is None:
        return tree
    pivot = pivot_task(config)
    if unnested(str(task), f"{path}: task") != unnested(pivot, "pivot"):
        expected = f"the pivot, {pivot}"
        raise ConfigError(f"{path}: task", str(task), expected, "Set pivot, or another reuse.blueprint.")
    return tree
