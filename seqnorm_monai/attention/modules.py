"""Three kinds of attention with one interface: sequence normalisation, SimA, softmax.

Shapes: batch B, tokens N, hidden C, heads h, head_dim d = C / h. All modules here can be scripted, traced and exported.
"""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqnorm_monai.attention.functional import AttentionWeights, at_least_float32
from seqnorm_monai.attention.paths import (
    automatic_attention,
    covariance_attention,
    literal_attention,
    prefers_covariance,
    projected_attention,
    split_heads,
)

SEQUENCE_NORM_EPS = 1e-5  # torch's instance norm uses the same number
SIMA_EPS = 1e-12  # torch.nn.functional.normalize uses the same number
ATTENTION_PATHS = ("auto", "literal", "projected", "covariance")


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
    ``out_proj`` is a linear layer of (C, C) with a bias. A subclass says in ``attend`` how tokens meet.
    """

    def __init__(self, hidden_size: int, num_heads: int, *, qkv_bias: bool = True) -> None:
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

    def attend(self, x: Tensor, mask: Optional[Tensor]) -> Tensor:
        """Tokens (B, N, C) and the mask (B, N) to the layer's output: project, mix, project."""
        column: Optional[Tensor] = None
        if mask is not None:
            column = mask.unsqueeze(2)
            x = x.masked_fill(~column, 0.0)
        q, k, v = self.qkv(x).split(self.hidden_size, dim=2)
        y = self.out_proj(self.mix(q, k, v, column))
        if column is not None:
            y = y.masked_fill(~column, 0.0)
        return y

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
        return self.attend(x, mask)


class SequenceNormAttention(_Attention):
    """Softmax-free attention with sequence normalisation (Khader et al., arXiv 2406.01314).

    ::

        SN(z)_{n,c} = gamma_c (z_{n,c} - mean_n z_{.,c}) / sqrt(var_n z_{.,c} + eps) + beta_c   (biased variance)
        O_head = SN(Q)_head (SN(K)_head^T SN(V)_head) / N,   Y = concat(O) W_o^T + b_o

    Linear in N: the d x d product of keys and values comes first. Beside the parameters of every kind it has
    ``affine_weight`` (gamma) and ``affine_bias`` (beta), (3, C), rows for q, k, v; 1 and 0 at the start. A bias on
    q, k or v would cancel in the mean, so there is none. Statistics are taken in float32 at least. N counts real
    tokens. The details beyond the abstract (affine, biased variance, eps, N) are our reading of the paper;
    :func:`seqnorm_monai.attention.reference.sequence_norm_attention` is the same function, literally.

    The same function is computed by one of three paths (:mod:`seqnorm_monai.attention.paths`), equal up to rounding.

    Args:
        hidden_size: C.
        num_heads: h; divides C.
        eps: added to the variance.
        path: ``literal``, ``projected``, ``covariance``, or ``auto``: the cheapest that keeps the literal path's
            accuracy.

    Raises:
        ValueError: if ``num_heads`` does not divide ``hidden_size``, or for another path.
    """

    def __init__(self, hidden_size: int, num_heads: int, *, eps: float = SEQUENCE_NORM_EPS, path: str = "auto") -> None:
        super().__init__(hidden_size, num_heads, qkv_bias=False)
        if path not in ATTENTION_PATHS:
            raise ValueError(f"path must be one of {', '.join(ATTENTION_PATHS)}, got {path!r}")
        self.eps = eps
        self.path = path
        self.affine_weight = nn.Parameter(torch.ones(3, hidden_size))
        self.affine_bias = nn.Parameter(torch.zeros(3, hidden_size))

    @torch.jit.unused
    def takes_covariance_path(self, tokens: int) -> bool:
        """Whether this many tokens go through the covariance path in eager mode, if their statistics are trusted."""
        if self.path == "auto":
            return prefers_covariance(tokens, self.hidden_size, self.head_dim)
        return self.path == "covariance"

    def weights(self) -> AttentionWeights:
        """What the layer's functions take: parameters, heads and eps."""
        return AttentionWeights(
            self.qkv.weight,
            self.affine_weight,
            self.affine_bias,
            self.out_proj.weight,
            self.out_proj.bias,
            self.num_heads,
            self.eps,
        )

    def attend(self, x: Tensor, mask: Optional[Tensor]) -> Tensor:
        weights = self.weights()
        if self.path == "literal":
            return literal_attention(x, mask, weights)
        if self.path == "projected":
            return projected_attention(x, mask, weights)
        if self.path == "covariance":
            return covariance_attention(x, mask, weights)
        return automatic_attention(x, mask, weights)


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
        super().__init__(hidden_size, num_heads)
        self.eps = SIMA_EPS

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor]) -> Tensor:
        dtype = v.dtype
        if mask is not None:
            # padding was set to 0 before the projection, which leaves the bias there
            q, k, v = q.masked_fill(~mask, 0.0), k.masked_fill(~mask, 0.0), v.masked_fill(~mask, 0.0)
        q = F.normalize(at_least_float32(q), p=1.0, dim=1, eps=self.eps)
        k = F.normalize(at_least_float32(k), p=1.0, dim=1, eps=self.eps)
        q, k, v = (
            split_heads(q.to(dtype), self.num_heads),
            split_heads(k.to(dtype), self.num_heads),
            split_heads(v, self.num_heads),
        )
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

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor]) -> Tensor:
        q, k, v = split_heads(q, self.num_heads), split_heads(k, self.num_heads), split_heads(v, self.num_heads)
        keys: Optional[Tensor] = None
        if mask is not None:
            keys = mask.transpose(1, 2).unsqueeze(1)  # (B, 1, 1, N)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keys).transpose(1, 2).flatten(2)


ATTENTION_KINDS = {"seqnorm": SequenceNormAttention, "sima": SimAAttention, "softmax": SoftmaxAttention}


def create_attention(kind: str, hidden_size: int, num_heads: int, *, path: str = "auto") -> _Attention:
    """The attention module named ``kind``: ``seqnorm``, ``sima`` or ``softmax``; ``path`` is for ``seqnorm``.

    Raises:
        ValueError: for another name, or a path other than ``auto`` for a kind that has no paths.
    """
    if kind not in ATTENTION_KINDS:
        raise ValueError(f"attention must be one of {', '.join(ATTENTION_KINDS)}, got {kind!r}")
    if kind == "seqnorm":
        return SequenceNormAttention(hidden_size, num_heads, path=path)
    if path != "auto":
        raise ValueError(f"attention_path ({path!r}) is only for the attention 'seqnorm', got the attention {kind!r}")
    return ATTENTION_KINDS[kind](hidden_size, num_heads)
