"""Operations that change training images: those of kornia, functions of the user's own.

Images are float of shape (b, channels, height, width) in [0, 1]; masks that move with them are float of shape
(b, 1, height, width), where 0, with which kornia fills, stands for ignored.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from foldwise.config.pipeline import Operation, kornia_operations
from foldwise.errors import ConfigError, DataError, Words
from foldwise.functions import check_call, failure_told, load_function, takes
from foldwise.tasks.masks import IGNORED

PROBE = 16  # images that an operation is tried on before training


class Step(nn.Module):
    """One operation of an augmentation."""

    moves = False

    def with_masks(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Change images, and move their masks with them."""
        return self(images), masks


class KorniaStep(Step):
    """An operation of kornia, with parameters of its own for every sample.

    Operations that move pixels move masks by the same parameters and take the nearest pixel; the others leave masks
    alone. What comes in from outside is ignored, unless an operation repeats the border or mirrors the image there.
    """

    def __init__(self, built: nn.Module) -> None:
        super().__init__()
        self.built = built
        self.flags = mask_flags(built)
        self.moves = self.flags is not None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Change images."""
        return self.built(images)

    def with_masks(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = self.built(images)
        return images, masks if self.flags is None else move_masks(self.built, masks, self.flags)


class OwnStep(Step):
    """A function of the user's own, ``function(images, **arguments)``.

    If it has a parameter `masks`, uint8 of shape (b, height, width) with 255 where pixels are ignored, it is called
    with them where there are any, and returns both.
    """

    def __init__(self, operation: Operation, with_masks: bool) -> None:
        super().__init__()
        self.name, self.arguments = operation.name, operation.arguments
        self.function = load_function(operation.name, "augmentations.operations")
        self.moves = with_masks and takes(self.function, "masks")
        named = [*(["masks"] if self.moves else []), *self.arguments]
        check_call(self.function, self.name, ["images"], named, "Mend it, or the arguments of the operation.")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Change images."""
        with failure_told(self.name, self.function):
            found = self.function(images, **self.arguments)
        return self.check(found, images, "images")

    def with_masks(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.moves:
            return self(images), masks
        indices = IGNORED - masks[:, 0].round().to(torch.uint8)
        with failure_told(self.name, self.function):
            found = self.function(images, masks=indices, **self.arguments)
        if not (isinstance(found, tuple | list) and len(found) == 2):
            raise DataError(self.name, Words(f"a function that returns {described(found)}"), "images and masks")
        moved = self.check(found[1], indices, "masks")
        return self.check(found[0], images, "images"), (IGNORED - moved[:, None]).float()

    def check(self, found: Any, given: torch.Tensor, what: str) -> torch.Tensor:
        """Raise `DataError` unless a function returns a tensor like the one it was given."""
        if described(found) != described(given):
            raise DataError(self.name, Words(f"{what}: {described(found)}"), f"{described(given)}, as it was given")
        return found


def described(value: Any) -> str:
    """Describe a value in messages."""
    if not isinstance(value, torch.Tensor):
        return "nothing" if value is None else f"a value of type {type(value).__name__}"
    return f"a tensor of shape {tuple(value.shape)} and {value.dtype} on {value.device}"


def build_step(operation: Operation, size: tuple[int, int], channels: int, with_masks: bool) -> Step:
    """Build an operation for images of a size.

    Raises
    ------
    ConfigError
        If kornia does not take an argument or images of so many channels, or masks cannot be moved, or there is no
        such function.
    DataError
        If a function does not take the arguments.
    """
    if operation.is_own:
        return OwnStep(operation, with_masks)
    step = KorniaStep(build_operation(operation, size, channels))
    if with_masks and step.moves:
        check_masks(operation, step, size, channels)
    return step


def build_operation(operation: Operation, size: tuple[int, int], channels: int = 3) -> nn.Module:
    """Build one kornia operation; crops get the size of the tensors."""
    import kornia.augmentation

    chance = operation.arguments.get("p", 1.0)
    if type(chance) not in (int, float) or not 0 <= chance <= 1:
        raise ConfigError(f"augmentations.operations: {operation.name}.p", chance, "a number from 0 to 1")
    kind = getattr(kornia.augmentation, operation.name)
    arguments: dict[str, Any] = {key: tuple_of(value) for key, value in operation.arguments.items()}
    if operation.name in ("RandomCrop", "RandomResizedCrop"):
        arguments["size"] = size
    always = {"p": 1.0} if "p" in kornia_operations()[operation.name] else {}
    try:
        built, tried = kind(**arguments), kind(**arguments | always)
    except Exception as error:
        raise not_accepted(operation, error) from error
    probe(operation, tried, size, channels)  # with its own probability it might leave all images out
    return built


def probe(operation: Operation, built: nn.Module, size: tuple[int, int], channels: int) -> None:
    """Try an operation: kornia looks at some arguments only when it meets images."""
    try:
        with torch.random.fork_rng(devices=[]):
            changed = built(torch.zeros(PROBE, channels, *size))
            if changed.shape[1] != channels:
                raise ValueError(f"images of {channels} channels become images of {changed.shape[1]}")
    except Exception as error:
        if channels != 3 and works(built, (PROBE, 3, *size)):
            where = f"augmentations.operations: {operation.name}"
            found = Words(f"images of {channels} channel{'s' * (channels > 1)}")
            raise ConfigError(where, found, "images of 3 channels, which it needs", "Leave it out.") from error
        raise not_accepted(operation, error) from error


def works(built: nn.Module, shape: tuple[int, ...]) -> bool:
    """Tell whether an operation takes images of a shape."""
    try:
        with torch.random.fork_rng(devices=[]):
            built(torch.zeros(shape))
    except Exception:
        return False
    return True


def not_accepted(operation: Operation, error: Exception) -> ConfigError:
    """Return what is told of arguments that kornia does not take."""
    accepted = f"arguments that kornia takes ({', '.join(kornia_operations()[operation.name])})"
    return ConfigError(f"augmentations.operations: {operation.name}", str(error), accepted)


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
    """Move masks as the last call of an operation moved the images."""
    return operation.transform_masks(
        masks, operation._params, operation.flags, transform=operation.transform_matrix, **flags
    )


def check_masks(operation: Operation, step: Step, size: tuple[int, int], channels: int) -> None:
    """Raise `ConfigError` if an operation mixes the values of masks instead of moving them."""
    with torch.random.fork_rng(devices=[]):
        masks = torch.rand(PROBE, 1, *size).round() * 200
        _, moved = step.with_masks(torch.zeros(PROBE, channels, *size), masks)
    if moved.shape != masks.shape or not torch.isin(moved, torch.tensor([0.0, 200.0])).all():
        where = f"augmentations.operations: {operation.name}"
        raise ConfigError(where, Words("arguments that mix the classes of masks"), "whole pixels that move")


def tuple_of(value: Any) -> Any:
    """Turn lists into tuples, as kornia expects them."""
    return tuple(map(tuple_of, value)) if isinstance(value, list) else value
