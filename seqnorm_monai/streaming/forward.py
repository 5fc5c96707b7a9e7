"""One image larger than memory through a trained network, exactly: one pass over its tokens for each layer.

Everything that couples the tokens of a layer is in their mean and covariance, which add up over chunks. So one
pass reads the tokens chunk by chunk, applies the layer's linear map, the residual and the MLP, writes them back, and
collects from the result what the next layer needs. The class token is row 0 of the stored tokens, one like all
others. The last layer is applied only to the class token, because nothing else is read from it. That a layer
is a linear map given by the statistics is our reading of arXiv 2406.01314 (see
:mod:`seqnorm_monai.attention.functional`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from seqnorm_monai.attention.functional import TokenStatistics
from seqnorm_monai.attention.layer_map import LayerMap, StatisticsSum, layer_map
from seqnorm_monai.images.slides.regions import RegionImage, opened
from seqnorm_monai.networks.vit import SeqNormViT
from seqnorm_monai.streaming.resume import ResumeFile, fingerprint
from seqnorm_monai.streaming.tiles import Prepare, read_tile, tiles
from seqnorm_monai.streaming.token_store import TokenStore, TokenStores
from seqnorm_monai.streaming.tokenwise import apply_block, branch_scales, check_network

CHUNK_TOKENS = 4096  # their MLP's hidden layer, 12 MiB for ViT-Ti, stays in a last-level cache


@dataclass
class Stream:
    """One image on its way through one network: what every pass over the tokens needs."""

    network: SeqNormViT
    image: RegionImage
    prepare: Prepare | None
    chunk_tokens: int
    bar: tqdm

    def __post_init__(self) -> None:
        network, axes = self.network, self.network.spatial_dims
        shape = tuple(self.image.shape)
        channels = shape[axes] if len(shape) == axes + 1 else 1
        if len(shape) not in (axes, axes + 1) or (self.prepare is None and channels != network.in_channels):
            raise ValueError(
                f"the image must have {axes} spatial axes and then {network.in_channels} channel(s), got {shape}"
            )
        for axis, (pixels, patch) in enumerate(zip(shape, network.patch_size)):
            if pixels < patch or pixels % patch:
                raise ValueError(
                    f"spatial axis {axis} of the image is {pixels} pixels long, which is not a multiple of the patch "
                    f"({patch}): CroppedImage(image, {tuple(network.patch_size)}) leaves the rest out"
                )
        if self.chunk_tokens < 1:
            raise ValueError(f"chunk_tokens must be at least 1, got {self.chunk_tokens}")
        self.grid = tuple(pixels // patch for pixels, patch in zip(shape, network.patch_size))
        self.tokens = 1 + torch.Size(self.grid).numel()

    def embedded(self) -> Iterator[tuple[int, Tensor]]:
        """The tokens of the first layer, by chunks, each with its row in the store: the class token, then the tiles."""
        network, row = self.network, 1
        yield 0, network.cls_token
        self.bar.update(1)
        for start, size in tiles(self.grid, self.chunk_tokens):
            pixels = [tuple(n * p for n, p in zip(part, network.patch_size)) for part in (start, size)]
            tile = read_tile(self.image, *pixels, prepare=self.prepare, like=network.cls_token)
            tokens = network.patch_embedding(tile)
            tokens = tokens + network.positions.region(list(self.grid), start, size, tokens)
            yield row, tokens
            row += tokens.shape[1]
            self.bar.update(tokens.shape[1])

    def chunks(self, store: TokenStore) -> Iterator[tuple[int, Tensor]]:
        """Stored tokens, by chunks, each with its row."""
        for row in range(0, self.tokens, self.chunk_tokens):
            stop = min(row + self.chunk_tokens, self.tokens)
            yield row, store.read(row, stop).to(self.network.cls_token.device)
            self.bar.update(stop - row)

    def embed(self, store: TokenStore) -> TokenStatistics:
        """Write the tokens of the first layer; the statistics of what its attention sees."""
        total = StatisticsSum()
        for row, tokens in self.embedded():
            store.write(row, tokens)
            total.add(self.network.blocks[0].norm1(tokens))
        return total.total

    def map(self, layer: int, statistics: TokenStatistics, store: TokenStore) -> tuple[LayerMap, TokenStatistics]:
        """A layer's map and the statistics it is made of, which are taken again in float64 where they have to be."""
        block = self.network.blocks[layer]
        mapped, trusted = layer_map(block.attention, statistics)
        if trusted or self.network.cls_token.dtype == torch.float64:
            return mapped, statistics
        total = StatisticsSum()
        self.bar.total += self.tokens
        for _, tokens in self.chunks(store):
            total.add(block.norm1(tokens), wide=True)
        return layer_map(block.attention, total.total)[0], total.total

    def advance(
        self, layer: int, mapped: LayerMap, scales: tuple[Tensor, Tensor], source: TokenStore, target: TokenStore
    ) -> TokenStatistics:
        """One layer, chunk by chunk, from one store to the other; the statistics of what the next attention sees."""
        block, following = self.network.blocks[layer], self.network.blocks[layer + 1]
        total = StatisticsSum()
        for row, tokens in self.chunks(source):
            tokens = apply_block(block, tokens, mapped, scales)
            target.write(row, tokens)
            total.add(following.norm1(tokens))
        return total.total

    def read_out(self, mapped: LayerMap, scales: tuple[Tensor, Tensor], cls_token: Tensor) -> Tensor:
        """The last layer for the class token (1, 1, C), and the logits (1, num_classes)."""
        features = apply_block(self.network.blocks[-1], cls_token, mapped, scales)
        return self.network.head(self.network.norm(features)[:, 0])


