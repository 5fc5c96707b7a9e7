"""Sequence-norm attention computed three ways, with one signature and one result.

=========== =============================== ================================== =========================
path        multiply-adds for an image      kept for the backward pass         use
=========== =============================== ================================== =========================
literal     4 N C^2 + 2 N C d               X, Q, K, V, normalised copies      the formula as it reads
projected   4 N C^2 + 2 N C d               X, Q, K, V                         short sequences, graphs
covariance  2 N C^2 + 4 C^3 + 2 C^2 d       X                                  long sequences
=========== =============================== ================================== =========================

Shapes: batch B, tokens N, hidden C, heads h, head_dim d = C / h. The formula is that of Khader et al.,
arXiv 2406.01314, in our reading (:func:`seqnorm_monai.attention.reference.sequence_norm_attention`); the second and the
third form of it are ours. Every function takes x (B, N, C), a mask (B, N) of real tokens or None, and the layer's
weights, and returns (B, N, C), 0 at padding.
"""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from seqnorm_monai.attention.autograd import NormalisedMixing
from seqnorm_monai.attention.functional import (
    AttentionWeights,
    affine_map,
    apply_affine_map,
    at_least_float32,
    deviations,
    in_eager_mode,
    map_and_cancellation,
    token_count,
    token_mean,
    token_statistics,
)

# Up to this ratio of cancelling terms to variances (functional.map_and_cancellation) statistics of float32 lead to
# at most twice the literal form's error in the output and in every gradient; measured over weights that whiten the
# tokens, or equal their eigenvectors, at condition numbers from 1 to 1e8. Beyond, the error grows in proportion.
MAX_CANCELLATION = 4.0


