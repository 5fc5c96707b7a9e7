"""The block's MLP, a few tokens at a time: its wide hidden layer stays in the processor's cache.

The hidden layer is four times as wide as the tokens. Held as a whole, before and after the GELU, it is the largest
array of the network. A token's MLP needs no other token, so on a CPU the tokens are taken in chunks. Where gradients
are wanted, the backward pass may compute the GELU again from its input: that saves a third of what a block with
the covariance path keeps.

Shapes: tokens T (all axes but the last), hidden C, MLP width M.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from monai.networks.blocks import MLPBlock
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from seqnorm_monai.attention.functional import in_eager_mode, product_dtype

# numbers of one chunk of the hidden layer, 16 MiB of float32: of the powers from 2^20 to 2^24 the fastest for ViT-S at
# 1024 and 2048 pixels on a last-level cache of 32 MiB. A GPU takes all rows at once.
CHUNK_NUMBERS = 2**22


def chunk_rows(mlp_dim: int) -> int:
    """Tokens of one chunk; at least 256, because a product of fewer would be slow."""
    return max(256, CHUNK_NUMBERS // mlp_dim)


def _chunks(x: Tensor, mlp_dim: int) -> Iterator[slice]:
    step = chunk_rows(mlp_dim) if x.device.type == "cpu" else max(1, x.shape[0])
    return (slice(start, start + step) for start in range(0, x.shape[0], step))


class ChunkedMLP(Function):
    """Two linear layers with a GELU between them, (T, C) to (T, C); keeps the tokens and H for the backward pass.

    ::

        H = X W_1^T + b_1,   Y = GELU(H) W_2^T + b_2
        dH = (dY W_2) GELU'(H),   dX = dH W_1,   dW_1 = dH^T X,   dW_2 = dY^T GELU(H)
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        width = weight1.shape[0]
        keeps = any(ctx.needs_input_grad)
        hidden = x.new_empty((x.shape[0] if keeps else 0, width))
        y = torch.empty_like(x)
        for rows in _chunks(x, width):
            inner = torch.addmm(bias1, x[rows], weight1.t(), out=hidden[rows] if keeps else None)
            torch.addmm(bias2, F.gelu(inner), weight2.t(), out=y[rows])
        ctx.save_for_backward(x, hidden, weight1, weight2)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, y_grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]:
        x, hidden, weight1, weight2 = ctx.saved_tensors
        x_grad = torch.empty_like(x)
        grads = [torch.zeros_like(weight1), weight1.new_zeros(weight1.shape[0])]
        grads += [torch.zeros_like(weight2), weight2.new_zeros(weight2.shape[0])]
        for rows in _chunks(x, hidden.shape[1]):
            above, inner = y_grad[rows], hidden[rows]
            torch.addmm(grads[2], above.t(), F.gelu(inner), out=grads[2])
            grads[3] += above.sum(dim=0)
            inner_grad = torch.ops.aten.gelu_backward(above @ weight2, inner)
            torch.addmm(grads[0], inner_grad.t(), x[rows], out=grads[0])
            grads[1] += inner_grad.sum(dim=0)
            torch.mm(inner_grad, weight1, out=x_grad[rows])
        return x_grad, *grads


class MLP(MLPBlock):
    """MONAI's ``MLPBlock`` (the ViT's: linear, GELU, linear), computed in chunks where that helps.

    That is without gradients, or with them if ``recompute_gelu`` is set. It runs as MONAI wrote it in a graph (script,
    trace, export, compiled), with active dropout, with hooks on its parts, and with parts that were replaced.

    Args:
        hidden_size: C.
        mlp_dim: M.
        dropout_rate: after each linear layer, only in training.
        recompute_gelu: keep only the GELU's input, not its output, for the backward pass.
    """

    def __init__(
        self, hidden_size: int, mlp_dim: int, dropout_rate: float = 0.0, *, recompute_gelu: bool = False
    ) -> None:
        super().__init__(hidden_size, mlp_dim, dropout_rate)
        self.recompute_gelu = recompute_gelu

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            if in_eager_mode() and self._goes_in_chunks():
                return self._forward_in_chunks(x)
        x = self.fn(self.linear1(x))
        return self.drop2(self.linear2(self.drop1(x)))

    def _goes_in_chunks(self) -> bool:
        if torch.is_grad_enabled() and not self.recompute_gelu:
            return False
        if self.training and (self.drop1.p > 0 or self.drop2.p > 0):
            return False
        # what was put in their place (adapters, quantised layers, parametrisations) has a forward of its own
        if type(self.linear1) is not nn.Linear or type(self.linear2) is not nn.Linear:
            return False
        return not any(part._forward_hooks or part._forward_pre_hooks for part in self.children())

    def _forward_in_chunks(self, x: Tensor) -> Tensor:
        # a MetaTensor would look for one image's meta data behind every slice of a batch
        rows = x.as_subclass(Tensor).flatten(0, -2)
        dtype = product_dtype(rows.unsqueeze(0))  # autocast's, if there is one: the function below is not autocast
        weights = (self.linear1.weight, self.linear1.bias, self.linear2.weight, self.linear2.bias)
        with torch.autocast(x.device.type, enabled=False):
            y = ChunkedMLP.apply(rows.to(dtype), *(weight.to(dtype) for weight in weights))
        return y.unflatten(0, x.shape[:-1])
