"""From stored uint8 batches to the network's input, on the device: augmentation and normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from foldwise.config.pipeline import Augmentations, Operation, kornia_operations
from foldwise.errors import ConfigError

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]


class Normalize(nn.Module):
    """Scale uint8 pixels to [0, 1], subtract the mean, divide by the standard deviation.

    Parameters
    ----------
    mean, std : list of float
        A value a channel, for pixels in [0, 1].
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        means, deviations = torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)
        self.register_buffer("scale", 1 / deviations, persistent=False)
        self.register_buffer("shift", -means / deviations, persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise uint8 images of shape (b, channels, height, width)."""
        return torch.addcmul(self.shift, pixels.float(), self.scale / 255)

    def unit(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise images that are scaled to [0, 1] already."""
        return torch.addcmul(self.shift, images, self.scale)


class Augment(nn.Module):
    """Random changes on whole batches, with parameters of their own for every sample."""

    def __init__(self, operations: list[Operation], size: tuple[int, int], normalize: Normalize) -> None:
        super().__init__()
        self.normalize = normalize
        self.operations = nn.ModuleList([build_operation(operation, size) for operation in operations])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Augment and normalise uint8 images of shape (b, channels, height, width)."""
        if not self.operations:
            return self.normalize(pixels)
        images = pixels.float().div_(255)
        for operation in self.operations:
            images = operation(images)
        return self.normalize.unit(images.contiguous(memory_format=torch.channels_last))


def build_operation(operation: Operation, size: tuple[int, int]) -> nn.Module:
    """Build one kornia operation; crops get the size of the tensors."""
    import kornia.augmentation

    kind = getattr(kornia.augmentation, operation.name)
    arguments: dict[str, Any] = {key: tuple_of(value) for key, value in operation.arguments.items()}
    if operation.name in ("RandomCrop", "RandomResizedCrop"):
        arguments["size"] = size
    try:
        built: nn.Module = kind(**arguments)
        with torch.random.fork_rng(devices=[]):  # kornia looks at some arguments only when it meets images
            built(torch.zeros(16, 3, *size))
        return built
    except Exception as error:
        accepted = f"arguments that kornia takes ({', '.join(kornia_operations()[operation.name])})"
        raise ConfigError(f"augmentations.operations: {operation.name}", str(error), accepted) from error


def tuple_of(value: Any) -> Any:
    """Turn lists into tuples, as kornia expects them."""
    return tuple(map(tuple_of, value)) if isinstance(value, list) else value


def normalization_statistics(
    augmentations: Augmentations, task_statistics: tuple[list[float], list[float]]
) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of the channels that the pipeline asks for."""
    if augmentations.normalization == "imagenet":
        return IMAGENET_MEAN, IMAGENET_STD
    if augmentations.normalization == "task":
        return task_statistics
    channels = len(task_statistics[0])
    return [0.0] * channels, [1.0] * channels
