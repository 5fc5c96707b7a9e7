"""What is in a folder: a row for every phase of every series, and a record of every file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seqnorm_monai.images.dicom.series import ScannedStudies, Series, read_studies
from seqnorm_monai.images.dicom.volume import read_volumes as read_dicom_volumes
from seqnorm_monai.images.entries import OF_SERIES, ImageEntry, Inventory
from seqnorm_monai.images.errors import ImageReadError
from seqnorm_monai.images.lone_files import LoneFiles
from seqnorm_monai.images.records import FileRecord, FileStatus
from seqnorm_monai.images.rows import SeriesRow, dicom_row, series_number
from seqnorm_monai.images.rules import Selection, select_series
from seqnorm_monai.images.sources import Sources

_NOT_CHOSEN = "not chosen by the rules"
# reasons of one series that its row names
_MAX_REASONS = 3


def take_inventory(
    sources: Sources, rules: Iterable[Selection] | None = None, *, all_matched: bool = False, num_workers: int = 0
) -> Inventory:
    """Read the headers of all files; with `rules`, keep the series that they choose and set the others' files aside.

    Files of other formats than DICOM have no attributes: no rule chooses them. Tables, texts and programs are set aside
    as documents. Nothing raises for a file. Headers are read in `num_workers` processes if above 0.
    """
    # a DICOM file need not be opened to find out that it is nothing else: what is no DICOM file is asked afterwards
    lone = LoneFiles.by_name(sources.files)
    dicom = [file for file in sources.files if file not in lone.all]
    report = read_studies(dicom, sources.refused, num_workers=num_workers)
    refused = {record.path for record in report.files if record.status == FileStatus.REJECTED and not record.series}
    explained = lone.add_renamed([file for file in dicom if file.name in refused])
    names = {file.name for file in lone.all}
    kept = [explained.get(record.path, record) for record in report.files if record.path not in names]
    inventory = Inventory([], kept)
    _add_dicom(inventory, report)
    lone.add_to(inventory)
    inventory.files.sort(key=lambda record: record.path)
    if rules is not None:
        _choose(inventory, list(rules), all_matched=all_matched)
    return inventory


def check_pixels(inventory: Inventory) -> None:
    """Decode every image, one after the other, and reject those that cannot be."""
    for entry in list(inventory.entries):
        try:
            entry.read()
        except ImageReadError as error:
            inventory.reject(entry, error)


def _add_dicom(inventory: Inventory, report: ScannedStudies) -> None:
    """Studies in the order of their UIDs; in each the series by SeriesNumber, then by UID."""
    rejected: dict[tuple[str, str], list[FileRecord]] = {}
    for record in report.files:
        if record.status == FileStatus.REJECTED and record.series:
            rejected.setdefault((record.study, record.series), []).append(record)
    found: list[tuple[tuple[str, str], Series | None]] = []
    found += [((one.study_instance_uid, one.series_instance_uid), one) for one in report.series]
    known = {uids for uids, _ in found}
    found += [(uids, None) for uids in rejected if uids not in known]
    found.sort(key=_order)
    studies: dict[str, int] = {}
    numbers: dict[int, int] = {}
    for uids, series in found:
        study = studies.setdefault(uids[0], len(studies) + 1)
        numbers[study] = number = numbers.get(study, 0) + 1
        if series is not None:
            inventory.entries += _entries(series, study, number)
        files, reasons = _refused(rejected.get(uids, []), series)
        if files:
            modality = "" if series is None else series.modality
            row = SeriesRow(
                study=study,
                series=number,
                status=FileStatus.REJECTED,
                format="DICOM",
                files=files,
                modality=modality,
                series_number=_number(series),
                reasons=reasons,
                study_instance_uid=uids[0],
                series_instance_uid=uids[1],
            )
            inventory.refused.append(row)


def _order(found: tuple[tuple[str, str], Series | None]) -> tuple[object, ...]:
    (study, uid), series = found
    number = _number(series)
    return _numeric(study), number is None, number or 0, _numeric(uid)


def _number(series: Series | None) -> int | None:
    """SeriesNumber, where there is an image to ask."""
    volumes = () if series is None else series.volumes
    return series_number(volumes[0].attributes.get("SeriesNumber")) if volumes else None


def _numeric(uid: str) -> tuple[int, ...]:
    """UIDs as their numbers compare: 1.9 stands in front of 1.10."""
    return tuple(int(part) for part in uid.split(".") if part.isdecimal())


def _entries(series: Series, study: int, number: int) -> list[ImageEntry]:
    stacks: dict[int, int] = {}
    for volume in series.volumes:
        stacks[volume.stack] = stacks.get(volume.stack, 0) + 1
    seen: dict[int, int] = {}
    entries = []
    for volume in series.volumes:
        seen[volume.stack] = phase = seen.get(volume.stack, 0) + 1
        row = dicom_row(volume, study, number, stacks=len(stacks), phase=phase, phases=stacks[volume.stack])
        paths = tuple(dict.fromkeys(plane.path for plane in volume.planes))
        bits = volume.planes[0].encoding.layout.bits_allocated
        entry = ImageEntry(
            row, read_dicom_volumes, volume, volume.files, paths, volume.derived, bits, volume.attributes
        )
        entries.append(entry)
    return entries


def _refused(records: Sequence[FileRecord], series: Series | None) -> tuple[int, tuple[str, ...]]:
    """How many files of a series are refused, also in part, and the reasons, each once."""
    files = {record.path for record in records}
    reasons = [record.reason.removeprefix(OF_SERIES) for record in records]
    for error in () if series is None else series.errors:
        files |= set(error.files)
        if not any(error.reason.removeprefix(OF_SERIES) in reason for reason in reasons):
            reasons.append(error.reason.removeprefix(OF_SERIES))
    distinct = list(dict.fromkeys(reasons))
    more = len(distinct) - _MAX_REASONS
    return len(files), (*distinct[:_MAX_REASONS], *([f"and {more} other reasons"] if more > 0 else []))


def _choose(inventory: Inventory, rules: list[Selection], *, all_matched: bool) -> None:
    """Keep the entries of chosen series; a series is known by the attributes of its first image."""
    firsts: dict[tuple[int, int], ImageEntry] = {}
    for entry in inventory.entries:
        firsts.setdefault((entry.row.study, entry.row.series), entry)
    attributes = [
        {**entry.attributes, "StudyInstanceUID": entry.row.study_instance_uid} if entry.attributes else {}
        for entry in firsts.values()
    ]
    places = list(firsts)
    chosen = {places[one.index] for one in select_series(attributes, rules, all_matched=all_matched)}
    kept = [entry for entry in inventory.entries if (entry.row.study, entry.row.series) in chosen]
    used = {name for entry in kept for name in entry.names}
    inventory.mark(
        {name for entry in inventory.entries for name in entry.names} - used, FileStatus.SET_ASIDE, _NOT_CHOSEN
    )
    inventory.entries = kept
