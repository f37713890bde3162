"""Small tasks of every type in memory, of 8-pixel images that tell what is to be learned."""

import csv
import gc
import multiprocessing
import os
import resource
import sys
from multiprocessing import forkserver
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file

from foldwise.artifacts import read_json
from foldwise.config.definition import TaskRecord
from foldwise.config.jobs import CoTask, SourceConfig, TrainConfig, TransferConfig
from foldwise.config.pipeline import Pipeline
from foldwise.config.preprocessing import TensorRecord
from foldwise.data.files import Data
from foldwise.data.tensors import TensorStore
from foldwise.tasks.task import Task
from foldwise.training.fit import Run
from foldwise.training.fold import ModelFiles, finish, train_model

SIZE, SAMPLES, FOLDS = 8, 120, 4
HUNGRY = """
from torch import nn

class Hungry(nn.Sequential):
    def forward(self, images):
        copies = self.copies if self.training else 3
        return super().forward(images.repeat(1, copies, 1, 1).mean(dim=(2, 3))[:, :8])

def build(channels, copies):
    network = Hungry(nn.Linear(8, 8))
    network.copies = copies
    return network
"""
TEST = slice(80, 104)  # the samples before are for training, those after have no label
KINDS = ("classification", "multilabel", "soft", "regression", "segmentation")
UNET = {"name": "unet", "channels": [8, 16], "num_res_units": 1}
TRAINER = {"max_epochs": 6}


def make_toy(kind, seed=0, name="toy", size=SIZE, channels=3):
    """Return a task and its store."""
    images = np.random.default_rng(seed).integers(0, 128, (SAMPLES, size, size, channels), dtype=np.uint8)
    bright = np.random.default_rng(seed + 1).random((SAMPLES, channels))
    images = (images + 127 * bright[:, None, None]).astype(np.uint8)
    targets, classes, masks = {
        "classification": lambda: ((bright[:, 0] > 0.5).astype(np.int64), ("dark", "red"), None),
        "multilabel": lambda: ((bright > 0.5).astype(np.uint8), ("red", "green", "blue"), None),
        "soft": lambda: (bright.astype(np.float32), ("red", "green", "blue"), None),
        "regression": lambda: ((1000 + 50 * bright[:, 0]).astype(np.float32), (), None),
        "segmentation": lambda: (np.empty((SAMPLES, 0)), ("ground", "square"), draw_squares(images)),
        "unlabeled": lambda: (np.full(SAMPLES, -1), (), None),
    }[kind]()
    splits = np.full(SAMPLES, "train", dtype="<U9")
    splits[TEST], splits[TEST.stop :] = "test", "unlabeled"
    hide(targets, masks, splits == "unlabeled")
    if kind == "unlabeled":
        splits[:] = "unlabeled"
    names = np.array([f"{place:03d}" for place in range(SAMPLES)])
    folds = np.where(splits == "train", np.arange(SAMPLES) % FOLDS, -1)
    kind = "multilabel" if kind == "soft" else kind
    task = Task(name, kind, name, classes, names, names, splits, targets, folds)
    return Data(task, make_store(images, names, masks))


def draw_squares(images):
    """Draw a bright square into every image; return its mask, whose first row is ignored."""
    generator = np.random.default_rng(2)
    masks = np.zeros(images.shape[:3], np.uint8)
    for image, mask in zip(images, masks, strict=True):
        top, left = generator.integers(1, 5, 2)
        image[top : top + 3, left : left + 3] = 255
        mask[top : top + 3, left : left + 3] = 1
        mask[0] = 255
    return masks


def hide(targets, masks, where):
    """Take the targets of some samples away, as tasks do."""
    if masks is not None:
        masks[where] = 255
    elif targets.ndim == 2 and targets.dtype == np.uint8:
        targets[where] = 255
    else:
        targets[where] = np.nan if targets.dtype == np.float32 else -1


def make_store(images, names, masks=None):
    """Return a store of images, and of masks in the same rows."""

    class Store(TensorStore):
        def mask_targets(self, classes):
            return masks

    pixels = images.astype(np.float64)
    sums = np.stack([pixels.sum(axis=(1, 2)), (pixels**2).sum(axis=(1, 2))], axis=1)
    return Store(images, sums, {name: row for row, name in enumerate(names.tolist())})


