"""Policies that draw operations for every image: RandAugment, TrivialAugment, AutoAugment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

import torch
from torch import nn

from foldwise.config.pipeline import Operation
from foldwise.data.operations import Step
from foldwise.errors import ConfigError, Words, nearest, one_of

Drawn = tuple[torch.Tensor, torch.Tensor]
WHERE = "augmentations.operations"
LEVELS = 30  # of magnitude, in RandAugment and TrivialAugment
STRONGEST = {  # of each operation in RandAugment and AutoAugment, and in TrivialAugment
    "identity": (0.0, 0.0),
    "auto_contrast": (0.0, 0.0),
    "equalize": (0.0, 0.0),
    "rotate": (30.0, 135.0),  # degrees
    "solarize": (1.0, 1.0),  # by how much the value from which on pixels are inverted lies below white
    "color": (0.9, 0.99),  # by which share more or less
    "posterize": (4.0, 6.0),  # bits that are lost
    "contrast": (0.9, 0.99),
    "brightness": (0.9, 0.99),
    "sharpness": (0.9, 0.99),
    "shear_x": (0.3, 0.99),  # sideways, for each pixel down
    "shear_y": (0.3, 0.99),
    "translate_x": (150 / 331, 32 / 224),  # shares of the side
    "translate_y": (150 / 331, 32 / 224),
    "invert": (0.0, 0.0),  # in AutoAugment alone
}
NAMES = list(STRONGEST)
DRAWN = NAMES.index("invert")  # operations that RandAugment and TrivialAugment draw among
MOVING = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
SIGNED = torch.tensor([name not in ("solarize", "posterize") for name in NAMES])
STRENGTHS = torch.tensor(list(STRONGEST.values()))


class Policy(Step):
    """Operations drawn for every sample on its own, as in the papers, and not for a batch as kornia does.

    Random numbers come from torch's generator on the CPU, whatever the device: they are the same on all devices, and
    nothing waits for the device. What comes in from outside an image is black, and ignored in its mask. Images are
    changed in place.

    Parameters
    ----------
    draw : callable
        Gives, for a number of samples, operation and strength of each of them, once or several times.
    """

    moves = True

    def __init__(self, draw: Callable[[int], Iterator[Drawn]]) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.change(images, None)

    def with_masks(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.change(images, masks), masks

    def change(self, images: torch.Tensor, masks: torch.Tensor | None) -> torch.Tensor:
        """Change images, and masks with them, both in place."""
        for operations, strengths in self.draw(len(images)):
            for name, change in CHANGES.items():
                (places,) = (operations == NAMES.index(name)).nonzero(as_tuple=True)
                if len(places):
                    there, amounts = (part.to(images.device) for part in (places, strengths[places].view(-1, 1, 1, 1)))
                    # Noise may have left values that no byte stands for.
                    images[there] = change(images[there].clamp_(0, 1), amounts).clamp_(0, 1)
            move(images, masks, operations, strengths)
        return images


def move(images: torch.Tensor, masks: torch.Tensor | None, operations: torch.Tensor, strengths: torch.Tensor) -> None:
    """Move the pixels of those samples whose operation does, and of their masks, in place."""
    (places,) = torch.isin(operations, torch.tensor([*map(NAMES.index, MOVING)])).nonzero(as_tuple=True)
    if not len(places):
        return
    there = places.to(images.device)
    matrices = origins(operations[places], strengths[places], images.shape[3] / images.shape[2]).to(images.device)
    grid = nn.functional.affine_grid(matrices, [len(places), *images.shape[1:]], align_corners=False)
    images[there] = nn.functional.grid_sample(images[there], grid, align_corners=False)
    if masks is not None:
        masks[there] = nn.functional.grid_sample(masks[there], grid, mode="nearest", align_corners=False)


def origins(operations: torch.Tensor, strengths: torch.Tensor, aspect: float) -> torch.Tensor:
    """Return matrices (n, 2, 3) that tell where pixels come from; each side of an image is from -1 to 1."""
    angle, shear_x, shear_y, shift_x, shift_y = (
        strengths.where(operations == NAMES.index(name), torch.zeros(())) for name in MOVING
    )
    sine, cosine = angle.deg2rad().sin(), angle.deg2rad().cos()
    sideways = torch.stack([cosine, (shear_x - sine) / aspect, 2 * shift_x], dim=1)
    down = torch.stack([(shear_y + sine) * aspect, cosine, 2 * shift_y], dim=1)
    return torch.stack([sideways, down], dim=1)


def grey(images: torch.Tensor) -> torch.Tensor:
    """Return the luminance of images (ITU-R BT.601), one channel."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def smooth(images: torch.Tensor) -> torch.Tensor:
    """Return images in which each pixel is averaged with its neighbours, counting five times; the border stays."""
    smoothed = images.clone()
    around = nn.functional.avg_pool2d(images, 3, stride=1)
    smoothed[:, :, 1:-1, 1:-1] = (9 * around + 4 * images[:, :, 1:-1, 1:-1]) / 13
    return smoothed


