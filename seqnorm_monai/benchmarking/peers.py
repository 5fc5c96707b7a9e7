"""Other attention whose cost is linear in the number of tokens, written from the papers; for tests and benchmarks.

Each has the interface of :mod:`seqnorm_monai.attention.modules`: the same projections of queries, keys and values (with
bias) and of the output, and something else between them, so that a comparison compares that. What the papers put
around their attention (XCiT's local patch interaction and class attention, for one) is not here.

Shapes: batch B, tokens N, hidden C, heads h, head_dim d = C / h.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqnorm_monai.attention.functional import at_least_float32
from seqnorm_monai.attention.modules import _Attention
from seqnorm_monai.attention.paths import split_heads

XCIT_EPS = 1e-12  # torch.nn.functional.normalize uses the same number


def kernel_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention with a kernel in place of the exponential, in the order that is linear in N.

    ::

        o_n = q_n (sum_m k_m^T v_m) / (q_n sum_m k_m^T)

    Both sums are taken over m / N, which cancels and keeps them small enough for half precision.

    Args:
        q: features of the queries, (B, h, N, m), positive.
        k: features of the keys, (B, h, N, m), positive; 0 at padding.
        v: values, (B, h, N, d).

    Returns:
        (B, h, N, d).
    """
    k = k / k.shape[2]
    total = at_least_float32(k).sum(dim=2).unsqueeze(3).to(q.dtype)  # (B, h, m, 1)
    # an image of nothing but padding has the total 0; elsewhere the smallest number changes nothing
    return (q @ (k.transpose(2, 3) @ v)) / (q @ total).clamp_min(torch.finfo(q.dtype).tiny)


def _join_heads(x: Tensor) -> Tensor:
    """(B, h, N, d) to (B, N, C)."""
    return x.transpose(1, 2).flatten(2)


class LinearAttention(_Attention):
    """Linear attention (Katharopoulos et al., arXiv 2006.16236).

    ::

        phi(z) = elu(z) + 1
        O_head,n = phi(Q_n) (sum_m phi(K_m)^T V_m) / (phi(Q_n) sum_m phi(K_m)^T)

    Args:
        hidden_size: C.
        num_heads: h; divides C.

    Raises:
        ValueError: if ``num_heads`` does not divide ``hidden_size``.
    """

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        q, k = F.elu(q) + 1.0, F.elu(k) + 1.0
        if mask is not None:
            k = k.masked_fill(~mask, 0.0)
        q, k, v = (split_heads(z, self.num_heads) for z in (q, k, v))
        return _join_heads(kernel_attention(q, k, v))


class CrossCovarianceAttention(_Attention):
    """XCiT's attention between channels (El-Nouby et al., arXiv 2106.09681).

    ::

        Q^_{n,c} = Q_{n,c} / sqrt(sum_m Q_{m,c}^2), K^ likewise
        O_head = V softmax(K^^T Q^ / tau)        (d x d; the softmax runs over the channels of K^)

    ``temperature`` (h,) is the learnt tau, 1 at the start.

    Args:
        hidden_size: C.
        num_heads: h; divides C.

    Raises:
        ValueError: if ``num_heads`` does not divide ``hidden_size``.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__(hidden_size, num_heads)
        self.temperature = nn.Parameter(torch.ones(num_heads))

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        dtype = v.dtype
        if mask is not None:
            # padding was set to 0 before the projection, which leaves the bias there
            q, k = q.masked_fill(~mask, 0.0), k.masked_fill(~mask, 0.0)
        q = F.normalize(at_least_float32(q), dim=1, eps=XCIT_EPS).to(dtype)
        k = F.normalize(at_least_float32(k), dim=1, eps=XCIT_EPS).to(dtype)
        q, k, v = (split_heads(z, self.num_heads) for z in (q, k, v))
        scores = at_least_float32(k.transpose(2, 3) @ q) / self.temperature[:, None, None]
        return _join_heads(v @ scores.softmax(dim=2).to(dtype))


def orthogonal_features(count: int, head_dim: int) -> Tensor:
    """Random directions for :class:`PerformerAttention`, (count, head_dim), float32.

    Blocks of head_dim rows are orthogonal (the Q of a Gaussian matrix), and each row is as long as a Gaussian vector
    would be (arXiv 2009.14794).
    """
    blocks = [torch.linalg.qr(torch.randn(head_dim, head_dim))[0].T for _ in range(-(-count // head_dim))]
    lengths = torch.randn(count, head_dim).norm(dim=1, keepdim=True)
    return torch.cat(blocks)[:count] * lengths


def performer_features(head_dim: int) -> int:
    """Number m of random features: d ln d, rounded down, as in the authors' code; 1 at least."""
    return max(1, int(head_dim * math.log(head_dim)))


def positive_features(z: Tensor, directions: Tensor, over: tuple[int, ...]) -> Tensor:
    """The Performer's positive random features (arXiv 2009.14794) of z (B, h, N, d), (B, h, N, m).

    ::

        phi(z) = exp(w z - |z|^2 / 2 - s),   s = max of the exponent over the axes ``over``

    for each row w of ``directions`` (m, d). s and the paper's 1 / sqrt(m) cancel in :func:`kernel_attention`;
    without s the exponential could overflow.
    """
    exponent = at_least_float32(z @ directions.T) - at_least_float32(z).square().sum(dim=3, keepdim=True) / 2
    return (exponent - exponent.detach().amax(dim=over, keepdim=True)).exp().to(z.dtype)


class PerformerAttention(_Attention):
    """The Performer's FAVOR+ (Choromanski et al., arXiv 2009.14794): softmax attention, estimated.

    ::

        O_head,n = phi(Q_n) (sum_m phi(K_m)^T V_m) / (phi(Q_n) sum_m phi(K_m)^T)
        phi(z) = exp(w z / d^(1/4) - |z|^2 / (2 sqrt(d)))     for each of the random directions w

    The directions are drawn once and belong to the state (buffer ``directions``, (m, d)); they are not redrawn
    while training, and nothing is added to phi, as the authors' code does.

    Args:
        hidden_size: C.
        num_heads: h; divides C.
        num_features: m; :func:`performer_features` if None.

    Raises:
        ValueError: if ``num_heads`` does not divide ``hidden_size``, or for fewer than one feature.
    """

    def __init__(self, hidden_size: int, num_heads: int, *, num_features: int | None = None) -> None:
        super().__init__(hidden_size, num_heads)
        count = performer_features(self.head_dim) if num_features is None else num_features
        if count < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features}")
        self.register_buffer("directions", orthogonal_features(count, self.head_dim))

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (split_heads(z, self.num_heads) for z in (q, k, v))
        scale = self.head_dim**-0.25
        q = positive_features(q * scale, self.directions, over=(3,))
        k = positive_features(k * scale, self.directions, over=(2, 3))
        if mask is not None:
            k = k.masked_fill(~mask.unsqueeze(1), 0.0)
        return _join_heads(kernel_attention(q, k, v))


PEERS = {"linear": LinearAttention, "xcit": CrossCovarianceAttention, "performer": PerformerAttention}
