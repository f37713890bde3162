"""The files that training and prediction read of a task: its samples, tensors and masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from foldwise.config.definition import TaskRecord
from foldwise.config.preprocessing import TensorRecord
from foldwise.data.masks import MaskFiles
from foldwise.data.preprocess import TensorFiles
from foldwise.data.tensors import TensorStore, open_tensors
from foldwise.tasks.task import Task, TaskFiles, read_task


class DataFiles(NamedTuple):
    """Files of a task, of the tensors of its dataset, and of its masks if it has any."""

    task: TaskFiles
    tensors: TensorFiles
    masks: MaskFiles

    @classmethod
    def of(cls, task: Path, images: Path) -> DataFiles:
        """Return the files of a task, given its ``task.json``, in the tensor folder of some images."""
        base = task.parent.name.partition("+")[0]
        return cls(TaskFiles.of(task.parent), TensorFiles.of(images.parent), MaskFiles.of(images.parent, base))

    def masks_of(self, record: TaskRecord) -> MaskFiles | None:
        """Return the files of masks if a task has them."""
        return self.masks if record.type == "segmentation" else None

    def deciding(self, record: TaskRecord) -> Iterator[Path]:
        """Yield the small files whose contents tell all others apart."""
        yield from self.task
        yield self.tensors.manifest
        if record.type == "segmentation":
            yield self.masks.manifest


class Data(NamedTuple):
    """A task and its tensors."""

    task: Task
    store: TensorStore


def open_data(files: DataFiles, task: TaskRecord, tensors: TensorRecord, workers: int) -> Data:
    """Read a task and open its tensors; see `read_task` and `open_tensors` for what may be wrong."""
    found = read_task(files.task, task)
    return Data(found, open_tensors(files.tensors, tensors, files.masks_of(task), workers=workers))
