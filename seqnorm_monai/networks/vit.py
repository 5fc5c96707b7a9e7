"""The classifier for images and volumes, and the one table of its named sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from inspect import signature

import torch
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from seqnorm_monai.networks.layers import LAYER_NORM_EPS, PatchEmbedding, TransformerBlock
from seqnorm_monai.networks.positions import create_positions


@dataclass(frozen=True)
class Variant:
    """Size of a network: width of a token, width of the MLP, depth and heads."""

    hidden_size: int
    mlp_dim: int
    num_layers: int
    num_heads: int


# DeiT (arXiv 2012.12877, table 1) for tiny and small, ViT (arXiv 2010.11929, table 1) for base
VARIANTS = {
    "tiny": Variant(hidden_size=192, mlp_dim=768, num_layers=12, num_heads=3),
    "small": Variant(hidden_size=384, mlp_dim=1536, num_layers=12, num_heads=6),
    "base": Variant(hidden_size=768, mlp_dim=3072, num_layers=12, num_heads=12),
}


class SeqNormViT(nn.Module):
    """A Vision Transformer (arXiv 2010.11929, pre-norm, class-token read-out) with a choice of attention.

    The kinds of attention differ only in the attention module, so a comparison changes one word. The defaults
    are ViT-S with sequence normalisation (arXiv 2406.01314). Positions are added to the patches only: the class
    token is a learnt vector and carries its own.

    Args:
        in_channels: channels of the image.
        img_size: pixels along each spatial axis for which positions are defined; one number serves all axes.
            Other inputs may be of any multiple of the patch, and are taken for the same field of view.
        patch_size: pixels of a patch along each spatial axis; one number serves all axes. Divides ``img_size``.
        num_classes: number of logits.
        spatial_dims: 2 for images, 3 for volumes.
        hidden_size: C, the width of a token.
        mlp_dim: width of the hidden layer of the MLP.
        num_layers: number of blocks.
        num_heads: heads; divides C.
        attention: ``seqnorm``, ``sima`` or ``softmax``.
        attention_path: how ``seqnorm`` is computed: ``auto``, ``literal``, ``projected`` or ``covariance``; the
            result is the same.
        pos_embed: ``sincos`` (computed for any grid) or ``learnable`` (resampled to it).
        dropout_rate: on the embedded tokens, each attention's output and in the MLPs, only in training.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        recompute_gelu: train with about a third less memory (covariance path), each GELU twice
        (:mod:`seqnorm_monai.networks.mlp`).

    Raises:
        ValueError: for sizes that do not fit together, and for unknown names.
    """

    def __init__(
        self,
        in_channels: int,
        img_size: int | Sequence[int],
        patch_size: int | Sequence[int],
        num_classes: int,
        *,
        spatial_dims: int = 2,
        hidden_size: int = VARIANTS["small"].hidden_size,
        mlp_dim: int = VARIANTS["small"].mlp_dim,
        num_layers: int = VARIANTS["small"].num_layers,
        num_heads: int = VARIANTS["small"].num_heads,
        attention: str = "seqnorm",
        attention_path: str = "auto",
        pos_embed: str = "sincos",
        dropout_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        recompute_gelu: bool = False,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}")
        for name, value in (("in_channels", in_channels), ("num_classes", num_classes), ("num_layers", num_layers)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        image, patch = ensure_tuple_rep(img_size, spatial_dims), ensure_tuple_rep(patch_size, spatial_dims)
        if any(i < 1 or p < 1 or i % p for i, p in zip(image, patch)):
            raise ValueError(f"img_size {image} must be a positive multiple of patch_size {patch} along every axis")
        self.in_channels = in_channels
        self.spatial_dims = spatial_dims
        self.patch_size = list(patch)
        grid_size = tuple(i // p for i, p in zip(image, patch))

        self.patch_embedding = PatchEmbedding(in_channels=in_channels, hidden_size=hidden_size, patch_size=patch)
        self.positions = create_positions(pos_embed, hidden_size=hidden_size, grid_size=grid_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.dropout = nn.Dropout(dropout_rate)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                hidden_size=hidden_size,
                mlp_dim=mlp_dim,
                num_heads=num_heads,
                attention=attention,
                attention_path=attention_path,
                dropout_rate=dropout_rate,
                drop_path_rate=drop_path_rate * layer / max(num_layers - 1, 1),
                recompute_gelu=recompute_gelu,
            )
            for layer in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.head = nn.Linear(hidden_size, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Truncated normal of 0.02 for linear layers and the class token, zero biases: the ViT's usual start."""
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _check(self, x: Tensor) -> None:
        if x.dim() != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"the input must have {self.in_channels} channel(s) and {self.spatial_dims} spatial axes, "
                f"(batch, {self.in_channels}, ...), got the shape {x.shape}"
            )
        for axis, patch in enumerate(self.patch_size):
            size = x.shape[axis + 2]
            if size < patch or size % patch != 0:
                raise ValueError(
                    f"spatial axis {axis} of the input is {size} pixels long, which is not a multiple of the patch "
                    f"({patch}): resize, crop or pad the image, for example with monai.transforms.DivisiblePad"
                )

    def _grid(self, x: Tensor) -> list[int]:
        """Patches along each axis of an input."""
        if not torch.jit.is_tracing():  # a trace keeps no checks, and warns about each
            self._check(x)
        grid: list[int] = []
        for axis, patch in enumerate(self.patch_size):
            grid.append(x.shape[axis + 2] // patch)
        return grid

    def embed(self, x: Tensor) -> Tensor:
        """An image (B, channels, \\*size) to the tokens that enter the first block, (B, 1 + N, C)."""
        grid = self._grid(x)
        tokens = self.patch_embedding(x)
        tokens = tokens + self.positions(grid, tokens)
        cls_token = self.cls_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        return self.dropout(torch.cat([cls_token, tokens], dim=1))

    def forward_features(self, x: Tensor) -> Tensor:
        """An image (B, channels, \\*size) to its final, normalised tokens (B, 1 + N, C), the class token first."""
        tokens = self.embed(x)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def forward(self, x: Tensor) -> Tensor:
        """An image (B, channels, \\*size) to logits (B, num_classes); no activation.

        Raises:
            ValueError: for another number of channels or axes, or a size that is not a multiple of the patch.
        """
        if not torch.jit.is_scripting():
            if self._is_watched():
                return self.head(self.forward_features(x)[:, 0])
        tokens = self.embed(x)
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            # only the class token of the last layer is read
            tokens = block(tokens) if layer < last else block.read_out(tokens)
        return self.head(self.norm(tokens)[:, 0])

    def _is_watched(self) -> bool:
        """Whether a hook wants to see all tokens of the last layer."""
        modules = [self.norm, *self.blocks[-1].modules()]
        return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def create_network(
    variant: str,
    *,
    in_channels: int,
    img_size: int | Sequence[int],
    patch_size: int | Sequence[int],
    num_classes: int,
    **options: str | float,
) -> SeqNormViT:
    """A :class:`SeqNormViT` of a named size.

    Args:
        variant: ``tiny``, ``small`` or ``base`` (:data:`VARIANTS`): it sets ``hidden_size``, ``mlp_dim``,
            ``num_layers`` and ``num_heads``.
        in_channels, img_size, patch_size, num_classes: as in :class:`SeqNormViT`.
        options: any other argument of :class:`SeqNormViT`, such as ``spatial_dims=3`` or ``attention="softmax"``.

    Raises:
        TypeError: for an option that :class:`SeqNormViT` does not have, or that the variant sets.
        ValueError: for another name, and as :class:`SeqNormViT` does.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    sizes = asdict(VARIANTS[variant])
    _check_options(options, sizes)
    return SeqNormViT(in_channels, img_size, patch_size, num_classes, **sizes, **options)


def _check_options(options: dict[str, str | float], sizes: dict[str, int]) -> None:
    for name in options:
        if name in sizes:
            raise TypeError(f"create_network got {name}, which the variant sets: name all sizes to SeqNormViT instead")
        allowed = [argument for argument in signature(SeqNormViT).parameters if argument not in sizes]
        if name not in allowed:
            raise TypeError(f"create_network got an unknown argument {name!r}; it takes variant, {', '.join(allowed)}")
