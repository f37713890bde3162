"""From stored uint8 batches to the network's input, on the device: augmentation and normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from foldwise.config.pipeline import Augmentations, Operation, kornia_operations
from foldwise.errors import ConfigError, Words
from foldwise.tasks.masks import IGNORED

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

    def forward(self, pixels: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment and normalise uint8 images of shape (b, channels, height, width); targets stay as they are."""
        if not self.operations:
            return self.normalize(pixels), targets
        images = pixels.float().div_(255)
        for operation in self.operations:
            images = operation(images)
        return self.finish(images), targets

    def finish(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise augmented images."""
        return self.normalize.unit(images.contiguous(memory_format=torch.channels_last))


class AugmentWithMasks(Augment):
    """The same where masks move with their images: each pixel keeps one class, and what has none is ignored.

    Operations that move pixels move masks by the same parameters and take the nearest pixel; the others leave masks
    alone. What comes in from outside is ignored, unless an operation repeats the border or mirrors the image there.
    """

    def __init__(self, operations: list[Operation], size: tuple[int, int], normalize: Normalize) -> None:
        super().__init__(operations, size, normalize)
        self.mask_flags = [mask_flags(built) for built in self.operations]
        for operation, built, flags in zip(operations, self.operations, self.mask_flags, strict=True):
            if flags is not None:
                check_masks(operation, built, flags, size)

    def forward(self, pixels: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment and normalise images as `Augment` does, and move their masks, uint8 of shape (b, height, width)."""
        if not any(flags is not None for flags in self.mask_flags):
            return super().forward(pixels, targets)
        images = pixels.float().div_(255)
        masks = (IGNORED - targets[:, None]).float()  # 0, with which kornia fills, stands for ignored
        for operation, flags in zip(self.operations, self.mask_flags, strict=True):
            images = operation(images)
            if flags is not None:
                masks = move_masks(operation, masks, flags)
        return self.finish(images), IGNORED - masks[:, 0].round().to(torch.uint8)


def build_augmentation(kind: str, operations: list[Operation], size: tuple[int, int], normalize: Normalize) -> Augment:
    """Build the augmentation of a task type.

    Raises
    ------
    ConfigError
        If kornia does not take an argument, or an operation cannot move masks.
    """
    return (AugmentWithMasks if kind == "segmentation" else Augment)(operations, size, normalize)


def mask_flags(operation: nn.Module) -> dict[str, Any] | None:
    """Return how a kornia operation treats masks otherwise than images; None if it leaves them alone."""
    from kornia.augmentation import GeometricAugmentationBase2D, RandomResizedCrop
    from kornia.constants import Resample, SamplePadding

    if not isinstance(operation, GeometricAugmentationBase2D):
        return None
    flags: dict[str, Any] = {"resample": Resample.NEAREST, "fill": 0.0, "fill_value": None}
    if operation.flags.get("padding_mode") is SamplePadding.FILL:
        flags["padding_mode"] = SamplePadding.ZEROS
    if isinstance(operation, RandomResizedCrop) and operation.flags["resample"] is not Resample.NEAREST:
        # By slices, kornia would put masks on another grid than images; the matrix tells where images went.
        flags |= {"cropping_mode": "resample", "align_corners": True}
    return flags


def move_masks(operation: Any, masks: torch.Tensor, flags: dict[str, Any]) -> torch.Tensor:
    """Move masks, float of shape (b, 1, height, width), as the last call of an operation moved the images."""
    return operation.transform_masks(
        masks, operation._params, operation.flags, transform=operation.transform_matrix, **flags
    )


def check_masks(operation: Operation, built: nn.Module, flags: dict[str, Any], size: tuple[int, int]) -> None:
    """Raise `ConfigError` if an operation mixes the values of masks instead of moving them."""
    with torch.random.fork_rng(devices=[]):
        masks = torch.rand(16, 1, *size).round() * 200
        built(torch.zeros(16, 3, *size))
        moved = move_masks(built, masks, flags)
    if moved.shape != masks.shape or not torch.isin(moved, torch.tensor([0.0, 200.0])).all():
        where = f"augmentations.operations: {operation.name}"
        raise ConfigError(where, Words("arguments that mix the classes of masks"), "whole pixels that move")


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
