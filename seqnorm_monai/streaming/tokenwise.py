"""One layer of a sequence-norm network as it acts on any part of an image's tokens.

Everything that couples the tokens is in their count, mean and covariance (:mod:`seqnorm_monai.attention.functional`).
Given these, a block is a function of one token at a time: it can be applied to chunks that are read one after the other
(:mod:`seqnorm_monai.streaming.forward`) or that lie on different processes (:mod:`seqnorm_monai.streaming.parallel`).

Shapes: batch B, tokens N, hidden C.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqnorm_monai.attention.layer_map import LayerMap
from seqnorm_monai.attention.modules import SequenceNormAttention
from seqnorm_monai.networks.layers import TransformerBlock
from seqnorm_monai.networks.vit import SeqNormViT


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


def apply_block(block: TransformerBlock, x: Tensor, mapped: LayerMap, scales: tuple[Tensor, Tensor]) -> Tensor:
    """A :class:`~seqnorm_monai.networks.layers.TransformerBlock` for some of an image's tokens, both (B, n, C)."""
    x = x + scales[0] * mapped.apply(block.norm1(x))
    return x + scales[1] * block.mlp(block.norm2(x))
