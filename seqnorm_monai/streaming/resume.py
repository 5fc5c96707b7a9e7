"""The file from which a long run over one image goes on: its last finished layer; whole or not there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from seqnorm_monai.atomic_files import replacing_bytes
from seqnorm_monai.attention.functional import TokenStatistics
from seqnorm_monai.images.slides.regions import RegionImage
from seqnorm_monai.streaming.tiles import Prepare, read_tile

FORMAT = 1


def fingerprint(network: nn.Module, image: RegionImage, prepare: Prepare | None) -> str:
    """SHA-256 of what tokens depend on: the weights, the image's shape, and its prepared first and last patch.

    Two images that differ only between those patches are taken for the same: to hash every pixel would be one more
    reading of an image that is large by definition.
    """
    digest = hashlib.sha256(f"{FORMAT} {tuple(image.shape)}\n{network}\n".encode())
    for name, weight in network.state_dict().items():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.cpu().contiguous().numpy().tobytes())
    patch = tuple(network.patch_size)
    for start in ((0,) * len(patch), tuple(n - p for n, p in zip(image.shape, patch))):
        tile = read_tile(image, start, patch, prepare=prepare, like=network.cls_token)
        digest.update(tile.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class ResumeFile:
    """The file ``resume.pt`` beside the token files of a run: the layer to go on with, and its statistics.

    The input of that layer is complete in its store, and the statistics are those of its norm1.

    Args:
        folder: where the token files lie.
        owner: fingerprint of the run.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self.path = folder / "resume.pt"
        self.owner = owner

    def load(self) -> tuple[int, TokenStatistics | None]:
        """The layer to go on with and its statistics; -1 and None if there is no file.

        Raises:
            ValueError: if the file belongs to another run.
        """
        if not self.path.exists():
            return -1, None
        state = torch.load(self.path, weights_only=True)
        if state["owner"] != self.owner:
            raise ValueError(
                f"{self.path} belongs to another network, image or preparation: delete the folder or choose another"
            )
        return state["layer"], TokenStatistics(*state["statistics"])

    def save(self, layer: int, statistics: TokenStatistics) -> None:
        """Write that the input of ``layer`` is complete in its store."""
        with replacing_bytes(self.path) as stream:
            torch.save({"owner": self.owner, "layer": layer, "statistics": tuple(statistics)}, stream)

    def remove(self) -> None:
        """Delete the file: the run is done."""
        self.path.unlink(missing_ok=True)
