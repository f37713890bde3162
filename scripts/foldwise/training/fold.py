"""Train one model: one pipeline on one fold of a task."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from foldwise.artifacts import FORMAT_VERSION, write_csv, write_json
from foldwise.config.canonical import canonical_json, component, differences, tensor_folder
from foldwise.config.definition import TaskRecord
from foldwise.config.jobs import TrainConfig, TransferConfig
from foldwise.config.pipeline import Pipeline
from foldwise.config.preprocessing import TensorRecord
from foldwise.data.files import Data, DataFiles, open_data
from foldwise.errors import ConfigError, DataError, Words, shorten
from foldwise.functions import module_file
from foldwise.inference.metrics import finite_or_none
from foldwise.job import StopRequest, hold_stops
from foldwise.models.network import count_parameters
from foldwise.models.weights import write_weights
from foldwise.training.fit import Fitted, Run, fit
from foldwise.training.module import FoldModule
from foldwise.training.state import digest_of, discard_state
from foldwise.training.transfer import Source, choose_source
from foldwise.training.tuning import Tuned, forget, tune


class ModelFiles(NamedTuple):
    """What training writes; `weights` is None if they are not stored, `state` None if nothing is to be resumed."""

    record: Path
    curves: Path
    weights: Path | None
    state: Path | None = None

    @classmethod
    def of(cls, record: Path, weights: str | None) -> ModelFiles:
        """Return the files beside a record; the state lies under ``checkpoints`` where models lie under ``models``."""
        state = record.parents[4].joinpath("checkpoints", *record.parent.parts[-3:])
        return cls(record, record.with_name("metrics.csv"), Path(weights) if weights else None, state)


class Trained(NamedTuple):
    """The content of ``model.json``, and what differs from run to run."""

    record: dict[str, Any]
    device_stats: list[dict[str, float]] | None


def train_fold(
    config: TrainConfig,
    pipeline_name: str,
    fold: int,
    data: Sequence[DataFiles],
    files: ModelFiles,
    revision: int,
    run: Run | None = None,
    models: Sequence[Path] = (),
) -> Trained:
    """Train a model that validates on one fold and learns from the others.

    Parameters
    ----------
    config : TrainConfig
        Seed, pipeline and definitions of the data; that of a transfer names the task that models start from.
    pipeline_name : str
        Name of the pipeline, in full form.
    fold : int
        The held-out fold.
    data : sequence of DataFiles
        What to read of the pivot and of its co-tasks.
    files : ModelFiles
        What to write.
    revision : int
        Revision of the code.
    run : Run
        Progress, resources, saved states.
    models : sequence of Path
        ``model.json`` of the models that a transfer may start from, ``model.safetensors`` beside each.

    Raises
    ------
    MissingData, DataError
        If data is missing, damaged or made for another definition, or a loss is not finite.
    ConfigError
        If the pipeline cannot serve a task type or the size of the images, or the memory of the device is too small.
    Stopped
        If the job was asked to end; the state is saved before.
    """
    opened, source = open_parts(config, data), None
    if isinstance(config, TransferConfig):
        source = choose_source(config.source, models, config.pipeline, config.seed)
    key = state_key(config, data, revision, source)
    return train_model(config, pipeline_name, fold, opened, files, revision, run, key, source)


def definitions(config: TrainConfig) -> list[tuple[TaskRecord, TensorRecord]]:
    """Return the definitions of the data of the pivot and of its co-tasks."""
    return [(config.task, config.tensors), *((task.task, task.tensors) for task in config.co_tasks)]


def open_parts(config: TrainConfig, data: Sequence[DataFiles]) -> list[Data]:
    """Read the tasks of a training and open their tensors; see `open_data` for what may be wrong."""
    workers = torch.get_num_threads()
    return [open_data(one, *record, workers) for one, record in zip(data, definitions(config), strict=True)]


def state_key(config: TrainConfig, data: Sequence[DataFiles], revision: int, source: Source | None = None) -> str:
    """Return what tells whether a saved state belongs to a training: all that decides its weights, but the fold."""
    read = [path for one, (task, _) in zip(data, definitions(config), strict=True) for path in one.deciding(task)]
    read += [*own_files(config.pipeline), *([source.path] if source else [])]
    return digest_of(canonical_json(component(config)), revision, read)


def own_files(pipeline: Pipeline) -> list[Path]:
    """Return the files of the user's own that decide weights: pretrained weights, and code."""
    names = [pipeline.arch.source, pipeline.loss.name, *(one.name for one in pipeline.augmentations.operations)]
    code = [module_file(name) for name in names if ":" in name]
    weights = [Path(pipeline.arch.weights)] if pipeline.arch.weights else []
    return [path for path in (*code, *weights) if path is not None]


