"""The base of every configuration section: strict types, strings read as YAML, readable errors."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel, ConfigDict, Tag, ValidationError, model_validator
from pydantic.fields import FieldInfo

from foldwise.errors import NOTHING, UNKNOWN_KEY, ConfigError, ConfigErrors, Words, nearest, one_of, shorten

SECRETS = (re.compile(r"(://)[^\s'\"]+(?=@)"), re.compile(r"(://[^\s'\"?]*\?)[^\s'\"]+"))
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)  # ValueError: impossible dates, bytes that are no UTF-8
LENGTHS = ("min_length", "max_length")
BOUNDS = {"gt": "> ", "ge": ">= ", "lt": "< ", "le": "<= "}
TYPE_WORDS: dict[Any, str] = {
    bool: "true or false",
    str: "a string",
    int: "an integer",
    float: "a number",
    dict: "a mapping",
    type(None): "null",
}


class InOrder:
    """Marks a field whose mapping keeps the order of its keys in canonical text, as pairs."""


IN_ORDER = InOrder()


class Section(BaseModel):
    """A section of the configuration.

    Values that arrive as strings (every leaf of ``--config`` does) are read as YAML wherever the
    field is not itself a string, so that ``false``, ``3``, ``1e-3`` and ``[a, b]`` mean what they
    say. Types are strict otherwise: ``1`` is not accepted where a boolean is expected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _read_strings(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        expected = {name: key.annotation for name, key in cls.model_fields.items()}
        return {str(key): read_scalar(value, expected.get(key, Any)) for key, value in data.items()}


def read_scalar(value: Any, annotation: Any) -> Any:
    """Read a string as YAML if the field it is meant for takes anything but strings; also in lists."""
    if isinstance(value, list):
        return [read_scalar(item, item_of(annotation, list) or Any) for item in value]
    if not isinstance(value, str) or value in literal_words(annotation):
        return value
    options = list(options_of(annotation))
    if str in options:
        return None if type(None) in options and value in ("null", "~", "") else value
    read = read_yaml_scalar(value)
    return read_scalar(read, annotation) if isinstance(read, list) else read


def read_yaml_scalar(text: str) -> Any:
    """Read a string as a YAML value; numbers such as ``1e-3`` are floats, as everyone expects."""
    if NUMBER.fullmatch(text.strip()):
        return float(text)
    try:
        return yaml.safe_load(text)
    except YAML_ERRORS:
        return text


def hide_secrets(value: Any) -> Any:
    """Return a value found, for messages, with user, password and query of every address in it blotted out."""
    hidden = str(value)
    for secret in SECRETS:
        hidden = secret.sub(r"\1***", hidden)
    if hidden == str(value):
        return value
    return hidden if isinstance(value, str) else Words(hidden)


def is_plain(value: Any) -> bool:
    """Tell whether JSON can hold a value that comes from YAML."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


def options_of(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of a union, looking through `Annotated`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from options_of(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for option in get_args(annotation):
            yield from options_of(option)
    else:
        yield annotation


def item_of(annotation: Any, container: type, position: int = -1) -> Any:
    """Return the type of a container's items (or of its keys, at `position` 0); None if it is no such container."""
    found = [get_args(option)[position] for option in options_of(annotation) if get_origin(option) is container]
    return found[0] if found else None


def literal_words(annotation: Any) -> list[Any]:
    """Return the words that an annotation accepts literally."""
    return [word for option in options_of(annotation) if get_origin(option) is Literal for word in get_args(option)]


def nested_sections(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections among the alternatives of an annotation."""
    return [option for option in options_of(annotation) if isinstance(option, type) and issubclass(option, BaseModel)]


def tag_words(section: type[BaseModel]) -> list[str]:
    """Return the values of `name` that select a section out of a union."""
    name = section.model_fields.get("name")
    return literal_words(name.annotation) if name else []


def component_words(section: type[BaseModel]) -> list[str]:
    """Return what a section is asked for by: its names, or what its title says in place of them."""
    return tag_words(section) or [str(section.model_config.get("title"))]


def describe_type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Describe what a field accepts in words, for error messages and the option table.

    Parameters
    ----------
    annotation : type
        The type of a field.
    metadata : iterable
        Its bounds; `Words` among them are the description.
    """
    metadata = list(flatten(metadata))
    words = [str(item) for item in metadata if isinstance(item, Words)]
    if words:
        return words[0]
    if get_origin(annotation) is Annotated:
        base, *more = get_args(annotation)
        return describe_type(base, [*metadata, *more])
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe_type(option, metadata) for option in get_args(annotation)))
    return describe_option(annotation, metadata)


