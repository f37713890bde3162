"""NIfTI volumes cut into PNG files.

Volumes are turned to the axes right, anterior, superior (RAS) and cut along one of them. Slices lie as radiologists
look at them: the patient's right, or anterior in sagittal slices, is at the left, and anterior or superior at the top.
The window of the definition, or else the 0.5th to the 99.5th percentile of each volume, spans all values of 16-bit
grey. Values that are no numbers are black.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, Words
from foldwise.tasks.decode import Unreadable
from foldwise.tasks.sources.convert import show
from foldwise.tasks.sources.listing import Listing, Raw, Report
from foldwise.tasks.sources.scans import Converted, Kind, damage_told, find_scans, walk, write_scans

SUFFIXES = (".nii", ".nii.gz")
PERCENTILES = (0.5, 99.5)
DIMENSIONS = 3
MOST_COMPRESSED = 1100  # gzip saves no more than that


class Volume(NamedTuple):
    """A volume with axes right, anterior, superior.

    Parameters
    ----------
    stored : ndarray, shape (x, y, z)
        Values as they are stored; on disk if the file is not compressed.
    slope, intercept : float
        What turns them into intensities.
    axis : int
        The axis to cut along.
    """

    stored: np.ndarray
    slope: float
    intercept: float
    axis: int

    @property
    def pieces(self) -> int:
        """Number of slices."""
        return self.stored.shape[self.axis]

    def slices(self) -> Iterator[np.ndarray]:
        """Yield the stored values of each slice, as it is looked at."""
        for index in range(self.pieces):
            yield np.take(self.stored, index, self.axis).T[::-1, ::-1]


def read_nifti(record: DatasetRecord, raw: Raw, report: Report) -> Listing:
    """Write the slices of NIfTI volumes as PNG files and list them.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset: folders of images and masks, table, window, axis.
    raw : Raw
        The folder or file; and where images and masks are written.
    report : callable
        Receives lines of progress.

    Returns
    -------
    Listing
        Slices lie in a folder that is named after the volume, ``scan/000.png``; an image of two dimensions has the path
        of its file, ``scan.png``. Columns are those of the table, in which volumes may be named without suffix and
        each row stands for all slices; or else split and class by folder, as in source ``folder``. Beside them group,
        the volume, and mask where there is a folder of masks: volumes of class indices with the paths of the images.
        Problems are volumes that are broken, of another kind or dimension, without mask, or of another shape than it.

    Raises
    ------
    MissingData, DataError
        If there are no volumes, or nibabel is not installed.
    """
    need_nibabel(raw.source)
    kind = Kind("NIfTI", is_nifti, without_suffix)
    scans = find_scans(record, raw, kind)
    masks: dict[str, Path] = {}
    if scans.masks:
        masks = {without_suffix(path): scans.masks / path for path in walk(scans.masks, None) if is_nifti(Path(path))}
    window = (record.window[0], record.window[1]) if record.window else None

    def convert(file: str) -> Converted:
        stem = scans.stems[file]
        volume = open_volume(scans.root / file, record.axis)
        images = show_slices(volume, window)
        if stem not in masks:
            return Converted(volume.pieces, images, stem)
        mask = open_volume(masks[stem], record.axis)
        if mask.stored.shape != volume.stored.shape:
            raise Unreadable(f"shape {volume.stored.shape}, and the mask {masks[stem]} {mask.stored.shape}")
        return Converted(volume.pieces, images, stem, mask_slices(mask, masks[stem]), str(masks[stem]))

    return write_scans(scans, kind, raw, report, convert)


def need_nibabel(source: Path) -> None:
    """Raise `DataError` if nibabel is not installed."""
    try:
        import nibabel  # noqa: F401
    except ImportError as error:
        found = Words("NIfTI volumes, and no nibabel to read them")
        raise DataError(source, found, "nibabel", "Run `pip install 'foldwise[medical]'`.") from error


def is_nifti(path: Path) -> bool:
    """Tell whether a file is a NIfTI volume by its name."""
    return path.name.lower().endswith(SUFFIXES)


def without_suffix(path: str) -> str:
    """Return the path of a volume without its suffix."""
    return path[: -len(next(suffix for suffix in reversed(SUFFIXES) if path.lower().endswith(suffix)))]


def open_volume(path: Path, axis: int) -> Volume:
    """Open a volume; what is not compressed stays on disk.

    Raises
    ------
    Unreadable
        If it is broken, not of two or three dimensions, or does not hold plain numbers.
    """
    from nibabel.filebasedimages import ImageFileError
    from nibabel.orientations import OrientationError
    from nibabel.spatialimages import HeaderDataError

    nibabel: Any = import_module("nibabel")
    with damage_told(ImageFileError, HeaderDataError, OrientationError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image: Any = nibabel.load(path)
        shape = check_shape(image, path)
        stored = np.asanyarray(image.dataobj.get_unscaled()).reshape(shape, order="F")
        turned = nibabel.apply_orientation(stored, nibabel.io_orientation(image.affine))
        slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    flat = [place for place, side in enumerate(turned.shape) if side == 1]
    return Volume(turned, slope, intercept, flat[0] if len(flat) == 1 else axis)


def check_shape(image: Any, path: Path) -> tuple[int, ...]:
    """Return the shape of a volume in three dimensions.

    Raises
    ------
    ValueError
        If it has more, or the file is too short for it, or its values are no plain numbers.
    """
    shape = tuple(int(side) for side in image.shape)
    while len(shape) > DIMENSIONS and shape[-1] == 1:
        shape = shape[:-1]
    kind = image.get_data_dtype()
    if not 1 < len(shape) <= DIMENSIONS or 0 in shape:
        raise ValueError(f"shape {shape}, not of two or three dimensions")
    if kind.kind not in "iuf":
        raise ValueError(f"values of type {kind}, not plain numbers")
    if int(np.prod(shape, dtype=object)) * kind.itemsize > path.stat().st_size * MOST_COMPRESSED:
        raise ValueError(f"shape {shape} in a file of {path.stat().st_size} bytes")
    return (*shape, 1)[:DIMENSIONS]


def show_slices(volume: Volume, window: tuple[float, float] | None) -> Iterator[np.ndarray]:
    """Yield the slices of a volume as 16-bit grey pixels.

    Raises
    ------
    Unreadable
        If there is no number in it.
    """
    with damage_told():
        low, high = window or percentiles(volume)
        for values in volume.slices():
            yield show(values.astype(np.float64) * volume.slope + volume.intercept, low, high)


def percentiles(volume: Volume) -> tuple[float, float]:
    """Return the intensities that are taken for black and white."""
    stored = volume.stored
    if stored.dtype.kind == "f":
        stored = stored[np.isfinite(stored)]
        if not stored.size:
            raise ValueError("no finite value")
    low, high = sorted(float(end) * volume.slope + volume.intercept for end in np.percentile(stored, PERCENTILES))
    return low, high


def mask_slices(mask: Volume, path: Path) -> Iterator[np.ndarray]:
    """Yield the slices of a mask as class indices.

    Raises
    ------
    Unreadable
        If it holds anything but whole numbers from 0 to 255.
    """
    with damage_told():
        for stored in mask.slices():
            values = stored.astype(np.float64) * mask.slope + mask.intercept
            if not (np.all(values >= 0) and np.all(values <= 255) and np.all(values == np.round(values))):
                raise Unreadable(f"the mask {path} holds other values than whole numbers from 0 to 255")
            yield values.astype(np.uint8)
