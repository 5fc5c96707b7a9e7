"""One of several processes that split images between them; started by test_parallel.py, writes down what it found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from seqnorm_monai.attention import layer_map
from seqnorm_monai.networks.vit import SeqNormViT
from seqnorm_monai.streaming import parallel
from seqnorm_monai.streaming.parallel import SequenceParallel, average_gradients, forward_parallel, own_rows
from tests.makers.images import gradient_errors, gradients, relative, streamed_network

WORLD = 4
HIDDEN, LAYERS = 36, 3


def loss_of(logits: Tensor) -> Tensor:
    weights = torch.arange(1, logits.numel() + 1, dtype=logits.dtype).reshape(logits.shape)
    return (weights * logits).sum() + logits.square().sum()


def uneven(rows: int, ranks: int, rank: int) -> slice:
    """One row of patches for each rank but the last, which has the rest."""
    return slice(rank, rank + 1 if rank < ranks - 1 else rows)


def compare(net: SeqNormViT, x: Tensor, group: dist.ProcessGroup | None, rows: slice) -> dict[str, float]:
    """Relative errors of logits and gradients against one process with the whole image."""
    torch.manual_seed(3)
    expected = net(x)
    ordinary = gradients(net, lambda: loss_of(expected).backward())
    # another seed on each process: the coins of drop path have to come from the first
    torch.manual_seed(3 + dist.get_rank(group))
    logits = forward_parallel(net, x[:, :, rows], group)

    def backward() -> None:
        loss_of(logits).backward()
        average_gradients(net, group)

    errors = gradient_errors(gradients(net, backward), ordinary)
    return {"logits": relative(logits, expected), "gradients": max(errors.values())}


def equality(group: dist.ProcessGroup | None) -> dict[str, dict[str, float]]:
    ranks, rank = dist.get_world_size(group), dist.get_rank(group)
    found = {}
    for dtype in (torch.float32, torch.float64):
        for dims, pos in ((2, "learnable"), (3, "sincos")):
            net = streamed_network(dtype, dims, pos, drop_path_rate=0.5).train()
            size, patch = {2: ((44, 232), 4), 3: ((20, 22, 56), 4)}[dims]
            x = torch.randn(2, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(5))
            rows = uneven(size[0] // patch, ranks, rank)
            rows = slice(rows.start * patch, rows.stop * patch)
            found[f"{dtype} {dims}d {pos} uneven"] = compare(net, x, group, rows)
            found[f"{dtype} {dims}d {pos} even"] = compare(net, x, group, own_rows(size[0], patch, group))
    # as if statistics of float32 never were good enough: they are taken again in float64
    net = streamed_network(torch.float32, 2, "sincos").train()
    x = torch.randn(2, 3, 44, 56, generator=torch.Generator().manual_seed(5))
    with mock.patch.object(layer_map, "MAX_CANCELLATION", 0.0):
        found["torch.float32 cancelling"] = compare(net, x, group, own_rows(44, 4, group))
    return found


def counted_bytes(width: int) -> list[int]:
    """Bytes of every sum over the processes, in a forward and a backward pass over one image of this width."""
    net = streamed_network(torch.float32, 2, "sincos").train()
    sizes: list[int] = []
    whole = dist.all_reduce

    def counting(tensor: Tensor, *arguments: object, **options: object) -> object:
        sizes.append(tensor.numel() * tensor.itemsize)
        return whole(tensor, *arguments, **options)

    x = torch.randn(1, 3, 44, width, generator=torch.Generator().manual_seed(5))
    with mock.patch.object(dist, "all_reduce", counting):
        loss_of(forward_parallel(net, x[:, :, own_rows(44, 4)])).backward()
    return sizes


def planted() -> dict[str, float]:
    """Errors of the gradients when each process keeps its share of the statistics' gradient to itself."""
    net = streamed_network(torch.float64, 2, "sincos").train()
    x = torch.randn(1, 3, 44, 232, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    with mock.patch.object(parallel.SumOverProcesses, "backward", staticmethod(lambda ctx, gradient: (gradient, None))):
        return compare(net, x, None, own_rows(44, 4))


def refusals() -> list[str]:
    """Every process refuses where one has a bad band; that this returns at all says that none waits for another."""
    net = streamed_network(torch.float32, 2, "sincos").train()
    messages = []
    for size in ((4, 16), (3, 16), (0, 16)):
        shape = size if dist.get_rank() == 0 else (4, 24)
        try:
            forward_parallel(net, torch.zeros(1, 3, *shape))
        except ValueError as error:
            messages.append(str(error))
    return messages


def distributed_data_parallel(sequence: dist.ProcessGroup) -> dict[str, float]:
    """Two groups with an image each, under DDP, against one process with a batch of both."""
    net = streamed_network(torch.float64, 2, "learnable").train()
    x = torch.randn(2, 3, 44, 56, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    expected = net(x)
    loss = torch.stack([loss_of(logits[None]) for logits in expected]).mean()
    ordinary = gradients(net, loss.backward)
    mine = dist.get_rank() // 2
    wrapped = DistributedDataParallel(SequenceParallel(net, sequence))
    logits = wrapped(x[mine : mine + 1, :, own_rows(44, 4, sequence)])
    errors = gradient_errors(gradients(net, lambda: loss_of(logits).backward()), ordinary)
    return {"logits": relative(logits, expected[mine : mine + 1]), "gradients": max(errors.values())}


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=60))
    found: dict[str, object] = {}
    cases: dict[str, Callable[[], object]] = {}
    pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    three = dist.new_group([0, 1, 2])
    cases["two"] = lambda: equality(pairs[rank // 2])
    cases["three"] = lambda: equality(three) if rank < 3 else {}
    cases["ddp"] = lambda: distributed_data_parallel(pairs[rank // 2])
    cases["bytes"] = lambda: [counted_bytes(56), counted_bytes(232)]
    cases["planted"] = planted
    cases["refusals"] = refusals
    for name, case in cases.items():
        found[name] = case()
    (folder / f"found{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
