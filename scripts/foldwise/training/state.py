"""The state of a training on disk: tensors in safetensors, all else in JSON; a kill leaves the old pair or the new."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins import CheckpointIO

from foldwise.artifacts import (
    DAMAGED,
    FORMAT_VERSION,
    TEMPORARY,
    atomic,
    check_version,
    read_json,
    sha256,
    write_text,
    writing,
)
from foldwise.errors import DataError, FoldwiseError, Words

LOG = logging.getLogger(__name__)
STATE = "state.json"
OWN_FILES = re.compile(rf"state-(\d+)\.safetensors|{re.escape(TEMPORARY)}state.*")
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.complex64: "C64", torch.bool: "BOOL",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
}  # fmt: skip
WRITABLE = "a dict with keys of text or int, list, tuple, tensor, NumPy scalar, number, text, bool or None"

Tensors = dict[str, torch.Tensor]


class StateIO(CheckpointIO):
    """Let Lightning's trainer save and load its state in a folder, without pickle.

    Parameters
    ----------
    key : str
        What the state belongs to; see `digest_of`.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a state in place of the one before."""
        write_state(Path(path), self.key, checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the state; its tensors lie on the CPU."""
        state = read_state(Path(path), self.key)
        if state is None:
            raise DataError(path, Words("no state that can be used"), "the state of a training with the same settings")
        return state

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove the state."""
        discard_state(Path(path))


def digest_of(config_text: str, revision: int, files: Iterable[Path]) -> str:
    """Return what a state belongs to: configuration, revision, versions of torch and Lightning, contents of files."""
    deciding = {
        "config": config_text,
        "revision": revision,
        "torch": str(torch.__version__),
        "lightning": lightning.__version__,
        "files": [sha256(path) for path in files],
    }
    return checksum(deciding)


def position(state: Mapping[str, Any]) -> tuple[int, int]:
    """Return the epoch in which a saved training goes on, and how many of its batches are done."""
    loops = state["loops"]["fit_loop"]
    epochs = loops["epoch_progress"]["current"]
    is_within_epoch = epochs["started"] > epochs["processed"]
    return epochs["processed"], loops["epoch_loop.batch_progress"]["current"]["ready"] if is_within_epoch else 0


def write_state(folder: Path, key: str, state: Mapping[str, Any]) -> None:
    """Write a state in place of the one before, which stays until the new one is whole.

    Parameters
    ----------
    folder : Path
        Where the state lies; nothing else does.
    key : str
        What it belongs to.
    state : mapping
        Of what `WRITABLE` tells, as deep as it may be. All mappings are read back as dicts, tensors on the CPU.

    Raises
    ------
    DataError
        If something in it cannot be written (names its key path), or the disk is full.
    """
    tensors: Tensors = {}
    tree = encode(dict(state), "state", tensors)
    make_folder(folder)
    before = own_files(folder)
    file = {"file": f"state-{1 + max(map(number_of, before), default=0)}.safetensors"}
    file["sha256"] = write_tensors(folder / file["file"], tensors)
    content = {"key": key, "tensors": file, "state": tree}
    whole = {"format_version": FORMAT_VERSION, "checksum": checksum(content), **content}
    write_text(folder / STATE, json.dumps(whole))  # in one line, which is written several times as fast
    remove(before)


def read_state(folder: Path, key: str) -> dict[str, Any] | None:
    """Read the state of a training; None if there is none, or none that can be used, which the log then tells."""
    path = folder / STATE
    try:
        if not path.exists():
            return None
        content = read_json(path)
        check_version(path, content.pop("format_version"))
        if content.pop("checksum") != checksum(content):
            raise ValueError(f"{path} has another checksum")
        if content["key"] != key:
            LOG.warning("%s: the state found there is of other settings or data; training begins anew", folder)
            return None
        file = folder / content["tensors"]["file"]
        if sha256(file) != content["tensors"]["sha256"]:
            raise ValueError(f"{file} has another checksum")
        return decode(content["state"], read_tensors(file))
    except (FoldwiseError, RecursionError, *DAMAGED) as error:
        reason = error.message if isinstance(error, FoldwiseError) else str(error)
        LOG.warning("%s: the state found there cannot be used; training begins anew (%s)", folder, reason)
        return None


def discard_state(folder: Path) -> None:
    """Remove a state, and folders that are empty then, up to one named ``checkpoints``, which stays."""
    if not folder.is_dir():
        return
    remove([folder / STATE, *own_files(folder)])
    below = next((place for place, parent in enumerate(folder.parents) if parent.name == "checkpoints"), 0)
    with contextlib.suppress(OSError):
        for empty in (folder, *list(folder.parents)[:below]):
            empty.rmdir()


def make_folder(folder: Path) -> None:
    """Make a folder, though other jobs may remove its parents as long as these are empty."""
    with writing(folder / STATE):
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                folder.mkdir(parents=True, exist_ok=True)
                return
        folder.mkdir(parents=True, exist_ok=True)


def own_files(folder: Path) -> list[Path]:
    """Return the files of tensors in a folder, those of killed writers too."""
    return [path for path in folder.iterdir() if OWN_FILES.fullmatch(path.name)]


def number_of(path: Path) -> int:
    """Return the number of a file of tensors, 0 for what a killed writer left."""
    match = OWN_FILES.fullmatch(path.name)
    return int(match[1] or 0) if match else 0


def remove(paths: Iterable[Path]) -> None:
    """Remove files; one that cannot be removed does no harm."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def checksum(tree: Any) -> str:
    """Return the SHA-256 of what JSON tells of a tree."""
    return hashlib.sha256(json.dumps(tree).encode()).hexdigest()


