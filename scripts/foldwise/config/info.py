"""The section of mode `info`, and what its jobs need to know."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from foldwise.config.definition import Name
from foldwise.config.section import Section, read_scalar

Part = Literal["tasks", "hpo", "samples", "models"]
OTHER_NAMES = {"sample_grid": "samples"}


def read_parts(value: Any) -> Any:
    """Let parts be named otherwise."""
    if isinstance(value, str):
        value = read_scalar(value, Any)
        value = [value] if isinstance(value, str) else value
    return [OTHER_NAMES.get(part, part) for part in value] if isinstance(value, list) else value


class Info(Section):
    """Tables and pictures of what is there: tasks, samples, models, studies."""

    subroutines: Annotated[list[Part], BeforeValidator(read_parts)] = Field(
        ["tasks", "hpo", "samples", "models"],
        min_length=1,
        description="What is shown: `tasks`, `hpo` (studies), `samples` (or `sample_grid`), `models`.",
    )
    study_name: Name | None = Field(None, description="The study that `hpo` shows; null: all of the project.")
    info_grid: bool = Field(
        True, description="Draw a sample of each task into one picture; with `tasks` alone only if it is set."
    )
    info_individual: bool = Field(
        True, description="Draw samples of each task into a picture of its own; with `tasks` alone only if it is set."
    )
    artifact: str | None = Field(
        None, description="A file of results or data: show which settings, data, code and command made it."
    )

    def draws(self, key: str) -> bool:
        """Tell whether a picture of samples is asked for, by the key that does."""
        if "samples" in self.subroutines:
            return bool(getattr(self, key))
        return "tasks" in self.subroutines and key in self.model_fields_set and bool(getattr(self, key))
