"""Datalists: what is read, what is refused, and that no split ever shares a patient."""

import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqnorm_monai.data.datalists import SPLITS, DatalistError, load_class_names, load_datalist, write_datalist

NAMES = ["Effusion", "Mass", "Nodule"]


def items_of(folder: Path, split: str, count: int) -> list[dict[str, Any]]:
    """`count` items with their files, two images for each patient."""
    items = []
    for i in range(count):
        image = folder / split / f"{i}.dcm"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(b"")
        items.append({"image": f"{split}/{i}.dcm", "label": NAMES[: i % 4], "patient": f"{split} {i // 2}"})
    return items


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(tmp_path / "studies.zip", "w") as archive:
        archive.writestr("inner/1.dcm", b"")
        archive.writestr("2.dcm", b"")
    (tmp_path / "damaged.zip").write_bytes(b"PK\x03\x04")
    os.mkfifo(tmp_path / "pipe")
    return {split: items_of(tmp_path, split, count) for split, count in zip(SPLITS, (7, 3, 5), strict=True)}


def written(content: object, folder: Path) -> Path:
    path = folder / "datalist.json"
    path.write_text(json.dumps(content))
    return path


def refused(content: object, folder: Path, *, split: str = "test", class_names: Sequence[str] = NAMES) -> str:
    path = written(content, folder)
    with pytest.raises(DatalistError) as caught:
        load_datalist(path, split=split, class_names=class_names)
    message = str(caught.value)
    assert "datalist.json" in message or message.startswith("argument")
    return message


def test_items_of_a_split(content: dict[str, Any], tmp_path: Path) -> None:
    content["description"] = "other keys are left alone"
    items = load_datalist(written(content, tmp_path), split="training", class_names=NAMES)
    assert [item["image"] for item in items] == [str(tmp_path / "training" / f"{i}.dcm") for i in range(7)]
    assert [item["patient"] for item in items] == [f"training {i // 2}" for i in range(7)]
    labels = np.stack([item["label"] for item in items])
    assert labels.dtype == np.float32
    expected = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 0]]
    np.testing.assert_array_equal(labels, expected)


