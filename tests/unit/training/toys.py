"""Small tasks of every type in memory, of 8-pixel images that tell what is to be learned."""

import numpy as np

from foldwise.config.definition import TaskRecord
from foldwise.config.jobs import TrainConfig
from foldwise.config.preprocessing import TensorRecord
from foldwise.data.tensors import TensorStore
from foldwise.tasks.task import Task
from foldwise.training.fold import ModelFiles, train_model

SIZE, SAMPLES, FOLDS = 8, 120, 4
TEST = slice(80, 104)  # the samples before are for training, those after have no label
KINDS = ("classification", "multilabel", "soft", "regression", "segmentation")
UNET = {"name": "unet", "channels": [8, 16], "num_res_units": 1}
TRAINER = {"max_epochs": 6}


def make_toy(kind, seed=0):
    """Return a task and its store."""
    images = np.random.default_rng(seed).integers(0, 128, (SAMPLES, SIZE, SIZE, 3), dtype=np.uint8)
    bright = np.random.default_rng(seed + 1).random((SAMPLES, 3))
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
    return Task("toy", kind, "toy", classes, names, names, splits, targets, folds), make_store(images, names, masks)


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


def train_toy(folder, toy, make_pipeline, report=lambda text: None, **sections):
    """Train on a toy, or one of a kind, into a folder; return task, store, record and files."""
    task, store = make_toy(toy) if isinstance(toy, str) else toy
    arch = {"arch": UNET} if task.type == "segmentation" else {}
    recipe = make_pipeline(**{"sampling": {"batch_size": 16, "sample_num": 0}, "trainer": TRAINER, **arch, **sections})
    record = TaskRecord(dataset="toy", type=task.type)
    config = TrainConfig(pipeline=recipe, task=record, tensors=TensorRecord(dataset="toy"))
    files = ModelFiles(folder / "model.json", folder / "metrics.csv", folder / "model.safetensors")
    return task, store, train_model(config, "default", 0, task, store, files, 1, report), files
