"""Canonical text of configuration: what decides an output, and nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel

from foldwise.config.preprocessing import Preprocessing, TensorRecord
from foldwise.config.section import IN_ORDER, tag_words


class JobConfig(str):
    """Canonical JSON that carries more as attributes: words for the dry run, and what describes without deciding.

    Jobs are compared by the text alone, so that other attributes rerun nothing.
    """

    def __new__(cls, text: str, /, **attributes: Any) -> JobConfig:
        self = super().__new__(cls, text)
        vars(self).update(attributes)
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (str(self),), vars(self)


def canonical_json(tree: Any) -> str:
    """Write a tree as JSON with sorted keys and no white space."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)


def differences(section: BaseModel) -> dict[str, Any]:
    """Return what differs from the defaults; the name of a component other than the default is kept."""
    tree = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if value == field.default:
            continue
        if isinstance(value, dict) and IN_ORDER in field.metadata:
            value = list(map(list, value.items()))
        tree[name] = dump(value)
    return {**tree, **(section.model_extra or {})}


def component(section: BaseModel) -> dict[str, Any]:
    """Return the differences of a section, with its `name` if that chose the section."""
    if tag_words(type(section)):
        return {**differences(section), "name": getattr(section, "name")}  # noqa: B009
    return differences(section)


def dump(value: Any) -> Any:
    """Return plain JSON types for a field's value."""
    if isinstance(value, BaseModel):
        return component(value)
    if isinstance(value, list):
        return [dump(item) for item in value]
    if isinstance(value, dict):
        return {key: dump(item) for key, item in value.items()}
    return value


def digest(tree: Any, length: int = 64) -> str:
    """Return the first hexadecimal digits of the SHA-256 of a tree's canonical JSON."""
    return hashlib.sha256(canonical_json(tree).encode()).hexdigest()[:length]


def deciding(preprocessing: Preprocessing) -> Preprocessing:
    """Return a recipe without what decides nothing: the quality of JPEGs where none are stored."""
    if preprocessing.storage == "jpeg":
        return preprocessing
    return preprocessing.model_copy(update={"quality": Preprocessing.model_fields["quality"].default})


def tensor_record(dataset: str, preprocessing: Preprocessing) -> TensorRecord:
    """Return the definition of a dataset's tensors."""
    return TensorRecord(dataset=dataset, preprocessing=deciding(preprocessing).model_copy(update={"id": "default"}))


def tensor_folder(preprocessing: Preprocessing) -> str:
    """Return the folder of a preprocessing: its name and a digest of its definition."""
    definition = differences(deciding(preprocessing))
    definition.pop("id", None)
    return f"{preprocessing.id}-{digest(definition, 8)}"