def _columns(mask: Optional[Tensor]) -> Optional[Tensor]:
    return None if mask is None else mask.unsqueeze(2)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) to (B, h, N, d)."""
    return x.unflatten(2, (num_heads, -1)).transpose(1, 2)


def _normalise(z: Tensor, mask: Optional[Tensor], count: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """SN of z (B, N, C) in float32 at least; count (B, 1, 1)."""
    z = at_least_float32(z)
    # z is 0 at padding, so its plain sum is the sum over real tokens; its deviation from the mean is not
    centred = z - z.sum(dim=1, keepdim=True) / count
    if mask is not None:
        centred = centred.masked_fill(~mask, 0.0)
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return gamma * (centred * torch.rsqrt(variance + eps)) + beta


def literal_attention(x: Tensor, mask: Optional[Tensor], weights: AttentionWeights) -> Tensor:
    """Project, normalise, multiply: the formula in the order in which it is written."""
    column = _columns(mask)
    if column is not None:
        x = x.masked_fill(~column, 0.0)
    q, k, v = F.linear(x, weights.qkv_weight).chunk(3, dim=2)
    dtype, gamma, beta, eps = q.dtype, weights.affine_weight, weights.affine_bias, weights.eps
    count = token_count(x, mask).clamp_min(1).to(at_least_float32(q).dtype).unsqueeze(1).unsqueeze(2)
    # K^T V of a fully correlated channel is N, more than float16 holds from 65,504 tokens on: divide before
    # the product, and by the square root on each side, so that neither factor becomes too small for it
    root = count.rsqrt()
    q = _normalise(q, column, count, gamma[0], beta[0], eps)
    k = _normalise(k, column, count, gamma[1], beta[1], eps) * root
    v = _normalise(v, column, count, gamma[2], beta[2], eps) * root
    if column is not None:
        k = k.masked_fill(~column, 0.0)  # beta would leak from padding
    q, k, v = (
        split_heads(q.to(dtype), weights.num_heads),
        split_heads(k.to(dtype), weights.num_heads),
        split_heads(v.to(dtype), weights.num_heads),
    )
    y = F.linear((q @ (k.transpose(2, 3) @ v)).transpose(1, 2).flatten(2), weights.out_weight, weights.out_bias)
    return y if column is None else y.masked_fill(~column, 0.0)


def projected_attention(x: Tensor, mask: Optional[Tensor], weights: AttentionWeights) -> Tensor:
    """Project the centred tokens, and fold the normalisation of Q, K and V into the d x d matrices between them.

    ::

        Q, K, V = (X - m) W^T,   var = sum_n q_n^2 / N and so on,   D = diag(gamma / sqrt(var + eps))
        M_head  = D_k (K^T V / N) D_v + beta_k^T beta_v,   O_head = Q (D_q M_head) + beta_q M_head

    There is no bias, so centring X once centres Q, K and V.
    """
    gamma, beta, num_heads, eps = weights.affine_weight, weights.affine_bias, weights.num_heads, weights.eps
    wide, counts = at_least_float32(x), token_count(x, mask)
    qkv = F.linear(deviations(wide, mask, token_mean(wide, mask, counts)).to(x.dtype), weights.qkv_weight)
    dtype = qkv.dtype
    if not torch.jit.is_scripting():
        if in_eager_mode() and dtype == wide.dtype:
            # a MetaTensor would look for one image's meta data behind every slice of a batch
            o = NormalisedMixing.apply(qkv.as_subclass(Tensor), counts, gamma, beta, num_heads, eps)
            y = F.linear(o, weights.out_weight, weights.out_bias)
            return y if mask is None else y.masked_fill(~mask.unsqueeze(2), 0.0)
    count = counts.clamp_min(1).to(wide.dtype).unsqueeze(1)
    variance = at_least_float32(qkv).square().sum(dim=1) / count
    scale = (gamma.flatten() * torch.rsqrt(variance + eps)).unflatten(1, (3, num_heads, -1))
    # each factor takes the root of 1 / N: undivided, K^T V may be as large as N var
    root = count.rsqrt().unsqueeze(2)
    scale_q, scale_k, scale_v = scale[:, 0].unsqueeze(3), scale[:, 1] * root, scale[:, 2] * root
    q, k, v = [split_heads(z, num_heads) for z in qkv.chunk(3, dim=2)]
    if dtype == torch.float16 or dtype == torch.bfloat16:
        # K^T V before its scaling may leave the range of float16
        k, v = (k * scale_k.unsqueeze(2)).to(dtype), (v * scale_v.unsqueeze(2)).to(dtype)
        mixed = at_least_float32(k.transpose(2, 3) @ v)
    else:
        mixed = scale_k.unsqueeze(3) * (k.transpose(2, 3) @ v) * scale_v.unsqueeze(2)
    beta_q, beta_k, beta_v = beta.unflatten(1, (num_heads, 1, -1)).unbind(0)  # (h, 1, d)
    mixed = mixed + beta_k.transpose(1, 2) * beta_v
    o = q @ (scale_q * mixed).to(dtype) + (beta_q * mixed.transpose(2, 3)).sum(3).unsqueeze(2)
    y = F.linear(o.transpose(1, 2).flatten(2).to(dtype), weights.out_weight, weights.out_bias)
    return y if mask is None else y.masked_fill(~mask.unsqueeze(2), 0.0)


def prefers_covariance(tokens: int, hidden: int, head_dim: int, *, wide_statistics: bool = False) -> bool:
    """Whether the covariance path takes fewer multiply-adds than the projected one; those of float64 count twice.

    ::

        float32 statistics:    2 N C^2 + 4 C^3 + 2 C^2 d  <  4 N C^2 + 2 N C d
        float64 statistics:    3 N C^2 + 8 C^3 + 4 C^2 d  <  4 N C^2 + 2 N C d

    The first holds from N = 714 on for C = 384 and d = 64, where the two paths take the same time on a CPU.
    """
    kept, fixed = (1, 2) if wide_statistics else (2, 1)
    return tokens * (kept * hidden + 2 * head_dim) > fixed * hidden * (4 * hidden + 2 * head_dim)


def _covariance_attention_if_safe(
    x: Tensor,
    mask: Optional[Tensor],
    weights: AttentionWeights,
    dtype: torch.dtype,
) -> Optional[Tensor]:
    """The covariance path with statistics of ``dtype``, or None if float32 is too narrow for them.

    Looking at the numbers makes a GPU wait once, so this is for eager mode, and for sequences long enough.
    """
    with torch.autocast(x.device.type, enabled=False):
        statistics = token_statistics(x, mask, dtype)
        weight, bias, cancellation = map_and_cancellation(statistics, weights)
    if dtype != torch.float64 and not x.is_meta and bool((cancellation > MAX_CANCELLATION).any()):
        return None
    return apply_affine_map(x, mask, statistics.mean, weight, bias)


def covariance_attention(x: Tensor, mask: Optional[Tensor], weights: AttentionWeights) -> Tensor:
    """Token statistics first, the linear map that follows from them next, and one product with the tokens last.

    The literal form divides q by its deviation; this one divides by the root of w^T S w, where terms may cancel. An
    error u in S (about 4e-7 in float32) becomes one of r u in the output, r as in
    :func:`seqnorm_monai.attention.functional.map_and_cancellation`, while the literal form errs by about sqrt(r) u.
    Statistics of float32 are therefore kept only up to r = ``MAX_CANCELLATION``. Above, and in a graph, they are of
    float64, and the error is the literal form's again. Tokens of half precision are rounded once more than in the
    literal form, as deviations. It shows (by up to ten steps of the type) only where the tokens nearly lie on a line,
    as any two do.
    """
    if not torch.jit.is_scripting():
        if in_eager_mode():
            y = _covariance_attention_if_safe(x, mask, weights, at_least_float32(x[:0]).dtype)
            if y is not None:
                return y
    statistics = token_statistics(x, mask, torch.float64)
    weight, bias = affine_map(statistics, weights)
    return apply_affine_map(x, mask, statistics.mean, weight, bias)


def _worthwhile_statistics(x: Tensor, num_heads: int) -> list[torch.dtype]:
    """Types of statistics with which the covariance path is the cheaper one, in the order in which to try them."""
    sizes = (x.shape[1], x.shape[2], x.shape[2] // num_heads)
    types = [at_least_float32(x[:0]).dtype] if prefers_covariance(*sizes) else []
    # many GPUs compute float64 very slowly
    if types == [torch.float32] and x.device.type == "cpu" and prefers_covariance(*sizes, wide_statistics=True):
        types.append(torch.float64)
    return types


def automatic_attention(x: Tensor, mask: Optional[Tensor], weights: AttentionWeights) -> Tensor:
    """The covariance path where it is the cheaper one and its numbers can be trusted, the projected path elsewhere.

    A graph (script, trace, export, compiled) can look neither at the number of tokens nor at a variance without
    freezing what it saw, so it holds the projected path.
    """
    if not torch.jit.is_scripting():
        if in_eager_mode():
            for dtype in _worthwhile_statistics(x, weights.num_heads):
                y = _covariance_attention_if_safe(x, mask, weights, dtype)
                if y is not None:
                    return y
    return projected_attention(x, mask, weights)
