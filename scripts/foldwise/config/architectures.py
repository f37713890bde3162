"""Architectures by name, with the arguments of each family."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foldwise.config.section import Section

Probability = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Architecture(Section):
    """A backbone with a linear head; keys common to all families."""

    source: Literal["monai"] = Field("monai", description="Where the backbone comes from.")
    dropout: Probability = Field(0.0, description="Share of features dropped before the head while training.")


class ResNet(Architecture):
    """Residual network (He et al. 2016, doi:10.1109/CVPR.2016.90)."""

    name: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = Field(
        "resnet18", description="Architecture."
    )
    block_inplanes: list[Count] = Field(
        [64, 128, 256, 512], min_length=4, max_length=4, description="Channels of the four stages."
    )
    conv1_t_size: Count = Field(7, description="Kernel size of the first convolution.")
    conv1_t_stride: Count = Field(2, description="Stride of the first convolution.")
    no_max_pool: bool = Field(False, description="Leave out the pooling after the first convolution.")


class DenseNet(Architecture):
    """Densely connected network (Huang et al. 2017, doi:10.1109/CVPR.2017.243)."""

    name: Literal["densenet121", "densenet169", "densenet201"] = Field(description="Architecture.")
    init_features: Count = Field(64, description="Channels of the first convolution.")
    growth_rate: Count = Field(32, description="Channels that each layer adds.")


class EfficientNet(Architecture):
    """Compound-scaled network (Tan and Le 2019, arXiv:1905.11946)."""

    name: Literal[
        "efficientnet-b0", "efficientnet-b1", "efficientnet-b2", "efficientnet-b3", "efficientnet-b4",
        "efficientnet-b5", "efficientnet-b6", "efficientnet-b7",
    ] = Field(description="Architecture.")  # fmt: skip


class UNet(Architecture):
    """Residual U-Net for segmentation (Ronneberger et al. 2015, arXiv:1505.04597; Kerfoot et al. 2019)."""

    name: Literal["unet"] = Field(description="Architecture.")
    channels: list[Count] = Field(
        [16, 32, 64, 128], min_length=2, max_length=8, description="Channels from the finest level to the coarsest."
    )
    num_res_units: Annotated[int, Field(ge=0)] = Field(2, description="Convolutions in the residual unit of a level.")


class SegResNet(Architecture):
    """Residual encoder-decoder for segmentation (Myronenko 2018, arXiv:1810.11654)."""

    name: Literal["segresnet"] = Field(description="Architecture.")
    init_filters: Annotated[int, Field(ge=8, multiple_of=8)] = Field(16, description="Channels of the finest level.")


Arch = Annotated[ResNet | DenseNet | EfficientNet | UNet | SegResNet, Field(discriminator="name")]
SEGMENTERS = ("unet", "segresnet")
