"""Datasets: images on disk from one source."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foldwise.artifacts import FORMAT_VERSION, lock, read_csv, read_json, sha256, write_csv, write_json, writing
from foldwise.config.canonical import differences
from foldwise.config.definition import DatasetRecord, Description
from foldwise.config.jobs import DatasetConfig, Origin
from foldwise.config.sources import must_be_fetched
from foldwise.errors import NOTHING, DataError, DataProblems, FoldwiseError, MissingData, Problem, Words
from foldwise.tasks.check import Checked, check_images
from foldwise.tasks.descriptions import IMAGE_COLUMNS, DatasetFiles, is_current
from foldwise.tasks.fetch import fetched_root
from foldwise.tasks.sources import FILE_SOURCES, image_root, read_source
from foldwise.tasks.sources.listing import Listing, Raw
from foldwise.tasks.sources.table import missing_files

Size = tuple[int | str, int | str, int | str]
UNKNOWN_SIZE: Size = ("", "", "")


def create_dataset(
    config: DatasetConfig,
    origin: Origin,
    about: Description,
    revision: int,
    source: Path | None,
    files: DatasetFiles,
    threads: int = 1,
    report: Callable[[str], None] = lambda text: None,
) -> None:
    """List the images of a dataset, check them and describe them.

    Parameters
    ----------
    config : DatasetConfig
        What identifies the dataset, and whether its images are opened.
    origin : Origin
        How broken images are met.
    about : Description
        Licence, reference and keywords.
    revision : int
        Revision of the code that writes it.
    source : Path or None
        ``source.json`` of what was fetched, or the local file that is read; None for a folder and embedded sets.
    files : DatasetFiles
        What to write. Images that are used as they lie are reached through the link ``files`` beside them, others
        are written there. What an equal definition already wrote, and is still whole, is kept.
    threads : int
        Images opened at a time.
    report : callable
        Receives lines of progress.

    Raises
    ------
    DataError
        If the source cannot be read; or images cannot, unless they are to be skipped: lists all of them.
    """
    record, folder = config.dataset, files.description.parent
    identity = {**about.model_dump(), "definition": differences(record), "revision": revision}
    with lock(folder):
        identity["inputs"] = {source.name: sha256(source)} if source else {}
        if is_current(files.description, identity, files.tables) and suffices(files, config.check, origin.on_error):
            return
        raw = Raw(locate(record, source), folder)
        prepare(record, raw, identity["definition"], files.description)
        listing = read_source(record, raw, report)
        checked = check(config.check, listing, folder, threads, report)
        if checked.problems and origin.on_error == "stop":
            raise tell_problems(record, list(checked.problems.values()), missing_rows(record, listing, raw))
        write_dataset(config, kept(listing, checked), checked, identity, files)
        journal_of(folder).unlink(missing_ok=True)


def suffices(files: DatasetFiles, level: str, on_error: str) -> bool:
    """Tell whether a dataset was checked as thoroughly as wanted, nothing unwanted was skipped, and its files exist."""
    found = read_json(files.description)
    return (
        found["check"] in (level, "full") and not (found["skipped"] and on_error == "stop") and all_files_exist(files)
    )


def locate(record: DatasetRecord, source: Path | None) -> Path:
    """Return the folder or file that a source is read from.

    Raises
    ------
    MissingData
        If it is not there.
    """
    if source and must_be_fetched(record):
        return fetched_root(source)
    path = Path(record.path or ".")
    if not path.exists():
        found = Words("a link that leads nowhere") if path.is_symlink() else NOTHING
        raise MissingData(
            path, found, f"the images of dataset {record.dataset}", f"Mend path of source {record.source}."
        )
    return path


def prepare(record: DatasetRecord, raw: Raw, definition: dict[str, Any], description: Path) -> None:
    """Make ``files`` what the source needs: a link to image files that lie elsewhere, or a folder of our own.

    What another definition left there is removed; links are never followed.
    """
    files, masks = raw.folder / "files", raw.folder / "masks"
    wanted = None
    if record.source in FILE_SOURCES:
        root = image_root(record, raw.source)
        wanted = link_target(root, raw.folder)
    other = description.exists() and recorded_definition(description) != definition
    with writing(files):
        raw.folder.mkdir(parents=True, exist_ok=True)
        if files.is_symlink() and (wanted is None or str(files.readlink()) != wanted):
            files.unlink()
        elif not files.is_symlink() and files.exists() and (wanted or other):
            shutil.rmtree(files)
        if other and masks.is_dir() and not masks.is_symlink():
            shutil.rmtree(masks)
        if wanted and not files.is_symlink():
            files.symlink_to(wanted, target_is_directory=True)


def link_target(root: Path, folder: Path) -> str:
    """Return how a link in a folder names another: relative if both are, so that they can move together."""
    return str(root) if root.is_absolute() and not folder.is_absolute() else os.path.relpath(root, folder)


def recorded_definition(description: Path) -> Any:
    """Return the definition that a description records, None if it cannot be read."""
    try:
        return read_json(description).get("definition")
    except FoldwiseError:
        return None


def check(level: str, listing: Listing, folder: Path, threads: int, report: Callable[[str], None]) -> Checked:
    """Open every image and mask, or trust the source."""
    if level == "none":
        return Checked(sizes={}, problems={}, duplicates=[], mask_values=[])
    return check_images(listing, folder, threads, report, journal_of(folder))


def journal_of(folder: Path) -> Path:
    """Return the file in which a check keeps what it has found until all is found."""
    return folder / ".checked.jsonl"


def missing_rows(record: DatasetRecord, listing: Listing, raw: Raw) -> list[Problem]:
    """Return the images of a table that are not there, with their rows."""
    return missing_files(record, listing, raw) if record.source == "table" else []


def tell_problems(record: DatasetRecord, found: Sequence[Problem], rows: Sequence[Problem]) -> DataProblems:
    """Return the error that lists all images that cannot be used; what is told by row is not told by file again."""
    problems = [*rows, *(problem for problem in found if not (rows and problem.reason == "missing"))]
    remedy = "Replace or remove them, or set on_error: skip in the definition to go on without them."
    return DataProblems(f"dataset {record.dataset}", problems, "images and masks that can be read", remedy)


def kept(listing: Listing, checked: Checked) -> Listing:
    """Return a listing without the images that cannot be used."""
    if not checked.problems:
        return listing
    paths = {name: path for name, path in listing.paths.items() if name not in checked.problems}
    rows = [place for place, name in enumerate(listing.annotations["image"]) if name in paths]
    annotations = {column: [values[row] for row in rows] for column, values in listing.annotations.items()}
    return Listing(paths, annotations, listing.class_names)


def write_dataset(
    config: DatasetConfig, listing: Listing, checked: Checked, identity: dict[str, Any], files: DatasetFiles
) -> None:
    """Write the files of a dataset; the description comes last, as it vouches for the others."""
    if not listing.paths:
        raise DataError(f"dataset {config.dataset.dataset}", Words("no image that can be used"), "at least one image")
    sizes: Any = checked.sizes
    write_csv(
        files.images,
        IMAGE_COLUMNS,
        ((name, path, *sizes.get(name, UNKNOWN_SIZE)) for name, path in listing.paths.items()),
    )
    write_csv(files.annotations, tuple(listing.annotations), zip(*listing.annotations.values(), strict=True))
    counts = {"images": len(listing.paths), "samples": len(listing.annotations["image"])}
    write_json(
        files.description,
        {
            "format_version": FORMAT_VERSION,
            "dataset": config.dataset.dataset,
            "source": config.dataset.source,
            "counts": {**counts, "skipped": len(checked.problems)},
            "check": config.check,
            "class_names": listing.class_names,
            "mask_values": checked.mask_values,
            "skipped": [{"image": name, **problem._asdict()} for name, problem in checked.problems.items()],
            "duplicates": checked.duplicates,
            **identity,
            "checksums": {name: sha256(path) for name, path in files.tables.items()},
        },
    )


def all_files_exist(files: DatasetFiles) -> bool:
    """Tell whether every image of the table is on disk."""
    folder = str(files.images.parent)
    return all(os.path.isfile(f"{folder}/{path}") for path in read_csv(files.images, ["path"])["path"])  # noqa: PTH113
