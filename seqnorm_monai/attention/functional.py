"""Sequence-norm attention as pure functions: what the tokens share, the map that follows from it, three paths.

Everything that couples the tokens of an image is their count, mean and covariance (:class:`TokenStatistics`).
From these and the weights follows one linear map for the image (:func:`affine_map`). Images with a mask, images
read in chunks and images split over processes differ in where the statistics come from, and in nothing else.

Shapes: batch B, tokens N, hidden C, heads h, head_dim d = C / h. That the layer can be computed from the token
covariance is our reading of the paper's formula, not a statement of the paper.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from seqnorm_monai.attention.autograd import CentredLinear, TokenMoments


class TokenStatistics(NamedTuple):
    """What the tokens of each image share.

    count: real tokens, (B,), integers. mean: (B, C). covariance: biased, (B, C, C). The latter two are of float32
    at least. Without any token all three are 0.
    """

    count: Tensor
    mean: Tensor
    covariance: Tensor


class AttentionWeights(NamedTuple):
    """What one sequence-norm layer is made of, beside its tokens.

    qkv_weight: (3C, C), rows of W_q, then W_k, then W_v; the heads lie one after the other. affine_weight: gamma,
    (3, C), for q, k, v. affine_bias: beta, (3, C), for q, k, v. out_weight: W_o, (C, C). out_bias: b_o, (C,).
    num_heads: h; divides C. eps: added to the variance.
    """

    qkv_weight: Tensor
    affine_weight: Tensor
    affine_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    num_heads: int
    eps: float


def at_least_float32(x: Tensor) -> Tensor:
    """Statistics over thousands of tokens need float32, also under autocast; float64 stays float64."""
    return x if x.dtype == torch.float64 else x.float()


def in_eager_mode() -> bool:
    """True where Python runs as written: not inside a script, a trace, an export or a compiled graph."""
    if torch.jit.is_scripting():
        return False
    return not (torch.jit.is_tracing() or torch.compiler.is_compiling())


def product_dtype(x: Tensor) -> torch.dtype:
    """The type of a matrix product of x here: x's own, or autocast's. A script can learn it in no other way."""
    corner = x[:1, :1, 0].detach()
    return torch.matmul(corner, corner.t()).dtype


def token_count(x: Tensor, mask: Optional[Tensor]) -> Tensor:
    """Real tokens of each image, (B,). Summed, not read from the shape, which a trace or an export would freeze."""
    real = torch.ones_like(x[:, :, 0], dtype=torch.bool) if mask is None else mask
    return real.sum(dim=1)


def deviations(x: Tensor, mask: Optional[Tensor], mean: Tensor) -> Tensor:
    """x - m, and 0 at padding."""
    centred = x - mean.unsqueeze(1)
    return centred if mask is None else centred.masked_fill(~mask.unsqueeze(2), 0.0)


def token_mean(x: Tensor, mask: Optional[Tensor], count: Tensor) -> Tensor:
    """Mean of the real tokens, (B, C); 0 if there is none."""
    real = x if mask is None else x.masked_fill(~mask.unsqueeze(2), 0.0)
    return real.sum(dim=1) / count.clamp_min(1).unsqueeze(1)


def token_statistics(x: Tensor, mask: Optional[Tensor] = None, dtype: Optional[torch.dtype] = None) -> TokenStatistics:
    """Count, mean and covariance of the tokens of each image.

    ::

        m = sum_n x_n / n,   S = sum_n (x_n - m)(x_n - m)^T / n

    In eager mode the backward pass keeps only x. A graph (script, trace, export, compiled) is made of plain
    operations, and of float64 if ``dtype`` is not given: nothing in a graph can keep autocast away from a matrix
    product of float32.

    Args:
        x: tokens, (B, N, C).
        mask: (B, N) bool, True = a real token; padding may hold anything.
        dtype: of mean and covariance; as wide as x and float32 at least if None.
    """
    count = token_count(x, mask)
    if not torch.jit.is_scripting():
        if in_eager_mode():
            mean, covariance = TokenMoments.apply(x, mask, count, dtype or at_least_float32(x[:0]).dtype)
            return TokenStatistics(count, mean, covariance)
    wide = x.to(torch.float64 if dtype is None else dtype)
    mean = token_mean(wide, mask, count)
    centred = deviations(wide, mask, mean)
    # each factor by the root: float32 tokens of 1e19 would overflow in the sum before it is divided
    centred = centred * count.clamp_min(1).to(wide.dtype).rsqrt().unsqueeze(1).unsqueeze(2)
    return TokenStatistics(count, mean, centred.transpose(1, 2) @ centred)


def merge_statistics(a: TokenStatistics, b: TokenStatistics) -> TokenStatistics:
    """Statistics of two sets of tokens taken together, from those of each.

    ::

        n = n_a + n_b,  D = m_b - m_a,  m = m_a + (n_b / n) D
        S = (n_a S_a + n_b S_b) / n + (n_a n_b / n^2) D D^T

    Source: Chan, Golub and LeVeque, *Updating Formulae and a Pairwise Algorithm for Computing Sample Variances*,
    Stanford report STAN-CS-79-773 (1979), here for covariances.
    """
    count = a.count + b.count
    dtype = a.mean.dtype
    total = count.clamp_min(1).to(dtype)
    ours, theirs = (a.count.to(dtype) / total).unsqueeze(1), (b.count.to(dtype) / total).unsqueeze(1)
    # an empty set has the mean 0 and no share, so it changes nothing on either side
    step = b.mean - a.mean
    between = (ours * theirs * step).unsqueeze(2) * step.unsqueeze(1)
    covariance = ours.unsqueeze(2) * a.covariance + theirs.unsqueeze(2) * b.covariance + between
    return TokenStatistics(count, a.mean + theirs * step, covariance)


def map_and_cancellation(statistics: TokenStatistics, weights: AttentionWeights) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`affine_map`, and how much larger than the variances the terms are that cancel in them.

    ::

        r_j = (sum_i w_ji^2 S_ii) / (w_j^T S w_j + eps),   r = root mean square over the 3C rows j, (B,)

    An error of u in S, relative to the variances of its row and column, is an error of about r_j u in the variance
    of q, k or v number j. For weights that are independent of S, r is about 1, however ill-conditioned S is. It is
    large if rows of W_q, W_k or W_v lie near the null space of S.
    """
    covariance = statistics.covariance
    dtype = covariance.dtype
    num_heads = weights.num_heads
    qkv = weights.qkv_weight.to(dtype)
    queries, keys, _ = qkv.chunk(3)
    projected = covariance @ qkv.t()  # S W^T, (B, C, 3C)
    # rounding can leave a null direction a little below 0
    variance = (qkv.t() * projected).sum(dim=1).clamp_min(0.0) + weights.eps
    scale = (weights.affine_weight.to(dtype).flatten() * variance.rsqrt()).unflatten(1, (3, num_heads, -1))
    beta_q, beta_k, beta_v = weights.affine_bias.to(dtype).unflatten(1, (num_heads, 1, -1)).unbind(0)  # (h, 1, d)
    keys = keys.unflatten(0, (num_heads, -1))  # (h, d, C)
    values = projected.chunk(3, dim=2)[2].unflatten(2, (num_heads, -1)).transpose(1, 2)  # (B, h, C, d)
    mixed = scale[:, 1].unsqueeze(3) * (keys @ values) * scale[:, 2].unsqueeze(2)
    mixed = mixed + beta_k.transpose(1, 2) * beta_v  # M of each head, (B, h, d, d)
    out = weights.out_weight.to(dtype).t().unflatten(0, (num_heads, -1))  # (h, d, C)
    weight = queries.t() @ ((scale[:, 0].unsqueeze(3) * mixed) @ out).flatten(1, 2)
    bias = (beta_q @ mixed @ out).sum(dim=1).squeeze(1) + weights.out_bias.to(dtype)
    terms = covariance.detach().diagonal(dim1=1, dim2=2) @ qkv.detach().square().t()
    return weight, bias, (terms / variance.detach()).square().mean(dim=1).sqrt()


