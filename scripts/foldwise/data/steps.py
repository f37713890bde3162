"""Steps from an image to its tensor, and the same geometry for the masks of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from foldwise.config.canonical import differences
from foldwise.config.preprocessing import Preprocessing
from foldwise.tasks.masks import IGNORED

Size = tuple[int, int]
Box = tuple[int, int, int, int]
RESIZING = ("resize", "resize_shorter", "resize_longer")
SIZING = (*RESIZING, "center_crop", "pad")


def smallest_side(recipe: Preprocessing, side: int) -> int | None:
    """Return how many pixels the shorter side of an image must keep when it is decoded; None: all of them.

    Parameters
    ----------
    recipe : Preprocessing
        Steps, and whether reduced decoding is wanted.
    side : int
        Side of the tensors in pixels.

    Notes
    -----
    A JPEG can be decoded at half, a quarter or an eighth of its size at a fraction of the cost. That is as good as any
    other way to make it smaller if a resizing step comes next and the decoded image is at least as large as its
    result. Measured on images of smooth noise and shapes, with and without grain: the peak signal-to-noise ratio
    against full decoding is 41 to 49 dB where something is left to resize (512 to 224, 700 to 256, 1500 to 256 pixels)
    and 35 to 41 dB where nothing is (512 to 256, 1024 to 256); two usual filters, bilinear and Lanczos, differ by 40 to
    46 dB, and where nothing is left to resize the result is nearer to that of Lanczos. It is 1.5 to 2.7 times as fast.
    Keeping twice the side would be nearer (48 to 55 dB), but would decode images of 512 and 700 pixels in full.
    """
    first = next((step.name for step in recipe.steps if step.name != "grey"), None)
    return side if recipe.reduced_decoding and first in RESIZING else None


def needs_pixels(recipe: Preprocessing) -> bool:
    """Tell whether the geometry of the steps depends on what an image shows."""
    return any(step.name == "crop_foreground" for step in recipe.steps)


def apply_steps(picture: Image.Image, recipe: Preprocessing, side: int) -> Image.Image:
    """Make an image the final square.

    Parameters
    ----------
    picture : PIL.Image.Image
        Mode RGB, any size.
    recipe : Preprocessing
        The steps.
    side : int
        Side of the tensors in pixels.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, `side` x `side`.
    """
    for step in recipe.steps:
        picture = apply_step(picture, step, side)
    return checked(picture, side)


def apply_to_mask(mask: Image.Image, recipe: Preprocessing, side: int, picture: Image.Image | None) -> Image.Image:
    """Move a mask as its image is moved.

    Parameters
    ----------
    mask : PIL.Image.Image
        Mode L; class indices.
    recipe : Preprocessing
        The steps.
    side : int
        Side of the tensors in pixels.
    picture : PIL.Image.Image or None
        The image, mode RGB, of the mask's size; only steps that look at pixels need it.

    Returns
    -------
    PIL.Image.Image
        Mode L, `side` x `side`; each pixel is that of the nearest place, 255 where the image has a border.
    """
    for step in recipe.steps:
        box = window(step, picture or mask, side)
        if step.name in RESIZING:
            mask = mask.resize(new_size(step.name, mask.size, side), Image.Resampling.NEAREST)
        elif box:
            mask = cut(mask, box, IGNORED)
        picture = picture and apply_step(picture, step, side)
    return checked(mask, side)


def apply_step(picture: Image.Image, step: Any, side: int) -> Image.Image:
    """Apply one step to an image."""
    if picture.size == (side, side) and step.name in SIZING:
        return picture
    if step.name in RESIZING:
        size = new_size(step.name, picture.size, side)
        return picture.resize(size, Image.Resampling[step.interpolation.upper()])
    if step.name == "autocontrast":
        return ImageOps.autocontrast(picture, step.cutoff)
    if step.name == "grey":
        return picture.convert("L").convert("RGB")
    box = window(step, picture, side)
    return cut(picture, box, getattr(step, "fill", 0)) if box else picture


def new_size(name: str, size: Size, side: int) -> Size:
    """Return width and height after a resizing step."""
    width, height = size
    if name == "resize":
        return side, side
    if name == "resize_shorter":
        factor = side / min(size)
        return max(side, round(width * factor)), max(side, round(height * factor))
    factor = side / max(size)
    return max(1, round(width * factor)), max(1, round(height * factor))


def window(step: Any, picture: Image.Image, side: int) -> Box | None:
    """Return the part of an image that a step keeps, wider than the image where it adds a border; None: all."""
    if step.name == "crop_foreground":
        return foreground(picture, step.threshold)
    if step.name not in ("center_crop", "pad"):
        return None
    limit = min if step.name == "center_crop" else max
    width, height = (limit(length, side) for length in picture.size)
    left, top = (trunc_half(old - new) for old, new in zip(picture.size, (width, height), strict=True))
    return left, top, left + width, top + height


def trunc_half(difference: int) -> int:
    """Return half of a difference of lengths, rounded towards zero."""
    return difference // 2 if difference >= 0 else -(-difference // 2)


def foreground(picture: Image.Image, threshold: int) -> Box | None:
    """Return the smallest box that holds all pixels brighter than a grey value; None if all are dark."""
    bright = np.asarray(picture.convert("L")) > threshold
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def cut(picture: Image.Image, box: Box, fill: int) -> Image.Image:
    """Cut a box out of an image; what lies outside of the image gets one value."""
    left, top, right, bottom = box
    if box == (0, 0, *picture.size):
        return picture
    if left >= 0 and top >= 0 and right <= picture.width and bottom <= picture.height:
        return picture.crop(box)
    ground = Image.new(picture.mode, (right - left, bottom - top), (fill,) * len(picture.getbands()))
    ground.paste(picture, (-left, -top))
    return ground


def checked(picture: Image.Image, side: int) -> Image.Image:
    """Return an image that has the final size; steps that end in another are refused when they are configured."""
    if picture.size != (side, side):
        raise ValueError(f"the steps made {picture.width} x {picture.height} pixels, not {side} x {side}")
    return picture


def describe_steps(recipe: Preprocessing, side: int) -> list[str]:
    """Say in words what is done to an image."""
    return ["rgb", *(describe_step(step, side) for step in recipe.steps)]


def describe_step(step: Any, side: int) -> str:
    """Say in words what a step does."""
    words = {
        "resize": f"resize to {side} x {side}",
        "resize_shorter": f"resize shorter side to {side}",
        "resize_longer": f"resize longer side to {side}",
        "center_crop": f"centre crop to {side} x {side}",
        "pad": f"pad to {side} x {side}",
        "crop_foreground": "cut off dark borders",
        "autocontrast": "stretch contrast",
        "grey": "grey",
    }[step.name]
    settings = [f"{key} {value}" for key, value in differences(step).items() if key != "name"]
    return ", ".join([words, *settings])
