"""Networks of timm, an extra: built by name, and their published weights, from safetensors files alone."""

from __future__ import annotations

import fnmatch
import importlib
from pathlib import Path
from typing import Any

from torch import nn

from foldwise.config.architectures import Timm
from foldwise.errors import ConfigError, DataError, Words, nearest
from foldwise.models.own import reason

LISTING = "`python -m foldwise.models --source timm` lists them."
FILE = "model.safetensors"  # what timm's own repositories call it


def import_timm() -> Any:
    """Import timm.

    Raises
    ------
    ConfigError
        If it is not installed, or torchvision does not go with torch.
    """
    try:
        return importlib.import_module("timm")
    except (ImportError, RuntimeError) as error:
        remedy = "Install the extra, with torch and torchvision from one index: docs/architectures.md shows how."
        raise ConfigError("arch.source", "timm", "monai", f"Importing timm raised {reason(error)}. {remedy}") from error


def find_config(name: str) -> Any:
    """Return what timm knows of a network and its weights: size, statistics, where they are.

    Raises
    ------
    ConfigError
        If timm has no network of that name, or no weights of that tag.
    """
    timm = import_timm()
    if not timm.is_model(name):
        raise ConfigError("arch.name", name, "a network of timm", f"{nearest(name, timm.list_models())} {LISTING}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        expected = "a name of timm, without the tag of weights or with one that it has"
        raise ConfigError("arch.name", name, expected, nearest(name, tags)) from error


def build_timm(arch: Timm, channels: int, size: tuple[int, int], **weights: Any) -> nn.Module:
    """Build a network of timm without its last layer; one that is made for one size of images is made for theirs.

    Parameters
    ----------
    arch : Timm
        Name and arguments.
    channels, size : int, tuple of int
        Channels, height and width of the images.
    **weights
        Arguments of `timm.create_model` that say where weights come from; random by default.

    Raises
    ------
    ConfigError
        If there is no such network, or it does not take the arguments, the channels or the size.
    """
    config = find_config(arch.name)
    keys = {**arch.arguments, "num_classes": 0, "in_chans": channels, **weights}
    if getattr(config, "fixed_input_size", False):
        keys["img_size"] = size
    try:
        return import_timm().create_model(arch.name, **keys)
    except Exception as error:
        expected = f"a network of timm for images of {size[0]} x {size[1]} pixels and {channels} channels"
        if arch.arguments:
            expected += f" that takes {', '.join(arch.arguments)}"
        raise ConfigError("arch.name", arch.name, expected, f"It raised {reason(error)}.") from error


def load_pretrained(backbone: nn.Module, arch: Timm, channels: int, size: tuple[int, int]) -> None:
    """Load the weights that timm has for a network; the first convolution is adapted to other channels than three.

    Raises
    ------
    ConfigError, DataError
        If there is no safetensors file of them, or it cannot be had.
    """
    overlay = {"file": str(fetch(arch)), "custom_load": False}
    backbone.load_state_dict(
        build_timm(arch, channels, size, pretrained=True, pretrained_cfg_overlay=overlay).state_dict()
    )


def fetch(arch: Timm) -> Path:
    """Return the safetensors file of a network's weights, from the cache or from where timm keeps them."""
    hub, errors = map(importlib.import_module, ("huggingface_hub", "huggingface_hub.errors"))
    config = find_config(arch.name)
    repository, _, revision = (getattr(config, "hf_hub_id", None) or "").partition("@")
    file = getattr(config, "hf_hub_filename", None) or FILE
    if not repository or not file.endswith(".safetensors"):
        raise no_file(arch)
    try:
        return Path(hub.hf_hub_download(repository, file, revision=revision or None))
    except (errors.EntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
            raise no_file(arch) from error
        remedy = (
            "Run once with access, which fills the cache (HF_HOME says where it is), or set arch.weights to a file."
        )
        raise DataError(
            "arch.pretrained",
            Words(f"no access to {file} of {repository}"),
            f"the weights of {arch.name}",
            f"It raised {reason(error)}. {remedy}",
        ) from error


def no_file(arch: Timm) -> ConfigError:
    """Return the error of a network whose weights are no safetensors file, or which has none."""
    base, _, tag = arch.name.partition(".")
    others = [name for name in tagged(f"{base}.*") if name != f"{base}.{tag or find_config(base).tag}"]
    remedy = f"Other weights: {', '.join(others[:5])}." if others else ""
    expected = f"false for {arch.name}, whose weights timm does not have as safetensors"
    return ConfigError("arch.pretrained", True, expected, remedy)


def tagged(pattern: str) -> list[str]:
    """Return the names with a tag, that match a pattern, of weights that timm has as safetensors."""
    timm = import_timm()
    names = fnmatch.filter(timm.list_pretrained(), pattern)
    return [name for name in names if getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None)]


def statistics(name: str) -> tuple[list[float], list[float]] | None:
    """Return mean and standard deviation of the channels that the weights of a network expect."""
    config = find_config(name)
    return (list(map(float, config.mean)), list(map(float, config.std))) if config else None


def last_layers(name: str) -> tuple[str, ...]:
    """Return the names of a network's last layers, which are left out."""
    found = getattr(find_config(name), "classifier", None) or ()
    return (found,) if isinstance(found, str) else tuple(found)
