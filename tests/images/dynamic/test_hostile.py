"""Studies as departments and converters leave them: each understood right, or refused with a reason that is true."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from seqnorm_monai.data import load_image
from seqnorm_monai.images.records import FileStatus
from tests.images.dynamic.test_forms import find
from tests.makers.bundles import SHARED
from tests.makers.dynamic_files import (
    GRID,
    SECONDS,
    STARTS,
    a_series_each,
    clock,
    nifti_files,
    one_series,
    phase,
    pre_apart,
    write_phase,
)
from tests.makers.series_files import rotated

FOUR = ["pre", "post_1", "post_2", "post_3"]


def extra(folder: Path, number: int, **attributes: Any) -> None:  # noqa: ANN401
    """One more series beside the phases, of their values."""
    write_phase(folder, number, phase(number, **attributes), uid=f"1.2.3.9{number}{len(attributes)}")


def t2(folder: Path) -> None:
    extra(folder, 0, RepetitionTime="4000", EchoTime="90", FlipAngle="90", ScanningSequence="SE", SeriesNumber=50)


def subtraction(folder: Path) -> None:
    extra(folder, 1, ImageType=["DERIVED", "PRIMARY", "M", "SUB"], SeriesNumber=60)


def other_grid(folder: Path) -> None:
    """A late series of high resolution, by another protocol."""
    fine = replace(GRID, spacing=(0.3, 0.6), rows=9)
    attributes = phase(3, RepetitionTime="6.1", FlipAngle="15", SeriesNumber=70)
    write_phase(folder, 3, attributes, grid=fine, uid="1.2.3.970")


def repeated_pre(folder: Path) -> None:
    """The patient moved: two phases before the contrast agent, of which the last counts."""
    early = phase(0, AcquisitionTime=clock(STARTS[0] - 200), SeriesNumber=1)
    write_phase(folder, 0, early, uid="1.2.3.980")


def with_series(*adders: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        a_series_each(folder)
        for add in adders:
            add(folder)

    return make


def over_midnight(folder: Path) -> None:
    for number in range(4):
        moment = clock(86_400 - 150 + SECONDS[number])
        write_phase(folder, number, phase(number, AcquisitionTime=moment))


def over_midnight_with_dates(folder: Path) -> None:
    for number in range(4):
        seconds = 86_400 - 150 + SECONDS[number]
        date = "20240105" if seconds < 86_400 else "20240106"
        write_phase(folder, number, phase(number, AcquisitionTime=clock(seconds), AcquisitionDate=date))


def agent_everywhere(folder: Path) -> None:
    """A protocol that names the agent for all phases, as many do."""
    for number in range(4):
        write_phase(folder, number, phase(number, ContrastBolusAgent="GADO"))


def agent_nowhere(folder: Path) -> None:
    for number in range(4):
        write_phase(folder, number, phase(number, agent=False))


def two_studies(folder: Path) -> None:
    for study in ("1.2.3.101", "1.2.3.102"):
        for number in range(4):
            attributes = phase(number, StudyInstanceUID=study)
            write_phase(folder / study, number, attributes, uid=f"{study}.{number}")


def shuffled_names(folder: Path) -> None:
    a_series_each(folder / "x")
    for place, path in enumerate(sorted((folder / "x").iterdir(), key=lambda path: hash(path.name[::-1]))):
        shutil.move(path, folder / f"{place}")


def moved_table(folder: Path) -> None:
    """Positions that differ in the third decimal, as scanners write them."""
    for number in range(4):
        origin = (GRID.origin[0] + 0.001 * number, *GRID.origin[1:])
        write_phase(folder, number, phase(number), grid=replace(GRID, origin=origin))


def oblique(folder: Path) -> None:
    angle = np.deg2rad(17)
    axes = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])
    a_series_each(folder, rotated(GRID, axes, 2.5))


def sagittal(folder: Path) -> None:
    a_series_each(folder, rotated(GRID, np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]), 3.0))


def nifti_with_others(folder: Path) -> None:
    nifti_files(folder, ["Pre", "Post_1", "Post_2", "Sub_1"])
    nifti_files(folder, ["T2"])


GOOD: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "with T2": (with_series(t2), FOUR, "ContrastBolusAgent"),
    "with a subtraction": (with_series(subtraction), FOUR, "ContrastBolusAgent"),
    "with a late series": (with_series(other_grid), FOUR, "ContrastBolusAgent"),
    "with all of them": (with_series(t2, subtraction, other_grid), FOUR, "ContrastBolusAgent"),
    "repeated pre": (with_series(repeated_pre), FOUR, "ContrastBolusAgent"),
    "midnight": (over_midnight, FOUR, "ContrastBolusAgent"),
    "midnight with dates": (over_midnight_with_dates, FOUR, "ContrastBolusAgent"),
    "agent everywhere": (agent_everywhere, FOUR, "the first in time"),
    "agent nowhere": (agent_nowhere, FOUR, "the first in time"),
    "names without order": (shuffled_names, FOUR, "ContrastBolusAgent"),
    "moved table": (moved_table, FOUR, "ContrastBolusAgent"),
    "oblique": (oblique, FOUR, "ContrastBolusAgent"),
    "sagittal": (sagittal, FOUR, "ContrastBolusAgent"),
    "one phase after": (lambda f: a_series_each(f, numbers=(0, 2)), ["pre", "post_1"], "ContrastBolusAgent"),
    "subtraction in the series": (
        lambda f: (pre_apart(f), subtraction(f)),
        FOUR,
        "ContrastBolusAgent",
    ),
    "NIfTI with others": (nifti_with_others, ["pre", "post_1", "post_2"], "the names of the files"),
}


@pytest.mark.parametrize("name", GOOD)
def test_understood(name: str, tmp_path: Path) -> None:
    make, roles, decided = GOOD[name]
    make(tmp_path)
    found = find(tmp_path)
    assert [str(error) for error in found.refused] == []
    (study,) = found.studies
    assert [phase.role for phase in study.phases] == roles
    assert study.decided == decided
    image = study.read(["pre", "sub_1"])
    assert image.pixels.shape[0] == 2
    assert (image.pixels[1] > 0).all(), "each phase is brighter than the one before it"
    if name.startswith("midnight"):
        assert study.seconds == pytest.approx(SECONDS)
    if name == "repeated pre":
        assert study.seconds == pytest.approx(SECONDS)
        aside = {record.reason for record in found.files}
        assert aside == {"an earlier phase before the contrast agent"}
    assert {record.status for record in found.files} <= {FileStatus.SET_ASIDE}
    assert all(record.reason for record in found.files)


def test_two_studies_of_one_folder_stay_apart(tmp_path: Path) -> None:
    two_studies(tmp_path)
    found = find(tmp_path)
    assert len(found.studies) == 2
    for study in found.studies:
        assert len({path.parent for path in study.files}) == 1


def equal_times(folder: Path) -> None:
    for number in range(4):
        write_phase(folder, number, phase(number, AcquisitionTime=clock(STARTS[0])))


def no_times(folder: Path) -> None:
    for number in range(4):
        attributes = phase(number)
        del attributes["AcquisitionTime"]
        write_phase(folder, number, attributes)


def phase_on_another_grid(folder: Path) -> None:
    a_series_each(folder, numbers=(0, 1, 2))
    write_phase(folder, 3, phase(3), grid=replace(GRID, rows=9))


def phase_moved(folder: Path) -> None:
    a_series_each(folder, numbers=(0, 1, 2))
    write_phase(folder, 3, phase(3), grid=replace(GRID, origin=(-21.0, 17.0, 43.0)))


def agent_fades(folder: Path) -> None:
    for number in range(4):
        named = {"ContrastBolusAgent": "GADO"} if number in (1, 2) else {}
        write_phase(folder, number, phase(number, agent=False, **named))


def two_dynamic_series(folder: Path) -> None:
    """Two of three phases, by two protocols, and none names a contrast agent."""
    for number in range(3):
        write_phase(folder, number, phase(number, agent=False))
        write_phase(folder, number, phase(number, agent=False, FlipAngle="30"), uid=f"1.2.3.7{number}")


def lacking_slice(folder: Path) -> None:
    a_series_each(folder)
    next(path for path in sorted(folder.iterdir()) if path.name.endswith("_2.dcm")).unlink()


def cut_off(folder: Path) -> None:
    a_series_each(folder)
    path = next(path for path in sorted(folder.iterdir()) if path.name.endswith("_1.dcm"))
    path.write_bytes(path.read_bytes()[:-30])


def one_volume(folder: Path) -> None:
    a_series_each(folder, numbers=(0,))


def nifti_other_shape(folder: Path) -> None:
    nifti_files(folder, ["Pre", "Post_1"])
    image = nibabel.Nifti1Image(np.zeros((5, 7, 3), np.float32), np.eye(4))
    nibabel.save(image, folder / "Post_2.nii.gz")


def nifti_moved(folder: Path) -> None:
    nifti_files(folder, ["Pre", "Post_1"])
    nifti_files(folder / "x", ["Post_2"], replace(GRID, origin=(0.0, 0.0, 0.0)))
    shutil.move(folder / "x/Post_2.nii.gz", folder)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "equal times": (equal_times, "no time tells its phases apart: series 1"),
    "no times": (no_times, "no time tells its phases apart"),
    "another grid": (phase_on_another_grid, "is of the protocol of the phases, but has 5 x 9 x 4 voxels instead of"),
    "moved phase": (phase_moved, "is of the protocol of the phases, but has corners 10 mm apart"),
    "agent fades": (agent_fades, "the contrast agent is named in earlier and not in later phases"),
    "two dynamic series": (two_dynamic_series, "2 series of phases, and nothing tells which is the dynamic one"),
    "a slice is missing": (lacking_slice, "cannot be read, and may be one of its phases: repair it, or take it out"),
    "a cut-off file": (cut_off, "cannot be read, and may be one of its phases"),
    "one volume": (one_volume, "no two volumes are phases of one series: series 1"),
    "subtraction alone": (subtraction, "no two volumes are phases of one series: no volume at all"),
    "NIfTI without pre": (lambda f: nifti_files(f, ["Post_1", "Post_2"]), "pre is missing: Post_1.nii.gz"),
    "NIfTI without post": (lambda f: nifti_files(f, ["Pre"]), "post is missing: Pre.nii.gz"),
    "NIfTI with a gap": (lambda f: nifti_files(f, ["Pre", "Post_2"]), "a phase is missing or stands twice"),
    "NIfTI of another shape": (nifti_other_shape, "Post_2.nii.gz has 5 x 7 x 3 voxels instead of 5 x 7 x 4"),
    "NIfTI elsewhere": (nifti_moved, "Post_2.nii.gz has corners"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_with_the_true_reason(name: str, tmp_path: Path) -> None:
    make, says = BAD[name]
    make(tmp_path)
    found = find(tmp_path)
    assert found.studies == ()
    (error,) = found.refused
    assert says in error.reason
    assert "Secret" not in str(error)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(found.files) == len(files), "every file is accounted for"
    assert all(record.reason for record in found.files)


@pytest.mark.parametrize(
    ("rules", "roles", "decided"),
    [
        (
            [{"name": "dynamic", "conditions": {"RepetitionTime": [4, 5], "SeriesNumber": [3, 6]}}],
            ["pre", "post_1", "post_2"],
            "the first in time",
        ),
        ([{"name": "pre", "conditions": {"SeriesNumber": [3, 4]}}], ["pre", "post_1"], "the selection 'pre'"),
    ],
)
def test_rules_decide_first(tmp_path: Path, rules: list[object], roles: list[str], decided: str) -> None:
    for number in range(3):
        write_phase(tmp_path, number, phase(number, agent=False))
    (study,) = find(tmp_path, {"selections": rules}).studies
    assert [phase.role for phase in study.phases] == roles
    assert study.decided == decided


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"name": "dynamic", "conditions": {"SeriesNumber": 77}}, "no volume fits the selection 'dynamic'"),
        ({"name": "pre", "conditions": {"SeriesNumber": 5}}, "'pre' does not fit the first phases in time"),
        ({"name": "pre", "conditions": {"SeriesNumber": 77}}, "'pre' does not fit the first phases in time"),
    ],
)
def test_rules_that_do_not_fit_are_named(tmp_path: Path, rule: dict[str, object], says: str) -> None:
    for number in range(3):
        write_phase(tmp_path, number, phase(number, agent=False))
    found = find(tmp_path, {"selections": [rule]})
    assert found.studies == ()
    assert says in found.refused[0].reason


def test_several_ways_of_storage_may_mix(tmp_path: Path) -> None:
    """One study in one series, and one in NIfTI, in one folder."""
    one_series(tmp_path / "a", TemporalPositionIdentifier=lambda n: n + 1)
    nifti_files(tmp_path / "b", ["pre", "post_1"])
    found = find(tmp_path)
    assert sorted(len(study.phases) for study in found.studies) == [2, 4]


def test_two_series_that_share_nothing_but_the_grid_need_rules(tmp_path: Path) -> None:
    """As a pair that was registered by a program: other echo times, and no times of one of them."""
    before = phase(0, EchoTime="11")
    del before["AcquisitionTime"]
    write_phase(tmp_path, 0, before)
    write_phase(tmp_path, 1, phase(1))
    assert "no two volumes are phases of one series" in find(tmp_path).refused[0].reason
    rules = [
        {"name": "dynamic", "conditions": {"RepetitionTime": [4, 5]}},
        {"name": "pre", "conditions": {"SeriesNumber": 3}},
    ]
    (study,) = find(tmp_path, {"selections": rules}).studies
    assert [one.role for one in study.phases] == ["pre", "post_1"]
    assert study.clock == study.decided == "the selection 'pre'"
    assert study.seconds == (None, None)


@pytest.mark.skipif(not (SHARED / "data/mri_dicom_pgbm").is_dir(), reason="the real pair is not at hand")
def test_a_real_pair_of_series(tmp_path: Path) -> None:
    """The subtraction to the pixel, against the two series read one by one."""
    folder = SHARED / "data/mri_dicom_pgbm/Study1"
    rules = [
        {"name": "dynamic", "conditions": {"Modality": "MR"}},
        {"name": "pre", "conditions": {"SeriesDescription": "pre"}},
    ]
    (study,) = find(folder, {"selections": rules}).studies
    image = study.read(["pre", "post_1", "sub_1"])
    series = {path.name: load_image(path).numpy()[0] for path in folder.iterdir()}
    before = next(pixels for name, pixels in series.items() if "pre" in name)
    after = next(pixels for name, pixels in series.items() if "post" in name)
    np.testing.assert_array_equal(image.pixels, np.stack([before, after, after - before]))
