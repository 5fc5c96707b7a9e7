"""Transformer block and patch embedding; the kinds of attention, from :mod:`seqnorm_monai.attention`, beside them.

Shapes: batch B, tokens N, hidden C. All modules here can be scripted, traced and exported.
"""

from __future__ import annotations

from typing import Optional

from monai.networks.blocks import MLPBlock
from monai.networks.layers import DropPath
from torch import Tensor, nn

from seqnorm_monai.attention import (
    ATTENTION_KINDS,
    ATTENTION_PATHS,
    SequenceNormAttention,
    SimAAttention,
    SoftmaxAttention,
    create_attention,
)

__all__ = [
    "ATTENTION_KINDS",
    "ATTENTION_PATHS",
    "LAYER_NORM_EPS",
    "PatchEmbedding",
    "SequenceNormAttention",
    "SimAAttention",
    "SoftmaxAttention",
    "TransformerBlock",
    "create_attention",
]

LAYER_NORM_EPS = 1e-6  # the ViT's number (Dosovitskiy et al., arXiv 2010.11929, reference code)


class TransformerBlock(nn.Module):
    """Pre-norm block of the ViT (arXiv 2010.11929, equations 2 and 3) with any kind of attention.

    ::

        x = x + drop(attention(norm1(x), mask));   x = x + drop(mlp(norm2(x)))

    Args:
        hidden_size: C.
        mlp_dim: width of the hidden layer of the MLP.
        num_heads: h; divides C.
        attention: ``seqnorm``, ``sima`` or ``softmax``.
        attention_path: how ``seqnorm`` is computed (:class:`SequenceNormAttention`); ``auto`` for the other kinds.
        dropout_rate: on the attention's output and inside the MLP; in training alone. There is no dropout on
            attention weights, because only softmax attention has any.
        drop_path_rate: chance that a residual branch is left out for an image (stochastic depth, arXiv 1603.09382).
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        mlp_dim: int,
        num_heads: int,
        attention: str,
        attention_path: str = "auto",
        dropout_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.attention = create_attention(attention, hidden_size, num_heads, path=attention_path)
        self.dropout = nn.Dropout(dropout_rate)
        self.norm2 = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.mlp = MLPBlock(hidden_size, mlp_dim, dropout_rate)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """Tokens (B, N, C), with an optional mask (B, N) of real tokens, to tokens of the same shape."""
        x = x + self.drop_path(self.dropout(self.attention(self.norm1(x), mask)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchEmbedding(nn.Module):
    """Cut an image or a volume into patches and project each to C numbers: one convolution with stride = kernel.

    (B, channels, \\*size) to (B, N, C), N = product of size / patch size, in row-major order of the grid.

    Args:
        in_channels: channels of the image.
        hidden_size: C.
        patch_size: pixels along each spatial axis; its length, 2 or 3, sets the number of axes.
    """

    def __init__(self, *, in_channels: int, hidden_size: int, patch_size: tuple[int, ...]) -> None:
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[len(patch_size)]
        self.projection = convolution(in_channels, hidden_size, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(x).flatten(2).transpose(1, 2)
