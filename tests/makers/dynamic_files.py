"""One dynamic contrast study in every way in which scanners and converters store it; the values are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from seqnorm_monai.images.image_array import LPS_TO_RAS
from tests.makers.series_files import Grid, expected, item, write_classic, write_enhanced

GRID = Grid(slices=4, rows=7, columns=5)
PHASES = 4
# seconds of the day at which the phases begin
STARTS = (36_000.0, 36_120.5, 36_190.0, 36_260.0)
PROTOCOL = {"RepetitionTime": "4.5", "EchoTime": "2.1", "FlipAngle": "10", "ScanningSequence": "GR"}
SECONDS = (0.0, 120.5, 190.0, 260.0)


def clock(seconds: float) -> str:
    """A time of the day as DICOM writes it."""
    seconds %= 86_400
    return f"{int(seconds // 3600):02}{int(seconds // 60) % 60:02}{seconds % 60:09.6f}"


def values(grid: Grid = GRID, phases: int = PHASES) -> np.ndarray:
    """(phases, x, y, z): the rescaled values of each phase."""
    return np.stack([expected(grid, phase).transpose(2, 1, 0) for phase in range(phases)])


def phase(number: int, *, agent: bool = True, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """The attributes of one phase: its protocol, its time, and the contrast agent from phase 1 on."""
    named = {"ContrastBolusAgent": "GADO"} if agent and number else {}
    return {**PROTOCOL, "AcquisitionTime": clock(STARTS[number]), "SeriesNumber": number + 3, **named, **more}


def one_series(folder: Path, **each: Callable[[int], Any]) -> None:
    """All phases in one classic series, told apart by `each`: a keyword, and its value for a phase."""
    phases = [{**phase(n), "SeriesNumber": 3, **{key: of(n) for key, of in each.items()}} for n in range(PHASES)]
    write_classic(folder, GRID, phases, series="1.2.3.20")


def a_series_each(folder: Path, grid: Grid = GRID, numbers: Iterable[int] = range(PHASES), **more: Any) -> None:  # noqa: ANN401
    """A series for each phase, with gaps in the series numbers."""
    for number in numbers:
        attributes = phase(number, **{**more, "SeriesNumber": 100 * number + 2})
        write_phase(folder, number, attributes, grid=grid)


def write_phase(folder: Path, number: int, attributes: dict[str, Any], *, grid: Grid = GRID, uid: str = "") -> None:
    """One phase with its own values as a classic series of its own."""
    series = uid or f"1.2.3.3{number}"
    absent = [(earlier, k) for earlier in range(number) for k in range(grid.slices)]
    write_classic(folder, grid, [{}] * number + [attributes], series=series, skip=absent, stem=f"p{series}_")


def pre_apart(folder: Path) -> None:
    """Pre in one series, all phases after it in another."""
    write_phase(folder, 0, phase(0))
    later = [{}, *[{**phase(n), "SeriesNumber": 9, "TemporalPositionIdentifier": n} for n in range(1, PHASES)]]
    absent = [(0, k) for k in range(GRID.slices)]
    write_classic(folder, GRID, later, series="1.2.3.40", skip=absent, stem="later")


def enhanced_phase(number: int) -> dict[str, Any]:
    """The functional groups of a phase."""
    return {
        "MRTimingAndRelatedParametersSequence": item(RepetitionTime=4.5, FlipAngle=10.0),
        "MREchoSequence": item(EffectiveEchoTime=2.1),
        "TemporalPositionSequence": item(TemporalPositionTimeOffset=SECONDS[number]),
    }


def frame_content(number: int, _slice: int) -> dict[str, Any]:
    return {
        "FrameAcquisitionDateTime": f"20240105{clock(STARTS[number])}",
        "TemporalPositionIndex": number + 1,
    }


def enhanced(folder: Path) -> None:
    """One enhanced object for all phases."""
    phases = [enhanced_phase(number) for number in range(PHASES)]
    folder.mkdir(parents=True, exist_ok=True)
    write_enhanced(folder / "all.dcm", GRID, phases, series="1.2.3.50", content=frame_content)


def enhanced_each(folder: Path) -> None:
    """An enhanced object and a series for each phase."""
    folder.mkdir(parents=True, exist_ok=True)
    phases = [enhanced_phase(number) for number in range(PHASES)]
    for number in range(PHASES):
        order = [(number, k) for k in range(GRID.slices)]
        path = folder / f"{number}.dcm"
        write_enhanced(path, GRID, phases, series=f"1.2.3.6{number}", content=frame_content, order=order)


def affine(grid: Grid = GRID) -> np.ndarray:
    """Voxels (x, y, z) to mm in RAS."""
    matrix = np.eye(4)
    matrix[:3, 0] = np.array(grid.row) * grid.spacing[1]
    matrix[:3, 1] = np.array(grid.column) * grid.spacing[0]
    matrix[:3, 2], matrix[:3, 3] = grid.step, grid.origin
    return LPS_TO_RAS @ matrix


def nifti_files(folder: Path, names: Iterable[str], grid: Grid = GRID) -> None:
    """A NIfTI file for each phase, by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in zip(names, values(grid), strict=False):
        nibabel.save(nibabel.Nifti1Image(pixels.astype(np.float32), affine(grid)), folder / f"{name}.nii.gz")


def nifti_4d(folder: Path) -> None:
    """One NIfTI file of four dimensions."""
    folder.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.moveaxis(values(), 0, -1).astype(np.float32), affine())
    nibabel.save(image, folder / "dynamic.nii.gz")


FORMS: dict[str, Callable[[Path], None]] = {
    "one series by temporal position": lambda f: one_series(f, TemporalPositionIdentifier=lambda n: n + 1),
    "one series by acquisition number": lambda f: one_series(f, AcquisitionNumber=lambda n: n + 1),
    "one series by trigger time": lambda f: one_series(
        f, TriggerTime=lambda n: str(1000 * SECONDS[n]), AcquisitionTime=lambda n: clock(STARTS[0])
    ),
    "one series by times alone": lambda f: one_series(f),
    "a series each": a_series_each,
    "pre apart": pre_apart,
    "enhanced, all in one": enhanced,
    "enhanced, one each": enhanced_each,
    "NIfTI as ODELIA": lambda f: nifti_files(f, ["Pre", "Post_1", "Post_2", "Post_3"]),
    "NIfTI in small letters": lambda f: nifti_files(f, ["pre", "post_1", "post_2", "post_3"]),
    "NIfTI as MAMA-MIA": lambda f: nifti_files(f, [f"duke_001_000{n}" for n in range(PHASES)]),
    "NIfTI in four dimensions": nifti_4d,
}
