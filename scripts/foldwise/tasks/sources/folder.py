"""A folder of images in which folders stand for classes, and perhaps for splits."""

from __future__ import annotations

from pathlib import Path

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataProblems, Problem
from foldwise.tasks.sources.files import (
    SPLIT_NAMES,
    Files,
    can_be_class,
    find_splits,
    list_images,
    listed_split,
    no_images,
)
from foldwise.tasks.sources.listing import Listing, Raw


def image_root(record: DatasetRecord, raw_source: Path) -> Path:  # noqa: ARG001
    """Return the folder that ``files`` must be."""
    return raw_source


def read_folder(record: DatasetRecord, raw: Raw) -> Listing:
    """List the images of a folder, with split and class.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset.
    raw : Raw
        The folder holds ``{class}/**/*.jpg``, or ``{split}/{class}/**/*.jpg``.

    Returns
    -------
    Listing
        With columns image, split and class.

    Raises
    ------
    DataError
        If there are no images at all.
    DataProblems
        Naming classes without images, or with names that cannot be used.

    Notes
    -----
    Folders stand for splits if there is one for training or testing and every folder on top has the name of a
    split (train, training, test, testing, val, valid, validation, unlabeled, unlabelled; in any case). Otherwise
    every folder on top is a class, but for ``unlabeled``. Images of ``val`` are for training, since Foldwise
    validates on folds. Images of ``unlabeled``, and those that lie in no folder of a class, have no class. A
    single folder on top that holds nothing but folders is passed through: archives often wrap everything in one.
    """
    files = list_images(image_root(record, raw.source))
    if not files.images:
        raise no_images(raw.source, files)
    prefix = wrapping(files)
    splits = find_splits(folders_below(files, prefix))
    rows = [place(path, len(prefix), splits) for path in files.images]
    problems = [*empty_folders(files, prefix, splits), *bad_classes({label for _, label in rows})]
    if problems:
        raise DataProblems(
            raw.source, problems, "a folder with images for each class", "Remove, fill or rename these folders."
        )
    annotations = {
        "image": files.images,
        "split": [split for split, _ in rows],
        "class": [label for _, label in rows],
    }
    return Listing({path: f"files/{path}" for path in files.images}, annotations, [])


def folders_below(files: Files, prefix: str) -> list[str]:
    """Return the names of the folders that lie directly in a folder."""
    below = (folder[len(prefix) :] for folder in files.folders if folder.startswith(prefix))
    return [folder for folder in below if folder and "/" not in folder]


def wrapping(files: Files) -> str:
    """Return the path of the folder that wraps all the others, with a slash at the end; it is empty if none does."""
    prefix = ""
    while True:
        top = folders_below(files, prefix)
        if len(top) != 1 or top[0].lower() in SPLIT_NAMES:
            return prefix
        inner = f"{prefix}{top[0]}/"
        if not all(path.startswith(inner) and "/" in path[len(inner) :] for path in files.images):
            return prefix
        prefix = inner


def place(path: str, start: int, splits: dict[str, str]) -> tuple[str, str]:
    """Return split and class of an image; `start` is the length of the wrapping folder's path."""
    top, *inner = path[start:].split("/", 2)
    if not inner:
        return "train", ""
    if top not in splits:
        return "train", top
    split = listed_split(splits[top])
    return split, inner[0] if len(inner) == 2 and split != "unlabeled" else ""


def empty_folders(files: Files, prefix: str, splits: dict[str, str]) -> list[Problem]:
    """Return a problem for each folder of a split or class that holds no image."""
    top = folders_below(files, prefix)
    labelled = [folder for folder in top if splits.get(folder, "unlabeled") != "unlabeled"]
    wanted = [prefix + folder for folder in top]
    for folder in labelled:
        wanted += [f"{prefix}{folder}/{label}" for label in folders_below(files, f"{prefix}{folder}/")]
    depth = prefix.count("/")
    filled = {
        "/".join(parts[:length])
        for parts in (path.split("/", depth + 2) for path in files.images)
        for length in range(depth + 1, len(parts))
    }
    return [Problem(folder, "holds no image") for folder in sorted(set(wanted) - filled)]


def bad_classes(labels: set[str]) -> list[Problem]:
    """Return a problem for each name that cannot stand for a class in a table."""
    reason = "a class must not contain `;` or control characters"
    return [Problem(repr(label), reason) for label in sorted(labels - {""}) if not can_be_class(label)]
