"""Operations that change training images: those of kornia, policies that draw among them, functions of the user's own.

Images are float of shape (b, channels, height, width) in [0, 1]; masks that move with them are float of shape
(b, 1, height, width), where 0, with which kornia fills, stands for ignored.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from foldwise.config.pipeline import Operation, kornia_operations
from foldwise.errors import ConfigError, DataError, Words
from foldwise.functions import failure_told, load_function
from foldwise.tasks.masks import IGNORED

PROBE = 16  # images that an operation is tried on before training
GROUP = 8  # images of a batch that a policy draws one operation for


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


class PolicyStep(Step):
    """A policy of kornia, which draws among operations for each group of eight images, not for a batch as a whole.

    RandAugment (Cubuk et al. 2020, arXiv:1909.13719) applies `n` operations of magnitude `m` one after another,
    TrivialAugment (Müller and Hutter 2021, arXiv:2103.10158) one of random magnitude. Groups are made anew before each
    of them; magnitudes and signs are those of single images where they are random.
    """

    def __init__(self, policy: Any, rounds: int) -> None:
        super().__init__()
        self.choices = nn.ModuleList([KorniaPolicyStep(next(iter(branch.children()))) for branch in policy.children()])
        self.rounds = rounds
        self.moves = True

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Change images."""
        for order, drawn in self.draw(len(images)):
            images = images[order]
            parts = zip(images.split(GROUP), drawn, strict=True)
            images = torch.cat([self.choices[choice](part) for part, choice in parts])[order.argsort()]
        return images

    def with_masks(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for order, drawn in self.draw(len(images)):
            parts = zip(images[order].split(GROUP), masks[order].split(GROUP), drawn, strict=True)
            changed = [self.choices[choice].with_masks(*pair) for *pair, choice in parts]  # type: ignore[operator]
            images, masks = (torch.cat(list(part))[order.argsort()] for part in zip(*changed, strict=True))
        return images, masks

    def draw(self, samples: int) -> list[tuple[torch.Tensor, list[int]]]:
        """Draw, for each round, an order of the samples and an operation for each group of them."""
        groups = -(-samples // GROUP)
        return [
            (torch.randperm(samples), torch.randint(len(self.choices), (groups,)).tolist())
            for _ in range(self.rounds)
        ]


class KorniaPolicyStep(KorniaStep):
    """An operation out of a policy of kornia, which wraps another operation with its magnitude."""

    def __init__(self, wrapper: Any) -> None:
        super().__init__(wrapper.op)
        self.wrapper = wrapper

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Change images."""
        return self.wrapper(images)

    def with_masks(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = self.wrapper(images)
        return images, masks if self.flags is None else move_masks(self.built, masks, self.flags)


class OwnStep(Step):
    """A function of the user's own, ``function(images, **arguments)``.

    If it has a parameter `masks`, uint8 of shape (b, height, width) with 255 where pixels are ignored, it is called
    with them where there are any, and returns both.
    """

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.name, self.arguments = operation.name, operation.arguments
        self.function = load_function(operation.name, "augmentations.operations")
        self.moves = "masks" in inspect.signature(self.function).parameters

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Change images."""
        with failure_told(self.name, self.function):
            found = self.function(images, **self.arguments)
        return self.check(found, images, "images")

    def with_masks(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.moves:
            return self(images), masks
        indices = (IGNORED - masks[:, 0]).to(torch.uint8)
        with failure_told(self.name, self.function):
            found, moved = self.function(images, masks=indices, **self.arguments)
        moved = self.check(moved, indices, "masks")
        return self.check(found, images, "images"), (IGNORED - moved[:, None]).float()

    def check(self, found: Any, given: torch.Tensor, what: str) -> torch.Tensor:
        """Raise `DataError` unless a function returns a tensor like the one it was given."""
        if isinstance(found, torch.Tensor) and (found.shape, found.dtype) == (given.shape, given.dtype):
            return found
        shown = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise DataError(self.name, Words(f"{what}: {shown}"), f"{given.dtype} {tuple(given.shape)}")


def build_step(operation: Operation, size: tuple[int, int], channels: int, with_masks: bool) -> Step:
    """Build an operation for images of a size.

    Raises
    ------
    ConfigError
        If kornia does not take an argument or images of so many channels, or masks cannot be moved.
    """
    if operation.is_own:
        return OwnStep(operation)
    step: Step
    if operation.name in POLICIES:
        step = POLICIES[operation.name](operation)
        probe(operation, step, size, channels)
    else:
        step = KorniaStep(build_operation(operation, size, channels))
    if with_masks and step.moves:
        check_masks(operation, step, size, channels)
    return step


def build_operation(operation: Operation, size: tuple[int, int], channels: int = 3) -> nn.Module:
    """Build one kornia operation; crops get the size of the tensors."""
    import kornia.augmentation

    chance = operation.arguments.get("p", 1.0)
    if not isinstance(chance, int | float) or not 0 <= chance <= 1:
        raise ConfigError(f"augmentations.operations: {operation.name}.p", chance, "a number from 0 to 1")
    kind = getattr(kornia.augmentation, operation.name)
    arguments: dict[str, Any] = {key: tuple_of(value) for key, value in operation.arguments.items()}
    if operation.name in ("RandomCrop", "RandomResizedCrop"):
        arguments["size"] = size
    try:
        built: nn.Module = kind(**arguments)
    except Exception as error:
        raise not_accepted(operation, error) from error
    probe(operation, built, size, channels)
    return built


def probe(operation: Operation, built: nn.Module, size: tuple[int, int], channels: int) -> None:
    """Try an operation: kornia looks at some arguments only when it meets images."""
    try:
        with torch.random.fork_rng(devices=[]):
            built(torch.zeros(PROBE, channels, *size))
    except Exception as error:
        if channels != 3 and takes(built, (PROBE, 3, *size)):
            where, found = f"augmentations.operations: {operation.name}", Words(f"images of {channels} channels")
            raise ConfigError(where, found, "images of 3 channels, which it needs", "Leave it out.") from error
        raise not_accepted(operation, error) from error


def takes(built: nn.Module, shape: tuple[int, ...]) -> bool:
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


def build_randaugment(operation: Operation) -> PolicyStep:
    """Build RandAugment: `n` operations of magnitude `m` out of 30."""
    from kornia.augmentation.auto import RandAugment

    arguments = {"n": 2, "m": 9, **operation.arguments}
    try:
        return PolicyStep(RandAugment(**arguments), arguments["n"])
    except Exception as error:
        raise not_accepted(operation, error) from error


def build_trivialaugment(operation: Operation) -> PolicyStep:
    """Build TrivialAugment: one operation of random magnitude."""
    from kornia.augmentation.auto import TrivialAugment

    return PolicyStep(TrivialAugment(), 1)


POLICIES = {"RandAugment": build_randaugment, "TrivialAugment": build_trivialaugment}


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
