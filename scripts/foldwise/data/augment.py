"""From stored uint8 batches to the network's input, on the device: augmentation and normalisation."""

from __future__ import annotations

import torch
from torch import nn

from foldwise.config.pipeline import Augmentations, Operation
from foldwise.data.operations import Step, build_step
from foldwise.data.policies import POLICIES, build_policy
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

    with_masks = False

    def __init__(self, operations: list[Operation], size: tuple[int, int], normalize: Normalize) -> None:
        super().__init__()
        channels = len(normalize.mean)
        self.normalize = normalize
        self.steps = nn.ModuleList([self.build(operation, size, channels) for operation in operations])

    def build(self, operation: Operation, size: tuple[int, int], channels: int) -> Step:
        """Build an operation for images of a size."""
        if operation.name in POLICIES:
            return build_policy(operation, channels)
        return build_step(operation, size, channels, self.with_masks)

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment and normalise uint8 images of shape (b, channels, height, width), and their targets with them."""
        if not self.steps:
            return self.normalize(pixels), targets
        with torch.autocast(pixels.device.type, enabled=False):  # with 16 bits, pixels would land beside their places
            images, targets = self.change(pixels.float().div_(255), targets)
            return self.normalize.unit(images.contiguous(memory_format=torch.channels_last)), targets

    def change(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Change float images between 0 and 1; targets stay as they are."""
        for step in self.steps:
            images = step(images)
        return images, targets


class AugmentWithMasks(Augment):
    """The same where masks move with their images: each pixel keeps one class, and what has none is ignored."""

    with_masks = True

    def change(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Change images, and move their masks, uint8 of shape (b, height, width)."""
        if not any(step.moves for step in self.steps):
            return super().change(images, targets)
        masks = (IGNORED - targets[:, None]).float()
        for step in self.steps:
            images, masks = step.with_masks(images, masks)  # type: ignore[operator]
        return images, IGNORED - masks[:, 0].round().to(torch.uint8)


def build_augmentation(kind: str, operations: list[Operation], size: tuple[int, int], normalize: Normalize) -> Augment:
    """Build the augmentation of a task type.

    Raises
    ------
    ConfigError
        If an operation does not take an argument or images of so many channels, or cannot move masks.
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
    key, channels = augmentations.normalization, len(task_statistics[0])
    if key == "imagenet":
        return for_channels((IMAGENET_MEAN, IMAGENET_STD), channels, key)
    if key == "task":
        return task_statistics
    if key is None:
        return [0.0] * channels, [1.0] * channels
    if pretrained is None:
        expected = "imagenet, task or null, as no weights tell what they expect"
        remedy = "A file of arch.weights that a training wrote does, so do pretrained networks of timm, and mode tl."
        raise ConfigError("augmentations.normalization", key, expected, remedy)
    return for_channels(pretrained, channels, key)


def for_channels(statistics: Statistics, channels: int, key: str) -> Statistics:
    """Return statistics for images of some channels; those of grey images are the mean over colours."""
    known = len(statistics[0])
    if known == channels:
        return statistics
    if channels != 1:
        found = Words(f"{key}, which is for {known} channel{'s' * (known > 1)}")
        raise ConfigError("augmentations.normalization", found, f"task or null for images of {channels} channels")
    mean, std = (sum(values) / known for values in statistics)
    return [mean], [std]
