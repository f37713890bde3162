"""Where tensors are while a job runs: in their file, in memory, or on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

CHUNK = 2**26  # bytes that are gathered at a time
SHARE = 0.4  # of the free memory of a device, that tensors may take


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
        return self.images[torch.from_numpy(rows).to(self.images.device, non_blocking=True)]


def cached(images: Any, rows: np.ndarray, cache: str, device: torch.device) -> tuple[Any, np.ndarray]:
    """Return images, and rows in them, for samples at some rows of a store.

    Parameters
    ----------
    images : indexable by rows
        The tensors of a dataset, uint8 of shape (n, height, width, channels).
    rows : ndarray of int64, shape (b,)
        Rows that are needed.
    cache : str
        `none`: the store as it is. `memory`, `device`: a copy of the rows. `auto`: on a GPU if they take less than
        two fifths of its free memory.
    device : torch.device
        Where the network is.
    """
    if cache == "auto":
        cache = "device" if device.type == "cuda" and fits(images, rows, device) else "none"
    if cache == "none" or not len(rows):
        return images, rows
    kept, places = np.unique(rows, return_inverse=True)
    copied = copy_rows(images, kept)
    if cache == "memory":
        return copied, places
    return OnDevice(torch.from_numpy(copied).to(device)), places


def fits(images: Any, rows: np.ndarray, device: torch.device) -> bool:
    """Tell whether rows leave most of the memory of a GPU free."""
    free, _ = torch.cuda.mem_get_info(device)
    return len(rows) * int(np.prod(images.shape[1:])) < SHARE * free


def copy_rows(images: Any, rows: np.ndarray) -> np.ndarray:
    """Gather rows into one array, a few at a time."""
    shape = images.shape[1:]
    copied = np.empty((len(rows), *shape), np.uint8)
    step = max(1, CHUNK // int(np.prod(shape)))
    for start in range(0, len(rows), step):
        copied[start : start + step] = images[rows[start : start + step]]
    return copied


def gather(images: Any, rows: np.ndarray) -> torch.Tensor:
    """Return a batch of images, uint8 of shape (b, channels, height, width) in channels-last memory order."""
    if isinstance(images, OnDevice):
        return images.gather(rows).permute(0, 3, 1, 2)
    pixels = torch.from_numpy(images[rows])
    if torch.cuda.is_available():
        pixels = pixels.pin_memory()  # so that it travels while the device works
    return pixels.permute(0, 3, 1, 2)
