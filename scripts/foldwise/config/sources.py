"""Where the images of a dataset come from: kinds of sources and the keys that each of them takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BeforeValidator, Field

from foldwise.config.section import Section, hide_secrets, is_plain
from foldwise.config.values import read_arguments
from foldwise.errors import NOTHING, ConfigError, Words, nearest, one_of

SourceKind = Literal[
    "embedded", "folder", "table", "masks", "coco", "arrays", "dicom", "nifti", "medmnist", "cifar10", "cifar100",
    "fashion_mnist", "emnist", "svhn", "python",
]  # fmt: skip
KNOWN_SETS = ("medmnist", "cifar10", "cifar100", "fashion_mnist", "emnist", "svhn")
EMBEDDED = ("digits", "digits_segmentation", "digits_multilabel", "digits_regression")
MEDMNIST = (
    "pathmnist", "chestmnist", "dermamnist", "octmnist", "pneumoniamnist", "retinamnist", "breastmnist", "bloodmnist",
    "tissuemnist", "organamnist", "organcmnist", "organsmnist",
)  # fmt: skip
MEDMNIST_SIZES = (28, 64, 128, 224)
EMNIST = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
SET_NAMES = {"embedded": EMBEDDED, "medmnist": MEDMNIST, "emnist": EMNIST}
ADDRESS = ("path", "url", "sha256", "mirrors")
SOURCE_KEYS: dict[str, tuple[str, ...]] = {
    "embedded": ("name",),
    "folder": ADDRESS,
    "table": (*ADDRESS, "table", "images"),
    "masks": (*ADDRESS, "images", "masks"),
    "coco": (*ADDRESS, "annotations", "images"),
    "arrays": (*ADDRESS, "arrays"),
    "dicom": (*ADDRESS, "table", "images", "masks", "window"),
    "nifti": (*ADDRESS, "table", "images", "masks", "window", "axis"),
    "medmnist": ("name", "size", "mirrors"),
    "cifar10": ("mirrors",),
    "cifar100": ("mirrors",),
    "fashion_mnist": ("mirrors",),
    "emnist": ("name", "mirrors"),
    "svhn": ("mirrors",),
    "python": ("path", "function", "arguments"),
}
SCHEMES = ("https", "http", "ftp", "file")
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".rar", ".7z")
SHA256 = re.compile(r"[0-9a-f]{64}")
VARIABLE = re.compile(r"\$\{\w+\}")
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
SHA256_WORDS = "64 hexadecimal digits, as `sha256sum FILE` prints them"
Sha256 = Annotated[str, Words(SHA256_WORDS)]


class DatasetAddress(Section):
    """Where to fetch images and how to bear with broken ones; no part of what a dataset is."""

    url: str | list[str] | None = Field(
        None,
        description="Address of an archive or file, or several; https, http, ftp or file. `${NAME}` is taken from the "
        "environment.",
    )
    mirrors: list[str] = Field([], description="Folders (addresses) that hold the same files under the same names.")
    on_error: Literal["stop", "skip"] | None = Field(
        None, description="What happens with images that cannot be read; null: `create.on_error`."
    )


class DatasetSource(Section):
    """Where the images of a dataset come from; what identifies it."""

    source: SourceKind = Field(
        "embedded", description="Kind of source; `embedded`: sets that come with the core dependencies."
    )
    path: str | None = Field(
        None, min_length=1, description="Folder, file or archive on this machine, relative to the working directory."
    )
    sha256: Annotated[Sha256 | list[Sha256] | None, Words(f"{SHA256_WORDS}, a list of such, or null")] = Field(
        None, description="SHA-256 of the file of each `url`, or of the archive of `path`."
    )
    name: str | None = Field(None, description="Which of the sets of a source; default: the dataset's name.")
    size: Literal[MEDMNIST_SIZES] = Field(28, description="Side of the images of MedMNIST in pixels.")  # type: ignore[valid-type]
    table: str | None = Field(
        None, description="Table of samples (CSV, TSV, Parquet), inside `path` or the archive; default: `path` itself."
    )
    images: str | None = Field(
        None,
        description="Folder of the images, inside `path` or the archive; default: where the table is, or `images`.",
    )
    masks: str | None = Field(None, description="Folder of the masks, inside `path` or the archive; default: `masks`.")
    annotations: Annotated[
        str | Annotated[dict[Literal["train", "test"], str], Field(min_length=1)] | None,
        Words("a path, a mapping of train and test to paths, or null"),
    ] = Field(None, description="COCO file inside `path` or the archive, or one for each of `train` and `test`.")
    arrays: Annotated[dict[Literal["images", "targets"], str], Words("a mapping of images and targets to names")] = (
        Field({}, description="Names of arrays, in which `{split}` stands for train, val, test, unlabeled.")
    )
    window: list[float] | None = Field(
        None, min_length=2, max_length=2, description="Lowest and highest intensity shown; null: those of the file."
    )
    axis: Literal[0, 1, 2] = Field(2, description="Axis along which volumes are cut into slices.")
    function: str | None = Field(None, description="Function that makes the images, as `module:function`.")
    arguments: Annotated[dict[str, Any], BeforeValidator(read_arguments)] = Field(
        {}, description="Keyword arguments of the function."
    )


def check_source(definition: Any) -> None:
    """Raise `ConfigError` if keys do not fit the kind of source, or one is missing or ill-formed.

    Parameters
    ----------
    definition : TaskDefinition
        Has the fields of `DatasetSource` and `DatasetAddress`.
    """
    accepted = SOURCE_KEYS[definition.source]
    check_accepted(definition, accepted)
    for key, url in addresses(definition):
        check_url(key, url)
    if "url" in accepted:
        check_address(definition)
    if definition.source == "python":
        check_function(definition)
    for key in ("table", "images", "masks"):
        check_inside(key, getattr(definition, key))
    if isinstance(definition.annotations, dict):
        for split, file in definition.annotations.items():
            check_inside(f"annotations.{split}", file)
    else:
        check_inside("annotations", definition.annotations)
    if definition.window and definition.window[0] >= definition.window[1]:
        raise ConfigError("window", definition.window, "the lower intensity first")


def check_accepted(definition: Any, accepted: tuple[str, ...]) -> None:
    """Raise `ConfigError` if a key is set that the kind of source does not take."""
    fields = type(definition).model_fields
    for key in (*DatasetSource.model_fields, *DatasetAddress.model_fields):
        value = getattr(definition, key)
        if key in (*accepted, "source", "on_error") or value == fields[key].default:
            continue
        fitting = one_of(kind for kind, keys in SOURCE_KEYS.items() if key in keys)
        remedy = f"It belongs to {fitting}."
        if "source" not in definition.model_fields_set:
            remedy = f"Set source to {fitting}."
        raise ConfigError(key, hide_secrets(value), f"nothing with source {definition.source}", remedy)


def addresses(definition: Any) -> Iterator[tuple[str, str]]:
    """Yield every address of a definition with its key."""
    for key in ("url", "mirrors"):
        value = getattr(definition, key)
        for index, url in enumerate(listed(value)):
            yield key if isinstance(value, str) else f"{key}[{index}]", url


def check_address(definition: Any) -> None:
    """Raise `ConfigError` unless there is either a path or an address with its checksum."""
    urls, sums = listed(definition.url), listed(definition.sha256)
    if bool(urls) == bool(definition.path):
        found = Words("both path and url") if urls else NOTHING
        raise ConfigError("path", found, "either path or url with sha256")
    if definition.path and urlsplit(definition.path).scheme in SCHEMES:
        raise ConfigError("path", hide_secrets(definition.path), "a path on this machine", "Write url, with sha256.")
    for checksum in sums:
        if not SHA256.fullmatch(checksum):
            raise ConfigError("sha256", checksum, SHA256_WORDS)
    if urls:
        check_files(urls, len(sums))
    elif definition.mirrors:
        raise ConfigError("mirrors", hide_secrets(definition.mirrors), "nothing with path", "They belong to url.")
    elif sums and not (is_archive(definition.path) and len(sums) == 1):
        expected = "one checksum" if is_archive(definition.path) else "nothing unless path is an archive"
        raise ConfigError("sha256", Words(f"{len(sums)} for {definition.path}"), expected)


def check_files(urls: list[str], checksums: int) -> None:
    """Raise `ConfigError` unless each address has a file name of its own and a checksum."""
    if len(urls) != checksums:
        found = Words(f"{checksums} checksum{'' if checksums == 1 else 's'}")
        expected = f"one for each of {len(urls)} addresses" if len(urls) > 1 else "that of the file at url"
        raise ConfigError("sha256", found, expected, "`sha256sum FILE` prints it.")
    names: dict[str, str] = {}
    for url in urls:
        name = PurePosixPath(unquote(urlsplit(url).path)).name
        if name in names:
            expected = f"another file name than that of {hide_secrets(names[name])}"
            raise ConfigError("url", hide_secrets(url), expected)
        names[name] = url


def check_function(definition: Any) -> None:
    """Raise `ConfigError` unless a function is named and its arguments can be written as JSON."""
    if not FUNCTION.fullmatch(definition.function or ""):
        raise ConfigError("function", definition.function or NOTHING, "`module:function`")
    for name, value in definition.arguments.items():
        if not is_json(value):
            expected = "finite numbers, strings, true, false, null, lists and mappings of them"
            raise ConfigError(f"arguments.{name}", value, expected)


def is_json(value: Any) -> bool:
    """Tell whether JSON can hold a value that comes from YAML, mappings too."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(item) for key, item in value.items())
    return all(map(is_json, value)) if isinstance(value, list) else is_plain(value)


