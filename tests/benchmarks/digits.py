"""The digits as the jobs make them, for benchmarks of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foldwise.config.canonical import tensor_folder
from foldwise.config.definition import Description
from foldwise.config.jobs import Origin, dataset_config, task_config, train_config
from foldwise.config.load import Library, load_config
from foldwise.config.model import Config
from foldwise.data.files import DataFiles
from foldwise.data.preprocess import preprocess_dataset
from foldwise.tasks.dataset import create_dataset
from foldwise.tasks.descriptions import DatasetFiles
from foldwise.tasks.task import create_task

ROOT = Path(__file__).resolve().parents[2]


def configure(**sections: Any) -> Config:
    """Return the default configuration with the preset `small`, and sections of the caller's."""
    tree = {"arch": "small", "tasks": ["digits"], "pivot": "digits", **sections}
    return load_config(tree, Library.read(ROOT / "config"))


def make_data(folder: Path, config: Config) -> DataFiles:
    """Make dataset, task and tensors of the digits."""
    recipe = config.pipelines["default"]
    training, dataset = train_config(config, recipe, "digits"), dataset_config(config, "digits")
    source = DatasetFiles.of(folder / "datasets/digits")
    tensors = folder / "tensors/digits" / tensor_folder(recipe.preprocessing)
    files = DataFiles.of(folder / "tasks/digits/task.json", tensors / "images.npy")
    create_dataset(dataset, Origin([], [], "stop"), Description(), 1, None, source)
    task = task_config(config, "digits")
    create_task("digits", task.task, dataset.dataset, Description(), 1, source, files.task)
    preprocess_dataset(training.tensors, dataset.dataset, 1, source.description, source.images, files.tensors)
    return files
