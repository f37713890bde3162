"""Known public sets: where their files are, how they are checked, and what they hold.

Addresses, MD5 checksums and class names are in ``known.json``. Images of validation splits are for training, since
Foldwise validates on folds.
"""

from __future__ import annotations

import string
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldwise.artifacts import read_json
from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, DataProblems, Problem, Words
from foldwise.tasks.sources.arrays import read_arrays
from foldwise.tasks.sources.binary import Labelled, find_file, read_cifar, read_idx, read_svhn
from foldwise.tasks.sources.convert import Part, number_names, write_parts
from foldwise.tasks.sources.listing import Listing, Raw, Report

if TYPE_CHECKING:
    from foldwise.tasks.fetch import Download

FACTS = Path(__file__).with_name("known.json")
SMALLEST = 28
# The sets "balanced" and "bymerge" hold these small letters only: the others look like their capitals.
DISTINCT = "abdefghnqrt"
EMNIST_CLASSES = {
    "balanced": string.digits + string.ascii_uppercase + DISTINCT,
    "byclass": string.digits + string.ascii_uppercase + string.ascii_lowercase,
    "bymerge": string.digits + string.ascii_uppercase + DISTINCT,
    "digits": string.digits,
    "letters": string.ascii_uppercase,
    "mnist": string.digits,
}
CIFAR10_FILES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
CIFAR100_FILES = {"train": ["train.bin"], "test": ["test.bin"]}
IDX_PREFIXES = {"train": "train", "test": "t10k"}
WRONG_FILE = "Delete it and fetch the dataset again."


@cache
def facts() -> dict[str, Any]:
    """Read what is known about the sets."""
    return read_json(FACTS)


def set_name(record: DatasetRecord) -> str:
    """Return which of the sets of its source a dataset is."""
    return record.name or record.dataset


def downloads(record: DatasetRecord) -> list[Download]:
    """Return the files to fetch for a known set.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset: its source, and where the source has several sets, name and size.
    """
    from foldwise.tasks.fetch import Download

    known = facts()[record.source]
    if record.source == "medmnist":
        file = medmnist_file(record)
        checksum = known["sets"][set_name(record)]["md5"][str(record.size)]
        return [Download(file, (known["url"].replace("{file}", file),), f"md5:{checksum}")]
    return [Download(file["name"], tuple(file["urls"]), f"md5:{file['md5']}") for file in known["files"]]


def read_known(record: DatasetRecord, raw: Raw, report: Report) -> Listing:
    """Write the images of a known set as PNG files and list them with their classes.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset.
    raw : Raw
        The folder of the fetched files; and where images are written.
    report : callable
        Receives lines of progress.

    Returns
    -------
    Listing
        Images are named ``{split}/{number:06d}.png`` in the order of the published files. Columns are image, split and
        class; ``superclass`` too in CIFAR-100; in MedMNIST also value, the number of the class, and for ChestMNIST
        ``classes`` instead of both.

    Raises
    ------
    MissingData, DataError
        If a file is missing, damaged, or not what is published.
    """
    if record.source == "medmnist":
        return read_medmnist(record, raw, report)
    read = {
        "cifar10": read_cifar10,
        "cifar100": read_cifar100,
        "fashion_mnist": read_fashion,
        "emnist": lambda raw: read_emnist(set_name(record), raw),
        "svhn": read_house_numbers,
    }[record.source]
    parts, names = read(raw)
    return write_parts(parts, names, raw, report)


def medmnist_file(record: DatasetRecord) -> str:
    """Return the name of the file of a set at a size."""
    return f"{set_name(record)}{'' if record.size == SMALLEST else f'_{record.size}'}.npz"


