"""The cache on disk: the second data set decodes nothing; changed files, settings and versions miss it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import (
    Compose,
    CropForegroundd,
    Flipd,
    NormalizeIntensityd,
    Orientationd,
    RandScaleIntensityd,
    Resized,
    ResizeWithPadOrCropd,
    Rotate90d,
    Rotated,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    Spacingd,
    SpatialPadd,
    Transform,
    Zoomd,
)

from seqnorm_monai.data import LoadRadiographd, LoadStudyd, caching
from seqnorm_monai.data import load as transforms
from seqnorm_monai.data.caching import CachedDataset
from seqnorm_monai.data.items import find_images
from seqnorm_monai.data.machine_errors import MachineError
from seqnorm_monai.images.dicom import RadiographHeader, volume, write_radiograph
from tests.makers.studies import write_phases

COUNT = 5


def header(number: int) -> RadiographHeader:
    return RadiographHeader(
        patient_id=f"p{number}",
        study_uid=f"1.2.3.{number}",
        series_uid=f"1.2.3.{number}.1",
        sop_uid=f"1.2.3.{number}.1.1",
        view_position="PA",
        patient_sex="",
        patient_age="",
    )


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, object]]:
    generator = np.random.default_rng(3)
    made = []
    for number in range(COUNT):
        path = tmp_path / f"{number}.dcm"
        write_radiograph(path, generator.integers(0, 4096, (7, 11), dtype=np.uint16), header(number))
        made.append({"image": str(path), "label": float(number)})
    return made


def steps(upper: float = 4096.0) -> Compose:
    scale = ScaleIntensityRanged("image", a_min=0.0, a_max=upper, b_min=0.0, b_max=1.0)
    return Compose([LoadRadiographd("image"), scale, RandScaleIntensityd("image", prob=1.0, factors=0.5)])


def deterministic() -> Compose:
    return Compose(steps().transforms[:2])


def above_zero(image: torch.Tensor) -> torch.Tensor:
    return image > 0


def reads(data: CachedDataset) -> tuple[list[dict[str, object]], int]:
    """All items, and how many files were decoded for them."""
    with mock.patch.object(transforms, "open_image", wraps=transforms.open_image) as decoded:
        return [data[index] for index in range(len(data))], decoded.call_count


@pytest.mark.parametrize("cache_rate", [0.0, 0.6, 1.0])
def test_second_data_set_decodes_nothing(items: list[dict[str, object]], tmp_path: Path, cache_rate: float) -> None:
    folder = tmp_path / "cache"

    def data() -> CachedDataset:
        return CachedDataset(items, steps(), cache_rate=cache_rate, cache_dir=folder, progress=False)

    with mock.patch.object(transforms, "open_image", wraps=transforms.open_image) as decoded:
        first = data()
        in_memory = decoded.call_count
    _, later = reads(first)
    assert in_memory == int(COUNT * cache_rate) and in_memory + later == COUNT
    with mock.patch.object(transforms, "open_image", side_effect=AssertionError):
        second = data()
        loaded = [second[index] for index in range(COUNT)]
    for item, source in zip(loaded, items, strict=True):
        image = item["image"]
        assert isinstance(image, MetaTensor) and item["label"] == source["label"]
        assert image.meta["StudyInstanceUID"]
        assert image.affine.shape == (4, 4)


def test_values_are_those_without_a_cache_and_random_steps_stay_random(
    items: list[dict[str, object]], tmp_path: Path
) -> None:
    cached = CachedDataset(items, steps(), cache_rate=0.0, cache_dir=tmp_path / "cache", progress=False)
    plain = CacheDataset(items, steps(), progress=False)
    for _ in range(2):
        for index in range(COUNT):
            values = []
            for data in (cached, plain):
                data.transform.set_random_state(seed=index)
                values.append(data[index]["image"].as_tensor())
            assert torch.equal(*values)
    assert not torch.equal(cached[0]["image"], cached[0]["image"])


@pytest.mark.parametrize("change", ["file", "settings", "version"])
def test_what_changed_is_decoded_again(
    items: list[dict[str, object]], tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def data(upper: float = 4096.0) -> CachedDataset:
        return CachedDataset(items, steps(upper), cache_rate=0.0, cache_dir=tmp_path / "cache", progress=False)

    assert reads(data())[1] == COUNT
    assert reads(data())[1] == 0
    if change == "file":
        os.utime(str(items[1]["image"]), ns=(1, 1))
        assert reads(data())[1] == 1
    elif change == "settings":
        assert reads(data(2048.0))[1] == COUNT
    else:
        monkeypatch.setattr(caching, "__version__", "another")
        assert reads(data())[1] == COUNT


def test_studies_are_cached_by_all_their_files(tmp_path: Path) -> None:
    """A folder and an image that was found in it: decoded once, and again when a slice changes."""
    values = write_phases(tmp_path / "in", 2)

    def decoded(item: dict[str, object]) -> int:
        data = CachedDataset([item], [LoadStudyd("image")], cache_rate=0.0, cache_dir=tmp_path / "kept", progress=False)
        with mock.patch.object(volume, "load_planes", wraps=volume.load_planes) as loaded:
            np.testing.assert_array_equal(data[0]["image"].numpy(), values)
        return loaded.call_count

    (found,) = find_images(tmp_path / "in")
    for item in ({"image": str(tmp_path / "in")}, found):
        assert decoded(item) == 1
        (again,) = find_images(tmp_path / "in")
        assert decoded(again if item is found else item) == 0
    os.utime(tmp_path / "in" / "I3", ns=(1, 1))
    (later,) = find_images(tmp_path / "in")
    assert [decoded({"image": str(tmp_path / "in")}), decoded(later)] == [1, 1]


def test_the_key_does_not_depend_on_the_process(tmp_path: Path) -> None:
    write_phases(tmp_path / "in")
    code = (
        "import sys; from seqnorm_monai.data.caching import item_hash; "
        "from seqnorm_monai.data.items import find_images;"
        "print(item_hash(find_images(sys.argv[1])[0]).decode())"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "in")]
    keys = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(keys) == 1


def test_voxels_beside_a_header_count(tmp_path: Path) -> None:
    for name in ("a.hdr", "a.img", "b.img"):
        (tmp_path / name).write_bytes(b"1")
    keys = {caching.item_hash({"image": str(tmp_path / "a.hdr")})}
    for name, new in (("b.img", False), ("a.img", True), ("a.hdr", True)):
        os.utime(tmp_path / name, ns=(1, 1))
        key = caching.item_hash({"image": str(tmp_path / "a.hdr")})
        assert (key not in keys) == new
        keys.add(key)


PREPROCESSING: dict[str, list[Transform]] = {
    "size": [
        Resized("image", 23, size_mode="longest", mode="area"),
        ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True),
        ResizeWithPadOrCropd("image", (23, 23)),
        NormalizeIntensityd("image", 0.5, 0.25),
    ],
    "space": [
        Orientationd("image", "RA", labels=(("L", "R"), ("P", "A"))),
        Spacingd("image", (0.7, 0.9), mode="bilinear", padding_mode="border"),
        CropForegroundd("image", "image", select_fn=above_zero, start_coord_key=None, end_coord_key=None),
    ],
    "turns": [
        Rotated("image", 0.3, keep_size=True),
        Zoomd("image", 1.25, mode="bicubic"),
        Flipd("image", 1),
        Rotate90d("image"),
        SpatialPadd("image", (13, 13), mode="edge"),
    ],
}


@pytest.mark.parametrize("name", PREPROCESSING)
def test_what_transforms_note_in_an_image_is_kept(items: list[dict[str, object]], tmp_path: Path, name: str) -> None:
    """The usual preprocessing: it writes down how to undo it, in words of its own."""
    chain = Compose([LoadRadiographd("image"), *PREPROCESSING[name]])
    first, decoded = reads(CachedDataset(items, chain, cache_rate=0.0, cache_dir=tmp_path / "cache", progress=False))
    again, none = reads(CachedDataset(items, chain, cache_rate=0.0, cache_dir=tmp_path / "cache", progress=False))
    assert (decoded, none) == (COUNT, 0)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["image"], other["image"])
        # notes hold arrays, which have no truth value of their own
        assert repr(other["image"].applied_operations) == repr(one["image"].applied_operations) != "[]"


@pytest.mark.parametrize("length", [0, 3, 10, "half", -1, "other"])
def test_a_damaged_cache_file_is_made_again(items: list[dict[str, object]], tmp_path: Path, length: int | str) -> None:
    folder = tmp_path / "cache"
    expected, _ = reads(CachedDataset(items, deterministic(), cache_rate=0.0, cache_dir=folder, progress=False))
    victim = sorted(folder.glob("*.pt"))[0]
    whole = victim.read_bytes()
    if length == "other":
        victim.write_bytes(b"no tensor")
    else:
        victim.write_bytes(whole[: len(whole) // 2 if length == "half" else length])
    again = CachedDataset(items, deterministic(), cache_rate=0.0, cache_dir=folder, progress=False)
    with pytest.warns(UserWarning, match="Corrupt cache file"):
        found, decoded = reads(again)
    assert decoded == 1
    assert all(torch.equal(one["image"], other["image"]) for one, other in zip(expected, found, strict=True))
    assert reads(again)[1] == 0


@pytest.mark.parametrize("content", [[1], {"label": 1}, torch.zeros(3), None], ids=["list", "entry", "tensor", "none"])
def test_a_cache_file_of_other_things_is_made_again(
    items: list[dict[str, object]], tmp_path: Path, content: object
) -> None:
    folder = tmp_path / "cache"
    expected, _ = reads(CachedDataset(items, deterministic(), cache_rate=0.0, cache_dir=folder, progress=False))
    torch.save(content, sorted(folder.glob("*.pt"))[0])
    with pytest.warns(UserWarning, match="Corrupt cache file"):
        found, decoded = reads(CachedDataset(items, deterministic(), cache_rate=0.0, cache_dir=folder, progress=False))
    assert decoded == 1
    assert all(torch.equal(one["image"], other["image"]) for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize("part", [(0.0, 1.0), (0.25, 0.5), (0.5, 1.0)], ids=["all", "middle", "end"])
def test_a_cache_file_with_zeros_is_made_again(
    items: list[dict[str, object]], tmp_path: Path, part: tuple[float, float]
) -> None:
    """What a machine that lost its power leaves: the right length, and nothing in it."""
    folder = tmp_path / "cache"
    expected, _ = reads(CachedDataset(items, deterministic(), cache_rate=0.0, cache_dir=folder, progress=False))
    victim = sorted(folder.glob("*.pt"))[0]
    data = bytearray(victim.read_bytes())
    begin, end = (int(len(data) * share) for share in part)
    data[begin:end] = bytes(end - begin)
    victim.write_bytes(data)
    with pytest.warns(UserWarning, match="Corrupt cache file"):
        found, decoded = reads(CachedDataset(items, deterministic(), cache_rate=0.0, cache_dir=folder, progress=False))
    assert decoded == 1
    assert all(torch.equal(one["image"], other["image"]) for one, other in zip(expected, found, strict=True))


def test_a_full_disk_is_said(items: list[dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_kept: object, _stream: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    data = CachedDataset(items, steps(), cache_rate=0.0, cache_dir=tmp_path / "cache", progress=False)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(MachineError, match=r"cache: No space left on device; .*another cache_dir"):
        data[0]
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(items: list[dict[str, object]], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"file/cache: Not a directory; .*another cache_dir"):
        CachedDataset(items, steps(), cache_dir=tmp_path / "file" / "cache", progress=False)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_may_only_be_read_keeps_nothing(
    items: list[dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "")

    data = CachedDataset(items, steps(), cache_rate=0.0, cache_dir=tmp_path / "cache", progress=False)
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert data[0]["image"].shape
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_corrected_label_decodes_nothing(items: list[dict[str, object]], tmp_path: Path) -> None:
    def data() -> CachedDataset:
        return CachedDataset(items, steps(), cache_rate=0.4, cache_dir=tmp_path / "cache", progress=False)

    reads(data())
    for item in items:
        item.update(label=17.0, patient="new")
    found, decoded = reads(data())
    assert decoded == 0
    assert [(item["label"], item["patient"]) for item in found] == [(17.0, "new")] * COUNT
    assert len(list((tmp_path / "cache").glob("*.pt"))) == COUNT


def test_only_the_image_names_files(
    items: list[dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patient called like a folder of the working directory changes nothing, and no folder is walked for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "17").mkdir()
    item = {**items[0], "patient": "17", "comment": "."}
    with mock.patch.object(caching, "files_below", wraps=caching.files_below) as walks:
        before = caching.item_hash(item)
        (tmp_path / "17" / "new").write_bytes(b"1")
        assert caching.item_hash(item) == before
    assert walks.call_count == 0


class Double(Transform):
    """Changes the label."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "label": 2 * item["label"]}


