"""From image files to stored tensors: all images of a dataset in one preprocessing."""

from __future__ import annotations

import csv
import hashlib
import heapq
import itertools
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import simplejpeg

from foldwise.artifacts import FORMAT_VERSION, lock, make_not_older, read_json, reading, sha256, write_npy
from foldwise.config.canonical import differences, digest
from foldwise.config.definition import DatasetRecord
from foldwise.config.preprocessing import Preprocessing, TensorRecord
from foldwise.data.chunks import Product, discard, publish, rows_per_chunk, write_chunks
from foldwise.data.packed import PackedImages, ShardStore, decode_into, encode_rows, open_packed
from foldwise.data.rows import RowStore, StoredRows, open_rows
from foldwise.data.steps import apply_steps, describe_steps, smallest_side
from foldwise.data.workers import Unusable
from foldwise.errors import DataProblems, FoldwiseError, Problem
from foldwise.tasks.decode import Unreadable, load_rgb, open_image, oriented_size
from foldwise.tasks.descriptions import IMAGE_COLUMNS, check_definition, check_files, is_current

CHANNELS = 3
ANNOTATED = ("table", "coco")  # sources whose local file tells about images and holds none
MEASURED_IMAGES = 1000
EXACT_PIXELS = 256
BLOCK_VALUES = 2**18  # that many stay in a processor's cache
LIBRARIES = {"pillow": PIL.__version__, "simplejpeg": simplejpeg.__version__}


class TensorFiles(NamedTuple):
    """The files of a dataset's tensors: `images` if they are stored as pixels, `index` and `shards` if as JPEGs."""

    images: Path
    index: Path  # type: ignore[assignment]  # tuples have a method of this name, which nobody needs here
    channel_sums: Path
    manifest: Path

    @classmethod
    def of(cls, folder: Path) -> TensorFiles:
        """Return the files in a tensor folder."""
        return cls(folder / "images.npy", folder / "index.npy", folder / "channel_sums.npy", folder / "manifest.json")

    @property
    def shards(self) -> Path:
        """The folder of JPEGs that the index leads to."""
        return self.index.parent / "shards"


class ImageTable(NamedTuple):
    """The images of a dataset: names, paths relative to its folder, width and height (0: unknown), shape (n, 2)."""

    names: list[str]
    paths: list[str]
    sides: np.ndarray


def preprocess_dataset(
    record: TensorRecord,
    dataset_record: DatasetRecord,
    revision: int,
    dataset: Path,
    images: Path,
    files: TensorFiles,
    threads: int = 1,
    report: Callable[[str], None] = lambda text: None,
) -> None:
    """Decode all images of a dataset, make them squares of one size and store them.

    Parameters
    ----------
    record : TensorRecord
        Definition of the tensors.
    dataset_record : DatasetRecord
        Definition that the dataset must have.
    revision : int
        Revision of the code that writes them.
    dataset, images : Path
        ``dataset.json`` and ``images.csv``.
    files : TensorFiles
        ``images.npy``, uint8 of shape (n, size, size, 3); or, in JPEG storage, ``shards/*.jpegs`` and ``index.npy``,
        int64 of shape (n, 3) with shard, place and length of each image. ``channel_sums.npy``, float64 of shape
        (n, 2, 3) with each image's sums of pixels and of squared pixels; ``manifest.json``. What an equal definition
        already wrote is kept.
    threads : int
        Processes that decode.
    report : callable
        Receives lines of progress.

    Raises
    ------
    DataProblems
        If images cannot be read; lists all of them. What is finished is kept beside the files for the next run.
    MissingData, DataError
        If the dataset is missing, damaged or made for another definition, or the disk is full.
    """
    source = check_definition(dataset, dataset_record, "create_dataset")
    check_files(dataset, source["checksums"], {"images.csv": images}, "create_dataset")
    identity = {"definition": differences(record), "revision": revision, "inputs": inputs_of(source)}
    with lock(files.manifest.parent):
        if is_current(files.manifest, identity, small_files(files, record)) and are_whole(files):
            discard(stored_in(files, record))
            make_not_older([files.manifest, stored_in(files, record), *small_files(files, record).values()], images)
            return
        make_tensors(record, identity, read_images(images), images.parent, files, threads, report)


