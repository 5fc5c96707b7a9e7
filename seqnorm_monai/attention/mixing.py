"""What lies between the two projections of sequence-norm attention, with a backward pass written by hand.

Autograd would square, scale and sum the queries, keys and values in a pass of memory for each operation, and copy the
heads apart for each product. At a few hundred tokens these passes cost as much as the products. Here the forward pass
reads the projections twice and the backward pass writes their gradient once.

Shapes: batch B, tokens N, hidden C, heads h, head_dim d = C / h.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable


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
        # 1 / n by its root on either side of the product, which alone may be as large as n var
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
