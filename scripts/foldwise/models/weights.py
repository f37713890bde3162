"""Weights on disk: safetensors, nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch

from foldwise.artifacts import atomic, reading, sha256
from foldwise.config.architectures import Arch, Timm
from foldwise.errors import ConfigError, DataError, Words
from foldwise.models.network import About, Network

PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".tar", ".h5")
LEAD = re.compile(r"(?:module|model|network|backbone|_orig_mod)\.")
OF_TASKS = ("heads.", "statistics.")  # what a network has for each task beside the backbone
COUNTER = "num_batches_tracked"  # of batch normalisation; old files lack it, and nothing here uses it
SHOWN = 3
CONVERT = (
    "A pickle can run code when it is loaded. Convert it once: docs/architectures.md, 'Weights of your own', has the "
    "few lines."
)


def write_weights(path: Path, weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> dict:
    """Write weights as safetensors.

    Parameters
    ----------
    path : Path
        The file.
    weights : mapping
        Tensors by name; those that share memory are written once each.
    metadata : mapping, optional
        Text to keep beside them, such as ``mean`` and ``std`` of the channels as JSON.

    Returns
    -------
    dict
        File name, bytes and SHA-256, for ``model.json``.
    """
    from safetensors.torch import save

    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()
    }
    content = save(plain, dict(metadata) if metadata else None)  # `save_file` has errors of its own for a full disk
    with atomic(path) as temporary:
        temporary.write_bytes(in_order(content) if metadata else content)
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def in_order(content: bytes) -> bytes:
    """Return a safetensors file with its metadata in alphabetic order: safetensors writes them in a random one."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    padded = text + b" " * (-len(text) % 8)
    return len(padded).to_bytes(8, "little") + padded + content[8 + length :]


def read_weights(path: Path, recorded: dict) -> dict[str, torch.Tensor]:
    """Read weights after comparing size and checksum with what ``model.json`` recorded.

    Raises
    ------
    MissingData, DataError
        If the file is missing, truncated or damaged.
    """
    from safetensors.torch import load_file

    remedy = "Delete it and run again: the model is trained anew."
    with reading(path, "the weights of a model", remedy):
        size = path.stat().st_size
    if size != recorded["bytes"] or sha256(path) != recorded["sha256"]:
        raise DataError(
            path,
            Words(f"{size} bytes with another checksum"),
            f"{recorded['bytes']} bytes as recorded in model.json",
            remedy,
        )
    with reading(path, "the weights of a model", remedy):
        return load_file(path)


def load_start(network: Network, arch: Arch, size: tuple[int, int]) -> None:
    """Load the weights that an architecture asks for into the backbone of a new network, if it asks for any.

    Parameters
    ----------
    network : Network
        As `build_network` built it.
    arch : Arch
        Architecture, with its file of weights or `pretrained`.
    size : tuple of int
        Height and width of the images.

    Raises
    ------
    ConfigError, DataError
        If the weights cannot be had, or are those of another network.
    """
    if arch.weights is not None:
        load_backbone(network, Path(arch.weights))
    elif isinstance(arch, Timm) and arch.pretrained:
        from foldwise.models.timm import load_pretrained

        load_pretrained(network.backbone, arch, network.about.channels or 3, size)


def load_backbone(network: Network, path: Path, where: str = "arch.weights") -> None:
    """Load weights of a safetensors file into the backbone of a network.

    The file may be one that training wrote, whose heads are left out, or hold the weights of the same network of MONAI
    or timm, whose last layer is left out. What wrappers put before all names is taken off.

    Raises
    ------
    ConfigError
        If it is no safetensors file, or holds the weights of another network.
    """
    wanted = network.backbone.state_dict()
    found = without_wrappers(read_file(path, where), wanted)
    behind = {name for name in (*found, *wanted) if re.match(network.about.last, name)}
    if all(name in found and found[name].shape == wanted[name].shape for name in behind & wanted.keys()):
        behind -= wanted.keys()
    found = {name: tensor for name, tensor in found.items() if name not in behind}
    check_shapes(found, {name: wanted[name] for name in wanted if name not in behind}, network.about, path, where)
    network.backbone.load_state_dict(found, strict=False)


