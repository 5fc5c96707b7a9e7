"""Phases of one series in every way in which they are stored: each comes out whole, or is refused by name."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.makers.series_files import Grid, check_placed, only_reason, study, volumes, write_classic

GRID = Grid()
# Attributes of three phases, in the order of the phases, and what the second is called.
TELLING: dict[str, tuple[list[dict[str, Any]], str]] = {
    "TemporalPositionIdentifier": (
        [{"TemporalPositionIdentifier": n, "NumberOfTemporalPositions": 3} for n in (1, 2, 3)],
        "temporal position 2",
    ),
    "AcquisitionNumber": ([{"AcquisitionNumber": n} for n in (2, 9, 11)], "acquisition 9"),
    "TriggerTime": ([{"TriggerTime": t} for t in ("0", "900.5", "12000")], "trigger time 900.5"),
    "FrameReferenceTime": ([{"FrameReferenceTime": t} for t in ("30000", "90000", "150000")], "reference time 90000"),
    "AcquisitionTime": ([{"AcquisitionTime": t} for t in ("101000", "101100.5", "101230")], "time order 2"),
    "ContentTime": ([{"ContentTime": t} for t in ("091000", "101100", "111230")], "time order 2"),
    "AcquisitionDateTime": (
        [{"AcquisitionDateTime": f"2021010{n}100000.5+0100"} for n in (1, 2, 3)],
        "time order 2",
    ),
    "time zones": (
        [{"AcquisitionDateTime": f"20210101{t}"} for t in ("100000+0000", "110500+0100", "091000-0100")],
        "time order 2",
    ),
    "past midnight": ([{"AcquisitionTime": t} for t in ("235800", "235930", "000105")], "time order 2"),
    "dates": (
        [{"AcquisitionDate": f"2021010{n}", "AcquisitionTime": t} for n, t in ((1, "10"), (1, "22"), (2, "03"))],
        "time order 2",
    ),
    "EchoTime": ([{"EchoTime": t} for t in ("2.3", "4.6", "10.1")], "echo time 4.6"),
    "EchoNumbers": ([{"EchoNumbers": n} for n in (1, 2, 3)], "echo 2"),
    "InversionTime": ([{"InversionTime": n} for n in ("100", "300", "2000")], "inversion time 300"),
    "FlipAngle": ([{"FlipAngle": n} for n in ("2", "5", "15")], "flip angle 5"),
    "b-values": ([{"DiffusionBValue": b} for b in (0.0, 500.0, 1000.0)], "b-value 500"),
    "directions": (
        [
            {"DiffusionBValue": 0.0},
            {"DiffusionBValue": 800.0, "DiffusionGradientOrientation": [0.0, 1.0, 0.0]},
            {"DiffusionBValue": 800.0, "DiffusionGradientOrientation": [1.0, 0.0, 0.0]},
        ],
        "b-value 800, gradient direction 0 1 0",
    ),
    "echoes and times": (
        [
            {"EchoTime": "2", "TemporalPositionIdentifier": 1},
            {"EchoTime": "4", "TemporalPositionIdentifier": 1},
            {"EchoTime": "2", "TemporalPositionIdentifier": 2},
        ],
        "temporal position 1, echo time 4",
    ),
    "components": (
        [{"ImageType": ["ORIGINAL", "PRIMARY", part, "ND"]} for part in ("I", "M", "P")],
        "component MAGNITUDE",
    ),
    "ComplexImageComponent": (
        [{"ComplexImageComponent": part} for part in ("IMAGINARY", "MAGNITUDE", "REAL")],
        "component MAGNITUDE",
    ),
    "ImageType": (
        [{"ImageType": ["ORIGINAL", "PRIMARY", part]} for part in ("FAT", "IN_PHASE", "WATER")],
        "IN_PHASE",
    ),
    "tube voltages": ([{"KVP": v} for v in ("80", "100", "140")], "kVp 100"),
    "float noise": (
        [{"TriggerTime": t, "DiffusionBValue": b} for t, b in (("0", 0.0), ("12.3", 50.0), ("24.6", 1000.0))],
        "b-value 50",
    ),
}


def shuffled(paths: list[Path], seed: int = 7) -> list[Path]:
    return random.Random(seed).sample(paths, len(paths))


@pytest.mark.parametrize("case", TELLING)
def test_each_attribute_tells_phases_apart(case: str, tmp_path: Path) -> None:
    phases, label = TELLING[case]
    report = study(shuffled(write_classic(tmp_path, GRID, phases)))
    found = volumes(report)
    assert {record.status for record in report.files} == {"used"}
    assert len(found) == 3
    for number, volume in enumerate(found):
        check_placed(volume, GRID, number)
    assert label in found[1].phase_label
    assert [volume.phase_index for volume in found] == [0, 1, 2]


@pytest.mark.parametrize("case", TELLING)
def test_lost_slice_of_one_phase_is_refused(case: str, tmp_path: Path) -> None:
    for number, lost in enumerate([(0, 0), (1, 4), (2, 2)]):
        reason = only_reason(study(write_classic(tmp_path / str(number), GRID, TELLING[case][0], skip=[lost])))
        assert "no slice at" in reason or "a slice is missing or double" in reason, reason


def test_noise_of_written_numbers_separates_nothing(tmp_path: Path) -> None:
    paths = write_classic(
        tmp_path,
        GRID,
        TELLING["b-values"][0],
        each=lambda phase, number: {
            "DiffusionBValue": 500.0 * phase + number * 1e-6,
            "TriggerTime": f"{12.3 + phase * 40 + number * 1e-5:.6f}",
        },
    )
    found = volumes(study(paths))
    for number, volume in enumerate(found):
        check_placed(volume, GRID, number)
    assert len(found) == 3


def test_trigger_times_that_follow_the_heart_beat_are_ranked(tmp_path: Path) -> None:
    """The k-th image of each position is its k-th cardiac phase: positions were scanned one after the other."""
    paths = write_classic(
        tmp_path,
        GRID,
        [{}] * 4,
        each=lambda phase, number: {
            "TriggerTime": f"{phase * (30 + 3 * number)}",
            "AcquisitionTime": f"1000{number:02d}",
        },
    )
    found = volumes(study(shuffled(paths)))
    assert len(found) == 4
    for number, volume in enumerate(found):
        check_placed(volume, GRID, number)


def test_attributes_that_agree_are_one_solution(tmp_path: Path) -> None:
    phases = [{"TemporalPositionIdentifier": n, "AcquisitionNumber": 9 - n, "TriggerTime": n * 100} for n in (1, 2)]
    found = volumes(study(write_classic(tmp_path, GRID, phases)))
    assert [volume.phase_label for volume in found] == ["temporal position 1", "temporal position 2"]
    for number, volume in enumerate(found):
        check_placed(volume, GRID, number)


@pytest.mark.parametrize("other", ["AcquisitionNumber", "TriggerTime", "AcquisitionTime"])
def test_attributes_that_contradict_each_other_are_refused(other: str, tmp_path: Path) -> None:
    """Two partitions with the same counts: neither may win silently."""

    def each(phase: int, number: int) -> dict[str, Any]:
        swapped = phase ^ (number == 2)
        return {other: f"10000{swapped}" if other == "AcquisitionTime" else swapped}

    phases = [{"TemporalPositionIdentifier": n} for n in (1, 2)]
    reason = only_reason(study(write_classic(tmp_path, GRID, phases, each=each)))
    assert "temporal position" in reason and "divide the slices into different phases" in reason


def test_physical_attribute_wins_over_one_that_would_mix_it(tmp_path: Path) -> None:
    """Acquisitions that interleave two echoes: an image of both is none."""
    phases = [{"EchoTime": t} for t in ("2", "5")]
    paths = write_classic(tmp_path, GRID, phases, each=lambda p, n: {"AcquisitionNumber": p ^ (n % 2)})
    found = volumes(study(paths))
    assert [volume.phase_label for volume in found] == ["echo time 2", "echo time 5"]
    for number, volume in enumerate(found):
        check_placed(volume, GRID, number)


def test_physical_attribute_that_one_slice_lacks_still_rules_out(tmp_path: Path) -> None:
    """One slice has no echo time: the echo cannot divide, but no solution that mixes known echoes counts."""
    phases = [{"TemporalPositionIdentifier": n} for n in (1, 2)]
    paths = write_classic(
        tmp_path,
        GRID,
        phases,
        each=lambda phase, number: {
            "AcquisitionNumber": phase ^ (number % 2),
            **({"EchoTime": f"{2 + 3 * phase}"} if (phase, number) != (1, 2) else {}),
        },
    )
    found = volumes(study(paths))
    assert [volume.phase_label for volume in found] == ["temporal position 1", "temporal position 2"]
    for number, volume in enumerate(found):
        check_placed(volume, GRID, number)


def test_magnitude_in_three_phases_and_one_phase_image(tmp_path: Path) -> None:
    phases = [{"ImageType": ["ORIGINAL", "PRIMARY", "M"], "AcquisitionNumber": n} for n in (1, 2, 3)]
    phases.append({"ImageType": ["ORIGINAL", "PRIMARY", "P"], "AcquisitionNumber": 1})
    found = volumes(study(shuffled(write_classic(tmp_path, GRID, phases))))
    assert [volume.phase_value for volume in found] == [
        (1.0, "MAGNITUDE"),
        (1.0, "PHASE"),
        (2.0, "MAGNITUDE"),
        (3.0, "MAGNITUDE"),
    ]
    for volume, number in zip(found, (0, 3, 1, 2), strict=True):
        check_placed(volume, GRID, number)


@pytest.mark.parametrize(
    "kind", [["DERIVED", "SECONDARY", "SUBTRACTION"], ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]]
)
def test_derived_map_is_a_volume_of_its_own(kind: list[str], tmp_path: Path) -> None:
    phases = [{"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": kind}]
    found = volumes(study(write_classic(tmp_path, GRID, phases)))
    assert [bool(volume.derived) for volume in found] == [False, True]
    for number, volume in enumerate(found):
        check_placed(volume, GRID, number)


def test_map_of_fewer_slices_refuses_nothing(tmp_path: Path) -> None:
    """A computed map is no phase: it need not cover what was acquired."""
    phases = [{"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["DERIVED", "PRIMARY", "M", "ADC"]}]
    image, derived = volumes(study(write_classic(tmp_path, GRID, phases, skip=[(1, 4)])))
    check_placed(image, GRID)
    assert (derived.derived, derived.shape[0]) == ("ADC", 4)


def test_weighting_is_no_map(tmp_path: Path) -> None:
    """The third value T1 of an image as acquired is its weighting (PS3.3 section C.8.13.3.1)."""
    (volume,) = volumes(study(write_classic(tmp_path, GRID, [{"ImageType": ["ORIGINAL", "PRIMARY", "T1", "NONE"]}])))
    assert volume.derived == ""


@pytest.mark.parametrize("keyword", ["EchoTime", "InversionTime", "KVP", "DiffusionBValue"])
def test_volume_of_two_physical_values_is_refused(keyword: str, tmp_path: Path) -> None:
    reason = only_reason(study(write_classic(tmp_path, GRID, each=lambda phase, number: {keyword: 5 + (number > 2)})))
    assert f"({keyword.removeprefix('Diffusion')})" in reason


@pytest.mark.parametrize("keyword", ["AcquisitionTime", "ContentTime"])
def test_times_of_single_slices_are_no_phases(keyword: str, tmp_path: Path) -> None:
    """Positions scanned one after the other: the second image of one is earlier than the first of the next."""
    paths = write_classic(tmp_path, GRID, [{}, {}], each=lambda p, n: {keyword: f"1000{2 * n + p:02d}"})
    assert "nothing tells them apart" in only_reason(study(paths))


def test_nothing_to_tell_phases_apart_is_refused(tmp_path: Path) -> None:
    assert "nothing tells them apart" in only_reason(study(write_classic(tmp_path, GRID, [{}, {}])))


def test_copies_of_a_slice_with_other_uids_are_refused(tmp_path: Path) -> None:
    paths = write_classic(tmp_path, GRID, [{}, {}], skip=[(1, n) for n in (0, 1, 2, 4)])
    assert "1 to 2 slices lie at one position" in only_reason(study(paths))


@pytest.mark.parametrize("keyword", ["TriggerTime", "FlipAngle", "EchoTime", "AcquisitionTime", "InversionTime"])
@pytest.mark.parametrize("garbage", [b"abc ", b"1.5.5\\x ", b"inf ", b"0" * 4000])
def test_garbage_in_an_optional_number_counts_as_absent(keyword: str, garbage: bytes, tmp_path: Path) -> None:
    """In one file, and in all: the phases are still told apart by the temporal position."""
    fill = "101010.1"
    phases = [{"TemporalPositionIdentifier": n} for n in (1, 2)]
    for name, chosen in (("one", [(1, 2)]), ("all", [(p, n) for p in (0, 1) for n in range(GRID.slices)])):
        paths = write_classic(
            tmp_path / name,
            GRID,
            phases,
            each=lambda phase, number: {keyword: fill},
        )
        for phase, number in chosen:
            replace_value(paths[phase * GRID.slices + number], fill.encode(), garbage)
        found = volumes(study(paths))
        assert len(found) == 2
        for number, volume in enumerate(found):
            check_placed(volume, GRID, number)


def replace_value(path: Path, old: bytes, new: bytes) -> None:
    """Swap the value of an element with a 16-bit length in front."""
    data = path.read_bytes()
    head = len(old).to_bytes(2, "little") + old
    path.write_bytes(data.replace(head, len(new).to_bytes(2, "little") + new))


def test_temporal_position_in_a_wrong_representation(tmp_path: Path) -> None:
    """Text where an integer string is wanted: read as the number that it is."""
    paths = write_classic(tmp_path, GRID, [{"TemporalPositionIdentifier": n} for n in (1, 2)])
    for path in paths:
        data = path.read_bytes()
        assert data.count(b"\x20\x00\x00\x01IS") == 1
        path.write_bytes(data.replace(b"\x20\x00\x00\x01IS", b"\x20\x00\x00\x01LO"))
    found = volumes(study(paths))
    assert len(found) == 2
    for number, volume in enumerate(found):
        check_placed(volume, GRID, number)


def test_phases_in_separate_series(tmp_path: Path) -> None:
    paths = []
    for phase in range(3):
        skip = [(other, n) for other in range(3) for n in range(GRID.slices) if other != phase]
        attributes = [{"AcquisitionNumber": n, "AcquisitionTime": f"10000{n}"} for n in range(3)]
        paths += write_classic(tmp_path, GRID, attributes, series=f"1.2.3.2.{phase}", skip=skip, stem=f"{phase}")
    report = study(shuffled(paths))
    assert sorted(len(series.volumes) for series in report.series) == [1, 1, 1]
    for series in report.series:
        check_placed(series.volumes[0], GRID, int(series.series_instance_uid[-1]))
