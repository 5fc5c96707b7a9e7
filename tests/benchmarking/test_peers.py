"""The peers against their papers' formulas, written out token by token in float64: values, gradients, masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from seqnorm_monai.benchmarking.peers import PEERS, LinearAttention, PerformerAttention, orthogonal_features
from tests.makers.compare import assert_close, relative_error

BATCH, HIDDEN, HEADS = 2, 21, 3
HEAD_DIM = HIDDEN // HEADS
TOKENS = (1, 5, 7, 31)  # N = 1, N < d, N = d, N > d


def attention(kind: str, *, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A module whose parameters are all random, the temperatures positive and different."""
    torch.manual_seed(11)
    module = PEERS[kind](HIDDEN, HEADS)
    for name, parameter in module.named_parameters():
        if name == "temperature":
            nn.init.uniform_(parameter, 0.2, 0.9)
        else:
            nn.init.normal_(parameter, std=0.3)
    return module.to(dtype)


def tokens(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(BATCH, count, HIDDEN, generator=generator, dtype=torch.float64) + 0.3


def literal_head(module: nn.Module, kind: str, q: Tensor, k: Tensor, v: Tensor, head: int) -> Tensor:
    """One head of one image, (N, d) each; N x N where the paper's formula is written so."""
    if kind == "xcit":
        q_hat = q / q.square().sum(dim=0).sqrt()
        k_hat = k / k.square().sum(dim=0).sqrt()
        weights = torch.exp(k_hat.T @ q_hat / module.temperature[head])
        return v @ (weights / weights.sum(dim=0))
    if kind == "linear":

        def phi(z: Tensor) -> Tensor:
            return torch.where(z > 0, z + 1, z.exp())
    else:

        def phi(z: Tensor) -> Tensor:
            z = z / HEAD_DIM**0.25
            features = [torch.exp(z @ w - (z * z).sum(dim=1) / 2) for w in module.directions]
            return torch.stack(features, dim=1) / len(features) ** 0.5

    weights = phi(q) @ phi(k).T
    return weights / weights.sum(dim=1, keepdim=True) @ v


def literal(module: nn.Module, kind: str, x: Tensor) -> Tensor:
    images = []
    for rows in x:
        q, k, v = (rows @ module.qkv.weight.T + module.qkv.bias).split(HIDDEN, dim=1)
        heads = []
        for head in range(HEADS):
            channels = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
            heads.append(literal_head(module, kind, q[:, channels], k[:, channels], v[:, channels], head))
        images.append(torch.cat(heads, dim=1) @ module.out_proj.weight.T + module.out_proj.bias)
    return torch.stack(images)


def values_and_gradients(output: Tensor, x: Tensor, module: nn.Module) -> dict[str, Tensor]:
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(3), dtype=output.dtype)
    names, parameters = zip(*module.named_parameters())
    gradients = torch.autograd.grad((output * weight).sum(), (x, *parameters))
    return dict(zip(("output", "x", *names), (output.detach(), *gradients)))


@pytest.mark.parametrize("count", TOKENS)
@pytest.mark.parametrize("kind", PEERS)
def test_equals_the_papers_formula(kind: str, count: int) -> None:
    module = attention(kind)
    x = tokens(count).requires_grad_()
    ours = values_and_gradients(module(x), x, module)
    theirs = values_and_gradients(literal(module, kind, x), x, module)
    for name in theirs:
        # one token: whatever its weight, it is divided by the same
        if theirs[name].norm() < 1e-10 * theirs["output"].norm():
            assert ours[name].norm() < 1e-10 * theirs["output"].norm(), name
        else:
            assert_close(ours[name], theirs[name], 1e-10, name)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("kind", PEERS)
def test_padding_reaches_no_real_token(kind: str, poison: float) -> None:
    module = attention(kind)
    mask = torch.ones(BATCH, 23, dtype=torch.bool)
    mask[0, 3:11] = False
    mask[1] = False
    x = tokens(23).masked_fill(~mask[..., None], poison).requires_grad_()
    y = module(x, mask)
    assert_close(y[:1, mask[0]], literal(module, kind, x[:1, mask[0]]), 1e-10)
    assert y[~mask].eq(0).all()
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad[~mask].eq(0).all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize("kind", PEERS)
def test_autocast_stays_near_the_exact_result(kind: str) -> None:
    """Weights, tokens and four chained products are rounded to bfloat16 once each: a dozen steps cover them."""
    x = tokens(1009)
    exact = attention(kind)(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = attention(kind, dtype=torch.float32)(x.float())
    assert low.dtype == torch.bfloat16
    assert relative_error(low.double(), exact) < 12 * torch.finfo(torch.bfloat16).eps


def test_long_sequence_is_finite_in_float16() -> None:
    """Sums over 70,001 tokens of features of size 1 would overflow float16, which ends at 65,504."""
    module = LinearAttention(2, 1).eval()
    x = torch.ones(1, 70_001, 2)
    exact = module(x)
    low = module.half()(x.half())
    assert relative_error(low.float(), exact) < 0.02


def test_performer_estimates_softmax_attention() -> None:
    """With many features the estimate comes near the exact softmax, which is what the paper proves."""
    torch.manual_seed(13)
    module = PerformerAttention(HIDDEN, HEADS, num_features=20_011).double()
    x = tokens(17)
    q, k, v = (z.unflatten(2, (HEADS, -1)).transpose(1, 2) for z in module.qkv(x).chunk(3, dim=2))
    softmax = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    # the error of a mean over 20,011 draws of order 1 is about 0.007
    assert relative_error(module(x), module.out_proj(softmax)) < 0.05


def test_performer_directions_are_orthogonal_in_blocks() -> None:
    torch.manual_seed(17)
    directions = orthogonal_features(2 * HEAD_DIM + 3, HEAD_DIM).double()
    assert directions.shape == (2 * HEAD_DIM + 3, HEAD_DIM)
    for block in directions.split(HEAD_DIM):
        unit = block / block.norm(dim=1, keepdim=True)
        assert_close(unit @ unit.T, torch.eye(len(block), dtype=torch.float64), 1e-6)
    with pytest.raises(ValueError, match="num_features"):
        PerformerAttention(HIDDEN, HEADS, num_features=0)
