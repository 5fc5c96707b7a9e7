"""The tokens of one image split over processes, which tell each other C + C^2 numbers a layer, whatever N is.

Each process holds a band of the image. Everything that couples the tokens is in their mean and covariance, so a layer
sums these over the processes and otherwise sees only its own tokens. Every process computes the class token, but it
counts, in the statistics and in the gradient, only on the first. Works with ``torch.distributed`` as it is::

    torchrun --nproc-per-node 2 train.py

    network = DistributedDataParallel(SequenceParallel(network))
    rows = own_rows(image.shape[2], patch_size=16)
    loss = F.cross_entropy(network(image[:, :, rows]), label)  # the same on every process
    loss.backward()

Gradients: the image's gradient is the **mean over the processes** of what ``backward`` leaves on each. That is what
DistributedDataParallel computes, even if its processes form several groups with an image each; without it
:func:`average_gradients` does. That a layer is a linear map given by the statistics is our reading of arXiv 2406.01314.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from seqnorm_monai.attention.functional import TokenStatistics, merge_statistics
from seqnorm_monai.attention.layer_map import LayerMap, chunk_statistics, layer_map
from seqnorm_monai.attention.modules import SequenceNormAttention
from seqnorm_monai.networks.vit import SeqNormViT
from seqnorm_monai.streaming.tokenwise import apply_block, branch_scales, check_network


class SumOverProcesses(Function):
    """y = sum_r x_r on every process. The loss depends on every process's y, so dx = sum_r dy_r."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        total = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class FirstProcessSpeaks(Function):
    """The first process's x for all. Its loss counts alone, times the number of processes.

    All processes compute the same loss from x. Times their number, because their gradients are averaged afterwards.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.factor = dist.get_world_size(group) if dist.get_rank(group) == 0 else 0
        return _from_first(x.detach().clone(memory_format=torch.contiguous_format), group)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def _from_first(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    dist.broadcast(x, src=dist.get_global_rank(group or dist.group.WORLD, 0), group=group)
    return x


def own_rows(pixels: int, patch_size: int, group: dist.ProcessGroup | None = None) -> slice:
    """This process's band along the first spatial axis, in pixels: whole patches, as evenly as possible.

    Raises:
        ValueError: if the axis is not a multiple of the patch, or has fewer patches than there are processes.
    """
    size, rank = dist.get_world_size(group), dist.get_rank(group)
    rows = pixels // patch_size
    if pixels % patch_size or rows < size:
        raise ValueError(f"{pixels} pixels must be a multiple of the patch ({patch_size}) and {size} patches at least")
    return slice(rows * rank // size * patch_size, rows * (rank + 1) // size * patch_size)


def _grid_and_start(network: SeqNormViT, band: Tensor, group: dist.ProcessGroup | None) -> tuple[list[int], int]:
    """Patches of the whole image along each axis, and the first row of patches of this process.

    Every process sees all shapes, so all refuse together: one that refused alone would leave the others waiting.
    """
    axes = network.spatial_dims
    shape = torch.tensor([band.dim(), *band.shape, *[0] * 5][:6], device=band.device)
    gathered = [torch.empty_like(shape) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, shape, group=group)
    shapes = [tuple(s[1 : 1 + s[0]].tolist()) for s in gathered]
    cut = all(n >= p and n % p == 0 for s in shapes for n, p in zip(s[2:], network.patch_size))
    alike = len({s[:2] + s[3:] for s in shapes}) == 1
    if not cut or not alike or len(shapes[0]) != axes + 2 or shapes[0][1] != network.in_channels:
        raise ValueError(
            f"each process must have a band (batch, {network.in_channels}, ...) of {axes} spatial axes in whole "
            f"patches of {tuple(network.patch_size)}, and they may differ only in the first spatial axis; got {shapes}"
        )
    rows = [s[2] // network.patch_size[0] for s in shapes]
    others = [n // p for n, p in zip(shapes[0][3:], network.patch_size[1:])]
    return [sum(rows), *others], sum(rows[: dist.get_rank(group)])


def _scales(network: SeqNormViT, batch: int, group: dist.ProcessGroup | None) -> list[tuple[Tensor, Tensor]]:
    """The coins of drop path, which the first process tosses for all."""
    scales = branch_scales(network, batch)
    if any(block.drop_path.training and block.drop_path.drop_prob > 0 for block in network.blocks):
        shared = _from_first(torch.stack([torch.stack(pair) for pair in scales]), group)
        return [(attention, mlp) for attention, mlp in shared]
    return scales


def global_statistics(local: TokenStatistics, total: int, group: dist.ProcessGroup | None) -> TokenStatistics:
    """Statistics of all processes' tokens, from those of each: C and then C^2 numbers for each image are summed.

    ::

        m = sum_r (n_r / N) m_r,   S = sum_r (n_r / N) (S_r + (m_r - m)(m_r - m)^T)

    :func:`seqnorm_monai.attention.functional.merge_statistics` for any number of parts. Centred before the product,
    hence two rounds. Differentiable on every process.
    """
    share = (local.count.to(local.mean.dtype) / total).unsqueeze(1)
    mean = SumOverProcesses.apply(share * local.mean, group)
    step = local.mean - mean
    spread = local.covariance + step.unsqueeze(2) * step.unsqueeze(1)
    covariance = SumOverProcesses.apply(share.unsqueeze(2) * spread, group)
    return TokenStatistics(torch.full_like(local.count, total), mean, covariance)


def _shared_map(
    attention: SequenceNormAttention, cls_token: Tensor, tokens: Tensor, total: int, group: dist.ProcessGroup | None
) -> LayerMap:
    """A layer's map from what its attention sees; in float64 where float32 would not do, on all processes alike.

    The sums are the same to the bit everywhere (torch.distributed says so), and so is the decision.
    """
    for wide in (tokens.dtype == torch.float64, True):
        of_class = chunk_statistics(cls_token, wide=wide)
        # it counts on the first process only, but is in every graph: all must take part in the same backward sums
        of_class = of_class._replace(count=of_class.count * (dist.get_rank(group) == 0))
        local = merge_statistics(chunk_statistics(tokens, wide=wide), of_class)
        mapped, trusted = layer_map(attention, global_statistics(local, total, group))
        if trusted or wide:
            break
    return mapped


def forward_parallel(network: SeqNormViT, band: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Logits of images whose rows are split over the processes of a group; ``network(whole image)`` up to rounding.

    Differentiable; see the module for what gradients mean. Each layer sums B (C + C^2) numbers of float64 over the
    processes forward, and as many backward.

    Args:
        network: with the attention ``seqnorm`` and no dropout; the same weights on every process.
        band: this process's part, (B, channels, \\*size): the bands, in the order of the ranks, make up the images
            along the first spatial axis. They need not be of one height, and ``batch`` is the same everywhere.
        group: the processes; all if None.

    Returns:
        (B, num_classes) on every process, to the bit; no activation.

    Raises:
        TypeError, ValueError: for a network that cannot be split, and, on all processes, for bands that do not fit.
    """
    check_network(network)
    grid, start = _grid_and_start(network, band, group)
    total = 1 + torch.Size(grid).numel()
    size = tuple(n // p for n, p in zip(band.shape[2:], network.patch_size))
    tokens = network.patch_embedding(band)
    tokens = tokens + network.positions.region(grid, (start, *[0] * (len(grid) - 1)), size, tokens)
    cls_token = network.cls_token.expand(band.shape[0], -1, -1)
    scales = _scales(network, band.shape[0], group)
    for layer, block in enumerate(network.blocks):
        mapped = _shared_map(block.attention, block.norm1(cls_token), block.norm1(tokens), total, group)
        cls_token = apply_block(block, cls_token, mapped, scales[layer])
        if layer < len(network.blocks) - 1:  # nothing is read from the last layer's other tokens
            tokens = apply_block(block, tokens, mapped, scales[layer])
    return FirstProcessSpeaks.apply(network.head(network.norm(cls_token)[:, 0]), group)


class SequenceParallel(nn.Module):
    """:func:`forward_parallel` as a module, for DistributedDataParallel and for optimisers.

    Args:
        network: with the attention ``seqnorm`` and no dropout.
        group: processes that share an image; all if None.
    """

    def __init__(self, network: SeqNormViT, group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        check_network(network)
        self.network = network
        self.group = group

    def forward(self, band: Tensor) -> Tensor:
        return forward_parallel(self.network, band, self.group)


def average_gradients(module: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Replace every ``grad`` by its mean over the processes, the gradient of their images; without DDP, that is.

    Args:
        module: after ``backward``.
        group: all processes that train it, one group for each image or several; all if None.
    """
    for parameter in module.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad, group=group)
            parameter.grad /= dist.get_world_size(group)
