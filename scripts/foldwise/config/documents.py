"""The documents that follow from the typed configuration: the file to edit, its JSON schema, the option tables.

``python -m foldwise.config.documents`` says which of them are out of date; ``--fix`` writes them anew.
"""

from __future__ import annotations

import argparse
import inspect
import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from foldwise.config.hpo import Hpo
from foldwise.config.load import Library
from foldwise.config.model import Config
from foldwise.config.names import NAME_PATTERN
from foldwise.config.pipeline import PIPELINE_SECTIONS, Pipeline, kornia_operations
from foldwise.config.section import component_words, item_of, literal_words, nested_sections, tag_words
from foldwise.config.tables import (
    config_readme,
    default_of,
    default_text,
    flow,
    is_section,
    keys_of,
    parts_of,
    sentence,
    top_level,
)

WIDTH = 120
SCHEMA_LINE = "# yaml-language-server: $schema=config.schema.json"
HEADER = """\
Configuration of Foldwise. Every key is here; README.md beside this file has the same as tables, with all that a key
accepts. A key behind a # without a space stands at its default: to set it, remove that # (and the # of the section
above it). Instead of editing, on the command line: --config arch__name=resnet34 train__nested=false"""
QUICK_START = "A preset for a quick start on small images; delete this line for the defaults below."
LIVE = {"project": "default", "tasks": "[digits]", "pivot": "digits", "arch": "small", "trainer": "short"}
POLICIES = {"AutoAugment": ["policy"], "RandAugment": ["n", "m"], "TrivialAugment": []}  # operations of our own
EXAMPLES = {
    "definitions": "{tenfold: {dataset: digits, n_folds: 10}}",
    "pivot": "{name: digits, tags: +nested-0}",
    "pipelines": "{plain: {}, slow: {optimizer: {lr: 1.0e-4}}}",
}


def documents(folder: Path) -> dict[Path, str]:
    """Return every generated file with the text that it should have.

    Parameters
    ----------
    folder : Path
        The folder of the configuration, with its presets.
    """
    library = Library.read(folder)
    return {
        folder / "config.yaml": config_yaml(library),
        folder / "config.schema.json": json.dumps(config_schema(library), indent=1) + "\n",
        folder / "README.md": config_readme(folder),
        Path(__file__).with_name("operations.json"): json.dumps(list_operations(), indent=1) + "\n",
    }


# The file to edit


def config_yaml(library: Library) -> str:
    """Write the configuration file: every key, commented out at its default, but those of the quick start."""
    lines, gap = [SCHEMA_LINE, *comment(HEADER), ""], False
    for name, field in top_level().items():
        if is_section(name, field):
            lines, gap = [*lines, "", *section_lines(name, field, library)], True
            continue
        lines, gap = [*lines, ""] if gap else lines, False
        text = sentence(field.description) + (f" For example {EXAMPLES[name]}." if name in EXAMPLES else "")
        line = f"{name}: {LIVE[name]}" if name in LIVE else f"#{name}: {default_text(name, field)}"
        lines += with_comment([line], text)
    return "\n".join(lines) + "\n"


def section_lines(name: str, field: FieldInfo, library: Library) -> Iterator[str]:
    """Yield the lines of one section: what it is, its presets, its keys at their defaults."""
    section, kinds = type(field.default), nested_sections(field.annotation)
    about = sentence(section.__doc__) if len(kinds) == 1 else ""
    yield from comment(f"{sentence(field.description)} {about}")
    if library.presets.get(name):
        yield from comment(f"Presets: {', '.join(library.presets[name])}.")
    if name in LIVE:
        yield f"{name}: {LIVE[name]}  # {QUICK_START}"
    yield f"#{name}:" if section.model_fields else f"#{name}: {{}}"
    parts = dict(parts_of(section))
    for key, inner in keys_of(section):
        text = sentence(inner.description) + choices(inner)
        if key in parts:
            text += f" Keys: {', '.join(word for word, _ in keys_of(parts[key]))}."
        if key == "name" and len(kinds) > 1:
            others = [word for kind in kinds if kind is not section for word in component_words(kind)]
            text += f" With keys of their own: {', '.join(others)}."
        yield from with_comment(value_lines(f"#  {key}:", default_of(inner)), text, "#  # ")


def choices(field: FieldInfo) -> str:
    """Name the words that a key accepts, unless its description does."""
    words = literal_words(field.annotation) or literal_words(item_of(field.annotation, list))
    told = all(str(word) in str(field.description) for word in words)
    return "" if told or len(words) < 2 else f" One of {', '.join(map(str, words))}."


