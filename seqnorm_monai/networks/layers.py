"""Transformer block and patch embedding.

Shapes: batch B, tokens N, hidden C. All modules here can be scripted, traced and exported.
"""

from __future__ import annotations

from typing import Optional

import torch
from monai.networks.layers import DropPath
from torch import Tensor, nn

from seqnorm_monai.attention.functional import in_eager_mode
from seqnorm_monai.attention.layer_map import layer_map, merged_statistics
from seqnorm_monai.attention.modules import SequenceNormAttention, create_attention
from seqnorm_monai.networks.mlp import MLP, chunk_rows

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
        dropout_rate: on the attention's output and inside the MLP, only in training. There is no dropout on
            attention weights, because only softmax attention has any.
        drop_path_rate: chance that a residual branch is left out for an image (stochastic depth, arXiv 1603.09382).
        recompute_gelu: keep less for the backward pass (:class:`seqnorm_monai.networks.mlp.MLP`).
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
        recompute_gelu: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.attention = create_attention(attention, hidden_size, num_heads, path=attention_path)
        self.dropout = nn.Dropout(dropout_rate)
        self.norm2 = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.mlp = MLP(hidden_size, mlp_dim, dropout_rate, recompute_gelu=recompute_gelu)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """Tokens (B, N, C), with an optional mask (B, N) of real tokens, to tokens of the same shape."""
        if not torch.jit.is_scripting():
            if mask is None and self._can_go_in_chunks(x):
                return self._forward_in_chunks(x, x.shape[1])
        x = x + self.drop_path(self.dropout(self.attention(self.norm1(x), mask)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def read_out(self, x: Tensor) -> Tensor:
        """The first token of what ``forward`` gives, (B, N, C) to (B, 1, C): only this one goes through the MLP."""
        if not torch.jit.is_scripting():
            if self._can_go_in_chunks(x):
                return self._forward_in_chunks(x, 1)
        first = x[:, :1] + self.drop_path(self.dropout(self.attention(self.norm1(x))[:, :1]))
        return first + self.drop_path(self.mlp(self.norm2(first)))

    def _can_go_in_chunks(self, x: Tensor) -> bool:
        """Yes on a CPU, in eager mode, at inference, with the covariance path, and if no hook would notice."""
        if torch.is_grad_enabled() or self.training or x.device.type != "cpu" or not in_eager_mode():
            return False
        attention = self.attention
        if not isinstance(attention, SequenceNormAttention) or not attention.takes_covariance_path(x.shape[1]):
            return False
        if not isinstance(self.mlp, MLP) or x.dtype not in (torch.float32, torch.float64):
            return False
        if torch.is_autocast_enabled("cpu"):
            return False
        return not any(module._forward_hooks or module._forward_pre_hooks for module in self.modules())

    def _forward_in_chunks(self, x: Tensor, wanted: int) -> Tensor:
        """The block's first ``wanted`` tokens, image by image; no array but the result is larger than a chunk."""
        y = torch.empty_like(x[:, :wanted])
        # a MetaTensor would copy its meta data with every slice
        for image, out in zip(x.as_subclass(Tensor).split(1), y.as_subclass(Tensor).split(1)):
            self._image_in_chunks(image, out)
        return y

    def _image_in_chunks(self, x: Tensor, y: Tensor) -> None:
        """Two passes over the tokens of an image (1, N, C), statistics and application; fills y (1, wanted, C).

        Only the statistics couple the tokens of different chunks, so all arrays of a chunk stay in the processor's
        cache. :mod:`seqnorm_monai.streaming.forward` does the same for tokens that do not fit into memory.
        """
        rows = chunk_rows(self.mlp.linear1.out_features)
        for dtype in dict.fromkeys((x.dtype, torch.float64)):
            statistics = merged_statistics((self.norm1(chunk) for chunk in x.split(rows, dim=1)), dtype=dtype)
            mapped, trusted = layer_map(self.attention, statistics)
            if trusted:
                break
        mapped = mapped.to(x.dtype)
        wanted = x[:, : y.shape[1]]
        for chunk, out in zip(wanted.split(rows, dim=1), y.split(rows, dim=1)):
            torch.add(chunk, mapped.apply(self.norm1(chunk)), out=out)
            out += self.mlp(self.norm2(out))


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
