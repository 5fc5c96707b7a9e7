"""The three kinds of attention against their literal formulas, in float64: values, gradients, masks, odd sizes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from seqnorm_monai.attention import reference
from seqnorm_monai.attention.modules import ATTENTION_PATHS, SequenceNormAttention, SimAAttention, create_attention
from seqnorm_monai.networks.layers import TransformerBlock
from tests.makers.compare import assert_close, relative_error

BATCH, HIDDEN, HEADS = 3, 35, 5
TOKENS = (1, 2, 5, 7, 11, 101)  # N = 1, N < d, N = d, N > d with d = 7
# every kind of attention, and every path of the one that has several
PATHS = tuple(f"seqnorm-{path}" for path in ATTENTION_PATHS)
FORMS = (*PATHS, "sima", "softmax")


def create(form: str, hidden_size: int = HIDDEN, num_heads: int = HEADS) -> nn.Module:
    """A module of one of FORMS."""
    kind, _, path = form.partition("-")
    return create_attention(kind, hidden_size, num_heads, path=path or "auto")


def attention(form: str, *, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A module whose parameters are all random, so that no term of the formula is 0 or 1."""
    torch.manual_seed(11)
    module = create(form)
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if name == "affine_weight" else 0.0, std=0.3)
    return module.to(dtype)


def tokens(count: int, *, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, count, HIDDEN, generator=generator, dtype=torch.float64) + 0.7