def passes(network: SeqNormViT, tokens: int) -> int:
    """Tokens that a forward pass reads: the image once, and every layer's input but the last's."""
    return tokens * len(network.blocks)


@torch.no_grad()
def stream_forward(
    network: SeqNormViT,
    image: object,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    prepare: Prepare | None = None,
    store: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Tensor:
    """Logits of one image, equal to ``network(image)`` up to rounding, without ever holding it.

    Memory or disk for the tokens: (1 + N) * C * 4 bytes (float32) once, twice with ``resume``; and one chunk.

    Args:
        network: with the attention ``seqnorm``; on a GPU too, while the tokens wait in memory or on disk.
        image: array, memory map, ``.npy`` or tiled TIFF file, or any object with ``shape`` and ``read``; see
            :mod:`seqnorm_monai.images.slides.regions`. Each size is a multiple of the patch. A file is closed at the
            end; an object of yours stays open.
        chunk_tokens: tokens that are computed at a time; results do not depend on it.
        prepare: makes network input of a tile (1, channels, \\*size) of raw pixels, each pixel by itself.
        store: folder for the tokens; they stay in memory if None.
        resume: keep what the finished layers left in ``store`` if the run breaks off, even by a kill, and go on from
            there: two token files and ``resume.pt``. One run at a time for each folder. Without it nothing remains
            of a run that breaks off.
        progress: show a bar.

    Returns:
        (1, num_classes); no activation.

    Raises:
        TypeError, ValueError: for a network or an image that cannot be streamed; with ``resume``, if what lies in
            ``store`` belongs to another network or image.
    """
    check_network(network)
    if resume and store is None:
        raise ValueError("resume needs a store: a folder in which the tokens survive")
    folder = None if store is None else Path(store)
    like, last = network.cls_token, len(network.blocks) - 1
    with opened(image) as region, tqdm(unit="token", unit_scale=True, disable=not progress) as bar:
        stream = Stream(network, region, prepare, chunk_tokens, bar)
        bar.reset(passes(network, stream.tokens))
        saved = ResumeFile(folder, fingerprint(network, stream.image, prepare)) if resume else None
        layer, statistics = saved.load() if saved else (-1, None)
        with TokenStores(
            folder, tokens=stream.tokens, hidden_size=like.shape[2], dtype=like.dtype, slots=1 + resume, named=resume
        ) as stores:
            if layer >= 0:
                stores.require(layer)
            scales = branch_scales(network, 1)
            bar.update((layer + 1) * stream.tokens)
            while layer < last:
                if layer < 0:
                    statistics = stream.embed(stores[0])
                else:
                    mapped, _ = stream.map(layer, statistics, stores[layer])
                    statistics = stream.advance(layer, mapped, scales[layer], stores[layer], stores[layer + 1])
                layer += 1
                if saved:
                    stores[layer].flush()
                    saved.save(layer, statistics)
            mapped, _ = stream.map(last, statistics, stores[last])
            logits = stream.read_out(mapped, scales[last], stores[last].read(0, 1).to(like.device))
        if saved:
            saved.remove()
            stores.remove_files()
        return logits