def affine_map(statistics: TokenStatistics, weights: AttentionWeights) -> tuple[Tensor, Tensor]:
    """The linear map that sequence-norm attention is for an image with these statistics.

    ::

        var_j   = w_j^T S w_j                                  for every row w_j of W_q, W_k, W_v
        D       = diag(gamma / sqrt(var + eps))                D_q, D_k, D_v
        M_head  = D_k W_k S W_v^T D_v + beta_k^T beta_v        SN(K)^T SN(V) / N; the cross terms vanish
        A       = sum_head W_q^T D_q M_head W_o,head^T,   c = sum_head beta_q M_head W_o,head^T + b_o
        Y       = (X - m) A + c

    About 4 C^3 multiply-adds for each image, whatever N is. All in the type of the statistics. Autocast lowers
    products of float32: turn it off around the call, or give statistics of float64, which it leaves alone.

    Args:
        statistics: of the tokens, B images.
        weights: of the layer.

    Returns:
        A (B, C, C) and c (B, C).
    """
    weight, bias, _ = map_and_cancellation(statistics, weights)
    return weight, bias


def apply_affine_map(x: Tensor, mask: Optional[Tensor], mean: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Y = (X - m) A + c, (B, N, C), with A = ``weight`` and c = ``bias``; 0 at padding. Of x's type, or autocast's.

    Centring comes before the product: X A - m A would lose the digits of a large common offset.
    """
    dtype = product_dtype(x)
    if not torch.jit.is_scripting():
        if in_eager_mode():
            return CentredLinear.apply(x, mask, mean, weight, bias, dtype)
    x = at_least_float32(x)
    centred = deviations(x, mask, mean.to(x.dtype)).to(dtype)
    y = torch.baddbmm(bias.to(dtype).unsqueeze(1), centred, weight.to(dtype))
    return y if mask is None else y.masked_fill(~mask.unsqueeze(2), 0.0)
