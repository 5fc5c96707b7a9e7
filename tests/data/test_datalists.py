"""Datalists: what is read, what is refused, and that no split ever shares a patient."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqnorm_monai.data.datalists import SPLITS, DatalistError, build_datalist, load_datalist, write_datalist

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
        (change("validation", 1, "image", "training"), ["validation[1]", "is not a file"]),
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


def table(folder: Path, text: str) -> Path:
    """Write a CSV and an (empty) image for each name in its first column."""
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8-sig")
    (folder / "images").mkdir(exist_ok=True)
    for line in text.splitlines()[1:]:
        image = folder / "images" / line.split(",")[0]
        image.parent.mkdir(parents=True, exist_ok=True)
        if not image.is_dir():
            image.write_bytes(line.encode())
    return path


def many(patients: int, images: int) -> str:
    """A table with one column per class; the classes have frequencies of about 1/2, 1/5 and 1/20."""
    generator = np.random.default_rng(11)
    lines = ["image,patient,Effusion,Mass,Nodule"]
    for i in range(images):
        flags = (generator.random(3) < [0.5, 0.2, 0.05]).astype(int)
        lines.append(f"{i}.png,p{i if i < patients else generator.integers(patients)},{','.join(map(str, flags))}")
    return "\n".join(lines)


def patients_of(datalist: dict[str, Any]) -> list[set[str]]:
    return [{item["patient"] for item in datalist[split]} for split in SPLITS]


@pytest.mark.parametrize("fractions", [(0.7, 0.1, 0.2), (0.55, 0.23, 0.22), (0.5, 0.5, 0.0), (0.1, 0.1, 0.8)])
@pytest.mark.parametrize(("patients", "images"), [(3, 7), (5, 5), (13, 29), (101, 307)])
def test_every_patient_on_one_side(
    tmp_path: Path, fractions: tuple[float, float, float], patients: int, images: int
) -> None:
    path = table(tmp_path, many(patients, images))
    datalist = build_datalist(path, tmp_path / "images", fractions=fractions, seed=3)
    sides = patients_of(datalist)
    assert [len(side) > 0 for side in sides] == [fraction > 0 for fraction in fractions]
    assert sum(map(len, sides)) == len(set.union(*sides)) == patients
    assert sum(len(datalist[split]) for split in SPLITS) == images
    if patients == 101:
        shares = [len(datalist[split]) / images for split in SPLITS]
        np.testing.assert_allclose(shares, fractions, atol=0.06)


def test_the_split_is_stratified(tmp_path: Path) -> None:
    """The class frequencies of the test split are nearer to the whole than those of drawn patients (seeds averaged)."""
    path = table(tmp_path, many(101, 307))

    def spread(fractions: tuple[float, float, float]) -> float:
        errors = []
        for seed in range(7):
            built = build_datalist(path, tmp_path / "images", fractions=fractions, seed=seed)
            whole, test = (
                np.mean(
                    [[name in item["label"] for name in NAMES] for split in splits for item in built[split]], axis=0
                )
                for splits in (SPLITS, ("test",))
            )
            errors.append(np.abs(test - whole)[2] / whole[2])
        return float(np.mean(errors))

    # 0.2001 fits no number of folds, so that split is drawn without stratification
    assert spread((0.7, 0.1, 0.2)) < 0.6 * spread((0.7, 0.0999, 0.2001))


def test_the_seed_decides(tmp_path: Path) -> None:
    path = table(tmp_path, many(13, 29))
    first, again, other = (build_datalist(path, tmp_path / "images", seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert patients_of(first) != patients_of(other)


def test_built_written_and_loaded(tmp_path: Path) -> None:
    text = "image,age,patient,labels\na/1.png,50,p1,Nodule|Mass\n2.png,60,p2,No Finding\n3.png,70,p3,\n"
    built = build_datalist(table(tmp_path, text), tmp_path / "images", seed=1)
    labels = {item["patient"]: item["label"] for split in SPLITS for item in built[split]}
    assert labels == {"p1": ["Nodule", "Mass"], "p2": [], "p3": []}
    target = tmp_path / "lists" / "datalist.json"
    write_datalist(built, target)
    assert "../images/a/1.png" in target.read_text()
    assert os.listdir(target.parent) == ["datalist.json"]
    for split in SPLITS:
        loaded = load_datalist(target, split=split, class_names=["Mass", "Nodule"])
        assert [item["image"] for item in loaded] == [item["image"] for item in built[split]]


def test_a_given_split_is_used(tmp_path: Path) -> None:
    text = "image,patient,split,Mass\n1.png,p1,test,1\n2.png,p2,training,0\n3.png,p1,test,0\n"
    built = build_datalist(table(tmp_path, text), tmp_path / "images")
    assert [[item["patient"] for item in built[split]] for split in SPLITS] == [["p2"], [], ["p1", "p1"]]
    assert built["test"][0]["label"] == ["Mass"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("patient,Mass\np1,1", ["column image is missing"]),
        ("image,Mass\n1.png,1", ["column patient is missing"]),
        ("image,patient,Mass,Mass\n1.png,p1,1,1", ["column Mass stands twice"]),
        ("image,patient\n1.png,p1", ["no column labels", "one for each class"]),
        ("image,patient,Mass\n", ["has no row"]),
        ("image,patient,Mass\n1.png,p1,1\n2.png,p2,yes", ["line 3, column Mass: must be 0 or 1; got 'yes'"]),
        ("image,patient,Mass\n1.png,,1", ["line 2, column patient: is empty"]),
        ("image,patient,Mass\n,p1,1", ["line 2, column image: is empty"]),
        ("image,patient,Mass\n1.png,p1", ["line 2, all columns: more or fewer cells"]),
        ("image,patient,Mass\n1.png,p1,1,1", ["line 2, all columns: more or fewer cells"]),
        ("image,patient,Mass\n1.png,p1,1\n1.png,p1,1", ["line 3, column image", "stands already in line 2"]),
        ("image,patient,Mass\n.,p1,1", ["line 2, column image", "is not a file"]),
        ("image,patient,labels\n1.png,p1,Mass|Mass", ["line 2, column labels: a name stands twice"]),
        ("image,patient,split,Mass\n1.png,p1,train,1", ["line 2, column split: 'train' is none of training"]),
        ("image,patient,split,Mass\n1.png,p1,test,1\n2.png,p1,training,1", ["'p1' stands in the splits test and"]),
        ('image,patient,Mass\n"1.png,p1,1', ["is not a CSV file"]),
    ],
)
def test_refused_tables(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = table(tmp_path, text)
    with pytest.raises(DatalistError) as caught:
        build_datalist(path, tmp_path / "images")
    for part in ["labels.csv", *parts]:
        assert part in str(caught.value)


def test_missing_patient_says_why_and_how(tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match=r"both sides of the split.*Add a column patient"):
        build_datalist(table(tmp_path, "image,Mass\n1.png,1"), tmp_path)


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        (
            "image,patient,labels\n1.png,p1,Mass|Hernia",
            ["Mass"],
            "line 2, column labels: unknown Hernia; allowed",
        ),
        ("image,patient,Mass\n1.png,p1,1", ["Mass", "Nodule"], "no column of 0 and 1 for: Nodule"),
        ("image,patient,Mass\n1.png,p1,1", ["Mass", "Mass"], "argument class_names"),
        ("image,patient,Mass\n1.png,p1,1", [], "argument class_names"),
    ],
)
def test_refused_names(tmp_path: Path, text: str, names: list[str], message: str) -> None:
    with pytest.raises(DatalistError, match=message):
        build_datalist(table(tmp_path, text), tmp_path / "images", class_names=names)


def test_refused_files_and_fractions(tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match=r"absent\.csv: cannot be opened"):
        build_datalist(tmp_path / "absent.csv", tmp_path)
    path = table(tmp_path, "image,patient,Mass\n1.png,p1,1\n2.png,p2,1")
    with pytest.raises(DatalistError, match="is not a file; paths are relative to image_dir"):
        build_datalist(path, tmp_path / "elsewhere")
    with pytest.raises(DatalistError, match="asks for 3 splits, but there are 2 patients"):
        build_datalist(path, tmp_path / "images")
    for fractions in [(0.7, 0.1, 0.1), (1.1, -0.1, 0.0), (0.5, 0.5)]:
        with pytest.raises(DatalistError, match="argument fractions must be three numbers"):
            build_datalist(path, tmp_path / "images", fractions=fractions)  # type: ignore[arg-type]
    absolute = f"image,patient,Mass\n{tmp_path}/images/1.png,p1,1"
    path.write_text(absolute)
    with pytest.raises(DatalistError, match=r"line 2, column image: .* is absolute"):
        build_datalist(path, tmp_path / "images")
