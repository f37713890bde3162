"""What models there are: tables and pictures of their scores, of how they learned, of their logits."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from foldwise.artifacts import read_json, write_csv
from foldwise.errors import Words, shorten
from foldwise.report.curves import report_curves
from foldwise.report.inventory import ModelFolder, entries, model_folders, without_nested
from foldwise.report.logit_info import report_logits
from foldwise.report.score_charts import Scores, draw_scores
from foldwise.report.skipped import Skipped
from foldwise.report.tables import lay_out, printable, short_names

HEAD = ("pipeline", "task", "fold", "type", "score", "epoch")
TAIL = (
    *("parameters", "seconds", "size_mb", "has_weights", "has_logits", "has_scores", "finished", "version", "commit"),
)
LINES = 50
NAMES = 44  # letters of a name on a terminal
NONE_YET = "No model has been trained yet"


class Model(NamedTuple):
    """A model as its folder and its neighbours tell it; None where they do not.

    Parameters
    ----------
    pipeline, task, fold : str, str, int
        As in its path.
    kind : str
        Task type.
    score : float or None
        Validation loss.
    epoch : int or None
        The epoch that is kept.
    metrics : mapping
        Of validation.
    parameters : int or None
        How many were learned.
    size : int or None
        Bytes of the weights; None if they are not stored.
    run : mapping
        What is told of ``run.json``: seconds, finished, version, commit.
    logits : sequence of str
        Targets that were predicted.
    scored : bool
        Whether there are test scores.
    folder : Path
        Where it is.
    """

    pipeline: str
    task: str
    fold: int
    kind: str
    score: float | None
    epoch: int | None
    metrics: Mapping[str, float | None]
    parameters: int | None
    size: int | None
    run: Mapping[str, Any]
    logits: Sequence[str]
    scored: bool
    folder: Path

    @property
    def group(self) -> tuple[str, str]:
        """Pipeline and task without nested tags."""
        return self.pipeline, without_nested(self.task)


def describe_models(project: Path, data: Path, outputs: Mapping[str, Path]) -> str:
    """Write what is known of the models of a project.

    Parameters
    ----------
    project, data : Path
        Root of the results of a project, and of shared data.
    outputs : mapping of str to Path
        The files to write: ``models`` and ``models_png``, a row and a dot a model; ``curves`` and ``curves_png``, its
        epochs; ``reliability``, ``reliability_png``, ``confusion``, ``confusion_png``, what its test logits show.

    Returns
    -------
    str
        A table for a terminal, a line for each pipeline and task, 50 at most.
    """
    skipped = Skipped()
    models = read_models(project, skipped)
    write_models(outputs["models"], models)
    groups = group_models(models)
    scores = [Scores(*group, [(model.fold, model.score) for model in found]) for group, found in groups.items()]
    draw_scores(outputs["models_png"], scores, NONE_YET)
    notes = [
        *report_curves(groups, outputs["curves"], outputs["curves_png"], skipped),
        *report_logits(project, data, outputs, skipped),
    ]
    return "\n\n".join([tell_models(groups), *notes, *skipped.told()])


def read_models(project: Path, skipped: Skipped) -> list[Model]:
    """Read all models of a project, without those that are damaged; folders of trainings under way are none."""
    found = []
    for folder in model_folders(project):
        names = {entry.name: entry for entry in entries(folder.path)}
        path = folder.path / "model.json"
        if path.name in names:
            with skipped.noting(path):
                run = read_run(folder.path / "run.json", skipped) if "run.json" in names else {}
                weights = names.get("model.safetensors")
                size = weights.stat().st_size if weights else None
                found.append(read_model(project, folder, read_json(path), size, run))
    return found


def read_model(
    project: Path, folder: ModelFolder, tree: Mapping[str, Any], size: int | None, run: Mapping[str, Any]
) -> Model:
    """Return a model; raises what a file leads to that describes none."""
    place = Path(folder.pipeline, folder.task, folder.path.name)
    logits = [entry.name.removesuffix(".npz") for entry in entries(project / "logits" / place)]
    scored = any(entry.name.endswith(".json") for entry in entries(project / "scores" / place))
    metrics = {str(name): finite(value) for name, value in tree["metrics"].items()}
    return Model(
        *folder[:3],
        str(tree["type"]),
        finite(tree["score"]),
        tree.get("epoch"),
        metrics,
        tree.get("parameters"),
        size,
        run,
        logits,
        scored,
        folder.path,
    )


def read_run(path: Path, skipped: Skipped) -> dict[str, Any]:
    """Return what a table tells of how a training ran."""
    with skipped.noting(path):
        tree = read_json(path)
        return {
            "seconds": finite(tree.get("seconds")),
            "finished": tree.get("finished"),
            "version": tree["versions"].get("foldwise"),
            "commit": (tree.get("git") or {}).get("commit"),
        }
    return {}


def finite(value: Any) -> float | None:
    """Return a number, or None where it is none."""
    return None if value is None or not math.isfinite(float(value)) else float(value)


def write_models(table: Path, models: Sequence[Model]) -> None:
    """Write a row a model; metrics are columns, empty where a model has none of that name."""
    metrics = list(dict.fromkeys(name for model in models for name in model.metrics))
    write_csv(table, [*HEAD, *metrics, *TAIL], (row_of(model, metrics) for model in models))


def row_of(model: Model, metrics: Sequence[str]) -> list[Any]:
    """Return the row of a model."""
    size = "" if model.size is None else round(model.size / 1e6, 3)
    has = [yes(model.size is not None), ";".join(model.logits), yes(model.scored)]
    run = [model.run.get(key) for key in ("finished", "version", "commit")]
    measured = [model.metrics.get(name) for name in metrics]
    return [*model[:6], *measured, model.parameters, model.run.get("seconds"), size, *has, *run]


def yes(value: bool) -> str:
    """Write whether something is there."""
    return "yes" if value else "no"


def group_models(models: Iterable[Model]) -> dict[tuple[str, str], list[Model]]:
    """Return models by pipeline and task without nested tags."""
    groups: dict[tuple[str, str], list[Model]] = {}
    for model in models:
        groups.setdefault(model.group, []).append(model)
    return groups


def tell_models(groups: Mapping[tuple[str, str], Sequence[Model]]) -> str:
    """Lay out a line for each pipeline and task."""
    if not groups:
        return f"{NONE_YET}."
    lines: list[tuple[str, ...]] = [
        ("pipeline", "task", "models", "validation loss", "metric", "training", "MB", "no weights", "no logits")
    ]
    lines += [line_of(group, models) for group, models in list(groups.items())[:LINES]]
    columns = [[shorten(Words(printable(cell)), NAMES) for cell in column] for column in zip(*lines, strict=True)]
    more = [f"and {len(groups) - LINES} more, see the table"] if len(groups) > LINES else []
    return "\n".join([lay_out(columns), *more])


def line_of(group: tuple[str, str], models: Sequence[Model]) -> tuple[str, ...]:
    """Return the cells of a pipeline and task."""
    metric = next(iter(models[0].metrics), None)
    values = [value for model in models if metric and (value := model.metrics.get(metric)) is not None]
    measured = f"{short_names([metric])[0]} {statistics.fmean(values):.4f}" if metric and values else "-"
    seconds = sum(model.run.get("seconds") or 0.0 for model in models)
    size = sum(model.size or 0 for model in models)
    without = [sum(model.size is None for model in models), sum(not model.logits for model in models)]
    scores = mean_words([model.score for model in models if model.score is not None])
    return (*group, str(len(models)), scores, measured, duration(seconds), f"{size / 1e6:,.1f}", *map(str, without))


def mean_words(values: Sequence[float]) -> str:
    """Write mean and sample standard deviation."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"


def duration(seconds: float) -> str:
    """Write a time: ``17 s``, ``3 min 05 s`` or ``12 h 40 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"
