"""Token statistics and their application with nothing but the tokens kept for the backward pass.

Autograd would keep a centred copy of the tokens for each of the two. Here the deviations from the mean are made
again in the backward pass, a few rows at a time, so that they stay in the processor's cache and are never stored
as a whole. :mod:`seqnorm_monai.attention.functional` has the same two functions in plain operations.

Shapes: batch B, tokens N, hidden C.
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
    """Mean (B, C) and biased covariance (B, C, C) of the tokens x (B, N, C), the mask (B, N) telling real ones.

    ::

        m = sum_n x_n / n,   S = sum_n (x_n - m)(x_n - m)^T / n
        dx_n = (dS + dS^T)/n (x_n - m) + dm / n       (what S owes to m vanishes: deviations sum to 0)
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
        # statistics of float64 are there for rows of W near the null space of S, and those see the errors of dA too
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
