"""Three kinds of attention with one interface, and the transformer block that holds any of them.

Shapes: batch B, tokens N, hidden C, heads h, head_dim d = C / h. All modules here can be scripted, traced and exported.
"""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from monai.networks.blocks import MLPBlock
from monai.networks.layers import DropPath
from torch import Tensor, nn

SEQUENCE_NORM_EPS = 1e-5  # torch's instance norm uses the same number
SIMA_EPS = 1e-12  # torch.nn.functional.normalize uses the same number
LAYER_NORM_EPS = 1e-6  # the ViT's number (Dosovitskiy et al., arXiv 2010.11929, reference code)


def _at_least_float32(x: Tensor) -> Tensor:
    """Statistics over thousands of tokens need float32, also under autocast; float64 stays float64."""
    return x if x.dtype == torch.float64 else x.float()


def _check_attention_input(x: Tensor, mask: Optional[Tensor], hidden_size: int) -> None:
    if x.dim() != 3 or x.shape[2] != hidden_size:
        raise ValueError(f"x must have the shape (batch, tokens, {hidden_size}), got {x.shape}")
    if mask is not None:
        if mask.dtype != torch.bool:
            raise ValueError(f"mask must be a bool tensor, True for a real token, got {mask.dtype}")
        if mask.shape != x.shape[:2]:
            raise ValueError(f"mask must have the shape (batch, tokens) = {x.shape[:2]}, got {mask.shape}")


class _Attention(nn.Module):
    """What all kinds share: the parameters' names and shapes, the heads, and what padding means.

    ``qkv.weight`` is (3C, C): rows of W_q, then W_k, then W_v, the heads one after the other in each;
    ``out_proj`` is a linear layer of (C, C) with a bias. A subclass says in ``mix`` how tokens meet.
    """

    def __init__(self, hidden_size: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        if hidden_size < 1 or num_heads < 1 or hidden_size % num_heads:
            raise ValueError(f"hidden_size ({hidden_size}) must be a positive multiple of num_heads ({num_heads})")
        self.hidden_size = hidden_size
        self.num_heads = num_heads
        self.head_dim = hidden_size // num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=qkv_bias)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor]) -> Tensor:
        """q, k, v of (B, N, C) and the mask of (B, N, 1) to the mixed tokens, (B, N, C)."""
        raise NotImplementedError

    def split_heads(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, h, N, d)."""
        return x.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2)

    def forward(self, x: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """Attend over the tokens of each image by itself.

        Args:
            x: tokens, (B, N, C).
            mask: (B, N) bool, True = a real token. Padding reaches no real token, whatever it holds (NaN too).

        Returns:
            (B, N, C); the rows of padding are 0.

        Raises:
            ValueError: for an ``x`` or a ``mask`` of another shape, or a mask that is not bool.
        """
        if not torch.jit.is_tracing():  # a trace keeps no checks, and warns about each
            _check_attention_input(x, mask, self.hidden_size)
        column: Optional[Tensor] = None
        if mask is not None:
            column = mask.unsqueeze(2)
            x = x.masked_fill(~column, 0.0)
        q, k, v = self.qkv(x).split(self.hidden_size, dim=2)
        y = self.out_proj(self.mix(q, k, v, column))
        if column is not None:
            y = y.masked_fill(~column, 0.0)
        return y


class SequenceNormAttention(_Attention):
    """Softmax-free attention with sequence normalisation (Khader et al., arXiv 2406.01314).

    ::

        SN(z)_{n,c} = gamma_c (z_{n,c} - mean_n z_{.,c}) / sqrt(var_n z_{.,c} + eps) + beta_c   (biased variance)
        O_head = SN(Q)_head (SN(K)_head^T SN(V)_head) / N,   Y = concat(O) W_o^T + b_o

    Linear in N: the d x d product of keys and values comes first. Beside the parameters of every kind it has
    ``affine_weight`` (gamma) and ``affine_bias`` (beta), (3, C), rows for q, k, v; 1 and 0 at the start. A bias on
    q, k or v would cancel in the mean, so there is none. Statistics are taken in float32 at least. N counts real
    tokens. The details beyond the abstract (affine, biased variance, eps, N) are our reading of the paper;
    :func:`seqnorm_monai.reference.sequence_norm_attention` is the same function, literally.

    Args:
        hidden_size: C.
        num_heads: h; divides C.
        eps: added to the variance.

    Raises:
        ValueError: if ``num_heads`` does not divide ``hidden_size``.
    """

    def __init__(self, hidden_size: int, num_heads: int, *, eps: float = SEQUENCE_NORM_EPS) -> None:
        super().__init__(hidden_size, num_heads, qkv_bias=False)
        self.eps = eps
        self.affine_weight = nn.Parameter(torch.ones(3, hidden_size))
        self.affine_bias = nn.Parameter(torch.zeros(3, hidden_size))

    def normalise(self, z: Tensor, row: int, mask: Optional[Tensor], count: Tensor) -> Tensor:
        """SN of z (B, N, C) with the affine of ``row`` (0, 1, 2 = q, k, v), in float32 at least."""
        z = _at_least_float32(z)
        # z is 0 at padding, so its plain sum is the sum over real tokens; its deviation from the mean is not
        centred = z - z.sum(dim=1, keepdim=True) / count
        if mask is not None:
            centred = centred.masked_fill(~mask, 0.0)
        variance = centred.square().sum(dim=1, keepdim=True) / count
        return self.affine_weight[row] * (centred * torch.rsqrt(variance + self.eps)) + self.affine_bias[row]

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor]) -> Tensor:
        dtype = q.dtype
        # summed from ones, not read from the shape: a trace or an export would freeze a Python number
        real = torch.ones_like(q[:1, :, :1], dtype=torch.bool) if mask is None else mask
        count = real.sum(dim=1, keepdim=True).clamp_min(1).to(_at_least_float32(q).dtype)
        # K^T V of a fully correlated channel is N, more than float16 holds from 65,504 tokens on: divide before
        # the product, and by the square root on each side, so that neither factor becomes too small for it
        root = count.rsqrt()
        q = self.normalise(q, 0, mask, count)
        k = self.normalise(k, 1, mask, count) * root
        v = self.normalise(v, 2, mask, count) * root
        if mask is not None:
            k = k.masked_fill(~mask, 0.0)  # beta would leak from padding
        q, k, v = self.split_heads(q.to(dtype)), self.split_heads(k.to(dtype)), self.split_heads(v.to(dtype))
        return (q @ (k.transpose(2, 3) @ v)).transpose(1, 2).flatten(2)


class SimAAttention(_Attention):
    """SimA (Koohpayegani and Pirsiavash, arXiv 2206.08898): q and k divided by their l1 norm over the tokens.

    ::

        O_head = Q^ (K^^T V),  Q^_{n,c} = Q_{n,c} / sum_m |Q_{m,c}|,  K^ likewise; V as it is, no scaling

    Args:
        hidden_size: C.
        num_heads: h; divides C.

    Raises:
        ValueError: if ``num_heads`` does not divide ``hidden_size``.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__(hidden_size, num_heads, qkv_bias=True)
        self.eps = SIMA_EPS

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor]) -> Tensor:
        dtype = v.dtype
        if mask is not None:
            # padding was set to 0 before the projection, which leaves the bias there
            q, k, v = q.masked_fill(~mask, 0.0), k.masked_fill(~mask, 0.0), v.masked_fill(~mask, 0.0)
        q = F.normalize(_at_least_float32(q), p=1.0, dim=1, eps=self.eps)
        k = F.normalize(_at_least_float32(k), p=1.0, dim=1, eps=self.eps)
        q, k, v = self.split_heads(q.to(dtype)), self.split_heads(k.to(dtype)), self.split_heads(v)
        return (q @ (k.transpose(2, 3) @ v)).transpose(1, 2).flatten(2)


