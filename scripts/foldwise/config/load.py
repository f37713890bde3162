"""From the raw configuration tree to the typed configuration."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from foldwise.config.definition import EMBEDDED_TASKS, TaskDefinition
from foldwise.config.model import Config
from foldwise.config.pipeline import DEFAULT_NAMES, PIPELINE_SECTIONS, Pipeline
from foldwise.config.section import convert_errors, read_yaml_scalar
from foldwise.errors import UNKNOWN_KEY, ConfigError, nearest, one_of

Tree = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)
TOP_LEVEL = (*Config.model_fields, *PIPELINE_SECTIONS)


@dataclass(frozen=True)
class Library:
    """Presets of pipeline sections and task definitions that lie in files beside the configuration."""

    presets: Mapping[str, Mapping[str, Tree]]
    tasks: Mapping[str, Tree]

    @classmethod
    def read(cls, *folders: Path) -> Library:
        """Read ``presets/{section}.yaml`` and ``tasks/{task}.yaml`` of each folder; later folders win."""
        presets: dict[str, dict[str, Tree]] = {}
        tasks: dict[str, Tree] = {}
        for folder in folders:
            for path in sorted(folder.glob("presets/*.yaml")):
                presets.setdefault(path.stem, {}).update(read_yaml_mapping(path))
            for path in sorted(folder.glob("tasks/*.yaml")):
                tasks[path.stem] = read_yaml_mapping(path)
        return cls(presets, tasks)


def read_yaml_mapping(path: Path) -> Tree:
    """Read a YAML file that holds a mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml_loader())  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(path, " ".join(str(error).split()), "a YAML file") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(path, content, "a mapping of keys to values")
    return content or {}


@functools.cache
def yaml_loader() -> Any:
    """Return the fastest safe YAML loader at hand."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_config(raw: Mapping[str, Any], library: Library) -> Config:
    """Check a raw configuration tree and resolve presets, definitions and pipelines.

    Parameters
    ----------
    raw : mapping
        The tree as YAML and the command line give it; keys may nest with double underscores.
    library : Library
        Presets and task definitions by name.

    Returns
    -------
    Config
        The typed configuration.

    Raises
    ------
    ConfigErrors
        With every mistake found: key path, value, what is accepted, nearest key.
    """
    tree = read_tree(expand_keys(raw))
    unknown = [key for key in tree if key not in TOP_LEVEL]
    if unknown:
        raise ConfigError(unknown[0], UNKNOWN_KEY, one_of(sorted(TOP_LEVEL)), nearest(unknown[0], TOP_LEVEL))
    inherited = {section: tree.pop(section) for section in PIPELINE_SECTIONS if section in tree}
    base = resolve_sections(inherited, {}, library, "")
    validate(Pipeline, base, "")
    tree["pipelines"] = resolve_pipelines(tree.get("pipelines"), base, library)
    tree["definitions"] = resolve_definitions(tree.get("definitions"), library)
    config = validate(Config, tree, "")
    return apply_store_best(config)


def expand_keys(raw: Mapping[str, Any]) -> Tree:
    """Nest keys with double underscores: ``train__cv`` is ``{train: {cv: ...}}`` and wins over a mapping."""
    tree = {key: value for key, value in raw.items() if "__" not in str(key)}
    for key, value in raw.items():
        if "__" not in str(key):
            continue
        *parents, leaf = str(key).split("__")
        branch = tree
        for depth, parent in enumerate(parents):
            inner = read_leaf(branch.get(parent))
            if isinstance(inner, str) and depth == 0 and parent in PIPELINE_SECTIONS:
                inner = {"preset": inner}
            if inner is not None and not isinstance(inner, Mapping):
                inner = {"name": inner} if parent == "pivot" else {}
            branch[parent] = dict(inner or {})
            branch = branch[parent]
        branch[leaf] = value
    return tree


def read_leaf(value: Any) -> Any:
    """Read a string that holds a mapping or list; leave other values alone."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        return read_yaml_scalar(value)
    return value