def test_paths_are_relative_to_the_file(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(content, tmp_path)
    monkeypatch.chdir(tmp_path / "test")
    items = load_datalist("../datalist.json", split="test", class_names=NAMES)
    assert items[2]["image"] == str(tmp_path / "test" / "2.dcm")


def change(split: str, position: int, key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        content[split][position][key] = value

    return apply


def remove(split: str, position: int, key: str) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        del content[split][position][key]

    return apply


# every fault stands in another split than the one that is loaded: the whole file is checked
@pytest.mark.parametrize(
    ("fault", "parts"),
    [
        (change("training", 3, "patient", "validation 0"), ["'validation 0'", "splits training and validation"]),
        (change("validation", 1, "image", "no/such.dcm"), ["validation[1]", "no/such.dcm does not exist"]),
        (change("validation", 1, "image", "training"), ["training[0]: image", "training, the image of validation[1]"]),
        (change("validation", 1, "image", "pipe"), ["validation[1]", "neither a file nor a folder"]),
        (change("validation", 1, "image", "studies.zip/b.dcm"), ["validation[1]", "b.dcm does not exist"]),
        (change("validation", 1, "image", "damaged.zip/a.dcm"), ["validation[1]", "a.dcm does not exist"]),
        (change("validation", 1, "image", "test/1.dcm/a.dcm"), ["validation[1]", "a.dcm does not exist"]),
        (change("validation", 1, "image", "\0"), ["validation[1]", "does not exist"]),
        (change("training", 2, "label", ["Mass", "mass"]), ["training[2]", "'mass'", "Effusion, Mass, Nodule"]),
        (change("training", 2, "label", ["Mass", "Mass"]), ["training[2]", "twice"]),
        (change("training", 2, "label", "Mass"), ["training[2]", "must be a list", "'Mass'"]),
        (change("training", 2, "label", None), ["training[2]", "must be a list"]),
        (change("training", 5, "image", "training/4.dcm"), ["training[5]", "stands already in training[4]"]),
        (change("validation", 0, "image", "training/../training/4.dcm"), ["stands already in training[4]"]),
        (change("training", 5, "patient", 17), ["training[5]", "patient", "non-empty string", "17"]),
        (change("training", 5, "patient", " "), ["training[5]", "patient", "non-empty string"]),
        (remove("training", 6, "patient"), ["training[6]", "key patient is missing"]),
        (remove("training", 6, "image"), ["training[6]", "key image is missing"]),
        (remove("training", 6, "label"), ["training[6]", "key label is missing"]),
        (lambda content: content["training"].append("a.dcm"), ["training[7]", "must be an object", "'a.dcm'"]),
        (lambda content: content.update(validation={}), ["'validation' must be a list"]),
    ],
)
def test_one_fault(
    content: dict[str, Any], tmp_path: Path, fault: Callable[[dict[str, Any]], None], parts: list[str]
) -> None:
    load_datalist(written(content, tmp_path), split="test", class_names=NAMES)
    fault(content)
    message = refused(content, tmp_path)
    for part in parts:
        assert part in message


def test_a_link_is_the_same_image(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "link.dcm").symlink_to(tmp_path / "test" / "1.dcm")
    content["training"][0]["image"] = "link.dcm"
    assert "test[1]: image" in refused(content, tmp_path)


def test_many_faults_are_counted_and_the_first_listed(content: dict[str, Any], tmp_path: Path) -> None:
    for item in content["training"]:
        item["label"] = ["Hernia"]
    content["test"][0]["patient"] = "validation 1"
    message = refused(content, tmp_path)
    assert "8 problems, the first 5 are" in message
    lines = message.splitlines()[1:]
    assert len(lines) == 5
    assert "patient 'validation 1' stands in the splits validation and test" in lines[0]
    assert lines[1].strip().startswith("training[0]: unknown label 'Hernia'")


@pytest.mark.parametrize("split", SPLITS)
def test_empty_and_missing_split(content: dict[str, Any], tmp_path: Path, split: str) -> None:
    content[split] = []
    assert f"split '{split}' is missing or empty" in refused(content, tmp_path, split=split)
    del content[split]
    assert f"split '{split}' is missing or empty" in refused(content, tmp_path, split=split)
    other = SPLITS[SPLITS.index(split) - 1]
    assert load_datalist(written(content, tmp_path), split=other, class_names=NAMES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "train"}, "argument split must be one of training, validation, test; got 'train'"),
        ({"class_names": ["Mass", "Nodule", "Mass"]}, "argument class_names holds Mass twice"),
        ({"class_names": []}, "argument class_names must be a non-empty list"),
        ({"class_names": "M"}, "argument class_names must be a non-empty list"),
    ],
)
def test_wrong_arguments(content: dict[str, Any], tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    assert message in refused(content, tmp_path, **arguments)


def test_no_file_no_json_no_object(tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match=r"absent\.json: cannot be opened \(No such file"):
        load_datalist(tmp_path / "absent.json", split="test", class_names=NAMES)
    (tmp_path / "datalist.json").write_text('{"training": [')
    with pytest.raises(DatalistError, match=r"datalist\.json: is not valid JSON \(.*line 1 column 15"):
        load_datalist(tmp_path / "datalist.json", split="test", class_names=NAMES)
    (tmp_path / "datalist.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(DatalistError, match="is not valid JSON"):
        load_datalist(tmp_path / "datalist.json", split="test", class_names=NAMES)
    assert "must be an object" in refused([1], tmp_path)


def test_files_folders_archives_and_members(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "study" / "series").mkdir(parents=True)
    (tmp_path / "study" / "DICOMDIR").write_bytes(b"")
    named = ["study/series", "study/DICOMDIR", "studies.zip/2.dcm", "studies.zip/inner", "damaged.zip"]
    for item, image in zip(content["training"], named):
        item["image"] = image
    items = load_datalist(written(content, tmp_path), split="training", class_names=NAMES)
    assert [item["image"] for item in items[:5]] == [str(tmp_path / image) for image in named]
    content["training"][3]["image"] = "studies.zip/inner/1.dcm"
    assert load_datalist(written(content, tmp_path), split="training", class_names=NAMES)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("studies.zip/2.dcm", "./studies.zip/2.dcm", "stands already in training[0]"),
        ("studies.zip/2.dcm", "link.zip/2.dcm", "stands already in training[0]"),
        ("test", "validation/../test", "stands already in training[0]"),
        ("studies.zip", "studies.zip/inner/1.dcm", "studies.zip, the image of training[0]; name one of them"),
        ("studies.zip/inner", "studies.zip/inner/1.dcm", "inner, the image of training[0]; name one of them"),
    ],
)
def test_no_image_is_named_twice_as_a_part_or_by_a_link(
    content: dict[str, Any], tmp_path: Path, first: str, second: str, message: str
) -> None:
    (tmp_path / "link.zip").symlink_to(tmp_path / "studies.zip")
    content["training"][0]["image"], content["validation"][0]["image"] = first, second
    assert message in refused(content, tmp_path)


