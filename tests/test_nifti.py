"""NIfTI: the values and places of MONAI's reader, every phase, and a refusal for everything else."""

from __future__ import annotations

import gzip
import os
import re
import struct
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import LoadImage

from seqnorm_monai.nifti import NiftiReadError, is_nifti, load_nifti, read_nifti
from tests.bundle_tools import SHARED

SHAPE = (5, 7, 3)
RNG = np.random.default_rng(11)
AFFINE = np.array([[-2.0, 0, 0, 31], [0, 0, 3.5, -17], [0, 0.75, 0, 5], [0, 0, 0, 1]])
OBLIQUE = nibabel.quaternions.quat2mat([0.9, 0.3, -0.2, 0.24]) @ np.diag([1.5, 0.5, -2.0])


def ramp(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return RNG.normal(size=shape).astype(kind)
    limits = np.iinfo(kind)
    return RNG.integers(limits.min, limits.max, size=shape, dtype=kind, endpoint=True)


@pytest.fixture
def make_nifti(tmp_path: Path) -> Callable[..., Path]:
    """Write an array; further arguments are fields of the header, set last and unchecked."""

    def make(
        stored: np.ndarray, affine: np.ndarray | None = AFFINE, *, name: str = "image.nii", kind: type | None = None,
        big_endian: bool = False, **fields: object,
    ) -> Path:  # fmt: skip
        kind = kind or (nibabel.Nifti1Pair if ".hdr" in name else nibabel.Nifti1Image)
        header = kind.header_class(endianness=">" if big_endian else "<")
        image = kind(stored, affine, header, dtype=stored.dtype)
        for field, value in fields.items():
            image.header[field] = value
        path = tmp_path / name
        nibabel.save(image, path)
        # saving sets these to "no scaling"
        opening = gzip.open if name.endswith(".gz") else open
        with opening(path, "rb") as file:
            data = bytearray(file.read())
        for field in ("scl_slope", "scl_inter"):
            if field in fields:
                position = image.header.template_dtype.fields[field][1]
                struct.pack_into(">f" if big_endian else "<f", data, position, fields[field])
        with opening(path, "wb") as file:
            file.write(data)
        return path

    return make


Make = Callable[..., Path]


def same_as_monai(path: Path) -> None:
    (volume,) = read_nifti(path)
    ours = load_nifti(volume)
    with warnings.catch_warnings():
        # it warns of an optional reader whatever the reader asked for
        warnings.simplefilter("ignore")
        theirs = LoadImage(reader="NibabelReader", ensure_channel_first=True, dtype=np.float32)(path)
    assert ours.dtype == torch.float32 and ours.shape == theirs.shape
    assert torch.equal(ours.as_tensor().nan_to_num(17.0), theirs.as_tensor().nan_to_num(17.0))
    torch.testing.assert_close(ours.affine, theirs.affine, rtol=1e-6, atol=1e-6)
    for key in ("spatial_shape", "space", "filename_or_obj", "dim", "pixdim", "sform_code"):
        np.testing.assert_array_equal(ours.meta[key], theirs.meta[key], err_msg=key)


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_equal_to_monai(make_nifti: Make, dtype: str, name: str) -> None:
    same_as_monai(make_nifti(ramp(dtype), name=name))


@pytest.mark.parametrize("dtype", ["i2", "f4", "u8", "i8"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("big_endian", [False, True])
def test_both_versions_and_byte_orders(make_nifti: Make, dtype: str, kind: type, big_endian: bool) -> None:
    stored = ramp(dtype)
    (volume,) = read_nifti(make_nifti(stored, kind=kind, big_endian=big_endian))
    np.testing.assert_array_equal(load_nifti(volume)[0].numpy(), stored.astype(np.float32))


def test_scaling(make_nifti: Make) -> None:
    same_as_monai(make_nifti(ramp("i2"), scl_slope=0.37, scl_inter=-1024.5))
    same_as_monai(make_nifti(ramp("f4"), scl_slope=3.0, scl_inter=0.1))
    stored = ramp("i2")
    for fields in ({"scl_slope": 0.0, "scl_inter": 5.0}, {"scl_slope": np.nan, "scl_inter": np.nan}):
        (volume,) = read_nifti(make_nifti(stored, **fields))
        np.testing.assert_array_equal(load_nifti(volume)[0].numpy(), stored)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="development data")
def test_real_files() -> None:
    paths = sorted((SHARED / "data" / "mri_hippocampus" / "images").glob("*.nii.gz"))[:7]
    assert len(paths) == 7
    for path in paths:
        same_as_monai(path)


@pytest.mark.parametrize("name", ["a.hdr", "a.hdr.gz", "b.HDR"])
def test_pairs(make_nifti: Make, tmp_path: Path, name: str) -> None:
    stored = ramp("i2")
    path = make_nifti(stored, name=name.lower())
    if name == "b.HDR":
        (tmp_path / "b.hdr").rename(tmp_path / "b.HDR")
        path = tmp_path / "b.HDR"
    (volume,) = read_nifti(path)
    assert [file.name.lower() for file in volume.files] == [name.lower(), name.lower().replace("hdr", "img")]
    np.testing.assert_array_equal(load_nifti(volume)[0].numpy(), stored)
    volume.files[1].unlink()
    assert "the .img file" in refusal(path)


def test_phases(make_nifti: Make) -> None:
    stored = ramp("i2", (*SHAPE, 4))
    for name in ("image.nii", "image.nii.gz"):
        times = {"pixdim": [1, 2, 0.75, 3.5, 2000, 1, 1, 1], "xyzt_units": 2 + 16, "toffset": 500.0}
        path = make_nifti(stored, name=name, **times)
        volumes = read_nifti(path)
        assert [volume.phase_time for volume in volumes] == [0.5, 2.5, 4.5, 6.5]
        assert volumes[1].phase_label == "volume 2 of 4, 2.5 s"
        for index in (3, 0, 2, 1):
            assert volumes[index].phase_index == index and volumes[index].num_phases == 4
            np.testing.assert_array_equal(load_nifti(volumes[index])[0].numpy(), stored[..., index])


def test_fewer_and_more_axes(make_nifti: Make) -> None:
    for shape in ((5,), (5, 7), (5, 7, 3, 1), (5, 7, 3, 1, 1)):
        stored = ramp("u1", shape)
        (volume,) = read_nifti(make_nifti(stored))
        assert volume.shape == (*shape, 1, 1)[:3]
        np.testing.assert_array_equal(load_nifti(volume)[0].numpy(), stored.reshape(volume.shape))
    assert "more than 4 dimensions" in refusal(make_nifti(ramp("u1", (5, 7, 3, 1, 2))))


@pytest.mark.parametrize(("code", "channels"), [(128, 3), (2304, 4)])
def test_colour(make_nifti: Make, code: int, channels: int) -> None:
    stored = ramp("u1", (*SHAPE, channels))
    data = stored.view([(name, "u1") for name in "RGBA"[:channels]])[..., 0]
    (volume,) = read_nifti(make_nifti(data, scl_slope=2.0, scl_inter=0.0))
    np.testing.assert_array_equal(load_nifti(volume).numpy(), np.moveaxis(stored, -1, 0))
    assert volume.channels == channels and int(volume.layout.fields["datatype"]) == code


def test_orientations(make_nifti: Make) -> None:
    stored = ramp("u1")
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        for signs in np.ndindex(2, 2, 2):
            affine = np.eye(4)
            affine[:3, :3] = (np.diag([1.5, 0.5, 2.25]) * (1 - 2 * np.array(signs)))[list(order)]
            affine[:3, 3] = 3, -5, 7
            same_as_monai(make_nifti(stored, affine))


def header_of(path: Path, change: Callable[[nibabel.Nifti1Header], None]) -> Path:
    """Change the header of a .nii in place, without nibabel's rules."""
    data = path.read_bytes()
    header = nibabel.Nifti1Header(data[:348], check=False)
    change(header)
    path.write_bytes(header.binaryblock + data[348:])
    return path


def oblique(sign: float) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE * [1, 1, sign]
    affine[:3, 3] = -13, 11, 19
    return affine


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_qform_alone(make_nifti: Make, sign: float) -> None:
    def change(header: nibabel.Nifti1Header) -> None:
        header.set_qform(oblique(sign), code=1)
        header["sform_code"] = 0
        header["srow_x"] = 99

    path = header_of(make_nifti(ramp("u1")), change)
    (volume,) = read_nifti(path)
    assert (volume.orientation_source, volume.notes) == ("qform", ())
    np.testing.assert_allclose(volume.affine, oblique(sign), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(volume.spacing, [1.5, 0.5, 2.0], rtol=1e-5)
    same_as_monai(path)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns(make_nifti: Make, axis: int) -> None:
    """The quaternion's first number is 0 here, and what rounding leaves of it is nothing."""
    affine = np.diag([-1.0, -1, -1, 1])
    affine[axis, axis] = 1
    path = header_of(make_nifti(ramp("u1")), lambda header: header.set_qform(affine, code=1))
    (volume,) = read_nifti(header_of(path, lambda header: header.__setitem__("sform_code", 0)))
    np.testing.assert_array_equal(volume.affine, affine)


def test_sform_before_qform(make_nifti: Make) -> None:
    def change(header: nibabel.Nifti1Header) -> None:
        header.set_qform(oblique(1.0), code=1)
        header.set_sform(AFFINE, code=2)

    path = header_of(make_nifti(ramp("u1")), change)
    (volume,) = read_nifti(path)
    assert (volume.orientation_source, volume.notes) == ("sform", ("sform and qform differ: the sform is used",))
    np.testing.assert_array_equal(volume.affine, AFFINE)
    for row, value in (("srow_y", 0), ("srow_x", np.nan)):
        (volume,) = read_nifti(header_of(path, lambda header: header.__setitem__(row, value)))  # noqa: B023
        assert (volume.orientation_source, volume.notes) == ("qform", ("the sform is singular or not finite",))
        np.testing.assert_allclose(volume.affine, oblique(1.0), rtol=1e-5, atol=1e-5)


def test_no_orientation(make_nifti: Make) -> None:
    def change(header: nibabel.Nifti1Header) -> None:
        header["sform_code"] = header["qform_code"] = 0
        header["pixdim"][1:4] = 1.5, 0.5, 2

    path = header_of(make_nifti(ramp("u1")), change)
    (volume,) = read_nifti(path)
    assert volume.orientation_source == "pixdim" and "not stated" in volume.notes[0]
    np.testing.assert_array_equal(volume.affine, np.diag([1.5, 0.5, 2, 1]))
    assert "no place" in refusal(header_of(path, lambda header: header["pixdim"].__setitem__(2, 0)))


@pytest.mark.parametrize(("unit", "to_mm"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_units(make_nifti: Make, unit: str, to_mm: float) -> None:
    path = header_of(make_nifti(ramp("u1")), lambda header: header.set_xyzt_units(unit))
    (volume,) = read_nifti(path)
    np.testing.assert_allclose(volume.affine, np.diag([to_mm] * 3 + [1]) @ AFFINE)
    assert len(volume.notes) == (to_mm != 1)


def refusal(path: Path) -> str:
    """The reason why the header, or else a volume, is refused."""
    with pytest.raises(NiftiReadError) as caught:
        for volume in read_nifti(path):
            load_nifti(volume)
    assert caught.value.path in (path, path.with_suffix(".img"))
    return caught.value.reason


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


def test_not_finite_and_bytes_behind(make_nifti: Make) -> None:
    stored = ramp("f4")
    stored[0, 0, 0], stored[1, 2, 2] = np.nan, np.inf
    path = make_nifti(stored)
    (volume,) = read_nifti(path)
    tensor = load_nifti(volume)
    np.testing.assert_array_equal(tensor[0].numpy(), stored)
    assert (tensor.meta["num_non_finite"], tensor.meta["bytes_after_voxels"]) == (2, False)
    path.write_bytes(path.read_bytes() + b"1")
    assert load_nifti(*read_nifti(path)).meta["bytes_after_voxels"]


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


def test_texts_of_the_header_stay_in_it(make_nifti: Make, capfd: pytest.CaptureFixture[str]) -> None:
    path = make_nifti(ramp("u1"), descrip=b"DOE^JANE", db_name=b"DOE^JANE", aux_file=b"DOE^JANE")
    tensor = load_nifti(*read_nifti(path))
    assert "DOE" not in str(tensor.meta) + os.fspath(tensor.meta["filename_or_obj"])
    assert capfd.readouterr() == ("", "")
