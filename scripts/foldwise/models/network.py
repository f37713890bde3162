"""Networks: a backbone from images to features and a head for each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from foldwise.config.architectures import (
    SEGMENTERS,
    Arch,
    Architecture,
    DenseNet,
    EfficientNet,
    ResNet,
    SegResNet,
    UNet,
)
from foldwise.errors import ConfigError, one_of

SEGRESNET_STEP = 8  # MONAI's default depth halves the sides three times


class Network(nn.Module):
    """A backbone with a head for each task.

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
    """

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        outputs: list[int],
        dropout: float = 0.0,
        kinds: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.kinds = tuple(kinds or ["classification"] * len(outputs))
        self.heads = nn.ModuleList(
            [build_head(features, count, kind) for count, kind in zip(outputs, self.kinds, strict=True)]
        )

    def forward(self, images: torch.Tensor, head: int = 0) -> torch.Tensor:
        """Return logits of one head: (b, outputs), or (b, outputs, height, width) for segmentation."""
        features = self.backbone(images)
        if features.ndim == 4 and self.kinds[head] != "segmentation":
            features = features.mean(dim=(2, 3))
        return self.heads[head](self.dropout(features))


def build_head(features: int, outputs: int, kind: str) -> nn.Module:
    """Build the head of a task type."""
    if kind == "segmentation":
        return nn.Conv2d(features, outputs, kernel_size=1)
    return nn.Linear(features, outputs)


def count_outputs(kind: str, classes: Sequence[str]) -> int:
    """Return the number of outputs that a task needs: one a class, or the value of a regression."""
    return 1 if kind == "regression" else len(classes)


def build_network(arch: Arch, channels: int, outputs: list[int], kinds: Sequence[str] | None = None) -> Network:
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

    Raises
    ------
    ConfigError
        If the architecture has no map of features, which segmentation needs.
    """
    if "segmentation" in (kinds or ()) and arch.name not in SEGMENTERS:
        raise ConfigError("arch.name", arch.name, f"{one_of(SEGMENTERS)} for task type segmentation")
    backbone, features = BUILDERS[type(arch)](arch, channels)
    network = Network(backbone, features, outputs, arch.dropout, kinds)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def side_step(arch: Arch) -> int:
    """Return the number that height and width of images must be multiples of."""
    if isinstance(arch, UNet):
        return int(2 ** (len(arch.channels) - 1))
    return SEGRESNET_STEP if isinstance(arch, SegResNet) else 1


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


def build_unet(arch: Any, channels: int) -> tuple[nn.Module, int]:
    """Build MONAI's 2-D residual U-Net, whose last convolution gives a map of the finest level's channels.

    Batch normalisation takes the place of MONAI's instance normalisation, after which the average of a map over an
    image, on which the heads of other task types sit, would hardly depend on the image.
    """
    from monai.networks.nets.unet import UNet as MonaiUNet

    features = arch.channels[0]
    network = MonaiUNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=features,
        channels=arch.channels,
        strides=[2] * (len(arch.channels) - 1),
        num_res_units=arch.num_res_units,
        norm="batch",
    )
    return network, features


def build_segresnet(arch: Any, channels: int) -> tuple[nn.Module, int]:
    """Build MONAI's 2-D residual encoder-decoder up to the normalised map before its last convolution."""
    from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet

    network = MonaiSegResNet(spatial_dims=2, init_filters=arch.init_filters, in_channels=channels, out_channels=1)
    network.conv_final = network.conv_final[:-1]
    return network, arch.init_filters


def without_head(network: nn.Module, name: str) -> tuple[nn.Module, int]:
    """Replace the last linear layer of a network by the identity; return the number of features too."""
    features = getattr(network, name).in_features
    setattr(network, name, nn.Identity())
    return network, features


BUILDERS: dict[type[Architecture], Callable[[Any, int], tuple[nn.Module, int]]] = {
    ResNet: build_resnet,
    DenseNet: build_densenet,
    EfficientNet: build_efficientnet,
    UNet: build_unet,
    SegResNet: build_segresnet,
}


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
