"""Image sets that come with the core dependencies: the handwritten digits of scikit-learn, and sets made of them.

``digits``: 1797 images of 8 x 8 pixels with ten classes, the test part of the UCI set "Optical Recognition of
Handwritten Digits" (Alpaydin and Kaynak 1998, doi:10.24432/C50P49). The copy carries no writer ids, so splits are
stratified by class, not by writer.

``digits_segmentation``: each digit enlarged to 32 x 32 pixels; the mask is 1 where there is at least half of the full
ink, 0 elsewhere.

``digits_multilabel``: 599 images of 24 x 24 pixels with three digits side by side; classes are the digits that occur.
Every digit is in one image only, so that none is seen both in training and in testing.

``digits_regression``: each digit enlarged to 32 x 32 pixels and turned counter-clockwise by an angle between -45 and 45
degrees, which is the value.

All that is random is a hash of a digit's number: images and labels are the same everywhere.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from foldwise.artifacts import write_many
from foldwise.config.definition import DatasetRecord
from foldwise.tasks.sources.listing import Listing, Raw

SIDE = 8
LARGE = 32
DIGITS_IN_ONE = 3
FULL_INK = 16
HALF_INK = 128
MAX_ANGLE = 45
DIGITS = [str(digit) for digit in range(10)]


class Made(NamedTuple):
    """Images with their annotations and the names of their classes."""

    images: list[np.ndarray]
    columns: dict[str, list[str]]
    class_names: list[str]
    masks: list[np.ndarray]


def read_embedded(record: DatasetRecord, raw: Raw) -> Listing:
    """Write the images of an embedded set as PNG files and list them.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset; its name, or else that of the dataset, says which of the sets it is.
    raw : Raw
        Where ``files/images/*.png`` and ``masks/*.png`` are written.

    Returns
    -------
    Listing
        Images are named by four digits. Columns are image and class, mask, classes or value.
    """
    makers: dict[str, Callable[[np.ndarray, np.ndarray], Made]] = {
        "digits": make_digits,
        "digits_segmentation": lambda digits, _: make_segmentation(digits),
        "digits_multilabel": make_multilabel,
        "digits_regression": lambda digits, _: make_regression(digits),
    }
    made = makers[record.name or record.dataset](*load())
    names = [f"{number:04d}" for number in range(len(made.images))]
    paths = {name: f"files/images/{name}.png" for name in names}
    masks = [f"masks/{name}.png" for name in names[: len(made.masks)]]
    write_pngs(raw.folder, (*paths.values(), *masks), (*made.images, *made.masks))
    columns = {"image": names, **made.columns, **({"mask": masks} if masks else {})}
    return Listing(paths, columns, made.class_names)


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return the digits as uint8 of shape (1797, 8, 8), and what they are."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.round(pixels.reshape(-1, SIDE, SIDE) * (255 / FULL_INK)).astype(np.uint8), labels


def make_digits(digits: np.ndarray, labels: np.ndarray) -> Made:
    """Return the digits as they are."""
    return Made(list(digits), {"class": list(map(str, labels))}, DIGITS, [])


def make_segmentation(digits: np.ndarray) -> Made:
    """Return enlarged digits with masks of their ink."""
    images = [np.asarray(enlarge(digit)) for digit in digits]
    masks = [(image >= HALF_INK).astype(np.uint8) for image in images]
    return Made(images, {}, ["background", "ink"], masks)


def make_multilabel(digits: np.ndarray, labels: np.ndarray) -> Made:
    """Return images of three digits each, drawn without replacement in the order of a hash."""
    order = sorted(range(len(digits)), key=lambda number: draw("multilabel", number))
    groups = [order[start : start + DIGITS_IN_ONE] for start in range(0, len(order), DIGITS_IN_ONE)]
    margin = (DIGITS_IN_ONE - 1) * SIDE // 2
    images = [np.pad(np.hstack(list(digits[group])), ((margin, margin), (0, 0))) for group in groups]
    classes = [";".join(map(str, sorted({int(labels[number]) for number in group}))) for group in groups]
    return Made(images, {"classes": classes}, DIGITS, [])


def make_regression(digits: np.ndarray) -> Made:
    """Return enlarged digits that are turned by an angle drawn by a hash."""
    angles = [round((2 * draw("regression", number) - 1) * MAX_ANGLE, 2) for number in range(len(digits))]
    images = [
        np.asarray(enlarge(digit).rotate(angle, Image.Resampling.BILINEAR))
        for digit, angle in zip(digits, angles, strict=True)
    ]
    return Made(images, {"value": list(map(str, angles))}, [], [])


def enlarge(digit: np.ndarray) -> Image.Image:
    """Return a digit at four times its width and height."""
    return Image.fromarray(digit).resize((LARGE, LARGE), Image.Resampling.BILINEAR)


def draw(purpose: str, number: int) -> float:
    """Return a fraction that depends on nothing but a digit's number and what it is for."""
    digest = hashlib.sha256(f"{purpose}/{number:04d}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def write_pngs(folder: Path, paths: Sequence[str], images: Sequence[np.ndarray]) -> None:
    """Write images as PNG files."""
    write_many({folder / path: encode_png(image) for path, image in zip(paths, images, strict=True)})


def encode_png(image: np.ndarray) -> bytes:
    """Return the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
