"""NIfTI: whole files are checked, whatever part is read; the tensor is that of a DICOM volume and of nibabel."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from seqnorm_monai.data import to_metatensor
from seqnorm_monai.images.inventory import take_inventory
from seqnorm_monai.images.nifti import byte_ranges as files
from seqnorm_monai.images.nifti import read_nifti, read_volumes
from seqnorm_monai.images.sources import open_sources
from tests.makers.bundles import SHARED
from tests.makers.nifti import SHAPE, Make, ramp, refusal
from tests.makers.reading import load_nifti


@pytest.fixture
def phases(make_nifti: Make) -> Path:
    """Four phases that do not compress."""
    return make_nifti(ramp("i2", (41, 43, 7, 4)), name="image.nii.gz")


def test_checksum_of_a_phase_that_is_not_the_last(phases: Path) -> None:
    data = bytearray(gzip.compress(gzip.decompress(phases.read_bytes()), 0))
    data[-8] ^= 1
    phases.write_bytes(bytes(data))
    for volume in read_nifti(phases):
        with pytest.raises(files.NiftiReadError, match="the gzip file is damaged"):
            load_nifti(volume)


def count_unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each pass over a gzip file unpacks, in small pieces."""
    sizes: list[int] = []
    unpacked = files._unpacked

    def counting(*arguments: object) -> Iterator[bytes]:
        sizes.append(0)
        for piece in unpacked(*arguments):
            sizes[-1] += len(piece)
            yield piece

    monkeypatch.setattr(files, "_unpacked", counting)
    monkeypatch.setattr(files, "_PIECE", 1000)
    return sizes


