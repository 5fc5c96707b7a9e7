"""Token statistics, the affine map that follows from them, and how exact each path of sequence-norm attention is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seqnorm_monai.attention import functional, paths
from seqnorm_monai.attention.functional import (
    AttentionWeights,
    TokenStatistics,
    affine_map,
    apply_affine_map,
    map_and_cancellation,
    merge_statistics,
    token_statistics,
)
from seqnorm_monai.attention.modules import SequenceNormAttention
from seqnorm_monai.attention.paths import (
    covariance_attention,
    literal_attention,
    prefers_covariance,
    projected_attention,
)
from seqnorm_monai.networks.layers import TransformerBlock
from tests.makers.compare import assert_close, relative_error

BATCH, COUNT, HIDDEN, HEADS, EPS = 3, 101, 35, 5, 1e-5
FAST = {"projected": projected_attention, "covariance": covariance_attention, "auto": paths.automatic_attention}


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(hidden: int = HIDDEN) -> AttentionWeights:
    """The sizes are those of a trained layer, so that every term counts."""
    root = math.sqrt(hidden)
    return AttentionWeights(
        randn(3 * hidden, hidden, seed=1) / root,
        1 + 0.3 * randn(3, hidden, seed=2),
        0.3 * randn(3, hidden, seed=3),
        randn(hidden, hidden, seed=4) / root,
        0.1 * randn(hidden, seed=5),
        HEADS,
        EPS,
    )


def changed(weights: AttentionWeights, change: Callable[[Tensor], Tensor]) -> AttentionWeights:
    """The same layer with something done to every tensor of it."""
    return AttentionWeights(*(change(value) if isinstance(value, Tensor) else value for value in weights))


def mask(count: int = COUNT) -> Tensor:
    """One image whole, one with holes, one empty."""
    real = torch.ones(BATCH, count, dtype=torch.bool)
    real[1, 2 : count // 2] = False
    real[2] = False
    return real


def assert_same_statistics(ours: TokenStatistics, expected: TokenStatistics, tolerance: float = 1e-12) -> None:
    assert torch.equal(ours.count, expected.count)
    assert_close(ours.mean, expected.mean, tolerance, "mean")
    assert_close(ours.covariance, expected.covariance, tolerance, "covariance")


@pytest.mark.parametrize("masked", [False, True])
def test_statistics_are_torchs(masked: bool) -> None:
    x = randn(BATCH, COUNT, HIDDEN, seed=7) + 0.7
    real = mask() if masked else torch.ones(BATCH, COUNT, dtype=torch.bool)
    ours = token_statistics(x.masked_fill(~real[..., None], math.nan), real if masked else None)
    assert ours.count.tolist() == real.sum(1).tolist()
    for image in range(3 - masked):
        rows = x[image][real[image]]
        assert_close(ours.mean[image], rows.mean(0), 1e-12)
        assert_close(ours.covariance[image], torch.cov(rows.T, correction=0), 1e-12)
    if masked:
        assert ours.mean[2].eq(0).all()
        assert ours.covariance[2].eq(0).all()


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_merging_parts_gives_the_whole(offset: float) -> None:
    """Chan's formula, over uneven parts, an empty one first, in the middle and last among them."""
    x = randn(BATCH, COUNT, HIDDEN, seed=8) + offset
    parts = [token_statistics(part) for part in x.split([0, 3, 1, 0, 60, 37, 0], dim=1)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merge_statistics(merged, part)
    # the offset leaves 16 - 6 digits of a deviation, and the square of that in nothing: they are centred first
    assert_same_statistics(merged, token_statistics(x), 1e-12 if offset == 0 else 1e-9)
    assert all(tensor.eq(0).all() for tensor in merge_statistics(parts[0], parts[0]))


def test_merging_passes_gradients() -> None:
    x = randn(BATCH, COUNT, HIDDEN, seed=9).requires_grad_()
    u, v = randn(BATCH, HIDDEN, seed=10), randn(BATCH, HIDDEN, HIDDEN, seed=11)

    def gradient(statistics: TokenStatistics) -> Tensor:
        return torch.autograd.grad((statistics.mean * u).sum() + (statistics.covariance * v).sum(), x)[0]

    first, second = x.split([40, 61], dim=1)
    merged = merge_statistics(token_statistics(first), token_statistics(second))
    assert_close(gradient(merged), gradient(token_statistics(x)), 1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_map_of_merged_statistics_is_the_literal_layer(masked: bool) -> None:
    x, real = randn(BATCH, COUNT, HIDDEN, seed=12) + 0.7, mask() if masked else None
    parts = [
        token_statistics(x[:, rows], None if real is None else real[:, rows])
        for rows in (slice(0, 43), slice(43, None))
    ]
    merged = merge_statistics(*parts)
    matrix, bias = affine_map(merged, weights())
    assert matrix.shape == (BATCH, HIDDEN, HIDDEN)
    assert bias.shape == (BATCH, HIDDEN)
    expected = literal_attention(x, real, weights())
    assert_close(apply_affine_map(x, real, merged.mean, matrix, bias), expected, 1e-10)
    y = (x - merged.mean[:, None]) @ matrix + bias[:, None]
    assert_close(y if real is None else y.masked_fill(~real[..., None], 0.0), expected, 1e-10)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_finite_differences(masked: bool) -> None:
    """Of the two functions whose backward pass is written by hand, by every input, several chunks long."""
    real = mask(7) if masked else None
    x = randn(BATCH, 7, 3, seed=13).requires_grad_()
    inputs = [randn(BATCH, 3, seed=14), randn(BATCH, 3, 3, seed=15), randn(BATCH, 3, seed=16)]
    assert torch.autograd.gradcheck(lambda x: token_statistics(x, real)[1:], (x,))
    inputs = [x, *(tensor.requires_grad_() for tensor in inputs)]
    assert torch.autograd.gradcheck(lambda x, m, a, c: apply_affine_map(x, real, m, a, c), inputs)


@pytest.mark.parametrize("masked", [False, True])
def test_chunks_of_tokens_change_nothing(monkeypatch: pytest.MonkeyPatch, masked: bool) -> None:
    """Values and gradients over 4 chunks, the last one short, equal those over a single one."""
    real = mask(1009) if masked else None
    x = randn(BATCH, 1009, HIDDEN, seed=17).requires_grad_()
    r = randn(BATCH, 1009, HIDDEN, seed=18)

    def run() -> tuple[Tensor, Tensor]:
        y = covariance_attention(x, real, weights())
        return y, torch.autograd.grad((y * r).sum(), x)[0]

    whole = run()
    monkeypatch.setattr("seqnorm_monai.attention.autograd.CHUNK_NUMBERS", 1)
    for ours, expected in zip(run(), whole):
        assert_close(ours, expected, 1e-12)


def test_covariance_path_keeps_the_tokens_alone() -> None:
    """What is kept for the backward pass grows by x itself and by nothing else that is as long."""
    kept: list[Tensor] = []
    x = randn(1, 1009, HIDDEN, seed=19).requires_grad_()
    parameters = changed(weights(), Tensor.requires_grad_)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        covariance_attention(x, None, parameters)
    assert {t.data_ptr() for t in kept if 1009 in t.shape} == {x.data_ptr()}


def test_second_derivatives_are_refused() -> None:
    x = randn(1, 211, HIDDEN, seed=20).requires_grad_()
    y = covariance_attention(x, None, weights())
    gradient = torch.autograd.grad(y.square().sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def kinds_of_tokens(count: int, hidden: int) -> dict[str, Tensor]:
    """Tokens that are hard in different ways, (1, N, C)."""
    plain = randn(1, count, hidden, seed=21)
    basis = torch.linalg.qr(randn(hidden, hidden, seed=22))[0]
    constant = plain.clone()
    constant[..., ::3] = 2.5
    return {
        "ordinary": plain + 0.7,
        "offset": plain + 1e3,
        "constant": constant,
        "condition 1e8": plain * torch.logspace(0, -4, hidden, dtype=torch.float64) @ basis.T,
        "correlated": plain[..., :1].expand_as(plain) * torch.linspace(0.5, 2, hidden, dtype=torch.float64),
    }


def errors(path: str, x: Tensor, parameters: AttentionWeights, dtype: torch.dtype) -> dict[str, float]:
    """Relative errors of output and gradients in ``dtype``, against the literal form in float64 of the same numbers."""
    results = []
    for function, kind in ((literal_attention, torch.float64), ({"literal": literal_attention, **FAST}[path], dtype)):
        tokens, *tensors = [tensor.to(dtype).to(kind).requires_grad_() for tensor in (x, *parameters[:5])]
        y = function(tokens, None, AttentionWeights(*tensors, *parameters[5:]))
        r = randn(*x.shape, seed=23).to(dtype).to(kind)
        results.append((y.detach(), *torch.autograd.grad((y * r).sum(), [tokens, *tensors])))
    names = ("y", "x", "qkv_weight", "affine_weight", "affine_bias", "out_weight", "out_bias")
    return {name: relative_error(ours.double(), exact) for name, exact, ours in zip(names, *results)}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *itertools.product(
            ["ordinary", "offset", "constant", "condition 1e8"], [torch.float32, torch.bfloat16, torch.float16]
        ),
        ("correlated", torch.float32),  # half precision: the test after this one
    ],
)
@pytest.mark.parametrize("count", [67, 5003])
def test_errs_at_most_twice_what_the_literal_form_errs(count: int, kind: str, dtype: torch.dtype) -> None:
    """In the output and in every gradient, at the same precision."""
    x = kinds_of_tokens(count, HIDDEN)[kind]
    allowed = {name: 2 * error for name, error in errors("literal", x, weights(), dtype).items()}
    if kind == "correlated":
        # the literal form happens to be exact to a digit or two here
        allowed = {name: max(error, 8 * torch.finfo(dtype).eps) for name, error in allowed.items()}
    for path in FAST:
        ours = errors(path, x, weights(), dtype)
        assert {name: error for name, error in ours.items() if not error <= allowed[name]} == {}, path


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_error_for_correlated_tokens_in_half_precision_is_bounded(dtype: torch.dtype) -> None:
    """Rounding moves the deviations off their line, and rows of W that nearly annihilate the tokens see that.

    The literal form rounds the projections alone, and errs by about one step where these paths err by up to eight.
    """
    x = kinds_of_tokens(67, HIDDEN)["correlated"]
    for path in FAST:
        assert errors(path, x, weights(), dtype)["y"] < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("condition", [1e4, 1e8])
def test_weights_near_the_null_space_are_noticed(condition: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that whiten the tokens: float32 statistics would be off, and are not used."""
    basis = torch.linalg.qr(randn(HIDDEN, HIDDEN, seed=22))[0]
    spread = torch.logspace(0, -math.log10(condition) / 2, HIDDEN, dtype=torch.float64)
    x = randn(1, 1009, HIDDEN, seed=24) * spread @ basis.T
    parameters = weights()._replace(qkv_weight=weights().qkv_weight / spread @ basis.T)
    literal = errors("literal", x, parameters, torch.float32)
    for path in FAST:
        ours = errors(path, x, parameters, torch.float32)
        assert {name: error for name, error in ours.items() if error > 2 * literal[name]} == {}, path
    statistics = token_statistics(x.float())
    assert map_and_cancellation(statistics, changed(parameters, Tensor.float))[2] > 4
    assert map_and_cancellation(statistics, changed(weights(), Tensor.float))[2] < 4
    monkeypatch.setattr(paths, "MAX_CANCELLATION", math.inf)
    assert errors("covariance", x, parameters, torch.float32)["y"] > 5 * literal["y"]


def test_null_directions_never_give_nan() -> None:
    """float32 rounds the variance of a direction without tokens to a little below 0, and eps is 0 here."""
    x = randn(1, 1009, HIDDEN, seed=25)
    x[..., HIDDEN // 2 :] = x[..., : HIDDEN - HIDDEN // 2]
    y = covariance_attention(x.float(), None, changed(weights(), Tensor.float))
    assert y.isfinite().all()
    covariance = -1e-6 * torch.eye(HIDDEN)[None]
    statistics = TokenStatistics(torch.ones(1, dtype=torch.long), torch.zeros(1, HIDDEN), covariance)
    for tensor in affine_map(statistics, changed(weights(), Tensor.float)):
        assert tensor.isfinite().all()


@pytest.mark.parametrize(("hidden", "crossing"), [(35, 65), (192, 337), (384, 714), (768, 1477)])
def test_choice_of_path(hidden: int, crossing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    head_dim = 7 if hidden == HIDDEN else 64
    assert prefers_covariance(crossing, hidden, head_dim)
    assert not prefers_covariance(crossing - 1, hidden, head_dim)
    assert prefers_covariance(crossing * 5, hidden, head_dim, wide_statistics=True)
    assert not prefers_covariance(crossing * 2, hidden, head_dim, wide_statistics=True)
    if hidden == HIDDEN:
        chosen = []
        monkeypatch.setattr(paths, "token_statistics", lambda *a: chosen.append("covariance") or token_statistics(*a))
        for count in (64, 65):
            paths.automatic_attention(randn(1, count, HIDDEN, seed=26), None, weights())
        assert chosen == ["covariance"]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("path", ["auto", "literal", "projected", "covariance"])
def test_graphs_give_the_same_values_at_any_length(path: str, masked: bool) -> None:
    """Script, trace and export, run at a number of tokens that they have not seen, also under autocast."""
    torch.manual_seed(31)
    layer = SequenceNormAttention(HIDDEN, HEADS, path=path)
    x, longer = randn(BATCH, 23, HIDDEN, seed=27).float(), randn(BATCH, 1009, HIDDEN, seed=28).float() + 0.7
    inputs, others = ((x, mask(23)), (longer, mask(1009))) if masked else ((x,), (longer,))
    length = torch.export.Dim("length", min=2, max=1 << 20)
    shapes = ({1: length}, {1: length}) if masked else ({1: length},)
    graphs = {
        "script": torch.jit.script(layer),
        "trace": torch.jit.trace(layer, inputs),
        "export": torch.export.export(layer, inputs, dynamic_shapes=shapes).module(),
    }
    exact = layer.double()(longer.double(), *others[1:]).detach()
    layer.float()
    for name, graph in graphs.items():
        assert_close(graph(*others).double(), exact, 1e-5, name)
        if name == "export":
            continue  # torch's exported programs hold the types they were exported with, and refuse autocast
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = graph(*others)
        assert low.dtype == torch.bfloat16, name
        assert_close(low.double(), exact, 8 * torch.finfo(torch.bfloat16).eps, name)


@pytest.mark.parametrize("path", ["auto", "literal", "projected", "covariance"])
def test_a_compiled_block_is_one_graph(path: str) -> None:
    """fullgraph refuses a break; values and gradients are those of eager mode."""
    torch.manual_seed(37)
    block = TransformerBlock(hidden_size=HIDDEN, mlp_dim=41, num_heads=HEADS, attention="seqnorm", attention_path=path)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    for count in (101, 211):
        x = randn(BATCH, count, HIDDEN, seed=29).float().requires_grad_()
        results = []
        for module in (block, compiled):
            y = module(x)
            results.append((y, torch.autograd.grad(y.square().sum(), x)[0]))
        for ours, expected in zip(results[1], results[0]):
            assert_close(ours, expected, 1e-5)


@pytest.mark.parametrize("path", ["literal", *FAST])
@pytest.mark.parametrize("shape", [(0, 101, HIDDEN), (BATCH, 0, HIDDEN)])
def test_nothing_in_nothing_out(shape: tuple[int, ...], path: str) -> None:
    x = randn(*shape, seed=33).requires_grad_()
    y = SequenceNormAttention(HIDDEN, HEADS, path=path).double()(x)
    assert y.shape == shape
    y.sum().backward()
    assert x.grad.shape == shape


def test_half_precision_extremes_stay_in_range() -> None:
    """Keys and values of 300 or of 1e-3 would leave float16 as K^T V, or sink in it, unless scaled first."""
    for scale, path in itertools.product((300.0, 1e-3), FAST):
        parameters = weights()._replace(eps=1e-12)
        x = randn(1, 211, HIDDEN, seed=30) * scale
        y = FAST[path](x.half(), None, changed(parameters, Tensor.half))
        exact = literal_attention(x, None, parameters)
        assert_close(y.double(), exact, 8 * torch.finfo(torch.float16).eps, f"{path} {scale}")


def test_script_knows_the_statistics() -> None:
    """The functions are TorchScript as they stand, the named tuple included."""
    x = randn(BATCH, COUNT, HIDDEN, seed=32)
    scripted = torch.jit.script(functional.token_statistics)
    assert_same_statistics(TokenStatistics(*scripted(x, mask())), token_statistics(x, mask()))
    a, b = token_statistics(x[:, :40]), token_statistics(x[:, 40:])
    merged = torch.jit.script(functional.merge_statistics)(a, b)
    assert_same_statistics(TokenStatistics(*merged), merge_statistics(a, b))
