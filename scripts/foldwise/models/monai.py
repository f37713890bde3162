"""MONAI's networks in two dimensions, without their last layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from foldwise.config import architectures
from foldwise.config.architectures import Architecture

RESNET_LAYERS = {
    "resnet10": ("basic", [1, 1, 1, 1]),
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
    "resnet101": ("bottleneck", [3, 4, 23, 3]),
    "resnet152": ("bottleneck", [3, 8, 36, 3]),
    "resnet200": ("bottleneck", [3, 24, 36, 3]),
}
SENET_LAYERS = {
    "seresnet50": ("se_resnet_bottleneck", [3, 4, 6, 3]),
    "seresnet101": ("se_resnet_bottleneck", [3, 4, 23, 3]),
    "seresnet152": ("se_resnet_bottleneck", [3, 8, 36, 3]),
    "seresnext50": ("se_resnetxt_bottleneck", [3, 4, 6, 3]),
    "seresnext101": ("se_resnetxt_bottleneck", [3, 4, 23, 3]),
    "senet154": ("se_bottleneck", [3, 8, 36, 3]),
}
DENSENET_BLOCKS = {
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
    "densenet264": (6, 12, 64, 48),
}
Built = tuple[nn.Module, int]  # a backbone and the number of its features


def build_resnet(arch: Any, channels: int) -> Built:
    """Build MONAI's residual network."""
    from monai.networks.nets.resnet import ResNet

    block, layers = RESNET_LAYERS[arch.name]
    network = ResNet(
        block=block,
        layers=layers,
        block_inplanes=arch.block_inplanes,
        spatial_dims=2,
        n_input_channels=channels,
        conv1_t_size=arch.conv1_t_size,
        conv1_t_stride=arch.conv1_t_stride,
        no_max_pool=arch.no_max_pool,
        num_classes=1,
        bias_downsample=arch.bias_downsample,
    )
    return without_last(network, "fc")


def build_senet(arch: Any, channels: int) -> Built:
    """Build one of MONAI's networks with squeeze and excitation."""
    from monai.networks.nets.senet import SENet

    block, layers = SENET_LAYERS[arch.name]
    network = SENet(
        spatial_dims=2,
        in_channels=channels,
        block=block,
        layers=layers,
        groups=getattr(arch, "groups", 64 if arch.name == "senet154" else 1),
        reduction=arch.reduction,
        dropout_prob=None,  # `arch.dropout` is the only dropout before the head
        inplanes=arch.inplanes,
        downsample_kernel_size=arch.downsample_kernel_size,
        input_3x3=arch.input_3x3,
        num_classes=1,
    )
    return without_last(network, "last_linear")


def build_densenet(arch: Any, channels: int) -> Built:
    """Build MONAI's densely connected network."""
    from monai.networks.nets.densenet import DenseNet

    network = DenseNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=1,
        init_features=arch.init_features,
        growth_rate=arch.growth_rate,
        block_config=DENSENET_BLOCKS[arch.name],
        bn_size=arch.bn_size,
    )
    _, features = without_last(network.class_layers, "out")
    return network, features


def build_efficientnet(arch: Any, channels: int) -> Built:
    """Build MONAI's EfficientNet."""
    from monai.networks.nets.efficientnet import EfficientNetBN

    network = EfficientNetBN(arch.name, pretrained=False, spatial_dims=2, in_channels=channels, num_classes=1)
    network.add_module("_dropout", nn.Identity())  # `arch.dropout` is the only dropout before the head
    return without_last(network, "_fc")


def build_unet(arch: Any, channels: int) -> Built:
    """Build MONAI's residual U-Net, whose last convolution gives a map of the finest level's channels."""
    from monai.networks.nets.unet import UNet

    features = arch.channels[0]
    network = UNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=features,
        channels=arch.channels,
        strides=halving(arch.channels),
        kernel_size=arch.kernel_size,
        up_kernel_size=arch.up_kernel_size,
        num_res_units=arch.num_res_units,
        act=arch.act,
        norm=arch.norm,
    )
    return network, features


def build_attention_unet(arch: Any, channels: int) -> Built:
    """Build MONAI's U-Net with attention gates up to the map before its last convolution."""
    from monai.networks.nets.attentionunet import AttentionUnet

    network = AttentionUnet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=1,
        channels=arch.channels,
        strides=halving(arch.channels),
        kernel_size=arch.kernel_size,
        up_kernel_size=arch.up_kernel_size,
    )
    network.model[-1] = nn.Identity()
    return network, arch.channels[0]


def build_basic_unet(arch: Any, channels: int) -> Built:
    """Build MONAI's U-Net of five levels up to the map before its last convolution."""
    from monai.networks.nets.basic_unet import BasicUNet

    network = BasicUNet(in_channels=channels, **five_levels(arch))
    network.final_conv = nn.Identity()
    return without_padding(network), arch.features[-1]


def build_basic_unet_plus_plus(arch: Any, channels: int) -> Built:
    """Build MONAI's U-Net++ up to the map before its last convolution."""
    from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus

    class OneMap(BasicUNetPlusPlus):
        """The same network, which returns its map instead of a list of it."""

        def forward(self, x: Any) -> Any:
            return super().forward(x)[0]

    network = OneMap(in_channels=channels, **five_levels(arch))
    for depth in range(1, 5):
        setattr(network, f"final_conv_0_{depth}", nn.Identity())
    return without_padding(network), arch.features[-1]


