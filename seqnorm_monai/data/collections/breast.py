"""Collections of breast MRI: an item is one breast."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from seqnorm_monai.data.collections.engine import Collection, Entry, labelled
from seqnorm_monai.data.collections.sheets import read_sheet
from seqnorm_monai.data.datalists import SIDES, DatalistError

MALIGNANT = "Malignant"
_YES, _NO = (MALIGNANT,), ()
# ODELIA's Lesion: none, benign, malignant; two classes by default, malignant or not
_LESION = {"0": _NO, "1": _NO, "2": _YES}
# the same as three classes of which a breast has exactly one
THREE = ("No lesion", "Benign", MALIGNANT)
_THREE = {str(number): (name,) for number, name in enumerate(THREE)}
_FLAGS = {"0": _NO, "1": _YES, "0.0": _NO, "1.0": _YES}
# fastMRI's Lesion status, whose codes are not in the order of severity
_STATUS = {"0": _NO, "1": _YES, "2": _NO}
_THREE_STATUS = {"0": THREE[:1], "1": THREE[2:], "2": THREE[1:2]}
_FASTMRI_SPLITS = {"0": "training", "1": "test"}
_ODELIA_SPLITS = {"train": "training", "val": "validation", "test": "test"}
_PATIENT = re.compile(r"Breast_MRI_\d+")


Labels = Mapping[str, tuple[str, ...]]


def _plain(root: Path, table: Path | None, column: str = "label", labels: Labels = _FLAGS) -> Iterator[Entry]:
    """``study,patient,side`` and `column`: the folder or file of a study below the root, left or right, a code."""
    if table is None:
        raise DatalistError(f"argument table: name the CSV with the columns study, patient, side and {column}")
    for row in read_sheet(table, ("study", "patient", "side", column)).to_dict("records"):
        side = row["side"].lower()
        if side not in SIDES:
            raise DatalistError(f"{table}: study {row['study']}: side must be left or right; got {row['side']!r}")
        path = root / row["study"]
        image = path if row["study"] and path.exists() else None
        yield Entry(f"{row['study']} {side}", image, row["patient"], labelled(labels, row[column]), side)


def _duke(root: Path, table: Path | None) -> Iterator[Entry]:
    """Two breasts a patient: malignant where Tumor Location names it, or where the tumour is bilateral; NC is dropped.

    Patients are folders ``Breast_MRI_001`` with one study folder, in the classic and in the descriptive layout. There
    are no healthy women: every negative is the other breast of a woman with cancer.
    """
    path = table or root / "Clinical_and_Other_Features.xlsx"
    columns = ("Patient ID", "Tumor Location", "Bilateral Information")
    sheet = read_sheet(path, columns, sheet="Data", header=1)
    folders = {folder.name: folder for folder in sorted(root.rglob("Breast_MRI_*")) if folder.is_dir()}
    listed = set()
    for row in sheet.to_dict("records"):
        patient = row["Patient ID"]
        # the row below the names explains the codes
        if not _PATIENT.fullmatch(patient):
            continue
        listed.add(patient)
        image = _only_folder(folders.get(patient))
        for side in SIDES:
            labels = _duke_labels(row["Tumor Location"], row["Bilateral Information"], side)
            yield Entry(f"{patient} {side}", image, patient, labels, side)
    yield from (Entry(name, folder, name, None) for name, folder in folders.items() if name not in listed)


def _duke_labels(location: str, bilateral: str, side: str) -> tuple[str, ...] | None:
    both = labelled(_FLAGS, bilateral)
    if both is None or location not in ("L", "R"):
        return None
    return _YES if both or location == side[0].upper() else _NO


def _only_folder(patient: Path | None) -> Path | None:
    """The study of a patient: the only folder in the patient's, or else the patient's itself, with all files."""
    if patient is None:
        return None
    folders = [path for path in sorted(patient.iterdir()) if path.is_dir()]
    return folders[0] if len(folders) == 1 else patient


def _odelia(root: Path, _table: Path | None, labels: Labels = _LESION) -> Iterator[Entry]:
    """Every institution's studies, unilateral where they are there, else bilateral; splits are those of fold 0."""
    folders = [folder for folder in (root, *sorted(root.iterdir())) if folder.is_dir()]
    unilateral = [folder for folder in folders if (folder / "metadata_unilateral/annotation.csv").is_file()]
    for folder in unilateral:
        yield from _odelia_studies(folder, "_unilateral", labels)
    for folder in folders:
        if folder not in unilateral and (folder / "metadata/annotation.csv").is_file():
            yield from _odelia_studies(folder, "", labels)


