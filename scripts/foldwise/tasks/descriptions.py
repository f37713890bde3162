"""Descriptions of datasets, tasks and tensors: what they vouch for, and whether it is what the configuration wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from foldwise.artifacts import read_json, sha256
from foldwise.config.canonical import differences
from foldwise.config.definition import DatasetRecord
from foldwise.config.section import Section
from foldwise.config.sources import must_be_fetched
from foldwise.errors import DataError, FoldwiseError, Words

IMAGE_COLUMNS = ("image", "path", "width", "height", "channels")


class DatasetFiles(NamedTuple):
    """The files that describe a dataset."""

    description: Path
    images: Path
    annotations: Path

    @classmethod
    def of(cls, folder: Path) -> DatasetFiles:
        """Return the files in a dataset's folder."""
        return cls(folder / "dataset.json", folder / "images.csv", folder / "annotations.csv")

    @property
    def tables(self) -> dict[str, Path]:
        """The files that the description vouches for."""
        return {"images.csv": self.images, "annotations.csv": self.annotations}


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


def check_shared(description: Path, record: DatasetRecord) -> None:
    """Raise `DataError` if a dataset that is there is another one than that of the configuration.

    It has another definition, or its images lie elsewhere: projects that share data may have other working directories,
    in which the same relative path leads to other images.
    """
    check_definition(description, record, "create_dataset")
    path, link = Path(record.path or "."), description.with_name("files")
    if record.path is None or must_be_fetched(record) or not path.exists() or not link.is_symlink():
        return
    base, images = (path if path.is_dir() else path.parent), link.parent / link.readlink()
    if not any(folder.exists() and folder.samefile(base) for folder in (images, *images.parents)):
        raise DataError(
            description,
            Words(f"images of {images.resolve()}"),
            f"those of {base.resolve()}",
            f"Another working directory made it from its own {path}. Set `dataset` to another name, or use another "
            f"data_dir, or make it anew with --forcerun create_dataset {description}",
        )


def describe_keys(tree: dict[str, Any]) -> str:
    """Write keys and values in words."""
    return ", ".join(f"{key} {value}" for key, value in tree.items())
