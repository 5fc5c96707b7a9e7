"""The equations, written as literally and as slowly as they read: the judge of every faster form.

Only tests import it. Nothing here shares code with :mod:`seqnorm_monai.networks.layers`.
Dimensions: B batch, N tokens, C hidden, h heads, d = C / h.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sequence_norm_attention(
    x: Tensor,
    *,
    qkv_weight: Tensor,
    affine_weight: Tensor,
    affine_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    num_heads: int,
    mask: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Softmax-free attention with sequence normalisation, image by image and head by head.

    ::

        Q = X W_q^T,  K = X W_k^T,  V = X W_v^T
        SN(z)_{n,c} = gamma_c (z_{n,c} - mean_n z_{.,c}) / sqrt(var_n z_{.,c} + eps) + beta_c   (biased variance)
        O_head = SN(Q)_head (SN(K)_head^T SN(V)_head) / N
        Y = concat(O) W_o^T + b_o

    That queries, keys and values are normalised over the sequence, that an affine transform and a 1/N scaling
    follow and that softmax is gone is stated in Khader et al., arXiv 2406.01314; the placing of the affine, the
    biased variance, eps and N = the number of real tokens are our reading.

    Args:
        x: tokens, (B, N, C).
        qkv_weight: (3C, C), rows of W_q, then W_k, then W_v; the heads lie one after the other.
        affine_weight: gamma, (3, C): for q, k, v.
        affine_bias: beta, (3, C): for q, k, v.
        out_weight: W_o, (C, C).
        out_bias: b_o, (C,).
        num_heads: h; divides C.
        mask: (B, N) bool, True = a real token. Statistics, N and the sum over keys use real tokens only.
        eps: added to the variance.

    Returns:
        (B, N, C); the rows of padding are 0.
    """
    batch, tokens, hidden = x.shape
    head_dim = hidden // num_heads
    weights = qkv_weight.reshape(3, hidden, hidden)
    images = []
    for image in range(batch):
        real = torch.ones(tokens, dtype=torch.bool) if mask is None else mask[image]
        rows = x[image][real]
        normalised = []
        for weight, gamma, beta in zip(weights, affine_weight, affine_bias):
            z = rows @ weight.T
            mean = z.mean(dim=0)
            variance = ((z - mean) ** 2).mean(dim=0)
            normalised.append(gamma * (z - mean) / torch.sqrt(variance + eps) + beta)
        heads = []
        for head in range(num_heads):
            channels = slice(head * head_dim, (head + 1) * head_dim)
            q, k, v = (z[:, channels] for z in normalised)
            heads.append(q @ (k.T @ v) / len(rows))
        y = torch.cat(heads, dim=1) @ out_weight.T + out_bias
        images.append(torch.zeros_like(x[image]).index_put((real.nonzero()[:, 0],), y))
    return torch.stack(images)


def sima_attention(
    x: Tensor,
    *,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    num_heads: int,
    mask: Tensor | None = None,
    eps: float = 1e-12,
) -> Tensor:
    """SimA (Koohpayegani and Pirsiavash, arXiv 2206.08898), image by image and head by head.

    ::

        O_head = Q^ K^^T V,  Q^_{n,c} = Q_{n,c} / sum_m |Q_{m,c}|,  K^ likewise; V as it is, no scaling

    The same arguments as :func:`sequence_norm_attention`, with a bias of (3C,) on q, k and v and no affine.
    A channel whose l1 norm is under ``eps`` is divided by ``eps``.

    Returns:
        (B, N, C); the rows of padding are 0.
    """
    batch, tokens, hidden = x.shape
    head_dim = hidden // num_heads
    images = []
    for image in range(batch):
        real = torch.ones(tokens, dtype=torch.bool) if mask is None else mask[image]
        q, k, v = (x[image][real] @ qkv_weight.T + qkv_bias).split(hidden, dim=1)
        q = q / q.abs().sum(dim=0).clamp_min(eps)
        k = k / k.abs().sum(dim=0).clamp_min(eps)
        heads = []
        for head in range(num_heads):
            channels = slice(head * head_dim, (head + 1) * head_dim)
            heads.append((q[:, channels] @ k[:, channels].T) @ v[:, channels])
        y = torch.cat(heads, dim=1) @ out_weight.T + out_bias
        images.append(torch.zeros_like(x[image]).index_put((real.nonzero()[:, 0],), y))
    return torch.stack(images)
