"""Decoded images on disk: the second epoch, and the second training, read what the first one decoded."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.data import CacheDataset, PersistentDataset
from monai.data.utils import pickle_hashing
from monai.transforms import Compose, RandomizableTrait, Transform

from seqnorm_monai import __version__
from seqnorm_monai.images.folders import files_below

# a MetaTensor's meta data hold small arrays; torch loads nothing but tensors and what is named here
_NUMPY = [np.ndarray, np.dtype, np.empty(0).__reduce__()[0]]
_NUMPY += [type(np.dtype(name)) for name in ("bool", "uint8", "int16", "int32", "int64", "float32", "float64")]


class StoredImage(Protocol):
    """An item's image that is read later, as `seqnorm_monai.data.items.StudyImage`."""

    @property
    def identity(self) -> Sequence[object]:
        """What tells it from other images of the same files."""

    @property
    def files(self) -> Sequence[Path]:
        """The files that it is read from."""


def item_hash(item: Mapping[str, Any]) -> bytes:
    """A key that changes with the item, with size or time of files that it names, and with the package's version.

    A value may name a file, a folder (all files below it count) or be a `StoredImage`.
    """
    described, files = {}, {}
    for name, value in sorted(item.items()):
        stored = hasattr(value, "identity") and hasattr(value, "files")
        described[name] = value.identity if stored else value
        files[name] = [_state(path) for path in (value.files if stored else _files(value))]
    text = json.dumps([__version__, described, files], default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32].encode()


def _files(value: object) -> list[str]:
    """Existing files that a path stands for: itself, those below it, and the voxels that lie beside a header."""
    if not isinstance(value, (str, os.PathLike)):
        return []
    if os.path.isdir(value):
        return sorted(path for path, unreadable in files_below(os.fspath(value)).items() if unreadable is None)
    path = Path(value)
    if not path.is_file():
        return []
    beside = path.parent.glob(f"{glob.escape(path.name.split('.hdr')[0])}.img*") if ".hdr" in path.name else ()
    return [os.fspath(path), *sorted(map(os.fspath, beside))]


def _state(path: str | os.PathLike[str]) -> list[object]:
    status = os.stat(path)
    return [os.fspath(path), status.st_size, status.st_mtime_ns]


class CachedDataset(CacheDataset):
    """MONAI's ``CacheDataset``, which keeps items in memory, with what it keeps on disk too if ``cache_dir`` is given.

    What is kept is the result of all transforms up to the first random one. On disk it is a file for each item, named
    by a hash of the item, of its files' size and time of change and of the transforms: other files, other settings or
    another version of the package miss it and are computed anew. Nothing is ever deleted from the folder.

    Args:
        data: mappings, as :class:`monai.data.Dataset` takes them.
        transform: applied in order; the deterministic ones come first.
        cache_rate: share of the items that stay in memory.
        cache_dir: folder for the files, made if it does not exist; None for none.
        progress: show a bar while the memory is filled.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Sequence[Callable[..., Any]] | Callable[..., Any],
        *,
        cache_rate: float = 1.0,
        cache_dir: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> None:
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self._on_disk: PersistentDataset | None = None
        super().__init__(data, transform, cache_rate=cache_rate, progress=progress)

    def set_data(self, data: Sequence[Mapping[str, Any]]) -> None:
        """Other items; files of earlier ones stay."""
        if self.cache_dir is not None:
            # not flattened: a new Compose gives every random transform in it a new random state
            steps = self.transform.transforms
            self._first_random = next((i for i, step in enumerate(steps) if not _is_deterministic(step)), len(steps))
            self._on_disk = PersistentDataset(
                data,
                Compose(steps[: self._first_random]),
                cache_dir=self.cache_dir,
                hash_func=item_hash,
                hash_transform=pickle_hashing,
                track_meta=True,
            )
        super().set_data(data)

    def _load_cache_item(self, idx: int) -> Any:  # noqa: ANN401
        return super()._load_cache_item(idx) if self._on_disk is None else self._from_disk(idx)

    def _transform(self, index: int) -> Any:  # noqa: ANN401
        if self._on_disk is None or index % len(self) < self.cache_num:
            return super()._transform(index)
        return self.transform(self._from_disk(index), start=self._first_random)

    def _from_disk(self, index: int) -> Any:  # noqa: ANN401
        with torch.serialization.safe_globals(_NUMPY):
            return self._on_disk[index]


def _is_deterministic(step: Callable[..., Any]) -> bool:
    return isinstance(step, Transform) and not isinstance(step, RandomizableTrait)
