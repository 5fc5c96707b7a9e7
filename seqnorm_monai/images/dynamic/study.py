"""A dynamic contrast study that was understood: its phases, which of them is before the contrast, and why."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from seqnorm_monai.images.dynamic.grids import Grid
from seqnorm_monai.images.dynamic.resampling import register, resample
from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.image_array import ImageArray
from seqnorm_monai.images.inventory import ImageEntry
from seqnorm_monai.images.sources import file_on_disk
from seqnorm_monai.images.unpacked import UnpackedFolder

# the name of the channel, and of the selection that names its series
T2 = "t2"
_CHANNEL = re.compile(r"pre|(post|sub)_([1-9]\d*)")


class DynamicStudyError(ImageReadError):
    """A study whose phases cannot be told, or that lacks one which was asked for; the reason lists what there is."""


@dataclass(frozen=True)
class DynamicPhase:
    """`role`: "pre", or "post_1" and so on; `seconds` since pre, None where the files tell the order alone."""

    entry: ImageEntry
    role: str
    seconds: float | None


@dataclass(frozen=True)
class DynamicStudy:
    """The phases of one study, pre first, on one grid or (where that was asked for) on several.

    `clock` says by which attribute they were ordered, `decided` how pre was told from post. `path` is that of the first
    file, names of files are relative to `folder`. `t2`: T2-weighted volumes beside the phases; `unpacked` holds what an
    archive was unpacked to.
    """

    path: str
    phases: tuple[DynamicPhase, ...]
    clock: str
    decided: str
    folder: str = ""
    t2: tuple[ImageEntry, ...] = ()
    unpacked: UnpackedFolder | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "unpacked": None}

    @property
    def seconds(self) -> tuple[float | None, ...]:
        """Of each phase since pre."""
        return tuple(phase.seconds for phase in self.phases)

    @property
    def names(self) -> tuple[str, ...]:
        """The files that it comes from, as their records name them."""
        return tuple(dict.fromkeys(name for phase in self.phases for name in phase.entry.names))

    @property
    def files(self) -> tuple[Path, ...]:
        """Where they can be opened."""
        return tuple(dict.fromkeys(path for phase in self.phases for path in phase.entry.paths))

    @property
    def origins(self) -> tuple[str, ...]:
        """The files on disk that hold it: of a member of an archive the archive."""
        names = [*self.names, *(name for entry in self.t2 for name in entry.names)]
        return tuple(dict.fromkeys(file_on_disk(os.path.join(self.folder, name)) for name in names))

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells it from other images of the same files, for a cache."""
        rows = [(phase.role, phase.entry.row) for phase in self.phases] + [(T2, entry.row) for entry in self.t2]
        return tuple((role, row.series_instance_uid, row.stack, row.phase) for role, row in rows)

    def read(self, channels: Sequence[str], *, registered: bool = False) -> ImageArray:
        """Decode ``pre``, ``post_k``, ``sub_k`` (post k minus pre) and ``t2`` as channels (channels, x, y, z), float32.

        Each phase is decoded once. Values are rescaled before they are subtracted. What lies on another grid than pre
        is resampled onto it, linearly, by its place in the scanner. `registered`: phases after pre are moved onto it
        before they are subtracted (`resampling.register`). Raises ImageReadError; DynamicStudyError for a channel that
        the study lacks.
        """
        needed = dict.fromkeys(role for channel in channels for role in self._needed(channel))
        entries = {phase.role: phase.entry for phase in self.phases}
        if registered or not needed.keys() <= entries.keys() or self._has_other_grids():
            needed = {"pre": None, **needed}
        found = {role: (entries[role] if role in entries else self.t2[0]).read() for role in needed}
        first = found[next(iter(found))]
        values = {role: _onto(image, first) for role, image in found.items()}
        if registered:
            spacing = tuple(float(step) for step in np.linalg.norm(first.affine[:3, :3], axis=0))
            values |= {
                role: register(pixels[0], values["pre"][0], spacing)[None]
                for role, pixels in values.items()
                if role.startswith("post_")
            }
        pixels = [_channel(channel, values) for channel in channels]
        return replace(first, path=self.path, pixels=np.concatenate(pixels))

    def _has_other_grids(self) -> bool:
        grids = [Grid(phase.entry.row.shape, phase.entry.row.affine) for phase in self.phases]
        return any(grid.difference(grids[0]) for grid in grids[1:])

    def _needed(self, channel: str) -> list[str]:
        if channel == T2:
            if len(self.t2) != 1:
                count = f"{len(self.t2)} T2-weighted series, name one by the selection t2" if self.t2 else "none"
                raise DynamicStudyError(self.path, f"channel t2: there is {count}")
            return [T2]
        match = _CHANNEL.fullmatch(channel)
        if match is None:
            raise ValueError(f"argument channels: {channel!r} is none of pre, post_1, sub_1, t2 and so on")
        roles = ["pre", f"post_{match[2]}"] if match[1] == "sub" else [channel]
        there = [phase.role for phase in self.phases]
        missing = [role for role in roles if role not in there]
        if missing:
            raise DynamicStudyError(self.path, f"has no {missing[0]} for the channel {channel}: {', '.join(there)}")
        return roles


def _onto(image: ImageArray, first: ImageArray) -> np.ndarray:
    """The pixels of an image on the grid of the first."""
    one, two = (Grid(each.pixels.shape[1:], tuple(map(tuple, each.affine.tolist()))) for each in (image, first))
    if not one.difference(two):
        return image.pixels
    return resample(image.pixels[0], image.affine, first.pixels.shape[1:], first.affine)[None]


def _channel(channel: str, phases: dict[str, np.ndarray]) -> np.ndarray:
    if not channel.startswith("sub_"):
        return phases[channel]
    return phases[channel.replace("sub", "post")] - phases["pre"]