def inputs_of(source: Mapping[str, Any]) -> dict[str, str]:
    """Return checksums of all of a dataset's description that decides its pixels; annotations do not."""
    inputs = source.get("inputs", {})
    fetched = {name: checksum for name, checksum in inputs.items() if name == "source.json"}
    told = fetched if source.get("source") in ANNOTATED else inputs
    made = digest({**{key: source.get(key) for key in ("definition", "revision", "content")}, "inputs": told})
    return {"dataset": made, "images.csv": source["checksums"]["images.csv"]}


def small_files(files: TensorFiles, record: TensorRecord) -> dict[str, Path]:
    """Return the files whose checksum is that of their whole content."""
    index = {"index.npy": files.index} if record.preprocessing.storage == "jpeg" else {}
    return {"channel_sums.npy": files.channel_sums, **index}


def stored_in(files: TensorFiles, record: TensorRecord) -> Path:
    """Return the file or folder that holds the pixels."""
    return files.shards if record.preprocessing.storage == "jpeg" else files.images


def are_whole(files: TensorFiles) -> bool:
    """Tell whether the tensors are as their manifest describes them."""
    try:
        open_images(files, read_json(files.manifest))
    except FoldwiseError:
        return False
    return True


def open_images(files: TensorFiles, manifest: Mapping[str, Any], workers: int = 1) -> StoredRows | PackedImages:
    """Open all tensors after checking shape and checksums.

    Raises
    ------
    MissingData, DataError
        If a file is missing or damaged.
    """
    checksums = manifest["checksums"]
    if "shards" in checksums:
        return open_packed(files.shards, files.index, manifest["shape"], checksums["shards"], workers)
    return open_rows(files.images, manifest["shape"], checksums["images.npy"])


def read_images(path: Path) -> ImageTable:
    """Read the table of a dataset's images line by line, as it may be long.

    Raises
    ------
    MissingData, DataError
        If the file is not there, lacks a column, or has a row of another length.
    """
    names, paths, sides = [], [], array("i")
    with reading(path, "a table of images") as found, open(found, newline="", encoding="utf-8") as handle:
        reader = csv.reader(handle)
        header = next(reader, [])
        name, place, width, height = (header.index(column) for column in IMAGE_COLUMNS[:4])
        for row in reader:
            if len(row) != len(header):
                raise ValueError(f"line {reader.line_num} does not have {len(header)} fields")
            names.append(row[name])
            paths.append(row[place])
            sides.extend((int(row[width] or 0), int(row[height] or 0)))
    return ImageTable(names, paths, np.array(sides, np.int32).reshape(-1, 2))


def choose_size(table: ImageTable, folder: Path) -> int:
    """Return the median side of the images, rounded to a multiple of 32 between 32 and 256.

    Where sides are unknown, as images were not checked, the headers of some images are read.
    """
    sides = table.sides if table.sides.all() else measure_images(table, folder)
    return int(np.clip(round(float(np.median(sides)) / 32) * 32, 32, 256))


def measure_images(table: ImageTable, folder: Path) -> np.ndarray:
    """Return width and height of at most 1000 images that a hash of their names chooses; broken ones are left out."""
    chosen = heapq.nsmallest(
        MEASURED_IMAGES, range(len(table.names)), key=lambda row: hashlib.sha256(table.names[row].encode()).digest()
    )
    sides, problems = [], []
    for row in sorted(chosen):
        try:
            with open_image(folder / table.paths[row]) as image:
                sides.append(oriented_size(image)[:2])
        except Unreadable as error:
            problems.append(Problem(str(folder / table.paths[row]), error.reason))
    if not sides:
        raise DataProblems(str(folder), problems, "images that can be read", "Replace them, or set preprocessing.size.")
    return np.array(sides)


