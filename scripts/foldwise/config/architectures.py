"""Architectures by name, with the arguments of each family."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from foldwise.config.section import Section, nested_sections, tag_words
from foldwise.config.values import BUILT_IN, OWN, Arguments, Count, Function, Probability
from foldwise.errors import ConfigError, Words, one_of

SOURCES = "monai, timm, or a function of your own as `module:function`"
RESIDUAL = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200")
COMPOUND = (*(f"efficientnet-b{number}" for number in range(9)), "efficientnet-l2")
# Sides of the smallest images that networks take. EfficientNets pad for the size that each was published for.
SMALLEST = {
    "seresnet50": 3, "seresnet101": 3, "seresnet152": 3, "seresnext50": 3, "seresnext101": 3, "senet154": 3,
    "densenet121": 29, "densenet169": 29, "densenet201": 29, "densenet264": 29,
    "efficientnet-b0": 32, "efficientnet-b1": 16, "efficientnet-b2": 4, "efficientnet-b3": 12, "efficientnet-b4": 28,
    "efficientnet-b5": 8, "efficientnet-b6": 16, "efficientnet-b7": 24, "efficientnet-b8": 32, "efficientnet-l2": 32,
}  # fmt: skip
# Arguments of `timm.create_model` that are decided elsewhere, and where.
DECIDED = {
    "num_classes": "Heads follow from the tasks.",
    "in_chans": "Channels are those of the images.",
    "img_size": "The size is that of the images.",
    "features_only": "Features are those before timm's own head.",
    "drop_rate": "Set arch.dropout.",
    "pretrained": "Set arch.pretrained.",
    "checkpoint_path": "Set arch.weights.",
    "pretrained_cfg": "Write a tag of timm's weights after the name: resnet18.a1_in1k.",
    "pretrained_cfg_overlay": "Set arch.weights for other weights.",
    "cache_dir": "Set the environment variable HF_HOME.",
}


def refuse_pretrained(value: bool) -> bool:
    """Raise `ConfigError` if weights are asked for that MONAI does not have as safetensors."""
    if value:
        raise ConfigError("", value, "false", "Weights of a built-in network come from a file: set arch.weights.")
    return value


def check_decided(arguments: dict[str, Any]) -> dict[str, Any]:
    """Raise `ConfigError` for arguments of timm that are decided elsewhere."""
    for name, value in arguments.items():
        if name in DECIDED:
            raise ConfigError(name, value, "no such argument", DECIDED[name])
    return arguments


Pair = Annotated[int, Field(ge=2)]  # channels of which a layer takes half
Kernel = Literal[1, 3, 5, 7]
Norm = Literal["batch", "instance"]
Upsample = Literal["deconv", "pixelshuffle", "nontrainable"]
NORM = "Normalisation; after `instance` the average of a map says little, so that it suits segmentation alone."
WEIGHTS = "A safetensors file with weights of the backbone."
DROPOUT = "Share of features dropped before the head while training."
INPUT_3X3 = "Begin with three convolutions of 3 x 3 instead of one of 7 x 7."
DOWNSAMPLE = "Kernel size of the shortcuts that halve the sides."


class Architecture(Section):
    """A backbone with a linear head; keys common to all families."""

    maps: ClassVar[bool] = False  # whether the features are a map of the image's size, which segmentation needs

    source: Annotated[Literal["monai"], Words(SOURCES)] = Field("monai", description="Where the backbone comes from.")
    pretrained: Annotated[bool, AfterValidator(refuse_pretrained)] = Field(
        False, description="Only timm has weights to download; here they come from a file, `weights`."
    )
    weights: str | None = Field(None, description=WEIGHTS)
    dropout: Probability = Field(0.0, description=DROPOUT)

    @property
    def step(self) -> int:
        """What height and width of images must be multiples of."""
        return 1


class ResNet(Architecture):
    """Residual network (He et al. 2016, doi:10.1109/CVPR.2016.90)."""

    name: Literal[RESIDUAL] = Field("resnet18", description="Architecture.")  # type: ignore[valid-type]
    block_inplanes: list[Count] = Field(
        [64, 128, 256, 512], min_length=4, max_length=4, description="Channels of the four stages."
    )
    conv1_t_size: Count = Field(7, description="Kernel size of the first convolution.")
    conv1_t_stride: Count = Field(2, description="Stride of the first convolution.")
    no_max_pool: bool = Field(False, description="Leave out the pooling after the first convolution.")
    bias_downsample: bool = Field(True, description="Give the convolutions of shortcuts a bias; torchvision has none.")


class SqueezeExcitation(Architecture):
    """A residual network with squeeze and excitation; keys common to all of them."""

    reduction: Annotated[int, Field(ge=1, le=256)] = Field(16, description="Reduction of channels in the squeeze.")
    inplanes: Count = Field(64, description="Channels before the first stage.")
    input_3x3: bool = Field(False, description=INPUT_3X3)
    downsample_kernel_size: Literal[1, 3] = Field(1, description=DOWNSAMPLE)


class SEResNet(SqueezeExcitation):
    """Residual network with squeeze and excitation (Hu et al. 2018, doi:10.1109/CVPR.2018.00745)."""

    name: Literal["seresnet50", "seresnet101", "seresnet152"] = Field(description="Architecture.")


class SEResNeXt(SqueezeExcitation):
    """Residual network of grouped convolutions with squeeze and excitation (Hu et al. 2018, arXiv:1709.01507)."""

    name: Literal["seresnext50", "seresnext101"] = Field(description="Architecture.")
    groups: Count = Field(32, description="Groups of the convolutions of 3 x 3, of four channels each at first.")


class SENet(SqueezeExcitation):
    """Deep network of grouped convolutions with squeeze and excitation (Hu et al. 2018, arXiv:1709.01507)."""

    name: Literal["senet154"] = Field(description="Architecture.")
    inplanes: Count = Field(128, description="Channels before the first stage.")
    input_3x3: bool = Field(True, description=INPUT_3X3)
    downsample_kernel_size: Literal[1, 3] = Field(3, description=DOWNSAMPLE)


class DenseNet(Architecture):
    """Densely connected network (Huang et al. 2017, doi:10.1109/CVPR.2017.243)."""

    name: Literal["densenet121", "densenet169", "densenet201", "densenet264"] = Field(description="Architecture.")
    init_features: Count = Field(64, description="Channels of the first convolution.")
    growth_rate: Count = Field(32, description="Channels that each layer adds.")
    bn_size: Count = Field(4, description="Channels of a layer's bottleneck, in growth rates.")


class EfficientNet(Architecture):
    """Compound-scaled network (Tan and Le 2019, arXiv:1905.11946)."""

    name: Literal[COMPOUND] = Field(description="Architecture.")  # type: ignore[valid-type]


class ViT(Architecture):
    """Vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929); works on images of the size it was made for."""

    name: Literal["vit"] = Field(description="Architecture.")
    patch_size: Count = Field(16, description="Side of a patch; sides of images are multiples of it.")
    hidden_size: Count = Field(768, description="Channels of a token.")
    mlp_dim: Count = Field(3072, description="Channels within the perceptron of a layer.")
    num_layers: Count = Field(12, description="Layers.")
    num_heads: Count = Field(12, description="Attention heads; they share the channels of a token.")
    qkv_bias: bool = Field(False, description="Give queries, keys and values a bias.")

    @property
    def step(self) -> int:
        return self.patch_size

    @model_validator(mode="after")
    def _check_channels(self) -> ViT:
        if self.hidden_size % self.num_heads:
            raise ConfigError("num_heads", self.num_heads, f"a divisor of hidden_size, {self.hidden_size}")
        return self


class Segmenter(Architecture):
    """An encoder-decoder with a map of features; keys common to all of them."""

    maps: ClassVar[bool] = True


class Levels(Segmenter):
    """An encoder-decoder whose levels halve the sides."""

    channels: list[Pair] = Field(
        [16, 32, 64, 128], min_length=2, max_length=8, description="Channels from the finest level to the coarsest."
    )
    kernel_size: Kernel = Field(3, description="Kernel size of the convolutions.")
    up_kernel_size: Literal[3, 5, 7] = Field(3, description="Kernel size of the transposed convolutions.")

    @property
    def step(self) -> int:
        return int(2 ** (len(self.channels) - 1))


class UNet(Levels):
    """Residual U-Net for segmentation (Ronneberger et al. 2015, arXiv:1505.04597; Kerfoot et al. 2019)."""

    name: Literal["unet"] = Field(description="Architecture.")
    num_res_units: Annotated[int, Field(ge=0)] = Field(2, description="Convolutions in the residual unit of a level.")
    act: Literal["prelu", "relu", "leakyrelu", "elu", "gelu", "swish", "mish"] = Field(
        "prelu", description="Activation."
    )
    norm: Norm = Field("batch", description=NORM)


class AttentionUNet(Levels):
    """U-Net with attention gates for segmentation (Oktay et al. 2018, arXiv:1804.03999)."""

    name: Literal["attentionunet"] = Field(description="Architecture.")


class FiveLevels(Segmenter):
    """A U-Net of five levels; keys common to all of them."""

    features: list[Pair] = Field(
        [32, 32, 64, 128, 256, 32],
        min_length=6,
        max_length=6,
        description="Channels from the finest level to the coarsest, and of the map at the end.",
    )
    norm: Norm = Field("batch", description=NORM)
    upsample: Upsample = Field("deconv", description="How the sides are doubled.")

    @property
    def step(self) -> int:
        return 16


class BasicUNet(FiveLevels):
    """U-Net of five levels for segmentation (Falk et al. 2019, doi:10.1038/s41592-018-0261-2)."""

    name: Literal["basicunet"] = Field(description="Architecture.")


class BasicUNetPlusPlus(FiveLevels):
    """U-Net++ for segmentation: nested, densely connected levels (Zhou et al. 2018, arXiv:1807.10165)."""

    name: Literal["basicunetplusplus"] = Field(description="Architecture.")


class SegResNet(Segmenter):
    """Residual encoder-decoder for segmentation (Myronenko 2018, arXiv:1810.11654)."""

    name: Literal["segresnet"] = Field(description="Architecture.")
    init_filters: Annotated[int, Field(ge=8, multiple_of=8)] = Field(16, description="Channels of the finest level.")
    blocks_down: list[Count] = Field(
        [1, 2, 2, 4], min_length=2, max_length=6, description="Residual blocks of each level on the way down."
    )
    blocks_up: list[Count] = Field(
        [1, 1, 1], min_length=1, max_length=5, description="Residual blocks of each level on the way up."
    )
    upsample_mode: Upsample = Field("nontrainable", description="How the sides are doubled.")

    @property
    def step(self) -> int:
        return int(2 ** len(self.blocks_up))

    @model_validator(mode="after")
    def _check_levels(self) -> SegResNet:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            expected = f"{len(self.blocks_down) - 1} numbers, one less than in blocks_down"
            raise ConfigError("blocks_up", self.blocks_up, expected)
        return self


class FlexibleUNet(Segmenter):
    """U-Net for segmentation with a ResNet or an EfficientNet as its encoder (MONAI's FlexibleUNet)."""

    name: Literal["flexibleunet"] = Field(description="Architecture.")
    backbone: Literal[(*COMPOUND, *RESIDUAL)] = Field(  # type: ignore[valid-type]
        "efficientnet-b0", description="The encoder."
    )
    decoder_channels: list[Pair] = Field(
        [256, 128, 64, 32, 16],
        min_length=5,
        max_length=5,
        description="Channels of the decoder from the coarsest level to the finest.",
    )
    upsample: Upsample = Field("nontrainable", description="How the sides are doubled.")
    interp_mode: Literal["nearest", "bilinear"] = Field("nearest", description="Interpolation where none is trained.")

    @property
    def step(self) -> int:
        return 32


class DynUNet(Segmenter):
    """U-Net for segmentation in the manner of nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z)."""

    name: Literal["dynunet"] = Field(description="Architecture.")
    filters: list[Count] = Field(
        [32, 64, 128, 256, 512],
        min_length=3,
        max_length=8,
        description="Channels from the finest level to the coarsest.",
    )
    kernel_size: Kernel = Field(3, description="Kernel size of the convolutions.")
    norm: Norm = Field("batch", description=NORM)
    res_block: bool = Field(False, description="Give the blocks on the way down shortcuts.")
    trans_bias: bool = Field(False, description="Give the transposed convolutions a bias.")

    @property
    def step(self) -> int:
        return int(2 ** (len(self.filters) - 1))


class Timm(Section):
    """A network of timm, by its name there (extra `timm`)."""

    model_config = ConfigDict(title="source: timm")

    source: Literal["timm"] = Field(description="Where the backbone comes from.")
    name: str = Field("resnet18", description="Architecture.")
    pretrained: bool = Field(False, description="Download the weights that timm has for it (safetensors only).")
    weights: str | None = Field(None, description=WEIGHTS)
    dropout: Probability = Field(0.0, description=DROPOUT)
    arguments: Annotated[Arguments, AfterValidator(check_decided)] = Field(
        {}, description="More keyword arguments of `timm.create_model`."
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Timm:
        if self.pretrained and self.weights is not None:
            raise ConfigError("weights", self.weights, "null with pretrained: true", "Set one of them.")
        return self


class OwnNetwork(Section):
    """A network of your own: ``function(channels, **arguments)`` returns a module from images to features."""

    model_config = ConfigDict(title="source: module:function")

    source: Function = Field(description="The function, as `module:function`.")
    weights: str | None = Field(None, description=WEIGHTS)
    dropout: Probability = Field(0.0, description=DROPOUT)
    arguments: Arguments = Field({}, description="Keyword arguments of the function.")

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.source


def source_of(value: Any) -> str:
    """Tell where the backbone comes from that a section asks for."""
    source = value.get("source") if isinstance(value, Mapping) else getattr(value, "source", None)
    if isinstance(source, str) and ":" in source:
        return OWN
    return "timm" if source == "timm" else BUILT_IN


BuiltIn = Annotated[
    ResNet | SEResNet | SEResNeXt | SENet | DenseNet | EfficientNet | ViT
    | UNet | AttentionUNet | BasicUNet | BasicUNetPlusPlus | SegResNet | FlexibleUNet | DynUNet,
    Field(discriminator="name"),
]  # fmt: skip
Arch = Annotated[
    Annotated[BuiltIn, Tag(BUILT_IN)] | Annotated[Timm, Tag("timm")] | Annotated[OwnNetwork, Tag(OWN)],
    Discriminator(source_of),
]
FAMILIES: tuple[type[Architecture], ...] = tuple(nested_sections(BuiltIn))  # type: ignore[arg-type]
SEGMENTERS = tuple(name for family in FAMILIES if family.maps for name in tag_words(family))


def side_step(arch: Arch) -> int:
    """Return the number that height and width of images must be multiples of."""
    return arch.step if isinstance(arch, Architecture) else 1


def smallest_side(arch: Arch) -> int:
    """Return the side of the smallest images that a network takes, as far as it is known beforehand."""
    return SMALLEST.get(arch.name, side_step(arch)) if isinstance(arch, Architecture) else 1


def check_available(arch: Arch) -> None:
    """Raise `ConfigError` if a network needs packages that are not installed, or not of one build."""
    if not isinstance(arch, Timm):
        return
    if not all(map(importlib.util.find_spec, ("timm", "torchvision"))):
        remedy = "Install the extra: pip install 'foldwise[timm]'."
        raise ConfigError("arch.source", arch.source, SOURCES.replace("timm, ", ""), remedy)
    check_builds()


def check_builds() -> None:
    """Raise `ConfigError` if torch is a build for CPUs and torchvision is not, which breaks every import of it."""
    from importlib.metadata import version

    torch, vision = version("torch"), version("torchvision")
    if torch.endswith("+cpu") and not vision.endswith("+cpu"):
        remedy = "Install both from the same index; docs/architectures.md shows how."
        raise ConfigError("torchvision", Words(f"version {vision} beside torch {torch}"), "a build for CPUs", remedy)


def check_maps(arch: Arch, kind: str, where: str = "arch") -> None:
    """Raise `ConfigError` if a network has no map of features and the task type needs one.

    That of a function of the user's own is known only once it is built.
    """
    if kind != "segmentation" or isinstance(arch, OwnNetwork) or getattr(arch, "maps", False):
        return
    expected = f"{one_of(SEGMENTERS)} for task type {kind}"
    if isinstance(arch, Timm):
        raise ConfigError(f"{where}.source", arch.source, f"monai, with {expected}")
    raise ConfigError(f"{where}.name", arch.name, expected)
