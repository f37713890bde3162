"""What the modes that take care of what lies on disk work on."""

from __future__ import annotations

from foldwise.config.jobs import dataset_of
from foldwise.config.maintenance import CleanConfig
from foldwise.config.model import Config
from foldwise.config.selection import base_tasks


def clean_config(config: Config, project: str, data: str) -> CleanConfig:
    """Return what mode clean deletes, in the roots of a project."""
    tasks = base_tasks(config)
    return CleanConfig(
        data=data,
        project=project,
        tasks=tasks,
        datasets=sorted({dataset_of(config, task) for task in tasks}),
        subroutines=list(config.clean.subroutines),
        all=config.clean.all,
        force=config.clean.force,
        parameters=config.remove.parameters,
    )
