"""Where tensors are while a job runs: in their file, in memory, or on the device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from foldwise.errors import ConfigError, Words

CHUNK = 2**26  # bytes that are gathered at a time
SHARE = 0.4  # of the memory of a device that a job can have, which tensors of all its tasks together may take


class OnDevice:
    """Images on a device, in channels-last memory order.

    Parameters
    ----------
    images : Tensor of uint8, shape (n, height, width, channels)
        On the device.
    """

    decodes = False

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all images."""
        return tuple(self.images.shape)

    def gather(self, rows: np.ndarray) -> torch.Tensor:
        """Return some images, (b, height, width, channels), on the device."""
        return self.images.index_select(0, torch.from_numpy(rows).to(self.images.device, non_blocking=True))


def cached(images: Any, rows: np.ndarray, cache: str, device: torch.device) -> tuple[Any, np.ndarray]:
    """Return images, and rows in them, for samples at some rows of a store.

    Parameters
    ----------
    images : indexable by rows
        The tensors of a dataset, uint8 of shape (n, height, width, channels).
    rows : ndarray of int64, shape (b,)
        Rows that are needed.
    cache : str
        `none`: the store as it is. `memory`, `device`: a copy of the rows. `auto`: on a GPU if they fit, else none.
    device : torch.device
        Where the network is.

    Raises
    ------
    ConfigError
        If there is not enough memory for what is asked for.
    """
    kept, places = np.unique(rows, return_inverse=True)
    size = len(kept) * math.prod(images.shape[1:])
    if cache == "auto":
        cache = "device" if device.type == "cuda" and fits(size, *memory_of(device)) else "none"
    if cache == "none" or not len(rows):
        return images, rows
    try:
        shape = (len(kept), *images.shape[1:])
        copied = torch.empty(shape, dtype=torch.uint8, device=device if cache == "device" else "cpu")
    except (RuntimeError, MemoryError) as error:
        where = "of the device" if cache == "device" else "of the machine"
        found = Words(f"{cache} for {size / 2**30:.1f} GiB of images")
        raise ConfigError("sampling.cache", found, f"none or auto, as the memory {where} is too small") from error
    copy_rows(images, kept, copied)
    return OnDevice(copied) if cache == "device" else copied.numpy(), places


def memory_of(device: torch.device) -> tuple[int, int, int]:
    """Return bytes of a GPU that nobody has, that this process has, and those of them that hold tensors."""
    free, _ = torch.cuda.mem_get_info(device)
    return free, torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)


def fits(size: int, free: int, reserved: int, used: int) -> bool:
    """Tell whether so many bytes, with those in use before, leave most of what a process can have of a GPU free."""
    return used + size <= SHARE * (free + reserved)


def copy_rows(images: Any, rows: np.ndarray, copied: torch.Tensor) -> None:
    """Gather rows into a tensor, a few at a time."""
    step = max(1, CHUNK // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(rows), step):
        copied[start : start + step] = torch.from_numpy(images[rows[start : start + step]])


def gather(images: Any, rows: np.ndarray) -> torch.Tensor:
    """Return a batch of images, uint8 of shape (b, channels, height, width) in channels-last memory order."""
    if isinstance(images, OnDevice):
        return images.gather(rows).permute(0, 3, 1, 2)
    pixels = torch.from_numpy(images[rows])
    if torch.cuda.is_available():
        pixels = pixels.pin_memory()  # so that it travels while the device works
    return pixels.permute(0, 3, 1, 2)
