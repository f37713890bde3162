"""A project read in a notebook: tables of what there is, logits as arrays, trained models that predict."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from foldwise.artifacts import read_csv, read_header, read_json, reading
from foldwise.config.callbacks import TestTimeAugmentation
from foldwise.config.reuse import reporting
from foldwise.errors import NOTHING, DataError, MissingData, Words, nearest
from foldwise.npz import open_npz
from foldwise.report.inventory import (
    DATASETS,
    STUDIES,
    TASKS,
    entries,
    existing_studies,
    existing_tasks,
    folders,
    model_folders,
)
from foldwise.report.location import find_data, find_project, missing, read_config
from foldwise.report.model_info import read_models
from foldwise.report.skipped import Skipped
from foldwise.report.study_info import Study, read_trials
from foldwise.report.task_info import read_tasks
from foldwise.tasks.decode import Unreadable, load, open_image

if TYPE_CHECKING:
    import pandas as pd

    from foldwise.inference.single import TrainedModel

NO_DATA = "Give the root of the data: open_project(path, data=...)."


@dataclass(frozen=True, repr=False)
class Project:
    """What there is of a project; each call looks at the files anew.

    Parameters
    ----------
    folder : Path
        Root of its results.
    data : Path
        Root of datasets and tasks.
    """

    folder: Path
    data: Path

    @property
    def name(self) -> str:
        """What the project is called."""
        return self.folder.name

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The configuration of its last run; empty if none is kept."""
        return read_config(self.folder)

    def tasks(self) -> pd.DataFrame:
        """Return a row for each task of the project that was created.

        Returns
        -------
        DataFrame
            Columns task, dataset, type, classes (a list), train, test, unlabeled (samples), n_folds, licence.
        """
        import pandas as pd

        self.check_data()
        with told_skipped() as skipped:
            found = read_tasks(self.data, self.task_names(), skipped)
        about = ("task", "dataset", "type", "classes")
        splits = ("train", "test", "unlabeled")
        rows = [
            {
                **{key: task[key] for key in about},
                **{split: task["samples"].get(split, 0) for split in splits},
                "n_folds": task["n_folds"] or None,
                "licence": task["licence"],
            }
            for task in found
        ]
        return pd.DataFrame(rows, columns=[*about, *splits, "n_folds", "licence"]).astype({"n_folds": "Int64"})

    def samples(self, task: str) -> pd.DataFrame:
        """Return a row for each sample of a task: the columns of ``samples.csv``, and fold, empty beside training.

        Raises
        ------
        MissingData, DataError
            If there is no such task, or a file of it is damaged.
        """
        import pandas as pd

        folder = self.find_task(task)
        kinds = {name: float if name == "value" else str for name in read_header(folder / "samples.csv")}
        with reading(folder / "samples.csv", "a table of samples") as path:
            samples = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""])
        folds: dict[str, int] = {}
        if (folder / "folds.csv").is_file():
            table = read_csv(folder / "folds.csv", ("sample_id", "fold"))
            folds = dict(zip(table["sample_id"], map(int, table["fold"]), strict=True))
        return samples.assign(fold=samples["sample_id"].map(folds).astype("Int64"))

    def image(self, task: str, sample_id: str) -> Image.Image:
        """Return the image of a sample as it lies on disk.

        Raises
        ------
        MissingData, DataError
            If there is no such task or sample, or its image is missing or damaged.
        """
        folder = self.find_task(task)
        table = read_csv(folder / "samples.csv", ("sample_id", "image"))
        dataset = self.data / DATASETS / str(read_json(folder / "task.json").get("dataset"))
        name = dict(zip(*table.values(), strict=True)).get(sample_id)
        if name is None:
            got, hint = Words(f"no sample {sample_id}"), nearest(sample_id, table["sample_id"])
            raise MissingData(folder / "samples.csv", got, f"one of {len(table['image'])} samples", hint)
        paths = dict(zip(*read_csv(dataset / "images.csv", ("image", "path")).values(), strict=True))
        if name not in paths:
            raise DataError(dataset / "images.csv", Words(f"no image {name}"), f"the images of task {task}")
        try:
            with open_image(dataset / paths[name]) as image:
                load(image)
                return image
        except Unreadable as error:
            raise DataError(dataset / paths[name], Words(error.reason), "the image of a sample") from error

    def models(self) -> pd.DataFrame:
        """Return a row for each trained model.

        Returns
        -------
        DataFrame
            Columns pipeline, task, fold, score (the validation loss), epoch, a column for each validation metric,
            parameters, seconds, has_weights.
        """
        import pandas as pd

        with told_skipped() as skipped:
            found = read_models(self.folder, skipped)
        metrics = list(dict.fromkeys(name for model in found for name in model.metrics))
        rows = [
            {
                **model._asdict(),
                **{name: model.metrics.get(name) for name in metrics},
                "seconds": model.run.get("seconds"),
                "has_weights": model.size is not None,
            }
            for model in found
        ]
        columns = ["pipeline", "task", "fold", "score", "epoch", *metrics, "parameters", "seconds", "has_weights"]
        frame = pd.DataFrame(rows, columns=columns)
        numbers = dict.fromkeys(("score", *metrics, "seconds"), float)
        return frame.astype({**numbers, "epoch": "Int64", "parameters": "Int64", "has_weights": bool})

    def scores(self) -> pd.DataFrame:
        """Return a row for each test: columns pipeline, task, fold, target, a column for each test metric, samples."""
        import pandas as pd

        rows, metrics = [], dict[str, None]()
        with told_skipped() as skipped:
            for found in model_folders(self.folder, "scores"):
                for entry in entries(found.path):
                    with skipped.noting(entry.path):
                        tree = read_json(entry.path)
                        metrics |= dict.fromkeys(tree["metrics"])
                        about = {"target": tree["target"], "samples": tree["samples"]}
                        rows.append({**found._asdict(), **tree["metrics"], **about})
        columns = ["pipeline", "task", "fold", "target", *metrics, "samples"]
        return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(metrics, float))

    def curves(self, pipeline: str, task: str, fold: int) -> pd.DataFrame:
        """Return a row for each epoch of a training: losses and metrics.

        Raises
        ------
        MissingData, DataError
            If there is no such model, or its curves are damaged.
        """
        import pandas as pd

        with reading(self.find("models", pipeline, task, f"fold-{fold}") / "metrics.csv", "curves") as path:
            return pd.read_csv(path)

    def logits(
        self, pipeline: str, task: str, fold: int, target: str | None = None, calibrated: bool = False
    ) -> dict[str, np.ndarray]:
        """Return the logits of a model.

        Parameters
        ----------
        pipeline, task, fold : str, str, int
            The model.
        target : str, optional
            The task that was predicted; by default its own.
        calibrated : bool
            Return calibrated log-probabilities.

        Returns
        -------
        dict
            Read-only memory maps by name: for each split ``{split}_logits``, ``{split}_targets``, ``{split}_ids``.

        Raises
        ------
        MissingData, DataError
            If there is no such file, or it is damaged.
        """
        folder, name = (
            self.find("calibrated" if calibrated else "logits", pipeline, task, f"fold-{fold}"),
            target or task,
        )
        found = [entry.name.removesuffix(".npz") for entry in entries(folder) if entry.name.endswith(".npz")]
        if name not in found:
            raise missing(folder / f"{name}.npz", name, found, "logits")
        return dict(open_npz(folder / f"{name}.npz"))

    def ensemble(self, target: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what is told of an ensemble, its members and weights, and its logits as `logits` does.

        Raises
        ------
        MissingData, DataError
            If there is none on the target, or a file of it is damaged.
        """
        folder = self.find("ensembles", target)
        return read_json(folder / "ensemble.json"), dict(open_npz(folder / "logits.npz"))

    def studies(self) -> pd.DataFrame:
        """Return a row for each study of hyperparameters.

        Returns
        -------
        DataFrame
            Columns study, trials, complete, pruned, failed, direction, best_value, best_trial.
        """
        import pandas as pd

        states = ("complete", "pruned", "failed")
        with told_skipped() as skipped:
            found = [
                Study(name, read_trials(self.folder / STUDIES / name, skipped))
                for name in existing_studies(self.folder)
            ]
        best = [(study.best.value, study.best.number) if study.best else (None, None) for study in found]
        rows = [
            (study.name, len(study.trials), *map(study.count, states), study.direction, *result)
            for study, result in zip(found, best, strict=True)
        ]
        columns = ["study", "trials", *states, "direction", "best_value", "best_trial"]
        return pd.DataFrame(rows, columns=columns).astype({"best_value": float, "best_trial": "Int64"})

    def trials(self, study: str) -> pd.DataFrame:
        """Return a row for each trial of a study: columns trial, state, value, a column for each parameter.

        Raises
        ------
        MissingData
            If there is no such study.
        """
        import pandas as pd

        folder = self.find(STUDIES, study)
        with told_skipped() as skipped:
            found = read_trials(folder, skipped)
        keys = list(dict.fromkeys(key for trial in found for key in trial.parameters))
        rows = [(trial.number, trial.state, trial.value, *map(trial.parameters.get, keys)) for trial in found]
        return pd.DataFrame(rows, columns=["trial", "state", "value", *keys]).astype({"value": float})

    def model(self, pipeline: str, task: str, fold: int, device: str = "cpu") -> TrainedModel:
        """Load a trained model, ready to predict images of any size.

        Parameters
        ----------
        pipeline, task, fold : str, str, int
            The model; ``old~name`` is that of another project. A network of your own needs its module in the current
            directory, or installed.
        device : str
            Where it works, such as ``cuda``.

        Raises
        ------
        MissingData, DataError
            If there is no such model, its weights were not stored, or a file is damaged.
        ConfigError
            If the module of its network cannot be found.
        """
        from foldwise.inference.single import load_model

        project, _, name = pipeline.rpartition("~")
        owner = Project(self.folder.parent / project, self.data) if project else self
        return load_model(owner.find("models", name, task, f"fold-{fold}"), owner.variations(name), device)

    def variations(self, pipeline: str) -> TestTimeAugmentation:
        """Return how the project predicts with a pipeline, which no model tells, as it decides no weights."""
        name = pipeline.partition("@")[0]
        kept = self.config.get("pipelines", {}).get(name, {})
        stored = reporting(self.folder / "pipelines" / f"{name}.yaml")
        tta = kept.get("tta") or stored.get("tta") or TestTimeAugmentation()
        return TestTimeAugmentation.model_validate(tta)

    def task_names(self) -> list[str]:
        """Return the tasks that belong to the project, sorted, whether they were created or not."""
        if self.config:
            known = set(self.config.get("tasks", []))
        else:
            known = {entry.name for entry in folders(self.data / TASKS)}
        known |= {found.task for kind in ("models", "logits") for found in model_folders(self.folder, kind)}
        known |= {
            entry.name.removesuffix(".npz")
            for found in model_folders(self.folder, "logits")
            for entry in entries(found.path)
        }
        return sorted(known)

    def find(self, kind: str, *parts: str) -> Path:
        """Return a path below the results; raise `MissingData` naming what there is instead of the part missing."""
        folder = self.folder / kind
        for part in parts:
            found = [entry.name for entry in entries(folder)]
            if part not in found:
                raise missing(folder / part, part, found, f"{kind}, of which the project has none here")
            folder /= part
        return folder

    def find_task(self, task: str) -> Path:
        """Return the folder of a task; raise `MissingData` naming the tasks that there are."""
        self.check_data()
        folder = self.data / TASKS / task
        if not (folder / "task.json").is_file():
            raise missing(folder, task, [entry.name for entry in folders(self.data / TASKS)], "a task")
        return folder

    def check_data(self) -> None:
        """Raise `MissingData` if there is no root of data."""
        if not self.data.is_dir():
            raise MissingData(self.data, NOTHING, "the root of datasets and tasks", NO_DATA)

    def __repr__(self) -> str:
        tasks = len(existing_tasks(self.data, self.task_names()))
        models = sum((found.path / "model.json").is_file() for found in model_folders(self.folder))
        studies = len(existing_studies(self.folder))
        counts = [f"{count} {word}{'s' * (count != 1)}" for count, word in ((tasks, "task"), (models, "model"))]
        told = ", ".join([*counts, "1 study" if studies == 1 else f"{studies} studies"])
        return f"Project {self.name!r} in {self.folder}: {told}"


def open_project(path: str | Path, data: str | Path | None = None) -> Project:
    """Open the results of a project.

    Parameters
    ----------
    path : str or Path
        The folder of a project's results, ``results/default``; or a working directory, or a root of results, in which
        exactly one project lies.
    data : str or Path, optional
        Root of datasets and tasks; by default where the configuration kept beside the results says, else a folder
        ``data`` beside the root of results. It may be missing as long as nothing asks for it.

    Returns
    -------
    Project
        Its methods return tables, arrays and models.

    Raises
    ------
    MissingData, DataError
        If there is no project, or several.
    """
    folder = find_project(Path(os.path.abspath(Path(path).expanduser())))  # noqa: PTH100  # links stay as they are
    return Project(folder, Path(data).expanduser() if data else find_data(folder, read_config(folder)))


@contextlib.contextmanager
def told_skipped() -> Iterator[Skipped]:
    """Yield what takes note of files that cannot be read; warn of them at the end."""
    skipped = Skipped()
    yield skipped
    for line in skipped.told():
        warnings.warn(line, stacklevel=4)