def describe_option(option: Any, metadata: list[Any]) -> str:
    """Describe one alternative of a field."""
    origin = get_origin(option)
    if origin is Literal:
        return one_of(shorten(v) if isinstance(v, bool) else str(v) for v in get_args(option))
    if origin is list:
        return describe_items(describe_type(get_args(option)[0])) + describe_length(metadata, "item")
    if origin is dict or nested_sections(option):
        return TYPE_WORDS[dict] + describe_length(metadata, "key")
    if option is str:
        return TYPE_WORDS[str] + describe_length(metadata, "character")
    return TYPE_WORDS.get(option, str(option)) + describe_bounds(metadata)


def describe_items(item: str) -> str:
    """Describe a list from the description of one item."""
    if item.startswith("one of "):
        return f"a list out of {item.removeprefix('one of ')}"
    plural = re.sub(r"(^| or )an? (\w+)", r"\1\2s", item)
    return f"a list of {plural}"


def describe_length(metadata: Iterable[Any], thing: str) -> str:
    """Describe how many things there must be."""
    least, most = (next((getattr(m, key) for m in metadata if hasattr(m, key)), None) for key in LENGTHS)
    limits = [f"{word} {limit}" for word, limit in (("at least", least), ("at most", most)) if limit is not None]
    count = str(least) if least == most else " and ".join(limits)
    return f" with {count} {thing}{'' if count.split()[-1] == '1' else 's'}" if limits else ""


def describe_bounds(metadata: Iterable[Any]) -> str:
    """Describe numeric bounds such as ``ge=0`` in words."""
    limits = ((word, getattr(item, key, None)) for item in metadata for key, word in BOUNDS.items())
    words = [f"{word}{limit}" for word, limit in limits if limit is not None]
    return " " + " and ".join(words) if words else ""


def flatten(metadata: Iterable[Any]) -> Iterator[Any]:
    """Yield single bounds from pydantic field metadata."""
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from flatten(item.metadata)
        elif isinstance(item, annotated_types.GroupedMetadata):
            yield from item
        else:
            yield item


def convert_errors(error: ValidationError, model: type[BaseModel], prefix: str = "") -> ConfigErrors:
    """Turn pydantic's errors into messages with key path, value, accepted values and nearest key."""
    messages: dict[str, ConfigError] = {}
    for item in error.errors(include_url=False):
        converted = convert_error(item, model, prefix)
        messages.setdefault(converted.where, converted)
    # What may be one of several alternatives is told about once for each; what lies inside says more.
    inner = [where for where in messages if not any(o.startswith((f"{where}[", f"{where}.")) for o in messages)]
    return ConfigErrors([messages[where] for where in inner])


def convert_error(item: Any, model: type[BaseModel], prefix: str) -> ConfigError:
    """Turn one of pydantic's errors into one of ours."""
    place = locate(item["loc"], model)
    where = join_path([prefix, *place.path])
    got, kind, accepted = hide_secrets(item["input"]), item["type"], place.accepted
    if kind == "extra_forbidden":
        keys = list(dict.fromkeys(key for section in place.sections for key in section.model_fields))
        return ConfigError(where, UNKNOWN_KEY, one_of(keys), nearest(place.path[-1], keys))
    if kind == "value_error" and isinstance(cause := item["ctx"]["error"], ConfigError):
        return ConfigError(join_path([where, cause.where]), cause.got, cause.expected, cause.remedy)
    if kind == "missing":
        return ConfigError(where, NOTHING, accepted, "This key is required.")
    words = list(map(str, literal_words(place.annotation)))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        where, got = join_path([where, "name"]), item["input"].get("name")
        words = [word for section in nested_sections(place.annotation) for word in tag_words(section)]
        accepted = one_of(words)
    return ConfigError(where, got, accepted, remedy(got, words, place))


