"""The sections of the modes: what the user asks for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foldwise.config.definition import FoldCount, Name
from foldwise.config.section import Section
from foldwise.errors import Words

CreatePart = Literal["dataset", "task"]
TrainPart = Literal["train", "predict", "test"]


class Create(Section):
    """Datasets and tasks, with their splits and folds."""

    subroutines: list[CreatePart] = Field(
        ["dataset", "task"], min_length=1, description="`dataset` fetches images, `task` makes samples and folds."
    )
    n_folds: FoldCount = Field(5, description="Number of folds, unless the task definition says otherwise.")
    ensure_balancing: bool = Field(True, description="Each fold mirrors the class distribution (classification).")
    seed: int = Field(42, description="Seed of splits and folds.")
    check: Literal["full", "none"] = Field(
        "full", description="`full`: every image and mask is opened; `none`: the source is trusted."
    )
    on_error: Literal["stop", "skip"] = Field(
        "stop", description="What happens with images that cannot be read, unless the definition says otherwise."
    )


class Preprocess(Section):
    """Tensors; the mode has no options of its own, see `preprocessing`."""


class Train(Section):
    """Models: one for each pipeline and fold."""

    subroutines: list[TrainPart] = Field(
        ["train"], min_length=1, description="Which of the modes `train`, `predict`, `test` to run."
    )
    cv: bool = Field(True, description="One model a fold; false: fold 0 only.")
    nested: bool = Field(
        True, description="For each outer fold k, train on the variant `PIVOT+nested-k`; the test split stays unseen."
    )
    inner_folds: Literal["first", "all"] = Field("first", description="Inner folds that are trained when nested.")
    store_parameters: bool = Field(True, description="Keep the weights of trained models.")
    store_best: bool | None = Field(None, description="Replaces `mode.store_best` of every pipeline if set.")
    pipelines: list[Name] | None = Field(None, description="Pipelines to use; null: all.")


class TrainOverrides(Section):
    """The keys of `train`, for this mode; what is not set is taken from `train`."""

    cv: bool | None = Field(None, description="As `train.cv`.")
    nested: bool | None = Field(None, description="As `train.nested`.")
    inner_folds: Literal["first", "all"] | None = Field(None, description="As `train.inner_folds`.")
    store_parameters: bool | None = Field(None, description="As `train.store_parameters`.")
    store_best: bool | None = Field(None, description="As `train.store_best`.")
    pipelines: list[Name] | None = Field(None, description="As `train.pipelines`.")


class Predict(TrainOverrides):
    """Logits of val, test and unlabeled for every trained fold."""

    subroutines: list[Literal["predict", "test"]] = Field(
        ["predict"], min_length=1, description="Which of the modes `predict`, `test` to run."
    )


class Test(TrainOverrides):
    """Test metrics of every trained fold."""

    subroutines: list[Literal["predict", "test"]] = Field(
        ["test"], min_length=1, description="Which of the modes `predict`, `test` to run."
    )


class Pivot(Section):
    """The task a mode works on."""

    name: Name = Field(description="A task of `tasks`.")
    tags: Annotated[str, Words("tags, each after a `+`")] = Field(
        "", pattern=r"^(\+[A-Za-z0-9._-]+)*$", description="Tags that change the pivot: `+nested-0`."
    )

    @property
    def task(self) -> str:
        """The task or variant that the pivot is."""
        return self.name + self.tags


Tags = Annotated[str, Field(pattern=r"^(\+[A-Za-z0-9._-]+)*$"), Words("tags, each after a `+`")]


class Tagging(Section):
    """Which variants of the tasks are meant, in all modes at once."""

    all: Tags = Field("", description="Tags that are appended to every task and to the pivot: `+subset-0.5`.")
    variants: list[Tags] = Field(
        [],
        description="Tags that multiply the list of tasks: each task with each of them; `+identity` keeps it as it is.",
    )


Seed = Annotated[int, Field(ge=0, lt=2**32)]
