"""Enhanced multi-frame images: functional groups, dimensions, phases, and speed with many frames."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from tests.makers.reading import load_volume
from tests.makers.series_files import (
    Grid,
    check_placed,
    decimals,
    item,
    only_reason,
    save,
    stored,
    study,
    volumes,
    write_classic,
    write_enhanced,
)

GRID = Grid()
STACK, PLACE, TIME = (tag_for_keyword(k) for k in ("StackID", "InStackPositionNumber", "TemporalPositionIndex"))
# Macros of two phases, and what the second is called.
MACROS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "echo time": ([{"MREchoSequence": item(EffectiveEchoTime=t)} for t in (2.5, 5.0)], "echo time 5"),
    "b-value": ([{"MRDiffusionSequence": item(DiffusionBValue=b)} for b in (0.0, 800.0)], "b-value 800"),
    "direction": (
        [
            {
                "MRDiffusionSequence": item(
                    DiffusionBValue=800.0,
                    DiffusionGradientDirectionSequence=item(DiffusionGradientOrientation=direction),
                )
            }
            for direction in ([0.0, 0.6, 0.8], [1.0, 0.0, 0.0])
        ],
        "gradient direction 1 0 0",
    ),
    "cardiac": (
        [{"CardiacSynchronizationSequence": item(NominalCardiacTriggerDelayTime=t)} for t in (10.0, 60.5)],
        "trigger time 60.5",
    ),
    "component": (
        [
            {
                "MRImageFrameTypeSequence": item(
                    FrameType=["ORIGINAL", "PRIMARY", "VELOCITY", "NONE"], ComplexImageComponent=part
                )
            }
            for part in ("MAGNITUDE", "PHASE")
        ],
        "component PHASE",
    ),
}
CONTENT: dict[str, Any] = {
    "index": lambda phase, number: {"TemporalPositionIndex": phase + 1},
    "acquisition": lambda phase, number: {"FrameAcquisitionNumber": phase + 4},
    "time": lambda phase, number: {"FrameAcquisitionDateTime": f"202101022359{30 * phase + number:02d}"},
    "reference": lambda phase, number: {"FrameReferenceDateTime": f"202101022359{30 * phase + number:02d}"},
}


def interleaved(phases: int) -> list[tuple[int, int]]:
    """Frames in an order that no reader may rely on."""
    frames = [(phase, number) for phase in range(phases) for number in range(GRID.slices)]
    return random.Random(3).sample(frames, len(frames))


@pytest.mark.parametrize("shared", [True, False])
def test_enhanced_and_classic_form_give_the_same(shared: bool, tmp_path: Path) -> None:
    grid = Grid(row=(0.6, 0.8, 0.0), column=(0.0, 0.0, -1.0), step=(-2.0, 1.5, 0.0))
    (classic,) = volumes(study(write_classic(tmp_path, grid)))
    (enhanced,) = volumes(study([write_enhanced(tmp_path / "e.dcm", grid, shared=shared, order=interleaved(1))]))
    one, two = check_placed(classic, grid), check_placed(enhanced, grid)
    np.testing.assert_array_equal(one.numpy(), two.numpy())
    np.testing.assert_array_equal(one.affine.numpy(), two.affine.numpy())


@pytest.mark.parametrize("case", MACROS)
def test_macros_tell_phases_apart(case: str, tmp_path: Path) -> None:
    phases, label = MACROS[case]
    found = volumes(study([write_enhanced(tmp_path / "e.dcm", GRID, phases, order=interleaved(2))]))
    assert len(found) == 2 and label in found[1].phase_label
    for number, volume in enumerate(found):
        check_placed(volume, GRID, number)


@pytest.mark.parametrize("case", CONTENT)
def test_frame_content_tells_phases_apart(case: str, tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "e.dcm", GRID, [{}, {}], order=interleaved(2), content=CONTENT[case])
    found = volumes(study([path]))
    assert len(found) == 2
    for number, volume in enumerate(found):
        check_placed(volume, GRID, number)


def test_dimension_index_tells_phases_apart(tmp_path: Path) -> None:
    """By Dimension Index Values alone, the place of a frame left out of them (PS3.3 section C.7.6.17)."""
    path = write_enhanced(
        tmp_path / "e.dcm",
        GRID,
        [{}, {}],
        order=interleaved(2),
        dimensions=[STACK, PLACE, TIME],
        content=lambda phase, number: {"StackID": "A", "DimensionIndexValues": [1, number + 1, phase + 1]},
    )
    found = volumes(study([path]))
    assert [volume.phase_label for volume in found] == ["dimension index 1", "dimension index 2"]
    for number, volume in enumerate(found):
        check_placed(volume, GRID, number)


def test_dimension_index_that_contradicts_is_refused(tmp_path: Path) -> None:
    path = write_enhanced(
        tmp_path / "e.dcm",
        GRID,
        [{}, {}],
        dimensions=[PLACE, TIME],
        content=lambda phase, number: {
            "TemporalPositionIndex": phase + 1,
            "DimensionIndexValues": [number + 1, (phase ^ (number == 3)) + 1],
        },
    )
    assert "temporal position and dimension index divide" in only_reason(study([path]))


@pytest.mark.parametrize("values", [[1], [1, 2, 3], []])
def test_dimension_index_that_cannot_be_read_counts_as_absent(values: list[int], tmp_path: Path) -> None:
    path = write_enhanced(
        tmp_path / "e.dcm",
        GRID,
        dimensions=[PLACE, TIME],
        content=lambda phase, number: {"DimensionIndexValues": values},
    )
    (volume,) = volumes(study([path]))
    check_placed(volume, GRID)


def test_stacks_of_one_orientation_are_told_apart_by_their_id(tmp_path: Path) -> None:
    """Two slabs with a hole between them, in one file."""
    slab, gap = Grid(slices=3), 40.0
    both = Grid(slices=6)
    path = write_enhanced(
        tmp_path / "e.dcm", both, content=lambda phase, number: {"StackID": "1" if number < 3 else "2"}
    )
    dataset = dcmread(path)
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        place = np.add(both.position(number), (0, 0, gap if number > 2 else 0))
        group.PlanePositionSequence[0].ImagePositionPatient = decimals(place)
    dataset.save_as(path)
    first, second = volumes(study([path]))
    check_placed(first, slab)
    tensor = load_volume(second)
    np.testing.assert_allclose(tensor.affine[:3, 3], both.position(3) * (-1, -1, 1) + (0, 0, gap), rtol=1e-6)
    assert tensor.shape[-1] == 3


def test_phase_that_lacks_a_frame_is_refused(tmp_path: Path) -> None:
    frames = [(phase, number) for phase, number in interleaved(2) if (phase, number) != (1, 4)]
    path = write_enhanced(tmp_path / "e.dcm", GRID, [{}, {}], order=frames, content=CONTENT["index"])
    assert "temporal position 2: no slice at 53.00 mm" in only_reason(study([path]))


def test_number_of_groups_that_is_not_that_of_the_frames_is_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "e.dcm", GRID)
    dataset = dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[2]
    dataset.save_as(path)
    assert "4 functional groups for 5 frames" in only_reason(study([path]))


@pytest.mark.parametrize(
    ("macro", "lost"),
    [
        ("PlanePositionSequence", "ImagePositionPatient"),
        ("PlaneOrientationSequence", "ImageOrientationPatient"),
        ("PixelMeasuresSequence", "PixelSpacing"),
        ("PixelValueTransformationSequence", "RescaleSlope (PixelValueTransformationSequence)"),
    ],
)
def test_geometry_and_rescale_are_never_taken_as_absent(macro: str, lost: str, tmp_path: Path) -> None:
    """One frame of five without its macro: not four frames and one more, nor a frame on another scale."""
    path = write_enhanced(tmp_path / "e.dcm", GRID, shared=False)
    dataset = dcmread(path)
    delattr(dataset.PerFrameFunctionalGroupsSequence[2], macro)
    dataset.save_as(path)
    assert only_reason(study([path])).startswith(f"1 of 5 frames have no {lost}")


def test_tilted_gantry_keeps_its_shear(tmp_path: Path) -> None:
    grid = Grid(step=(0.0, 0.8, 2.5))
    (volume,) = volumes(study([write_enhanced(tmp_path / "e.dcm", grid)]))
    assert volume.sheared
    check_placed(volume, grid)


def test_frames_without_geometry_stay_frames(tmp_path: Path) -> None:
    """Dynamic frames of ultrasound or of a camera: in the order in which they are, without an affine."""
    path = write_enhanced(tmp_path / "e.dcm", GRID)
    dataset = dcmread(path)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    dataset.save_as(path)
    (volume,) = volumes(study([path]))
    assert (volume.kind, volume.affine, volume.shape) == ("frames", None, (5, 7, 3))
    np.testing.assert_array_equal(load_volume(volume)[0].numpy()[:, :, 2].T, 2 * stored(GRID)[2] + 30_000)


def test_parts_of_a_concatenation_are_one_volume_and_all_needed(tmp_path: Path) -> None:
    whole, paths = dcmread(write_enhanced(tmp_path / "whole.dcm", GRID)), []
    for part, frames in enumerate([slice(0, 2), slice(2, 5)]):
        dataset = Dataset()
        dataset.update(whole)
        dataset.file_meta = whole.file_meta
        dataset.SOPInstanceUID = f"1.2.3.3.{part + 5}"
        dataset.ConcatenationUID, dataset.InConcatenationTotalNumber = "1.2.3.77", 2
        dataset.InConcatenationNumber = part + 1
        dataset.PerFrameFunctionalGroupsSequence = whole.PerFrameFunctionalGroupsSequence[frames]
        values = stored(GRID)[frames]
        dataset.NumberOfFrames = len(values)
        paths.append(save(dataset, tmp_path / f"{part}.dcm", values))
    (volume,) = volumes(study(paths))
    check_placed(volume, GRID)
    assert "1 of 2 parts of a concatenation" in only_reason(study(paths[1:]))


def test_ten_thousand_frames_are_scanned_in_seconds(tmp_path: Path) -> None:
    """100 phases of 100 slices; a scan that compares frames with frames takes minutes."""
    grid, phases = Grid(slices=100, rows=1, columns=1), 100
    path = write_enhanced(tmp_path / "e.dcm", grid, [{}] * phases, content=CONTENT["index"])
    start = time.perf_counter()
    found = volumes(study([path]))
    assert time.perf_counter() - start < 30
    assert [volume.shape for volume in found] == [(100, 1, 1)] * phases
    check = load_volume(found[98])
    np.testing.assert_array_equal(
        check[0, 0, 0].numpy(), 2 * stored(grid, 98).ravel() + 1e4 * (98 * 8 + np.arange(100) + 1)
    )


def test_highdicom_reads_the_same_volume(tmp_path: Path) -> None:
    """An independent reader of functional groups; it counts slices against the normal, along (slice, row, column)."""
    grid = Grid(row=(0.6, 0.8, 0.0), column=(0.0, 0.0, -1.0), step=(-2.0, 1.5, 0.0))
    path = write_enhanced(tmp_path / "e.dcm", grid, order=interleaved(1))
    (volume,) = volumes(study([path]))
    tensor = load_volume(volume, affine_lps_to_ras=False)
    reference = highdicom.imread(path).get_volume()
    np.testing.assert_array_equal(tensor[0].numpy(), reference.array[::-1].transpose(2, 1, 0))
    turn = np.array([[0, 0, -1, 4], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(tensor.affine.numpy(), reference.affine @ turn, atol=1e-9)
