"""From the raw configuration tree to the typed configuration."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from foldwise.config.definition import EMBEDDED_TASKS, TaskDefinition
from foldwise.config.model import Config, read_pivot
from foldwise.config.pipeline import DEFAULT_NAMES, LISTS, PIPELINE_SECTIONS, ModeSection, Pipeline
from foldwise.config.section import YAML_ERRORS, convert_errors, nested_sections, read_yaml_scalar, tag_words
from foldwise.errors import UNKNOWN_KEY, ConfigError, ConfigErrors, Words, nearest, one_of

Tree = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)
TOP_LEVEL = (*Config.model_fields, *PIPELINE_SECTIONS)


@dataclass(frozen=True)
class Library:
    """Presets of pipeline sections and task definitions that lie in files beside the configuration."""

    presets: Mapping[str, Mapping[str, Tree]]
    tasks: Mapping[str, Tree]
    pipelines: Mapping[str, Tree] = field(default_factory=dict)

    @classmethod
    def read(cls, *folders: Path) -> Library:
        """Read ``presets/{section}.yaml``, ``tasks/{task}.yaml``, ``pipelines/{name}.yaml``; later folders win."""
        presets: dict[str, dict[str, Tree]] = {}
        tasks: dict[str, Tree] = {}
        pipelines: dict[str, Tree] = {}
        for folder in folders:
            for path in sorted(folder.glob("presets/*.yaml")):
                presets.setdefault(path.stem, {}).update(read_presets(path))
            for path in sorted(folder.glob("tasks/*.yaml")):
                tasks[path.stem] = read_yaml_mapping(path)
            for path in sorted(folder.glob("pipelines/*.yaml")):
                pipelines[path.stem] = read_pipeline(path)
        return cls(presets, tasks, pipelines)


def read_yaml_mapping(path: Path) -> Tree:
    """Read a YAML file that holds a mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml_loader())  # noqa: S506
    except (*YAML_ERRORS, OSError) as error:
        raise ConfigError(path, Words(" ".join(str(error).split())), "a YAML file") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(path, content, "a mapping of keys to values")
    return content or {}


def read_presets(path: Path) -> dict[str, Tree]:
    """Read the presets of the pipeline section that a file is named after."""
    if path.stem not in PIPELINE_SECTIONS:
        expected = f"a file named after a section, {one_of(PIPELINE_SECTIONS)}"
        raise ConfigError(path, Words("presets of no section"), expected, nearest(path.stem, PIPELINE_SECTIONS))
    presets = {str(name): preset or {} for name, preset in read_yaml_mapping(path).items()}
    for name, preset in presets.items():
        if not isinstance(preset, Mapping):
            raise ConfigError(f"{path}: {name}", preset, "a mapping of keys to values")
    return presets


def read_pipeline(path: Path) -> Tree:
    """Read a pipeline: a mapping of its sections."""
    tree = read_yaml_mapping(path)
    check_keys(tree, PIPELINE_SECTIONS, f"{path}: ")
    return tree


