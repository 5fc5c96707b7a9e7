"""The gradient of one streamed image: that of the ordinary backward pass, whatever the chunks and the store."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqnorm_monai.networks.vit import create_network
from seqnorm_monai.streaming import training as streaming_training
from seqnorm_monai.streaming.forward import stream_forward
from seqnorm_monai.streaming.training import stream_backward
from tests.makers.images import gradient_errors, gradients, image_of, relative, streamed_network

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}

pytestmark = pytest.mark.usefixtures("one_thread")


def loss_of(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.tensor([3])) + logits.square().mean()


def errors_of(dtype: torch.dtype, dims: int, pos: str, num_layers: int, **options: object) -> dict[str, float]:
    net = streamed_network(dtype, dims, pos, num_layers=num_layers, drop_path_rate=0.5).train()
    x, image = image_of(dtype, dims)
    torch.manual_seed(3)
    loss = loss_of(net(x))
    expected = gradients(net, loss.backward)
    torch.manual_seed(3)
    losses = []
    ours = gradients(net, lambda: losses.append(stream_backward(net, image, loss_of, progress=False, **options)))
    assert relative(losses[0], loss) <= TOLERANCES[dtype]
    return gradient_errors(ours, expected)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("dims", "pos"), [(2, "sincos"), (2, "learnable"), (3, "sincos"), (3, "learnable")])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_equals_the_ordinary_backward(dtype: torch.dtype, dims: int, pos: str, num_layers: int, tmp_path: Path) -> None:
    """Every parameter, with the same coins of drop path after the same seed."""
    for chunk_tokens, store in ((47, None), (47, tmp_path), (5000, None)):
        errors = errors_of(dtype, dims, pos, num_layers, chunk_tokens=chunk_tokens, store=store)
        assert max(errors.values()) <= TOLERANCES[dtype], errors
    assert list(tmp_path.iterdir()) == []


def test_chunks_of_one_token() -> None:
    net = streamed_network(torch.float64, num_layers=2).train()
    x, image = image_of(torch.float64)
    x, image = x[..., :56], image[:, :56]
    expected = gradients(net, lambda: loss_of(net(x)).backward())
    ours = gradients(net, lambda: stream_backward(net, image, loss_of, chunk_tokens=1, progress=False))
    assert max(gradient_errors(ours, expected).values()) <= 1e-9


@pytest.mark.parametrize("fault", ["statistics", "mean", "last chunk"])
def test_planted_faults_are_seen(fault: str) -> None:
    """Forgetting what tokens owe to the covariance, or to the mean, or a chunk of them."""
    share = streaming_training.StatisticsGradient
    if fault == "last chunk":
        chunks = streaming_training.Stream.chunks
        patch = mock.patch.object(streaming_training.Stream, "chunks", lambda *a: list(chunks(*a))[:-1])
    elif fault == "mean":
        # the deviations sum to 0, so that what is left of a missing mean is the output's offset
        broken = lambda self, tokens: share.__call__(self, tokens) - self.bias.to(tokens)  # noqa: E731
        patch = mock.patch.object(
            streaming_training, "StatisticsGradient", type("Broken", (share,), {"__call__": broken})
        )
    else:
        broken = lambda self, tokens: torch.zeros_like(tokens)  # noqa: E731
        patch = mock.patch.object(
            streaming_training, "StatisticsGradient", type("Broken", (share,), {"__call__": broken})
        )
    with patch:
        net = streamed_network(torch.float64).train()
        x, image = image_of(torch.float64)
        expected = gradients(net, lambda: loss_of(net(x)).backward())
        ours = gradients(net, lambda: stream_backward(net, image, loss_of, chunk_tokens=47, progress=False))
    assert max(gradient_errors(ours, expected).values()) > 1e-3


def test_gradients_are_added_and_frozen_weights_stay_frozen() -> None:
    net = streamed_network(torch.float64).train()
    x, image = image_of(torch.float64)
    frozen = [net.patch_embedding.projection.weight, net.cls_token, *net.blocks[0].parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
    for _ in range(2):
        loss_of(net(x)).backward()
    expected = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
    net.zero_grad()
    for _ in range(2):
        stream_backward(net, image, loss_of, chunk_tokens=47, progress=False)
    ours = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
    assert max(gradient_errors(ours, expected).values()) <= 1e-9
    assert all(parameter.grad is None for parameter in frozen)


def test_a_step_that_breaks_off_leaves_gradients_as_they_were(tmp_path: Path) -> None:
    net, (_, image) = streamed_network(torch.float64).train(), image_of(torch.float64)
    loss_of(net(image_of(torch.float64)[0])).backward()
    before = {name: p.grad.clone() for name, p in net.named_parameters()}
    with (
        mock.patch.object(streaming_training.Backward, "embedding", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        stream_backward(net, image, loss_of, chunk_tokens=47, progress=False, store=tmp_path)
    assert all(torch.equal(p.grad, before[name]) for name, p in net.named_parameters())
    assert list(tmp_path.iterdir()) == []


def test_an_optimiser_learns_from_it() -> None:
    net, (_, image) = streamed_network(torch.float32).train(), image_of(torch.float32)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        optimiser.zero_grad()
        losses.append(float(stream_backward(net, image, loss_of, chunk_tokens=47, progress=False)))
        optimiser.step()
    assert losses[-1] < losses[0]


def test_refusals() -> None:
    net, (_, image) = streamed_network(torch.float32).train(), image_of(torch.float32)
    with pytest.raises(ValueError, match="the loss must be one number"):
        stream_backward(net, image, lambda logits: logits, progress=False)
    with pytest.raises(ValueError, match="dropout_rate must be 0 in training mode"):
        stream_backward(streamed_network(torch.float32, dropout_rate=0.1).train(), image, loss_of, progress=False)


def test_at_1024_pixels() -> None:
    """ViT-Ti/16 in float32, against the ordinary step."""
    torch.manual_seed(0)
    net = create_network("tiny", in_channels=1, img_size=1024, patch_size=16, num_classes=5)
    pixels = np.random.default_rng(5).random((1024, 1024), dtype=np.float32)
    expected = gradients(net, lambda: loss_of(net(torch.from_numpy(pixels)[None, None])).backward())
    ours = gradients(net, lambda: stream_backward(net, pixels, loss_of, chunk_tokens=1009, progress=False))
    assert max(gradient_errors(ours, expected).values()) <= 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(tmp_path: Path) -> None:
    """The network on the device, the tokens in memory or on disk."""
    net, (x, image) = streamed_network(torch.float64).train(), image_of(torch.float64)
    expected = gradients(net, lambda: net(x).square().mean().backward())
    logits = net(x).detach()
    net.cuda()
    for store in (None, tmp_path):
        options = {"progress": False, "store": store}
        assert relative(stream_forward(net, image, **options).cpu(), logits) <= 1e-9
        net.zero_grad()
        stream_backward(net, image, lambda z: z.square().mean(), **options)
        ours = {name: parameter.grad.cpu() for name, parameter in net.named_parameters()}
        assert max(gradient_errors(ours, expected).values()) <= 1e-9
