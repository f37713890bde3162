"""Weights on disk: safetensors, nothing else."""

from __future__ import annotations

from pathlib import Path

import torch

from foldwise.artifacts import atomic, reading, sha256
from foldwise.errors import DataError, Words


def write_weights(path: Path, weights: dict[str, torch.Tensor]) -> dict:
    """Write weights as safetensors.

    Returns
    -------
    dict
        File name, bytes and SHA-256, for ``model.json``.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic(path) as temporary:
        temporary.write_bytes(save(plain))  # `save_file` has errors of its own for a full disk
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


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
