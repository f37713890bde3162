"""Datasets: images on disk from one source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foldwise.artifacts import FORMAT_VERSION, lock, read_csv, read_json, sha256, write_csv, write_json
from foldwise.config.canonical import differences
from foldwise.config.definition import DatasetRecord, Description
from foldwise.errors import DataError, FoldwiseError
from foldwise.tasks.embedded import write_digits

IMAGE_COLUMNS = ("image", "path", "width", "height", "channels")


def create_dataset(record: DatasetRecord, about: Description, revision: int, description: Path, images: Path) -> None:
    """Fetch the images of a dataset and describe them.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset.
    about : Description
        Licence, reference and keywords.
    revision : int
        Revision of the code that writes it.
    description, images : Path
        Where ``dataset.json`` and ``images.csv`` go; image files go into ``files`` beside them.

    Notes
    -----
    What an equal definition already wrote, and is still whole, is kept as it is.
    """
    folder = description.parent
    identity = {**about.model_dump(), "definition": differences(record), "revision": revision}
    with lock(folder):
        labels = folder / "files" / "labels.csv"
        if is_current(description, identity, {"images.csv": images, "files/labels.csv": labels}) and all_files_exist(
            images
        ):
            return
        rows = write_digits(folder / "files")
        write_csv(images, IMAGE_COLUMNS, rows)
        write_json(
            description,
            {
                "format_version": FORMAT_VERSION,
                "dataset": record.dataset,
                "source": record.source,
                "counts": {"images": len(rows)},
                **identity,
                "checksums": {"images.csv": sha256(images), "files/labels.csv": sha256(labels)},
            },
        )


def is_current(description: Path, identity: dict[str, Any], files: dict[str, Path]) -> bool:
    """Tell whether a description was written for the same identity and its files are whole."""
    try:
        found = read_json(description)
        return all(found[key] == value for key, value in identity.items()) and all(
            found["checksums"][name] == sha256(path) for name, path in files.items()
        )
    except (FoldwiseError, KeyError):
        return False


def all_files_exist(images: Path) -> bool:
    """Tell whether every image of the table is on disk."""
    return all((images.parent / path).is_file() for path in read_csv(images, ["path"])["path"])


def check_definition(description: Path, definition: dict[str, Any], rule: str) -> dict[str, Any]:
    """Read a description and compare the definition it records with the configuration's.

    Returns
    -------
    dict
        The description.

    Raises
    ------
    DataError
        With both definitions, if they differ.
    """
    found = read_json(description)
    if found.get("definition") != definition:
        raise DataError(
            description,
            f"recorded definition {found.get('definition')}",
            f"the configured {definition}",
            f"Other settings made this file, perhaps in another working directory. To make it anew: "
            f"snakemake --forcerun {rule} {description}",
        )
    return found