def read_file(path: Path, where: str) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file that a configuration names."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise no_safetensors(path, where, error) from error


def without_wrappers(found: dict[str, torch.Tensor], wanted: Iterable[str]) -> dict[str, torch.Tensor]:
    """Return tensors under the names that a backbone has for them, as far as it knows them, and nothing of tasks."""
    known = set(wanted)
    lead = max(
        sorted({"", *(lead for name in found for lead in leads(name))}, key=len),
        key=lambda lead: sum(name.removeprefix(lead) in known for name in found if name.startswith(lead)),
    )
    named = {name.removeprefix(lead): tensor for name, tensor in found.items()}
    return {name: tensor for name, tensor in named.items() if name in known or not is_of_task(name)}


def leads(name: str) -> Iterator[str]:
    """Yield what wrappers may have put before a name: nothing, and each of the words they are known for."""
    yield ""
    end = 0
    while word := LEAD.match(name, end):
        end = word.end()
        yield name[:end]


def is_of_task(name: str) -> bool:
    """Tell whether a name is that of one of our heads, or of statistics that a task has of its own."""
    *_, lead = leads(name)
    return name.removeprefix(lead).startswith(OF_TASKS)


def check_shapes(
    found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], about: About, path: Path, where: str
) -> None:
    """Raise `ConfigError` unless a file has the tensors that a backbone wants, and no others."""
    unknown = sorted(name for name in found if name not in wanted and not name.endswith(COUNTER))
    missing = [name for name in wanted if name not in found and not name.endswith(COUNTER)]
    shapes = {name: (tuple(found[name].shape), tuple(tensor.shape)) for name, tensor in wanted.items() if name in found}
    others = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    if others and not unknown and not missing and all(is_first(*pair, about.channels) for pair in others.values()):
        got = Words(f"weights for images of {next(iter(others.values()))[0][1]} channels")
        raise ConfigError(where, got, f"weights for {about.channels}, as the images have", f"The file is {path}.")
    differing = [f"{name} {theirs} instead of {ours}" for name, (theirs, ours) in others.items()]
    parts = (("has unknown", unknown), ("lacks", missing), ("has", differing))
    texts = [f"{verb} {some(words)}" for verb, words in parts if words]
    if texts:
        got, expected = Words("weights of another architecture"), f"weights of {about.name}"
        raise ConfigError(where, got, expected, f"{path} {'; '.join(texts)}.")


def is_first(theirs: tuple[int, ...], ours: tuple[int, ...], channels: int | None) -> bool:
    """Tell whether shapes are those of a convolution on images, and differ in the channels of these alone."""
    alike = len(theirs) == len(ours) == 4 and theirs[0] == ours[0] and theirs[2:] == ours[2:]
    return alike and ours[1] == channels != theirs[1]


def some(words: list[str]) -> str:
    """Name the first few of many."""
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def pretrained_statistics(arch: Arch) -> tuple[list[float], list[float]] | None:
    """Return mean and standard deviation of the channels that the weights of an architecture expect.

    Returns
    -------
    tuple of lists, or None
        From the metadata of the file, else from timm; None if there are no weights or nothing is known.
    """
    if arch.weights is not None and (found := read_statistics(Path(arch.weights))):
        return found
    if isinstance(arch, Timm) and (arch.pretrained or arch.weights is not None):
        from foldwise.models.timm import statistics

        return statistics(arch.name)
    return None


def read_statistics(path: Path, where: str = "arch.weights") -> tuple[list[float], list[float]] | None:
    """Return mean and standard deviation of the channels from the metadata of a safetensors file, if they are there."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        mean, std = ([float(value) for value in json.loads(metadata[key])] for key in ("mean", "std"))
    except KeyError:
        return None
    except (SafetensorError, OSError) as error:
        raise no_safetensors(path, where, error) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(
            where, str(path), "a file with mean and std as JSON lists of numbers in its metadata"
        ) from error
    return mean, std


def no_safetensors(path: Path, where: str, error: Exception) -> ConfigError:
    """Return the error of a file that cannot be read."""
    remedy = CONVERT if path.suffix.lower() in PICKLES else f"Reading it fails: {' '.join(str(error).split())}."
    return ConfigError(where, str(path), "a safetensors file", remedy)