def test_entries_that_deterministic_transforms_change_are_named(items: list[dict[str, object]], tmp_path: Path) -> None:
    def data(keys: tuple[str, ...]) -> CachedDataset:
        transform = [LoadRadiographd("image"), Double()]
        return CachedDataset(items, transform, cache_rate=0.0, cache_dir=tmp_path / "kept", keys=keys, progress=False)

    with pytest.raises(ValueError, match="argument keys: a deterministic transform changes the entry label"):
        data(("image",))[0]
    both = data(("image", "label"))
    assert reads(both)[1] == COUNT
    items[2]["label"] = 7.0
    found, decoded = reads(data(("image", "label")))
    assert decoded == 1
    assert [item["label"] for item in found] == [0, 2, 14, 6, 8]
    with pytest.raises(KeyError, match="an item has no entry scan"):
        data(("scan",))[0]
    with pytest.raises(TypeError, match="argument keys"):
        CachedDataset(items, steps(), keys="image")


def test_archives_and_media_count(tmp_path: Path) -> None:
    """A member by its archive, a medium by the files beside its directory, a list by each of its files."""
    (tmp_path / "cd" / "IMAGES").mkdir(parents=True)
    for name in ("cd/DICOMDIR", "cd/IMAGES/1", "a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(b"1")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner/1.dcm", b"1")
    images = [tmp_path / "a.zip" / "inner" / "1.dcm", tmp_path / "cd" / "DICOMDIR", [tmp_path / "a.dcm"]]
    images[2] += [str(tmp_path / "b.dcm")]
    for image, changed in zip(images, ("a.zip", "cd/IMAGES/1", "b.dcm"), strict=True):
        before = caching.item_hash({"image": image})
        assert caching.item_hash({"image": image}) == before
        os.utime(tmp_path / changed, ns=(1, 1))
        assert caching.item_hash({"image": image}) != before