@functools.cache
def yaml_loader() -> Any:
    """Return the fastest safe YAML loader at hand."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_config(raw: Mapping[Any, Any], library: Library) -> Config:
    """Check a raw configuration tree and resolve presets, definitions and pipelines.

    Parameters
    ----------
    raw : mapping
        The tree as YAML and the command line give it; keys may nest with double underscores.
    library : Library
        Presets, pipelines and task definitions by name.

    Returns
    -------
    Config
        The typed configuration.

    Raises
    ------
    FoldwiseError
        With the mistakes found: key path, value, what is accepted, nearest key.
    """
    tree = read_tree(expand_keys(raw))
    check_keys(tree, TOP_LEVEL, "")
    inherited = {section: tree.pop(section) for section in PIPELINE_SECTIONS if section in tree}
    base = resolve_sections(inherited, {}, library, "")
    validate(Pipeline, base, "")
    tree["pipelines"] = resolve_pipelines(tree.get("pipelines"), base, library)
    tree["definitions"] = resolve_definitions(tree.get("definitions"), library)
    config = validate(Config, tree, "")
    inheriting = [name for name, sections in tree["pipelines"].items() if sections.get("mode") == base.get("mode")]
    return apply_mode(config, inheriting)


def expand_keys(raw: Mapping[Any, Any]) -> Tree:
    """Nest keys with double underscores: ``train__cv`` is ``{train: {cv: ...}}`` and wins over a mapping.

    Of two such keys the one that reaches deeper wins, in whatever order they come.
    """
    tree = {str(key): value for key, value in raw.items()}
    nesting = [key for key in tree if "__" in key and all(key.split("__"))]
    for key in sorted(nesting, key=lambda key: key.count("__")):
        *parents, leaf = key.split("__")
        branch = tree
        for depth, parent in enumerate(parents, 1):
            branch[parent] = open_branch(branch.get(parent), tuple(parents[:depth]), key)
            branch = branch[parent]
        branch[leaf] = tree.pop(key)
    return tree


def open_branch(value: Any, path: tuple[str, ...], key: str) -> Tree:
    """Return the mapping that a value at `path` stands for, so that `key` can be set below it."""
    value = read_leaf(value)
    if isinstance(value, str) and path == ("pivot",):
        return dict(read_pivot(value))
    in_pipelines = path[0] == "pipelines"
    is_section = path[-1] in PIPELINE_SECTIONS and (len(path) == 1 or (in_pipelines and len(path) == 3))
    if isinstance(value, str) and (is_section or (in_pipelines and len(path) == 2)):
        return {"preset": value}
    if isinstance(value, list) and is_section and path[-1] in LISTS:
        return {LISTS[path[-1]]: value}
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(".".join(path), value, f"a mapping, because {key} is set too")
    return dict(value or {})


def read_leaf(value: Any) -> Any:
    """Read a string that holds a mapping, a list or null; leave other values alone."""
    if isinstance(value, str) and (value.strip()[:1] in ("{", "[") or value.strip() in ("null", "~")):
        return read_yaml_scalar(value)
    return value


def read_tree(tree: Mapping[str, Any]) -> Tree:
    """Read strings that hold mappings or lists, and drop keys that are left empty, so that they have their default."""
    read = {key: read_leaf(value) for key, value in tree.items()}
    return {key: value for key, value in read.items() if value is not None or key == "pivot"}


def check_keys(tree: Mapping[Any, Any], accepted: Iterable[str], prefix: str) -> None:
    """Raise `ConfigErrors` that name every unknown key of a tree and the accepted key nearest to it."""
    accepted = sorted(accepted)
    unknown = [key for key in tree if key not in accepted]
    if unknown:
        raise ConfigErrors(
            [ConfigError(f"{prefix}{key}", UNKNOWN_KEY, one_of(accepted), nearest(key, accepted)) for key in unknown]
        )


def resolve_pipelines(pipelines: Any, base: Tree, library: Library) -> Tree:
    """Let every pipeline inherit the top-level sections, then those of its preset, and override what it names."""
    if pipelines is None:
        return {"default": base}
    if not isinstance(pipelines, Mapping):
        raise ConfigError("pipelines", pipelines, "a mapping of names to pipelines")
    resolved = {}
    for name, text in pipelines.items():
        where = f"pipelines.{name}"
        preset, changes = split_pipeline(read_leaf(text), library, where)
        inherited = resolve_sections(preset, base, library, f"{where}.")
        resolved[str(name)] = resolve_sections(changes, inherited, library, f"{where}.")
    return resolved


def split_pipeline(pipeline: Any, library: Library, where: str) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
    """Return the sections of the preset that a pipeline starts from, if it names one, and those it changes."""
    tree = {"preset": pipeline} if isinstance(pipeline, str) else {} if pipeline is None else pipeline
    if not isinstance(tree, Mapping):
        raise ConfigError(where, tree, "a preset's name or a mapping of pipeline sections")
    changes = dict(tree)
    if "preset" not in changes:
        return {}, changes
    name = changes.pop("preset")
    if not isinstance(name, str) or name not in library.pipelines:
        known = library.pipelines
        raise ConfigError(where, name, f"a mapping, or a preset: {one_of(known)}", nearest(str(name), known))
    return library.pipelines[name], changes


def resolve_sections(changes: Mapping[Any, Any], base: Tree, library: Library, prefix: str) -> Tree:
    """Overlay sections on those of `base`; a preset replaces what was there."""
    check_keys(changes, PIPELINE_SECTIONS, prefix)
    sections = dict(base)
    for section, change in changes.items():
        preset, keys = split_preset(section, read_leaf(change), library, f"{prefix}{section}")
        old = sections.get(section, {}) if preset is None else preset
        sections[section] = overlay(old, keys, DEFAULT_NAMES.get(section, {}))
    return sections


def split_preset(section: str, change: Any, library: Library, where: str) -> tuple[Mapping[str, Any] | None, Tree]:
    """Return the preset that a change of a section starts from, if it names one, and the keys it sets itself."""
    if isinstance(change, str):
        change = {"preset": change}
    if isinstance(change, list) and section in LISTS:
        change = {LISTS[section]: change}
    if not isinstance(change, Mapping | None):
        raise ConfigError(where, change, "a preset's name or a mapping")
    keys = dict(change or {})
    if "preset" not in keys:
        return None, keys
    name, known = keys.pop("preset"), library.presets.get(section, {})
    if not isinstance(name, str) or name not in known:
        expected = f"a mapping, or a preset: {one_of(known) if known else 'none exists'}"
        raise ConfigError(where, name, expected, suggest(section, name, known))
    return known[name], keys


def suggest(section: str, name: Any, known: Iterable[str]) -> str:
    """Say what may have been meant by a preset that does not exist: another one, or a component of that name."""
    field = Pipeline.model_fields[section]
    components = [word for kind in nested_sections(field.annotation) for word in tag_words(kind)]
    return f"Did you mean {{name: {name}}}?" if name in components else nearest(name, known)


def overlay(old: Mapping[str, Any], new: Tree, defaults: Mapping[str, Any]) -> Tree:
    """Overlay the keys of one section; another component drops the arguments of the old one.

    `defaults` are the keys that choose a component, `source` and `name`, as they are where nothing is set; a source
    other than before has names of its own.
    """
    before = {**defaults, **{key: old[key] for key in defaults if key in old}}
    after = {**before, **{key: new[key] for key in defaults if key in new}}
    source = str(after.get("source"))
    if ":" in source or (source == "timm" != before.get("source")):
        after = {"source": source, **({"name": new["name"]} if "name" in new else {})}
    same = after == {key: before[key] for key in after}
    return {**after, **(old if same else {}), **new}


def resolve_definitions(inline: Any, library: Library) -> Tree:
    """Collect task definitions: embedded ones, those of files, those written in the configuration."""
    inline = {} if inline is None else inline
    if not isinstance(inline, Mapping):
        raise ConfigError("definitions", inline, "a mapping of task names to definitions")
    inline = {str(name): read_leaf(value) for name, value in inline.items()}
    filed, own = map(read_definitions, (library.tasks, inline))
    for name in own:
        if filed.get(name, own[name]) != own[name]:
            expected = f"one: tasks/{name}.yaml defines it otherwise"
            raise ConfigError(f"definitions.{name}", Words("a second definition"), expected, "Give one another name.")
    return {**EMBEDDED_TASKS, **filed, **own}


def read_definitions(trees: Mapping[str, Any]) -> dict[str, TaskDefinition]:
    """Read task definitions by name; raise `ConfigErrors` with the mistakes in all of them."""
    definitions, errors = {}, []
    for name, tree in trees.items():
        try:
            definitions[name] = validate(TaskDefinition, tree, f"definitions.{name}")
        except ConfigErrors as error:
            errors += error.errors
    if errors:
        raise ConfigErrors(errors)
    return definitions


def apply_mode(config: Config, inheriting: Collection[str]) -> Config:
    """Let keys of `train` replace those of `mode` in every pipeline; some are `inheriting` those at the top level."""
    owners = {name: "mode" if name in inheriting else f"pipelines.{name}.mode" for name in config.pipelines}
    changed = {
        name: with_mode(pipeline, config.train, "train", owners[name]) for name, pipeline in config.pipelines.items()
    }
    return with_pipelines(config, changed)


def with_mode(pipeline: Pipeline, mode: BaseModel, where: str, own: str = "mode") -> Pipeline:
    """Return a pipeline whose keys of `mode` are those of a mode's section where it sets them.

    What does not agree is told at the key that is at fault: below `where` if the mode sets it, else below `own`.
    """
    found = {key: getattr(mode, key) for key in ModeSection.model_fields}
    changes = {key: value for key, value in found.items() if value is not None}
    if not changes:
        return pipeline
    try:
        section = validate(ModeSection, {**pipeline.mode.model_dump(), **changes}, "")
    except ConfigErrors as error:
        places = {key: where if key in changes else own for key in found}
        raise ConfigErrors([place_error(one, places) for one in error.errors]) from None
    return pipeline.model_copy(update={"mode": section})


def place_error(error: ConfigError, places: Mapping[str, str]) -> ConfigError:
    """Return a mistake in a key of `mode` with the place where it was set, and that of `multitask` if it is another."""
    place, other = places[error.where], places["multitask"]
    remedy = error.remedy if place == other else f"It goes with {other}.multitask."
    return ConfigError(f"{place}.{error.where}", error.got, error.expected, remedy)


def with_pipelines(config: Config, pipelines: Mapping[str, Pipeline]) -> Config:
    """Return a configuration with other pipelines."""
    return config.model_copy(update={"pipelines": dict(pipelines)})


def validate(model: type[Model], tree: Any, prefix: str) -> Model:
    """Build a model; raise `ConfigErrors` with key paths instead of pydantic's own error."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise convert_errors(error, model, prefix) from None
