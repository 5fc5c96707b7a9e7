"""Every file that pydicom ships for its own tests: the values of pydicom's own pipeline, or a refusal by name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_color_lut, apply_modality_lut

from seqnorm_monai.images.dicom import PixelDecodeError
from seqnorm_monai.images.dicom.series import ScannedStudies, read_studies
from seqnorm_monai.images.sources import SourceFile
from tests.images.dicom.references import by_itk
from tests.makers.reading import load_volume

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
FILES = sorted(path for path in FOLDER.iterdir() if path.is_file())
# status and reason, by the start of the file's name; what is not named here is an image that must be read
REFUSED = {
    "ExplVR_BigEndNoMeta": ("set_aside", "an RT plan"),
    "ExplVR_LitEndNoMeta": ("set_aside", "an RT plan"),
    "MR_truncated": ("rejected", "the pixel data are cut off"),
    "README": ("rejected", "not a DICOM file: text"),
    "UN_sequence": ("rejected", "no pixel data: CT Image Storage"),
    "badVR": ("set_aside", "an RT dose distribution"),
    "crayons": ("rejected", "not a DICOM file"),
    "empty_charset_LEI": ("set_aside", "no image"),
    "liver": ("set_aside", "a segmentation"),
    "meta_missing_tsyntax": ("rejected", "Rows is missing"),
    "nested_priv_SQ": ("rejected", "Rows is missing"),
    "no_meta.dcm": ("rejected", "not a DICOM file"),
    "no_meta_group_length": ("rejected", "no pixel data: RT Image Storage"),
    "priv_SQ": ("rejected", "no pixel data: MR Image Storage"),
    "reportsi": ("set_aside", "a structured report"),
    "rtdose": ("set_aside", "an RT dose distribution"),
    "rtplan.dump": ("rejected", "not a DICOM file: text"),
    "rtplan": ("set_aside", "an RT plan"),
    "rtstruct.dump": ("rejected", "not a DICOM file: text"),
    "rtstruct": ("set_aside", "an RT structure set"),
    "test-SR": ("set_aside", "a structured report"),
    "test1.json": ("rejected", "not a DICOM file: text"),
    "test_PN.json": ("rejected", "not a DICOM file: text"),
    "waveform_ecg": ("set_aside", "a waveform"),
    "zipMR": ("rejected", "not a DICOM file but a gzip file"),
}
# its codestream was damaged on purpose: the size in it is not that of the header
DAMAGED = "JPEG2000-embedded-sequence-delimiter.dcm"
# lossy 12-bit JPEG, which pydicom leaves to nobody: compared with ITK
BY_ITK = ("JPEG-lossy.dcm", "JPGExtended.dcm")


def report_of(paths: list[Path]) -> ScannedStudies:
    return read_studies([SourceFile(path.name, path) for path in paths])


def reference(path: Path) -> np.ndarray:
    """(frames, rows, columns, channels) by pydicom: pixels, palette or modality LUT."""
    if path.name in BY_ITK:
        return by_itk(path)[0].transpose(2, 1, 0)[..., None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        pixels = dataset.pixel_array
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, dataset)
        elif dataset.SamplesPerPixel == 1:
            pixels = apply_modality_lut(pixels, dataset)
    channels = 3 if dataset.PhotometricInterpretation == "PALETTE COLOR" else dataset.SamplesPerPixel
    return pixels.reshape(-1, dataset.Rows, dataset.Columns, channels)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_alone(path: Path) -> None:
    report = report_of([path])
    (record,) = report.files
    expected = next((REFUSED[name] for name in REFUSED if path.name.startswith(name)), ("used", ""))
    assert (record.status, record.reason[: len(expected[1])]) == expected
    if expected[0] != "used":
        assert report.volumes == ()
        return
    (volume,) = report.volumes
    if path.name == DAMAGED:
        with pytest.raises(
            PixelDecodeError, match=r"sequence-delimiter.dcm: the compressed image is 1024 x \d+, its header"
        ):
            load_volume(volume)
        return
    tensor = load_volume(volume).numpy()
    # (channels, columns, rows[, slices]) -> (slices, rows, columns, channels)
    found = tensor.reshape(*tensor.shape[:3], -1).transpose(3, 2, 1, 0)
    np.testing.assert_array_equal(found, reference(path).astype(np.float32))


def test_all_at_once() -> None:
    """One record for each file; what is refused alone is refused here, and nothing else but copies."""
    report = report_of(FILES)
    assert [record.path for record in report.files] == [path.name for path in FILES]
    for record in report.files:
        refused = record.path == DAMAGED or any(record.path.startswith(name) for name in REFUSED)
        if not refused and record.status != "used":
            assert record.reason.startswith(("a copy of", "the same SOPInstanceUID as")), record
    used = [record.path for record in report.files if record.status == "used"]
    assert sorted(used) == sorted(name for volume in report.volumes for name in volume.files)
