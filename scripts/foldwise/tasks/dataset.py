"""Datasets: images on disk from one source."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foldwise.artifacts import (
    FORMAT_VERSION,
    lock,
    make_not_older,
    read_csv,
    read_json,
    reading,
    sha256,
    write_csv,
    write_json,
    writing,
)
from foldwise.config.canonical import differences
from foldwise.config.definition import DatasetRecord, Description
from foldwise.config.jobs import DatasetConfig, Origin
from foldwise.config.sources import must_be_fetched
from foldwise.errors import NOTHING, DataError, DataProblems, FoldwiseError, MissingData, Problem, Words
from foldwise.tasks.check import Checked, check_images
from foldwise.tasks.descriptions import IMAGE_COLUMNS, DatasetFiles, is_current
from foldwise.tasks.sources import FILE_SOURCES, image_root, read_source
from foldwise.tasks.sources.listing import Listing, Raw
from foldwise.tasks.sources.table import missing_files

Size = tuple[int | str, int | str, int | str]
UNKNOWN_SIZE: Size = ("", "", "")
PIXELS = ("files", "masks")
KEPT = ".kept-"


def create_dataset(
    config: DatasetConfig,
    origin: Origin,
    about: Description,
    revision: int,
    source: Path | None,
    files: DatasetFiles,
    threads: int = 1,
    report: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
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
    warn : callable
        Is told how many images are left out.

    Raises
    ------
    DataError
        If the source cannot be read; or images cannot, unless they are to be skipped: lists all of them.
    """
    record, folder = config.dataset, files.description.parent
    processes = 0 if record.source == "embedded" else threads  # its images are small, and harm no decoder
    identity = {**about.model_dump(), "definition": differences(record), "revision": revision}
    with lock(folder):
        put_back(files.description)  # what a run that was killed had set aside
        identity["inputs"] = {source.name: checksum_of(source)} if source else {}
        written = is_current(files.description, identity, files.tables)
        if written and suffices(files, config.check, origin.on_error) and is_unchanged(record, files.description):
            journal_of(folder).unlink(missing_ok=True)
            make_not_older(files, source or files.images)
            return
        raw = Raw(locate(record, source), folder)
        same = same_pixels(files.description, identity) and is_unchanged(record, files.description)
        with contextlib.nullcontext() if same else setting_aside(files.description):
            prepare(record, raw)
            listing = read_source(record, raw, report)
            checked = check(config.check, listing, folder, processes, report)
            if checked.problems and origin.on_error == "stop":
                raise tell_problems(record, list(checked.problems.values()), missing_rows(record, listing, raw))
            if checked.problems:
                count = len(checked.problems)
                warn(f"dataset {record.dataset}: left out what cannot be used ({count}); dataset.json lists it.")
            write_dataset(config, kept(listing, checked), checked, identity, files)
        journal_of(folder).unlink(missing_ok=True)


def checksum_of(source: Path) -> str:
    """Return the checksum of what a dataset is read from; a file of the user is never to be deleted."""
    with reading(source, "a file that can be read", "Mend it, or path of the source."):
        source.open("rb").close()
    return sha256(source)


def suffices(files: DatasetFiles, level: str, on_error: str) -> bool:
    """Tell whether a dataset was checked as thoroughly as wanted, nothing unwanted was skipped, and its files exist."""
    found = read_json(files.description)
    return (
        found["check"] in (level, "full") and not (found["skipped"] and on_error == "stop") and all_files_exist(files)
    )


def is_unchanged(record: DatasetRecord, description: Path) -> bool:
    """Tell whether nothing below the path of a source changed since its dataset was described.

    What is fetched has a checksum; what a function makes can be told only by calling it.
    """
    if record.source == "python":
        return False
    path = Path(record.path or ".")
    if record.path is None or must_be_fetched(record) or not path.exists():
        return True
    made = description.stat()
    root = image_root(record, path) if record.source in FILE_SOURCES else path
    return not any(
        found.st_mtime_ns > made.st_mtime_ns or found.st_ctime_ns > made.st_ctime_ns for found in walk_status(root)
    )


