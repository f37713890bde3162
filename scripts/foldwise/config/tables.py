"""The tables of all options, as ``config/README.md`` shows them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from foldwise.config import examples
from foldwise.config.canonical import component
from foldwise.config.definition import TaskDefinition
from foldwise.config.hpo import Dimension
from foldwise.config.model import Config
from foldwise.config.modes import Pivot
from foldwise.config.names import TAGS
from foldwise.config.pipeline import PIPELINE_SECTIONS, Operation, Pipeline, kornia_operations
from foldwise.config.preprocessing import PreprocessingChoice, PreprocessingStep
from foldwise.config.section import component_words, describe_type, nested_sections, tag_words
from foldwise.config.sources import SOURCE_KEYS

INTRODUCTION = """\
<!-- Written by `python -m foldwise.config.documents --fix` from the models in scripts/foldwise/config. -->
# Configuration

All options of Foldwise with what they accept, their defaults and what they do. Unknown keys and wrong values are
errors before any job starts; the message names the key, the value, what is accepted and the nearest key.

## How to set options

- **In the file.** [`config.yaml`](config.yaml) has every key, commented out at its default. A `config/config.yaml` in
  the working directory takes the place of the one that comes with the workflow. Editors that know YAML schemas
  complete and check the keys by [`config.schema.json`](config.schema.json).
- **On the command line.** Double underscores nest, and win over a mapping of the same key:

  ```sh
  --config arch__name=resnet34 train__nested=false pipelines__default__optimizer__lr=1e-3
  ```

  Values are read as YAML: `false`, `3`, `1e-3`, `[a, b]` and `{cv: false}` mean what they say. A name that looks like
  a number needs quotes of its own: `--config 'project="2024"'`.
- **In more files.** `--configfile mine.yaml` is laid over `config/config.yaml` key by key; a top-level key that is
  left empty or `null` goes back to its default (but `pivot: null` is no pivot).
- **By presets.** A pipeline section may be the name of a preset, `arch: small`, or start from one,
  `arch: {preset: small, dropout: 0.1}`. Presets are files `config/presets/SECTION.yaml`; add your own there. Task
  definitions may likewise lie in `config/tasks/TASK.yaml`.
- **In pipelines.** A pipeline under `pipelines` inherits the top-level pipeline sections and overrides the keys that
  it names; a preset replaces the whole section. Another `name` of a network, loss, optimiser or schedule drops the
  arguments that were meant for the old one. Without `pipelines` there is one, called `default`. A pipeline may be the
  name of a whole recipe in `config/pipelines/`, `pipelines: {mine: fast}`, or start from one,
  `pipelines: {mine: {preset: fast, optimizer: {lr: 1e-3}}}`.

Threads, memory, GPUs and cluster settings are no configuration: they belong to profiles.
"""
TASKS = """\
A task is a dataset seen as one learning problem. It is defined under `definitions`, or in a file
`config/tasks/TASK.yaml` that holds the keys alone. Several definitions may name one `dataset`; the keys that say where
its images come from must then be the same in all of them."""
SOURCES = """\
Which keys a definition takes is decided by where its images come from. Files lie at `path` (an archive may have a
`sha256`) or are fetched from `url`, which needs one. `on_error` and all keys that are not in this table go with every
source."""
VARIANTS = """\
A variant is a task changed by tags, `digits+nested-0`; wherever a task is named, a variant may be. Tags apply from left
to right. Arguments have one form each: `0.5` for `.5`, and what stands at its default is left out."""


def top_level() -> dict[str, FieldInfo]:
    """Return the keys of the raw configuration in the order of the documents."""
    fields: dict[str, FieldInfo] = {}
    for name, field in Config.model_fields.items():
        fields |= {**Pipeline.model_fields, name: field} if name == "pipelines" else {name: field}
    return fields


def is_section(name: str, field: FieldInfo) -> bool:
    """Tell whether a top-level key is the section of a pipeline or of a mode."""
    return name != "pivot" and bool(nested_sections(field.annotation))


def keys_of(section: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """Return the keys of a section, those that choose first."""
    choosing = ("source", "name", "subroutines") if "name" in section.model_fields else ("subroutines",)
    return sorted(section.model_fields.items(), key=lambda item: item[0] not in choosing)


def parts_of(section: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    """Return the keys of a section that hold a section of their own or null, and that section."""
    found = [(key, nested_sections(field.annotation)) for key, field in section.model_fields.items()]
    return [(key, inner[0]) for key, inner in found if inner and section.model_fields[key].default is None]


def sentence(text: str | None) -> str:
    """Return a description or docstring's first paragraph on one line."""
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())


