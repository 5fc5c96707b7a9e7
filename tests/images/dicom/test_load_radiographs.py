"""From header attributes to pixels: polarity, LUTs, padding, spacing, description."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.makers.dicom_files import ramp
from tests.makers.reading import read_radiograph

Make = Callable[..., Path]


def lut(entries: list[int], *, first: int, bits: int, representation: str = "US") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", representation, [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("stored_bits", [10, 12, 16])
@pytest.mark.parametrize("apply_voi", [False, True])
@pytest.mark.parametrize("extra", [{}, {"RescaleSlope": "0.37", "RescaleIntercept": "-1024.3"}])
def test_monochrome_twins_are_the_same_image(
    make_dicom: Make, signed: bool, stored_bits: int, apply_voi: bool, extra: dict[str, Any]
) -> None:
    values = ramp(stored_bits, signed=signed)
    low, high = (-(2 ** (stored_bits - 1)), 2 ** (stored_bits - 1) - 1) if signed else (0, 2**stored_bits - 1)
    padding = int(values[5, 7])
    shared = {"bits_stored": stored_bits, "signed": signed, **extra}
    second = make_dicom(values, PixelPaddingValue=padding, name="2.dcm", **shared)
    first = make_dicom(
        low + high - values,
        PixelPaddingValue=low + high - padding,
        PhotometricInterpretation="MONOCHROME1",
        name="1.dcm",
        **shared,
    )
    a, b = read_radiograph(first, apply_voi=apply_voi), read_radiograph(second, apply_voi=apply_voi)
    assert (a.photometric_interpretation, b.photometric_interpretation) == ("MONOCHROME1", "MONOCHROME2")
    if apply_voi:
        np.testing.assert_allclose(a.pixels, b.pixels, atol=1e-6)
    else:
        np.testing.assert_array_equal(a.pixels, b.pixels)


def test_inversion_does_not_depend_on_the_image(make_dicom: Make) -> None:
    values = ramp(8) + 17
    path = make_dicom(values, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_radiograph(path).pixels, 4095 - values)


@pytest.mark.parametrize(("photometric", "shape"), [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")])
def test_presentation_lut_shape_inverts_no_second_time(make_dicom: Make, photometric: str, shape: str) -> None:
    values = ramp(12)
    path = make_dicom(values, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    expected = 4095 - values if photometric == "MONOCHROME1" else values
    np.testing.assert_array_equal(read_radiograph(path).pixels, expected)


def test_rescale(make_dicom: Make) -> None:
    values = ramp(12)
    path = make_dicom(values, RescaleSlope="2.5", RescaleIntercept="-100")
    np.testing.assert_array_equal(read_radiograph(path).pixels, (2.5 * values - 100).astype(np.float32))
    half = make_dicom(values, RescaleSlope="3")
    np.testing.assert_array_equal(read_radiograph(half).pixels, (3 * values).astype(np.float32))


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_modality_lut(make_dicom: Make, transfer_syntax: str) -> None:
    entries = [(7 * k) % 1021 for k in range(499)]
    values = ramp(12)
    path = make_dicom(
        values,
        ModalityLUTSequence=[lut(entries, first=3001, bits=10)],
        PhotometricInterpretation="MONOCHROME1",
        transfer_syntax=transfer_syntax,
    )
    expected = 1023 - np.array(entries)[np.clip(values - 3001, 0, 498)]
    np.testing.assert_array_equal(read_radiograph(path).pixels, expected)


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_modality_lut_of_signed_values(make_dicom: Make, transfer_syntax: str) -> None:
    entries = list(range(0, 4099, 11))
    values = ramp(12, signed=True)
    item = lut(entries, first=-101, bits=13, representation="SS")
    path = make_dicom(values, signed=True, ModalityLUTSequence=[item], transfer_syntax=transfer_syntax)
    expected = np.array(entries)[np.clip(values + 101, 0, len(entries) - 1)]
    np.testing.assert_array_equal(read_radiograph(path).pixels, expected)


def test_lut_of_65536_entries_and_of_packed_bytes(make_dicom: Make) -> None:
    values = ramp(16)
    full = Dataset()
    full.add_new("LUTDescriptor", "US", [0, 0, 16])
    full.add_new("LUTData", "OW", np.arange(65535, -1, -1).astype("<u2").tobytes())
    path = make_dicom(values, bits_stored=16, ModalityLUTSequence=[full])
    np.testing.assert_array_equal(read_radiograph(path).pixels, 65535 - values)
    packed = Dataset()
    packed.add_new("LUTDescriptor", "US", [5, 10, 8])
    packed.add_new("LUTData", "OW", bytes([1, 2, 30, 40, 250, 0]))
    path = make_dicom(values, bits_stored=16, ModalityLUTSequence=[packed])
    expected = np.array([1, 2, 30, 40, 250])[np.clip(values - 10, 0, 4)]
    np.testing.assert_array_equal(read_radiograph(path).pixels, expected)


def test_window_comes_after_the_rescale_and_before_the_polarity(make_dicom: Make) -> None:
    values = ramp(12)
    path = make_dicom(
        values,
        RescaleSlope="2",
        RescaleIntercept="10",
        WindowCenter=["4000", "1"],
        WindowWidth=["1001", "2"],
        PhotometricInterpretation="MONOCHROME1",
    )
    expected = 1 - np.clip((2.0 * values + 10 - 3999.5) / 1000 + 0.5, 0, 1)
    pixels = read_radiograph(path, apply_voi=True).pixels
    np.testing.assert_allclose(pixels, expected, atol=1e-7)
    assert (pixels.min(), pixels.max()) == (0, 1)
    np.testing.assert_array_equal(read_radiograph(path).pixels, 8190 + 20 - (2.0 * values + 10))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_voi_lut_function(make_dicom: Make, function: str) -> None:
    values = ramp(12).astype(np.float64)
    path = make_dicom(ramp(12), WindowCenter="2001", WindowWidth="1501", VOILUTFunction=function)
    expected = {
        "LINEAR": np.clip((values - 2000.5) / 1500 + 0.5, 0, 1),
        "LINEAR_EXACT": np.clip((values - 2001) / 1501 + 0.5, 0, 1),
        "SIGMOID": 1 / (1 + np.exp(-4 * (values - 2001) / 1501)),
    }
    np.testing.assert_allclose(read_radiograph(path, apply_voi=True).pixels, expected[function], atol=1e-6)


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_voi_lut_goes_before_the_window(make_dicom: Make, transfer_syntax: str) -> None:
    entries = [k * k % 509 for k in range(1009)]
    values = ramp(12)
    path = make_dicom(
        values,
        RescaleSlope="1",
        RescaleIntercept="-2000",
        VOILUTSequence=[lut(entries, first=-503, bits=9, representation="SS")],
        WindowCenter="0",
        WindowWidth="10",
        transfer_syntax=transfer_syntax,
    )
    expected = np.array(entries)[np.clip(values - 2000 + 503, 0, 1008)] / 511
    np.testing.assert_allclose(read_radiograph(path, apply_voi=True).pixels, expected, atol=1e-6)


def test_without_a_voi_the_possible_range_becomes_0_to_1(make_dicom: Make) -> None:
    values = ramp(8) + 101
    np.testing.assert_allclose(read_radiograph(make_dicom(values), apply_voi=True).pixels, values / 4095, atol=1e-7)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_as_dark_as_the_darkest_pixel(make_dicom: Make, photometric: str) -> None:
    values = np.clip(ramp(12), 100, 4000)
    padding = (4001, 4095) if photometric == "MONOCHROME1" else (0, 99)
    inside = values.copy()
    values[:, :3], values[:, 3:5] = padding[0], padding[1]
    path = make_dicom(
        values,
        PhotometricInterpretation=photometric,
        PixelPaddingValue=padding[1 if photometric == "MONOCHROME1" else 0],
        PixelPaddingRangeLimit=padding[0 if photometric == "MONOCHROME1" else 1],
    )
    pixels = read_radiograph(path).pixels
    kept = (4095 - inside if photometric == "MONOCHROME1" else inside)[:, 5:]
    np.testing.assert_array_equal(pixels[:, 5:], kept)
    np.testing.assert_array_equal(pixels[:, :5], np.full_like(pixels[:, :5], kept.min()))


@pytest.mark.parametrize("representation", ["US", "SS"])
def test_padding_of_signed_pixels_whatever_its_representation(make_dicom: Make, representation: str) -> None:
    values = ramp(16, signed=True)
    values[0, 0], values[0, 1] = -2000, -32768
    path = make_dicom(values, bits_stored=16, signed=True)
    dataset = dcmread(path)
    dataset.add_new("PixelPaddingValue", representation, -2000 if representation == "SS" else 2**16 - 2000)
    dataset.save_as(path)
    expected = values.copy()
    expected[values == -2000] = -32768
    np.testing.assert_array_equal(read_radiograph(path).pixels, expected)


@pytest.mark.parametrize(
    ("attributes", "spacing", "source"),
    [
        ({}, None, None),
        ({"ImagerPixelSpacing": ["0.143", "0.139"]}, (0.143, 0.139), "ImagerPixelSpacing"),
        ({"NominalScannedPixelSpacing": ["0.2", "0.3"]}, (0.2, 0.3), "NominalScannedPixelSpacing"),
        (
            {"PixelSpacing": ["0.1", "0.2"], "ImagerPixelSpacing": ["0.143", "0.139"]},
            (0.1, 0.2),
            "PixelSpacing",
        ),
        (
            {"PixelSpacing": ["0", "0"], "ImagerPixelSpacing": ["0.143", "0.139"]},
            (0.143, 0.139),
            "ImagerPixelSpacing",
        ),
        ({"PixelSpacing": ["0.1"]}, None, None),
    ],
)
def test_spacing(
    make_dicom: Make, attributes: dict[str, list[str]], spacing: tuple[float, float] | None, source: str | None
) -> None:
    radiograph = read_radiograph(make_dicom(ramp(12), **attributes))
    assert (radiograph.spacing, radiograph.spacing_source) == (spacing, source)


def test_description(make_dicom: Make) -> None:
    radiograph = read_radiograph(make_dicom(ramp(12), ViewPosition="PA", ImageLaterality="U"))
    assert radiograph.study_instance_uid == "1.2.3.13"
    assert radiograph.series_instance_uid == "1.2.3.17"
    assert radiograph.sop_instance_uid == "1.2.3.11"
    assert radiograph.sop_class_uid == "1.2.840.10008.5.1.4.1.1.1"
    assert (radiograph.modality, radiograph.view_position, radiograph.image_laterality) == ("CR", "PA", "U")
    bare = make_dicom(ramp(12), Modality=None, StudyInstanceUID=None, SeriesInstanceUID=None, HighBit=None)
    radiograph = read_radiograph(bare, modalities=["DX"])
    assert (radiograph.modality, radiograph.study_instance_uid, radiograph.view_position) == ("", "", "")


def test_odd_but_readable_headers_do_not_warn(make_dicom: Make) -> None:
    """Under warnings as errors: values that pydicom complains about, an unknown character set."""
    path = make_dicom(ramp(12), StudyID="1", ViewPosition="PA", Manufacturer="XXXXX")
    data = path.read_bytes()
    data = data.replace(b"1.2.3.13", b"1.2.03.x").replace(b"\x08\0\x70\0LO\6\0XXXXX ", b"\x08\0\5\0CS\6\0ISO_XX")
    path.write_bytes(data)
    radiograph = read_radiograph(path)
    # no UID: it groups files, and may be a name
    assert str(radiograph.study_instance_uid).startswith("not-a-uid-")
    np.testing.assert_array_equal(radiograph.pixels, ramp(12))
