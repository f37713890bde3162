"""From mask files to stored masks: class indices beside the tensors, row for row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from foldwise.artifacts import FORMAT_VERSION, lock, make_not_older, read_json
from foldwise.config.canonical import differences, digest
from foldwise.config.definition import DatasetRecord, TaskRecord
from foldwise.config.preprocessing import Preprocessing, TensorRecord
from foldwise.data.chunks import Product, discard, publish, rows_per_chunk, write_chunks
from foldwise.data.preprocess import LIBRARIES, ImageTable, choose_size, inputs_of, read_images
from foldwise.data.rows import RowStore, StoredRows, open_rows
from foldwise.data.steps import apply_to_mask, needs_pixels
from foldwise.data.workers import Unusable
from foldwise.errors import DataError, DataProblems, FoldwiseError, Problem, Words
from foldwise.tasks.decode import Unreadable, load_mask, load_rgb, open_image, oriented_size
from foldwise.tasks.descriptions import DatasetFiles, check_definition, check_files, is_current
from foldwise.tasks.masks import IGNORED, mask_classes
from foldwise.tasks.task import TaskFiles, read_samples

UNKNOWN = 256


class MaskFiles(NamedTuple):
    """The files of a task's masks in one preprocessing."""

    masks: Path
    manifest: Path

    @classmethod
    def of(cls, folder: Path, task: str) -> MaskFiles:
        """Return the files of a task in a tensor folder."""
        return cls(folder / f"{task}.masks.npy", folder / f"{task}.masks.json")


def preprocess_masks(
    record: TensorRecord,
    task_record: TaskRecord,
    dataset_record: DatasetRecord,
    revision: int,
    dataset: DatasetFiles,
    task: TaskFiles,
    files: MaskFiles,
    threads: int = 1,
    report: Callable[[str], None] = lambda text: None,
) -> None:
    """Store the masks of a task as class indices, moved as their images are.

    Parameters
    ----------
    record, task_record, dataset_record : TensorRecord, TaskRecord, DatasetRecord
        Definitions of tensors, task and dataset.
    revision : int
        Revision of the code that writes them.
    dataset, task : DatasetFiles, TaskFiles
        The dataset and the task, which is no variant.
    files : MaskFiles
        ``{task}.masks.npy``, uint8 of shape (n, size, size): rows are those of the images, values class indices, 255
        where a pixel is ignored or an image has no mask; ``{task}.masks.json``: classes with the values in masks that
        make them, and how many pixels each has. What an equal definition already wrote is kept.
    threads : int
        Processes that decode.
    report : callable
        Receives lines of progress.

    Raises
    ------
    DataProblems
        If masks cannot be read or hold values of no class; lists all of them.
    MissingData, DataError
        If dataset or task are missing, damaged or made for another definition, or the disk is full.
    """
    source = check_definition(dataset.description, dataset_record, "create_dataset")
    check_files(dataset.description, source["checksums"], {"images.csv": dataset.images}, "create_dataset")
    described = check_definition(task.description, task_record, "create_task")
    check_files(task.description, described["checksums"], {"samples.csv": task.samples}, "create_task")
    name = described["task"]
    masks = masks_of(task, f"task {name}")
    classes = mask_classes(task_record.classes, source["mask_values"], source["class_names"], f"task {name}")
    identity = {
        "definition": differences(record),
        "classes": list(classes),
        "values": list(classes.values()),
        "revision": revision,
        "inputs": {**inputs_of(source), "masks": digest(masks)},
    }
    with lock(files.masks):
        if is_current(files.manifest, identity, {}) and are_whole(files):
            discard(files.masks)
            make_not_older(files, dataset.images)
            make_not_older(files, task.samples)
            return
        head = {"format_version": FORMAT_VERSION, "task": name, "dataset": record.dataset, **identity}
        table = read_images(dataset.images)
        make_masks(record.preprocessing, masks, table, dataset.images.parent, files, head, threads, report)


def masks_of(task: TaskFiles, where: str) -> dict[str, str]:
    """Return the mask of each image that has one.

    Raises
    ------
    DataProblems
        If samples of one image have different masks.
    """
    masks: dict[str, str] = {}
    problems = []
    for sample in read_samples(task):
        if sample.target and masks.setdefault(sample.image, sample.target) != sample.target:
            problems.append(Problem(sample.image, f"two masks, {masks[sample.image]} and {sample.target}"))
    if problems:
        raise DataProblems(where, problems, "one mask an image", "Merge them, or list the image under two names.")
    return masks


def are_whole(files: MaskFiles) -> bool:
    """Tell whether the masks are as their manifest describes them."""
    try:
        open_masks(files, read_json(files.manifest))
    except FoldwiseError:
        return False
    return True


def open_masks(files: MaskFiles, manifest: Mapping[str, Any]) -> StoredRows:
    """Open masks after checking shape and checksums.

    Raises
    ------
    MissingData, DataError
        If the file is missing or damaged.
    """
    return open_rows(files.masks, manifest["shape"], manifest["checksums"]["masks"])


