"""What a source of images gives: the images and all that is known about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foldwise.errors import Problem

Report = Callable[[str], None]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2")


@dataclass(frozen=True)
class Raw:
    """Where a reader finds what a source holds, and where it may write.

    Parameters
    ----------
    source : Path
        The folder or file of ``path``; for what was fetched, the folder of extracted archives and plain files.
    folder : Path
        The dataset's own folder. Images of formats other than usual image files are converted into PNG files
        below ``folder / "files"``, rendered masks below ``folder / "masks"``.
    """

    source: Path
    folder: Path


@dataclass(frozen=True)
class Listing:
    """The images of a source and its table of annotations.

    Parameters
    ----------
    paths : dict of str to str
        Path of each image, by its name. Paths are relative to the dataset's folder: ``files/...``. The name of an
        image that is a file of its own is its path below ``files``, with ``/`` as separator.
    annotations : dict of str to list of str
        Columns of equal length, a row a sample; all values are strings, an empty one stands for nothing. Always has
        ``image``, a name in `paths`. Columns with a meaning: ``id``, ``split`` (train, val, test, unlabeled), ``fold``,
        ``group``, ``class``, ``classes`` (names joined by ``;``), ``soft_classes`` (numbers joined by ``;``),
        ``value``, ``mask`` (path of the mask relative to the dataset's folder). A table brings any other columns
        as they are.
    class_names : list of str
        Names of the classes in the source's own order, if it has one; for masks, the name of each value from 0.
    masks : sequence of str
        Those columns that are paths of masks.
    problems : mapping of str to Problem
        Why a file could not be converted, by its path; its images are left out.
    """

    paths: dict[str, str]
    annotations: dict[str, list[str]]
    class_names: list[str]
    masks: Sequence[str] = ("mask",)
    problems: Mapping[str, Problem] = field(default_factory=dict)
