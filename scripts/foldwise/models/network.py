"""Networks: a backbone from images to features and a head for each task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from foldwise.config.architectures import Arch, OwnNetwork, Timm, ViT, check_maps, side_step
from foldwise.config.sides import check_step
from foldwise.errors import ConfigError, Words
from foldwise.models.lora import Adapted
from foldwise.models.monai import FAMILIES
from foldwise.models.own import build_own, count_features

SIDE = 64  # of images, at least, where no size is given


class About(NamedTuple):
    """What is known of a backbone besides its weights.

    Parameters
    ----------
    name : str
        What messages call it.
    channels : int, optional
        Channels of the images it was built for.
    last : str
        Pattern of the names of weights that its source has behind the features.
    """

    name: str = "the network"
    channels: int | None = None
    last: str = r"(?!)"


class Statistics(nn.Module):
    """Statistics of a layer of batch normalisation for one more task: buffers named as those of the layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        for name, buffer in layer.named_buffers(recurse=False):
            self.register_buffer(name, buffer.clone())


class Network(nn.Module):
    """A backbone with a head for each task.

    Tasks share all weights of the backbone, but not the statistics of its batch normalisation (Chang et al. 2019,
    arXiv:1906.03950, who also keep weights and biases of these layers apart): a batch holds images of one task and is
    normalised by itself in training, so that the statistics of a task must be its own in validation.

    Parameters
    ----------
    backbone : Module
        From images of shape (b, channels, height, width) to features of shape (b, features), or to a map of them of
        shape (b, features, height, width).
    features : int
        Number of features.
    outputs : list of int
        Number of outputs of each head; the pivot's head is the first.
    dropout : float
        Share of features dropped while training.
    kinds : sequence of str, optional
        Task type of each head. That of segmentation is a convolution of 1 x 1 on the map; all others are linear, and
        a map is averaged before them.
    about : About, optional
        What is known of the backbone.
    """

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        outputs: list[int],
        dropout: float = 0.0,
        kinds: Sequence[str] | None = None,
        about: About | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.kinds = tuple(kinds or ["classification"] * len(outputs))
        self.about = about or About()
        self.frozen = False
        self.heads = nn.ModuleList(
            [build_head(features, count, kind) for count, kind in zip(outputs, self.kinds, strict=True)]
        )
        self.normalizing = [layer for layer in backbone.modules() if has_statistics(layer)]
        self.statistics = nn.ModuleList(nn.ModuleList(map(Statistics, self.normalizing)) for _ in outputs[1:])

    def forward(self, images: torch.Tensor, head: int = 0) -> torch.Tensor:
        """Return logits of one head: (b, outputs), or (b, outputs, height, width) for segmentation."""
        with self.statistics_of(head):
            features = self.extract(images)
        if features.ndim == 4 and self.kinds[head] != "segmentation":
            features = features.mean(dim=(2, 3))
        return self.heads[head](self.dropout(features))

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features; nothing is kept for a gradient if no weight of the backbone learns."""
        if self.frozen and not any(weight.requires_grad for weight in self.backbone.parameters()):
            with torch.no_grad():
                return self.backbone(images)
        return self.backbone(images)

    @contextmanager
    def statistics_of(self, head: int) -> Iterator[None]:
        """Let batch normalisation use, and in training gather, the statistics of the task of a head."""
        pairs = list(zip(self.normalizing, self.statistics[head - 1].children(), strict=True)) if head else []
        for layer, own in pairs:
            layer._buffers, own._buffers = own._buffers, layer._buffers
        try:
            yield
        finally:
            for layer, own in pairs:
                layer._buffers, own._buffers = own._buffers, layer._buffers

    def spread_statistics(self) -> None:
        """Let every task begin with the statistics of batch normalisation that the backbone has, as loaded."""
        for parts in self.statistics:
            for layer, own in zip(self.normalizing, parts.children(), strict=True):
                own.load_state_dict(dict(layer.named_buffers(recurse=False)))

    def freeze_backbone(self) -> None:
        """Keep weights and statistics of the backbone as they are, whatever follows; heads go on learning."""
        self.frozen = True
        self.backbone.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """Switch between training and evaluation; of a frozen backbone only the adapters are switched."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
            for module in self.backbone.modules():
                if isinstance(module, Adapted):
                    module.train(mode)
        return self


