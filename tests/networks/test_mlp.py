"""The MLP in chunks against MONAI's block, values and gradients; where it steps aside."""

from __future__ import annotations

import pytest
import torch
from monai.networks.blocks import MLPBlock
from torch import Tensor

from seqnorm_monai.networks import mlp
from tests.makers.compare import assert_close

HIDDEN, WIDTH = 5, 13


def both(dropout_rate: float = 0.0, dtype: torch.dtype = torch.float64) -> tuple[mlp.MLP, MLPBlock]:
    torch.manual_seed(1)
    ours = mlp.MLP(HIDDEN, WIDTH, dropout_rate, recompute_gelu=True).to(dtype)
    theirs = MLPBlock(HIDDEN, WIDTH, dropout_rate).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def gradients(module: MLPBlock, x: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(module(x), (x, *module.parameters()), weights)


@pytest.mark.parametrize("rows", [256, 300, 1009])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 509), (1, 1031)])
def test_equals_the_plain_block(shape: tuple[int, int], rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp, "CHUNK_NUMBERS", rows * WIDTH)
    assert mlp.chunk_rows(WIDTH) == rows
    ours, theirs = both()
    x = torch.randn(*shape, HIDDEN, dtype=torch.float64)
    weights = torch.randn_like(x)
    assert_close(ours(x), theirs(x), 1e-13)
    for mine, plain in zip(gradients(ours, x, weights), gradients(theirs, x, weights), strict=True):
        assert_close(mine, plain, 1e-13)
    with torch.no_grad():
        assert_close(ours(x), theirs(x), 1e-13)


def test_gradient_of_an_input_of_more_axes_and_of_frozen_weights() -> None:
    ours, theirs = both()
    x = torch.randn(2, 3, 5, HIDDEN, dtype=torch.float64)
    results = []
    for module in (ours, theirs):
        module.requires_grad_(False)
        inputs = x.clone().requires_grad_()
        module(inputs).square().sum().backward()
        results.append(inputs.grad)
    assert_close(*results, 1e-13)


def test_autocast_has_the_same_types_and_values_as_the_plain_block() -> None:
    ours, theirs = both(dtype=torch.float32)
    x = torch.randn(2, 509, HIDDEN)
    with torch.autocast("cpu", torch.bfloat16):
        mine, plain = ours(x), theirs(x)
    assert mine.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(mine, plain, rtol=2**-7, atol=2**-7 * float(plain.detach().abs().max()))
    for module in (ours, theirs):
        with torch.autocast("cpu", torch.bfloat16):
            module(x).float().sum().backward()
    for mine, plain in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.grad.dtype == plain.grad.dtype == torch.float32
        assert torch.linalg.norm(mine.grad - plain.grad) < 0.02 * torch.linalg.norm(plain.grad)


def test_dropout_draws_what_the_plain_block_draws() -> None:
    ours, theirs = both(dropout_rate=0.5)
    x = torch.randn(2, 7, HIDDEN, dtype=torch.float64)
    results = []
    for module in (ours, theirs):
        torch.manual_seed(4)
        results.append(module(x))
    assert (results[0] == 0).any()
    assert torch.equal(*results)


@pytest.mark.parametrize("recompute_gelu", [False, True])
def test_what_is_kept_for_the_backward_pass(recompute_gelu: bool) -> None:
    module = mlp.MLP(HIDDEN, WIDTH, recompute_gelu=recompute_gelu)
    x = torch.randn(2, 509, HIDDEN, requires_grad=True)
    own = {parameter.data_ptr() for parameter in module.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            saved[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(x)
    assert sum(saved.values()) == 2 * 509 * (HIDDEN + (1 if recompute_gelu else 2) * WIDTH)


def test_hooks_on_its_parts_are_called() -> None:
    ours, _ = both()
    seen: list[tuple[int, ...]] = []
    ours.fn.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    ours(torch.randn(2, 7, HIDDEN, dtype=torch.float64))
    assert seen == [(2, 7, WIDTH)]


def test_an_exchanged_layer_is_called() -> None:
    """As adapters and quantisation do it: a subclass of the linear layer with a forward of its own."""

    class Doubled(torch.nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2.0 * super().forward(x)

    ours, theirs = both()
    x = torch.randn(2, 7, HIDDEN, dtype=torch.float64)
    for module in (ours, theirs):
        exchanged = Doubled(HIDDEN, WIDTH).double()
        exchanged.load_state_dict(module.linear1.state_dict())
        module.linear1 = exchanged
    with torch.no_grad():
        assert_close(ours(x), theirs(x), 1e-13)


def test_script_and_trace() -> None:
    ours, theirs = both()
    ours.eval()
    x = torch.randn(2, 7, HIDDEN, dtype=torch.float64)
    for graph in (torch.jit.script(ours), torch.jit.trace(ours, x)):
        assert_close(graph(x), theirs(x), 1e-13)
