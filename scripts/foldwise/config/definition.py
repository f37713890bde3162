"""What a task is, as written in the configuration, and as recorded beside its data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foldwise.config.names import MAX_FOLDS, NAME_PATTERN, NAME_WORDS
from foldwise.config.section import Section
from foldwise.errors import Words

FoldCount = Annotated[int, Field(ge=2, le=MAX_FOLDS)]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100), Words(NAME_WORDS)]


class DatasetSource(Section):
    """Where the images of a dataset come from."""

    source: Literal["embedded"] = Field(
        "embedded", description="Kind of source; `embedded`: the handwritten digits that come with scikit-learn."
    )


class Description(Section):
    """What tells about images without deciding anything: a change of it reruns nothing."""

    licence: str | None = Field(None, description="Licence of the images.")
    reference: str | None = Field(None, description="Citation of the images.")
    keywords: list[str] = Field([], description="Words to find the task by.")


class TaskDefinition(DatasetSource, Description):
    """A dataset seen as one learning problem."""

    dataset: Name | None = Field(None, description="Dataset; default: the name of the task.")
    type: Literal["classification"] = Field("classification", description="Task type.")
    n_folds: FoldCount | None = Field(None, description="Number of folds; null: `create.n_folds`.")
    ensure_balancing: bool | None = Field(None, description="Balanced folds; null: `create.ensure_balancing`.")


class DatasetRecord(DatasetSource):
    """What identifies a dataset on disk."""

    dataset: Name


class TaskRecord(Section):
    """A task with everything that decides its samples, splits and folds.

    It is recorded in ``task.json`` and compared by every job that reads the task.
    """

    dataset: Name
    type: Literal["classification"] = "classification"
    n_folds: FoldCount = 5
    ensure_balancing: bool = True
    seed: int = 42
    tags: list[str] = Field([], description="Canonical tags, applied from left to right.")


class TensorRecord(Section):
    """Tensors of a dataset in one preprocessing; recorded in ``manifest.json``."""

    dataset: Name
    size: Literal["auto"] | int = "auto"


EMBEDDED_TASKS: dict[str, TaskDefinition] = {
    "digits": TaskDefinition(
        dataset="digits",
        licence="CC BY 4.0",
        reference="Alpaydin and Kaynak 1998, doi:10.24432/C50P49",
        keywords=["handwriting", "digits"],
    )
}
EMBEDDED_DATASETS = tuple(dict.fromkeys(d.dataset or name for name, d in EMBEDDED_TASKS.items()))