def has_statistics(layer: nn.Module) -> bool:
    """Tell whether a layer is one of batch normalisation, or one that keeps statistics likewise."""
    return isinstance(getattr(layer, "running_mean", None), torch.Tensor)


def build_head(features: int, outputs: int, kind: str) -> nn.Module:
    """Build the head of a task type."""
    if kind == "segmentation":
        return nn.Conv2d(features, outputs, kernel_size=1)
    return nn.Linear(features, outputs)


def count_outputs(kind: str, classes: Sequence[str]) -> int:
    """Return the number of outputs that a task needs: one a class, or the value of a regression."""
    return 1 if kind == "regression" else len(classes)


def build_network(
    arch: Arch,
    channels: int,
    outputs: list[int],
    kinds: Sequence[str] | None = None,
    size: Sequence[int] | None = None,
) -> Network:
    """Build a network with random weights, in channels-last memory order.

    Parameters
    ----------
    arch : Arch
        Architecture and its arguments.
    channels : int
        Channels of the images.
    outputs : list of int
        Number of outputs of each head.
    kinds : sequence of str, optional
        Task type of each head; all classification by default.
    size : sequence of int, optional
        Height and width of the images: some networks are made for one size. By default 64 x 64, or the next size
        that the network works on.

    Raises
    ------
    ConfigError
        If the network cannot be built, or has no map of features, which segmentation needs.
    """
    kinds = kinds or ["classification"] * len(outputs)
    for kind in kinds:
        check_maps(arch, kind)
    if size is None:
        size = [-(-SIDE // side_step(arch)) * side_step(arch)] * 2
    check_step(arch, size)
    backbone, features, last = build_backbone(arch, channels, (int(size[0]), int(size[1])), kinds)
    network = Network(backbone, features, outputs, arch.dropout, kinds, About(arch.name, channels, last))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def build_backbone(
    arch: Arch, channels: int, size: tuple[int, int], kinds: Sequence[str]
) -> tuple[nn.Module, int, str]:
    """Build a backbone; return it, the number of its features, and `About.last`."""
    if isinstance(arch, OwnNetwork):
        backbone = build_own(arch, channels)
        return backbone, count_features(backbone, channels, size, kinds, arch.name, "arch.source"), About().last
    if isinstance(arch, Timm):
        from foldwise.models.timm import build_timm, last_layers

        backbone, last = build_timm(arch, channels, size), "|".join(map(re.escape, last_layers(arch.name)))
        features = count_features(backbone, channels, size, kinds, arch.name, "arch.name")
        return backbone, features, rf"({last})\." if last else About().last
    if isinstance(arch, ViT):
        from foldwise.models import vit

        return vit.build_vit(arch, channels, size), arch.hidden_size, vit.LAST
    family = FAMILIES[type(arch)]
    return *family.build(arch, channels), family.last


def check_size(network: Network, arch: Arch, shape: Sequence[int]) -> None:
    """Raise `ConfigError` if a network cannot work on images of (height, width, channels)."""
    height, width, channels = shape
    made_for = network.about.channels
    if made_for not in (None, channels):
        remedy = "The steps of preprocessing decide on channels."
        raise ConfigError(
            "preprocessing.steps", Words(f"images of {channels} channels"), f"{made_for} for {arch.name}", remedy
        )
    check_step(arch, (height, width))
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, channels, height, width))
    except (RuntimeError, ValueError, AssertionError) as error:
        found, expected = Words(f"{height} x {width} pixels"), f"images large enough for {arch.name}"
        raise ConfigError("preprocessing.size", found, expected, str(error)) from error
    network.train()


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
