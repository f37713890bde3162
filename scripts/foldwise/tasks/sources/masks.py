"""Images and masks in folders of their own, paired by name."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, DataProblems, Problem, Words
from foldwise.tasks.sources.files import (
    SPLIT_NAMES,
    check_folder,
    find_splits,
    is_folder,
    list_images,
    listed_split,
    no_images,
    stem_of,
)
from foldwise.tasks.sources.listing import Listing, Raw

ENDING = re.compile(r"_(mask|seg|segmentation|label|gt)$", re.IGNORECASE)
REMEDY = "Add, rename or remove these files, or set images and masks to the folders that hold them."


class File(NamedTuple):
    """An image or mask: its path below the dataset's folder, its split, and what image and mask have in common."""

    path: str
    split: str
    stem: str


def image_root(record: DatasetRecord, raw_source: Path) -> Path:  # noqa: ARG001
    """Return the folder that ``files`` must be."""
    return raw_source


def read_masks(record: DatasetRecord, raw: Raw) -> Listing:
    """Pair the images of a folder with the masks of another.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset; `images` and `masks` name the two folders, by default ``images`` and ``masks``.
    raw : Raw
        The folder that holds both, or split folders each of which holds both.

    Returns
    -------
    Listing
        With columns image, split and mask; the mask of an unlabeled image may be empty.

    Raises
    ------
    DataError
        If there is no folder of images or of masks, or no image.
    DataProblems
        Naming images without mask, masks without image, and those that pair with several.

    Notes
    -----
    Splits are ``train/images``, ``train/masks``, ``test/images`` and so on, or, where there is a folder ``images`` on
    top, ``images/train``, ``masks/train`` and so on; the names of splits are those of the source ``folder``. A mask
    has the path of its image but for the suffix, and may end in ``_mask``, ``_seg``, ``_segmentation``, ``_label`` or
    ``_gt``. Where images and masks lie in one folder, those are the masks that end so.
    """
    images, masks = find_files(record, image_root(record, raw.source))
    problems = [*doubles(images), *doubles(masks)]
    pairs = pair(images, masks)
    problems += [
        Problem(image.path, "an image without mask")
        for image in images
        if image not in pairs and image.split != "unlabeled"
    ]
    paired = set(pairs.values())
    problems += [Problem(mask.path, "a mask without image") for mask in masks if mask.path not in paired]
    if problems:
        raise DataProblems(raw.source, problems, "one mask for each image, and one image for each mask", REMEDY)
    annotations = {
        "image": [image.path for image in images],
        "split": [listed_split(image.split) for image in images],
        "mask": [f"files/{pairs[image]}" if image in pairs else "" for image in images],
    }
    return Listing({image.path: f"files/{image.path}" for image in images}, annotations, [])


def find_files(record: DatasetRecord, root: Path) -> tuple[list[File], list[File]]:
    """Return all images and all masks."""
    check_folder(root)
    images, masks = prefix_of(record.images or "images"), prefix_of(record.masks or "masks")
    top = sorted(entry.name for entry in os.scandir(root) if is_folder(entry) and not entry.name.startswith("."))
    splits = {name: SPLIT_NAMES[name.lower()] for name in top if name.lower() in SPLIT_NAMES}
    whole = (root / images).is_dir()
    if not whole and not any((root / name / images).is_dir() for name in splits):
        expected = f"a folder {images.rstrip('/')}, or split folders (train, test) that hold one"
        found = Words(f"folders {', '.join(top[:20])}" if top else "no folder")
        raise DataError(root, found, expected, "Set images and masks to the folders that hold them.")
    pairs = [list_pairs(root, images, masks)] if whole else []
    for name, split in splits.items():
        beside = split == "unlabeled" and not overlaps(f"{name}/", images, masks)
        if beside and not (root / name / images).is_dir():
            paths, _ = list_below(root, f"{name}/", "")
            pairs.append(([File(f"{name}/{path}", split, path) for path in paths], []))
        elif beside or not whole:
            pairs.append(list_pairs(root, f"{name}/{images}", f"{name}/{masks}", split))
    return [image for some, _ in pairs for image in some], [mask for _, some in pairs for mask in some]


def prefix_of(folder: str) -> str:
    """Return the path of a folder with a slash at the end, or nothing for the folder that it is relative to."""
    path = posixpath.normpath(folder)
    return "" if path == "." else f"{path}/"


def overlaps(folder: str, *others: str) -> bool:
    """Tell whether a folder holds one of the others or lies in it; all with a slash at the end."""
    return any(folder.startswith(other) or other.startswith(folder) for other in others)


def list_pairs(root: Path, images: str, masks: str, split: str = "") -> tuple[list[File], list[File]]:
    """List the images and masks of two folders, in which folders stand for splits unless the split is known."""
    found, top = list_below(root, images, masks)
    if images == masks:
        drawn = [path for path in found if ENDING.search(stem_of(path))]
        found = [path for path in found if not ENDING.search(stem_of(path))]
    elif (root / masks).is_dir() or split != "unlabeled":
        drawn, more = list_below(root, masks, images)
        top = [*top, *more]
    else:
        drawn = []
    splits = {} if split else find_splits(set(top))
    return (
        [place(images, path, splits, split or "train") for path in found],
        [place(masks, path, splits, split or "train") for path in drawn],
    )


def list_below(root: Path, folder: str, other: str) -> tuple[list[str], list[str]]:
    """List the image files of a folder, and the folders directly in it, without what lies in the other folder."""
    files = list_images(root / folder)
    inner = other.removeprefix(folder) if other != folder and other.startswith(folder) else "/"
    images = [path for path in files.images if not path.startswith(inner)]
    if not images:
        raise no_images(root / folder, files)
    return images, [path for path in files.folders if "/" not in path and not f"{path}/".startswith(inner)]


def place(folder: str, path: str, splits: dict[str, str], split: str) -> File:
    """Return a file with its split, and its path without the names of split folder and suffix."""
    top, _, inner = path.partition("/")
    if inner and top in splits:
        return File(folder + path, splits[top], stem_of(inner))
    return File(folder + path, split, stem_of(path))


def pair(images: list[File], masks: list[File]) -> dict[File, str]:
    """Return the path of the mask of each image that has one: that of the same name, or else with an ending."""
    exact = {(mask.split, mask.stem): mask.path for mask in masks}
    pairs = {image: exact[image.split, image.stem] for image in images if (image.split, image.stem) in exact}
    taken = set(pairs.values())
    ended = {
        (mask.split, ENDING.sub("", mask.stem)): mask.path
        for mask in masks
        if mask.path not in taken and ENDING.search(mask.stem)
    }
    for image in images:
        if image not in pairs and (image.split, image.stem) in ended:
            pairs[image] = ended[image.split, image.stem]
    return pairs


def doubles(files: Iterable[File]) -> Iterator[Problem]:
    """Yield a problem for each file that differs from another in nothing but the suffix."""
    seen: dict[tuple[str, str], str] = {}
    for file in files:
        other = seen.setdefault((file.split, file.stem), file.path)
        if other != file.path:
            yield Problem(file.path, f"pairs with the same as {other}")