def build_segresnet(arch: Any, channels: int) -> Built:
    """Build MONAI's residual encoder-decoder up to the normalised map before its last convolution."""
    from monai.networks.nets.segresnet import SegResNet

    network = SegResNet(
        spatial_dims=2,
        init_filters=arch.init_filters,
        in_channels=channels,
        out_channels=1,
        blocks_down=tuple(arch.blocks_down),
        blocks_up=tuple(arch.blocks_up),
        upsample_mode=arch.upsample_mode,
    )
    network.conv_final = network.conv_final[:-1]
    return network, arch.init_filters


def build_flexible_unet(arch: Any, channels: int) -> Built:
    """Build MONAI's U-Net with an encoder of another family up to the map before its last convolution."""
    from monai.networks.nets.flexible_unet import FlexibleUNet

    network = FlexibleUNet(
        in_channels=channels,
        out_channels=1,
        backbone=arch.backbone,
        decoder_channels=tuple(arch.decoder_channels),
        upsample=arch.upsample,
        interp_mode=arch.interp_mode,
        is_pad=False,
    )
    network.add_module("segmentation_head", nn.Identity())
    for unused in ("_conv_head", "_bn1", "_fc"):
        if hasattr(network.encoder, unused):
            setattr(network.encoder, unused, nn.Identity())
    return network, arch.decoder_channels[-1]


def build_dynunet(arch: Any, channels: int) -> Built:
    """Build MONAI's U-Net in the manner of nnU-Net up to the map before its last convolution."""
    from monai.networks.nets.dynunet import DynUNet

    strides = [1, *halving(arch.filters)]
    network = DynUNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=1,
        kernel_size=[arch.kernel_size] * len(strides),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=arch.filters,
        norm_name=affine(arch.norm),
        res_block=arch.res_block,
        trans_bias=arch.trans_bias,
    )
    network.output_block = nn.Identity()
    for twice in ("input_block", "downsamples", "bottleneck", "upsamples"):
        delattr(network, twice)  # all of them are in `skip_layers` too
    return network, arch.filters[0]


def halving(channels: list[int]) -> list[int]:
    """Return the strides between levels, each of which halves the sides."""
    return [2] * (len(channels) - 1)


def affine(norm: str) -> Any:
    """Return the normalisation with learned scale and bias, as batch normalisation has them anyway."""
    return ("instance", {"affine": True}) if norm == "instance" else norm


def five_levels(arch: Any) -> dict[str, Any]:
    """Return the arguments that both U-Nets of five levels take."""
    return {
        "spatial_dims": 2,
        "out_channels": 1,
        "features": arch.features,
        "norm": affine(arch.norm),
        "upsample": arch.upsample,
    }


def without_padding(network: nn.Module) -> nn.Module:
    """Leave out the padding for odd sides, which are not let in: on a GPU its gradient is slow to be deterministic."""
    from monai.networks.nets.basic_unet import UpCat

    for module in network.modules():
        if isinstance(module, UpCat):
            module.is_pad = False
    return network


def without_last(network: nn.Module, name: str) -> Built:
    """Replace the last linear layer of a network by the identity; return the number of features too."""
    features = getattr(network, name).in_features
    setattr(network, name, nn.Identity())
    return network, features


class Family(NamedTuple):
    """How networks of a family are built.

    Parameters
    ----------
    build : callable
        Builds one from its section and the channels of the images.
    last : str
        Pattern of the names of weights that MONAI has behind the features, or twice, or does not use.
    """

    build: Callable[[Any, int], Built]
    last: str


FAMILIES: dict[type[Architecture], Family] = {
    architectures.ResNet: Family(build_resnet, r"fc\."),
    architectures.SEResNet: Family(build_senet, r"last_linear\."),
    architectures.SEResNeXt: Family(build_senet, r"last_linear\."),
    architectures.SENet: Family(build_senet, r"last_linear\."),
    architectures.DenseNet: Family(build_densenet, r"class_layers\.out\."),
    architectures.EfficientNet: Family(build_efficientnet, r"_fc\."),
    architectures.UNet: Family(build_unet, r"model\.2\."),
    architectures.AttentionUNet: Family(build_attention_unet, r"model\.2\."),
    architectures.BasicUNet: Family(build_basic_unet, r"final_conv\."),
    architectures.BasicUNetPlusPlus: Family(build_basic_unet_plus_plus, r"final_conv_0_\d\."),
    architectures.SegResNet: Family(build_segresnet, r"conv_final\.2\."),
    architectures.FlexibleUNet: Family(build_flexible_unet, r"segmentation_head\.|encoder\.(_conv_head|_bn1|_fc)\."),
    architectures.DynUNet: Family(
        build_dynunet,
        r"output_block\.|(input_block|downsamples|bottleneck|upsamples)\.|deep_supervision_heads\."
        r"|skip_layers\.(next_layer\.)*super_head\.",
    ),
}
