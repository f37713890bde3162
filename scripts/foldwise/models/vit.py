"""The vision transformer as MONAI has it, whose own attention needs a further package."""

from __future__ import annotations

import torch
from monai.networks.blocks.mlp import MLPBlock
from monai.networks.blocks.patchembedding import PatchEmbeddingBlock
from torch import nn

from foldwise.config.architectures import ViT

LAST = r"classification_head\.|blocks\.\d+\.(norm_cross_attn|cross_attn)\."  # what MONAI has besides


class Attention(nn.Module):
    """Self-attention of several heads.

    It is written as products of matrices, because PyTorch's fused attention is not deterministic on every device.

    Parameters
    ----------
    channels : int
        Channels of a token.
    heads : int
        Heads, which share the channels.
    qkv_bias : bool
        Whether queries, keys and values have a bias.
    """

    def __init__(self, channels: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return tokens of shape (b, tokens, channels), each a mixture of all."""
        batch, count, channels = tokens.shape
        parts = self.qkv(tokens).view(batch, count, 3, self.heads, channels // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        scale = (channels // self.heads) ** -0.5
        weights = (queries @ keys.transpose(-2, -1) * scale).softmax(dim=-1)
        return self.out_proj((weights @ values).transpose(1, 2).reshape(batch, count, channels))


class Block(nn.Module):
    """Attention and a perceptron, each behind a normalisation and beside a shortcut."""

    def __init__(self, channels: int, mlp_dim: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = Attention(channels, heads, qkv_bias)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLPBlock(channels, mlp_dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class VisionTransformer(nn.Module):
    """Vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) whose feature is its class token.

    Weights have the names that MONAI gives them.

    Parameters
    ----------
    channels : int
        Channels of the images.
    size : tuple of int
        Height and width of the images, multiples of `patch_size`.
    patch_size : int
        Side of a patch.
    hidden_size, mlp_dim : int
        Channels of a token, and within the perceptrons.
    layers, heads : int
        Layers, and attention heads of each.
    qkv_bias : bool
        Whether queries, keys and values have a bias.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        patch_size: int,
        hidden_size: int,
        mlp_dim: int,
        layers: int,
        heads: int,
        qkv_bias: bool,
    ) -> None:
        super().__init__()
        self.patch_embedding = PatchEmbeddingBlock(channels, size, patch_size, hidden_size, heads, spatial_dims=2)
        self.blocks = nn.ModuleList([Block(hidden_size, mlp_dim, heads, qkv_bias) for _ in range(layers)])
        self.norm = nn.LayerNorm(hidden_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden_size))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the class token, of shape (b, hidden_size)."""
        patches = self.patch_embedding(images)
        tokens = torch.cat((self.cls_token.expand(len(patches), -1, -1), patches), dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 0]


def build_vit(arch: ViT, channels: int, size: tuple[int, int]) -> VisionTransformer:
    """Build a vision transformer for images of `channels` and of `size`, height and width."""
    return VisionTransformer(
        channels=channels,
        size=size,
        patch_size=arch.patch_size,
        hidden_size=arch.hidden_size,
        mlp_dim=arch.mlp_dim,
        layers=arch.num_layers,
        heads=arch.num_heads,
        qkv_bias=arch.qkv_bias,
    )