def make_masks(
    recipe: Preprocessing,
    masks: Mapping[str, str],
    table: ImageTable,
    folder: Path,
    files: MaskFiles,
    head: dict[str, Any],
    threads: int,
    report: Callable[[str], None],
) -> None:
    """Write the files of a task's masks; `head` is what its manifest begins with."""
    side = choose_size(table, folder) if recipe.size == "auto" else recipe.size
    shape = (len(table.names), side, side)
    rows = rows_per_chunk(side * side)
    pairs = ((path, masks.get(name)) for name, path in zip(table.names, table.paths, strict=True))
    listed = [[path, mask] if mask else [] for path, mask in pairs]
    product = Product(
        name=f"task {head['task']}",
        things="masks",
        maker="foldwise.data.masks:MaskMaker",
        arguments={
            "folder": str(folder), "recipe": differences(recipe), "side": side, "values": head["values"],
            "compare": not table.sides.all(),
        },
        folder=folder,
        count=len(listed),
        files=lambda start, stop: listed[start:stop],
        rows=rows,
        digest=digest({**head, "side": side, "rows": rows, "libraries": LIBRARIES}),
    )  # fmt: skip
    counts = np.zeros(IGNORED + 1, np.int64)

    def receive(_: int, facts: dict[str, Any]) -> None:
        counts[:] += facts["counts"]

    store = RowStore(files.masks, shape, rows)
    chunks = write_chunks(product, store, receive, threads, report)
    counts[IGNORED] -= sum(not pair for pair in listed) * side * side
    manifest = {
        **head,
        "shape": list(shape),
        "dtype": "uint8",
        "size": side,
        "pixels": dict(zip(head["classes"], counts.tolist(), strict=False)),
        "ignored_pixels": int(counts[IGNORED]),
        "checksums": {"masks": {"algorithm": "crc32", "rows": rows, "chunks": chunks}},
    }
    publish(store, files.manifest, manifest)


class MaskMaker:
    """Makes stored masks of mask files, in the processes that decode.

    Parameters
    ----------
    folder : str
        The dataset's folder.
    recipe : dict
        Preprocessing, as JSON of what differs from the defaults.
    side : int
        Side of the stored masks.
    values : sequence of sequence of int
        The values in mask files that make each class; 255 is ignored if it is not among them.
    compare : bool
        Whether sizes of images and masks must be compared; the check of the dataset did it otherwise.
    """

    blank = IGNORED

    def __init__(
        self, folder: str, recipe: dict[str, Any], side: int, values: Sequence[Sequence[int]], compare: bool
    ) -> None:
        self.folder = folder
        self.recipe = Preprocessing.model_validate(recipe)
        self.side = side
        self.shape = (side, side)
        self.compare = compare
        self.classes = np.full(2**16, UNKNOWN, np.uint16)
        self.classes[IGNORED] = IGNORED
        for number, members in enumerate(values):
            self.classes[list(members)] = number

    def fill(self, row: np.ndarray, files: Sequence[str]) -> None:
        """Decode a mask and apply the geometry of the steps."""
        image, mask = files
        found = self.decode(mask, load_mask)
        picture = self.decode(image, load_rgb) if needs_pixels(self.recipe) else None
        if self.compare or picture:
            self.check_size(mask, found, picture.size if picture else self.decode(image, size_of))
        indices = Image.fromarray(self.to_classes(mask, found))
        row[:] = apply_to_mask(indices, self.recipe, self.side, picture)

    def decode(self, file: str, decoder: Callable[[Path], Any]) -> Any:
        """Decode a file."""
        try:
            return decoder(Path(f"{self.folder}/{file}"))
        except Unreadable as error:
            raise Unusable(file, error.reason) from error

    def check_size(self, mask: str, found: np.ndarray, size: tuple[int, int]) -> None:
        """Raise `Unusable` if a mask is not of its image's size."""
        if found.shape != size[::-1]:
            height, width = found.shape
            raise Unusable(mask, f"{width} x {height} pixels for an image of {size[0]} x {size[1]}")

    def to_classes(self, mask: str, found: np.ndarray) -> np.ndarray:
        """Return class indices for the values of a mask; raise `Unusable` if one is in no class."""
        indices = self.classes[found]
        if indices.max() == UNKNOWN:
            values = np.unique(found[indices == UNKNOWN])
            shown = ", ".join(map(str, values[:10].tolist()))
            raise Unusable(mask, f"value{'s' if len(values) > 1 else ''} {shown} of no class in `classes`")
        return indices.astype(np.uint8)

    def finish(self, rows: np.ndarray) -> tuple[bytes | memoryview, dict[str, Any]]:
        """Return masks as they are stored, and how many pixels each class has."""
        pixels = rows.reshape(-1)
        return pixels.data, {"counts": np.bincount(pixels, minlength=IGNORED + 1).tolist()}


def size_of(path: Path) -> tuple[int, int]:
    """Return width and height of an image file, turned as it is meant to be seen."""
    with open_image(path) as image:
        width, height, _ = oriented_size(image)
        return width, height


class MaskTargets:
    """Stored masks as a task sees them: indices of its own classes, which may be fewer.

    Parameters
    ----------
    masks : StoredRows
        Masks with the indices of the classes that they were made for.
    indices : ndarray of uint8, shape (256,)
        The task's index for each of those, 255 for none.
    """

    def __init__(self, masks: StoredRows, indices: np.ndarray) -> None:
        self.masks = masks
        self.indices = indices

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the masks of some rows, uint8 of shape (b, height, width)."""
        return self.indices[self.masks[rows]]


def targets_for(masks: StoredRows, stored: Sequence[str], wanted: Sequence[str]) -> MaskTargets:
    """Return stored masks as a task with some of their classes sees them.

    Raises
    ------
    DataError
        If there are no such classes in the masks.
    """
    missing = [name for name in wanted if name not in stored]
    if missing:
        raise DataError(masks.path, Words(f"masks of {', '.join(stored)}"), f"classes {', '.join(missing)} among them")
    indices = np.full(IGNORED + 1, IGNORED, np.uint8)
    for number, name in enumerate(wanted):
        indices[stored.index(name)] = number
    return MaskTargets(masks, indices)