def toy_config(toys, make_pipeline, seed=42, tags=(), source=None, **sections):
    """Return what decides the training of toys, the pivot's first; `source` tells how another model is started from."""
    maps = {"arch": UNET} if any(task.type == "segmentation" for task, _ in toys) else {}
    recipe = make_pipeline(**{"sampling": {"batch_size": 16, "sample_num": 0}, "trainer": TRAINER, **maps, **sections})
    (pivot, tensors), *others = (definitions(task) for task, _ in toys)
    co_tasks = [CoTask(name=one.dataset, task=one, tensors=stored) for one, stored in others]
    pivot = pivot.model_copy(update={"tags": list(tags)})
    keys = {"seed": seed, "pipeline": recipe, "task": pivot, "tensors": tensors, "co_tasks": co_tasks}
    return TransferConfig(**keys, source=SourceConfig(**source)) if source else TrainConfig(**keys)


def definitions(task):
    """Return the definitions of a toy and of its tensors."""
    folds = int(task.folds.max()) + 1
    return TaskRecord(dataset=task.dataset, type=task.type, n_folds=folds), TensorRecord(dataset=task.dataset)


def files_in(folder, state=None):
    """Return the files of a model in a folder."""
    return ModelFiles(folder / "model.json", folder / "metrics.csv", folder / "model.safetensors", state)


def train_toys(folder, toys, make_pipeline, fold=0, run=None, state=None, key="key", start=None, **settings):
    """Train on toys, or on one of each kind, into a folder; return what was written.

    `settings` are those of `toy_config`; `start` is the model to start from.
    """
    toys = [
        make_toy(one, place, f"{one}{place}") if isinstance(one, str) else Data(*one) for place, one in enumerate(toys)
    ]
    config, files = toy_config(toys, make_pipeline, **settings), files_in(folder, state)
    stats = train_model(config, "default", fold, toys, files, 1, run, key, start).device_stats
    finish(files)
    return SimpleNamespace(files=files, stats=stats, config=config, **written(files))


def written(files):
    """Return record, curves and weights of a model as its files have them, and the bytes of all."""
    with files.curves.open() as lines:
        curves = [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(lines)]
    made = {"record": read_json(files.record), "curves": curves, "weights": load_file(files.weights)}
    return {**made, "bytes": contents(files.record.parent)}


def contents(folder):
    """Return the bytes of all files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def processes():
    """Return what starts processes that have imported everything; that takes seconds, but once for all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["unit.training.toys", "unit.conftest"])
    with pytest.MonkeyPatch.context() as patch:  # the server looks for what it imports in its own paths only
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context


def hunger(folder, batch_size, copies, megabytes, **settings):
    """Train in a process of its own, whose memory is limited, a network that copies each image, of 49 kB, so often."""
    gc.freeze()
    (folder / "hungry.py").write_text(HUNGRY)
    os.chdir(folder)
    toy = make_toy("classification", size=64)
    arch = {"source": "hungry:build", "arguments": {"copies": copies}}
    recipe = {"arch": arch, "augmentations": {"operations": []}, "trainer": {"max_epochs": 1}}
    with open("/proc/self/statm") as handle:
        used = int(handle.read().split()[0]) * resource.getpagesize()
    limit = used + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sampling = {"batch_size": batch_size, "sample_num": 0}
    return train_toys(folder / "model", [toy], validate, sampling=sampling, **recipe, **settings)


def validate(**sections):
    """Return a recipe that has nothing of the tiny one."""
    return Pipeline.model_validate(sections)


def column(made, name):
    """Return a column of the curves of a model."""
    return [row[name] for row in made.curves]


def train_toy(folder, toy, make_pipeline, report=lambda text: None, **settings):
    """Train on a toy, or one of a kind, into a folder; return task, store, record and files."""
    task, store = make_toy(toy) if isinstance(toy, str) else toy
    made = train_toys(folder, [(task, store)], make_pipeline, run=Run(report=report), **settings)
    return task, store, made.record, made.files
