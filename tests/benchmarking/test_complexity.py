"""The closed forms of the cost against what torch counts: products, saved tensors, memory of the allocator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from seqnorm_monai.attention.modules import create_attention
from seqnorm_monai.benchmarking import complexity
from seqnorm_monai.benchmarking.complexity import FORMS
from seqnorm_monai.benchmarking.network_complexity import (
    NetworkSize,
    network_backward_multiply_adds,
    network_kept_bytes,
    network_multiply_adds,
    network_parameters,
    network_peak_bytes,
)
from seqnorm_monai.benchmarking.peers import PEERS
from seqnorm_monai.networks import mlp
from seqnorm_monai.networks.vit import SeqNormViT

HIDDEN, HEADS, MLP, LAYERS, CLASSES = 35, 5, 41, 3, 7
CHANNELS, PATCH = 2, 3
BATCHES = (1, 3)
SIZES = (13, 101, 211)
# torch counts the fused kernels of CUDA alone; the one of the CPU multiplies as much
CPU_KERNELS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *rest, **options: sdpa_flop_count(q, k, v)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *rest, **options: sdpa_backward_flop_count(grad, q, k, v)
    ),
}
# bytes for each thread in which the fused kernel of the CPU holds a tile of the map
KERNEL_SCRATCH = 2**20


def attention(form: str, hidden: int = HIDDEN, heads: int = HEADS) -> nn.Module:
    torch.manual_seed(3)
    if form in PEERS:
        return PEERS[form](hidden, heads)
    kind, _, path = form.partition("-")
    return create_attention(kind, hidden, heads, path=path or "auto")


def network(form: str, grid: tuple[int, int]) -> tuple[nn.Module, NetworkSize]:
    """A network of 36 channels with the attention exchanged, and its numbers."""
    hidden, heads = 36, 4
    model = SeqNormViT(
        CHANNELS,
        tuple(PATCH * side for side in grid),
        PATCH,
        CLASSES,
        hidden_size=hidden,
        mlp_dim=MLP,
        num_layers=LAYERS,
        num_heads=heads,
    )
    for block in model.blocks:
        block.attention = attention(form, hidden, heads)
    size = NetworkSize(
        patches=grid[0] * grid[1],
        patch_numbers=CHANNELS * PATCH**2,
        hidden=hidden,
        mlp=MLP,
        layers=LAYERS,
        heads=heads,
        classes=CLASSES,
    )
    return model, size


def image(grid: tuple[int, int], batch: int) -> Tensor:
    return torch.randn(batch, CHANNELS, *(PATCH * side for side in grid), generator=torch.Generator().manual_seed(2))


def counted_multiply_adds(module: nn.Module, x: Tensor) -> tuple[int, int]:
    """Of a forward and of a backward pass."""
    with FlopCounterMode(display=False, custom_mapping=CPU_KERNELS) as counter:
        y = module(x)
        forward = counter.get_total_flops()
        y.sum().backward()
        backward = counter.get_total_flops() - forward
    assert forward % 2 == backward % 2 == 0
    return forward // 2, backward // 2


def probes(form: str, *, tokens: int, hidden: int, heads: int) -> int:
    """The covariance path asks for the type of a product with a product of one number, which counts."""
    return int(complexity.resolve_form(form, tokens=tokens, hidden=hidden, heads=heads) == "seqnorm-covariance")


def assert_peak(form: str, peak: int, expected: int) -> None:
    """Within 2 %: terms that do not grow with the number of tokens are left out of the formula."""
    scratch = KERNEL_SCRATCH * torch.get_num_threads() if form == "softmax" else 0
    assert 0.98 * expected <= peak <= 1.02 * expected + scratch


def counted_kept_bytes(module: nn.Module, x: Tensor) -> int:
    """Storages saved for the backward pass, each once; parameters and buffers do not count."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(x)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
    assert output.requires_grad
    return sum(count for address, count in storages.items() if address not in own)


