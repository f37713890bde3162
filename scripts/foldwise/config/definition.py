"""What a task is, as written in the configuration, and as recorded beside its data."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from foldwise.config.names import MAX_FOLDS, NAME_PATTERN, NAME_WORDS
from foldwise.config.section import IN_ORDER, Section
from foldwise.config.sources import DatasetAddress, DatasetSource, check_source
from foldwise.errors import ConfigError, Words

FoldCount = Annotated[int, Field(ge=2, le=MAX_FOLDS)]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100), Words(NAME_WORDS)]
TaskType = Literal["classification", "multilabel", "regression", "segmentation", "unlabeled"]
Fraction = Annotated[float, Field(ge=0, lt=1)]
RawClass = str | int
Classes = list[RawClass] | dict[str, list[RawClass]]
CLASSES_WORDS = "a list of classes, a mapping of classes to lists of those that the source has, or null"
Role = Literal["image", "id", "split", "fold", "group", "class", "classes", "soft_classes", "value", "mask"]
TARGETS = {
    "classification": ("class",),
    "multilabel": ("classes", "soft_classes"),
    "regression": ("value",),
    "segmentation": ("mask",),
    "unlabeled": (),
}
LIST_ROLES = ("classes", "soft_classes")


class Description(Section):
    """What tells about images without deciding anything: a change of it reruns nothing."""

    licence: str | None = Field(None, description="Licence of the images.")
    reference: str | None = Field(None, description="Citation of the images.")
    keywords: list[str] = Field([], description="Words to find the task by.")


class Labels(Section):
    """What turns the annotations of a dataset into the samples of a task."""

    type: TaskType = Field("classification", description="Task type; `unlabeled`: images alone.")
    columns: Annotated[
        dict[Role, str | list[str]], Words(f"a mapping of roles ({', '.join(get_args(Role))}) to names of columns")
    ] = Field(
        {},
        description="Columns of the source's table by role, where they are named otherwise than the role. `classes` "
        "and `soft_classes` (multi-label) take a list of columns too, one a class.",
    )
    classes: Annotated[Classes | None, Words(CLASSES_WORDS), IN_ORDER] = Field(
        None,
        description="Classes in the order of logits; a mapping merges: `{lesion: [1, 2]}`; null: all that occur.",
    )
    test_fraction: Fraction = Field(
        0.0, description="Share of the training samples set apart as test split where the source has none."
    )


class TaskDefinition(Description, Labels, DatasetAddress, DatasetSource):
    """A dataset seen as one learning problem."""

    dataset: Name | None = Field(None, description="Dataset; default: the name of the task.")
    n_folds: FoldCount | None = Field(None, description="Number of folds; null: `create.n_folds`.")
    ensure_balancing: bool | None = Field(None, description="Balanced folds; null: `create.ensure_balancing`.")
    folds: FoldCount | None = Field(
        None,
        description="Number of folds that the source brings in a column `fold`, from 0; they are used as they are.",
    )

    @model_validator(mode="after")
    def _check_keys(self) -> TaskDefinition:
        check_source(self)
        check_columns(self)
        if self.folds and self.n_folds not in (None, self.folds):
            raise ConfigError("n_folds", self.n_folds, f"{self.folds} as in folds, or nothing")
        return self


def check_columns(labels: Labels) -> None:
    """Raise `ConfigError` if roles of columns do not fit the task type."""
    targets = {role for roles in TARGETS.values() for role in roles}
    for role, column in labels.columns.items():
        if role in targets and role not in TARGETS[labels.type]:
            expected = " or ".join(TARGETS[labels.type]) or "no column of labels"
            raise ConfigError(f"columns.{role}", column, f"{expected} for task type {labels.type}")
        if isinstance(column, list) and (role not in LIST_ROLES or not column):
            raise ConfigError(f"columns.{role}", column, "the name of one column")
    if labels.classes is not None and (labels.type in ("regression", "unlabeled") or not labels.classes):
        expected = "at least one class" if not labels.classes else f"nothing for task type {labels.type}"
        raise ConfigError("classes", labels.classes, expected)
    check_classes(labels)


def check_classes(labels: Labels) -> None:
    """Raise `ConfigError` if a class is named twice, or what the source has belongs to two classes."""
    merged = isinstance(labels.classes, dict)
    members = labels.classes.values() if isinstance(labels.classes, dict) else [labels.classes or []]
    names = [str(name) for some in members for name in some]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None and not (merged and labels.type == "multilabel"):
        raise ConfigError("classes", Words(f"{twice!r} twice"), "each in one class" if merged else "distinct classes")


class DatasetRecord(DatasetSource):
    """What identifies a dataset on disk."""

    dataset: Name
    image_column: str = Field("image", description="Column of the source's table that names the image.")
    mask_columns: list[str] = Field([], description="Columns of the source's table that name masks.")


class TaskRecord(Labels):
    """A task with everything that decides its samples, splits and folds.

    It is recorded in ``task.json`` and compared by every job that reads the task.
    """

    dataset: Name
    n_folds: FoldCount = 5
    ensure_balancing: bool = True
    given_folds: bool = False
    seed: int = 42
    tags: list[str] = Field([], description="Canonical tags, applied from left to right.")
    functions: list[str] = Field([], description="Functions of the tags `own`, in their order.")

    @field_validator("classes", mode="before")
    @classmethod
    def _read_pairs(cls, classes: Any) -> Any:
        if classes and isinstance(classes, list) and all(isinstance(item, list) for item in classes):
            return {name: members for name, members in classes}  # noqa: C416  (a pair each, or an error)
        return classes


EMBEDDED_TYPES: dict[str, dict[str, Any]] = {
    "digits": {},
    "digits_segmentation": {"type": "segmentation", "classes": ["background", "ink"]},
    "digits_multilabel": {"type": "multilabel"},
    "digits_regression": {"type": "regression"},
}
EMBEDDED_TASKS: dict[str, dict[str, Any]] = {
    name: {
        "dataset": name,
        "licence": "CC BY 4.0",
        "reference": "Alpaydin and Kaynak 1998, doi:10.24432/C50P49",
        "keywords": ["handwriting", "digits"],
        **definition,
    }
    for name, definition in EMBEDDED_TYPES.items()
}
