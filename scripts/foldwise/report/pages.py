"""The parts of mode `info`: each writes its tables, its pictures and a text for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from foldwise.artifacts import write_text
from foldwise.config.shown import SAMPLES_OF, InfoConfig
from foldwise.report.model_info import describe_models
from foldwise.report.provenance import trace
from foldwise.report.sample_info import draw_samples
from foldwise.report.study_info import describe_studies
from foldwise.report.task_info import describe_tasks

Files = Mapping[str, str]


def write_tasks(config: InfoConfig, files: Files) -> None:
    """Describe the tasks that are there; `files` holds ``table``, ``classes``, ``picture`` and ``text``."""
    paths = places(files)
    text = describe_tasks(Path(config.data), config.tasks, paths["table"], paths["classes"], paths["picture"])
    write_text(files["text"], text + "\n")


def write_samples(config: InfoConfig, files: Files) -> None:
    """Draw samples; `files` holds ``text``, ``grid`` if it is asked for, and a picture of each task."""
    paths = places(files)
    alone = {name.removeprefix(SAMPLES_OF): path for name, path in paths.items() if name.startswith(SAMPLES_OF)}
    write_text(files["text"], draw_samples(Path(config.data), config.tasks, paths.get("grid"), alone) + "\n")


def write_models(config: InfoConfig, files: Files) -> None:
    """Describe the models of a project; `files` holds ``text`` and what `describe_models` writes."""
    paths = places(files)
    text = describe_models(Path(config.project), Path(config.data), without_text(paths))
    write_text(files["text"], text + "\n")


def write_studies(config: InfoConfig, files: Files) -> None:
    """Describe studies of a project; `files` holds ``text`` and what `describe_studies` writes."""
    text = describe_studies(Path(config.project), config.studies, without_text(places(files)))
    write_text(files["text"], text + "\n")


def write_trace(config: InfoConfig, files: Files) -> None:
    """Trace an artifact; `files` holds ``table`` and ``text``."""
    text = trace(Path(str(config.artifact)), Path(config.results), Path(files["table"]))
    write_text(files["text"], text + "\n")


def places(files: Files) -> dict[str, Path]:
    """Return files as paths."""
    return {name: Path(path) for name, path in files.items()}


def without_text(paths: Mapping[str, Path]) -> dict[str, Path]:
    """Return files without the text for the terminal."""
    return {name: path for name, path in paths.items() if name != "text"}


def join_texts(files: Iterable[Path]) -> str:
    """Return the texts among files, one after another."""
    texts = [path.read_text(encoding="utf-8").strip() for path in files if path.suffix == ".txt"]
    return "\n" + "\n\n".join(text for text in texts if text) + "\n"