def make_tensors(
    record: TensorRecord,
    identity: dict[str, Any],
    table: ImageTable,
    folder: Path,
    files: TensorFiles,
    threads: int,
    report: Callable[[str], None],
) -> None:
    """Write the files of a dataset's tensors."""
    recipe = record.preprocessing
    side = choose_size(table, folder) if recipe.size == "auto" else recipe.size
    shape = (len(table.names), side, side, CHANNELS)
    rows = rows_per_chunk(side * side * CHANNELS)
    product = Product(
        name=f"dataset {record.dataset}",
        things="images",
        maker="foldwise.data.preprocess:TensorMaker",
        arguments={"folder": str(folder), "recipe": differences(recipe), "side": side},
        folder=folder,
        count=len(table.names),
        files=lambda start, stop: [[path] for path in table.paths[start:stop]],
        rows=rows,
        digest=digest({**identity, "side": side, "rows": rows, "libraries": LIBRARIES}),
    )
    sums = np.empty((len(table.names), 2, CHANNELS))

    def receive(number: int, facts: dict[str, Any]) -> None:
        sums[number * rows : (number + 1) * rows] = np.reshape(facts["sums"], (-1, 2, CHANNELS))

    packed = recipe.storage == "jpeg"
    store = ShardStore(files.shards, shape[0], rows) if packed else RowStore(files.images, shape, rows)
    chunks = write_chunks(product, store, receive, threads, report)
    stored: dict[str, Any] = {"algorithm": "crc32", "rows": rows, "chunks": chunks}
    write_npy(files.channel_sums, sums)
    if isinstance(store, ShardStore):
        write_npy(files.index, store.index)
        stored["bytes"] = store.sizes
    manifest = {
        "format_version": FORMAT_VERSION,
        "dataset": record.dataset,
        "shape": list(shape),
        "dtype": "uint8",
        "size": side,
        "steps": describe_steps(recipe, side),
        "storage": recipe.storage,
        **identity,
        "checksums": {
            **{name: sha256(path) for name, path in small_files(files, record).items()},
            "shards" if packed else "images.npy": stored,
        },
        "images": table.names,
    }
    publish(store, files.manifest, manifest)


class TensorMaker:
    """Makes tensors of images, in the processes that decode.

    Parameters
    ----------
    folder : str
        The dataset's folder.
    recipe : dict
        Preprocessing, as JSON of what differs from the defaults.
    side : int
        Side of the tensors.
    """

    blank = 0

    def __init__(self, folder: str, recipe: dict[str, Any], side: int) -> None:
        self.folder = folder
        self.recipe = Preprocessing.model_validate(recipe)
        self.side = side
        self.shape = (side, side, CHANNELS)
        self.smallest = smallest_side(self.recipe, side)

    def fill(self, row: np.ndarray, files: Sequence[str]) -> None:
        """Decode an image and apply the steps."""
        try:
            picture = load_rgb(Path(f"{self.folder}/{files[0]}"), self.smallest)
        except Unreadable as error:
            raise Unusable(files[0], error.reason) from error
        row[:] = apply_steps(picture, self.recipe, self.side)

    def finish(self, rows: np.ndarray) -> tuple[bytes | memoryview, dict[str, Any]]:
        """Return what is stored of images, and sums of what will be read of it."""
        if self.recipe.storage == "raw":
            return rows.reshape(-1).data, {"sums": channel_sums(rows)}
        encoded = encode_rows(rows, self.recipe.quality)
        for row, content in zip(rows, encoded, strict=True):
            decode_into(row, content)
        return b"".join(encoded), {"sums": channel_sums(rows), "lengths": list(map(len, encoded))}


def channel_sums(rows: np.ndarray) -> list[int]:
    """Return each image's sums of pixels and of squared pixels.

    Parameters
    ----------
    rows : ndarray of uint8, shape (n, height, width, channels)
        The images.

    Returns
    -------
    list of int
        In the order of an array of shape (n, 2, channels).

    Notes
    -----
    Columns are summed in float32, which is fast and exact as long as sums stay below 2**24: for 256 pixels.
    """
    lines = rows.reshape(*rows.shape[:2], -1)
    columns = np.zeros((len(rows), 2, lines.shape[2]))
    images = max(1, BLOCK_VALUES // math.prod(rows.shape[1:]))
    height = min(EXACT_PIXELS, max(1, BLOCK_VALUES // lines.shape[2]))
    for start, top in itertools.product(range(0, len(rows), images), range(0, lines.shape[1], height)):
        block = lines[start : start + images, top : top + height].astype(np.float32)
        ones = np.ones(block.shape[1], np.float32)
        columns[start : start + images, 0] += ones @ block
        columns[start : start + images, 1] += ones @ np.square(block, out=block)
    return columns.reshape(len(rows), 2, -1, rows.shape[3]).sum(axis=2).astype(np.int64).reshape(-1).tolist()
