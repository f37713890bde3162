"""From stored uint8 batches to the network's input, on the device: augmentation and normalisation."""

from __future__ import annotations

import torch
from torch import nn

from foldwise.config.pipeline import Augmentations, Operation
from foldwise.data.operations import Step, build_step
from foldwise.errors import ConfigError, Words
from foldwise.tasks.masks import IGNORED

Statistics = tuple[list[float], list[float]]

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

    steps: nn.ModuleList

    def __init__(self, operations: list[Operation], size: tuple[int, int], normalize: Normalize) -> None:
        super().__init__()
        self.normalize = normalize
        self.steps = nn.ModuleList(self.build(operations, size, len(normalize.mean)))

    def build(self, operations: list[Operation], size: tuple[int, int], channels: int) -> list[Step]:
        """Build operations for images of a size."""
        return [build_step(operation, size, channels, with_masks=False) for operation in operations]

    def forward(self, pixels: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment and normalise uint8 images of shape (b, channels, height, width); targets stay as they are."""
        if not self.steps:
            return self.normalize(pixels), targets
        images = pixels.float().div_(255)
        for step in self.steps:
            images = step(images)
        return self.finish(images), targets

    def finish(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise augmented images."""
        return self.normalize.unit(images.contiguous(memory_format=torch.channels_last))


class AugmentWithMasks(Augment):
    """The same where masks move with their images: each pixel keeps one class, and what has none is ignored."""

    def build(self, operations: list[Operation], size: tuple[int, int], channels: int) -> list[Step]:
        return [build_step(operation, size, channels, with_masks=True) for operation in operations]

    def forward(self, pixels: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment and normalise images as `Augment` does, and move their masks, uint8 of shape (b, height, width)."""
        if not any(step.moves for step in self.steps):
            return super().forward(pixels, targets)
        images = pixels.float().div_(255)
        masks = (IGNORED - targets[:, None]).float()
        for step in self.steps:
            images, masks = step.with_masks(images, masks)  # type: ignore[operator]
        return self.finish(images), IGNORED - masks[:, 0].round().to(torch.uint8)


def build_augmentation(kind: str, operations: list[Operation], size: tuple[int, int], normalize: Normalize) -> Augment:
    """Build the augmentation of a task type.

    Raises
    ------
    ConfigError
        If kornia does not take an argument, or an operation cannot move masks.
    """
    return (AugmentWithMasks if kind == "segmentation" else Augment)(operations, size, normalize)


def normalization_statistics(
    augmentations: Augmentations, task_statistics: Statistics, pretrained: Statistics | None = None
) -> Statistics:
    """Return mean and standard deviation of the channels that the pipeline asks for.

    Parameters
    ----------
    augmentations : Augmentations
        The pipeline's.
    task_statistics : pair of list of float
        Of the job's own training rows.
    pretrained : pair of list of float, optional
        What the weights that training starts from expect.

    Raises
    ------
    ConfigError
        If there are none for as many channels.
    """
    channels = len(task_statistics[0])
    match augmentations.normalization:
        case "imagenet":
            return imagenet_statistics(channels)
        case "task":
            return task_statistics
        case "pretraining":
            return pretrained_statistics_of(pretrained, channels)
    return [0.0] * channels, [1.0] * channels


def imagenet_statistics(channels: int) -> Statistics:
    """Return those of ImageNet; grey images have the mean of its channels."""
    if channels == 1:
        return [sum(IMAGENET_MEAN) / 3], [sum(IMAGENET_STD) / 3]
    if channels != 3:
        found = Words(f"imagenet for images of {channels} channels")
        raise ConfigError("augmentations.normalization", found, "task or null for other than 1 or 3 channels")
    return IMAGENET_MEAN, IMAGENET_STD


def pretrained_statistics_of(pretrained: Statistics | None, channels: int) -> Statistics:
    """Return what pretrained weights expect."""
    where, key = "augmentations.normalization", "pretraining"
    if pretrained is None:
        expected = "weights that tell it: arch.weights written by a training, a pretrained network of timm, or mode tl"
        raise ConfigError(where, key, expected, "Set imagenet or task otherwise.")
    if len(pretrained[0]) != channels:
        found = Words(f"weights for images of {len(pretrained[0])} channels")
        raise ConfigError(where, found, f"those for {channels} channels")
    return pretrained