def remedy(got: Any, words: list[str], place: Place) -> str:
    """Return the accepted word nearest to what was found, or the advice to quote a number."""
    if isinstance(got, str):
        return nearest(got, words)
    if isinstance(got, (bool, int, float)) and str in options_of(place.annotation):
        return f'Write it in quotes: "{shorten(got)}".'
    return ""


def join_path(parts: Iterable[str]) -> str:
    """Join the parts of a key path: ``pipelines.fast.metrics[0]``."""
    return ".".join(part for part in parts if part).replace(".[", "[").replace(": .", ": ")


@dataclass
class Place:
    """Where in the models an error occurred.

    Parameters
    ----------
    annotation : type
        What is accepted there.
    metadata : list
        Its bounds.
    path : list of str
        Key path, without the words that pydantic adds for the alternatives of a union.
    sections : list of type
        The sections in which the last key of the path was looked for.
    chosen : type, optional
        The one of several alternatives that the error is about.
    """

    annotation: Any
    metadata: list[Any] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    sections: list[type[BaseModel]] = field(default_factory=list)
    chosen: Any = None

    @property
    def container(self) -> Any:
        """The list or mapping in which the next part of a path is an item."""
        return self.annotation if self.chosen is None else self.chosen

    @property
    def accepted(self) -> str:
        """What is accepted there, in words."""
        return describe_type(self.annotation, self.metadata)


def locate(loc: Iterable[Any], model: type[BaseModel]) -> Place:
    """Follow an error location through the models."""
    place = Place(model)
    container: Any = None
    for part in loc:
        options = [option for option in options_of(place.annotation) if option is not type(None)]
        if part == "[key]":
            place = Place(item_of(container, dict, 0), [], place.path)
        elif nested_sections(place.annotation):
            place = within_section(place, part)
        elif len(options) > 1 and place.chosen is None:
            place = replace(place, chosen=alternative(options, part))
        elif value := item_of(place.container, dict):
            container, place = place.container, Place(value, [], [*place.path, str(part)])
        elif isinstance(part, int):
            place = Place(item_of(place.container, list), [], [*place.path, f"[{part}]"])
    return place


def within_section(place: Place, part: Any) -> Place:
    """Go on to a key of a section, known or not, or to one or some of several sections."""
    if tagged := tagged_option(place.annotation, part):
        return Place(tagged, [], place.path)
    inner = nested_sections(place.annotation)
    known = [section.model_fields[part] for section in inner if part in section.model_fields]
    chosen = [section for section in inner if part in tag_words(section)]
    if known:
        return Place(known[0].annotation, known[0].metadata, [*place.path, part], inner)
    return Place(chosen[0], [], place.path) if chosen else Place(place.annotation, [], [*place.path, str(part)], inner)


def tagged_option(annotation: Any, tag: Any) -> Any:
    """Return the alternative of a union that carries a tag of pydantic's; None if there is none."""
    if get_origin(annotation) is Annotated:
        base, *metadata = get_args(annotation)
        if any(isinstance(item, Tag) and item.tag == tag for item in metadata):
            return base
        return tagged_option(base, tag)
    if get_origin(annotation) not in (Union, types.UnionType):
        return None
    return next((found for option in get_args(annotation) if (found := tagged_option(option, tag))), None)


def alternative(options: list[Any], label: str) -> Any:
    """Return the one of several alternatives that pydantic's label stands for; where it is a scalar, any does."""
    named = [option for option in options if label.startswith(f"{getattr(get_origin(option), '__name__', None)}[")]
    return (named or [str])[0]