class SoftmaxAttention(_Attention):
    """The ViT's attention, softmax(Q K^T / sqrt(d)) V, through torch's ``scaled_dot_product_attention``.

    Equal to ``torch.nn.MultiheadAttention`` with ``in_proj_weight = qkv.weight`` and ``in_proj_bias = qkv.bias``.

    Args:
        hidden_size: C.
        num_heads: h; divides C.

    Raises:
        ValueError: if ``num_heads`` does not divide ``hidden_size``.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__(hidden_size, num_heads, qkv_bias=True)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor]) -> Tensor:
        q, k, v = self.split_heads(q), self.split_heads(k), self.split_heads(v)
        keys: Optional[Tensor] = None
        if mask is not None:
            keys = mask.transpose(1, 2).unsqueeze(1)  # (B, 1, 1, N)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keys).transpose(1, 2).flatten(2)


ATTENTION_KINDS = {"seqnorm": SequenceNormAttention, "sima": SimAAttention, "softmax": SoftmaxAttention}


def create_attention(kind: str, hidden_size: int, num_heads: int) -> _Attention:
    """The attention module named ``kind``: ``seqnorm``, ``sima`` or ``softmax``.

    Raises:
        ValueError: for another name.
    """
    if kind not in ATTENTION_KINDS:
        raise ValueError(f"attention must be one of {', '.join(ATTENTION_KINDS)}, got {kind!r}")
    return ATTENTION_KINDS[kind](hidden_size, num_heads)


class TransformerBlock(nn.Module):
    """Pre-norm block of the ViT (arXiv 2010.11929, equations 2 and 3) with any kind of attention.

    ::

        x = x + drop(attention(norm1(x), mask));   x = x + drop(mlp(norm2(x)))

    Args:
        hidden_size: C.
        mlp_dim: width of the hidden layer of the MLP.
        num_heads: h; divides C.
        attention: ``seqnorm``, ``sima`` or ``softmax``.
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
        dropout_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.attention = create_attention(attention, hidden_size, num_heads)
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
