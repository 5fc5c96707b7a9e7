"""One image through a network by chunks: the same logits, from every kind of image and store, also after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from seqnorm_monai.attention import layer_map
from seqnorm_monai.images.slides.regions import CroppedImage
from seqnorm_monai.networks.positions import create_positions
from seqnorm_monai.streaming import forward as streaming
from seqnorm_monai.streaming import tokenwise
from seqnorm_monai.streaming.forward import stream_forward
from seqnorm_monai.streaming.tiles import tiles
from tests.makers.bundles import ROOT
from tests.makers.compare import assert_close
from tests.makers.images import NATIVE, PATCHES, image_of, relative, streamed_network

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}

pytestmark = pytest.mark.usefixtures("one_thread")


def quiet(net: torch.nn.Module, image: object, **options: object) -> Tensor:
    return stream_forward(net, image, progress=False, **options)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("dims", "pos"), [(2, "sincos"), (2, "learnable"), (3, "sincos"), (3, "learnable")])
def test_equals_the_ordinary_forward(dtype: torch.dtype, dims: int, pos: str, tmp_path: Path) -> None:
    """Chunks of a size that divides nothing, and of everything; in memory, on disk, resumable."""
    net = streamed_network(dtype, dims, pos).eval()
    x, image = image_of(dtype, dims)
    with torch.no_grad():
        expected = net(x)
    for chunk_tokens in (47, 5000):
        assert_close(quiet(net, image, chunk_tokens=chunk_tokens), expected, TOLERANCES[dtype])
    assert_close(quiet(net, image, chunk_tokens=47, store=tmp_path), expected, TOLERANCES[dtype])
    assert_close(quiet(net, image, chunk_tokens=47, store=tmp_path, resume=True), expected, TOLERANCES[dtype])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_layers", [1, 2])
def test_few_layers_and_chunks_of_one_token(num_layers: int) -> None:
    net = streamed_network(torch.float64, num_layers=num_layers).eval()
    x, image = image_of(torch.float64)
    x, image = x[..., :56], image[:, :56]
    assert_close(quiet(net, image, chunk_tokens=1), net(x).detach(), 1e-10)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("pos", ["sincos", "learnable"])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_positions_of_a_region_are_those_of_the_grid(dtype: torch.dtype, dims: int, pos: str) -> None:
    native = tuple(n // p for n, p in zip(NATIVE[dims], PATCHES[dims]))
    # the place of a patch between learnt ones, up to 20, is rounded before it is split
    tolerance = 5e-6 if dtype == torch.float32 else 1e-13
    positions = create_positions(pos, hidden_size=36, grid_size=native).to(dtype)
    like = torch.zeros(1, dtype=dtype)
    for grid in (native, (11, 29, 7)[:dims], (2, 3, 2)[:dims]):
        whole = positions(list(grid), like)[0].unflatten(0, grid)
        for start, size in tiles(grid, 7):
            part = whole[tuple(slice(s, s + n) for s, n in zip(start, size))]
            ours = positions.region(list(grid), start, size, like)
            assert_close(ours.detach(), part.reshape(1, -1, 36).detach(), tolerance)


def test_tiles_cover_the_grid_once() -> None:
    seen = np.zeros((11, 29), dtype=int)
    for start, size in tiles((11, 29), 47):
        assert np.prod(size) <= 47
        seen[tuple(slice(s, s + n) for s, n in zip(start, size))] += 1
    assert (seen == 1).all()


def test_statistics_are_taken_again_where_float32_cancels() -> None:
    """Tokens that hardly differ from each other, so that a variance is the small difference of large terms."""
    net = streamed_network(torch.float32).eval()
    with torch.no_grad():
        net.blocks[1].attention.qkv.weight[5] = 1e-3 * torch.randn(36) + 1.0  # norm1 of ones would be null
        net.blocks[1].norm1.weight.fill_(1.0)
    x, image = image_of(torch.float32)
    wide = []
    with mock.patch.object(layer_map, "chunk_statistics", wraps=layer_map.chunk_statistics) as taken:
        logits = quiet(net, image, chunk_tokens=47)
        wide = [call.kwargs["wide"] for call in taken.call_args_list]
    assert any(wide) and not all(wide)
    expected = streamed_network(torch.float64).eval()
    expected.load_state_dict(net.state_dict())
    assert relative(logits.double(), expected(x.double())) < 1e-5


def _fail_after(count: int, error: type[BaseException]) -> mock._patch:
    """Applying a block fails in the middle of a layer, at its call number ``count``."""
    calls = iter(range(count))

    def apply_block(*arguments: object) -> Tensor:
        if next(calls, None) is None:
            raise error
        return tokenwise.apply_block(*arguments)

    return mock.patch.object(streaming, "apply_block", apply_block)


@pytest.mark.parametrize("count", [0, 3, 8, 13, 14])
def test_a_run_that_breaks_off_goes_on_from_its_last_layer(tmp_path: Path, count: int) -> None:
    """320 tokens in chunks of 47 are 7 calls a layer; two layers, then one call for the class token."""
    net = streamed_network(torch.float64).eval()
    x, image = image_of(torch.float64)
    options = {"chunk_tokens": 47, "store": tmp_path, "resume": True}
    with _fail_after(count, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        quiet(net, image, **options)
    assert {path.name for path in tmp_path.iterdir()} >= {"resume.pt", "tokens.0"}
    with mock.patch.object(streaming, "apply_block", wraps=tokenwise.apply_block) as applied:
        assert_close(quiet(net, image, **options), net(x).detach(), 1e-10)
    assert applied.call_count == 15 - count // 7 * 7
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_layer_would_be_seen(tmp_path: Path) -> None:
    """The same with one file for input and output instead of two: the planted fault that two files are there for."""
    net = streamed_network(torch.float64).eval()
    x, image = image_of(torch.float64)
    options = {"chunk_tokens": 47, "store": tmp_path, "resume": True}
    stores = streaming.TokenStores
    with mock.patch.object(streaming, "TokenStores", lambda *a, **k: stores(*a, **{**k, "slots": 1})):
        with _fail_after(10, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            quiet(net, image, **options)
        assert relative(quiet(net, image, **options), net(x)) > 1e-3


KILLED = """
import os, signal, sys
import torch
from seqnorm_monai.streaming import forward as streaming
from seqnorm_monai.streaming import tokenwise
from tests.makers.images import image_of, streamed_network
calls = iter(range(10))
def apply_block(*arguments):
    if next(calls, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return tokenwise.apply_block(*arguments)
streaming.apply_block = apply_block
net = streamed_network(torch.float64).eval()
for resume in eval(sys.argv[2]):
    streaming.stream_forward(net, image_of(torch.float64)[1], chunk_tokens=47, store=sys.argv[1], resume=resume)
"""


@pytest.mark.parametrize("resume", [True, False])
def test_a_killed_process(tmp_path: Path, resume: bool) -> None:
    """Nothing remains of it, or what the next one goes on from."""
    command = [sys.executable, "-c", KILLED, str(tmp_path), f"[{resume}]"]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert {path.name for path in tmp_path.iterdir()} == ({"resume.pt", "tokens.0", "tokens.1"} if resume else set())
    if resume:
        net = streamed_network(torch.float64).eval()
        x, image = image_of(torch.float64)
        with mock.patch.object(streaming, "apply_block", wraps=tokenwise.apply_block) as applied:
            ours = quiet(net, image, chunk_tokens=47, store=tmp_path, resume=True)
        assert_close(ours, net(x).detach(), 1e-10)
        assert applied.call_count == 8


def test_resuming_refuses_a_lost_token_file(tmp_path: Path) -> None:
    net, (_, image) = streamed_network(torch.float64).eval(), image_of(torch.float64)
    options = {"chunk_tokens": 47, "store": tmp_path, "resume": True}
    with _fail_after(10, RuntimeError), pytest.raises(RuntimeError):
        quiet(net, image, **options)
    (tmp_path / "tokens.1").unlink()
    with pytest.raises(ValueError, match=r"tokens.1 has 0 bytes instead of 92160"):
        quiet(net, image, **options)


def test_resuming_refuses_another_network_or_image(tmp_path: Path) -> None:
    net, (_, image) = streamed_network(torch.float64).eval(), image_of(torch.float64)
    options = {"chunk_tokens": 47, "store": tmp_path, "resume": True}
    with _fail_after(10, RuntimeError), pytest.raises(RuntimeError):
        quiet(net, image, **options)
    with pytest.raises(ValueError, match=r"resume\.pt belongs to another network, image or preparation"):
        quiet(net, image + 1, **options)
    with torch.no_grad():
        net.head.bias += 1
    with pytest.raises(ValueError, match=r"resume\.pt belongs to another network, image or preparation"):
        quiet(net, image, **options)


def test_a_cancelled_run_leaves_nothing(tmp_path: Path) -> None:
    net, (_, image) = streamed_network(torch.float64).eval(), image_of(torch.float64)
    with _fail_after(10, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        quiet(net, image, chunk_tokens=47, store=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_kind_of_image(tmp_path: Path) -> None:
    """uint8 in an array, a memory map, a .npy file, an object that is read by regions."""
    net = streamed_network(torch.float32).eval()
    pixels = np.random.default_rng(3).integers(0, 256, (44, 232, 3), dtype=np.uint8)
    np.save(tmp_path / "image.npy", pixels)
    regions = []

    class Reader:
        shape = pixels.shape

        def read(self, row: int, column: int, height: int, width: int) -> np.ndarray:
            regions.append(height * width)
            return pixels[row : row + height, column : column + width]

    def prepare(tile: Tensor) -> Tensor:
        return tile.float() / 255

    expected = net(prepare(torch.from_numpy(pixels).movedim(-1, 0)[None])).detach()
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    big_endian = pixels.astype(">u2")
    for image in (pixels, mapped, tmp_path / "image.npy", str(tmp_path / "image.npy"), Reader(), big_endian):
        assert_close(quiet(net, image, chunk_tokens=47, prepare=prepare), expected, 1e-5, str(type(image)))
    assert max(regions) <= 47 * 4 * 8
    larger = np.pad(pixels, ((0, 3), (0, 7), (0, 0)))
    assert_close(quiet(net, CroppedImage(larger, (4, 8)), chunk_tokens=47, prepare=prepare), expected, 1e-5)


def test_refusals(tmp_path: Path) -> None:
    net, (_, image) = streamed_network(torch.float32).eval(), image_of(torch.float32)
    with pytest.raises(TypeError, match="SeqNormViT, got Linear"):
        quiet(torch.nn.Linear(3, 3), image)
    with pytest.raises(ValueError, match="attention 'seqnorm', got SimAAttention"):
        quiet(streamed_network(torch.float32, attention="sima"), image)
    with pytest.raises(ValueError, match="dropout_rate must be 0 in training mode"):
        quiet(streamed_network(torch.float32, dropout_rate=0.1).train(), image)
    with pytest.raises(ValueError, match=r"float32 or float64, got torch.bfloat16"):
        quiet(streamed_network(torch.bfloat16), image)
    with pytest.raises(ValueError, match="chunk_tokens must be at least 1, got 0"):
        quiet(net, image, chunk_tokens=0)
    with pytest.raises(ValueError, match="resume needs a store"):
        quiet(net, image, resume=True)
    with pytest.raises(ValueError, match=r"spatial axis 1 .* 231 pixels .* CroppedImage"):
        quiet(net, image[:, :231])
    with pytest.raises(ValueError, match=r"3 channel\(s\), got \(44, 232\)"):
        quiet(net, image[..., 0])
    with pytest.raises(ValueError, match="prepare=lambda"):
        quiet(net, image.astype(np.uint8))
    with pytest.raises(ValueError, match=r"must be \.npy or one of"):
        quiet(net, tmp_path / "slide.png")
    with pytest.raises(TypeError, match="got list"):
        quiet(net, [1])
