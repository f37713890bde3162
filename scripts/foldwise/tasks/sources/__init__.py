"""Readers of dataset sources: each lists images and their annotations."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from foldwise.config.definition import DatasetRecord
from foldwise.config.sources import KNOWN_SETS
from foldwise.tasks.sources.listing import Listing, Raw, Report

FILE_SOURCES = ("folder", "table", "masks", "coco")  # their image files are used as they lie


def image_root(record: DatasetRecord, source: Path) -> Path:
    """Return the folder of the image files of a source that are used as they lie."""
    root: Path = reader(record.source).image_root(record, source)
    return root


def read_source(record: DatasetRecord, raw: Raw, report: Report) -> Listing:
    """List the images of a source; images that are no files of their own are converted.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset.
    raw : Raw
        What to read and where to write.
    report : callable
        Receives lines of progress.

    Raises
    ------
    DataError
        If the source is damaged or not what its kind needs; names file or row.
    """
    module = reader(record.source)
    read = getattr(module, "read_known" if record.source in KNOWN_SETS else f"read_{record.source}")
    listing: Listing = read(record, raw) if record.source in (*FILE_SOURCES, "embedded") else read(record, raw, report)
    return listing


def reader(source: str) -> Any:
    """Import the module that reads a kind of source."""
    if source in KNOWN_SETS:
        return import_module("foldwise.tasks.known")
    return import_module("foldwise.tasks.embedded" if source == "embedded" else f"foldwise.tasks.sources.{source}")
