"""Test-time augmentation: variations of images, and how the logits of all of them become one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import interpolate

from foldwise.config.callbacks import TestTimeAugmentation, check_variations
from foldwise.errors import ConfigError, Words

IDENTITY = "identity"
FLIPS = {"hflip": (3,), "vflip": (2,), "hvflip": (2, 3)}
TURNS = {"rot90": 1, "rot180": 2, "rot270": 3}  # quarter turns against the clock
CROPS = {  # where the part that is kept lies: share of the rows and columns cut off that lie before it
    "crop_center": (0.5, 0.5),
    "crop_top_left": (0.0, 0.0),
    "crop_top_right": (0.0, 1.0),
    "crop_bottom_left": (1.0, 0.0),
    "crop_bottom_right": (1.0, 1.0),
}
KEPT, OF = 7, 8  # a crop keeps seven eighths of each side


def vary(name: str, pixels: torch.Tensor) -> torch.Tensor:
    """Return a variation of images.

    Parameters
    ----------
    name : str
        One of `foldwise.config.callbacks.VARIATIONS`.
    pixels : Tensor of uint8, shape (b, channels, height, width)
        Images in channels-last memory order.

    Returns
    -------
    Tensor
        Images of the same shape and memory order; of uint8, or of crops float32 from 0 to 255.
    """
    if name == IDENTITY:
        return pixels
    if name in FLIPS:
        varied = pixels.flip(FLIPS[name])
    elif name in TURNS:
        varied = torch.rot90(pixels, TURNS[name], (2, 3))
    else:
        varied = crop(pixels, *CROPS[name])
    return varied.contiguous(memory_format=torch.channels_last)


def crop(pixels: torch.Tensor, down: float, right: float) -> torch.Tensor:
    """Return a part of images, enlarged to their size: bilinear, corners not aligned, without antialiasing.

    Values are not rounded to whole numbers, as normalisation takes fractions too.
    """
    height, width = pixels.shape[2:]
    rows, columns = height * KEPT // OF, width * KEPT // OF
    top, left = int((height - rows) * down), int((width - columns) * right)
    part = pixels[:, :, top : top + rows, left : left + columns].float()
    return interpolate(part, size=(height, width), mode="bilinear", align_corners=False, antialias=False)


def turn_back(name: str, logits: torch.Tensor) -> torch.Tensor:
    """Turn maps of logits, shape (b, classes, height, width), of varied images back; leave other logits alone."""
    if logits.ndim < 4 or name == IDENTITY:
        return logits
    return logits.flip(FLIPS[name]) if name in FLIPS else torch.rot90(logits, -TURNS[name], (2, 3))


def predict_varied(
    answer: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor, tta: TestTimeAugmentation
) -> torch.Tensor:
    """Return the logits of images: of all variations one.

    Parameters
    ----------
    answer : callable
        Gives the logits of images.
    pixels : Tensor of uint8, shape (b, channels, height, width)
        Images in channels-last memory order. Each variation is one of them, never of another variation.
    tta : TestTimeAugmentation
        Which variations, and how they are combined: `mean` of logits, for classes the geometric mean of their
        probabilities, normalised; `max`, the greatest logit of each output by itself. Maps are turned back before.

    Returns
    -------
    Tensor of float32
        A single variation gives its logits as they are.
    """
    logits = (turn_back(name, answer(vary(name, pixels))).float() for name in tta.variations)
    return next(logits) if len(tta.variations) == 1 else combine(logits, tta.mode, len(tta.variations))


def combine(logits: Iterator[torch.Tensor], mode: str, count: int) -> torch.Tensor:
    """Return the mean or the maximum of logits, of which two are in memory at a time."""
    if mode == "max":
        return functools.reduce(torch.maximum, logits)
    return functools.reduce(torch.add, logits) / count


def check_images(tta: TestTimeAugmentation, kind: str, height: int, width: int) -> None:
    """Raise `ConfigError` if variations do not suit a task type or the shape of the images."""
    check_variations(tta, kind, "tta")
    turned = [name for name in tta.variations if name in ("rot90", "rot270")]
    if turned and height != width:
        found = Words(f"{', '.join(turned)} of images of {height} x {width} pixels")
        raise ConfigError("tta.variations", found, "square images for quarter turns", "Leave them out.")
