"""The transformer block in chunks against the same block in one piece, and the mixing's gradients in a graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from seqnorm_monai.attention import layer_map
from seqnorm_monai.attention.modules import SequenceNormAttention
from seqnorm_monai.networks import layers, mlp
from seqnorm_monai.networks.layers import TransformerBlock
from tests.makers.compare import assert_close, relative_error

HIDDEN, WIDTH, HEADS = 10, 23, 2


def block(path: str = "covariance", dtype: torch.dtype = torch.float64) -> TransformerBlock:
    torch.manual_seed(1)
    sizes = {"hidden_size": HIDDEN, "mlp_dim": WIDTH, "num_heads": HEADS}
    made = TransformerBlock(**sizes, attention="seqnorm", attention_path=path)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made.eval().to(dtype)


class OtherMLP(nn.Module):
    """Put in the place of a block's MLP."""

    def __init__(self, seen: list[int]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.shape[1])
        return x


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Chunks of 307 tokens for one image; the sizes that the MLP saw."""
    monkeypatch.setattr(mlp, "CHUNK_NUMBERS", 307 * WIDTH)
    seen: list[int] = []
    monkeypatch.setattr(
        layers.MLP, "forward", lambda self, x: (seen.append(x.shape[1]), layers.MLP._forward_in_chunks(self, x))[1]
    )
    return seen


def in_one_piece(made: TransformerBlock, x: Tensor) -> Tensor:
    """With a gradient asked for, the block runs as it is written."""
    with torch.enable_grad():
        return made(x).detach()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("path", ["auto", "covariance"])
def test_chunks_equal_one_piece(path: str, batch: int, small_chunks: list[int]) -> None:
    made = block(path)
    x = 7.0 + torch.randn(batch, 1009, HIDDEN, dtype=torch.float64)
    whole = in_one_piece(made, x)
    assert small_chunks == [1009]
    before = x.clone()
    with torch.inference_mode():
        assert_close(made(x), whole, 1e-11)
    assert small_chunks[1:] == batch * [307, 307, 307, 88]
    assert torch.equal(x, before)


@pytest.mark.parametrize("case", ["literal", "mask", "training", "half", "autocast", "hook", "softmax", "mlp"])
def test_other_cases_stay_in_one_piece(case: str, small_chunks: list[int]) -> None:
    made = block("literal" if case == "literal" else "covariance")
    if case == "softmax":
        made.attention = layers.create_attention("softmax", HIDDEN, HEADS).double()
    if case == "mlp":
        made.mlp = OtherMLP(small_chunks)
    if case == "training":
        made.train()
    if case == "hook":
        made.attention.register_forward_hook(lambda module, inputs, output: None)
    if case in ("half", "autocast"):
        made.to(torch.bfloat16 if case == "half" else torch.float32)
    dtype = next(made.parameters()).dtype
    x = torch.randn(1, 1009, HIDDEN, dtype=dtype)
    mask = torch.ones(1, 1009, dtype=torch.bool) if case == "mask" else None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        made(x, mask)
    assert small_chunks == [1009]


def test_statistics_are_taken_again_in_float64_where_terms_cancel(small_chunks: list[int]) -> None:
    """Queries, keys and values of the direction in which the tokens hardly differ."""
    made = block(dtype=torch.float32)
    x = torch.randn(1, 1009, HIDDEN)
    x[:, :, 1] = x[:, :, 0] + 1e-3 * x[:, :, 1]
    with torch.no_grad():
        made.norm1.weight.fill_(1.0)
        made.norm1.bias.zero_()
        made.attention.qkv.weight.zero_()
        made.attention.qkv.weight[:, 0], made.attention.qkv.weight[:, 1] = 1.0, -1.0
        made.attention.qkv.weight += 1e-4 * torch.randn_like(made.attention.qkv.weight)
        ours = made(x)
        wide = block().double()
        wide.load_state_dict(made.state_dict())
        exact = in_one_piece(wide, x.double())
        plain = relative_error(in_one_piece(made, x).double(), exact)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layer_map, "MAX_CANCELLATION", float("inf"))
            trusting = relative_error(made(x).double(), exact)
    assert relative_error(ours.double(), exact) < 1.5 * plain
    assert trusting > 5 * plain


@pytest.mark.parametrize("masked", [False, True])
def test_mixing_by_hand_has_the_gradients_of_the_plain_operations(masked: bool) -> None:
    """A scripted module runs the plain operations, the eager one the function with its own backward pass."""
    torch.manual_seed(2)
    eager = SequenceNormAttention(HIDDEN, HEADS, path="projected").double()
    with torch.no_grad():
        for parameter in eager.parameters():
            parameter.normal_()
    x = torch.randn(3, 11, HIDDEN, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(3, 11) < 0.7 if masked else None
    weights = torch.randn(3, 11, HIDDEN, dtype=torch.float64)
    results = []
    for module in (eager, torch.jit.script(eager)):
        y = module(x, mask)
        results.append((y, *torch.autograd.grad(y, (x, *eager.parameters()), weights)))
    for ours, plain in zip(*results, strict=True):
        assert_close(ours, plain, 1e-12)