def flow(value: Any) -> str:
    """Write a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def default_of(field: FieldInfo) -> Any:
    """Return the default of a key as plain data."""
    if isinstance(field.default, list):
        return [item.model_dump() if isinstance(item, BaseModel) else item for item in field.default]
    if isinstance(field.default, BaseModel) and tag_words(type(field.default)):
        return component(field.default)["name"]
    return field.default


def default_text(name: str, field: FieldInfo) -> str:
    """Write the default of a key as YAML on one line."""
    if isinstance(field.default, Pivot):
        return field.default.task
    return "{default: {}}" if name == "pipelines" and isinstance(field.default, dict) else flow(default_of(field))


def config_readme(folder: Path) -> str:
    """Write the option tables."""
    fields = top_level()
    parts = [INTRODUCTION, "## General", table((n, f) for n, f in fields.items() if not is_section(n, f))]
    parts += ["### Keys of a pivot", table(keys_of(Pivot)), *mode_section("tagging")]
    parts += ["### Tags", VARIANTS, tag_table()]
    parts += ["## Definitions of tasks", TASKS, "### Keys of a definition", table(keys_of(TaskDefinition))]
    parts += ["### Sources", SOURCES, source_table(), *source_examples(), "## Pipeline sections"]
    for name, field in Pipeline.model_fields.items():
        parts += [f"### {name}", *pipeline_section(name, field, folder)]
    parts.append("## Modes")
    for name, field in fields.items():
        if is_section(name, field) and name not in (*PIPELINE_SECTIONS, "tagging"):
            parts += mode_section(name)
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def mode_section(name: str) -> list[str]:
    """Return heading, text and table of a section that belongs to no pipeline."""
    section = type(Config.model_fields[name].default)
    parts = [f"### {name}", sentence(section.__doc__), table(keys_of(section))]
    for key, field in section.model_fields.items():
        for kind in nested_sections(field.annotation):
            if len(kind.model_fields) > 1:
                parts += [f"#### `{name}.{key}: {tag_words(kind)[0]}`", sentence(kind.__doc__), table(keys_of(kind))]
    if name == "hpo":
        parts += ["#### Keys of a `search_space`", sentence(Dimension.__doc__), table(keys_of(Dimension))]
    return parts


def tag_table() -> str:
    """Write a table of tags."""
    rows = (
        (f"`{example}`", usage[:1].upper() + usage[1:] + ".", meaning)
        for (example, meaning), (usage, _) in ((examples.TAGS[tag], TAGS[tag]) for tag in TAGS)
    )
    return grid(("tag", "form", "meaning"), rows)


def source_table() -> str:
    """Write a table of the kinds of sources and the keys that each of them takes."""
    rows = ((f"`{kind}`", named(SOURCE_KEYS[kind]), example.about) for kind, example in examples.SOURCES.items())
    return grid(("source", "keys", "what it is"), rows)


def source_examples() -> Iterator[str]:
    """Yield an example of a definition for every kind of source."""
    for kind, example in examples.SOURCES.items():
        yield f"#### Example of `{kind}`\n\n```yaml\n{example.text.strip()}\n```"


def step_table() -> str:
    """Write a table of preprocessing steps and their keys."""
    rows = []
    for step in nested_sections(PreprocessingChoice):
        keys = [
            f"`{key}`: {describe_type(field.annotation, field.metadata)}; default `{default_text(key, field)}`"
            for key, field in step.model_fields.items()
            if key != "name"
        ]
        rows.append((named(tag_words(step)), sentence(step.__doc__), ", ".join(keys)))
    return grid(("step", "what it does", "keys"), rows)


def named(words: Iterable[str]) -> str:
    """Write words as code, one after another."""
    return ", ".join(f"`{word}`" for word in words)


def pipeline_section(name: str, field: FieldInfo, folder: Path) -> Iterator[str]:
    """Yield the tables of a pipeline section, one a component, and its presets."""
    kinds = nested_sections(field.annotation)
    yield sentence(field.description)
    for kind in kinds:
        if len(kinds) > 1:
            yield f"#### {named(component_words(kind))}"
        yield sentence(kind.__doc__)
        yield table(keys_of(kind))
        for key, inner in parts_of(kind):
            yield f"#### `{name}.{key}`"
            yield sentence(inner.__doc__)
            yield table(keys_of(inner))
    if name == "preprocessing":
        yield "#### Steps"
        yield sentence(PreprocessingStep.__doc__)
        yield step_table()
    if name == "augmentations":
        yield "#### Operations"
        yield sentence(Operation.__doc__)
        yield operation_table()
    presets = folder / "presets" / f"{name}.yaml"
    if presets.is_file():
        yield f"#### Presets of `{name}`\n\n```yaml\n{presets.read_text(encoding='utf-8').strip()}\n```"


def table(fields: Iterable[tuple[str, FieldInfo]]) -> str:
    """Write a table of keys: what they accept, their default, what they do."""
    rows = []
    for name, field in fields:
        default = "required" if field.is_required() else f"`{default_text(name, field)}`"
        accepted = describe_type(field.annotation, field.metadata)
        rows.append((f"`{name}`", accepted, default, sentence(field.description)))
    return grid(("key", "accepted", "default", "description"), rows) if rows else ""


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    line = "|" + "---|" * len(columns)
    return "\n".join([row(columns), line, *map(row, rows)])


def row(cells: Iterable[str]) -> str:
    """Write a row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def operation_table() -> str:
    """Write a table of the kornia operations and their arguments."""
    return grid(("operation", "arguments"), ((f"`{name}`", named(keys)) for name, keys in kornia_operations().items()))