def walk_status(root: Path) -> Iterator[os.stat_result]:
    """Yield the status of a path and of all below it; links are followed, and each folder is entered once."""
    yield root.stat()
    folders, entered = [str(root)] if root.is_dir() else [], set()
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # a link that leads nowhere
                    found = entry.stat()
                    yield found
                    if entry.is_dir() and (found.st_dev, found.st_ino) not in entered:
                        entered.add((found.st_dev, found.st_ino))
                        folders.append(entry.path)


def locate(record: DatasetRecord, source: Path | None) -> Path:
    """Return the folder or file that a source is read from.

    Raises
    ------
    MissingData
        If it is not there.
    """
    if source and must_be_fetched(record):
        from foldwise.tasks.fetch import fetched_root

        return fetched_root(source)
    path = Path(record.path or ".")
    if not path.exists():
        found = Words("a link that leads nowhere") if path.is_symlink() else NOTHING
        raise MissingData(
            path, found, f"the images of dataset {record.dataset}", f"Mend path of source {record.source}."
        )
    return path


@contextlib.contextmanager
def setting_aside(description: Path) -> Iterator[None]:
    """Keep the images and masks of an older description while others are made; put them back if that fails.

    They lie in a hidden folder whose name tells which description they belong to, so that after a kill the next run
    knows whether it still vouches for them.
    """
    if description.exists():
        kept = kept_of(description)
        with writing(kept):
            kept.mkdir(exist_ok=True)
            for name in PIXELS:
                if os.path.lexists(description.parent / name):
                    os.replace(description.parent / name, kept / name)
    try:
        yield
    finally:
        put_back(description)


def same_pixels(description: Path, identity: Mapping[str, Any]) -> bool:
    """Tell whether a description was made for the same definition of what images and masks hold."""
    try:
        found = read_json(description)
    except FoldwiseError:
        return False
    return all(found.get(key) == identity[key] for key in ("definition", "inputs"))


def kept_of(description: Path) -> Path:
    """Return the folder in which images and masks of a description are set aside."""
    return description.with_name(f"{KEPT}{sha256(description)[:16]}")


def put_back(description: Path) -> None:
    """Put back images and masks that were set aside, or remove them if another description was written since."""
    folder = description.parent
    for kept in folder.glob(f"{KEPT}*"):
        if description.exists() and kept == kept_of(description):
            for path in kept.iterdir():
                remove(folder / path.name)
                os.replace(path, folder / path.name)
        remove(kept)


def remove(path: Path) -> None:
    """Remove a link, or a folder with all that is in it."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def prepare(record: DatasetRecord, raw: Raw) -> None:
    """Make ``files`` what the source needs: a link to image files that lie elsewhere, or a folder of our own.

    What is something else is removed; links are never followed.
    """
    files = raw.folder / "files"
    root = image_root(record, raw.source) if record.source in FILE_SOURCES else None
    with writing(files):
        raw.folder.mkdir(parents=True, exist_ok=True)
        wanted = link_target(root, raw.folder) if root else None
        if wanted != str(files.readlink()) if files.is_symlink() else wanted:
            remove(files)
        if wanted and not files.is_symlink():
            files.symlink_to(wanted, target_is_directory=True)


def link_target(root: Path, folder: Path) -> str:
    """Return how a link in a folder names another: relative if both are, so that they can move together.

    A relative link starts from where the folder really is: through a link to another disk it would lead nowhere.
    """
    if root.is_absolute() and not folder.is_absolute():
        return str(root)
    relative = os.path.relpath(root, folder)
    leads = not root.exists() or ((folder / relative).exists() and (folder / relative).samefile(root))
    return relative if leads else str(root.absolute())


def check(level: str, listing: Listing, folder: Path, processes: int, report: Callable[[str], None]) -> Checked:
    """Open every image and mask, or trust the source; files that could not be converted are problems either way."""
    if level == "none":
        return Checked(sizes={}, problems=dict(listing.problems), duplicates=[], mask_values=[])
    checked = check_images(listing, folder, processes, report, journal_of(folder))
    return replace(checked, problems={**listing.problems, **checked.problems})


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
    return Listing(paths, annotations, listing.class_names, listing.masks)


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
            "content": checked.content,
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