def encode(value: Any, path: str, tensors: Tensors) -> Any:
    """Return a value as JSON can tell it; what is a tensor goes to `tensors`.

    What JSON does not have becomes an object whose first key begins with ``$``.

    Raises
    ------
    DataError
        If it is nothing that is read back as it was.
    """
    kind = type(value)
    if value is None or kind in (bool, int) or (kind is float and math.isfinite(value)) or is_text(value):
        return value
    if kind is float:
        return {"$float": repr(value)}
    if isinstance(value, torch.Tensor):
        return encode_tensor(value, path, tensors)
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return {"$numpy": [value.dtype.str, value.tobytes().hex()]}
    if isinstance(value, Mapping):
        return encode_mapping(value, path, tensors)
    if kind in (list, tuple):
        items = [encode(item, f"{path}.{place}", tensors) for place, item in enumerate(value)]
        return items if kind is list else {"$tuple": items}
    raise DataError(path, Words(f"a {kind.__module__}.{kind.__qualname__}"), WRITABLE)


def is_text(value: Any) -> bool:
    """Tell whether a value is text that UTF-8 can tell."""
    if type(value) is not str:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode_mapping(mapping: Mapping[Any, Any], path: str, tensors: Tensors) -> Any:
    """Return a mapping as an object of JSON, or as a list of pairs if an object cannot have its keys."""
    for key in mapping:
        if not (type(key) is int or is_text(key)):
            raise DataError(f"{path}, a key", Words(f"a {type(key).__qualname__}"), "text or an int")
    items = {key: encode(value, f"{path}.{key}", tensors) for key, value in mapping.items()}
    if all(isinstance(key, str) and not key.startswith("$") for key in items):
        return items
    return {"$pairs": [list(item) for item in items.items()]}


def encode_tensor(tensor: torch.Tensor, path: str, tensors: Tensors) -> dict[str, Any]:
    """Add a tensor to those to be written; return its name, and its strides if they are not the usual ones.

    The order of values in memory is kept, as an optimiser may round otherwise where it differs from that of weights.
    """
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.dtype not in DTYPES:
        raise DataError(path, Words(f"a tensor of {tensor.dtype} and {tensor.layout}"), "a dense tensor of usual type")
    tensor = tensor.detach().resolve_conj().resolve_neg().cpu()
    name = f"{len(tensors)}:{path}"
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda dimension: -strides[dimension])
    tensors[name] = in_memory = tensor.permute(order)
    usual = torch.empty(tensor.shape, device="meta").stride()
    if strides == usual or not in_memory.is_contiguous():
        tensors[name] = tensor.contiguous()
        return {"$tensor": name}
    return {"$tensor": name, "shape": list(tensor.shape), "stride": list(strides)}


def decode(node: Any, tensors: Tensors) -> Any:
    """Return the value that `encode` was given."""
    if isinstance(node, list):
        return [decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    if next(iter(node), "").startswith("$"):
        return decode_special(node, tensors)
    return {key: decode(value, tensors) for key, value in node.items()}


def decode_special(node: dict[str, Any], tensors: Tensors) -> Any:
    """Return what an object stands for whose first key begins with ``$``."""
    match next(iter(node.items())):
        case "$tensor", name:
            return tensors[name].as_strided(node["shape"], node["stride"]) if "stride" in node else tensors[name]
        case "$tuple", items:
            return tuple(decode(item, tensors) for item in items)
        case "$pairs", pairs:
            return {key: decode(value, tensors) for key, value in pairs}
        case "$float", text:
            return float(text)
        case "$numpy", (dtype, digits):
            return np.frombuffer(bytes.fromhex(digits), dtype)[0]
    raise ValueError(f"{next(iter(node))} is not known")


def write_tensors(path: Path, tensors: Tensors) -> str:
    """Write tensors as safetensors straight from memory; return the SHA-256 of the file."""
    header: dict[str, Any] = {}
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)  # so that all are aligned
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    parts: list[bytes | memoryview] = [len(text).to_bytes(8, "little"), text]
    parts += [bytes_of(tensor) for _, tensor in ordered]
    digest = hashlib.sha256()
    with atomic(path) as temporary, open(temporary, "wb") as handle:
        for part in parts:
            handle.write(part)
            digest.update(part)
    return digest.hexdigest()


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor, not copied."""
    return tensor.view(-1).view(torch.uint8).numpy().data


def read_tensors(path: Path) -> Tensors:
    """Read tensors of their own, as the file may be removed or replaced while they are used."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