def stretch(images: torch.Tensor) -> torch.Tensor:
    """Stretch every channel to the whole range of values."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return ((images - low) / (high - low).where(high > low, torch.ones_like(low))).where(high > low, images)


def posterise(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Set the last bits of each byte to 0."""
    levels, lost = (images * 255).round().to(torch.int16), bits.round().to(torch.int16)
    return (levels >> lost << lost) / 255


def equalize(images: torch.Tensor) -> torch.Tensor:
    """Make all values of every channel about equally frequent, as Pillow does."""
    levels = (images * 255).round().long().flatten(2).flatten(0, 1)
    places = levels + 256 * torch.arange(len(levels), device=levels.device)[:, None]
    counts = levels.new_zeros(256 * len(levels)).scatter_add_(0, places.flatten(), torch.ones_like(places).flatten())
    counts = counts.view(-1, 256)
    step = (levels.shape[1] - counts.gather(1, levels.amax(1, keepdim=True))) // 255
    found = ((counts.cumsum(1) - counts + step // 2) // step.clamp_min(1)).clamp_max(255).gather(1, levels)
    return (found.where(step > 0, levels) / 255).view(len(images), -1, *images.shape[2:])


CHANGES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "auto_contrast": lambda images, _: stretch(images),
    "equalize": lambda images, _: equalize(images),
    "invert": lambda images, _: 1 - images,
    "solarize": lambda images, amount: images.where(images < 1 - amount, 1 - images),
    "posterize": posterise,
    "color": lambda images, amount: images + amount * (images - grey(images)),
    "contrast": lambda images, amount: images + amount * (images - grey(images).mean((1, 2, 3), keepdim=True)),
    "brightness": lambda images, amount: images + amount * images,
    "sharpness": lambda images, amount: images + amount * (images - smooth(images)),
}


def signed(operations: torch.Tensor, shares: torch.Tensor, column: int) -> Drawn:
    """Return operations and their strengths: shares of the strongest, with a random sign where there are two."""
    signs = torch.where((torch.rand(len(operations)) < 0.5) & SIGNED[operations], -1.0, 1.0)
    return operations, STRENGTHS[operations, column] * shares * signs


def rand_augment(n: int = 2, m: float = 9) -> Callable[[int], Iterator[Drawn]]:
    """Return what draws `n` operations of magnitude `m` out of 30 (Cubuk et al. 2020, arXiv:1909.13719)."""
    if type(n) is not int or n < 1:
        raise ConfigError("n", n, "a whole number from 1")
    if type(m) not in (int, float) or not 0 <= m <= LEVELS:
        raise ConfigError("m", m, f"a number from 0 to {LEVELS}")
    shares = torch.tensor(m / LEVELS)
    return lambda samples: (signed(torch.randint(DRAWN, (samples,)), shares, 0) for _ in range(n))


def trivial_augment() -> Callable[[int], Iterator[Drawn]]:
    """Return what draws one operation of random magnitude (Müller and Hutter 2021, arXiv:2103.10158)."""
    return lambda samples: (
        signed(torch.randint(DRAWN, (samples,)), torch.randint(LEVELS + 1, (samples,)) / LEVELS, 1) for _ in range(1)
    )


def auto_augment(policy: str = "imagenet") -> Callable[[int], Iterator[Drawn]]:
    """Return what draws one of 25 pairs of operations found on a dataset (Cubuk et al. 2019, arXiv:1805.09501)."""
    known = ("cifar10", "imagenet", "svhn")
    if policy not in known:
        raise ConfigError("policy", policy, one_of(known), nearest(str(policy), known))
    pairs = getattr(import_module("kornia.augmentation.auto.autoaugment.autoaugment"), f"{policy}_policy")
    operations = torch.tensor([[NAMES.index(name) for name, _, _ in pair] for pair in pairs])
    chances = torch.tensor([[chance for _, chance, _ in pair] for pair in pairs])
    shares = torch.tensor([[(level or 0) / 9 for _, _, level in pair] for pair in pairs])

    def draw(samples: int) -> Iterator[Drawn]:
        pair = torch.randint(len(pairs), (samples,))
        for place in range(2):
            applied = torch.rand(samples) < chances[pair, place]
            yield signed(operations[pair, place] * applied, shares[pair, place], 0)

    return draw


POLICIES: dict[str, Callable[..., Callable[[int], Iterator[Drawn]]]] = {
    "AutoAugment": auto_augment,
    "RandAugment": rand_augment,
    "TrivialAugment": trivial_augment,
}


def build_policy(operation: Operation, channels: int) -> Policy:
    """Build a policy; raise `ConfigError` for arguments or images that it does not take."""
    where = f"{WHERE}: {operation.name}"
    if channels not in (1, 3):
        raise ConfigError(where, Words(f"images of {channels} channels"), "images of 1 or 3 channels")
    try:
        return Policy(POLICIES[operation.name](**operation.arguments))
    except ConfigError as error:
        raise ConfigError(f"{where}.{error.where}", error.got, error.expected, error.remedy) from error
