"""No name, text, date or time of a header gets into an output, a log, a cache or a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from seqnorm_monai.images.dicom.write import RadiographHeader, write_radiograph
from tests.bundles.test_runs import SMALL, table
from tests.makers.bundles import CHEST, bundle_command, copy_bundle, run_command
from tests.makers.marks import DATE, MARK, mark_texts, marks_below, marks_in
from tests.makers.raster_files import texts


def write_marked_dicom(path: Path, number: int) -> None:
    header = RadiographHeader(
        patient_id=f"{MARK}ID",
        study_uid=f"1.2.3.{number}",
        series_uid=f"1.2.3.{number}.1",
        sop_uid=f"1.2.3.{number}.1.1",
        view_position="PA",
        patient_sex="O",
        patient_age="",
    )
    pixels = np.random.default_rng(number).integers(0, 4096, (70, 60)).astype(np.uint16)
    write_radiograph(path, pixels, header, bits_stored=12)
    dataset = pydicom.dcmread(path)
    # values of any length and letters, as real files have them
    with pydicom.config.disable_value_validation():
        mark(dataset)
        dataset.save_as(path)


def mark(dataset: pydicom.Dataset) -> None:
    for keyword in ("ViewPosition", "PatientSex", "PatientAge", "PatientID", "PatientName"):
        if keyword in dataset:
            del dataset[keyword]
    # of the dictionary of pydicom 3.0, more than 2000 are texts
    assert mark_texts(dataset) > 1000


def write_marked_png(path: Path, number: int) -> None:
    exif = Image.Exif()
    exif[270], exif[315], exif[306] = f"{MARK}5", f"{MARK}6", DATE
    pixels = np.random.default_rng(number).integers(0, 255, (70, 60), dtype=np.uint8)
    Image.fromarray(pixels).save(path, pnginfo=texts(MARK), exif=exif)


def write_marked_nifti(path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((6, 5, 4), np.int16), np.eye(4))
    for name in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[name] = f"{MARK}{name}"[: image.header[name].dtype.itemsize]
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", f"{MARK}ext".encode()))
    nibabel.save(image, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four radiographs in DICOM and PNG, a NIfTI volume, damaged copies, and a datalist."""
    folder = tmp_path_factory.mktemp("marked")
    rows = []
    for number in range(24):
        name = f"{number}.{'png' if number % 3 == 0 else 'dcm'}"
        (write_marked_png if number % 3 == 0 else write_marked_dicom)(folder / name, number)
        rows.append({"image": name, "label": ["Mass"] if number % 2 else ["Gout"], "patient": f"p{number}"})
    write_marked_nifti(folder / "volume.nii.gz")
    cuts = {"1.dcm": "cut.dcm", "0.png": "cut.png"}
    for whole, cut in cuts.items():
        content = (folder / whole).read_bytes()
        (folder / cut).write_bytes(content[: len(content) - 900])
    # damaged within its texts, and without a format
    content = (folder / "2.dcm").read_bytes()
    (folder / "header.dcm").write_bytes(content[:3000])
    (folder / "text.dcm").write_text(f"{MARK} is no image")
    splits = {"training": rows[:14], "validation": rows[14:20], "test": rows[20:]}
    (folder / "datalist.json").write_text(json.dumps(splits))
    return folder


def test_marks_are_found_where_they_are(folder: Path) -> None:
    """The search itself: it finds each kind of file."""
    found = marks_below(folder)
    assert {"0.png", "1.dcm", "volume.nii.gz", "text.dcm"} <= set(found)
    assert marks_in(f"a {MARK}".encode("utf-16")) == [MARK]


def test_listing_without_texts_has_none(folder: Path, tmp_path: Path) -> None:
    options = f"--json {tmp_path / 'l.json'} --nifti {tmp_path / 'n'}"
    shown = run_command(f"seqnorm list {folder} --no-text {options}", tmp_path)
    assert len(list((tmp_path / "n").iterdir())) == 25
    assert marks_in(shown.encode()) == []
    assert marks_below(tmp_path) == {}
    # descriptions and protocols alone are shown to who writes rules
    shown = run_command(f"seqnorm list {folder}", tmp_path)
    lines = [line for line in shown.splitlines() if MARK in line]
    assert lines
    assert DATE not in shown


@pytest.mark.slow
def test_runs_leave_none(folder: Path, tmp_path: Path) -> None:
    bundle = copy_bundle(CHEST, tmp_path)
    marked_before = marks_below(bundle)
    datalist, cache = folder / "datalist.json", tmp_path / "cache"
    options = {"datalist": datalist, "cache_dir": cache, "max_epochs": 2, "num_workers": 2}
    log = run_command(bundle_command("training", "train", **options, **SMALL), bundle)
    assert list(cache.iterdir())
    log += run_command(bundle_command("evaluate", "train", "evaluate", datalist=datalist), bundle)
    log += run_command(bundle_command("inference", "inference", dataset_dir=folder), bundle)
    log += run_command(f"seqnorm check --bundle {bundle} --datalist {datalist} --image_size 32", tmp_path)
    assert len(table(bundle / "output/inference/predictions.csv")) == 24
    assert {row["path"] for row in table(bundle / "output/inference/rejected.csv")} == {
        *("cut.dcm", "cut.png", "header.dcm", "text.dcm", "volume.nii.gz")
    }
    assert marks_in(log.encode()) == []
    assert marks_below(bundle) == marked_before
    assert marks_below(cache) == {}


@pytest.mark.parametrize("name", ["cut.dcm", "cut.png", "header.dcm", "text.dcm", "volume.nii.gz"])
def test_a_training_that_a_file_stops_tells_none(folder: Path, tmp_path: Path, name: str) -> None:
    """Not in the traceback either, which the environment variable brings back."""
    bundle = copy_bundle(CHEST, tmp_path)
    content = json.loads((folder / "datalist.json").read_text())
    content["training"][3]["image"] = name
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    command = bundle_command("training", "train", datalist=path, max_epochs=1, num_workers=0, **SMALL)
    output = run_command(["env", "SEQNORM_DEBUG=1", *command], bundle, code=1)
    path.unlink()
    assert name in output
    assert marks_in(output.encode()) == []
