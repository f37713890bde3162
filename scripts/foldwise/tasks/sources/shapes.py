"""Shapes of objects in COCO files (https://cocodataset.org/#format-data): polygons, boxes and run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

MAX_COORDINATE = 1e6
BITS, MORE, SIGN = 5, 0b100000, 0b010000
MAX_CHUNKS = 7  # of 5 bits each: more than any image has pixels


@dataclass(frozen=True)
class Polygons:
    """Parts of an object, each an array of points (x, y) in pixels of shape (n, 2)."""

    parts: list[np.ndarray]

    @property
    def area(self) -> float:
        """Area in pixels (shoelace formula), also of what lies outside the image."""
        return sum(
            abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2 for x, y in (p.T for p in self.parts)
        )

    def draw(self, canvas: np.ndarray, value: int) -> None:
        """Set the pixels whose centres lie inside; where lines of one part cross, by the even-odd rule."""
        for part in self.parts:
            fill(canvas, part, value)


@dataclass(frozen=True)
class Runs:
    """Lengths of runs of pixels, column by column, by turns outside and inside of an object."""

    counts: list[int]

    @property
    def area(self) -> float:
        """Area in pixels."""
        return sum(self.counts[1::2])

    def draw(self, canvas: np.ndarray, value: int) -> None:
        """Set the pixels inside."""
        pixels = canvas.reshape(-1)
        ends = list(accumulate(self.counts))
        for start, end in zip(ends[::2], ends[1::2], strict=False):
            pixels[start:end] = value


Shape = Polygons | Runs


def draw(shapes: Sequence[tuple[Shape, int]], height: int, width: int, dtype: type) -> np.ndarray:
    """Draw shapes as an index mask.

    Parameters
    ----------
    shapes : sequence of (Shape, int)
        Shapes with their values. Smaller ones lie over larger ones, and of equal ones the later.
    height, width : int
        Size in pixels.
    dtype : type
        Type of the values.

    Returns
    -------
    ndarray, shape (height, width)
    """
    canvas: np.ndarray = np.zeros((width, height), dtype)  # columns first, as run lengths are counted
    for shape, value in sorted(shapes, key=lambda pair: -pair[0].area):
        shape.draw(canvas, value)
    return np.ascontiguousarray(canvas.T)


def fill(canvas: np.ndarray, points: np.ndarray, value: int) -> None:
    """Fill a polygon on a canvas of shape (width, height).

    Every edge crosses the centre lines of some columns of pixels. Down a column, a pixel is inside if an odd number
    of crossings lies above its centre.
    """
    width, height = canvas.shape
    start, end = points, np.roll(points, -1, axis=0)
    first, last = (
        np.clip(np.ceil(bound(start[:, 0], end[:, 0]) - 0.5), 0, width).astype(int)
        for bound in (np.minimum, np.maximum)
    )
    lengths = last - first
    if not lengths.any():
        return
    edges = np.repeat(np.arange(len(points)), lengths)
    columns = np.arange(len(edges)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + first[edges]
    (x0, y0), (x1, y1) = start[edges].T, end[edges].T
    heights = y0 + (columns + 0.5 - x0) * (y1 - y0) / (x1 - x0)
    rows = np.clip(np.ceil(heights - 0.5), 0, height).astype(int)
    left, top, span = columns.min(), rows.min(), rows.max() - rows.min() + 1
    size = (columns.max() - left + 1) * span
    crossings = np.bincount((columns - left) * span + rows - top, minlength=size).reshape(-1, span) % 2 == 1
    inside = np.logical_xor.accumulate(crossings, axis=1)[:, :-1]
    canvas[left : left + len(inside), top : top + span - 1][inside] = value


def parse_shape(annotation: dict[str, Any], key: str, height: int, width: int) -> Shape | None:
    """Read the shape of an object, None if it has none.

    Parameters
    ----------
    annotation : dict
        An annotation.
    key : str
        ``segmentation`` or ``bbox``.
    height, width : int
        Size of its image in pixels.

    Raises
    ------
    ValueError
        With a reason.
    """
    found = annotation.get(key)
    if not found:
        return None
    if key == "bbox":
        return parse_box(found)
    if isinstance(found, dict):
        return parse_runs(found, height, width)
    if not isinstance(found, list):
        raise ValueError("a segmentation that is neither a list of polygons nor run lengths")
    return Polygons([parse_polygon(polygon) for polygon in found])


def parse_numbers(found: Any, kind: str) -> np.ndarray:
    """Read numbers in pixels."""
    try:
        numbers = np.asarray(found, float)
    except (TypeError, ValueError, OverflowError):
        numbers = np.empty((0, 0))
    if not isinstance(found, list) or numbers.ndim != 1:
        raise ValueError(f"a {kind} that is no list of numbers")
    if not (np.abs(numbers) <= MAX_COORDINATE).all():
        raise ValueError(f"a {kind} with numbers that are not between {-MAX_COORDINATE:.0f} and {MAX_COORDINATE:.0f}")
    return numbers


def parse_polygon(found: Any) -> np.ndarray:
    """Read the points of a polygon."""
    numbers = parse_numbers(found, "polygon")
    if len(numbers) % 2:
        raise ValueError(f"a polygon of {len(numbers)} numbers, which are no pairs")
    if len(numbers) < 6:
        raise ValueError(f"a polygon of {len(numbers) // 2} points, fewer than 3")
    return numbers.reshape(-1, 2)


def parse_box(found: Any) -> Polygons:
    """Read a box: left, top, width, height."""
    numbers = parse_numbers(found, "bbox")
    if len(numbers) != 4 or (numbers[2:] < 0).any():
        raise ValueError("a bbox that is not x, y, width, height")
    x, y, width, height = numbers
    return Polygons([np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])])


def parse_runs(found: dict[str, Any], height: int, width: int) -> Runs:
    """Read run lengths, compressed or not."""
    if found.get("size") != [height, width]:
        raise ValueError(f"run lengths of size {found.get('size')}, and an image of [{height}, {width}]")
    counts = found.get("counts")
    if isinstance(counts, str):
        counts = decode_counts(counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("run lengths that are no list of counts")
    if sum(counts) != height * width:
        raise ValueError(f"run lengths of {sum(counts)} pixels in all, and an image of {height * width}")
    return Runs(counts)


def decode_counts(text: str) -> list[int]:
    """Decode compressed run lengths.

    Every number is written in chunks of five bits, the lowest first, each as the letter with code 48 plus the chunk,
    plus 32 if more chunks follow. The highest bit of the last chunk is the sign. From the fourth on, numbers are
    differences from the last but one.

    Raises
    ------
    ValueError
        If letters are wrong or the last number is cut off.
    """
    counts: list[int] = []
    number = chunks = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 2 * MORE or chunks == MAX_CHUNKS:
            raise ValueError("compressed run lengths with wrong letters")
        number |= (code % MORE) << (BITS * chunks)
        chunks += 1
        if code & MORE:
            continue
        if code & SIGN:
            number -= 1 << (BITS * chunks)
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number = chunks = 0
    if chunks:
        raise ValueError("compressed run lengths that are cut off")
    return counts
