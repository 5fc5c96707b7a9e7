"""Decoded images on disk: the second epoch, and the second training, read what the first one decoded."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from enum import EnumMeta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.data import CacheDataset
from monai.data.utils import pickle_hashing
from monai.transforms import Compose, RandomizableTrait, Transform, reset_ops_id
from monai.utils import convert_to_tensor, enums
from tqdm import tqdm

from seqnorm_monai.data.datalists import SIDE
from seqnorm_monai.data.image_paths import archive_above
from seqnorm_monai.data.machine_errors import MachineError, remedy
from seqnorm_monai.data.seeding import SeededItems
from seqnorm_monai.images.folders import files_below
from seqnorm_monai.paths import require_path
from seqnorm_monai.version import __version__

# Torch loads nothing but tensors and what is named here: of a MetaTensor, the small arrays and numbers of its meta
# data, and the words in which MONAI's transforms note what they did.
_ALLOWED: list[Any] = [np.ndarray, np.dtype, np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0], slice]
_ALLOWED += [type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?U"]
_ALLOWED += [kind for kind in vars(enums).values() if isinstance(kind, EnumMeta) and kind.__module__ == enums.__name__]


class StoredImage(Protocol):
    """An item's image that is read later, as `seqnorm_monai.images.study_image.StudyImage`.

    It may have `origins` too, the files on disk that hold it: the archive where `files` are what one was unpacked to.
    """

    @property
    def identity(self) -> Sequence[object]:
        """What tells it from other images of the same files."""

    @property
    def files(self) -> Sequence[Path]:
        """The files that it is read from."""


def item_hash(item: Mapping[str, Any], keys: Sequence[str] = ("image",)) -> bytes:
    """A key that changes with the item's entries `keys`, with the files that they name, and with the package's version.

    Of files, size and time of change count. An entry may name a file, a folder (all files below it count), a DICOMDIR
    (all files of its folder), a member or folder of a ZIP archive (the archive counts) or several of these in a list;
    it may be a `StoredImage`; of anything else its content counts. The item's `side` counts, too: it says which part of
    the image is meant. Other entries, a label or a patient, change nothing.
    Raises KeyError when the item has none of `keys`.
    """
    named = {key: item[key] for key in keys if key in item}
    if not named:
        raise KeyError(f"argument keys: an item has no entry {' or '.join(keys)}")
    part = [str(item[SIDE])] if SIDE in item else []
    text = json.dumps([__version__, {key: _describe(value) for key, value in named.items()}, *part])
    return hashlib.sha256(text.encode()).hexdigest()[:32].encode()


def _describe(value: object) -> list[Any]:
    if isinstance(value, (str, os.PathLike)):
        return [os.fspath(value), *map(_state, _files(value))]
    if hasattr(value, "identity") and hasattr(value, "files"):
        return [repr(value.identity), *map(_state, getattr(value, "origins", value.files))]
    if isinstance(value, (list, tuple)):
        return [_describe(part) for part in value]
    return [pickle_hashing(value).decode()]


def _files(value: str | os.PathLike[str]) -> list[str]:
    """Existing files that a path stands for."""
    path = Path(value)
    if path.name.upper() == "DICOMDIR" and path.is_file():
        path = path.parent
    if path.is_dir():
        return sorted(file for file, unreadable in files_below(os.fspath(path)).items() if unreadable is None)
    if not path.is_file():
        archive = archive_above(os.fspath(path))
        return [] if archive is None else [archive]
    # the voxels of an .img file belong to the header beside it
    beside = path.parent.glob(f"{glob.escape(path.name.split('.hdr')[0])}.img*") if ".hdr" in path.name else ()
    return [os.fspath(path), *sorted(map(os.fspath, beside))]


def _state(path: str | os.PathLike[str]) -> list[object]:
    status = os.stat(path)
    return [os.fspath(path), status.st_size, status.st_mtime_ns]


class CachedDataset(SeededItems, CacheDataset):
    """MONAI's ``CacheDataset``, which keeps images in memory, with what it keeps on disk too if ``cache_dir`` is given.

    What is kept is the result of all transforms up to the first random one. On disk it is the entries ``keys`` of it, a
    file for each item, named by `item_hash` and a hash of these transforms: other images, other settings or another
    version of the package miss it and are computed anew, as does a file that is cut off. The item's other entries come
    from the item: a label that was corrected counts at once, and decodes nothing. Nothing is ever deleted from the
    folder.

    In a training its random transforms draw by epoch and item, see `SeededItems`.

    Args:
        data: mappings, as :class:`monai.data.Dataset` takes them.
        transform: applied in order; the deterministic ones come first.
        cache_rate: share of the items that stay in memory.
        cache_dir: folder for the files, made if it does not exist; None for none.
        keys: with ``cache_dir``, all entries that the deterministic transforms change, add or remove.
        progress: show a bar while the memory is filled, if there is a terminal to show it on.

    Raises, when an item is computed for ``cache_dir``: ValueError when a deterministic transform changes another entry,
    KeyError when an item has none of `keys`. MachineError when the folder cannot be made or its disk is full.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Sequence[Callable[..., Any]] | Callable[..., Any],
        *,
        cache_rate: float = 1.0,
        cache_dir: str | os.PathLike[str] | None = None,
        keys: Sequence[str] = ("image",),
        progress: bool = True,
    ) -> None:
        if isinstance(keys, str) or not keys:
            raise TypeError(f"argument keys must be a non-empty list of names; got {keys!r}")
        self.cache_dir = None if cache_dir is None else Path(require_path(cache_dir, "cache_dir"))
        self.keys = tuple(keys)
        self._on_disk: _DiskCache | None = None
        super().__init__(data, transform, cache_rate=cache_rate, progress=progress and sys.stderr.isatty())

    def set_data(self, data: Sequence[Mapping[str, Any]]) -> None:
        """Other items; files of earlier ones stay."""
        if self.cache_dir is not None:
            # not flattened: a new Compose gives every random transform in it a new random state
            steps = self.transform.transforms
            self._first_random = next((i for i, step in enumerate(steps) if not _is_deterministic(step)), len(steps))
            self._on_disk = _DiskCache(self.cache_dir, self.keys, Compose(steps[: self._first_random]))
        super().set_data(data)

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[Any]:
        """As MONAI's, but no thread is at work any more when it ends: Python aborts where one decodes at its exit."""
        if self.cache_num <= 0:
            return []
        chosen = range(self.cache_num) if indices is None else indices
        pool = ThreadPoolExecutor(self.num_workers)
        try:
            items = pool.map(self._load_cache_item, chosen)
            return list(tqdm(items, total=len(chosen), desc="images", disable=not self.progress))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _load_cache_item(self, idx: int) -> Any:  # noqa: ANN401
        return super()._load_cache_item(idx) if self._on_disk is None else self._on_disk(self.data[idx])

    def _transform(self, index: int) -> Any:  # noqa: ANN401
        if self._on_disk is None or index % len(self) < self.cache_num:
            return super()._transform(index)
        return self.transform(self._on_disk(self.data[index]), start=self._first_random)


