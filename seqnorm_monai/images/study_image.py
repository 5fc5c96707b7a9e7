"""One image, not yet decoded, and the one way from a path to it: for training, evaluation, inference and listing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.image_array import MODALITY_VALUES, ImageArray, ReadOptions
from seqnorm_monai.images.inventory import ImageEntry, Inventory, take_inventory
from seqnorm_monai.images.raster import to_grey
from seqnorm_monai.images.records import FileStatus
from seqnorm_monai.images.rules import Selection
from seqnorm_monai.images.sources import Sources, file_on_disk, open_sources
from seqnorm_monai.images.unpacked import UnpackedFolder

_CHOOSE_DERIVED = "to read a derived map, name its series with selections"
# reasons of a folder without an image that its refusal names
_MAX_REASONS = 3


class ImageChoiceError(ImageReadError):
    """More than one image, or phase, where one was asked for, or none."""


@dataclass(frozen=True)
class StudyImage:
    """One image, not yet decoded: the phases of one series on one grid, in their order.

    `path` is that of the first file; for a member of an archive the path of the archive comes first. Names of files are
    relative to `folder`. `unpacked` holds what an archive was unpacked to; a copy in another process does without it.
    """

    path: str
    entries: tuple[ImageEntry, ...]
    folder: str = ""
    unpacked: UnpackedFolder | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "unpacked": None}

    @property
    def names(self) -> tuple[str, ...]:
        """The files that it comes from, as their records name them."""
        return tuple(dict.fromkeys(name for entry in self.entries for name in entry.names))

    @property
    def files(self) -> tuple[Path, ...]:
        """Where they can be opened."""
        return tuple(dict.fromkeys(path for entry in self.entries for path in entry.paths))

    @property
    def origins(self) -> tuple[str, ...]:
        """The files on disk that hold it: of a member of an archive the archive."""
        return tuple(dict.fromkeys(file_on_disk(os.path.join(self.folder, name)) for name in self.names))

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells it from other images of the same files, for a cache: it names no file."""
        rows = [entry.row for entry in self.entries]
        return tuple((row.series_instance_uid, row.stack, row.phase, row.label) for row in rows)

    @property
    def modality(self) -> str:
        """Modality, "" where the files have none."""
        return self.entries[0].row.modality

    def read(self, phase: int | None = None, options: ReadOptions = MODALITY_VALUES) -> ImageArray:
        """Decode all phases, as channels (phases * channels, x, y[, z]), or the one with this number (from 1).

        Each file is opened once. Meta data are those of the first phase, without a phase of their own where there are
        several. Raises ImageReadError, ImageChoiceError for a phase that does not exist.
        """
        if phase is not None and not 1 <= phase <= len(self.entries):
            raise ImageChoiceError(self.path, f"phase {phase} of {len(self.entries)} was asked for")
        chosen = self.entries if phase is None else (self.entries[phase - 1],)
        image = chosen[0].reader([entry.volume for entry in chosen], options)
        return replace(image, path=self.path)


@contextmanager
def open_image(
    source: str | os.PathLike[str], *, selections: Iterable[Selection] | None = None
) -> Iterator[StudyImage]:
    """The one image of a file, folder, DICOMDIR, ZIP archive or member of one; `selections` choose among several.

    Read its pixels inside the context: what an archive was unpacked to is removed on leaving. Raises ImageReadError
    with the reason that a listing of the file gives; ImageChoiceError when there is none, or more than one.
    """
    rules = None if selections is None else list(selections)
    with open_sources(source) as sources:
        inventory = take_inventory(sources, rules, all_matched=True)
        images = images_of(inventory, sources, derived=rules is not None)
        if len(images) != 1:
            raise _choice(source, inventory, len(images))
        yield replace(images[0], path=os.fspath(source))


def images_of(inventory: Inventory, sources: Sources, *, derived: bool = False) -> list[StudyImage]:
    """The images of an inventory, phases of one series on one grid together; derived maps only if asked for."""
    groups: dict[object, list[ImageEntry]] = {}
    for entry in inventory.entries:
        if derived or not entry.derived:
            groups.setdefault(entry.row.key[:3], []).append(entry)
    return [
        StudyImage(os.path.join(sources.folder, entries[0].names[0]), tuple(entries), sources.folder, sources.unpacked)
        for entries in groups.values()
    ]


def not_an_image(inventory: Inventory) -> dict[str, str]:
    """Why files that hold readable pixels are no image by themselves: name of a file -> reason."""
    return {
        name: f"a derived map ({entry.derived})" for entry in inventory.entries for name in entry.names if entry.derived
    }


def _choice(source: str | os.PathLike[str], inventory: Inventory, count: int) -> ImageReadError:
    if count:
        return ImageChoiceError(source, f"{count} images, one was asked for", "choose a series with selections")
    maps = not_an_image(inventory)
    reasons = [(record, maps.get(record.path, record.reason)) for record in inventory.files]
    rejected = [pair for pair in reasons if pair[0].status == FileStatus.REJECTED] or reasons
    if not rejected:
        return ImageChoiceError(source, "holds no file")
    record, reason = rejected[0]
    if len(inventory.files) > 1:
        counted = _counted([text for _, text in rejected])
        advice = _CHOOSE_DERIVED if maps else ""
        return ImageChoiceError(source, f"no image in {len(inventory.files)} files: {counted}", advice)
    error = ImageReadError(source, reason)
    error.set_aside = record.status != FileStatus.REJECTED
    return error


def _counted(reasons: Iterable[str]) -> str:
    """The reasons with the number of their files, the most frequent first."""
    counts = Counter(reasons).most_common()
    named = [f"{reason} ({count} files)" if count > 1 else reason for reason, count in counts[:_MAX_REASONS]]
    more = len(counts) - _MAX_REASONS
    return "; ".join([*named, *([f"and {more} other reasons"] if more > 0 else [])])


def check_radiograph(image: StudyImage) -> None:
    """Refuse what is not one projection in a DICOM, PNG, JPEG or TIFF file, and grey as far as the header tells.

    Raises ImageReadError that says what it is instead.
    """
    if reason := _other_than_radiograph(image.entries, len(image.files)):
        raise ImageReadError(image.path, reason)


def _other_than_radiograph(entries: Sequence[ImageEntry], files: int) -> str:
    row = entries[0].row
    if row.format in ("NIfTI", "MetaImage", "NRRD"):
        return f"a {row.format} file, no radiograph"
    if len(entries) != 1 or files != 1:
        return f"an image of {len(entries)} volumes in {files} files, no radiograph"
    if row.kind != "image":
        return f"an image of {row.shape[2]} slices or frames, no radiograph"
    # of other formats the pixels tell: see `read_radiograph`
    if row.channels != 1 and row.format == "DICOM":
        return f"a colour image ({row.channels} channels), no radiograph"
    return "a mask (1 bit a pixel), not an image of gray values" if entries[0].bits == 1 else ""


def read_radiograph(image: StudyImage, options: ReadOptions) -> ImageArray:
    """Decode what `check_radiograph` let pass, as one channel. Raises ImageReadError, also for colour."""
    row = image.entries[0].row
    array = image.read(options=options)
    return array if row.format == "DICOM" else to_grey(array, row.format)
