"""The hand-written autograd Functions of sequence-norm attention: what they keep, and their backward passes.

:class:`TokenMoments` and :class:`CentredLinear` keep nothing but the tokens. Autograd would keep a centred copy of the
tokens for each of the two. Here the deviations from the mean are made again in the backward pass, a few rows at a time,
so that they stay in the processor's cache and are never stored as a whole.
:mod:`seqnorm_monai.attention.functional` has the same two functions in plain operations.

:class:`NormalisedMixing` is what lies between the two projections of the projected path. Autograd would square, scale
and sum the queries, keys and values in a pass of memory for each operation, and copy the heads apart for each product.
At a few hundred tokens these passes cost as much as the products. Here the forward pass reads the projections twice
and the backward pass writes their gradient once.

Shapes: batch B, tokens N, hidden C, heads h, head_dim d = C / h.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

# float32 numbers of one chunk: 4 MiB, small beside a last-level cache. A GPU takes all rows at once.
CHUNK_NUMBERS = 2**20
# blocks of columns in which the upper triangle of the covariance is computed: 3 save a third of the products
# and are wide enough (128 columns of 384) to run at the full speed of a matrix product
TRIANGLE_BLOCKS = 3


def _wide(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


def _chunks(x: Tensor) -> Iterator[slice]:
    """Ranges of tokens of a (B, N, C) array."""
    rows = max(1, x.shape[1])
    if x.device.type == "cpu":
        rows = max(256, CHUNK_NUMBERS // max(1, x.shape[0] * x.shape[2]))
    return (slice(start, start + rows) for start in range(0, x.shape[1], rows))


def _rows(x: Tensor, mask: Tensor | None, rows: slice, dtype: torch.dtype) -> Tensor:
    """Tokens of one chunk, 0 at padding."""
    chunk = x[:, rows].to(dtype)
    return chunk if mask is None else chunk.masked_fill(~mask[:, rows, None], 0.0)


def _deviations(x: Tensor, mask: Tensor | None, mean: Tensor, rows: slice, dtype: torch.dtype) -> Tensor:
    """Tokens of one chunk less the mean (B, C), 0 at padding, in a new array."""
    chunk = torch.sub(x[:, rows].to(dtype), mean.to(dtype).unsqueeze(1))
    return chunk if mask is None else chunk.masked_fill_(~mask[:, rows, None], 0.0)


def _add_upper_triangle(total: Tensor, deviations: Tensor) -> None:
    """total += deviations^T deviations, for the blocks on and above the diagonal only."""
    hidden = total.shape[1]
    width = -(-hidden // TRIANGLE_BLOCKS)
    for i in range(0, hidden, width):
        columns = deviations[:, :, i : i + width].transpose(1, 2)
        total[:, i : i + width, i:] += columns @ deviations[:, :, i:]


class TokenMoments(Function):
    """Mean (B, C) and biased covariance (B, C, C) of the tokens x (B, N, C); the mask (B, N) marks the real ones.

    ::

        m = sum_n x_n / n,   S = sum_n (x_n - m)(x_n - m)^T / n
        dx_n = (dS + dS^T)/n (x_n - m) + dm / n       (the gradient of S for m is 0: deviations sum to 0)
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, mask: Tensor | None, count: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        batch, _, hidden = x.shape
        divisor = count.clamp_min(1).unsqueeze(1)
        with torch.autocast(x.device.type, enabled=False):
            chunks = list(_chunks(x))
            # products of a chunk in `dtype`, sums over chunks in float64: the error does not grow with N
            summed = torch.float64 if len(chunks) > 1 else dtype
            mean = x.new_zeros((batch, hidden), dtype=summed)
            for rows in chunks:
                mean += _rows(x, mask, rows, dtype).sum(dim=1)
            mean = (mean / divisor).to(dtype)
            total = x.new_zeros((batch, hidden, hidden), dtype=summed)
            for rows in chunks:
                _add_upper_triangle(total, _deviations(x, mask, mean, rows, dtype))
            total /= divisor.unsqueeze(2)
            covariance = (total.triu() + total.triu(1).transpose(1, 2)).to(dtype)
        ctx.save_for_backward(x, mask, mean, divisor)
        return mean, covariance

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, mean_grad: Tensor, covariance_grad: Tensor
    ) -> tuple[Tensor | None, None, None, None]:
        x, mask, mean, divisor = ctx.saved_tensors
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        dtype = _wide(x.dtype)
        x_grad = torch.empty_like(x)
        with torch.autocast(x.device.type, enabled=False):
            weight = ((covariance_grad + covariance_grad.transpose(1, 2)) / divisor.unsqueeze(2)).to(dtype)
            bias = (mean_grad / divisor).to(dtype).unsqueeze(1)
            for rows in _chunks(x):
                chunk = torch.baddbmm(bias, _deviations(x, mask, mean, rows, dtype), weight)
                x_grad[:, rows] = chunk if mask is None else chunk.masked_fill_(~mask[:, rows, None], 0.0)
        return x_grad, None, None, None


