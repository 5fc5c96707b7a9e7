"""Single elements: what an image needs of them, and what it can do without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seqnorm_monai.images.dicom.errors import UnsupportedImageError
from seqnorm_monai.images.dicom.header import Header
from seqnorm_monai.images.dicom.open import open_header, read_header
from tests.makers.dicom_files import ramp

Make = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("any_value")


@pytest.fixture
def header_with(make_dicom: Make) -> Callable[[str, bytes], Header]:
    """The header of a file in which an element holds these bytes."""

    def header(keyword: str, value: bytes) -> Header:
        placeholder = "".join("9876543210"[place % 10] for place in range(len(value) + len(value) % 2))
        path = make_dicom(ramp(12), **{keyword: placeholder})
        path.write_bytes(path.read_bytes().replace(placeholder.encode(), value + b" " * (len(value) % 2)))
        return read_header(path, [keyword, "SpecificCharacterSet"])

    return header


@pytest.mark.parametrize(
    ("value", "frames"), [(b"0", 1), (b"1.0", 1), (b"3.00", 3), (b"7", 7), (b"0.0", 1), (b"-2", -2)]
)
def test_frames(header_with: Callable[[str, bytes], Header], value: bytes, frames: int) -> None:
    assert header_with("NumberOfFrames", value).frames() == frames


@pytest.mark.parametrize("value", [b"1.5", b"one", b"1\\2", b"inf", b"nan"])
def test_frames_that_are_no_number(header_with: Callable[[str, bytes], Header], value: bytes) -> None:
    with pytest.raises(UnsupportedImageError, match="NumberOfFrames"):
        header_with("NumberOfFrames", value).frames()


def test_frames_of_a_header_without_them(make_dicom: Make) -> None:
    assert read_header(make_dicom(ramp(12)), ["NumberOfFrames"]).frames() == 1


@pytest.mark.parametrize(
    ("value", "label"),
    [(b"X-RAY", "X-RAY"), (b"dx ", "DX"), (b"C/T", "C/T"), (b"R\xd6NTGEN", ""), (b"CT\x07", ""), (b"A" * 17, "")],
)
def test_labels(header_with: Callable[[str, bytes], Header], value: bytes, label: str) -> None:
    assert header_with("Modality", value).label("Modality") == label


@pytest.mark.parametrize(
    ("value", "pair"),
    [(b"0.5\\0.25", (0.5, 0.25)), (b"0\\0", None), (b"1", None), (b"a\\b", None), (b"1\\2\\3", None), (b"-1\\1", None)],
)
def test_spacings(header_with: Callable[[str, bytes], Header], value: bytes, pair: tuple[float, float] | None) -> None:
    assert header_with("PixelSpacing", value).spacing_pair("PixelSpacing") == pair


@pytest.mark.parametrize(
    ("value", "length"), [(b"2.5", 2.5), (b"0", None), (b"-1", None), (b"1\\2", None), (b"x", None)]
)
def test_lengths(header_with: Callable[[str, bytes], Header], value: bytes, length: float | None) -> None:
    assert header_with("SliceThickness", value).positive("SliceThickness") == length


def test_vectors(header_with: Callable[[str, bytes], Header]) -> None:
    header = header_with("ImagePositionPatient", b"1\\-2.5\\3e1")
    assert header.vector("ImagePositionPatient", 3) == (1.0, -2.5, 30.0)
    assert header.vector("ImageOrientationPatient", 6) is None
    with pytest.raises(UnsupportedImageError, match="does not have 6 values"):
        header.vector("ImagePositionPatient", 6)


def test_a_file_stays_open_in_its_context_only(make_dicom: Make) -> None:
    path = make_dicom(ramp(12))
    with open_header(path, []) as header:
        with header.opened() as file, header.opened() as again:
            assert file is again
        assert not file.closed
    assert file.closed
    with header.opened() as another:
        assert another.read(0) == b"" and another is not file
    assert another.closed
