"""Reading stored tensors: checked, and gathered a whole batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldwise.artifacts import map_npy, read_json
from foldwise.config.preprocessing import TensorRecord
from foldwise.data.masks import MaskFiles, MaskTargets, open_masks, targets_for
from foldwise.data.packed import PackedImages
from foldwise.data.preprocess import TensorFiles, open_images, small_files
from foldwise.data.rows import REMEDY, StoredRows
from foldwise.errors import DataError, Words
from foldwise.tasks.descriptions import check_definition, check_files
from foldwise.tasks.task import Task


@dataclass(frozen=True)
class TensorStore:
    """The tensors of a dataset.

    Parameters
    ----------
    images : StoredRows, PackedImages or ndarray of uint8, shape (n, height, width, channels)
        Gives images by their rows: ``images[rows]`` is an array.
    channel_sums : ndarray of float64, shape (n, 2, channels)
        Sums of pixels and of squared pixels of each image.
    rows : mapping of str to int
        Row of each image.
    masks : StoredRows or None
        Gives masks by the rows of images, uint8 of shape (b, height, width).
    mask_classes : sequence of str
        The classes that the indices in masks stand for.
    """

    images: StoredRows | PackedImages | np.ndarray
    channel_sums: np.ndarray
    rows: Mapping[str, int]
    masks: StoredRows | None = None
    mask_classes: Sequence[str] = ()

    def rows_of(self, task: Task, places: np.ndarray) -> np.ndarray:
        """Return the rows of a task's samples, given their places in the task.

        Raises
        ------
        DataError
            If an image of the task has no tensor.
        """
        names = task.images[places].tolist()
        try:
            return np.fromiter(map(self.rows.__getitem__, names), np.int64, len(names))
        except KeyError as error:
            missing = Words(f"image {error.args[0]}")
            expected = f"one of the {len(self.rows)} images with tensors"
            raise DataError(f"task {task.name}", missing, expected) from error

    def channel_statistics(self, rows: np.ndarray) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of the channels over some rows, for pixels in [0, 1]."""
        pixels = len(rows) * self.images.shape[1] * self.images.shape[2]
        total, squares = self.channel_sums[rows].sum(axis=0)
        mean = total / pixels
        deviation = np.sqrt(np.maximum(squares / pixels - mean**2, 0.0))
        return (mean / 255).tolist(), (np.maximum(deviation, 1e-3) / 255).tolist()

    def mask_targets(self, classes: Sequence[str]) -> MaskTargets:
        """Return what gives the masks of rows as indices of some of their classes, 255 for all others.

        Raises
        ------
        DataError
            If the store was opened without masks, or they have no such classes.
        """
        if self.masks is None:
            raise DataError("masks", Words("tensors opened without masks"), "the masks of a segmentation task")
        return targets_for(self.masks, self.mask_classes, classes)


def open_tensors(
    files: TensorFiles, record: TensorRecord, masks: MaskFiles | None = None, workers: int = 1
) -> TensorStore:
    """Open the tensors of a dataset after checking definition, shape and checksums.

    Parameters
    ----------
    files : TensorFiles
        The tensors.
    record : TensorRecord
        Their definition.
    masks : MaskFiles, optional
        The masks of a task on the dataset.
    workers : int
        Threads that decode images in JPEG storage.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged, or was made for another definition.
    """
    manifest = check_definition(files.manifest, record, "preprocess_dataset")
    check_files(files.manifest, manifest["checksums"], small_files(files, record), "preprocess_dataset")
    images = open_images(files, manifest, workers)
    rows = {name: row for row, name in enumerate(manifest["images"])}
    sums = np.asarray(map_npy(files.channel_sums, REMEDY))
    if masks is None:
        return TensorStore(images, sums, rows)
    described = read_json(masks.manifest)
    check_masks(masks, described, manifest)
    return TensorStore(images, sums, rows, open_masks(masks, described), described["classes"])


def check_masks(masks: MaskFiles, described: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Raise `DataError` unless masks were made for the same images in the same preprocessing as the tensors."""
    inputs = {key: described["inputs"].get(key) for key in manifest["inputs"]}
    if (described["definition"], inputs, described["shape"]) != (
        manifest["definition"],
        manifest["inputs"],
        manifest["shape"][:3],
    ):
        raise DataError(
            masks.manifest,
            Words("masks made for other images or another preprocessing"),
            "masks of the images that the tensors hold",
            f"--forcerun preprocess_masks {masks.manifest}",
        )
