"""Whether a model and what it is to predict belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from foldwise.config.canonical import deciding, differences, dump
from foldwise.config.definition import TaskRecord
from foldwise.config.pipeline import Pipeline
from foldwise.config.preprocessing import Preprocessing
from foldwise.config.section import Section, convert_errors
from foldwise.data.tensors import TensorStore
from foldwise.errors import DataError, MissingData, Words, shorten
from foldwise.tasks.descriptions import describe_keys
from foldwise.tasks.task import Task

SHOWN = 300  # characters of a list of classes in a message


def recipe_of(model: dict[str, Any]) -> Pipeline:
    """Return the recipe in a model's record; raise `ConfigErrors` if it is none of this release."""
    try:
        return Pipeline.model_validate(model["recipe"])
    except ValidationError as error:
        raise convert_errors(error, Pipeline, "model.json: recipe") from None


def check_target(
    model: dict[str, Any], target: Task, record: Path, warn: Callable[[str], None] = lambda text: None
) -> None:
    """Raise `DataError` unless a target has the type and as many classes as a model, or no labels at all.

    Parameters
    ----------
    model : dict
        Content of ``model.json``.
    target : Task
        What is to be predicted.
    record : Path
        The ``model.json``, for messages.
    warn : callable
        Receives a warning if classes have other names; then those at the same place are taken for the same.

    Raises
    ------
    DataError
        Also if a class that both have is at another place: logits would be those of another class.
    """
    if target.type == "unlabeled":
        return
    if model["type"] != target.type:
        raise DataError(
            record, Words(f"a model of task type {model['type']}"), f"the type of {target.name}: {target.type}"
        )
    own, theirs = list(model["classes"]), list(target.classes)
    if own == theirs:
        return
    got, expected = Words(f"a model of {shown(own)}"), f"the classes of {target.name}: {shown(theirs)}"
    if len(own) != len(theirs):
        raise DataError(record, got, expected, "Numbers of classes must be equal.")
    if any(theirs.index(name) != place for place, name in enumerate(own) if name in theirs):
        remedy = "The order must be the same: list `classes` of the target in that of the model."
        raise DataError(record, got, expected, remedy)
    warn(f"{record}: the model has {shown(own)}, {target.name} has {shown(theirs)}: they are compared by their order.")


def shown(classes: Sequence[str]) -> str:
    """Write a list of classes, cut to a readable length."""
    return f"{len(classes)} classes {shorten(list(classes), SHOWN)}"


def check_definition(model: dict[str, Any], target: Task, record: TaskRecord, where: Path) -> None:
    """Raise `DataError` if a model was trained on another definition of the target itself.

    With other splits or folds, test and held-out samples would be among those that it was trained on.
    """
    recorded, configured = model.get("definition"), differences(record)
    if model["task"] == target.name and recorded not in (None, configured):
        raise DataError(
            where,
            Words(f"a model of task {target.name} with {changed(TaskRecord, recorded, configured)}"),
            f"one of {target.name} with {changed(TaskRecord, configured, recorded)}, as configured",
            "Test samples may be among those it was trained on. Train it anew, or go back to its definition.",
        )


def check_preprocessing(recipe: Pipeline, preprocessing: Preprocessing, where: Path) -> None:
    """Raise `DataError` unless tensors have the preprocessing of a model; what it is called does not matter."""
    own, theirs = (
        differences(deciding(found).model_copy(update={"id": Preprocessing.model_fields["id"].default}))
        for found in (recipe.preprocessing, preprocessing)
    )
    if own != theirs:
        raise DataError(
            where,
            Words(f"a model made for another preprocessing, {changed(Preprocessing, own, theirs)}"),
            f"one for that of the tensors, {changed(Preprocessing, theirs, own)}",
            "Set preprocessing to the model's own, or train it anew.",
        )


def changed(section: type[Section], tree: dict[str, Any], other: dict[str, Any]) -> str:
    """Write those keys of a definition in words that differ from another; what is not set has its default."""
    keys = sorted(key for key in {*tree, *other} if tree.get(key) != other.get(key))
    defaults = {name: dump(field.default) for name, field in section.model_fields.items()}
    return describe_keys({key: tree.get(key, defaults.get(key)) for key in keys})


def check_shape(model: dict[str, Any], store: TensorStore, where: Path) -> None:
    """Raise `DataError` if images are not of the size that a model was trained on, where that is recorded."""
    height, width = store.images.shape[1:3]
    size = model.get("size") or [height, width]
    if [height, width] != list(size):
        raise DataError(
            where,
            Words(f"a model of images of {size[0]} x {size[1]} pixels"),
            f"one of {height} x {width} pixels, as the target has",
            "preprocessing.size: auto is the size of each dataset: set a number, and train it anew.",
        )


def check_weights(model: dict[str, Any], weights: Path, where: Path) -> None:
    """Raise `MissingData` if the weights of a model were never stored, or were removed."""
    if model["weights"] is not None and weights.is_file():
        return
    rule = "transfer_fold" if "@" in model["pipeline"] else "train_fold"
    found = "no weights, as they were not stored" if model["weights"] is None else "nothing, as they were removed"
    remedy = "In its project set train.store_parameters: true and remove.parameters: false, and train it again with"
    raise MissingData(weights, Words(found), "the weights of a model", f"{remedy} --forcerun {rule} {where}")