def train_model(
    config: TrainConfig,
    pipeline_name: str,
    fold: int,
    data: Sequence[Data],
    files: ModelFiles,
    revision: int,
    run: Run | None = None,
    key: str = "",
    source: Source | None = None,
) -> Trained:
    """Train on data that has been read, and write the model; see `train_fold`.

    `key` tells whether a saved state belongs to this training; `source` is the model to start from.
    """
    run = replace(run or Run(), state=files.state)
    fitted, tuned = fit_fold(config, data, fold, run, key, source)
    record = write_model(config, pipeline_name, fold, data, files, revision, fitted, source, tuned)
    return Trained(record, fitted.device_stats)


def fit_fold(
    config: TrainConfig, data: Sequence[Data], fold: int, run: Run, key: str, source: Source | None = None
) -> tuple[Fitted, Tuned]:
    """Train on data that has been read, and write nothing but the state in `run.state`; see `train_model`."""
    with stops_held(run.state) as stop:
        run = replace(run, stop=stop)
        with failures_told(config):
            tuned = tune(config, data, fold, run, key, source)
        final = tuned.apply(config)
        with failures_told(final):
            return fit(final, data, fold, run, key, source), tuned


def stops_held(state: Path | None) -> AbstractContextManager[StopRequest]:
    """Hold signals to end the job while a training runs whose state can be saved."""
    return nullcontext(StopRequest()) if state is None else hold_stops()


def finish(files: ModelFiles) -> None:
    """Remove the state of a training: the last step of its job, when all else has been written."""
    if files.state is not None:
        forget(files.state)
        discard_state(files.state)


def write_model(
    config: TrainConfig,
    pipeline_name: str,
    fold: int,
    data: Sequence[Data],
    files: ModelFiles,
    revision: int,
    fitted: Fitted,
    source: Source | None,
    tuned: Tuned,
) -> dict[str, Any]:
    """Write weights, curves and the record of a model; return the record."""
    module, keep = fitted.module, fitted.keep
    pivot, store = data[0]
    normalization = {"mean": module.pivot.normalize.mean, "std": module.pivot.normalize.std}
    metadata = {key: json.dumps(value) for key, value in normalization.items()}
    weights = write_weights(files.weights, keep.weights, metadata) if files.weights else None
    columns = list(dict.fromkeys(column for row in module.curves for column in row))
    write_csv(files.curves, columns, ([row[column] for column in columns] for row in module.curves))
    best, scale = fitted.kept, module.pivot.objective.scale
    record = {
        "format_version": FORMAT_VERSION,
        "pipeline": pipeline_name,
        "task": pivot.name,
        "type": pivot.type,
        "fold": fold,
        "score": best["val_loss"],
        "epoch": keep.epoch,
        "metrics": finite_or_none({key: best[key] for key in module.pivot.objective.metrics}),
        "classes": list(pivot.classes),
        **({"target": scale._asdict()} if scale else {}),
        **({"co_tasks": co_task_records(module, best)} if len(data) > 1 else {}),
        **({"source": source.describe()} if source else {}),
        **({"tuned": tuned._asdict()} if any(tuned) else {}),
        "parameters": count_parameters(module.network),
        "channels": int(store.images.shape[3]),
        "size": list(store.images.shape[1:3]),
        "normalization": normalization,
        "preprocessing": tensor_folder(config.pipeline.preprocessing),
        "seed": config.seed,
        "recipe": config.pipeline.model_dump(mode="json"),
        "definition": differences(config.task),
        "revision": revision,
        "weights": weights,
    }
    write_json(files.record, record)
    return record


def co_task_records(module: FoldModule, best: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return what ``model.json`` tells of each co-task at the epoch that is kept."""
    records = []
    for task in module.tasks[1:]:
        objective = task.objective
        records.append(
            {
                "task": task.name,
                "type": objective.kind,
                "classes": list(objective.classes),
                "score": best[f"{task.name}/val_loss"],
                "metrics": finite_or_none({key: best[f"{task.name}/{key}"] for key in objective.metrics}),
                **({"target": objective.scale._asdict()} if objective.scale else {}),
            }
        )
    return records


@contextmanager
def failures_told(config: TrainConfig) -> Iterator[None]:
    """Turn the end of a device's memory, and batches too small for batch normalisation, into advice on their size."""
    size = config.pipeline.sampling.batch_size
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        expected = f"fewer samples, as the memory of the device is used up ({shorten(first_line(error))})"
        raise ConfigError("sampling.batch_size", size, expected, smaller(config.pipeline)) from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        remedy = "Raise sampling.batch_size, or give the task more training samples."
        raise DataError("training", Words("a batch of one image"), "more, for batch normalisation", remedy) from error


def smaller(pipeline: Pipeline) -> str:
    """Return what to do if batches do not fit the memory of a device."""
    size = pipeline.sampling.batch_size
    if size == 1:
        return "Use smaller images or another network."
    return f"Try {size // 2}, {'with tune.bs: false' if pipeline.tune.bs else 'or let tune.bs: true find one'}."


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error is that of a full device, or of full memory."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without the place in torch's code that it may begin with."""
    return re.sub(r"^\[enforce fail [^]]*\] \w+ == \w+\. ", "", str(error).partition("\n")[0]) or type(error).__name__
