"""DICOM files turned into PNG files.

Grey values are rescaled to the units of the file (such as Hounsfield units) and shown through a window: that of the
definition; else the VOI LUT or window of the file; else from the lowest to the highest pixel of the file, without
padding. Files of 8 bits without a window keep their values. More than 8 bits become 16-bit grey images, in which the
window spans all values. What is stored inverted (``MONOCHROME1``) is turned round. Colours become 8-bit RGB.

The patient's identity is not written anywhere: images of one patient share the first 12 hexadecimal digits of the
SHA-256 of its ID, as their group. Paths are kept, and whatever they say with them.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, Words
from foldwise.tasks.decode import MAX_PIXELS, Unreadable, load_mask
from foldwise.tasks.sources.convert import show
from foldwise.tasks.sources.files import SUFFIXES, stem_of, suffix_of
from foldwise.tasks.sources.listing import Listing, Raw, Report
from foldwise.tasks.sources.scans import Converted, Kind, damage_told, find_scans, piece_names, walk, write_scans

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
OTHER_IMAGES = ("RT Dose Storage", "Segmentation Storage", "Parametric Map Storage")
GROUP_DIGITS = 12
PALETTE = "PALETTE COLOR"
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")


class View(NamedTuple):
    """How the grey values of a file are shown.

    Parameters
    ----------
    window : tuple of float or None
        Lowest and highest intensity, if the definition or the pixels give them.
    bits : int
        Bits a pixel in the file.
    lowest : int
        The lowest value that so many bits can hold.
    inverted : bool
        Whether high values are dark.
    """

    window: tuple[float, float] | None
    bits: int
    lowest: int
    inverted: bool

    @property
    def top(self) -> int:
        """The highest value of the image that is written."""
        return 255 if self.bits <= 8 else 65535


def read_dicom(record: DatasetRecord, raw: Raw, report: Report) -> Listing:
    """Write the images of DICOM files as PNG files and list them.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset: folders of images and masks, table, window.
    raw : Raw
        The folder or file; and where images and masks are written.
    report : callable
        Receives lines of progress.

    Returns
    -------
    Listing
        An image has the path of its file, with the suffix ``.png``; those of several frames lie in a folder of that
        name, ``scan/000.png``. Columns are those of the table, in which files may be named without suffix and each row
        stands for all frames; or else split and class by folder, as in source ``folder``. Beside them group, and mask
        where there is a folder of masks: DICOM or image files of class indices with the paths of the images. Problems
        are files that are broken, of a kind that cannot be shown, or compressed in a way that pydicom cannot read here.

    Raises
    ------
    MissingData, DataError
        If there are no DICOM files or images in them, or pydicom is not installed.
    """
    need_pydicom(raw.source)
    kind = Kind("DICOM", is_dicom, without_suffix)
    scans = find_scans(record, raw, kind)
    masks = list_masks(scans.masks) if scans.masks else {}
    window = (record.window[0], record.window[1]) if record.window else None
    return write_scans(
        scans, kind, raw, report, lambda file: convert(scans.root / file, scans.stems[file], window, masks)
    )


def need_pydicom(source: Path) -> None:
    """Raise `DataError` if pydicom is not installed."""
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        found = Words("DICOM files, and no pydicom to read them")
        raise DataError(source, found, "pydicom", "Run `pip install 'foldwise[medical]'`.") from error


def pydicom_pixels() -> Any:
    """Return pydicom's module of pixels."""
    return import_module("pydicom.pixels")


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM by its suffix or, whatever it is called, by its first bytes.

    A file that cannot be opened counts: whoever reads it tells why.
    """
    if path.name.upper() == "DICOMDIR" or (path.exists() and not path.is_file()):
        return False
    if suffix_of(path.name) in DICOM_SUFFIXES:
        return True
    try:
        with open(path, "rb") as handle:
            return handle.read(132)[128:] == b"DICM"
    except OSError:
        return True


def without_suffix(path: str) -> str:
    """Return the path of a DICOM file without its suffix; other dots belong to the name, which is often a number."""
    suffix = suffix_of(path)
    return path[: -len(suffix)] if suffix in DICOM_SUFFIXES else path


def convert(path: Path, stem: str, window: tuple[float, float] | None, masks: dict[str, Path]) -> Converted:
    """Open a DICOM file.

    Raises
    ------
    Unreadable
        If it is broken or cannot be shown.
    """
    data = open_dicom(path)
    if is_other(data):
        return Converted(0, (), "")
    pieces = check_pixels(data)
    with damage_told():
        colours, group = data.get("PhotometricInterpretation"), group_of(data)
    if colours not in (*MONOCHROME, *COLOUR, PALETTE):
        raise Unreadable(f"pixels of kind {colours}, not grey, RGB, YBR or palette")
    images = grey(data, window) if colours in MONOCHROME else colour(data)
    found = find_masks(stem, pieces, masks)
    return Converted(pieces, images, group, read_masks(found, pieces) if found else None, "".join(map(str, found[:1])))


def is_other(data: Any) -> bool:
    """Tell whether a file is about something else than images: a report, a plan, a directory.

    A file of images that ends before its pixels is not: its class still says what it is.
    """
    if "Rows" in data or "PixelData" in data:
        return False
    with damage_told():
        kind = data.get("SOPClassUID")
        name = kind.name if kind else ""
        known = name not in ("", kind) and "Image" not in name and name not in OTHER_IMAGES
        return known or "DirectoryRecordSequence" in data


def open_dicom(path: Path) -> Any:
    """Read a DICOM file, also one without the header that files should have.

    Raises
    ------
    Unreadable
        If it is broken.
    """
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with damage_told(InvalidDicomError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = dcmread(path, force=True)
        if len(data) == 0:
            raise ValueError("no DICOM file, or cut short")
        if "TransferSyntaxUID" not in getattr(data, "file_meta", {}):
            implicit, little = data.original_encoding
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            data.file_meta = getattr(data, "file_meta", None) or FileMetaDataset()
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
        return data


def check_pixels(data: Any) -> int:
    """Return the number of images in a file.

    Raises
    ------
    Unreadable
        If there are no pixels, too many of them, or nothing to decompress them with.
    """
    with damage_told():
        missing = [word for word in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel") if data.get(word) is None]
        if missing or not any(word in data for word in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise ValueError(f"no {' or '.join(missing) or 'PixelData'}; the file may be cut short")
        count = int(data.get("NumberOfFrames") or 1)
        if not 0 < int(data.Rows) * int(data.Columns) <= MAX_PIXELS or count < 1:
            raise ValueError(f"{count} frames of {data.Columns} x {data.Rows} pixels")
    check_compression(data.file_meta.TransferSyntaxUID)
    return count


def check_compression(syntax: Any) -> None:
    """Raise `Unreadable` if pixels are compressed in a way that cannot be read here."""
    try:
        decoder = pydicom_pixels().get_decoder(syntax)
    except NotImplementedError:
        raise Unreadable(f"pixels compressed as {syntax.name}, which pydicom cannot read") from None
    if not decoder.is_available:
        needed = "; ".join(decoder.missing_dependencies)
        raise Unreadable(f"pixels compressed as {syntax.name}; pydicom needs one of: {needed}")


def group_of(data: Any) -> str:
    """Return what stands for the patient, or nothing if the file names none."""
    patient = str(data.get("PatientID") or "").strip()
    return hashlib.sha256(patient.encode("utf-8", "surrogatepass")).hexdigest()[:GROUP_DIGITS] if patient else ""


def frames(data: Any) -> Iterator[np.ndarray]:
    """Yield the stored pixels of each frame, colours as RGB.

    Raises
    ------
    Unreadable
        If they are damaged.
    """
    with damage_told(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from pydicom_pixels().iter_pixels(data)


def colour(data: Any) -> Iterator[np.ndarray]:
    """Yield the frames of a file as 8-bit RGB."""
    for frame in frames(data):
        with damage_told():
            pixels, bits = frame, int(data.get("BitsStored") or data.BitsAllocated)
            if data.PhotometricInterpretation == PALETTE:
                pixels = pydicom_pixels().apply_color_lut(frame, data)[..., :3]
                bits = 8 * pixels.dtype.itemsize
            yield pixels.astype(np.uint8) if bits <= 8 else (pixels >> (bits - 8)).astype(np.uint8)


def grey(data: Any, window: tuple[float, float] | None) -> Iterator[np.ndarray]:
    """Yield the frames of a file as grey pixels of 8 or 16 bits."""
    with damage_told():
        bits = int(data.get("BitsStored") or data.BitsAllocated)
        lowest = -(2 ** (bits - 1)) if data.get("PixelRepresentation") else 0
        inverted = data.PhotometricInterpretation == "MONOCHROME1" or data.get("PresentationLUTShape") == "INVERSE"
        if window is None and bits > 8 and not has_window(data):
            window = pixel_range(data)
    view = View(window, bits, lowest, inverted)
    for index, frame in enumerate(frames(data)):
        with damage_told():
            shown = show_frame(data, index, frame, view)
        yield view.top - shown if view.inverted else shown


def show_frame(data: Any, index: int, frame: np.ndarray, view: View) -> np.ndarray:
    """Show a frame through the window that applies to it."""
    values = rescale(data, index, frame)
    if view.window is not None:
        return show(values, *view.window, view.top)
    if data.get("VOILUTSequence"):
        return show_by_table(data, values, view.top)
    center, width = number(data, index, "FrameVOILUTSequence", "WindowCenter", "WindowWidth")
    if center is None or width is None:
        ends = rescale(data, index, np.array([view.lowest, view.lowest + 2**view.bits - 1]))
        return show(values, float(ends.min()), float(ends.max()), view.top)
    function = data.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        return show(1 / (1 + np.exp(-4 * (values - center) / width)), 0, 1, view.top)
    if function == "LINEAR":  # part 3 of the standard, C.11.2.1.2.1
        center, width = center - 0.5, max(width - 1, 0)
    return show(values, center - width / 2, center + width / 2, view.top)


def show_by_table(data: Any, values: np.ndarray, top: int) -> np.ndarray:
    """Show intensities as the lookup table of a file says."""
    bits = int(data.VOILUTSequence[0].LUTDescriptor[2])
    return show(pydicom_pixels().apply_voi(np.round(values).astype(np.int64), data), 0, 2**bits - 1, top)


def rescale(data: Any, index: int, values: np.ndarray) -> np.ndarray:
    """Turn stored values into the units of the file."""
    if data.get("ModalityLUTSequence"):
        return pydicom_pixels().apply_modality_lut(values, data)
    slope, intercept = number(data, index, "PixelValueTransformationSequence", "RescaleSlope", "RescaleIntercept")
    if slope is None and intercept is None:
        return values
    return values.astype(np.float64) * (1 if slope is None else slope) + (intercept or 0)


def number(data: Any, index: int, sequence: str, *keywords: str) -> list[float | None]:
    """Return numbers that apply to a frame: its own, those shared by all frames, or those of the file."""
    places = [data]
    for groups, item in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", index)):
        found = data.get(groups)
        if found and item < len(found) and found[item].get(sequence):
            places.insert(0, found[item].get(sequence)[0])
    values = (next((place.get(word) for place in places if place.get(word) is not None), None) for word in keywords)
    return [first(value) for value in values]


def first(value: Any) -> float | None:
    """Return a number, or the first of several: files may offer several windows."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (int, float, str)) else value[0])


