"""The image set that ships with the core dependencies: handwritten digits of scikit-learn.

1797 images of 8 x 8 pixels with ten classes, the test part of the UCI set "Optical Recognition of
Handwritten Digits" (Alpaydin and Kaynak 1998, doi:10.24432/C50P49). The copy carries no writer
ids, so splits are stratified by class, not by writer.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from foldwise.artifacts import write_csv, write_many


def write_digits(folder: Path) -> list[tuple[str, str, int, int, int]]:
    """Write the digits as PNG files and their labels as a table.

    Parameters
    ----------
    folder : Path
        The dataset's ``files`` folder; receives ``images/*.png`` and ``labels.csv``.

    Returns
    -------
    list of tuple
        A row of ``images.csv`` for every image: image, path, width, height, channels.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    names = [f"{number:04d}" for number in range(len(images))]
    write_many({folder / f"images/{name}.png": encode_png(image) for name, image in zip(names, images, strict=True)})
    write_csv(folder / "labels.csv", ("image", "class"), zip(names, map(str, labels), strict=True))
    return [(name, f"files/images/{name}.png", 8, 8, 1) for name in names]


def encode_png(image: np.ndarray) -> bytes:
    """Return the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
