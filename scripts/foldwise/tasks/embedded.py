"""The image set that ships with the core dependencies: handwritten digits of scikit-learn.

1797 images of 8 x 8 pixels with ten classes, the test part of the UCI set "Optical Recognition of
Handwritten Digits" (Alpaydin and Kaynak 1998, doi:10.24432/C50P49). The copy carries no writer
ids, so splits are stratified by class, not by writer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from foldwise.artifacts import atomic, write_csv


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
    rows = []
    for number, image in enumerate(images):
        name = f"{number:04d}"
        with atomic(folder / "images" / f"{name}.png") as temporary:
            Image.fromarray(image).save(temporary, format="PNG")
        rows.append((name, f"files/images/{name}.png", 8, 8, 1))
    names = [row[0] for row in rows]
    write_csv(folder / "labels.csv", ("image", "class"), zip(names, map(str, labels), strict=True))
    return rows
