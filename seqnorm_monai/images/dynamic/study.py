"""A dynamic contrast study that was understood: its phases, which of them is before the contrast, and why."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.image_array import ImageArray
from seqnorm_monai.images.inventory import ImageEntry
from seqnorm_monai.images.sources import file_on_disk
from seqnorm_monai.images.unpacked import UnpackedFolder

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
    """The phases of one study on one grid, pre first.

    `clock` says by which attribute they were ordered, `decided` how pre was told from post. `path` is that of the first
    file, names of files are relative to `folder`; `unpacked` holds what an archive was unpacked to.
    """

    path: str
    phases: tuple[DynamicPhase, ...]
    clock: str
    decided: str
    folder: str = ""
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
        return tuple(dict.fromkeys(file_on_disk(os.path.join(self.folder, name)) for name in self.names))

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells it from other images of the same files, for a cache."""
        rows = [(phase.role, phase.entry.row) for phase in self.phases]
        return tuple((role, row.series_instance_uid, row.stack, row.phase) for role, row in rows)

    def read(self, channels: Sequence[str]) -> ImageArray:
        """Decode ``pre``, ``post_k`` and ``sub_k`` (post k minus pre) as channels: (channels, x, y, z), float32.

        Each phase is decoded once. Values are rescaled before they are subtracted. Raises ImageReadError;
        DynamicStudyError for a channel that the study lacks.
        """
        needed = dict.fromkeys(role for channel in channels for role in self._needed(channel))
        found = {phase.role: phase.entry.read() for phase in self.phases if phase.role in needed}
        first = found[next(iter(found))]
        pixels = [_channel(channel, {role: image.pixels for role, image in found.items()}) for channel in channels]
        return replace(first, path=self.path, pixels=np.concatenate(pixels))

    def _needed(self, channel: str) -> list[str]:
        match = _CHANNEL.fullmatch(channel)
        if match is None:
            raise ValueError(f"argument channels: {channel!r} is none of pre, post_1, sub_1 and so on")
        roles = ["pre", f"post_{match[2]}"] if match[1] == "sub" else [channel]
        there = [phase.role for phase in self.phases]
        missing = [role for role in roles if role not in there]
        if missing:
            raise DynamicStudyError(self.path, f"has no {missing[0]} for the channel {channel}: {', '.join(there)}")
        return roles


def _channel(channel: str, phases: dict[str, np.ndarray]) -> np.ndarray:
    if not channel.startswith("sub_"):
        return phases[channel]
    return phases[channel.replace("sub", "post")] - phases["pre"]