def read_medmnist(record: DatasetRecord, raw: Raw, report: Report) -> Listing:
    """Read a set of MedMNIST (Yang et al. 2023, doi:10.1038/s41597-022-01721-8)."""
    path = find_file(raw.source, medmnist_file(record))
    names: list[str] = facts()["medmnist"]["sets"][set_name(record)]["classes"]
    listing = read_arrays(record, Raw(path, raw.folder), report)
    columns = listing.annotations
    if "class" in columns:
        columns["class"] = name_classes(columns["class"], names, path)
    elif "classes" in columns:
        columns["classes"] = [";".join(name_classes(cell.split(";"), names, path)) for cell in columns["classes"]]
    else:
        raise DataError(path, Words(f"columns {', '.join(columns)}"), "labels that are classes", WRONG_FILE)
    return Listing(listing.paths, columns, names)


def name_classes(numbers: list[str], names: list[str], path: Path) -> list[str]:
    """Return the names of classes that a file gives as numbers; what is empty stays so."""
    known = {"": "", **{str(number): name for number, name in enumerate(names)}}
    bad = [Problem(f"row {row}", f"class {number}") for row, number in enumerate(numbers) if number not in known]
    if bad:
        raise DataProblems(path, bad, f"classes from 0 to {len(names) - 1}", WRONG_FILE)
    return [known[number] for number in numbers]


def make_part(split: str, labelled: Labelled, column: int, names: list[str], path: Path) -> Part:
    """Give images their names and those of their classes."""
    classes = name_classes(list(map(str, labelled.labels[:, column])), names, path)
    columns = {"split": [split] * len(classes), "class": classes}
    return Part(number_names(split, len(classes)), labelled.chunks, columns)


def read_cifar10(raw: Raw) -> tuple[list[Part], list[str]]:
    """Read the binary version of CIFAR-10 (Krizhevsky 2009)."""
    names: list[str] = facts()["cifar10"]["classes"]
    parts = []
    for split, files in CIFAR10_FILES.items():
        paths = [find_file(raw.source, file) for file in files]
        parts.append(make_part(split, read_cifar(paths, 1), 0, names, paths[0].parent))
    return parts, names


def read_cifar100(raw: Raw) -> tuple[list[Part], list[str]]:
    """Read the binary version of CIFAR-100 (Krizhevsky 2009)."""
    known = facts()["cifar100"]
    parts = []
    for split, (file,) in CIFAR100_FILES.items():
        path = find_file(raw.source, file)
        labelled = read_cifar([path], 2)
        part = make_part(split, labelled, 1, known["classes"], path)
        coarse = name_classes(list(map(str, labelled.labels[:, 0])), known["superclasses"], path)
        parts.append(part._replace(columns={**part.columns, "superclass": coarse}))
    return parts, known["classes"]


def read_fashion(raw: Raw) -> tuple[list[Part], list[str]]:
    """Read Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747)."""
    names: list[str] = facts()["fashion_mnist"]["classes"]
    parts = []
    for split, prefix in IDX_PREFIXES.items():
        images = find_file(raw.source, f"{prefix}-images-idx3-ubyte")
        labels = find_file(raw.source, f"{prefix}-labels-idx1-ubyte")
        parts.append(make_part(split, read_idx(images, labels, transposed=False), 0, names, labels))
    return parts, names


def read_emnist(name: str, raw: Raw) -> tuple[list[Part], list[str]]:
    """Read a set of EMNIST (Cohen et al. 2017, arXiv:1702.05373); its images are turned upright."""
    names = list(EMNIST_CLASSES[name])
    first = 1 if name == "letters" else 0
    parts = []
    for split in ("train", "test"):
        images = find_file(raw.source, f"emnist-{name}-{split}-images-idx3-ubyte")
        labels = find_file(raw.source, f"emnist-{name}-{split}-labels-idx1-ubyte")
        labelled = read_idx(images, labels, transposed=True)
        parts.append(make_part(split, labelled._replace(labels=labelled.labels - first), 0, names, labels))
    return parts, names


def read_house_numbers(raw: Raw) -> tuple[list[Part], list[str]]:
    """Read the cropped digits of SVHN (Netzer et al. 2011), without its split `extra`."""
    names: list[str] = facts()["svhn"]["classes"]
    paths = {split: find_file(raw.source, f"{split}_32x32.mat") for split in ("train", "test")}
    return [make_part(split, read_svhn(path), 0, names, path) for split, path in paths.items()], names
