"""Small pictures of samples: images as networks meet them, masks laid over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from foldwise.tasks.decode import load_mask, load_rgb

SIDE = 160  # pixels
OPACITY = 0.35  # of the colour of a class
COLOURS = np.array([(230, 60, 60), (60, 160, 230), (80, 190, 90), (240, 170, 40), (170, 90, 200), (30, 190, 180)])


class Thumbnail(NamedTuple):
    """A small image, whether there is anything to see on it, and the classes of its mask, the first one left out."""

    image: Image.Image
    plain: bool
    marked: Sequence[str] = ()


def load_thumbnail(
    path: Path, mask: Path | None = None, values: Mapping[str, Sequence[int]] | None = None
) -> Thumbnail:
    """Decode an image, a JPEG at reduced size, and lay the classes of a mask over it but the first.

    Parameters
    ----------
    path : Path
        The image.
    mask : Path, optional
        Its mask.
    values : mapping, optional
        The values in masks that make each class.

    Raises
    ------
    Unreadable
        If image or mask are damaged.
    """
    image = load_rgb(path, smallest=SIDE)
    plain = all(low == high for low, high in image.getextrema())  # type: ignore[misc]
    small = fit(image)
    if mask is None:
        return Thumbnail(small, plain)
    classes = class_indices(load_mask(mask), list((values or {}).values()), small.size)
    names = list(values or {})
    marked = [names[index] for index in np.unique(classes) if 0 < index < len(names)]
    return Thumbnail(lay_over(small, classes), plain or not marked, marked)


def fit(image: Image.Image) -> Image.Image:
    """Make the longer side of an image `SIDE` pixels long; of tiny images pixels are seen."""
    factor = SIDE / max(image.size)
    size = tuple(max(1, round(side * factor)) for side in image.size)
    how = Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.BICUBIC
    return image.resize(size, how, reducing_gap=2.0 if factor < 1 else None)  # type: ignore[arg-type]


def class_indices(mask: np.ndarray, values: Sequence[Sequence[int]], size: tuple[int, int]) -> np.ndarray:
    """Return the class of each pixel of a mask that is brought to a size; 0 where it has none."""
    width, height = size
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    small, classes = mask[np.ix_(rows, columns)], np.zeros((height, width), np.intp)
    for index, members in enumerate(values):
        classes[np.isin(small, members)] = index
    return classes


def lay_over(image: Image.Image, classes: np.ndarray) -> Image.Image:
    """Colour the classes of an image but the first, and draw lines around them."""
    pixels = np.asarray(image).astype(np.float64)
    colours = COLOURS[(classes - 1) % len(COLOURS)]
    border = np.zeros(classes.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            border |= classes != np.roll(classes, step, axis)
    border[[0, -1]], border[:, [0, -1]] = False, False  # rolled round
    strength = np.where(border, 1.0, OPACITY)[..., None] * (classes > 0)[..., None]
    return Image.fromarray((pixels * (1 - strength) + colours * strength).astype(np.uint8))