def test_checksum_is_checked_once(phases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time, unpacking stops behind the phase; a file that changed is checked anew."""
    sizes = count_unpacked(monkeypatch)
    volumes = read_nifti(phases)
    sizes.clear()
    for index in (0, 0, 3):
        load_nifti(volumes[index])
    whole = 352 + 4 * 41 * 43 * 7 * 2
    assert sizes[0] == whole and sizes[1] < whole / 3 and sizes[2] == whole
    data = bytearray(phases.read_bytes())
    data[-8] ^= 1
    phases.write_bytes(bytes(data) + b"\0")
    with pytest.raises(files.NiftiReadError, match="damaged"):
        load_nifti(volumes[0])


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_all_phases_in_one_pass(make_nifti: Make, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """80 volumes, in any order, cost the file once, and no more than the last one of them when read again."""
    stored = ramp("i2", (*SHAPE, 80))
    volumes = read_nifti(make_nifti(stored, name=name))
    sizes = count_unpacked(monkeypatch)
    np.testing.assert_array_equal(read_volumes(volumes).pixels, np.moveaxis(stored, -1, 0))
    whole = 352 + stored.nbytes
    assert sizes == ([whole] if name.endswith("gz") else [])
    chosen = [17, 2, 31]
    pixels = read_volumes([volumes[index] for index in chosen]).pixels
    np.testing.assert_array_equal(pixels, np.moveaxis(stored[..., chosen], -1, 0))
    assert sum(sizes) <= 1.5 * whole


def test_ranges_ascend(make_nifti: Make) -> None:
    path = make_nifti(ramp("i2"))
    for starts in ((352, 352), (362, 352), (352, 361)):
        with pytest.raises(ValueError, match="ascend"):
            list(files.read_ranges(path, starts, 10, 382))
    assert [len(content) for content in files.read_ranges(path, (352, 362), 10, 382)] == [10, 10]


def test_last_phase_cut_off(phases: Path) -> None:
    content = gzip.decompress(phases.read_bytes())
    phases.write_bytes(gzip.compress(content[:-2]))
    assert refusal(phases) == "cut off: fewer voxels than the header says"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_that_the_header_does_not_describe(make_nifti: Make, name: str) -> None:
    stored = ramp("i2")
    path = make_nifti(stored, name=name)
    content = path.read_bytes() if name == "a.nii" else gzip.decompress(path.read_bytes())
    for more, refused in ((4096, False), (4097, True)):
        padded = content + bytes(more)
        path.write_bytes(padded if name == "a.nii" else gzip.compress(padded))
        if refused:
            assert refusal(path) == "more voxels than the header describes"
        else:
            np.testing.assert_array_equal(load_nifti(*read_nifti(path))[0].numpy(), stored)


def test_a_bomb_behind_the_voxels(make_nifti: Make) -> None:
    """It is refused after the first pieces; unpacking all would take minutes."""
    path = make_nifti(ramp("i2"), name="a.nii.gz")
    bomb = gzip.compress(bytes(1 << 24))
    path.write_bytes(path.read_bytes() + bomb * 2000)
    assert refusal(path) == "more voxels than the header describes"


def test_members_and_padding_of_gzip(make_nifti: Make, tmp_path: Path) -> None:
    stored = ramp("i2")
    content = make_nifti(stored).read_bytes()
    path = tmp_path / "a.nii.gz"
    for between, behind in ((b"", b""), (b"\0" * 600_000, b"\0" * 600_000)):
        path.write_bytes(gzip.compress(content[:400]) + between + gzip.compress(content[400:]) + behind)
        np.testing.assert_array_equal(load_nifti(*read_nifti(path))[0].numpy(), stored)
    path.write_bytes(gzip.compress(content) + b"and text")
    assert refusal(path) == "the gzip file is damaged"


@pytest.mark.parametrize(("code", "channels"), [(2003, 3), (2004, 4)])
def test_colours_along_the_fifth_axis(make_nifti: Make, code: int, channels: int) -> None:
    stored = ramp("u2", (*SHAPE, 1, channels))
    path = make_nifti(stored, intent_code=code, scl_slope=0.5, scl_inter=1.0)
    np.testing.assert_array_equal(load_nifti(*read_nifti(path)).numpy(), np.moveaxis(stored[..., 0, :], -1, 0) / 2 + 1)
    assert "more than 4 dimensions" in refusal(make_nifti(stored, intent_code=1007))
    assert "more than 4 dimensions" in refusal(make_nifti(ramp("u2", (*SHAPE, 2, channels)), intent_code=code))
    colours = ramp("u1", (*SHAPE, 1, channels, 3)).view([(name, "u1") for name in "RGB"])[..., 0]
    assert "colour" in refusal(make_nifti(colours, intent_code=code))


def test_float_limits(make_nifti: Make) -> None:
    stored = np.array([np.nan, np.inf, 3e38, -3e38], np.float64).reshape(2, 2, 1).repeat(3, axis=2)
    tensor = load_nifti(*read_nifti(make_nifti(stored)))
    np.testing.assert_array_equal(tensor[0].numpy(), stored.astype(np.float32))
    assert tensor.meta["num_non_finite"] == 6
    stored[0, 0, 2] = 1e39
    assert "beyond float32" in refusal(make_nifti(stored))


def test_meta_data_are_those_of_a_dicom_volume(make_nifti: Make) -> None:
    with open_sources(get_testdata_file("CT_small.dcm", download=False)) as sources:
        dicom = to_metatensor(take_inventory(sources).entries[0].read())
    nifti = load_nifti(*read_nifti(make_nifti(ramp("i2"))))
    assert set(dicom.meta) <= set(nifti.meta)
    for key in set(dicom.meta) - {"affine"}:
        assert type(dicom.meta[key]) is type(nifti.meta[key]), key
    assert nifti.meta["has_geometry"] is True and nifti.meta["Modality"] == ""


@pytest.mark.skipif(not (SHARED / "data" / "mri_hippocampus").is_dir(), reason="development data")
def test_all_of_a_real_set() -> None:
    paths = sorted((SHARED / "data" / "mri_hippocampus").rglob("*.nii.gz"))
    assert len(paths) > 300
    for path in paths:
        (volume,) = read_nifti(path)
        tensor, image = load_nifti(volume), nibabel.load(path)
        np.testing.assert_array_equal(tensor[0].numpy(), np.asarray(image.dataobj).astype(np.float32))
        np.testing.assert_allclose(tensor.affine, image.affine, rtol=1e-6, atol=1e-6)
        assert volume.warnings == () and tensor.is_contiguous()


SIZE = st.integers(1, 6)
NUMBER = st.floats(-1000, 1000, width=32)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    shape=st.tuples(SIZE, SIZE, SIZE),
    dtype=st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]),
    big_endian=st.booleans(),
    turn=st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1),
    spacing=st.lists(st.floats(0.125, 20, width=32), min_size=3, max_size=3),
    origin=st.lists(NUMBER, min_size=3, max_size=3),
    mirrored=st.booleans(),
    codes=st.sampled_from([(1, 0), (0, 1), (4, 3), (2, 0)]),
    scaling=st.sampled_from([None, (2.0, -7.0), (0.1, 3.5)]),
)
def test_any_file_equals_nibabel(
    shape: tuple[int, int, int],
    dtype: str,
    big_endian: bool,
    turn: list[float],
    spacing: list[float],
    origin: list[float],
    mirrored: bool,
    codes: tuple[int, int],
    scaling: tuple[float, float] | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = nibabel.quaternions.quat2mat(turn) * spacing * [1, 1, -1 if mirrored else 1]
    affine[:3, 3] = origin
    header = nibabel.Nifti1Header(endianness=">" if big_endian else "<")
    image = nibabel.Nifti1Image(ramp(dtype, shape), affine, header, dtype=dtype)
    image.set_sform(affine, code=codes[0])
    image.set_qform(affine, code=codes[1])
    data = bytearray(image.to_bytes())
    if scaling:
        struct.pack_into(">2f" if big_endian else "<2f", data, 112, *scaling)
    path = tmp_path_factory.getbasetemp() / "any.nii"
    path.write_bytes(data)
    tensor, theirs = load_nifti(*read_nifti(path)), nibabel.load(path)
    expected = np.asarray(theirs.dataobj)
    # scaled in double precision, as nibabel does unless the file has small integers
    exact = expected.astype(np.float32) if scaling is None else theirs.get_fdata(dtype=np.float64).astype(np.float32)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor[0].numpy().reshape(shape), exact)
    np.testing.assert_allclose(tensor.affine, theirs.affine, rtol=1e-5, atol=1e-4)
