"""The pages of a report: what there is of a project, as tables and pictures that one file can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from foldwise.artifacts import read_csv, read_header, write_text
from foldwise.config.shown import InfoConfig
from foldwise.errors import FoldwiseError
from foldwise.report.html import source_page, table_page
from foldwise.report.inventory import existing_tasks
from foldwise.report.model_info import describe_models
from foldwise.report.provenance import summarise_software, summarise_times
from foldwise.report.sample_info import draw_samples
from foldwise.report.study_info import describe_studies
from foldwise.report.task_info import describe_tasks

TITLES = {
    "tasks": "1 Tasks",
    "samples": "2 Sample images",
    "training": "3 Training",
    "metrics": "4 Metrics",
    "calibration": "5 Calibration",
    "ensembles": "6 Ensembles",
    "studies": "7 Studies",
    "pipelines": "8 Pipelines",
    "runs": "9 Software and times",
}
MOST = 60  # pictures of one kind


class Page(NamedTuple):
    """A page of a report, and where it stands."""

    path: str
    category: str
    labels: dict[str, str]
    subcategory: str | None = None

    @property
    def title(self) -> str:
        """The name of its category."""
        return TITLES[self.category]


def write_pages(config: InfoConfig) -> list[Page]:
    """Write tables and pictures of what is there below ``report`` of a project; return what a report holds.

    Parameters
    ----------
    config : InfoConfig
        The project, its tasks and its studies.
    """
    project, data = Path(config.project), Path(config.data)
    folder = project / "report"
    parts = (
        task_pages(data, config, folder),
        sample_pages(data, config, folder),
        model_pages(project, data, folder),
        metric_pages(project, folder),
        picture_pages(project / "calibrated", "calibration"),
        ensemble_pages(project, folder),
        study_pages(project, config, folder),
        pipeline_pages(project, folder),
        run_pages(project, folder),
    )
    return [page for part in parts for page in part]


def task_pages(data: Path, config: InfoConfig, folder: Path) -> Iterator[Page]:
    """Yield pages of the tasks that are there."""
    if not existing_tasks(data, config.tasks):
        return
    table, classes, picture = folder / "tasks.csv", folder / "task_classes.csv", folder / "tasks.png"
    describe_tasks(data, config.tasks, table, classes, picture)
    yield Page(str(picture), "tasks", {"page": "Samples by split and class"})
    yield tabulate(table, "tasks", "All tasks")
    yield tabulate(classes, "tasks", "Samples of each class")


def sample_pages(data: Path, config: InfoConfig, folder: Path) -> Iterator[Page]:
    """Yield pages of samples."""
    tasks = existing_tasks(data, config.tasks)
    if not tasks:
        return
    grid = folder / "sample_grid.png"
    alone = {task: folder / f"sample-{task}.png" for task in tasks[:MOST]}
    draw_samples(data, config.tasks, grid, alone)
    yield Page(str(grid), "samples", {"page": "One sample of each task"})
    for task, path in alone.items():
        if path.is_file():
            yield Page(str(path), "samples", {"page": task})


def model_pages(project: Path, data: Path, folder: Path) -> Iterator[Page]:
    """Yield pages of models: their table, scores, curves, and what their logits tell."""
    if not (project / "models").is_dir():
        return
    names = ("models", "curves", "reliability", "confusion")
    tables = {name: folder / f"{name}.csv" for name in names}
    pictures = {f"{name}_png": folder / f"{name}.png" for name in names}
    describe_models(project, data, {**tables, **pictures})
    yield Page(str(pictures["curves_png"]), "training", {"page": "Learning curves"})
    yield Page(str(pictures["models_png"]), "training", {"page": "Scores of models"})
    yield tabulate(tables["models"], "training", "All models")
    if (project / "logits").is_dir():
        yield Page(str(pictures["confusion_png"]), "metrics", {"page": "Confusion matrices"})
        yield Page(str(pictures["reliability_png"]), "calibration", {"page": "Reliability of all pipelines"})


def metric_pages(project: Path, folder: Path) -> Iterator[Page]:
    """Yield tables of metrics over folds."""
    for name, title in (("validation", "Validation"), ("transfer", "Validation after transfer"), ("test", "Test")):
        table = project / "tables" / f"{name}.csv"
        if table.is_file():
            yield tabulate(table, "metrics", title, folder)


def picture_pages(root: Path, category: str) -> Iterator[Page]:
    """Yield the first pictures that lie below a folder, each under its place there."""
    for path in sorted(root.rglob("*.png"))[:MOST]:
        yield Page(str(path), category, {"page": f"{path.parent.relative_to(root)}: {path.stem}"})


def ensemble_pages(project: Path, folder: Path) -> Iterator[Page]:
    """Yield pages of ensembles: pictures, and what they are made of."""
    yield from picture_pages(project / "ensembles", "ensembles")
    for path in sorted((project / "ensembles").glob("*/*.json"))[:MOST]:
        yield show(path, folder / "ensembles" / path.parent.name, "ensembles", f"{path.parent.name}: {path.name}")


def study_pages(project: Path, config: InfoConfig, folder: Path) -> Iterator[Page]:
    """Yield pages of studies: history, importance of parameters, trials, blueprints."""
    if not config.studies:
        return
    tables = {name: folder / f"{name}.csv" for name in ("studies", "trials", "importance")}
    kinds = ("history", "importance")
    pictures = {f"{study}.{kind}": folder / f"{kind}-{study}.png" for study in config.studies for kind in kinds}
    describe_studies(project, config.studies, {**tables, **pictures})
    yield tabulate(tables["studies"], "studies", "All studies")
    for name, path in pictures.items():
        study, _, kind = name.rpartition(".")
        yield Page(str(path), "studies", {"page": f"{study}: {kind}"})
    yield tabulate(tables["trials"], "studies", "All trials")
    for study in config.studies:
        blueprint = project / "studies" / study / "blueprint.yaml"
        if blueprint.is_file():
            yield show(blueprint, folder / "studies" / study, "studies", f"{study}: blueprint")


def pipeline_pages(project: Path, folder: Path) -> Iterator[Page]:
    """Yield pipelines as they were used, and the whole configuration."""
    for path in sorted((project / "pipelines").glob("*.yaml"))[:MOST]:
        yield show(path, folder / "pipelines", "pipelines", path.stem)
    if (project / "config.yaml").is_file():
        yield show(project / "config.yaml", folder, "pipelines", "The whole configuration")


def run_pages(project: Path, folder: Path) -> Iterator[Page]:
    """Yield tables of software versions and run times."""
    if not (project / "provenance").is_dir():
        return
    software, times = folder / "software.csv", folder / "times.csv"
    summarise_software(project, software)
    summarise_times(project, times)
    yield tabulate(software, "runs", "Versions of software")
    yield tabulate(times, "runs", "Run times by rule")


def tabulate(table: Path, category: str, title: str, folder: Path | None = None) -> Page:
    """Write a table as a page, beside it or into a folder."""
    page = (folder or table.parent) / f"{table.stem}.html"
    columns = read_header(table)
    write_text(page, table_page(title, columns, rows_of(table, columns)))
    return Page(str(page), category, {"page": title})


def rows_of(table: Path, columns: list[str]) -> list[list[str]]:
    """Return the rows of a table; none of one that cannot be read."""
    try:
        found: Mapping[str, list[str]] = read_csv(table, columns)
    except FoldwiseError:
        return []
    return [list(row) for row in zip(*found.values(), strict=True)]


def show(path: Path, folder: Path, category: str, title: str) -> Page:
    """Write a text file as a page."""
    page = folder / f"{path.name}.html"
    write_text(page, source_page(title, path.read_text(encoding="utf-8", errors="replace")))
    return Page(str(page), category, {"page": title})