def test_a_file_system_without_inode_numbers(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_number(path: str, **options: Any) -> os.stat_result:  # noqa: ANN401
        found = list(stat(path, **options))
        found[1] = 0
        return os.stat_result(found)

    stat = os.stat
    monkeypatch.setattr(os, "stat", without_number)
    assert load_datalist(written(content, tmp_path), split="test", class_names=NAMES)
    (tmp_path / "link.dcm").symlink_to(tmp_path / "test" / "1.dcm")
    content["training"][0]["image"] = "link.dcm"
    assert "stands already in training[0]" in refused(content, tmp_path)


def ranked(folder: Path, labels: list[list[str]]) -> list[dict[str, object]]:
    for number in range(len(labels)):
        (folder / f"{number}.png").write_bytes(b"")
    items = [{"image": f"{n}.png", "label": label, "patient": f"p{n}"} for n, label in enumerate(labels)]
    path = folder / "datalist.json"
    path.write_text(json.dumps({"training": [], "validation": items, "test": []}))
    return load_datalist(path, split="validation", class_names=["Mass", "Edema"], ranked=True)


@pytest.mark.parametrize("labels", [[[], []], [["Mass"]], [["Mass"], ["Mass"]], [["Mass", "Edema"]] * 3])
def test_a_split_without_a_class_to_rank_is_refused(tmp_path: Path, labels: list[list[str]]) -> None:
    with pytest.raises(
        DatalistError, match=r"'validation' has no class with positive and negative .*Mass \(\d of \d\)"
    ):
        ranked(tmp_path, labels)


def test_classes_without_auroc_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(ranked(tmp_path, [["Mass"], [], []])) == 3
    assert "Edema (0 of 3)" in caplog.text and "Mass (" not in caplog.text
    caplog.clear()
    ranked(tmp_path, [["Mass"], ["Edema"]])
    assert not caplog.text


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"class_names": ["Mass", "Edema"], "training": []}, ["Mass", "Edema"]),
        ({"test": [{"label": ["b", "a"]}], "training": [{"label": ["c"]}, {"label": []}]}, ["a", "b", "c"]),
        ({"training": [{"label": ["z"]}, {"label": "x"}, 7, {"label": [3, ""]}]}, ["z"]),
    ],
)
def test_classes_of_a_datalist(tmp_path: Path, content: dict[str, Any], names: list[str]) -> None:
    (tmp_path / "d.json").write_text(json.dumps(content))
    assert load_class_names(tmp_path / "d.json") == names


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"class_names": []}, "class_names must be a non-empty list of names"),
        ({"class_names": "Mass"}, "class_names must be a non-empty list of names; got 'Mass'"),
        ({"class_names": ["a", 3]}, "class_names must be a non-empty list"),
        ({"class_names": ["a", "a"]}, "class_names holds a twice"),
        ({"training": [{"label": []}]}, "no item has a label, so there is no class"),
        ({"training": {}}, "'training' must be a list"),
    ],
)
def test_datalist_without_classes_is_refused_by_name(tmp_path: Path, content: dict[str, Any], says: str) -> None:
    (tmp_path / "d.json").write_text(json.dumps(content))
    with pytest.raises(DatalistError, match=says) as refused:
        load_class_names(tmp_path / "d.json")
    assert "d.json" in str(refused.value)


