"""Datasets: images on disk from one source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foldwise.artifacts import FORMAT_VERSION, lock, read_csv, read_json, sha256, write_csv, write_json
from foldwise.config.canonical import differences
from foldwise.config.definition import DatasetRecord, Description
from foldwise.config.section import Section
from foldwise.errors import DataError, FoldwiseError, Words
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


def check_files(description: Path, checksums: dict[str, str], files: dict[str, Path], rule: str) -> None:
    """Raise `DataError` if a file is not the one whose checksum its description records."""
    for name, path in files.items():
        if sha256(path) != checksums.get(name):
            raise DataError(
                path,
                Words(f"other content than {description.name} vouches for"),
                "the file as written",
                f"--forcerun {rule} {description}",
            )


def all_files_exist(images: Path) -> bool:
    """Tell whether every image of the table is on disk."""
    return all((images.parent / path).is_file() for path in read_csv(images, ["path"])["path"])


def check_definition(description: Path, record: Section, rule: str) -> dict[str, Any]:
    """Read a description and compare the definition it records with the configuration's.

    Parameters
    ----------
    description : Path
        ``dataset.json``, ``task.json`` or ``manifest.json``.
    record : Section
        The definition that the configuration gives.
    rule : str
        The rule that makes the file, for the remedy.

    Returns
    -------
    dict
        The description.

    Raises
    ------
    DataError
        With both values of what differs.
    """
    found = read_json(description)
    recorded, configured = found.get("definition", {}), differences(record)
    if recorded != configured:
        defaults = type(record).model_fields
        keys = sorted(key for key in {*recorded, *configured} if recorded.get(key) != configured.get(key))
        shown = [
            {key: tree.get(key, defaults[key].default if key in defaults else None) for key in keys}
            for tree in (recorded, configured)
        ]
        raise DataError(
            description,
            Words(f"data made with {describe_keys(shown[0])}"),
            f"{describe_keys(shown[1])} as configured",
            "Other settings made this file, perhaps in another working directory. Use those, another data_dir, "
            f"or make it anew with --forcerun {rule} {description}",
        )
    return found


def describe_keys(tree: dict[str, Any]) -> str:
    """Write keys and values in words."""
    return ", ".join(f"{key} {value}" for key, value in tree.items())