class _DiskCache:
    """The entries `keys` of transformed items, in files of `folder`."""

    def __init__(self, folder: Path, keys: Sequence[str], transform: Compose) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _no_place(folder, error) from error
        self.folder = folder
        self.keys = keys
        self.transform = transform
        steps = transform.flatten().transforms
        self._settings = pickle_hashing([list(keys), steps]).decode()

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The transformed item, its entries `keys` from the folder if they are there."""
        path = self.folder / f"{item_hash(item, self.keys).decode()}{self._settings}.pt"
        kept = _load(path, self.keys)
        if kept is None:
            kept = convert_to_tensor(self._compute(item), convert_numeric=False, track_meta=True)
            _save(kept, path)
        return {**{name: value for name, value in item.items() if name not in self.keys}, **kept}

    def _compute(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The entries `keys` of the item, transformed."""
        given = deepcopy(dict(item))
        result = self.transform(given, threading=True)
        if not isinstance(result, dict):
            raise TypeError(f"argument transform must give one dict for each item; got {type(result).__name__}")
        changed = [name for name in {**given, **result} if given.get(name, ...) is not result.get(name, ...)]
        if others := sorted(set(map(str, changed)).difference(self.keys)):
            raise ValueError(
                f"argument keys: a deterministic transform changes the entry {', '.join(others)}, and only "
                f"{', '.join(self.keys)} would be kept; name it in keys, or put that transform behind a random one"
            )
        reset_ops_id(result)
        return {name: result[name] for name in self.keys if name in result}


def _load(path: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    """What was kept in a file; None when it does not exist, is damaged, or holds other things than entries `keys`."""
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            kept = torch.load(path, weights_only=True)
        if not isinstance(kept, dict) or not set(kept) <= set(keys):
            raise TypeError("not the entries of an item")
        return kept
    except FileNotFoundError:
        return None
    # torch raises five classes of errors for a file that is cut off, by where it is
    except Exception as error:
        if isinstance(error, PermissionError) or remedy(error):
            raise
        warnings.warn(f"Corrupt cache file: {path} ({type(error).__name__}); it is made again", stacklevel=2)
        return None


def _save(kept: dict[str, Any], path: Path) -> None:
    """Write a file that is whole or not there; into a folder that may only be read, nothing."""
    try:
        # a folder of its own for each writer: two trainings may fill one cache
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            temporary = Path(folder) / path.name
            # torch hides the number of the error where it opens the file itself
            with temporary.open("wb") as stream:
                torch.save(kept, stream)
            os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return
        raise _no_place(path.parent, error) from error


def _no_place(folder: Path, error: OSError) -> MachineError:
    reason = os.strerror(error.errno or 0)
    return MachineError(
        f"{folder}: {reason}; decoded images cannot be kept there: free space, give another cache_dir, or none"
    )


def _is_deterministic(step: Callable[..., Any]) -> bool:
    return isinstance(step, Transform) and not isinstance(step, RandomizableTrait)
