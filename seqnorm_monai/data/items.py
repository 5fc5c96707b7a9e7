"""The images of a folder, archive or medium, as items of a data set: every file is part of one or has its reason.

`find_images` scans the headers once; the items it gives hold what is needed to decode them later, in any process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from seqnorm_monai.data.fault_tolerant import DOCUMENT, FILES, IMAGE, PATH, SERIES, SET_ASIDE, STUDY, UNREADABLE
from seqnorm_monai.images.inventory import Inventory, take_inventory
from seqnorm_monai.images.records import FileRecord, FileStatus
from seqnorm_monai.images.rules import parse_rules
from seqnorm_monai.images.sources import Sources, open_sources
from seqnorm_monai.images.study_image import StudyImage, images_of, not_an_image


def find_images(
    source: str | os.PathLike[str],
    *,
    selections: Mapping[str, Any] | None = None,
    all_matched: bool = True,
    exclude: Sequence[str] = (),
    num_workers: int = 0,
) -> list[dict[str, Any]]:
    """Every file below `source` (a folder, file, DICOMDIR or ZIP archive), as items for a `FaultTolerantDataset`.

    An item is one image, `{"image": StudyImage, "path", "files", "study", "series"}`, or one file that is part of none:
    `{"image": path, "unreadable": reason, "set_aside": whether it is in order, "document": whether it is a table, text
    or program}`. Paths are absolute. Derived maps (ADC,
    subtractions ...) are set aside unless a selection names their series. `selections` are rules for series in the
    grammar of `seqnorm_monai.images.rules`: the others are set aside. `exclude` holds shell patterns of what is left
    out, as `open_sources` has them. Headers are read in `num_workers` processes if above 0. What archives unpack to is
    removed once nobody holds an image of them any more.

    Raises UnreadableFileError when `source` cannot be read, ValueError when it holds no file, SelectionRuleError.
    """
    rules = None if selections is None else parse_rules(selections)
    sources = open_sources(source, exclude=exclude)
    inventory = take_inventory(sources, rules, all_matched=all_matched, num_workers=num_workers)
    if not inventory.files:
        raise ValueError(f"argument source: {source} holds no file" + (" that exclude leaves" if exclude else ""))
    return _items(inventory, sources, derived=rules is not None)


def _items(inventory: Inventory, sources: Sources, *, derived: bool) -> list[dict[str, Any]]:
    """Images and lone files, in the order of their first file's name."""
    images = images_of(inventory, sources, derived=derived)
    used = {name for image in images for name in image.names}
    maps = not_an_image(inventory)
    items = [_image_item(image) for image in images]
    items += [_file_item(record, sources.folder, maps) for record in inventory.files if record.path not in used]
    return sorted(items, key=lambda item: str(item[PATH]))


def _image_item(image: StudyImage) -> dict[str, Any]:
    row = image.entries[0].row
    files = tuple(os.path.join(image.folder, name) for name in image.names)
    uids = {STUDY: row.study_instance_uid, SERIES: row.series_instance_uid}
    return {IMAGE: image, PATH: image.path, FILES: files, **uids}


def _file_item(record: FileRecord, folder: str, maps: Mapping[str, str]) -> dict[str, Any]:
    aside = record.status != FileStatus.REJECTED
    path = os.path.join(folder, record.path)
    uids = {STUDY: record.study, SERIES: record.series}
    reason = maps.get(record.path, record.reason)
    says = {UNREADABLE: reason, SET_ASIDE: aside, DOCUMENT: record.is_document}
    return {IMAGE: path, PATH: path, FILES: (path,), **says, **uids}
