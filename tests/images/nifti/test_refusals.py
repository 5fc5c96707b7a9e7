"""NIfTI: what is refused, by name and before memory is taken."""

from __future__ import annotations

import errno
import gzip
import os
import re
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest

from seqnorm_monai.images.nifti import NiftiReadError, is_nifti, read_nifti
from tests.makers.nifti import RNG, SHAPE, Make, header_of, ramp, refusal
from tests.makers.reading import load_nifti


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("dim", [8, 5, 7, 3, 1, 1, 1, 1], "dim: not 1 to 7 dimensions"),
        ("dim", [3, 5, 0, 3, 1, 1, 1, 1], "an axis without voxels"),
        ("dim", [3, 5, -7, 3, 1, 1, 1, 1], "an axis without voxels"),
        ("dim", [4, 32767, 32767, 32767, 32767, 1, 1, 1], "cut off: the header asks for 2305561547121623394"),
        ("dim", [3, 5, 7, 4, 1, 1, 1, 1], "cut off"),
        ("datatype", 32, r"datatype 32 \(complex\)"),
        ("datatype", 1, "one bit"),
        ("datatype", 1536, "128-bit"),
        ("datatype", 99, "not in the standard"),
        ("datatype", 8, "bitpix 16 contradicts datatype 8"),
        ("vox_offset", 8, "vox_offset"),
        ("vox_offset", 352.5, "vox_offset"),
        ("vox_offset", np.nan, "vox_offset"),
        ("vox_offset", -352, "vox_offset"),
        ("vox_offset", 1e30, "vox_offset"),
        ("vox_offset", 400, "cut off"),
        ("scl_slope", np.inf, "scl_slope"),
        ("scl_slope", 1e38, "beyond float32"),
        ("xyzt_units", 5, "xyzt_units"),
        ("sizeof_hdr", 349, "sizeof_hdr"),
        ("magic", b"n+9", "no magic number|Analyze"),
    ],
)
def test_refused_headers(make_nifti: Make, field: str, value: object, reason: str) -> None:
    path = header_of(make_nifti(ramp("i2"), scl_slope=2.0, scl_inter=0.0), lambda h: h.__setitem__(field, value))
    assert re.search(reason, refusal(path))


def test_analyze_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.AnalyzeImage(ramp("i2"), None), tmp_path / "a.hdr")
    assert is_nifti(tmp_path / "a.hdr")
    assert "Analyze 7.5" in refusal(tmp_path / "a.hdr")


def test_absurd_sizes_take_no_memory(make_nifti: Make) -> None:
    path = header_of(make_nifti(ramp("i2")), lambda h: h.__setitem__("dim", [3, 9999, 999, 99, 1, 1, 1, 1]))
    packed = path.with_suffix(".nii.gz")
    # as large as gzip could make it by the file's length: the bytes end before the header's promise
    packed.write_bytes(gzip.compress(path.read_bytes() + RNG.bytes(2_000_000)))
    tracemalloc.start()
    assert "cut off" in refusal(path)
    assert refusal(packed) == "cut off: fewer voxels than the header says"
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def test_more_than_the_machine_holds(make_nifti: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_nifti(ramp("i2"))
    monkeypatch.setattr(os, "sysconf", lambda name: 6 if name == "SC_PHYS_PAGES" else 5 * 7 * 3)
    assert load_nifti(*read_nifti(path)).shape == (1, *SHAPE)
    monkeypatch.setattr(os, "sysconf", lambda name: 5 if name == "SC_PHYS_PAGES" else 5 * 7 * 3)
    assert "more than the memory of this machine" in refusal(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
def test_cut_off_anywhere(make_nifti: Make, name: str) -> None:
    path = make_nifti(ramp("i2"), name=name)
    for target in (path, path.with_suffix(".img")) if name == "a.hdr" else (path,):
        content = target.read_bytes()
        for length in [*range(0, len(content), 13), len(content) - 1]:
            target.write_bytes(content[:length])
            # a header of a pair is whole without the four bytes behind it
            if not (target.suffix == ".hdr" and length >= 348):
                refusal(path)
        target.write_bytes(content)


def test_damaged_gzip(make_nifti: Make) -> None:
    """One wrong bit of the voxels: the checksum at the end of the file finds it."""
    path = make_nifti(ramp("i2"), name="a.nii.gz")
    data = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), 0))
    data[-50] ^= 1
    path.write_bytes(bytes(data))
    assert refusal(path) == "the gzip file is damaged"


def test_other_files(make_nifti: Make, tmp_path: Path) -> None:
    for name, content in (("a.nii", b""), ("b.nii", b"<html>"), ("c.nii.gz", b"\x1f\x8b\x08\0"), ("d.nii", bytes(999))):
        (tmp_path / name).write_bytes(content)
        assert is_nifti(tmp_path / name)
        refusal(tmp_path / name)
    for name, content in (("a.hdr", b"ENVI"), ("a.img", bytes(999)), ("a.dcm", bytes(999))):
        (tmp_path / name).write_bytes(content)
        assert not is_nifti(tmp_path / name)
    path = make_nifti(ramp("u1"), name="x.nii.gz").rename(tmp_path / "renamed.dcm")
    assert is_nifti(path) and read_nifti(path)
    assert not is_nifti(tmp_path / "absent")
    assert "no such file" in refusal(tmp_path / "absent.nii")
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(("number", "of_the_file"), [(errno.EMFILE, False), (errno.EIO, False), (errno.ELOOP, True)])
def test_errors_of_the_machine(
    make_nifti: Make, monkeypatch: pytest.MonkeyPatch, number: int, of_the_file: bool
) -> None:
    """Without a free file descriptor nothing is wrong with the file."""
    path = make_nifti(ramp("i2"))

    def failing(path: Path, mode: str) -> None:
        raise OSError(number, "told by the test")

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(NiftiReadError if of_the_file else OSError, match="OSError" if of_the_file else "told by"):
        read_nifti(path)