def read_tree(tree: Mapping[str, Any]) -> Tree:
    """Read strings that hold mappings or lists, and drop sections that are left empty."""
    return {str(key): read_leaf(value) for key, value in tree.items() if value is not None or key == "pivot"}


def resolve_pipelines(pipelines: Any, base: Tree, library: Library) -> Tree:
    """Let every pipeline inherit the top-level sections and override what it names."""
    if pipelines is None:
        return {"default": base}
    if not isinstance(pipelines, Mapping):
        raise ConfigError("pipelines", pipelines, "a mapping of names to pipelines")
    resolved = {}
    for name, text in pipelines.items():
        where = f"pipelines.{name}"
        changes = read_leaf(text) or {}
        if not isinstance(changes, Mapping):
            raise ConfigError(where, changes, "a mapping of pipeline sections")
        resolved[str(name)] = resolve_sections(changes, base, library, where)
    return resolved


def resolve_sections(changes: Mapping[str, Any], base: Tree, library: Library, prefix: str) -> Tree:
    """Overlay sections on those of `base`; a named component drops arguments of another name."""
    sections = dict(base)
    for section, change in changes.items():
        where = f"{prefix}.{section}".lstrip(".")
        if section not in PIPELINE_SECTIONS:
            hint = nearest(section, PIPELINE_SECTIONS)
            raise ConfigError(where, UNKNOWN_KEY, one_of(PIPELINE_SECTIONS), hint)
        sections[section] = overlay(section, sections.get(section, {}), expand_preset(section, change, library, where))
    for section in sections.keys() & DEFAULT_NAMES.keys():
        sections[section].setdefault("name", DEFAULT_NAMES[section])
    return sections


def expand_preset(section: str, change: Any, library: Library, where: str) -> Tree:
    """Replace a preset's name, alone or under the key ``preset``, by its mapping."""
    change = read_leaf(change)
    if change is None:
        return {}
    if isinstance(change, str):
        change = {"preset": change}
    if not isinstance(change, Mapping):
        raise ConfigError(where, change, "a preset's name or a mapping")
    if "preset" not in change:
        return dict(change)
    known = library.presets.get(section, {})
    name = change["preset"]
    if name not in known:
        raise ConfigError(
            where, name, f"a mapping, or a preset: {one_of(known) if known else 'none exists'}", nearest(name, known)
        )
    rest = {key: value for key, value in change.items() if key != "preset"}
    return {"__replace__": True, **overlay(section, dict(known[name]), rest)}


def overlay(section: str, old: Tree, new: Tree) -> Tree:
    """Overlay one section; a preset replaces what was there, another component name drops its arguments."""
    new = dict(new)
    if new.pop("__replace__", False):
        return new
    default = DEFAULT_NAMES.get(section)
    if default and "name" in new and new["name"] != old.get("name", default):
        return new
    return {**old, **new}


def resolve_definitions(inline: Any, library: Library) -> Tree:
    """Collect task definitions: embedded ones, those of files, those written in the configuration."""
    inline = {} if inline is None else inline
    if not isinstance(inline, Mapping):
        raise ConfigError("definitions", inline, "a mapping of task names to definitions")
    inline = {str(name): read_leaf(value) for name, value in inline.items()}
    for name, definition in {**library.tasks, **inline}.items():
        validate(TaskDefinition, definition, f"definitions.{name}")
    embedded = {name: definition.model_dump(exclude_defaults=True) for name, definition in EMBEDDED_TASKS.items()}
    return {**embedded, **library.tasks, **inline}


def apply_store_best(config: Config) -> Config:
    """Let `train.store_best` replace `mode.store_best` of every pipeline."""
    best = config.train.store_best
    if best is None:
        return config
    pipelines = {
        name: pipeline.model_copy(update={"mode": pipeline.mode.model_copy(update={"store_best": best})})
        for name, pipeline in config.pipelines.items()
    }
    return config.model_copy(update={"pipelines": pipelines})


def validate(model: type[Model], tree: Any, prefix: str) -> Model:
    """Build a model; raise `ConfigErrors` with key paths instead of pydantic's own error."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise convert_errors(error, model, prefix) from None