def test_classes_are_written_in_their_order(tmp_path: Path) -> None:
    item = {"image": str(tmp_path / "1.png"), "label": ["a"], "patient": "p"}
    datalist = {"training": [item], "validation": [], "test": []}
    write_datalist(datalist, tmp_path / "d.json", ["b", "a"])
    assert load_class_names(tmp_path / "d.json") == ["b", "a"]
    with pytest.raises(DatalistError, match="class_names holds a twice"):
        write_datalist(datalist, tmp_path / "d.json", ["a", "a"])


def sided(folder: Path, *items: tuple[str, str, str | None]) -> Path:
    """A datalist of image, split and side."""
    content: dict[str, Any] = {split: [] for split in SPLITS}
    for image, split, side in items:
        (folder / image).touch()
        item = {"image": image, "label": ["Mass"], "patient": f"p{image}"}
        content[split].append(item if side is None else {**item, "side": side})
    (folder / "d.json").write_text(json.dumps(content))
    return folder / "d.json"


def test_each_side_of_an_image_is_an_item(tmp_path: Path) -> None:
    path = sided(tmp_path, ("a", "training", "left"), ("a", "training", "right"), ("b", "test", None))
    items = load_datalist(path, split="training", class_names=["Mass"])
    assert [(Path(item["image"]).name, item["side"]) for item in items] == [("a", "left"), ("a", "right")]
    assert "side" not in load_datalist(path, split="test", class_names=["Mass"])[0]


@pytest.mark.parametrize(
    ("sides", "says"),
    [
        (("left", "left"), "stands already in training"),
        (("left", None), "stands already in training"),
        ((None, "left"), "stands already in training"),
        (("left", "both"), "side must be left or right; got 'both'"),
        (("left", "L"), "side must be left or right; got 'L'"),
    ],
)
def test_a_side_stands_once(tmp_path: Path, sides: tuple[str | None, str | None], says: str) -> None:
    path = sided(tmp_path, *[("a", "training", side) for side in sides])
    with pytest.raises(DatalistError, match=says):
        load_datalist(path, split="training", class_names=["Mass"])


def test_the_sides_of_a_patient_stay_in_one_split(tmp_path: Path) -> None:
    path = sided(tmp_path, ("a", "training", "left"), ("a", "test", "right"))
    with pytest.raises(DatalistError, match="patient 'pa' stands in the splits training and test"):
        load_datalist(path, split="training", class_names=["Mass"])


@pytest.mark.parametrize("patient", ["nan", "NaN", "None", "N/A", "<NA>"])
def test_nobody_is_no_patient(tmp_path: Path, patient: str) -> None:
    (tmp_path / "a").touch()
    content = {"training": [{"image": "a", "label": ["Mass"], "patient": patient}]}
    (tmp_path / "d.json").write_text(json.dumps(content))
    with pytest.raises(DatalistError, match="is what programs write for nobody; give each patient a pseudonym"):
        load_datalist(tmp_path / "d.json", split="training", class_names=["Mass"])


def test_exclusive_classes_need_exactly_one(content: dict[str, Any], tmp_path: Path) -> None:
    path = written(content, tmp_path)
    with pytest.raises(DatalistError, match=r"training\[0\]: has 0 labels; exclusive classes need exactly one"):
        load_datalist(path, split="test", class_names=NAMES, exclusive=True)
    for items in content.values():
        for item in items:
            item["label"] = NAMES[:1]
    assert len(load_datalist(written(content, tmp_path), split="test", class_names=NAMES, exclusive=True)) == 5