def counted_peak_bytes(function: Callable[[], object]) -> int:
    """The most that torch's CPU allocator held at a time, beyond what it held before."""
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    events = recorded.profiler.kineto_results.events()
    steps = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = peak = 0
    for _, count in steps:
        held += count
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_multiply_adds_of_attention_are_exact(form: str, count: int, batch: int) -> None:
    x = torch.randn(batch, count, HIDDEN, generator=torch.Generator().manual_seed(2), requires_grad=True)
    forward, backward = counted_multiply_adds(attention(form), x)
    sizes = {"tokens": count, "hidden": HIDDEN, "heads": HEADS}
    assert forward == batch * complexity.attention_multiply_adds(form, **sizes) + probes(form, **sizes)
    assert backward == batch * complexity.attention_backward_multiply_adds(form, **sizes)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_kept_bytes_of_attention_are_exact(form: str, count: int, batch: int) -> None:
    x = torch.randn(batch, count, HIDDEN, generator=torch.Generator().manual_seed(2), requires_grad=True)
    expected = complexity.attention_kept_bytes(form, tokens=count, hidden=HIDDEN, heads=HEADS, batch=batch)
    assert counted_kept_bytes(attention(form), x) == expected


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("form", FORMS)
def test_network_is_exact(form: str, batch: int) -> None:
    grid = (11, 7)
    model, size = network(form, grid)
    forward, backward = counted_multiply_adds(model, image(grid, batch))
    asked = LAYERS * probes(form, tokens=size.tokens, hidden=size.hidden, heads=size.heads)
    assert forward == batch * network_multiply_adds(form, size) + asked
    assert backward == batch * network_backward_multiply_adds(form, size)
    assert counted_kept_bytes(model, image(grid, batch)) == network_kept_bytes(form, size, batch=batch)
    assert sum(parameter.numel() for parameter in model.parameters()) == network_parameters(form, size)


def test_kept_bytes_with_the_gelu_made_again() -> None:
    grid = (11, 7)
    model, size = network("seqnorm", grid)
    for block in model.blocks:
        block.mlp.recompute_gelu = True
    expected = network_kept_bytes("seqnorm", size, recompute_gelu=True)
    assert counted_kept_bytes(model, image(grid, 1)) == expected
    assert expected < network_kept_bytes("seqnorm", size)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("form", FORMS)
def test_peak_of_attention(form: str, batch: int) -> None:
    x = torch.randn(batch, 5003, HIDDEN)
    module = attention(form)
    expected = complexity.attention_peak_bytes(form, tokens=5003, hidden=HIDDEN, heads=HEADS, batch=batch)
    assert_peak(form, counted_peak_bytes(lambda: module(x)), expected)


def test_peak_of_attention_in_several_chunks() -> None:
    """1,048,576 numbers are 29,959 tokens of 35 channels: 60,013 tokens are three chunks."""
    x = torch.randn(1, 60_013, HIDDEN)
    module = attention("seqnorm")
    sizes = {"tokens": 60_013, "hidden": HIDDEN, "heads": HEADS}
    expected = complexity.attention_peak_bytes("seqnorm", **sizes)
    assert expected < 0.8 * complexity.attention_peak_bytes("seqnorm", **sizes, in_chunks=False)
    assert_peak("seqnorm", counted_peak_bytes(lambda: module(x)), expected)


@pytest.mark.parametrize("form", FORMS)
def test_peak_of_network(form: str) -> None:
    grid = (71, 67)
    model, size = network(form, grid)
    x = image(grid, 1)
    assert_peak(form, counted_peak_bytes(lambda: model.eval()(x)), network_peak_bytes(form, size))


def test_peak_of_network_in_several_chunks() -> None:
    """An MLP of 41 takes 102,300 tokens at a time, so a chunk is made smaller here."""
    grid = (71, 67)
    model, size = network("seqnorm", grid)
    x = image(grid, 1)
    expected = network_peak_bytes("seqnorm", size, in_chunks=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlp, "CHUNK_NUMBERS", 41 * 1009)
        chunked = network_peak_bytes("seqnorm", size)
        assert chunked < 0.8 * expected
        assert_peak("seqnorm", counted_peak_bytes(lambda: model.eval()(x)), chunked)


def test_numbers_of_vit_small() -> None:
    """Worked by hand for ViT-S/16 at 1024 pixels: N = 4,097, C = 384, d = 64."""
    sizes = {"tokens": 4097, "hidden": 384, "heads": 6}
    literal = 4 * 4097 * 384**2 + 2 * 4097 * 384 * 64
    assert complexity.attention_multiply_adds("seqnorm-literal", **sizes) == literal == 2_617_884_672
    triangle = 128 * 384 + 128 * 256 + 128 * 128
    assert complexity.upper_triangle_columns(384) == triangle == 2 * 384**2 // 3
    covariance = complexity.attention_multiply_adds("seqnorm-covariance", **sizes)
    assert 0.47 < covariance / literal < 0.49
    assert complexity.attention_map_bytes(tokens=16_385, heads=6) == 6_443_237_400
    with pytest.raises(ValueError, match="seqnorm-literal"):
        complexity.attention_multiply_adds("seqnorm-fast", **sizes)
    with pytest.raises(ValueError, match="divide"):
        complexity.attention_multiply_adds("sima", tokens=3, hidden=7, heads=2)


def test_automatic_path_follows_the_number_of_tokens() -> None:
    sizes = {"hidden": 384, "heads": 6}
    assert complexity.resolve_form("seqnorm", tokens=197, **sizes) == "seqnorm-projected"
    assert complexity.resolve_form("seqnorm", tokens=4097, **sizes) == "seqnorm-covariance"
