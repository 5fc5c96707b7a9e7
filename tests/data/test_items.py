"""Images of folders as items: nothing is lost, phases stay together, and one image is loaded or nothing."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, Orientationd
from pydicom.data import get_testdata_file

from seqnorm_monai.data import LoadRadiograph, LoadStudy, LoadStudyd, find_images, load_image
from seqnorm_monai.images.dicom import OtherModalityError, UnreadableFileError
from seqnorm_monai.images.errors import ImageReadError, find_read_error
from seqnorm_monai.images.rules import SelectionRuleError
from seqnorm_monai.images.study_image import ImageChoiceError, StudyImage
from tests.makers.studies import SECRETS, SERIES, STUDY, mr_slice, save, true_affine, write_phases

MR_SERIES = {"selections": [{"name": "MR", "conditions": {"Modality": "MR"}}]}


def summary(items: list[dict[str, Any]], folder: Path) -> dict[str, str]:
    """Path relative to the folder -> number of files of an image, or the reason of what is none."""
    return {
        os.path.relpath(item["path"], folder): item.get("unreadable", f"image of {len(item['files'])}")
        for item in items
    }


def test_every_file_is_in_one_item(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_phases(folder / "mr" / "dynamic", 3)
    write_phases(folder / "mr" / "other", SeriesInstanceUID="1.2.3.23")
    adc = mr_slice(np.ones((6, 5), np.uint16), 0, "1.2.3.31", SeriesInstanceUID="1.2.3.29")
    adc.ImageType = ["DERIVED", "PRIMARY", "ADC"]
    save(adc, folder / "adc.dcm")
    report = mr_slice(np.ones((6, 5), np.uint16), 0, "1.2.3.37", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    save(report, folder / "report.dcm")
    (folder / "page.dcm").write_text("<html>")
    (folder / "loop").symlink_to(folder)
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.write(get_testdata_file("CT_small.dcm"), "a/CT.dcm")
        archive.writestr("../up.dcm", b"")
    items = find_images(folder)
    files = [path for item in items for path in item["files"]]
    on_disk = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]
    assert sorted(files) == sorted([*on_disk, f"{folder}/more.zip/a/CT.dcm", f"{folder}/more.zip/../up.dcm"])
    found = summary(items, folder)
    images = [item for item in items if isinstance(item["image"], StudyImage)]
    assert sorted(len(item["files"]) for item in images) == [1, 4, 12]
    assert found["adc.dcm"] == "a derived map (ADC)"
    assert found["report.dcm"] == "a structured report"
    aside = {Path(item["path"]).name for item in items if item.get("set_aside")}
    assert aside == {"adc.dcm", "report.dcm", "more.zip"}
    dynamic = next(item for item in images if len(item["files"]) == 12)
    assert (dynamic["study"], dynamic["series"]) == (STUDY, SERIES)
    assert not any(secret in repr(items) for secret in SECRETS)


def test_phases_are_channels(tmp_path: Path) -> None:
    values = write_phases(tmp_path / "in", 3)
    (item,) = find_images(tmp_path / "in", num_workers=2)
    image = pickle.loads(pickle.dumps(item["image"]))
    tensor = LoadStudy()(image)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), values)
    np.testing.assert_allclose(tensor.affine, true_affine(), rtol=1e-12)
    for phase in (1, 2, 3):
        np.testing.assert_array_equal(LoadStudy(phase=phase)(image).numpy(), values[phase - 1 : phase])
    with pytest.raises(ImageChoiceError, match="phase 4 of 3 was asked for"):
        LoadStudy(phase=4)(image)


def test_a_path_of_one_image(tmp_path: Path) -> None:
    values = write_phases(tmp_path / "in" / "deep" / "er", 2)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in (tmp_path / "in").rglob("I*"):
            archive.write(path, path.name)
    for source in (tmp_path / "in", str(tmp_path / "study.zip")):
        tensor = LoadStudy()(source)
        np.testing.assert_array_equal(tensor.numpy(), values)
        assert tensor.meta["StudyInstanceUID"] == STUDY
    one = get_testdata_file("CT_small.dcm")
    assert load_image(one).shape == (1, 128, 128)


def test_rules_choose_among_series(tmp_path: Path) -> None:
    write_phases(tmp_path / "a", SeriesInstanceUID="1.2.3.23", SeriesDescription="scout")
    values = write_phases(tmp_path / "b", SeriesDescription="T1 post Gd")
    with pytest.raises(ImageChoiceError, match=r"2 images, one was asked for \(choose a series with selections"):
        load_image(tmp_path)
    rules = {"selections": [{"name": "T1", "conditions": {"SeriesDescription": "^t1.*gd"}}]}
    np.testing.assert_array_equal(LoadStudy(selections=rules)(tmp_path).numpy(), values)
    items = find_images(tmp_path, selections=rules)
    reasons = [item.get("unreadable") for item in items]
    assert sorted(map(str, reasons)) == ["None"] + ["not chosen by the rules"] * 4
    with pytest.raises(SelectionRuleError, match="no such DICOM keyword"):
        LoadStudy(selections={"selections": [{"conditions": {"Modalty": "MR"}}]})


@pytest.mark.parametrize(("name", "encoding"), [("ISO_IR 100", "latin-1"), ("ISO_IR 192", "utf-8")])
def test_rules_read_texts_in_the_files_character_set(tmp_path: Path, name: str, encoding: str) -> None:
    write_phases(tmp_path, SpecificCharacterSet=name, SeriesDescription="Schädel T1")
    assert all("Schädel T1".encode(encoding) in path.read_bytes() for path in tmp_path.iterdir())
    rules = {"selections": [{"name": "", "conditions": {"SeriesDescription": "^schädel"}}]}
    assert load_image(tmp_path, selections=rules).shape == (1, 5, 6, 4)


def test_derived_maps_are_read_when_a_rule_names_their_series(tmp_path: Path) -> None:
    write_phases(tmp_path / "adc", ImageType=["DERIVED", "PRIMARY", "ADC"])
    with pytest.raises(ImageChoiceError, match="no image in 4 files"):
        load_image(tmp_path)
    assert load_image(tmp_path, selections=MR_SERIES).shape == (1, 5, 6, 4)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["ADC"], r"no image in 4 files: a derived map \(ADC\) \(4 files\)"),
        (["ADC", "FA"], r"no image in 8 files: a derived map \(ADC\) \(4 files\); a derived map \(FA\) \(4 files\)"),
        (["ADC", "LOCALIZER"], r"no image in 8 files: .*a localizer \(ImageType\) \(4 files\)"),
    ],
)
def test_folders_without_an_image_say_what_they_hold(tmp_path: Path, kinds: list[str], words: str) -> None:
    for number, kind in enumerate(kinds):
        attributes = {"SeriesInstanceUID": f"1.2.3.{number}", "ImageType": ["DERIVED", "PRIMARY", kind]}
        write_phases(tmp_path / kind, **attributes)
    with pytest.raises(ImageChoiceError, match=words) as caught:
        load_image(tmp_path)
    assert "name its series with selections" in caught.value.advice
    with pytest.raises(ImageReadError, match=r"a derived map \(ADC\)$") as caught:
        load_image(next(iter(sorted((tmp_path / "ADC").iterdir()))))
    assert caught.value.set_aside


def test_refusals_of_a_path(tmp_path: Path) -> None:
    (tmp_path / "page.dcm").write_text("<html>")
    with pytest.raises(ImageReadError, match=r"page.dcm: not a DICOM file but an HTML or XML page") as caught:
        load_image(tmp_path / "page.dcm")
    assert not caught.value.set_aside
    report = get_testdata_file("reportsi.dcm")
    with pytest.raises(ImageReadError, match="a structured report") as caught:
        load_image(report)
    assert caught.value.set_aside
    with pytest.raises(UnreadableFileError, match="no such file or folder"):
        load_image(tmp_path / "absent")
    with pytest.raises(TypeError, match="needs a path or a StudyImage, got list"):
        LoadStudy()([str(tmp_path)])
    with pytest.raises(TypeError, match="modalities: a sequence"):
        LoadStudy(modalities="MR")
    with pytest.raises(TypeError, match="exclude must be a list"):
        find_images(tmp_path, exclude="*.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no file$"):
        find_images(tmp_path / "empty")
    with pytest.raises(ValueError, match="holds no file that exclude leaves"):
        find_images(tmp_path, exclude=["*"])


def test_modalities(tmp_path: Path) -> None:
    write_phases(tmp_path)
    (item,) = find_images(tmp_path)
    for source in (item["image"], tmp_path):
        with pytest.raises(OtherModalityError, match="Modality MR, accepted are CT") as caught:
            LoadStudy(modalities=["CT"])(source)
        assert caught.value.set_aside
        assert LoadStudy(modalities=["CT", "MR"])(source).shape == (1, 5, 6, 4)
    with pytest.raises(OtherModalityError, match="Modality MR, accepted are CR"):
        LoadRadiograph(modalities=["CR"])(item["image"])
    with pytest.raises(ImageReadError, match="an image of 1 volumes in 4 files, no radiograph"):
        LoadRadiograph()(item["image"])


def test_nifti_files_are_images_too(tmp_path: Path) -> None:
    """Four dimensions are phases; a rule or a modality that is asked for says nothing about them."""
    values = np.random.default_rng(2).integers(0, 9, (5, 6, 4, 3)).astype(np.int16)
    affine = np.array([[0, -2.0, 0, 1], [1.5, 0, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "dce.nii.gz")
    (item,) = find_images(tmp_path)
    for source in (item["image"], tmp_path / "dce.nii.gz"):
        tensor = LoadStudy(modalities=["MR"])(source)
        np.testing.assert_array_equal(tensor.numpy(), np.moveaxis(values, 3, 0))
        np.testing.assert_allclose(tensor.affine, affine, rtol=1e-6)
    with pytest.raises(ImageReadError, match="a NIfTI file, no radiograph"):
        LoadRadiograph()(item["image"])


def test_in_a_pipeline_with_workers(tmp_path: Path) -> None:
    """Paths, images and meta data of different series go through MONAI's own transforms, collation and processes."""
    first = write_phases(tmp_path / "a", 2)
    second = write_phases(tmp_path / "b", 2, SeriesInstanceUID="1.2.3.23")
    items = [*find_images(tmp_path), {"image": str(tmp_path / "b")}]
    data = Dataset(
        [{"image": item["image"]} for item in items],
        Compose([LoadStudyd("image"), Orientationd("image", "RAS", labels=None)]),
    )
    (batch,) = DataLoader(data, batch_size=3, num_workers=2)
    expected = torch.tensor(np.stack([first, second, second])[:, :, ::-1, ::-1].astype(np.float32))
    found = {one.numpy().tobytes() for one in batch["image"]}
    assert found == {one.numpy().tobytes() for one in expected}
    assert sorted(batch["image"].meta["SeriesInstanceUID"]) == ["1.2.3.17", "1.2.3.23", "1.2.3.23"]
    with pytest.raises(KeyError, match="absent"):
        LoadStudyd("absent")({})


