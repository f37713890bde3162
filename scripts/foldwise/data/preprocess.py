"""From images to stored tensors: one uint8 array a dataset and preprocessing."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from foldwise.artifacts import (
    FORMAT_VERSION,
    atomic,
    lock,
    map_npy,
    read_csv,
    read_json,
    sha256,
    write_json,
    write_npy,
)
from foldwise.config.canonical import differences
from foldwise.config.definition import DatasetRecord, TensorRecord
from foldwise.errors import DataError, FoldwiseError, Words
from foldwise.tasks.dataset import IMAGE_COLUMNS, check_definition, check_files, is_current

CHUNK_BYTES = 4 * 2**20
CHANNELS = 3
REMEDY = "Delete the file and run again to make it anew."


class TensorFiles(NamedTuple):
    """The files of a dataset's tensors."""

    images: Path
    channel_sums: Path
    manifest: Path

    @classmethod
    def of(cls, folder: Path) -> TensorFiles:
        """Return the files in a tensor folder."""
        return cls(folder / "images.npy", folder / "channel_sums.npy", folder / "manifest.json")


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
    """Decode and resize all images of a dataset into one memory-mapped array.

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
        ``images.npy``, uint8 of shape (n, size, size, 3); ``channel_sums.npy``, float64 of shape
        (n, 2, 3) with each image's sums of pixels and of squared pixels; ``manifest.json``.
    threads : int
        Images decoded at a time.
    report : callable
        Receives a line of progress.
    """
    source = check_definition(dataset, dataset_record, "create_dataset")
    check_files(dataset, source["checksums"], {"images.csv": images}, "create_dataset")
    table = read_csv(images, IMAGE_COLUMNS)
    identity = {"definition": differences(record), "revision": revision, "inputs": source["checksums"]}
    with lock(files.manifest.parent):
        if is_current(files.manifest, identity, {"channel_sums.npy": files.channel_sums}) and are_whole(files):
            return
        size = choose_size(table) if record.size == "auto" else record.size
        paths = [images.parent / path for path in table["path"]]
        sums, checksums, rows = write_tensors(paths, size, files.images, threads, report)
        write_npy(files.channel_sums, sums)
        write_json(
            files.manifest,
            {
                "format_version": FORMAT_VERSION,
                "dataset": record.dataset,
                "shape": [len(paths), size, size, CHANNELS],
                "dtype": "uint8",
                "size": size,
                "steps": ["rgb", f"resize shorter side to {size}", f"centre crop to {size} x {size}"],
                **identity,
                "checksums": {
                    "channel_sums.npy": sha256(files.channel_sums),
                    "images.npy": {"algorithm": "crc32", "rows": rows, "chunks": checksums},
                },
                "images": table["image"],
            },
        )


def are_whole(files: TensorFiles) -> bool:
    """Tell whether the tensors are as their manifest describes them."""
    try:
        map_images(files, read_json(files.manifest))
    except FoldwiseError:
        return False
    return True


def map_images(files: TensorFiles, manifest: dict[str, Any]) -> np.ndarray:
    """Open all tensors as a memory map after checking shape and checksums.

    Raises
    ------
    MissingData, DataError
        If the file is missing or damaged.
    """
    images = map_npy(files.images, REMEDY)
    if list(images.shape) != manifest["shape"] or images.dtype != np.uint8:
        raise DataError(
            files.images,
            Words(f"{images.dtype} of shape {images.shape}"),
            f"uint8 of shape {manifest['shape']}",
            REMEDY,
        )
    recorded = manifest["checksums"]["images.npy"]
    rows = recorded["rows"]
    for number, checksum in enumerate(recorded["chunks"]):
        chunk = images[number * rows : (number + 1) * rows]
        if zlib.crc32(chunk.data) != checksum:
            raise DataError(
                files.images,
                Words(f"damaged rows {number * rows} to {number * rows + len(chunk) - 1} (checksum differs)"),
                "the file as written",
                REMEDY,
            )
    return images


def choose_size(table: dict[str, list[str]]) -> int:
    """Return the median side of the images, rounded to a multiple of 32 between 32 and 256."""
    sides = [int(side) for column in ("width", "height") for side in table[column]]
    return int(np.clip(round(float(np.median(sides)) / 32) * 32, 32, 256))


def write_tensors(
    paths: Sequence[Path], size: int, target: Path, threads: int, report: Callable[[str], None]
) -> tuple[np.ndarray, list[int], int]:
    """Write all images into one ``.npy`` file, chunk by chunk.

    Returns
    -------
    sums : ndarray of float64, shape (n, 2, 3)
        Sums of pixels and of squared pixels.
    checksums : list of int
        CRC-32 of each chunk of rows.
    rows : int
        Rows in a chunk.
    """
    shape = (len(paths), size, size, CHANNELS)
    rows = max(1, CHUNK_BYTES // (size * size * CHANNELS))
    sums, checksums = np.empty((len(paths), 2, CHANNELS)), []
    with atomic(target) as temporary, ThreadPoolExecutor(threads) as pool:
        with open(temporary, "wb") as handle:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(handle, header)
            for start in range(0, len(paths), rows):
                chunk = np.stack(list(pool.map(lambda path: load_image(path, size), paths[start : start + rows])))
                pixels = chunk.astype(np.float64)
                sums[start : start + rows, 0] = pixels.sum(axis=(1, 2))
                sums[start : start + rows, 1] = (pixels**2).sum(axis=(1, 2))
                checksums.append(zlib.crc32(chunk.data))
                handle.write(chunk.data)
                report(f"{min(start + rows, len(paths))} of {len(paths)} images")
    return sums, checksums, rows


def load_image(path: Path, size: int) -> np.ndarray:
    """Decode an image, make it RGB, resize its shorter side, crop the centre.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)

    Raises
    ------
    DataError
        If the file is missing or no image; names it.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * size, 2 * size))
            picture = to_rgb(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            path,
            Words(f"no readable image ({error})"),
            "an image file",
            "Replace the file or remove it from the dataset.",
        ) from error
    factor = size / min(picture.size)
    resized = picture.resize(
        (max(size, round(picture.width * factor)), max(size, round(picture.height * factor))), Image.Resampling.BILINEAR
    )
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any image of 8 or 16 bits a channel to 8-bit RGB; transparency is ignored."""
    if image.mode.startswith("I;16"):  # Pillow itself would cut all values above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits, Pillow mode {image.mode}; save them with 8 or 16 bits")
    return image.convert("RGB")
