"""Low-rank adaptation: a frozen backbone learns by small factors beside its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import nn

from foldwise.errors import ConfigError, Words, one_of

NAMES_SHOWN = 8
WINDOWS = ("kernel_size", "stride", "padding", "dilation", "padding_mode")


class Adapted(nn.Module):
    """A frozen layer with a learned update of low rank (Hu et al. 2022, arXiv:2106.09685).

    Parameters
    ----------
    base : Linear or Conv2d
        The layer.
    down : Module
        From the layer's inputs to `r` numbers.
    up : Module
        From these to the layer's outputs. It starts at zero, so that nothing changes before training.
    scale : float
        Factor of the update.
    dropout : float
        Share of the inputs of `down` that is dropped while training.
    """

    def __init__(self, base: nn.Module, down: nn.Module, up: nn.Module, scale: float, dropout: float) -> None:
        super().__init__()
        self.base = base
        self.down = down
        self.up = up
        self.dropout = nn.Dropout(dropout)
        self.scale = scale

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the layer plus those of the update."""
        return torch.add(self.base(inputs), self.up(self.down(self.dropout(inputs))), alpha=self.scale)

    @property
    def weight(self) -> torch.Tensor:
        """The weight with the update merged in; some networks take it from their layers instead of calling them."""
        down, up = self.get_parameter("down.weight"), self.get_parameter("up.weight")
        update = (up.flatten(1) @ down.flatten(1)).view(len(up), *down.shape[1:])
        return torch.add(self.get_parameter("base.weight"), update, alpha=self.scale)

    @property
    def bias(self) -> Any:
        """The bias of the layer, if it has one."""
        return self.base.bias


def add_lora(backbone: nn.Module, r: int, alpha: float, dropout: float, layers: Sequence[str] | None = None) -> int:
    """Freeze a backbone and add factors of low rank to its linear layers and convolutions, which alone learn.

    Convolutions in groups, and layers that compute something of their own, are left as they are.

    Parameters
    ----------
    backbone : Module
        The network without heads, its weights loaded; changed in place.
    r : int
        Rank of the updates.
    alpha : float
        The updates are scaled by `alpha / r`.
    dropout : float
        Share of the inputs of the factors that is dropped while training.
    layers : sequence of str, optional
        Words, one of which must be part of a layer's name; all layers by default.

    Returns
    -------
    int
        Number of layers that were adapted.

    Raises
    ------
    ConfigError
        If there is no such layer; names some of those there are.
    """
    candidates = {name: layer for name, layer in backbone.named_modules() if name and is_adaptable(layer)}
    chosen = {
        layer: adapt(layer, r, alpha / r, dropout)
        for name, layer in candidates.items()
        if layers is None or any(word in name for word in layers)
    }
    if not chosen:
        raise no_layer(list(candidates), layers)
    backbone.requires_grad_(False)
    for parent in list(backbone.modules()):
        for name, layer in list(parent._modules.items()):
            if layer in chosen:
                setattr(parent, name, chosen[layer])
    return len(chosen)


def no_layer(candidates: list[str], layers: Sequence[str] | None) -> ConfigError:
    """Tell that there is no layer to adapt."""
    if not candidates:
        return ConfigError(
            "peft.lora", Words("a backbone that has none"), "linear layers or convolutions without groups"
        )
    names = one_of(candidates, NAMES_SHOWN)
    return ConfigError("peft.lora.layers", list(layers or ()), f"words in the names of layers: {names}")


def is_adaptable(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Return whether a layer computes what torch's linear layer or convolution without groups does."""
    if isinstance(layer, nn.Conv2d):
        own = (type(layer).forward, type(layer)._conv_forward)
        return layer.groups == 1 and own == (nn.Conv2d.forward, nn.Conv2d._conv_forward)
    return isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward


def adapt(layer: nn.Linear | nn.Conv2d, r: int, scale: float, dropout: float) -> Adapted:
    """Put factors of rank `r` beside a layer, on its device and in channels-last memory order."""
    down, up = build_factors(layer, r)
    nn.init.zeros_(up.weight)
    for factor in (down, up):
        factor.to(layer.weight).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Adapted(layer, down, up, scale, dropout)


def build_factors(layer: nn.Linear | nn.Conv2d, r: int) -> tuple[nn.Linear | nn.Conv2d, nn.Linear | nn.Conv2d]:
    """Build layers from a layer's inputs to `r` numbers, for a convolution in the same windows, and to its outputs."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, r, bias=False), nn.Linear(r, layer.out_features, bias=False)
    windows: dict[str, Any] = {name: getattr(layer, name) for name in WINDOWS}
    down = nn.Conv2d(layer.in_channels, r, bias=False, **windows)
    return down, nn.Conv2d(r, layer.out_channels, kernel_size=1, bias=False)


def merged_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of the weights of a network, updates of low rank merged in, under the names without adapters."""
    adapted = {
        name: layer for name, layer in network.named_modules(remove_duplicate=False) if isinstance(layer, Adapted)
    }
    weights = {}
    for name, tensor in network.state_dict().items():
        owner, _, part = name.rpartition(".")
        layer, _, role = owner.rpartition(".")
        if layer not in adapted:
            weights[name] = tensor.detach().clone()
        elif role == "base":
            weights[f"{layer}.{part}"] = getattr(adapted[layer], part).detach().clone()
    return weights
