"""A sequence-norm layer as the linear map that its tokens' statistics make it, from tokens that come in chunks.

Shapes: batch B, tokens N, hidden C.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from seqnorm_monai.attention.functional import (
    TokenStatistics,
    apply_affine_map,
    map_and_cancellation,
    merge_statistics,
    token_statistics,
)
from seqnorm_monai.attention.modules import SequenceNormAttention
from seqnorm_monai.attention.paths import MAX_CANCELLATION


class LayerMap(NamedTuple):
    """What a sequence-norm attention layer is for one image: Y = (X - m) A + c.

    mean: m, (B, C). weight: A, (B, C, C). bias: c, (B, C).
    """

    mean: Tensor
    weight: Tensor
    bias: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Y for any of the image's tokens, (B, n, C)."""
        return apply_affine_map(x, None, self.mean, self.weight, self.bias)

    def to(self, dtype: torch.dtype) -> LayerMap:
        """The same in another type: once, where it is applied to many chunks."""
        return LayerMap(self.mean.to(dtype), self.weight.to(dtype), self.bias.to(dtype))


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


def merged_statistics(chunks: Iterable[Tensor], dtype: torch.dtype) -> TokenStatistics:
    """Statistics of all chunks (B, n, C), of which there is at least one; products and result of ``dtype``."""
    collected = StatisticsSum()
    for chunk in chunks:
        collected.add(chunk, wide=dtype == torch.float64)
    assert collected.total is not None
    count, mean, covariance = collected.total
    return TokenStatistics(count, mean.to(dtype), covariance.to(dtype))


def layer_map(attention: SequenceNormAttention, statistics: TokenStatistics) -> tuple[LayerMap, bool]:
    """The map of a layer, of the statistics' type, and whether statistics multiplied in float32 are good enough for it.

    Where terms of a variance cancel (:func:`seqnorm_monai.attention.functional.map_and_cancellation`) they are not, and
    the statistics have to be taken again in float64. A small computation, whatever N is; differentiable.
    """
    with torch.autocast(statistics.mean.device.type, enabled=False):
        weight, bias, cancellation = map_and_cancellation(statistics, attention.weights())
    return LayerMap(statistics.mean, weight, bias), not bool((cancellation > MAX_CANCELLATION).any())
