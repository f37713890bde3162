"""Networks of the user's own, and the check that a network which is not built in gives features as it should."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foldwise.config.architectures import OwnNetwork
from foldwise.errors import ConfigError, Words, shorten
from foldwise.functions import load_function


def build_own(arch: OwnNetwork, channels: int) -> nn.Module:
    """Call the function that builds a network.

    Raises
    ------
    ConfigError
        If it cannot be found, raises an error, or returns something else.
    """
    function = load_function(arch.source, "arch.source")
    expected = "a function that returns a torch.nn.Module"
    called = ", ".join([str(channels), *(f"{key}={shorten(value)}" for key, value in arch.arguments.items())])
    try:
        network = function(channels, **copy.deepcopy(arch.arguments))
    except Exception as error:
        remedy = f"Called with ({called}) it raised {reason(error)}."
        raise ConfigError("arch.source", arch.source, expected, remedy) from error
    if not isinstance(network, nn.Module):
        remedy = f"Called with ({called}) it returned {describe(network)}."
        raise ConfigError("arch.source", arch.source, expected, remedy)
    return network


def count_features(
    backbone: nn.Module, channels: int, size: tuple[int, int], kinds: Sequence[str], name: str, where: str
) -> int:
    """Find the number of features of a backbone by showing it two black images.

    Parameters
    ----------
    backbone : Module
        The backbone.
    channels, size : int, tuple of int
        Channels, height and width of the images.
    kinds : sequence of str
        Task types that it must serve.
    name, where : str
        What messages call it, and the key at fault.

    Raises
    ------
    ConfigError
        If it fails on such images, or gives neither a vector nor a map an image; for segmentation, if the map is not
        of the size of the images.
    """
    maps = "segmentation" in kinds
    shape = f"(2, features, {size[0]}, {size[1]})" if maps else "(2, features) or (2, features, height, width)"
    expected = f"a network with features of shape {shape} for images of shape {(2, channels, *size)}"
    training = backbone.training
    try:
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(2, channels, *size))
    except Exception as error:
        raise ConfigError(where, name, expected, f"It raised {reason(error)}.") from error
    backbone.train(training)
    if not is_batch(features) or (maps and features.shape[2:] != size):
        raise ConfigError(where, name, expected, f"It returned {describe(features)}.")
    return int(features.shape[1])


def is_batch(features: Any) -> bool:
    """Tell whether something is a vector or a map of numbers for each of two images."""
    is_numbers = isinstance(features, torch.Tensor) and features.is_floating_point()
    return is_numbers and features.ndim in (2, 4) and len(features) == 2


def describe(value: Any) -> str:
    """Describe what a function or a network returned."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
    return f"a value of type {type(value).__name__}"


def reason(error: Exception) -> str:
    """Return the kind and the text of an error on one line, and where in the user's own code it arose."""
    text = shorten(Words(": ".join([type(error).__name__, *str(error).split("\n")[:1]])), 300)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(Path(frame.filename))]
    return f"{text}, at line {frames[-1].lineno} of {frames[-1].filename}" if frames else text


def is_own(path: Path) -> bool:
    """Tell whether a file of code is neither ours nor that of an installed package."""
    return "site-packages" not in path.parts and not path.is_relative_to(Path(__file__).parents[1])