def test_errors_inside_a_pipeline_are_found(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"")
    with pytest.raises(RuntimeError) as caught:
        Compose([LoadStudyd("image")])({"image": str(tmp_path / "x.dcm")})
    error = find_read_error(caught.value)
    assert isinstance(error, ImageReadError)
    assert error.reason == "an empty file"


def test_a_file_that_changes_between_scan_and_loading(tmp_path: Path) -> None:
    write_phases(tmp_path)
    (item,) = find_images(tmp_path)
    victim = Path(item["files"][2])
    dataset = mr_slice(np.ones((7, 5), np.uint16), 0, "1.2.3.99")
    save(dataset, victim)
    with pytest.raises(ImageReadError, match="changed since it was scanned"):
        LoadStudy()(item["image"])
    victim.unlink()
    with pytest.raises(ImageReadError):
        LoadStudy()(item["image"])


def tree(folder: Path) -> Path:
    for name in ("b/2.dcm", "b/c/3.dcm", "a.dcm", ".hidden", "b/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


def relative(items: list[dict[str, Any]], folder: Path) -> list[str]:
    return [os.path.relpath(item["path"], folder) for item in items]


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = find_images(tree(tmp_path))
    assert relative(items, tmp_path) == [".hidden", "a.dcm", "b/2.dcm", "b/c/3.dcm", "b/notes.txt"]
    assert {item["unreadable"] for item in items} == {"an empty file"}
    monkeypatch.chdir(tmp_path)
    assert [item["image"] for item in find_images("b/c")] == [str(tmp_path / "b" / "c" / "3.dcm")]
    assert [item["image"] for item in find_images("a.dcm")] == [str(tmp_path / "a.dcm")]


def test_exclude(tmp_path: Path) -> None:
    tree(tmp_path)
    assert relative(find_images(tmp_path, exclude=[".*", "*.txt"]), tmp_path) == ["a.dcm", "b/2.dcm", "b/c/3.dcm"]
    assert relative(find_images(tmp_path, exclude=["b/c", "[.]*"]), tmp_path) == ["a.dcm", "b/2.dcm", "b/notes.txt"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    folder, outside = tree(tmp_path / "x"), tree(tmp_path / "y")
    (folder / "b" / "c" / "up").symlink_to(folder)
    (folder / "a link to b").symlink_to(folder / "b")
    (folder / "linked.dcm").symlink_to(folder / "a.dcm")
    (folder / "z").symlink_to(outside / "b")
    (outside / "b" / "back").symlink_to(folder)
    own = [".hidden", "a.dcm", "b/2.dcm", "b/c/3.dcm", "b/notes.txt", "linked.dcm"]
    assert relative(find_images(folder), folder) == [*own, "z/2.dcm", "z/c/3.dcm", "z/notes.txt"]


def test_what_cannot_be_opened_has_an_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").symlink_to(tmp_path / "absent")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "shut").mkdir()
    scandir = os.scandir

    def forbidding(path: str) -> Any:  # noqa: ANN401
        if path.endswith("shut"):
            raise PermissionError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    assert summary(find_images(tmp_path), tmp_path) == {
        "broken": "broken symbolic link",
        "itself": "broken symbolic link",
        "pipe": "not a regular file",
        "shut": "folder cannot be listed (PermissionError)",
    }


def archive_of_two(folder: Path) -> tuple[Path, np.ndarray]:
    """A ZIP of a series and of a file beside it; and the values of the series."""
    values = write_phases(folder / "in")
    with zipfile.ZipFile(folder / "studies.zip", "w") as archive:
        for path in (folder / "in").iterdir():
            archive.write(path, f"inner/{path.name}")
        archive.write(get_testdata_file("CT_small.dcm"), "other/CT.dcm")
    return folder / "studies.zip", values


def test_members_of_archives_are_sources(tmp_path: Path) -> None:
    archive, values = archive_of_two(tmp_path)
    np.testing.assert_array_equal(load_image(archive / "inner").numpy(), values)
    one = load_image(archive / "other" / "CT.dcm")
    assert one.shape == (1, 128, 128) and one.meta["filename_or_obj"] == str(archive / "other" / "CT.dcm")
    with pytest.raises(UnreadableFileError, match=r"studies.zip/absent: no such member in the archive"):
        load_image(archive / "absent")
    with pytest.raises(UnreadableFileError, match="no such file or folder"):
        load_image(tmp_path / "in" / "I0" / "x.dcm")


def test_unpacked_folders_go_with_the_last_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that lives for weeks nothing may stay; a copy in a worker takes nothing away."""
    archive, values = archive_of_two(tmp_path)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    for _ in range(3):
        items = find_images(archive)
        assert len(list(temporary.iterdir())) == 1
        (image,) = (item["image"] for item in items if len(item["files"]) == 4)
        assert image.origins == (str(archive),)
        twin = pickle.loads(pickle.dumps(image))
        del items
        np.testing.assert_array_equal(LoadStudy()(twin).numpy(), values)
        del twin
        np.testing.assert_array_equal(LoadStudy()(image).numpy(), values)
        del image
        assert list(temporary.iterdir()) == []
    load_image(archive / "inner")
    assert list(temporary.iterdir()) == []


def test_a_forked_process_removes_nothing(tmp_path: Path) -> None:
    archive, _ = archive_of_two(tmp_path)
    images = [item["image"] for item in find_images(archive) if isinstance(item["image"], StudyImage)]
    folder = images[0].unpacked.path
    process = multiprocessing.get_context("fork").Process(target=images.clear)
    process.start()
    process.join()
    assert process.exitcode == 0 and folder.is_dir()