def ragged_mask(count: int) -> Tensor:
    """Every image has other real tokens, and padding stands at the end, in the middle and at the front."""
    mask = torch.ones(BATCH, count, dtype=torch.bool)
    mask[0, count - count // 3 :] = False
    mask[1, 1 : count // 2] = False
    mask[2, : count // 4] = False
    return mask


def literal(module: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """The judge's answer for the module's own parameters."""
    shared = {
        "qkv_weight": module.qkv.weight,
        "out_weight": module.out_proj.weight,
        "out_bias": module.out_proj.bias,
        "num_heads": HEADS,
        "mask": mask,
    }
    if isinstance(module, SequenceNormAttention):
        return reference.sequence_norm_attention(
            x, affine_weight=module.affine_weight, affine_bias=module.affine_bias, **shared
        )
    if isinstance(module, SimAAttention):
        return reference.sima_attention(x, qkv_bias=module.qkv.bias, **shared)
    return torch_attention(module, x, mask)


def torch_attention(module: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """torch's own multi-head attention with the module's parameters; rows of padding set to 0 as ours are."""
    y, _ = nn.functional.multi_head_attention_forward(
        *[x.transpose(0, 1)] * 3,
        embed_dim_to_check=HIDDEN,
        num_heads=HEADS,
        in_proj_weight=module.qkv.weight,
        in_proj_bias=module.qkv.bias,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=module.out_proj.weight,
        out_proj_bias=module.out_proj.bias,
        key_padding_mask=None if mask is None else ~mask,
        need_weights=False,
    )
    y = y.transpose(0, 1)
    return y if mask is None else y.masked_fill(~mask[..., None], 0.0)


def values_and_gradients(output: Tensor, x: Tensor, module: nn.Module) -> dict[str, Tensor]:
    """The output, and the gradient of a random linear function of it by the tokens and by every parameter."""
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(3), dtype=output.dtype)
    names, parameters = zip(*module.named_parameters())
    gradients = torch.autograd.grad((output * weight).sum(), (x, *parameters))
    return dict(zip(("output", "x", *names), (output.detach(), *gradients)))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("count", TOKENS)
@pytest.mark.parametrize("form", FORMS)
def test_equals_the_literal_formula(form: str, count: int, masked: bool) -> None:
    module = attention(form)
    mask = ragged_mask(count) if masked else None
    x = tokens(count).requires_grad_()
    ours = values_and_gradients(module(x, mask), x, module)
    theirs = values_and_gradients(literal(module, x, mask), x, module)
    for name in theirs:
        if theirs[name].abs().max() < 1e-12:  # one token: nothing depends on q, k or v but through beta
            assert ours[name].abs().max() < 1e-12, name
        else:
            assert_close(ours[name], theirs[name], 1e-10, name)


def test_softmax_is_torchs_module() -> None:
    """The names of the parameters map one to one onto those of nn.MultiheadAttention."""
    module = attention("softmax")
    peer = nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True, dtype=torch.float64)
    peer.load_state_dict(
        {
            "in_proj_weight": module.qkv.weight,
            "in_proj_bias": module.qkv.bias,
            "out_proj.weight": module.out_proj.weight,
            "out_proj.bias": module.out_proj.bias,
        }
    )
    x = tokens(13)
    assert_close(module(x), peer(x, x, x, need_weights=False)[0], 1e-10)


@pytest.mark.parametrize("path", ATTENTION_PATHS)
def test_hand_computed_answer(path: str) -> None:
    """Two tokens, one channel: SN gives -1 and 1, K^T V / N = 1, so the output is -1 and 1 again."""
    module = SequenceNormAttention(1, 1, eps=0.0, path=path).double()
    nn.init.ones_(module.qkv.weight)
    nn.init.ones_(module.out_proj.weight)
    nn.init.zeros_(module.out_proj.bias)
    x = torch.tensor([[[3.0], [9.0]]], dtype=torch.float64)
    assert_close(module(x), torch.tensor([[[-1.0], [1.0]]], dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_parameters_have_the_documented_names_and_shapes(form: str) -> None:
    shapes = {name: tuple(p.shape) for name, p in create(form).named_parameters()}
    expected = {
        "qkv.weight": (3 * HIDDEN, HIDDEN),
        "out_proj.weight": (HIDDEN, HIDDEN),
        "out_proj.bias": (HIDDEN,),
    }
    if form in PATHS:
        expected |= {"affine_weight": (3, HIDDEN), "affine_bias": (3, HIDDEN)}
    else:
        expected |= {"qkv.bias": (3 * HIDDEN,)}
    assert shapes == expected


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("form", FORMS)
def test_padding_is_inert(form: str, poison: float) -> None:
    """Whatever padding holds, real tokens come out as without it, padding as 0, and no gradient reaches it."""
    module = attention(form)
    mask = ragged_mask(23)
    x = tokens(23).masked_fill(~mask[..., None], poison).requires_grad_()
    y = module(x, mask)
    for image in range(BATCH):
        alone = module(x[image][mask[image]][None])
        assert_close(y[image][mask[image]][None], alone, 1e-10)
    assert y[~mask].eq(0).all()
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad[~mask].eq(0).all()
    assert x.grad[mask].ne(0).any()


@pytest.mark.parametrize("form", FORMS)
def test_image_of_padding_alone_is_zero(form: str) -> None:
    module = attention(form)
    mask = torch.ones(BATCH, 13, dtype=torch.bool)
    mask[1] = False
    x = tokens(13).requires_grad_()
    y = module(x, mask)
    assert y[1].eq(0).all()
    y.sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_permuted_tokens_give_permuted_output_and_images_are_independent(form: str) -> None:
    module, x = attention(form), tokens(29)
    order = torch.randperm(29, generator=torch.Generator().manual_seed(2))
    y = module(x)
    assert_close(module(x[:, order]), y[:, order], 1e-10)
    for image in range(BATCH):
        assert_close(module(x[image : image + 1]), y[image : image + 1], 1e-10)


@pytest.mark.parametrize("form", PATHS)
def test_repeating_tokens_leaves_sequence_norm_unchanged_and_shrinks_sima(form: str) -> None:
    """The mechanism behind the abstract's "more so at high resolution": SimA's output falls as 1 / N."""
    x, factor = tokens(17), 7
    repeated = x.repeat_interleave(factor, dim=1)
    module = attention(form)
    assert_close(module(repeated), module(x).repeat_interleave(factor, dim=1), 1e-10)
    sima = attention("sima")
    nn.init.zeros_(sima.out_proj.bias)
    assert_close(sima(repeated) * factor, sima(x).repeat_interleave(factor, dim=1), 1e-10)


@pytest.mark.parametrize("path", ATTENTION_PATHS)
def test_token_mean_is_zero_at_the_start(path: str) -> None:
    module = SequenceNormAttention(HIDDEN, HEADS, path=path).double()
    nn.init.zeros_(module.out_proj.bias)
    y = module(tokens(31))
    assert y.mean(dim=1).abs().max() < 1e-12 * y.abs().max() * 31


@pytest.mark.parametrize("form", PATHS)
def test_what_all_tokens_have_in_common_does_nothing(form: str) -> None:
    """One vector added to every token changes nothing, nor would one added to every query, key or value.

    This is why there is no qkv bias.
    """
    module, x = attention(form), tokens(19)
    offset = torch.randn(HIDDEN, generator=torch.Generator().manual_seed(23), dtype=torch.float64)
    assert_close(module(x + offset), module(x), 1e-10)
    judge = torch.nn.functional.instance_norm
    z = module.qkv(x).transpose(1, 2)
    assert_close(judge(z + torch.randn(3 * HIDDEN, 1, dtype=torch.float64)), judge(z), 1e-10)


@pytest.mark.parametrize("form", PATHS)
def test_one_token_gives_the_beta_terms(form: str) -> None:
    module = attention(form)
    q, k, v = module.affine_bias.unflatten(1, (HEADS, HIDDEN // HEADS))
    expected = module.out_proj(_beta_terms(q, k, v))
    assert_close(module(tokens(1)), expected.expand(BATCH, 1, HIDDEN), 1e-10)


def _beta_terms(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (k^T v) for one token, head by head: the dot product of q and k times v."""
    return torch.cat([(q[h] @ k[h]) * v[h] for h in range(HEADS)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", [*PATHS, "sima"])
def test_low_precision_errs_no_more_than_its_parts(form: str, dtype: torch.dtype) -> None:
    """Stored in half precision, the error against float64 stays within a few of the format's own steps."""
    module, x = attention(form), tokens(211)
    exact = module(x)
    low = attention(form).to(dtype)(x.to(dtype))
    assert low.dtype == dtype
    # weights, tokens and three chained products are each rounded once: eight steps cover them
    assert relative_error(low.double(), exact) < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("path", ATTENTION_PATHS)
def test_long_correlated_bag_is_finite_and_right_in_float16(path: str) -> None:
    """K^T V of a fully correlated channel is N: 70,001 tokens overflow float16 unless scaled before the product."""
    count = 70_001
    x = torch.randn(1, count, 1, generator=torch.Generator().manual_seed(1)).expand(1, count, 2).contiguous()
    module = SequenceNormAttention(2, 1, path=path)
    nn.init.ones_(module.qkv.weight)
    exact = module.double()(x.double())
    low = module.half()(x.half())
    assert low.isfinite().all()
    assert relative_error(low.double(), exact) < 0.02


@pytest.mark.parametrize("form", PATHS)
def test_statistics_are_float32_under_autocast(form: str) -> None:
    """bfloat16 counts to 256: a mean or a variance summed in it over 5,003 tokens would be far off."""
    module, x = attention(form, dtype=torch.float32), tokens(5003).float()
    exact = attention(form)(x.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(x)
    assert y.dtype == torch.bfloat16
    assert relative_error(y.double(), exact) < 8 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize(
    ("hidden_size", "num_heads"), [(35, 4), (0, 1), (7, 0)], ids=["not divisible", "no width", "no head"]
)
@pytest.mark.parametrize("form", FORMS)
def test_refuses_heads_that_do_not_divide(form: str, hidden_size: int, num_heads: int) -> None:
    with pytest.raises(ValueError, match="multiple of num_heads"):
        create(form, hidden_size, num_heads)


@pytest.mark.parametrize("form", FORMS)
def test_refuses_wrong_input(form: str) -> None:
    module, x = attention(form), tokens(5)
    with pytest.raises(ValueError, match="x must have the shape"):
        module(x[0])
    with pytest.raises(ValueError, match="x must have the shape"):
        module(x[..., :-1])
    with pytest.raises(ValueError, match="bool"):
        module(x, torch.ones(BATCH, 5))
    with pytest.raises(ValueError, match="mask must have the shape"):
        module(x, torch.ones(BATCH, 4, dtype=torch.bool))


def test_refuses_unknown_names_and_a_path_where_there_is_none() -> None:
    with pytest.raises(ValueError, match="seqnorm, sima, softmax"):
        create_attention("linear", HIDDEN, HEADS)
    with pytest.raises(ValueError, match="auto, literal, projected, covariance"):
        create_attention("seqnorm", HIDDEN, HEADS, path="fast")
    for kind in ("sima", "softmax"):
        with pytest.raises(ValueError, match="attention_path"):
            create_attention(kind, HIDDEN, HEADS, path="projected")


@pytest.mark.parametrize("form", FORMS)
def test_block_is_prenorm_and_passes_the_mask(form: str) -> None:
    torch.manual_seed(7)
    kind, _, path = form.partition("-")
    block = TransformerBlock(
        hidden_size=HIDDEN, mlp_dim=41, num_heads=HEADS, attention=kind, attention_path=path or "auto"
    ).double()
    x, mask = tokens(13), ragged_mask(13)
    mixed = x + block.attention(block.norm1(x), mask)
    assert_close(block(x, mask), mixed + block.mlp(block.norm2(mixed)), 1e-10)
    assert relative_error(block(x), block(x, mask)) > 1e-3


def test_every_dropout_rests_in_evaluation() -> None:
    block = TransformerBlock(
        hidden_size=HIDDEN, mlp_dim=41, num_heads=HEADS, attention="seqnorm", dropout_rate=0.5, drop_path_rate=0.5
    ).double()
    x = tokens(13)
    block.eval()
    assert torch.equal(block(x), block(x))
    block.train()
    assert any(not torch.equal(block(x), block(x)) for _ in range(5))


def test_comparison_rejects_what_it_must() -> None:
    """The judge's own test: 1 % off, zeros, NaN, another dtype and another shape are all refused."""
    good = tokens(3)
    wrong = [good * 1.01, torch.zeros_like(good), good * float("nan"), good.float(), good[:, :2]]
    for bad, tolerance in itertools.product(wrong, (1e-10, 1e-3)):
        with pytest.raises(AssertionError):
            assert_close(bad, good, tolerance)
    assert_close(good, good, 1e-10)