def has_window(data: Any) -> bool:
    """Tell whether a file says how it is to be shown."""
    window = number(data, 0, "FrameVOILUTSequence", "WindowCenter", "WindowWidth")
    return bool(data.get("VOILUTSequence")) or None not in window


def pixel_range(data: Any) -> tuple[float, float]:
    """Return the lowest and highest intensity of all frames, without padding."""
    padding = data.get("PixelPaddingValue")
    low, high = np.inf, -np.inf
    for index, frame in enumerate(frames(data)):
        values = rescale(data, index, frame[frame != padding] if padding is not None else frame)
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def list_masks(folder: Path) -> dict[str, Path]:
    """Return all masks by their path without suffix."""
    files = [(path, folder / path) for path in walk(folder, None)]
    masks = {stem_of(path): file for path, file in files if suffix_of(path) in SUFFIXES}
    return masks | {without_suffix(path): file for path, file in files if is_dicom(file)}


def find_masks(stem: str, count: int, masks: dict[str, Path]) -> list[Path]:
    """Return the file of all masks of a file, or those of each frame, or nothing."""
    if stem in masks:
        return [masks[stem]]
    names = [stem_of(name) for name in piece_names(stem, count)]
    return [masks[name] for name in names] if all(name in masks for name in names) else []


def read_masks(files: list[Path], count: int) -> Iterator[np.ndarray]:
    """Yield the masks of a file, class indices from 0 to 255.

    Raises
    ------
    Unreadable
        If a mask cannot be read, or there are more or fewer than images.
    """
    found = 0
    for file in files:
        for mask in mask_frames(file):
            found += 1
            if found > count:
                raise Unreadable(f"{count} images, and more in the mask {file}")
            if mask.ndim != 2 or mask.dtype.kind not in "biu" or mask.min() < 0 or mask.max() > 255:
                raise Unreadable(f"the mask {file} holds other values than 0 to 255")
            yield mask.astype(np.uint8)
    if found < count:
        raise Unreadable(f"{count} images, and {found} in the mask {files[-1]}")


def mask_frames(file: Path) -> Iterator[np.ndarray]:
    """Yield the masks in a file."""
    if not is_dicom(file):
        yield load_mask(file)
        return
    data = open_dicom(file)
    check_pixels(data)
    yield from frames(data)
