"""The sections of the modes that take care of what lies on disk, and what their jobs need to know."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from foldwise.config.section import Section


class Clean(Section):
    """Leftovers are deleted: temporary files, states of killed runs, archives."""

    subroutines: list[Literal["temp", "download"]] = Field(
        ["temp", "download"],
        min_length=1,
        description="`temp`: temporary files, downloads that broke off, states of killed trainings, weights with "
        "`remove.parameters`; `download`: archives of the datasets.",
    )
    all: bool = Field(False, description="Of everything below the roots, not of the tasks in `tasks` alone.")
    force: bool = Field(False, description="Delete without asking.")


class CleanConfig(Section):
    """What mode clean deletes.

    Parameters
    ----------
    data, project : str
        Roots of shared data and of the project.
    tasks, datasets : list of str
        Whose leftovers are deleted, unless `all`.
    parameters : bool
        Whether weights of models are leftovers.
    """

    data: str
    project: str
    tasks: list[str]
    datasets: list[str]
    subroutines: list[str] = Field(["temp", "download"])
    all: bool = False
    force: bool = False
    parameters: bool = False
