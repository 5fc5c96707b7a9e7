"""One layer of a sequence-norm network as it acts on any part of an image's tokens.

Everything that couples the tokens is in their count, mean and covariance (:mod:`seqnorm_monai.functional`). Given
these, a block is a function of one token at a time: it can be applied to chunks that are read one after the other
(:mod:`seqnorm_monai.streaming`) or that lie on different processes (:mod:`seqnorm_monai.parallel`).

Shapes: batch B, tokens N, hidden C.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqnorm_monai.attention import SequenceNormAttention
from seqnorm_monai.functional import (
    TokenStatistics,
    apply_affine_map,
    map_and_cancellation,
    merge_statistics,
    token_statistics,
)
from seqnorm_monai.layers import TransformerBlock
from seqnorm_monai.networks import SeqNormViT
from seqnorm_monai.paths import MAX_CANCELLATION


class LayerMap(NamedTuple):
    """What a sequence-norm attention layer is for one image: Y = (X - m) A + c.

    mean: m, (B, C). weight: A, (B, C, C). bias: c, (B, C). All in float64.
    """

    mean: Tensor
    weight: Tensor
    bias: Tensor


def check_network(network: nn.Module) -> None:
    """Refuse what cannot be computed by parts.

    Raises:
        TypeError: for another class than SeqNormViT.
        ValueError: for another attention, for dropout in training mode (a mask on each token could not be drawn
            again in the backward pass), and for weights of less than float32.
    """
    if not isinstance(network, SeqNormViT):
        raise TypeError(f"network must be a SeqNormViT, got {type(network).__name__}")
    for block in network.blocks:
        if not isinstance(block.attention, SequenceNormAttention):
            raise ValueError(f"network must have the attention 'seqnorm', got {type(block.attention).__name__}")
    for name, module in network.named_modules():
        if isinstance(module, nn.Dropout) and module.training and module.p > 0:
            raise ValueError(f"dropout_rate must be 0 in training mode, but {name} drops {module.p}; or call eval()")
    if network.cls_token.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the network's weights must be float32 or float64, got {network.cls_token.dtype}")


def branch_scales(network: SeqNormViT, batch: int) -> list[tuple[Tensor, Tensor]]:
    """What each block multiplies its two residual branches by: 1, or the coin of drop path, each (B, 1, 1).

    Drawn from the blocks' own modules in the order of their forward pass, so that the same seed tosses the same coins.
    """
    ones = network.cls_token.new_ones(batch, 1, 1)
    return [(block.drop_path(ones), block.drop_path(ones)) for block in network.blocks]


def chunk_statistics(tokens: Tensor, *, wide: bool = False) -> TokenStatistics:
    """Statistics of some tokens (B, n, C), handed out in float64.

    The products are of float32, with sums in float64, for float32 tokens; of float64 if ``wide``.
    """
    with torch.autocast(tokens.device.type, enabled=False):
        count, mean, covariance = token_statistics(tokens, None, torch.float64 if wide else None)
    return TokenStatistics(count, mean.double(), covariance.double())


class StatisticsSum:
    """Statistics of tokens that come in chunks, merged in float64; the order of the chunks does not matter."""

    def __init__(self) -> None:
        self.total: TokenStatistics | None = None

    def add(self, tokens: Tensor, *, wide: bool = False) -> None:
        part = chunk_statistics(tokens, wide=wide)
        self.total = part if self.total is None else merge_statistics(self.total, part)


def layer_map(attention: SequenceNormAttention, statistics: TokenStatistics) -> tuple[LayerMap, bool]:
    """The map of a layer, and whether statistics that were multiplied in float32 are good enough for it.

    Where terms of a variance cancel (:func:`seqnorm_monai.functional.map_and_cancellation`) they are not, and the
    statistics have to be taken again in float64. A small computation, whatever N is; differentiable.
    """
    with torch.autocast(statistics.mean.device.type, enabled=False):
        weight, bias, cancellation = map_and_cancellation(
            statistics,
            attention.qkv.weight,
            attention.affine_weight,
            attention.affine_bias,
            attention.out_proj.weight,
            attention.out_proj.bias,
            attention.num_heads,
            attention.eps,
        )
    return LayerMap(statistics.mean, weight, bias), not bool((cancellation > MAX_CANCELLATION).any())


def apply_block(block: TransformerBlock, x: Tensor, mapped: LayerMap, scales: tuple[Tensor, Tensor]) -> Tensor:
    """:class:`~seqnorm_monai.layers.TransformerBlock` for some of an image's tokens, (B, n, C) to (B, n, C)."""
    attended = apply_affine_map(block.norm1(x), None, mapped.mean, mapped.weight, mapped.bias)
    x = x + scales[0] * attended
    return x + scales[1] * block.mlp(block.norm2(x))
