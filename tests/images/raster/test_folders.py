"""A folder of PNG, JPEG and TIFF files: its listing, its account of files, and nothing of what people wrote in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seqnorm_monai.commands import main
from seqnorm_monai.data import LoadRadiograph, find_images
from seqnorm_monai.images.dicom.write import RadiographHeader, write_radiograph
from tests.makers.bundles import CHEST
from tests.makers.raster_files import save, texts, values

MARK = "MARKEDTEXT"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture of each format, one in an archive, a torn one, a DICOM file, a table and a text; marks in all texts."""
    top = tmp_path / "top"
    top.mkdir()
    exif = Image.Exif()
    exif[270], exif[315], exif[306] = f"{MARK}5", f"{MARK}6", f"{MARK}7"
    save(values(), top / "a.png", pnginfo=texts(MARK), exif=exif)
    save(values(), top / "b.jpeg", exif=exif, comment=f"{MARK}8".encode())
    save(values("uint16"), top / "c.TIFF", exif=exif)
    shutil.copy(top / "a.png", top / "torn.png")
    (top / "torn.png").write_bytes((top / "torn.png").read_bytes()[:-20])
    shutil.copy(sorted((CHEST / "sample_data/images").iterdir())[0], top / "d.dcm")
    (top / "labels.csv").write_text("image,patient\n")
    (top / "notes").write_text("to do")
    (top / "e.gif").write_bytes(b"GIF89a" + bytes(50))
    return top


def test_each_file_is_accounted_for(folder: Path) -> None:
    items = {Path(item["path"]).name: item for item in find_images(folder)}
    reasons = {name: item.get("unreadable", "") for name, item in items.items()}
    assert reasons == {
        **dict.fromkeys(("a.png", "b.jpeg", "c.TIFF", "d.dcm", "torn.png"), ""),
        "labels.csv": "a table, no image",
        "notes": "not a DICOM file: text",
        "e.gif": "a GIF file; read are DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG and TIFF",
    }
    assert [name for name, item in items.items() if item.get("document")] == ["labels.csv"]
    assert [name for name, item in items.items() if item.get("set_aside")] == ["labels.csv"]
    for name in ("a.png", "b.jpeg", "c.TIFF"):
        image = LoadRadiograph()(items[name]["image"])
        assert image.shape == (1, 7, 13)
        assert MARK not in repr(image.meta)


def test_listing_shows_formats_and_no_spacing_and_no_text(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written_to = ["--json", str(tmp_path / "l.json"), "--nifti", str(tmp_path / "n")]
    assert main(["list", str(folder), *written_to]) == 0
    shown = capsys.readouterr().out
    written = (tmp_path / "l.json").read_text()
    assert "study 2: PNG, JPEG and TIFF files" in shown
    rows = {row["name"]: row for row in json.loads(written)["rows"] if row["format"] != "DICOM"}
    assert {name: (row["format"], row["shape"], row["spacing"]) for name, row in rows.items()} == {
        "a.png": ("PNG", [7, 13], []),
        "b.jpeg": ("JPEG", [7, 13], []),
        "c.TIFF": ("TIFF", [7, 13], []),
        "torn.png": ("PNG", [7, 13], []),
    }
    assert rows["a.png"]["warnings"] == ["no spacing"]
    assert rows["torn.png"]["status"] == "rejected"
    assert "is cut off: a chunk is not whole" in rows["torn.png"]["reasons"]
    exported = sorted(row["nifti"] for row in rows.values() if row["nifti"])
    assert exported == ["jpeg-2-2.nii.gz", "png-2-1.nii.gz", "tiff-2-3.nii.gz"]
    everything = shown + written + "".join(path.read_bytes().decode("latin-1") for path in (tmp_path / "n").iterdir())
    assert MARK not in everything


def test_a_file_and_an_archive_of_pictures(folder: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "pictures"), "zip", folder)
    items = {Path(item["path"]).name: item for item in find_images(archive)}
    found = LoadRadiograph()(items["c.TIFF"]["image"])
    assert np.array_equal(found, LoadRadiograph()(folder / "c.TIFF"))
    assert np.array_equal(found, LoadRadiograph()(f"{archive}/c.TIFF"))


def test_one_radiograph_is_the_same_as_dicom_and_as_picture(tmp_path: Path) -> None:
    array = values("uint16") >> 4
    header = RadiographHeader(
        patient_id="p",
        study_uid="1.2.3",
        series_uid="1.2.3.4",
        sop_uid="1.2.3.4.5",
        view_position="PA",
        patient_sex="O",
        patient_age="",
    )
    write_radiograph(tmp_path / "a.dcm", array, header, bits_stored=12)
    save(array, tmp_path / "a.png")
    save(array, tmp_path / "a.tif", compression="tiff_lzw")
    dicom = LoadRadiograph()(tmp_path / "a.dcm")
    for name in ("a.png", "a.tif"):
        other = LoadRadiograph(modalities=["CR", "DX"])(tmp_path / name)
        assert np.array_equal(other.numpy(), dicom.numpy())
        assert np.array_equal(other.affine, dicom.affine)
        assert other.dtype == dicom.dtype
