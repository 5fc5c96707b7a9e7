"""Series of several phases in every way in which scanners tell them apart, classic and enhanced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slice_files import Attributes, Grid, item, random_values, write_classic, write_enhanced

from seqnorm_monai.dicom.sources import open_sources
from seqnorm_monai.dicom.study import StudyReport, read_studies
from seqnorm_monai.dicom.volume import Volume, load_volume

DIRECTIONS = ([0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0])
# how each phase is marked: attributes of (phase, z); three phases in the order in which they are expected
CLASSIC: dict[str, Attributes] = {
    "temporal position": lambda p, z: {"TemporalPositionIdentifier": p + 1, "NumberOfTemporalPositions": 3},
    "acquisition number": lambda p, z: {"AcquisitionNumber": 10 * p + 7},
    "trigger time": lambda p, z: {"TriggerTime": 33.5 * p},
    "trigger time with noise": lambda p, z: {"TriggerTime": f"{33.5 * p + z * 1e-7:.9g}"},
    "frame reference time": lambda p, z: {"FrameReferenceTime": 1000.0 * p + 500},
    "inversion time": lambda p, z: {"InversionTime": 100.0 * (p + 1)},
    "flip angle": lambda p, z: {"FlipAngle": 5.0 * (p + 1)},
    "echo time": lambda p, z: {"EchoTime": 4.6 * (p + 1), "EchoNumbers": p + 1},
    "b-value": lambda p, z: {"DiffusionBValue": (0.0, 50.0, 1000.0)[p]},
    "gradient direction": lambda p, z: {"DiffusionBValue": 800.0, "DiffusionGradientOrientation": DIRECTIONS[p]},
    "image type": lambda p, z: {"ImageType": ["ORIGINAL", "PRIMARY", ("I", "M", "P")[p]]},
    "cardiac phase": lambda p, z: {"NominalPercentageOfCardiacPhase": 30.0 * p},
    "acquisition time": lambda p, z: {"AcquisitionTime": f"10{p:02}00.00"},
    "acquisition time of each slice": lambda p, z: {"AcquisitionTime": f"10{p:02}{z:02}.50"},
    "content time": lambda p, z: {"ContentTime": f"10{p:02}{z:02}.5"},
    "acquisition date and time": lambda p, z: {"AcquisitionDateTime": f"2020010{p + 1}235959.{z}"},
    "times past midnight": lambda p, z: {
        "AcquisitionDate": "20200102" if p else "20200101",
        "AcquisitionTime": ("235950", "000010", "000110")[p],
    },
    "acquisition number beside times": lambda p, z: {"AcquisitionNumber": p, "AcquisitionTime": f"10{z:02}{p:02}"},
}
ENHANCED: dict[str, Attributes] = {
    "temporal position": lambda p, z: {"FrameContentSequence": item(TemporalPositionIndex=p + 1, StackID="1")},
    "acquisition number": lambda p, z: {"FrameContentSequence": item(FrameAcquisitionNumber=p + 3)},
    "trigger time": lambda p, z: {"CardiacSynchronizationSequence": item(NominalCardiacTriggerDelayTime=40.0 * p)},
    "echo time": lambda p, z: {"MREchoSequence": item(EffectiveEchoTime=2.3 * (p + 1))},
    "b-value": lambda p, z: {"MRDiffusionSequence": item(DiffusionBValue=(0.0, 50.0, 1000.0)[p])},
    "gradient direction": lambda p, z: {
        "MRDiffusionSequence": item(
            DiffusionBValue=800.0,
            DiffusionGradientDirectionSequence=item(DiffusionGradientOrientation=DIRECTIONS[p]),
        )
    },
    "frame type": lambda p, z: {
        "MRImageFrameTypeSequence": item(FrameType=["ORIGINAL", "PRIMARY", ("I", "M", "P")[p], "NONE"])
    },
    "complex component": lambda p, z: {
        "MRImageFrameTypeSequence": item(
            FrameType=["ORIGINAL", "PRIMARY", "T1", "NONE"],
            ComplexImageComponent=("IMAGINARY", "MAGNITUDE", "PHASE")[p],
        )
    },
    "date and time": lambda p, z: {"FrameContentSequence": item(FrameAcquisitionDateTime=f"2020010110{p:02}{z:02}")},
}


def read(folder: Path) -> StudyReport:
    with open_sources(folder) as sources:
        return read_studies(sources.files, sources.refused)


def volumes_of(folder: Path) -> tuple[Volume, ...]:
    """Of the one series in a folder of which every file is used."""
    report = read(folder)
    assert [(record.status, record.reason) for record in report.files] == [("used", "")] * len(report.files)
    (series,) = report.series
    assert series.errors == ()
    return series.volumes


def check(volumes: tuple[Volume, ...], values: np.ndarray, grid: Grid | None = None) -> None:
    """Each volume has the values and the affine of its phase."""
    assert len(volumes) == len(values)
    for index, (volume, expected) in enumerate(zip(volumes, values, strict=True)):
        assert volume.phase_index == index
        tensor = load_volume(volume)
        np.testing.assert_array_equal(tensor.numpy(), expected[None])
        np.testing.assert_allclose(tensor.affine, (grid or Grid()).affine, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("how", CLASSIC)
def test_classic(tmp_path: Path, how: str, seed: int) -> None:
    values = random_values(3)
    write_classic(tmp_path, values, attributes=CLASSIC[how], seed=seed)
    volumes = volumes_of(tmp_path)
    check(volumes, values)
    assert len({volume.phase_label for volume in volumes}) == 3


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("how", ENHANCED)
def test_enhanced(tmp_path: Path, how: str, shared: bool) -> None:
    values = random_values(3)
    write_enhanced(tmp_path / "enhanced.dcm", values, groups=ENHANCED[how], shared=shared)
    volumes = volumes_of(tmp_path)
    check(volumes, values)
    assert len({volume.phase_label for volume in volumes}) == 3


def test_two_attributes_together(tmp_path: Path) -> None:
    """Three echoes at each of two times: six phases, the time first."""
    values = random_values(6)

    def attributes(phase: int, z: int) -> dict[str, Any]:
        return {"TemporalPositionIdentifier": phase // 3 + 1, "EchoTime": 5.0 * (phase % 3 + 1)}

    write_classic(tmp_path, values, attributes=attributes)
    volumes = volumes_of(tmp_path)
    check(volumes, values)
    assert volumes[4].phase_label == "temporal position 2, echo time 10"


def test_phases_with_other_slice_orders_in_time(tmp_path: Path) -> None:
    """Interleaved acquisition: the time of a slice says nothing of its place."""
    values = random_values(2)
    write_classic(
        tmp_path,
        values,
        attributes=lambda p, z: {"AcquisitionTime": f"10{p:02}{(z * 7) % 4:02}", "AcquisitionNumber": 1},
    )
    check(volumes_of(tmp_path), values)


def test_derived_images_among_others_are_volumes_of_their_own(tmp_path: Path) -> None:
    values = random_values(2)
    kinds = ("ORIGINAL", "PRIMARY", "M"), ("DERIVED", "SECONDARY", "SUBTRACTION")
    write_classic(tmp_path, values, attributes=lambda p, z: {"ImageType": list(kinds[p])})
    volumes = sorted(volumes_of(tmp_path), key=lambda volume: volume.derived)
    assert [volume.derived for volume in volumes] == ["", "SUBTRACTION"]
    for volume, expected in zip(volumes, values, strict=True):
        np.testing.assert_array_equal(load_volume(volume).numpy(), expected[None])


def test_private_b_values_of_siemens(tmp_path: Path) -> None:
    values = random_values(2)
    paths = write_classic(tmp_path, values)
    import pydicom

    for (phase, _), path in paths.items():
        dataset = pydicom.dcmread(path)
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "IS", str(1000 * phase))
        dataset.save_as(path)
    volumes = volumes_of(tmp_path)
    check(volumes, values)
    assert [volume.phase_label for volume in volumes] == ["b-value 0", "b-value 1000"]


REFUSALS: dict[str, tuple[Attributes, str]] = {
    "nothing tells them apart": (lambda p, z: {}, "2 slices lie at one position and nothing tells them apart"),
    "two echo times in one volume": (
        lambda p, z: {"TemporalPositionIdentifier": p + 1, "EchoTime": 5.0 if z < 2 else 9.0},
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused(tmp_path: Path, case: str) -> None:
    attributes, reason = REFUSALS[case]
    write_classic(tmp_path, random_values(2), attributes=attributes)
    report = read(tmp_path)
    assert report.volumes == ()
    assert {record.status for record in report.files} == {"rejected"}
    assert all(reason in record.reason and record.reason.startswith("its series is refused") for record in report.files)


def test_optional_numbers_that_are_garbage_are_no_reason_to_refuse(tmp_path: Path) -> None:
    values = random_values(2)
    paths = write_classic(tmp_path, values, attributes=lambda p, z: {"TemporalPositionIdentifier": p + 1})
    for path in paths.values():
        data = path.read_bytes()
        # TriggerTime (0018,1060) DS of 4 bytes in front of the first element of group 0020
        place = data.index(b"\x20\x00\x0d\x00UI")
        path.write_bytes(data[:place] + b"\x18\x00\x60\x10DS\x04\x00abc " + data[place:])
    check(volumes_of(tmp_path), values)
