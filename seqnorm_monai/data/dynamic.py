"""Dynamic contrast studies as items of a data set, and their phases as channels of a tensor."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from seqnorm_monai.data.caching import item_hash
from seqnorm_monai.data.fault_tolerant import (
    DOCUMENT,
    FILES,
    IMAGE,
    PATH,
    SECONDS,
    SERIES,
    SET_ASIDE,
    STUDY,
    UNREADABLE,
)
from seqnorm_monai.data.load import LoadStudy
from seqnorm_monai.data.tensors import to_metatensor
from seqnorm_monai.images.dynamic import DynamicStudy, DynamicStudyError, FoundStudies, find_studies
from seqnorm_monai.images.dynamic.study import T2
from seqnorm_monai.images.inventory import take_inventory
from seqnorm_monai.images.records import FileRecord, FileStatus
from seqnorm_monai.images.rules import parse_rules
from seqnorm_monai.images.sources import open_sources
from seqnorm_monai.paths import require_flag

# beside the keys of other items: the attribute that ordered the phases, and how pre was told
CLOCK, DECIDED = "clock", "decided"


def find_dynamic_studies(
    source: str | os.PathLike[str],
    rules: Mapping[str, Any] | None = None,
    *,
    any_grid: bool = False,
    exclude: Sequence[str] = (),
    num_workers: int = 0,
) -> list[dict[str, Any]]:
    """Every file below `source` (a folder, file, DICOMDIR or ZIP archive), as items for a `FaultTolerantDataset`.

    An item is one study, `{"image": DynamicStudy, "path", "files", "study", "seconds", "clock", "decided"}`, or one
    file that is part of none, with its reason, as `seqnorm_monai.data.find_images` gives it. `rules` are in the grammar
    of `seqnorm_monai.images.rules`: a selection named "dynamic" says which series are phases, one named "pre" which of
    them are before the contrast agent, one named "t2" which series is T2-weighted. `any_grid`: phases on another grid
    than pre are resampled onto it when they are read, instead of refused.

    Raises UnreadableFileError when `source` cannot be read, ValueError when it holds no file, SelectionRuleError.
    """
    selections = [] if rules is None else parse_rules(rules)
    sources = open_sources(source, exclude=exclude)
    inventory = take_inventory(sources, num_workers=num_workers)
    if not inventory.files:
        raise ValueError(f"argument source: {source} holds no file" + (" that exclude leaves" if exclude else ""))
    found = find_studies(inventory, sources, selections, any_grid=any_grid)
    items = [_study_item(study) for study in found.studies]
    items += [_file_item(record, sources.folder) for record in found.files]
    return sorted(items, key=lambda item: str(item[PATH]))


class LoadDynamicStudyd(MapTransform):
    """A dynamic study -> `MetaTensor` (channels, x, y, z), float32: phases and subtractions as channels.

    Takes a `DynamicStudy` of `find_dynamic_studies`, or the path of a folder, file, DICOMDIR or ZIP archive that holds
    one study. Channels are ``pre``, ``post_1``, ``post_2`` and so on, and ``sub_k``: post k minus pre, both rescaled by
    their modality LUT (PS3.3 section C.11.1) before; ``t2`` is the T2-weighted series, resampled onto pre. Axes
    and affine are those of `seqnorm_monai.data.LoadStudy`.

    Args:
        keys: entries of the item.
        channels: in the order of the tensor.
        percentiles: of pre; they become 0 and 1, in all phases by the same two numbers, so that enhancement survives. A
            subtraction is divided by their distance alone; ``t2`` is scaled by percentiles of its own. None leaves
            the values as they are.
        registered: move each phase rigidly onto pre before it is subtracted, by ITK (a second a phase, or more).
        any_grid: see `find_dynamic_studies`; for paths.
        rules: see `find_dynamic_studies`; for paths.

    The last study is kept, so that the items of both breasts, one after the other, cost one decoding.

    Raises `seqnorm_monai.images.errors.ImageReadError`: `DynamicStudyError` for a study that was not understood, for a
    path with several studies, and for a channel that a study lacks. KeyError that names a missing key.
    """

    backend = LoadStudy.backend

    def __init__(
        self,
        keys: KeysCollection,
        channels: Sequence[str],
        *,
        percentiles: Sequence[float] | None = None,
        registered: bool = False,
        any_grid: bool = False,
        rules: Mapping[str, Any] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if percentiles is not None and not (len(percentiles) == 2 and 0 <= percentiles[0] < percentiles[1] <= 100):
            raise ValueError(f"argument percentiles must be two rising numbers of 0 to 100; got {percentiles!r}")
        self.percentiles = None if percentiles is None else tuple(map(float, percentiles))
        self.registered = require_flag(registered, "registered")
        self.any_grid = require_flag(any_grid, "any_grid")
        self._last: tuple[bytes, MetaTensor] | None = None
        if isinstance(channels, str) or not channels:
            raise TypeError(f"argument channels must be a list of names such as pre and sub_1; got {channels!r}")
        self.channels = tuple(channels)
        self.rules = [] if rules is None else parse_rules(rules)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._load(result[key])
        return result

    def __getstate__(self) -> dict[str, Any]:
        # another process, and a hash of these settings, do without the last study
        return {**self.__dict__, "_last": None}

    def _load(self, source: str | os.PathLike[str] | DynamicStudy) -> MetaTensor:
        key = item_hash({IMAGE: source})
        if self._last is None or self._last[0] != key:
            self._last = None
            self._last = key, self._decoded(source)
        # a transform behind this one may work in place
        return self._last[1].clone()

    def _decoded(self, source: str | os.PathLike[str] | DynamicStudy) -> MetaTensor:
        if isinstance(source, DynamicStudy):
            return self._tensor(source)
        with open_sources(source) as sources:
            found = find_studies(take_inventory(sources), sources, self.rules, any_grid=self.any_grid)
            return self._tensor(_only(source, found))

    def _tensor(self, study: DynamicStudy) -> MetaTensor:
        if self.percentiles is None:
            return to_metatensor(study.read(self.channels, registered=self.registered))
        image = study.read([*self.channels, "pre"], registered=self.registered)
        low, high = np.percentile(image.pixels[-1], self.percentiles)
        scaled = image.pixels[:-1]
        for channel, pixels in zip(self.channels, scaled, strict=True):
            # T2 has a scale of its own
            ends = np.percentile(pixels, self.percentiles) if channel == T2 else (low, high)
            pixels -= 0 if channel.startswith("sub_") else np.float32(ends[0])
            pixels /= np.float32(max(ends[1] - ends[0], np.finfo(np.float32).tiny))
        return to_metatensor(replace(image, pixels=scaled))


def _only(source: str | os.PathLike[str], found: FoundStudies) -> DynamicStudy:
    if len(found.studies) == 1 and not found.refused:
        return found.studies[0]
    if len(found.studies) + len(found.refused) > 1:
        raise DynamicStudyError(source, "holds several studies, one was asked for", "name the folder of one")
    if found.refused:
        raise DynamicStudyError(source, found.refused[0].reason)
    reasons = [record.reason for record in found.files if record.status == FileStatus.REJECTED]
    raise DynamicStudyError(source, f"no dynamic study: {reasons[0] if reasons else 'no volume at all'}")


def _study_item(study: DynamicStudy) -> dict[str, Any]:
    row = study.phases[0].entry.row
    files = tuple(os.path.join(study.folder, name) for name in study.names)
    told = {SECONDS: list(study.seconds), CLOCK: study.clock, DECIDED: study.decided}
    uids = {STUDY: row.study_instance_uid, SERIES: row.series_instance_uid}
    return {IMAGE: study, PATH: study.path, FILES: files, **uids, **told}


def _file_item(record: FileRecord, folder: str) -> dict[str, Any]:
    path = os.path.join(folder, record.path)
    says = {UNREADABLE: record.reason or "part of no dynamic study", DOCUMENT: record.is_document}
    uids = {STUDY: record.study, SERIES: record.series}
    return {IMAGE: path, PATH: path, FILES: (path,), SET_ASIDE: record.status != FileStatus.REJECTED, **says, **uids}