def check_url(key: str, url: str) -> None:
    """Raise `ConfigError` unless an address has a scheme that can be fetched and no password."""
    parts = split_url(url)
    if parts is None:
        expected = f"an address that begins with {one_of(f'{scheme}:' for scheme in SCHEMES)} and names a host"
        raise ConfigError(key, hide_secrets(url), expected)
    if parts.password and not VARIABLE.fullmatch(parts.password):
        remedy = "Write ${NAME} and set the environment variable NAME."
        raise ConfigError(key, hide_secrets(url), "no password", remedy)


def split_url(url: str) -> SplitResult | None:
    """Return the parts of an address, None if it cannot be fetched: a password with a slash looks like a port."""
    try:
        parts = urlsplit(url)
        named = parts.scheme == "file" or (parts.hostname and parts.port != 0)
    except ValueError:
        return None
    return parts if named and parts.scheme in SCHEMES else None


def check_set(definition: Any, dataset: str, where: str) -> None:
    """Raise `ConfigError` if a source has no set of the name that a definition, or its dataset, has."""
    names = SET_NAMES.get(definition.source)
    name = definition.name or dataset
    if names and name not in names:
        remedy = (
            nearest(name.lower(), names) or f"Set name to a set of source {definition.source}, or source to another."
        )
        raise ConfigError(f"{where}.name" if definition.name else where, name, one_of(names), remedy)


def check_inside(key: str, value: str | None) -> None:
    """Raise `ConfigError` if a path leads out of the folder it is relative to."""
    if value is not None and (not value or PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts):
        raise ConfigError(key, value, "a path inside `path` or the archive, without `..`")


def listed(value: str | list[str] | None) -> list[str]:
    """Return one value or several as a list."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def is_archive(name: str) -> bool:
    """Tell whether a file name is that of an archive; single compressed NIfTI volumes are none."""
    lower = name.lower()
    return lower.endswith(ARCHIVES) and not lower.endswith(".nii.gz")


def must_be_fetched(source: DatasetSource) -> bool:
    """Tell whether a dataset is downloaded or extracted before it can be read."""
    if source.source in KNOWN_SETS:
        return True
    if source.source in ("embedded", "python"):
        return False
    return source.path is None or is_archive(source.path)