def test_images_of_an_archive_are_kept(tmp_path: Path) -> None:
    """Found in it or named as its folder: what it was unpacked to has another name each time."""
    values = write_phases(tmp_path / "in", 2)
    packed = tmp_path / "study.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((tmp_path / "in").iterdir()):
            archive.write(path, f"inner/{path.name}")

    def decoded(image: object) -> int:
        transform = [LoadStudyd("image")]
        data = CachedDataset([{"image": image}], transform, cache_rate=0.0, cache_dir=tmp_path / "kept", progress=False)
        with mock.patch.object(volume, "load_planes", wraps=volume.load_planes) as loaded:
            np.testing.assert_array_equal(data[0]["image"].numpy(), values)
        return loaded.call_count

    def found() -> object:
        (image,) = [item["image"] for item in find_images(packed) if "unreadable" not in item]
        return image

    member = packed / "inner"
    assert [bool(decoded(found())), bool(decoded(found()))] == [True, False]
    assert [bool(decoded(member)), bool(decoded(member))] == [True, False]
    os.utime(packed, ns=(1, 1))
    assert [bool(decoded(found())), bool(decoded(member))] == [True, True]


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, ""), PermissionError(errno.EACCES, "")])
def test_a_file_that_cannot_be_opened_now_is_not_called_damaged(
    items: list[dict[str, object]], tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = CachedDataset(items, steps(), cache_rate=0.0, cache_dir=tmp_path / "cache", progress=False)
    reads(data)
    monkeypatch.setattr(torch, "load", mock.Mock(side_effect=error))
    with pytest.raises(type(error)):
        data[0]
    assert len(list((tmp_path / "cache").glob("*.pt"))) == COUNT


def test_the_origins_of_an_image_count_instead_of_its_unpacked_files(tmp_path: Path) -> None:
    for name in ("a.zip", "unpacked", "elsewhere"):
        (tmp_path / name).write_bytes(b"1")
    image = SimpleNamespace(identity=("1.2", 0), files=(tmp_path / "unpacked",), origins=(tmp_path / "a.zip",))
    before = caching.item_hash({"image": image})
    image.files = (tmp_path / "elsewhere",)
    assert caching.item_hash({"image": image}) == before
    os.utime(tmp_path / "a.zip", ns=(1, 1))
    changed = caching.item_hash({"image": image})
    image.identity = ("1.2", 1)
    assert len({before, changed, caching.item_hash({"image": image})}) == 3


def test_values_count_whole() -> None:
    """Arrays that print alike, as long ones do, have keys of their own."""
    first, second = np.zeros(10_007), np.zeros(10_007)
    second[5_003] = 1
    assert caching.item_hash({"image": first}) != caching.item_hash({"image": second})
    assert caching.item_hash({"image": first}) == caching.item_hash({"image": np.zeros(10_007)})


def test_without_a_folder_it_is_monais_own(items: list[dict[str, object]]) -> None:
    data = CachedDataset(items, steps(), progress=False)
    assert reads(data)[1] == 0
    assert isinstance(data, CacheDataset)


class Slow(Transform):
    """Takes a while, and fails at the first item."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.ended: list[int] = []

    def __call__(self, item: dict[str, int]) -> dict[str, int]:
        self.started.append(item["image"])
        time.sleep(0.2)
        if item["image"] == 0:
            raise ValueError("damaged")
        self.ended.append(item["image"])
        return item


def test_no_thread_is_at_work_after_a_failure() -> None:
    """A thread that decodes while Python ends makes it abort, with another exit code and another last line."""
    slow = Slow()
    with pytest.raises(RuntimeError):
        CachedDataset([{"image": number} for number in range(40)], [slow], progress=False)
    assert len(slow.started) < 40
    assert len(slow.ended) == len(slow.started) - 1
