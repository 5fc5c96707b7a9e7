"""The images of a folder, archive or medium, as items of a data set: every file is part of one or has its reason.

`find_images` scans the headers once; the items it gives hold what is needed to decode them later, in any process.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from seqnorm_monai.data.fault_tolerant import FILES, IMAGE, PATH, SERIES, SET_ASIDE, STUDY, UNREADABLE
from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.inventory import Entry, Listing, list_sources
from seqnorm_monai.images.records import FileRecord
from seqnorm_monai.images.rules import Selection, parse_rules
from seqnorm_monai.images.sources import open_sources


class ImageChoiceError(ImageReadError):
    """More than one image, or phase, where one was asked for, or none."""


@dataclass(frozen=True)
class StudyImage:
    """One image, not yet decoded: the phases of one series on one grid, in their order.

    `path` is that of the first file; for a member of an archive the path of the archive comes first.
    """

    path: str
    entries: tuple[Entry, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The files that it comes from, as their records name them."""
        return tuple(dict.fromkeys(name for entry in self.entries for name in entry.names))

    @property
    def files(self) -> tuple[Path, ...]:
        """Where they can be opened."""
        return tuple(dict.fromkeys(path for entry in self.entries for path in entry.paths))

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells it from other images of the same files, for a cache."""
        return self.path, self.names, tuple((entry.row.series_instance_uid, entry.row.label) for entry in self.entries)

    def load(self, phase: int | None = None) -> MetaTensor:
        """Decode all phases, as channels (phases * channels, x, y[, z]), or the one with this number (from 1).

        Meta data are those of the first phase, without a phase of their own where there are several. Raises
        ImageReadError, ImageChoiceError for a phase that there is not.
        """
        if phase is not None and not 1 <= phase <= len(self.entries):
            raise ImageChoiceError(self.path, f"phase {phase} of {len(self.entries)} was asked for")
        chosen = self.entries if phase is None else (self.entries[phase - 1],)
        first = chosen[0].load()
        if len(chosen) == 1:
            return first
        tensor = torch.cat([first.as_tensor(), *(entry.load().as_tensor() for entry in chosen[1:])])
        meta = {key: value for key, value in first.meta.items() if not key.startswith("phase")}
        return MetaTensor(tensor, meta=meta)


def find_images(
    source: str | os.PathLike[str],
    *,
    selections: Mapping[str, Any] | None = None,
    all_matched: bool = True,
    exclude: Sequence[str] = (),
    num_workers: int = 0,
) -> list[dict[str, Any]]:
    """Every file below `source` (a folder, file, DICOMDIR or ZIP archive), as items for an `FaultTolerantDataset`.

    An item is one image, `{"image": StudyImage, "path", "files", "study", "series"}`, or one file that is part of none:
    `{"image": path, "unreadable": reason, "set_aside": whether it is in order}`. Paths are absolute. Derived maps (ADC,
    subtractions ...) are set aside unless a selection names their series. `selections` are rules for series in the
    grammar of `seqnorm_monai.images.rules`: the others are set aside. `exclude` holds shell patterns of what is left
    out, as `open_sources` has them. Headers are read in `num_workers` processes if above 0. What archives unpack to is
    removed when the process ends.

    Raises UnreadableFileError when `source` cannot be read, ValueError when it holds no file, SelectionRuleError.
    """
    rules = None if selections is None else parse_rules(selections)
    sources = open_sources(source, exclude=exclude)
    # the pixels are read while the process runs, by its workers too
    atexit.register(sources.close)
    listing = list_sources(sources, rules, all_matched=all_matched, num_workers=num_workers)
    if not listing.files:
        raise ValueError(f"argument source: {source} holds no file" + (" that exclude leaves" if exclude else ""))
    top = os.path.abspath(source)
    return _items(listing, top if os.path.isdir(top) else os.path.dirname(top), derived=rules is not None)


def load_image(
    source: str | os.PathLike[str],
    *,
    selections: Mapping[str, Any] | Sequence[Selection] | None = None,
    phase: int | None = None,
) -> MetaTensor:
    """Read the one image of a file, folder, DICOMDIR or ZIP archive; `selections` and `phase` choose among several.

    Raises ImageReadError; ImageChoiceError when there is none, or more than one.
    """
    rules = parse_rules(selections) if isinstance(selections, Mapping) else selections
    with open_sources(source) as sources:
        listing = list_sources(sources, rules, all_matched=True)
        images = images_of(listing, derived=rules is not None)
        if len(images) == 1:
            return replace(images[0], path=os.fspath(source)).load(phase)
        raise _choice(source, listing, len(images))


def _choice(source: str | os.PathLike[str], listing: Listing, count: int) -> ImageReadError:
    if count:
        return ImageChoiceError(source, f"{count} images, one was asked for", "choose a series with selections")
    refused = [record for record in listing.files if record.status == "rejected"] or listing.files
    reason = refused[0].reason if refused else "no file"
    if len(listing.files) == 1:
        error = ImageChoiceError(source, reason)
        error.set_aside = refused[0].status == "set_aside"
        return error
    return ImageChoiceError(source, f"no image in {len(listing.files)} files, the first: {reason}")


def images_of(listing: Listing, *, derived: bool = False) -> list[StudyImage]:
    """The entries of a listing, those of one series on one grid together; derived maps only if asked for."""
    groups: dict[object, list[Entry]] = {}
    for entry in listing.entries:
        row = entry.row
        if derived or not entry.derived:
            groups.setdefault((row.study, row.series, entry.stack), []).append(entry)
    return [StudyImage(entries[0].names[0], tuple(entries)) for entries in groups.values()]


def _items(listing: Listing, top: str, *, derived: bool) -> list[dict[str, Any]]:
    """Images and lone files, in the order of their first file's name."""
    images = images_of(listing, derived=derived)
    used = {name for image in images for name in image.names}
    maps = {name: entry.derived for entry in listing.entries for name in entry.names if entry.derived}
    items = [_image_item(image, top) for image in images]
    items += [_file_item(record, top, maps) for record in listing.files if record.path not in used]
    return sorted(items, key=lambda item: str(item[PATH]))


def _image_item(image: StudyImage, top: str) -> dict[str, Any]:
    row = image.entries[0].row
    placed = replace(image, path=os.path.join(top, image.path))
    files = tuple(os.path.join(top, name) for name in image.names)
    uids = {STUDY: row.study_instance_uid, SERIES: row.series_instance_uid}
    return {IMAGE: placed, PATH: placed.path, FILES: files, **uids}


def _file_item(record: FileRecord, top: str, maps: Mapping[str, str]) -> dict[str, Any]:
    aside = record.status != "rejected"
    reason = f"a derived map ({maps[record.path]})" if record.path in maps else record.reason
    path = os.path.join(top, record.path)
    uids = {STUDY: record.study, SERIES: record.series}
    return {IMAGE: path, PATH: path, FILES: (path,), UNREADABLE: reason, SET_ASIDE: aside, **uids}


def paths_of(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """The paths of all files of the items, each once, in their order."""
    return list(dict.fromkeys(path for item in items for path in item[FILES]))
