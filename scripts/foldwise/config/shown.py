"""What mode `info` shows: which tasks and studies, and the files of each part."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from foldwise.config.info import Info
from foldwise.config.model import Config, canonical_name, pivot_task, tagged_tasks
from foldwise.config.section import Section

SAMPLES_OF = "samples_of_"  # before the name of a task, in the name of its picture
FILES = {
    "tasks": {"table": "tasks.csv", "classes": "task_classes.csv", "picture": "tasks.png"},
    "models": {
        "models": "models.csv",
        "models_png": "models.png",
        "curves": "learning_curves.csv",
        "curves_png": "learning_curves.png",
        "reliability": "reliability.csv",
        "reliability_png": "reliability.png",
        "confusion": "confusion.csv",
        "confusion_png": "confusion.png",
    },
    "hpo": {"studies": "studies.csv", "trials": "hpo.csv", "importance": "importance.csv"},
    "artifact": {"table": "provenance.csv"},
}


class InfoConfig(Section):
    """What a part of mode info looks at.

    Parameters
    ----------
    project, data, results : str
        Roots of the project, of shared data, of the results of all projects.
    tasks, studies : list of str
        What is shown, by name.
    artifact : str, optional
        The file that is traced.
    """

    project: str
    data: str
    results: str
    tasks: list[str] = Field([])
    studies: list[str] = Field([])
    artifact: str | None = None


def shown_tasks(config: Config) -> list[str]:
    """Return the tasks that mode info shows: all of the project with their tags, and the pivot."""
    pivot = [canonical_name(config, pivot_task(config), "pivot")] if config.pivot else []
    return list(dict.fromkeys([*tagged_tasks(config), *pivot]))


def part_files(part: str, section: Info, tasks: Iterable[str], studies: Iterable[str]) -> dict[str, str]:
    """Return the names of the files that a part of mode info writes, by what they are.

    Parameters
    ----------
    part : str
        A part of `Info.subroutines`, or ``artifact``.
    section : Info
        Which pictures of samples are asked for.
    tasks, studies : iterable of str
        Tasks that are there, and studies that are shown.
    """
    text = {"text": f"{part}.txt"}
    if part == "samples":
        grid = {"grid": "sample_grid.png"} if section.draws("info_grid") else {}
        alone = tasks if section.draws("info_individual") else ()
        return {**text, **grid, **{f"{SAMPLES_OF}{task}": f"sample-{task}.png" for task in alone}}
    if part == "hpo":
        kinds = ("history", "importance")
        pictures = {f"{study}.{kind}": f"{kind}-{study}.png" for study in studies for kind in kinds}
        return {**text, **FILES["hpo"], **pictures}
    return {**text, **FILES[part]}


def shown_studies(asked: str | None, known: Iterable[str]) -> tuple[list[str], str]:
    """Return the studies that are shown, and a warning if it is not the one that is asked for."""
    known = list(known)
    listed = ", ".join(known) or "none"
    if asked is None:
        return known, f"info.study_name: no study is named; these are known: {listed}." if known else ""
    if asked in known:
        return [asked], ""
    return [], f"info.study_name: got {asked!r}, which is no study of the project; these are known: {listed}."


def info_config(config: Config, part: str, project: str, data: str, studies: Iterable[str]) -> InfoConfig:
    """Return what a part of mode info looks at, in the roots of a project."""
    return InfoConfig(
        project=project,
        data=data,
        results=config.results_dir,
        tasks=shown_tasks(config) if part in ("tasks", "samples", "report") else [],
        studies=list(studies) if part in ("hpo", "report") else [],
        artifact=config.info.artifact if part == "artifact" else None,
    )
