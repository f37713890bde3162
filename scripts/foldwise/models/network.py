"""Networks: a backbone from images to features and a linear head for each task."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from foldwise.config.pipeline import Arch, DenseNet, EfficientNet, ResNet


class Network(nn.Module):
    """A backbone with linear heads.

    Parameters
    ----------
    backbone : Module
        From images of shape (b, channels, height, width) to features of shape (b, features).
    features : int
        Number of features.
    outputs : list of int
        Number of outputs of each head; the pivot's head is the first.
    dropout : float
        Share of features dropped while training.
    """

    def __init__(self, backbone: nn.Module, features: int, outputs: list[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleList([nn.Linear(features, count) for count in outputs])

    def forward(self, images: torch.Tensor, head: int = 0) -> torch.Tensor:
        """Return logits of shape (b, outputs) of one head."""
        return self.heads[head](self.dropout(self.backbone(images)))


def build_network(arch: Arch, channels: int, outputs: list[int]) -> Network:
    """Build a network with random weights, in channels-last memory order.

    Parameters
    ----------
    arch : Arch
        Architecture and its arguments.
    channels : int
        Channels of the images.
    outputs : list of int
        Number of outputs of each head.
    """
    build = {ResNet: build_resnet, DenseNet: build_densenet, EfficientNet: build_efficientnet}[type(arch)]
    backbone, features = build(arch, channels)
    return Network(backbone, features, outputs, arch.dropout).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


RESNET_LAYERS = {
    "resnet10": ("basic", [1, 1, 1, 1]),
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
    "resnet101": ("bottleneck", [3, 4, 23, 3]),
    "resnet152": ("bottleneck", [3, 8, 36, 3]),
}


def build_resnet(arch: Any, channels: int) -> tuple[nn.Module, int]:
    """Build MONAI's 2-D residual network without its head."""
    from monai.networks.nets.resnet import ResNet as MonaiResNet

    block, layers = RESNET_LAYERS[arch.name]
    network = MonaiResNet(
        block=block,
        layers=layers,
        block_inplanes=arch.block_inplanes,
        spatial_dims=2,
        n_input_channels=channels,
        conv1_t_size=arch.conv1_t_size,
        conv1_t_stride=arch.conv1_t_stride,
        no_max_pool=arch.no_max_pool,
        num_classes=1,
    )
    return without_head(network, "fc")


def build_densenet(arch: Any, channels: int) -> tuple[nn.Module, int]:
    """Build MONAI's 2-D densely connected network without its head."""
    from monai.networks.nets.densenet import DenseNet as MonaiDenseNet

    blocks = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32), "densenet201": (6, 12, 48, 32)}
    network = MonaiDenseNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=1,
        init_features=arch.init_features,
        growth_rate=arch.growth_rate,
        block_config=blocks[arch.name],
    )
    layers = network.class_layers
    features = layers.get_submodule("out").in_features
    layers.out = nn.Identity()
    return network, int(features)  # type: ignore[arg-type]


def build_efficientnet(arch: Any, channels: int) -> tuple[nn.Module, int]:
    """Build MONAI's 2-D EfficientNet without its head."""
    from monai.networks.nets.efficientnet import EfficientNetBN

    network = EfficientNetBN(arch.name, pretrained=False, spatial_dims=2, in_channels=channels, num_classes=1)
    network.add_module("_dropout", nn.Identity())  # `arch.dropout` is the only dropout before the head
    return without_head(network, "_fc")


def without_head(network: nn.Module, name: str) -> tuple[nn.Module, int]:
    """Replace the last linear layer of a network by the identity; return the number of features too."""
    features = getattr(network, name).in_features
    setattr(network, name, nn.Identity())
    return network, features


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