class CentredLinear(Function):
    """One linear map for each image, of the tokens' deviations from a mean; 0 at padding.

    ::

        y_n = (x_n - m) A + c
        dx_n = dy_n A^T,   dA = sum_n (x_n - m)^T dy_n,   dc = sum_n dy_n,   dm = -dc A^T

    A (B, C, C) and c (B, C); the products are taken in ``dtype``, which y has. Centring comes before the
    product: X A - m A would lose the digits of a large common offset.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, mask: Tensor | None, mean: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(x, mask, mean, weight)
        ctx.dtype = dtype
        y = x.new_empty((x.shape[0], x.shape[1], weight.shape[2]), dtype=dtype)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = weight.to(dtype), bias.to(dtype).unsqueeze(1)
            for rows in _chunks(x):
                chunk = _deviations(x, mask, mean, rows, _wide(x.dtype)).to(dtype)
                y[:, rows] = torch.baddbmm(bias, chunk, weight)
            return y if mask is None else y.masked_fill_(~mask.unsqueeze(2), 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, y_grad: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, Tensor, None]:
        x, mask, mean, weight = ctx.saved_tensors
        wide = _wide(x.dtype)
        # float64 statistics are taken for rows of W near the null space of S, where errors of dA count too
        summed = weight.dtype if weight.dtype == torch.float64 else ctx.dtype
        x_grad = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        weight_grad = torch.zeros_like(weight)
        bias_grad = torch.zeros_like(mean)
        with torch.autocast(x.device.type, enabled=False):
            transposed = weight.to(ctx.dtype).transpose(1, 2)
            for rows in _chunks(x):
                above = _rows(y_grad, mask, rows, ctx.dtype)
                below = _deviations(x, mask, mean, rows, wide).to(ctx.dtype)
                weight_grad += below.to(summed).transpose(1, 2) @ above.to(summed)
                bias_grad += above.to(wide).sum(dim=1)
                if x_grad is not None:
                    x_grad[:, rows] = above @ transposed
            mean_grad = -(bias_grad.unsqueeze(1) @ weight.to(bias_grad.dtype).transpose(1, 2)).squeeze(1)
        return x_grad, None, mean_grad, weight_grad, bias_grad, None


def _heads(z: Tensor, image: int, num_heads: int) -> Tensor:
    """One image of (B, N, C) as (h, N, d), a view: a product of one image needs no copy of its heads."""
    return z[image].unflatten(1, (num_heads, -1)).transpose(0, 1)


def _head_rows(z: Tensor, num_heads: int) -> Tensor:
    """(B, C) to (B, h, d)."""
    return z.unflatten(1, (num_heads, -1))


class NormalisedMixing(Function):
    """Centred queries, keys and values to the mixed tokens, all normalisations folded into d x d matrices.

    ::

        var = sum_n q_n^2 / n,   D = diag(gamma / sqrt(var + eps))               so for q, k and v
        R = K^T V / n,   M = D_k R D_v + beta_k^T beta_v,   P = D_q M            for each head
        O = Q P + beta_q M

    and back, with G the gradient of O, G_M that of M and t = (var + eps)^(-1/2)::

        G_P = Q^T G,   G_M = D_q G_P + beta_q^T sum_n G_n,   G_R = D_k G_M D_v
        dQ = G P^T + Q E_q,   dK = V G_R^T / n + K E_k,   dV = K G_R / n + V E_v,   E = diag(-gamma t^3 dD / n)

    where dD holds the diagonals of G_P M^T, R D_v G_M^T and G_M^T D_k R. Arguments: queries, keys and values side by
    side, (B, N, 3C), 0 at padding; the count of real tokens, (B,); gamma and beta, (3, C). Returns (B, N, C), at
    padding beta_q M. The products are of the type of the first argument, float32 or float64.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, qkv: Tensor, count: Tensor, gamma: Tensor, beta: Tensor, num_heads: int, eps: float
    ) -> Tensor:
        q, k, v = qkv.chunk(3, dim=2)
        batch, _, hidden = q.shape
        divisor = count.clamp_min(1).to(qkv.dtype).unsqueeze(1)
        inverse = (qkv.square().sum(dim=1) / divisor + eps).rsqrt()  # (B, 3C)
        scale_q, scale_k, scale_v = [_head_rows(s, num_heads) for s in (inverse * gamma.flatten()).chunk(3, dim=1)]
        products = qkv.new_empty((batch, num_heads, hidden // num_heads, hidden // num_heads))
        for image in range(batch):
            torch.bmm(_heads(k, image, num_heads).transpose(1, 2), _heads(v, image, num_heads), out=products[image])
        products = products / divisor.unsqueeze(2).unsqueeze(3)
        beta_q, beta_k, beta_v = beta.unflatten(1, (num_heads, -1)).unbind(0)  # (h, d)
        mixed = scale_k.unsqueeze(3) * products * scale_v.unsqueeze(2) + beta_k.unsqueeze(2) * beta_v.unsqueeze(1)
        maps = scale_q.unsqueeze(3) * mixed
        offset = (beta_q.unsqueeze(2) * mixed).sum(dim=2)  # (B, h, d)
        y = torch.empty_like(q, memory_format=torch.contiguous_format)
        for image in range(batch):
            torch.baddbmm(
                offset[image].unsqueeze(1), _heads(q, image, num_heads), maps[image], out=_heads(y, image, num_heads)
            )
        ctx.save_for_backward(qkv, divisor, gamma, beta, inverse, products)
        ctx.num_heads = num_heads
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None, None]:
        qkv, divisor, gamma, beta, inverse, products = ctx.saved_tensors
        num_heads = ctx.num_heads
        q, k, v = qkv.chunk(3, dim=2)
        batch = qkv.shape[0]
        scale_q, scale_k, scale_v = [_head_rows(s, num_heads) for s in (inverse * gamma.flatten()).chunk(3, dim=1)]
        beta_q, beta_k, beta_v = beta.unflatten(1, (num_heads, -1)).unbind(0)
        scaled = scale_k.unsqueeze(3) * products
        mixed = scaled * scale_v.unsqueeze(2) + beta_k.unsqueeze(2) * beta_v.unsqueeze(1)
        maps_grad = torch.empty_like(products)
        for image in range(batch):
            torch.bmm(_heads(q, image, num_heads).transpose(1, 2), _heads(grad, image, num_heads), out=maps_grad[image])
        total = _head_rows(grad.sum(dim=1), num_heads)  # (B, h, d)
        mixed_grad = scale_q.unsqueeze(3) * maps_grad + beta_q.unsqueeze(2) * total.unsqueeze(2)
        product_grad = scale_k.unsqueeze(3) * mixed_grad * scale_v.unsqueeze(2)
        scale_grad = torch.cat(
            [
                (maps_grad * mixed).sum(dim=3).flatten(1),
                (mixed_grad * products * scale_v.unsqueeze(2)).sum(dim=3).flatten(1),
                (mixed_grad * scaled).sum(dim=2).flatten(1),
            ],
            dim=1,
        )
        beta_grad = torch.stack(
            [
                (mixed * total.unsqueeze(2)).sum(dim=(0, 3)).flatten(),
                (mixed_grad * beta_v.unsqueeze(1)).sum(dim=(0, 3)).flatten(),
                (mixed_grad * beta_k.unsqueeze(2)).sum(dim=(0, 2)).flatten(),
            ]
        )
        gamma_grad = (scale_grad * inverse).sum(dim=0).view_as(gamma)
        qkv_grad = qkv * (scale_grad * gamma.flatten() * inverse**3 / -divisor).unsqueeze(1)
        q_grad, k_grad, v_grad = qkv_grad.chunk(3, dim=2)
        maps = scale_q.unsqueeze(3) * mixed
        product_grad = product_grad / divisor.unsqueeze(2).unsqueeze(3)
        for image in range(batch):
            for out, tokens, matrix in (
                (q_grad, grad, maps[image].transpose(1, 2)),
                (k_grad, v, product_grad[image].transpose(1, 2)),
                (v_grad, k, product_grad[image]),
            ):
                view = _heads(out, image, num_heads)
                torch.baddbmm(view, _heads(tokens, image, num_heads), matrix, out=view)
        return qkv_grad, None, gamma_grad, beta_grad, None, None
