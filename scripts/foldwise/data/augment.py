"""From stored uint8 batches to the network's input, on the device: augmentation and normalisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

import torch
from torch import nn

from foldwise.config.pipeline import Augmentations, Operation
from foldwise.data.operations import Step, build_step
from foldwise.errors import ConfigError, Words, nearest, one_of
from foldwise.tasks.masks import IGNORED

Statistics = tuple[list[float], list[float]]
Drawn = tuple[torch.Tensor, torch.Tensor]

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]
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
