"""Reading stored tensors: memory-mapped, checked, gathered a whole batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foldwise.artifacts import map_npy
from foldwise.config.definition import TensorRecord
from foldwise.data.preprocess import REMEDY, TensorFiles, map_images
from foldwise.errors import DataError, Words
from foldwise.tasks.dataset import check_definition, check_files
from foldwise.tasks.task import Task


@dataclass(frozen=True)
class TensorStore:
    """The tensors of a dataset.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, height, width, channels)
        Memory map of all images.
    channel_sums : ndarray of float64, shape (n, 2, channels)
        Sums of pixels and of squared pixels of each image.
    rows : dict of str to int
        Row of each image.
    """

    images: np.ndarray
    channel_sums: np.ndarray
    rows: dict[str, int]

    def rows_of(self, task: Task, places: np.ndarray) -> np.ndarray:
        """Return the rows of a task's samples, given their places in the task.

        Raises
        ------
        DataError
            If an image of the task has no tensor.
        """
        names = task.images[places]
        missing = [name for name in names if name not in self.rows]
        if missing:
            raise DataError(
                f"task {task.name}", Words(f"image {missing[0]}"), f"one of the {len(self.rows)} images with tensors"
            )
        return np.array([self.rows[name] for name in names], dtype=np.int64)

    def channel_statistics(self, rows: np.ndarray) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of the channels over some rows, for pixels in [0, 1]."""
        pixels = len(rows) * self.images.shape[1] * self.images.shape[2]
        total, squares = self.channel_sums[rows].sum(axis=0)
        mean = total / pixels
        deviation = np.sqrt(np.maximum(squares / pixels - mean**2, 0.0))
        return (mean / 255).tolist(), (np.maximum(deviation, 1e-3) / 255).tolist()


def open_tensors(files: TensorFiles, record: TensorRecord) -> TensorStore:
    """Open the tensors of a dataset after checking definition, shape and checksums.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged, or was made for another definition.
    """
    manifest = check_definition(files.manifest, record, "preprocess_dataset")
    images = map_images(files, manifest)
    check_files(files.manifest, manifest["checksums"], {"channel_sums.npy": files.channel_sums}, "preprocess_dataset")
    rows = {name: row for row, name in enumerate(manifest["images"])}
    return TensorStore(images, np.asarray(map_npy(files.channel_sums, REMEDY)), rows)