def value_lines(start: str, value: Any) -> list[str]:
    """Write a key and its value, on several lines if it is long; a list of mappings has a line for each of them."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [start, *(f"#    - {flow(item)}" for item in value)]
    return textwrap.wrap(f"{start} {flow(value)}", WIDTH, subsequent_indent="#    ", break_on_hyphens=False)


def with_comment(lines: list[str], text: str, start: str = "# ") -> list[str]:
    """Put a comment behind a line if there is room, else above."""
    if len(lines) == 1 and len(lines[0]) + len(text) + 4 <= WIDTH:
        return [f"{lines[0]}  # {text}"]
    return [*comment(text, start), *lines]


def comment(text: str, start: str = "# ") -> list[str]:
    """Wrap text into lines of comment."""
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)


# The schema


class SchemaWriter(GenerateJsonSchema):
    """JSON schema without titles that repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def config_schema(library: Library) -> dict[str, Any]:
    """Return the JSON schema of the raw configuration, as `load_config` takes it.

    Pipelines inherit, so that no key of a pipeline section is required but the source of a network that is not built
    in, and a section may be a preset's name.
    """
    schema = Config.model_json_schema(schema_generator=SchemaWriter)
    keys, parts = schema["properties"], schema["$defs"]
    pipeline = parts["Pipeline"]["properties"]
    for name, field in Pipeline.model_fields.items():
        for kind in nested_sections(field.annotation):
            required = [key for key in parts[kind.__name__].pop("required", []) if key == "source"]
            parts[kind.__name__] |= {"required": required} if required else {}
            parts[kind.__name__]["properties"]["preset"] = preset_schema(name, library)
        pipeline[name] = section_schema(name, field, library)
    parts["Operation"]["properties"]["name"]["enum"] = list(kornia_operations())
    keys["pivot"]["anyOf"].insert(0, {"type": "string"})
    for key in ("sampler", "pruner"):
        found = parts["Hpo"]["properties"][key]
        words = [word for kind in nested_sections(Hpo.model_fields[key].annotation) for word in tag_words(kind)]
        kinds = {name: found.pop(name) for name in ("oneOf", "discriminator") if name in found}
        parts["Hpo"]["properties"][key] = {**found, **either({"enum": words}, kinds)}
    parts["Hpo"]["properties"]["search_space"]["additionalProperties"] = either(
        {"type": "array", "minItems": 1}, {"$ref": "#/$defs/Dimension"}
    )
    for key in ("definitions", "pipelines"):
        keys[key]["additionalProperties"] = False  # what does not match the pattern of names
    keys["pipelines"]["patternProperties"][NAME_PATTERN] = either({"$ref": "#/$defs/Pipeline"}, {"type": "null"})
    sections = {name: {"$ref": f"#/$defs/Pipeline/properties/{name}"} for name in PIPELINE_SECTIONS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Foldwise",
        "type": "object",
        "properties": {name: sections.get(name) or nullable(name, keys[name]) for name in top_level()},
        "patternProperties": {"__": {}},
        "additionalProperties": False,
        "$defs": parts,
    }


def section_schema(name: str, field: FieldInfo, library: Library) -> dict[str, Any]:
    """Return the schema of a pipeline section: a preset's name, or a mapping for any of its components."""
    kinds = [{"$ref": f"#/$defs/{kind.__name__}"} for kind in nested_sections(field.annotation)]
    return {"description": field.description, **either(*kinds, preset_schema(name, library), {"type": "null"})}


def preset_schema(name: str, library: Library) -> dict[str, Any]:
    """Return the schema of a preset's name; there may be more presets than those that come with the workflow."""
    examples = list(library.presets.get(name, {}))
    return {"type": "string", "description": "A preset.", **({"examples": examples} if examples else {})}


def either(*options: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value for which there are several kinds."""
    return {"anyOf": list(options)}


def nullable(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Let a key be left empty, which gives it its default."""
    field = Config.model_fields[name]
    default = {} if is_section(name, field) else {"default": yaml.safe_load(default_text(name, field))}
    kinds = schema.get("anyOf") or [{key: schema[key] for key in schema if key not in ("description", "default")}]
    options = [kind for kind in kinds if kind != {"type": "null"}]
    return {"description": field.description, **default, **either(*options, {"type": "null"})}


# The list of kornia's operations


def list_operations() -> dict[str, list[str]]:
    """Return kornia's augmentations of images and our policies, with their arguments but those that we decide."""
    from kornia import augmentation

    bases = (augmentation.IntensityAugmentationBase2D, augmentation.GeometricAugmentationBase2D)
    ours = {"self", "args", "kwargs", "return_transform", "keepdim", "same_on_batch", "size", "p_batch"}
    operations = {}
    for name, kind in sorted(vars(augmentation).items()):
        wanted = name.startswith("Random") or name in ("ColorJitter", "ColorJiggle")
        if wanted and name != "RandomDissolving" and inspect.isclass(kind) and issubclass(kind, bases):
            operations[name] = [key for key in inspect.signature(kind.__init__).parameters if key not in ours]
    return dict(sorted({**operations, **POLICIES}.items()))


def out_of_date(folder: Path) -> dict[Path, str]:
    """Return those documents whose file is not there or differs, with the text they should have."""
    return {
        path: text
        for path, text in documents(folder).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Name the documents that are out of date, or write them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m foldwise.config.documents", description=__doc__)
    parser.add_argument("--fix", action="store_true", help="write what is out of date")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("config"), help="default: config")
    options = parser.parse_args(arguments)
    stale = out_of_date(options.folder)
    for path, text in stale.items():
        if options.fix:
            path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{path}: {'written' if options.fix else 'out of date, write it with --fix'}")
    return int(bool(stale) and not options.fix)


if __name__ == "__main__":
    raise SystemExit(main())
