"""The base of every configuration section: strict types, strings read as YAML, readable errors."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from foldwise.config.names import NAME_PATTERN, NAME_WORDS
from foldwise.errors import NOTHING, UNKNOWN_KEY, ConfigError, ConfigErrors, nearest, one_of

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


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
        fields = cls.model_fields
        return {
            key: read_scalar(value, fields[key].annotation) if key in fields else value for key, value in data.items()
        }


def read_scalar(value: Any, annotation: Any) -> Any:
    """Read a string as YAML if the field it is meant for takes anything but strings."""
    if isinstance(value, list):
        inner = [a for option in options_of(annotation) if get_origin(option) is list for a in get_args(option)]
        return [read_scalar(item, inner[0]) for item in value] if inner else value
    if not isinstance(value, str):
        return value
    options = list(options_of(annotation))
    if value in [word for option in options for word in get_args(option) if get_origin(option) is Literal]:
        return value
    if str in options:
        return None if type(None) in options and value in ("null", "~", "") else value
    return read_yaml_scalar(value)


def read_yaml_scalar(text: str) -> Any:
    """Read a string as a YAML value; numbers such as ``1e-3`` are floats, as everyone expects."""
    if NUMBER.fullmatch(text.strip()):
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


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


def is_section(annotation: Any) -> bool:
    """Tell whether an annotation is a configuration section."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def field_names(sections: Iterable[type[BaseModel]]) -> list[str]:
    """Return the keys that any of the sections takes, each once, in order."""
    return list(dict.fromkeys(name for section in sections for name in section.model_fields))


def describe_type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Describe what a field accepts in words, for error messages and the option table."""
    if get_origin(annotation) is Annotated:
        base, *more = get_args(annotation)
        return describe_type(base, [*metadata, *more])
    if get_origin(annotation) in (Union, types.UnionType):
        words = [describe_type(option, metadata) for option in get_args(annotation)]
        return " or ".join(dict.fromkeys(words))
    return describe_option(annotation, list(metadata))


def describe_option(option: Any, metadata: list[Any]) -> str:
    """Describe one alternative of a field."""
    origin = get_origin(option)
    if origin is Literal:
        values = ["true" if v is True else "false" if v is False else str(v) for v in get_args(option)]
        return values[0] if len(values) == 1 else one_of(values)
    if origin is list:
        return f"a list of {describe_type(get_args(option)[0])}"
    if origin is dict or is_section(option):
        return "a mapping"
    names = {bool: "true or false", str: "a string", int: "an integer", float: "a number", type(None): "null"}
    if option is str and any(getattr(item, "pattern", None) == NAME_PATTERN for item in flatten_bounds(metadata)):
        return NAME_WORDS
    word = names.get(option, getattr(option, "__name__", str(option)))
    return word + describe_bounds(metadata) if option in (int, float) else word


def describe_bounds(metadata: Iterable[Any]) -> str:
    """Describe numeric bounds such as ``ge=0`` in words."""
    words = []
    for bound in flatten_bounds(metadata):
        for attribute, word in (("gt", "> "), ("ge", ">= "), ("lt", "< "), ("le", "<= ")):
            limit = getattr(bound, attribute, None)
            if limit is not None:
                words.append(f"{word}{limit}")
    return " " + " and ".join(words) if words else ""


def flatten_bounds(metadata: Iterable[Any]) -> Iterator[Any]:
    """Yield single bounds from pydantic field metadata."""
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from flatten_bounds(item.metadata)
        elif isinstance(item, annotated_types.Interval):
            yield from item
        else:
            yield item


def convert_errors(error: ValidationError, model: type[BaseModel], prefix: str = "") -> ConfigErrors:
    """Turn pydantic's errors into messages with key path, value, accepted values and nearest key."""
    messages: dict[str, ConfigError] = {}
    for item in error.errors(include_url=False):
        converted = convert_error(item, model, prefix)
        messages.setdefault(converted.where, converted)
    return ConfigErrors(list(messages.values()))


def convert_error(item: Any, model: type[BaseModel], prefix: str) -> ConfigError:
    """Turn one of pydantic's errors into one of ours."""
    place = locate(item["loc"], model)
    where = ".".join([prefix, *place.path] if prefix else place.path).replace(".[", "[")
    value, kind = item["input"], item["type"]
    if kind == "extra_forbidden":
        accepted = field_names(place.sections)
        return ConfigError(where, UNKNOWN_KEY, one_of(accepted), nearest(place.path[-1], accepted))
    if kind == "value_error" and isinstance(cause := item["ctx"]["error"], ConfigError):
        inner = ".".join(part for part in (where, cause.where) if part and part != ".")
        return ConfigError(inner, cause.got, cause.expected, cause.remedy)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        names = [word for section in nested_sections(place.annotation) for word in tag_words(section)]
        found = value.get("name") if isinstance(value, Mapping) else value
        return ConfigError(f"{where}.name", found, one_of(names), nearest(str(found), names))
    if kind == "missing":
        return ConfigError(where, NOTHING, describe_type(place.annotation, place.metadata), "This key is required.")
    words = [
        word for option in options_of(place.annotation) if get_origin(option) is Literal for word in get_args(option)
    ]
    hint = nearest(value, map(str, words)) if isinstance(value, str) else ""
    return ConfigError(where, value, describe_type(place.annotation, place.metadata), hint)


@dataclass
class Place:
    """Where in the models an error occurred.

    Parameters
    ----------
    path : list of str
        Key path, without the words that pydantic adds for the alternatives of a union.
    annotation, metadata : Any, list
        What is accepted there.
    sections : list of type
        The sections in which the last key of the path was looked for.
    """

    path: list[str]
    annotation: Any
    metadata: list[Any]
    sections: list[type[BaseModel]]


def locate(loc: Iterable[Any], model: type[BaseModel]) -> Place:
    """Follow an error location through the models."""
    place = Place([], model, [], [model])
    container: Any = model
    for part in loc:
        inner = nested_sections(place.annotation)
        if isinstance(part, int):
            place.path.append(f"[{part}]")
            place.annotation, place.metadata = item_of(place.annotation, list), []
        elif part == "[key]":
            place.annotation = item_of(container, dict, 0)
        elif field := next((s.model_fields[part] for s in inner if part in s.model_fields), None):
            place.path.append(part)
            place.annotation, place.metadata, place.sections = field.annotation, field.metadata, inner
        elif any(part in tag_words(section) for section in inner):
            place.annotation = next(section for section in inner if part in tag_words(section))
        elif any(get_origin(option) is dict for option in options_of(place.annotation)):
            place.path.append(str(part))
            container, place.annotation = place.annotation, item_of(place.annotation, dict)
        elif inner:
            place.path.append(str(part))
            place.sections = inner
    return place


def item_of(annotation: Any, container: type, position: int = -1) -> Any:
    """Return the type of a container's items (or of its keys, at `position` 0)."""
    found = [get_args(option)[position] for option in options_of(annotation) if get_origin(option) is container]
    return found[0] if found else annotation


def nested_sections(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections among the alternatives of an annotation."""
    return [option for option in options_of(annotation) if is_section(option)]


def tag_words(section: type[BaseModel]) -> tuple[str, ...]:
    """Return the values of `name` that select a section out of a union."""
    field = section.model_fields.get("name")
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
