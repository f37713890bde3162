"""Mixtures of the images of a batch, whose losses mix likewise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Mixture:
    """A batch in which each image is mixed with another.

    Parameters
    ----------
    images : Tensor
        The mixed images.
    order : Tensor
        Which image each was mixed with.
    share : float
        Share of the first image.
    """

    images: torch.Tensor
    order: torch.Tensor
    share: float

    def loss(self, loss: Loss, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss for the targets of both images, by their shares.

        Parameters
        ----------
        loss : callable
            From logits and targets to a loss.
        logits : Tensor
            Of the mixed images.
        targets : Tensor
            Of the images before they were mixed.
        """
        return self.share * loss(logits, targets) + (1 - self.share) * loss(logits, targets[self.order])


class Mixing:
    """Mix batches by mixup or by CutMix; where both are given, one of them is drawn for each batch.

    A batch has one share, as in the papers. All random numbers come from torch's generator on the CPU, whatever the
    device of the images: they are the same on all devices, and nothing waits for the device.

    Parameters
    ----------
    mixup_alpha : float or None
        Parameter of the Beta distribution of mixup's shares (Zhang et al. 2018, arXiv:1710.09412); None: no mixup.
    cutmix_alpha : float or None
        The same of CutMix (Yun et al. 2019, arXiv:1905.04899); None: no CutMix.
    """

    def __init__(self, mixup_alpha: float | None, cutmix_alpha: float | None) -> None:
        choices = ((mix_up, mixup_alpha), (cut_mix, cutmix_alpha))
        self.choices = [(method, alpha) for method, alpha in choices if alpha is not None]

    def mix(self, images: torch.Tensor) -> Mixture:
        """Mix images of shape (b, channels, height, width), which stay as they are, each with another of the batch."""
        place = int(torch.randint(len(self.choices), ())) if len(self.choices) > 1 else 0
        method, alpha = self.choices[place]
        share = draw_share(alpha)
        order = torch.randperm(len(images)).to(images.device, non_blocking=True)
        return method(images, order, share)


def draw_share(alpha: float) -> float:
    """Draw a share from a symmetric Beta distribution."""
    concentration = torch.tensor(alpha, dtype=torch.float64)
    return torch.distributions.Beta(concentration, concentration, validate_args=False).sample().item()


def mix_up(images: torch.Tensor, order: torch.Tensor, share: float) -> Mixture:
    """Mix all pixels of each image with those of another."""
    return Mixture(torch.lerp(images[order], images, share), order, share)


def cut_mix(images: torch.Tensor, order: torch.Tensor, share: float) -> Mixture:
    """Paste a box of another image into each, the same box in all; its size is that of the other's share.

    The box has the form of the image and its centre anywhere within; what lies outside the image is cut off, and the
    share becomes that of the pixels that stay.
    """
    height, width = images.shape[2:]
    (top, bottom), (left, right) = draw_span(height, share), draw_span(width, share)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right][order]
    return Mixture(mixed, order, 1 - (bottom - top) * (right - left) / (height * width))


def draw_span(side: int, share: float) -> tuple[int, int]:
    """Draw where a box begins and ends along a side of the image."""
    half = int(side * (1 - share) ** 0.5) // 2
    centre = int(torch.randint(side, ()))
    return max(centre - half, 0), min(centre + half, side)
