"""Whether images have sides that a network can work on."""

from __future__ import annotations

from collections.abc import Sequence

from foldwise.config.architectures import Arch, side_step, smallest_side
from foldwise.errors import ConfigError, Words


def check_step(arch: Arch, size: Sequence[int]) -> None:
    """Raise `ConfigError` unless height and width are large enough, and multiples of what a network needs."""
    height, width = size
    found, step = Words(f"{height} x {width} pixels"), side_step(arch)
    if height % step or width % step:
        raise ConfigError("preprocessing.size", found, f"a multiple of {step} for {arch.name}")
    if min(size) < smallest_side(arch):
        expected = f"images large enough for {arch.name}, with sides of at least {smallest_side(arch)} pixels"
        raise ConfigError("preprocessing.size", found, expected)