def _odelia_studies(folder: Path, kind: str, labels: Labels) -> Iterator[Entry]:
    lesions = ("Lesion",) if kind else ("Lesion_Left", "Lesion_Right")
    sheet = read_sheet(folder / f"metadata{kind}/annotation.csv", ("UID", "PatientID", *lesions))
    splits = _odelia_splits(folder / f"metadata{kind}/split.csv")
    names = set()
    for row in sheet.to_dict("records"):
        uid = row["UID"]
        names.add(uid)
        path = folder / f"data{kind}" / uid
        image = path if path.is_dir() else None
        for column in lesions:
            side = column.rpartition("_")[2].lower() if not kind else uid.rpartition("_")[2].lower()
            if side not in SIDES:
                raise DatalistError(f"{folder.name}: UID {uid} names no side")
            name = f"{folder.name}/{uid}" + ("" if kind else f" {side}")
            yield Entry(name, image, row["PatientID"], labelled(labels, row[column]), side, splits.get(uid, ""))
    present = sorted((folder / f"data{kind}").glob("*"))
    yield from (Entry(f"{folder.name}/{p.name}", p, "", None) for p in present if p.is_dir() and p.name not in names)


def _odelia_splits(path: Path) -> dict[str, str]:
    """UID to split. Five folds have a row each for every UID; the first is taken."""
    if not path.is_file():
        return {}
    rows = read_sheet(path, ("UID", "Fold", "Split")).to_dict("records")
    return {row["UID"]: _ODELIA_SPLITS.get(row["Split"], "") for row in rows if row["Fold"] == "0"}


def _fastmri(root: Path, table: Path | None, statuses: Labels = _STATUS) -> Iterator[Entry]:
    """fastMRI breast, DICOM edition: a study an item, malignant where Lesion status is 1.

    The codes are not in the order of severity: 0 negative, 1 malignant, 2 benign. Repeated scans share a number above
    0, and with it a woman.
    """
    path = table or root / "fastMRI_breast_labels.xlsx"
    lesion = "Lesion status (0 = negative, 1= malignancy, 2= benign)"
    repeated = "Repeated scans (0 = not repeat, 1:16 = repeated)"
    split = "Data split (0=training, 1=testing)"
    sheet = read_sheet(path, ("Patient Coded Name", repeated, split, lesion))
    folders = {folder.name: folder for folder in sorted(root.rglob("fastMRI_breast_*")) if folder.is_dir()}
    for row in sheet.to_dict("records"):
        name, woman = row["Patient Coded Name"], row[repeated]
        patient = name if woman in ("", "0", "0.0") else f"repeated {woman.removesuffix('.0')}"
        labels = labelled(statuses, row[lesion].removesuffix(".0"))
        official = _FASTMRI_SPLITS.get(row[split].removesuffix(".0"), "")
        yield Entry(name, folders.get(name), patient, labels, split=official)


PLAIN = Collection("breasts", (MALIGNANT,), _plain, "seqnorm_monai/data/README.md")
DUKE = Collection("duke", (MALIGNANT,), _duke, "TCIA, 10.7937/TCIA.e3sv-re93")
ODELIA = Collection("odelia", (MALIGNANT,), _odelia, "Hugging Face, ODELIA-AI/ODELIA-Challenge-2025")
FASTMRI = Collection("fastmri-breast", (MALIGNANT,), _fastmri, "NYU, fastMRI breast, DICOM edition")
PLAIN_LESIONS = Collection(
    "breasts-lesions", THREE, partial(_plain, column="lesion", labels=_THREE), "seqnorm_monai/data/README.md"
)
ODELIA_LESIONS = Collection("odelia-lesions", THREE, partial(_odelia, labels=_THREE), ODELIA.source)
FASTMRI_LESIONS = Collection("fastmri-breast-lesions", THREE, partial(_fastmri, statuses=_THREE_STATUS), FASTMRI.source)
MAMA_MIA = Collection(
    "mama-mia",
    (MALIGNANT,),
    lambda _root, _table: (),
    "Synapse, syn60868042",
    "every study holds a cancer, and no breast is labelled as free of one, so that its labels cannot tell malignant "
    "from not; use it for other questions, or its studies as further positives in a table of your own (seqnorm prepare "
    "breasts)",
)
