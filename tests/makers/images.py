"""What the tests of streaming, training by streaming and splitting share: one small network, and its gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from seqnorm_monai.networks.vit import SeqNormViT
from tests.makers.compare import relative_error

CLASSES = 5
PATCHES = {2: (4, 8), 3: (4, 2, 8)}
NATIVE = {2: (20, 56), 3: (12, 10, 56)}
# grids of 11 x 29 and 5 x 11 x 7, other than the native ones
SIZES = {2: (44, 232), 3: (20, 22, 56)}


def streamed_network(
    dtype: torch.dtype, spatial_dims: int = 2, pos_embed: str = "sincos", *, num_layers: int = 3, **options: object
) -> SeqNormViT:
    """A small network whose every parameter matters: none is at its zero or one of the start."""
    torch.manual_seed(17)
    net = SeqNormViT(
        in_channels=3,
        img_size=NATIVE[spatial_dims],
        patch_size=PATCHES[spatial_dims],
        num_classes=CLASSES,
        spatial_dims=spatial_dims,
        hidden_size=36,
        mlp_dim=53,
        num_layers=num_layers,
        num_heads=3,
        pos_embed=pos_embed,
        **options,
    )
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net.to(dtype)


def image_of(dtype: torch.dtype, spatial_dims: int = 2) -> tuple[Tensor, np.ndarray]:
    """One image as a network takes it, and the same as an array with channels last."""
    x = torch.randn(1, 3, *SIZES[spatial_dims], dtype=dtype, generator=torch.Generator().manual_seed(19))
    return x, x[0].movedim(0, -1).numpy()


def gradients(net: nn.Module, backward: Callable[[], object]) -> dict[str, Tensor]:
    """The gradients that a call leaves, by name."""
    net.zero_grad()
    backward()
    return {name: parameter.grad.clone() for name, parameter in net.named_parameters()}


def gradient_errors(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Relative errors by name. norm1.bias moves all tokens alike, so its gradient is 0 up to rounding (it cancels in
    the mean): its error is measured by the gradient of norm1.weight."""
    assert ours.keys() == expected.keys()
    errors = {}
    for name, gradient in ours.items():
        assert gradient.isfinite().all(), name
        scale = expected[name.replace("norm1.bias", "norm1.weight")].norm()
        errors[name] = ((gradient - expected[name]).norm() / scale).item() if scale else gradient.norm().item()
    return errors


def relative(ours: Tensor, expected: Tensor) -> float:
    assert ours.shape == expected.shape
    assert ours.dtype == expected.dtype
    return relative_error(ours.detach(), expected.detach())
