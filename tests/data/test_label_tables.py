"""Tables of labels: what is read, in the many ways that spreadsheets write it, and what is refused, and where."""

import json
import os
from pathlib import Path

import pytest

from seqnorm_monai.data.datalists import SPLITS, DatalistError, load_datalist, write_datalist
from seqnorm_monai.data.label_tables import build_datalist
from tests.makers.label_tables import table


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
        ("image,patient,Mass\n1.png,nan,1", ["line 2, column patient: is empty"]),
        ("image,patient,Mass\n1.png,<NA>,1", ["line 2, column patient: is empty"]),
        ("image,patient,Mass\n,p1,1", ["line 2, column image: is empty"]),
        ("image,patient,Mass\n1.png,p1", ["line 2, all columns: more or fewer cells"]),
        ("image,patient,Mass\n1.png,p1,1,1", ["line 2, all columns: more or fewer cells"]),
        ("image,patient,Mass\n1.png,p1,1\n1.png,p1,1", ["line 3, column image", "stands already in line 2"]),
        ("image,patient,Mass\n.,p1,1\n1.png,p2,0", ["line 3: image", "/images, the image of line 2"]),
        ("image,patient,Mass\n1.png,p1,", ["line 2, column Mass: must be 0 or 1; got '', a blank cell"]),
        ("image,patient,Mass\n1.png,p1,-1.0", ["column Mass: must be 0 or 1; got '-1.0', the mark of an uncertain"]),
        ("image,patient,labels\n1.png,p1,Mass;Hernia", ["line 2, column labels: 'Mass;Hernia' holds a semicolon"]),
        ("image,patient,Mass,mass\n1.png,p1,1,0", ["'Mass' and 'mass' are one class in two spellings"]),
        ("image,patient,labels\n1.png,p1,Big Mass|big_mass", ["'Big Mass' and 'big_mass' are one class"]),
        ('image,patient,Mass,note\n1.png,p1,1,"a\nb"\n2.png,p2,yes,c', ["line 4, column Mass"]),
        ('image,patient,Mass\n"1.png"x,p1,1', ["is not a CSV file"]),
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
    with pytest.raises(DatalistError, match="does not exist; paths are relative to image_dir"):
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


ROWS = [("1.png", "p1", 1, 0), ("2.png", "p2", 0, 1), ("3.png", "p3", 0, 0)]
EXPECTED = {"p1": ["Mass"], "p2": ["Effusion"], "p3": []}


def labels_of(folder: Path, text: str, **arguments: object) -> dict[str, list[str]]:
    """The labels by patient."""
    (folder / "images").mkdir(exist_ok=True)
    for number in range(1, 4):
        (folder / "images" / f"{number}.png").write_bytes(b"")
    (folder / "labels.csv").write_text(text)
    built = build_datalist(folder / "labels.csv", folder / "images", **arguments)
    return {item["patient"]: item["label"] for split in SPLITS for item in built[split]}


@pytest.mark.parametrize("separator", [",", ";", "\t", ", ", "; "])
@pytest.mark.parametrize("end", ["", "one", "two"])
def test_separators_and_empty_columns(tmp_path: Path, separator: str, end: str) -> None:
    tail = separator.strip(" ") * ("", "one", "two").index(end)
    lines = [separator.join(map(str, row)) + tail for row in [("image", "patient", "Mass", "Effusion"), *ROWS]]
    assert labels_of(tmp_path, "\n".join(lines) + "\n") == EXPECTED


def test_blank_lines_and_spaces_around_names(tmp_path: Path) -> None:
    text = 'image, patient ,Mass, Effusion\r\n1.png,p1,1,0\r\n\r\n 2.png , p2,0,1\r\n3.png,"p3",0,0\r\n,,,\r\n'
    assert labels_of(tmp_path, text) == EXPECTED


@pytest.mark.parametrize(
    ("one", "zero"), [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("TRUE", "FALSE"), ("1.00", "-0.0"), ("1", "0.0")]
)
def test_ways_to_write_0_and_1(tmp_path: Path, one: str, zero: str) -> None:
    text = f"image;patient;Mass;Effusion\n1.png;p1;{one};{zero}\n2.png;p2;{zero};{one}\n3.png;p3;{zero};{zero}\n"
    assert labels_of(tmp_path, text) == EXPECTED
    assert labels_of(tmp_path, text.replace("0.0", "0,0").replace("1.0", "1,0")) == EXPECTED


@pytest.mark.parametrize(
    ("one", "other"),
    [("12", "12.0"), ("A1", "a1"), ("a 1", " a  1 "), ("10", "1e1"), ("\uff21\uff11", "a1"), ("12", "12,0")],
)
def test_one_patient_in_two_spellings_and_splits_is_found(tmp_path: Path, one: str, other: str) -> None:
    text = f'image,patient,split,Mass\n1.png,{one},test,1\n2.png,"{other}",training,0\n'
    with pytest.raises(DatalistError, match=r"patient '.*' stands in the splits test and training"):
        labels_of(tmp_path, text)
    # in the JSON too, which may come from elsewhere
    items = [{"image": f"{number}.png", "label": [], "patient": name} for number, name in ((1, one), (2, other))]
    path = tmp_path / "images" / "d.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"training": items[:1], "test": items[1:]}))
    with pytest.raises(DatalistError, match="stands in the splits training and test"):
        load_datalist(path, split="test", class_names=["Mass"])


def test_zeros_in_front_are_part_of_a_name(tmp_path: Path) -> None:
    text = "image,patient,split,Mass\n1.png,12,test,1\n2.png,012,training,0\n"
    assert set(labels_of(tmp_path, text)) == {"12", "012"}


def test_without_splits_of_its_own_spellings_stay_on_one_side(tmp_path: Path) -> None:
    """007 and 7 too: that costs nothing, and may be one patient."""
    spellings = [("A{}", "a{}"), ("{}", "{}.0"), ("{}", "00{}")]
    lines = ["image,patient,Mass"]
    for number in range(30):
        for side, form in enumerate(spellings[number % 3]):
            name = f"{number}_{side}.png"
            (tmp_path / name).touch()
            lines.append(f"{name},{form.format(100 + number)},{number % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    datalist = build_datalist(tmp_path / "labels.csv", tmp_path)
    for items in datalist.values():
        numbers = [Path(item["image"]).stem.split("_")[0] for item in items]
        assert {numbers.count(number) for number in numbers} <= {2}
    assert all(datalist.values())


def test_row_numbers_and_nameless_columns_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As pandas writes them with its index, and reads and writes them again."""
    text = ",Unnamed: 0,image,patient,labels,\n0,1,1.png,p1,Mass,x\n1,2,2.png,p2,Effusion,\n2,3,3.png,p3,,\n"
    assert labels_of(tmp_path, text) == EXPECTED
    assert "column number 1, 2, 6 has no name, and is left out" in caplog.text


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0"], ids=["xlsx", "xls"])
def test_a_spreadsheet_is_named_as_one(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "labels.csv").write_bytes(start + bytes(200))
    with pytest.raises(DatalistError, match=r"labels\.csv: is a spreadsheet; save it as CSV"):
        build_datalist(tmp_path / "labels.csv", tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_spreadsheets(tmp_path: Path, encoding: str) -> None:
    """Capitals in the names of the columns, and each way in which a spreadsheet writes text."""
    text = "Image\tPATIENT\tLabels\n1.png\tp1\tMass\n2.png\tp2\tEffusion\n3.png\tp3\t\n"
    path = table(tmp_path, "image,patient\n1.png,\n2.png,\n3.png,")
    path.write_bytes(text.encode(encoding))
    items = [item for split in build_datalist(path, tmp_path / "images").values() for item in split]
    assert {item["patient"]: item["label"] for item in items} == EXPECTED


@pytest.mark.parametrize(
    "nothing", ["No Finding", "No finding", "NO_FINDING", "no-finding", "No Findings", "none", "None", "nan", "NA", ""]
)
def test_no_finding_is_no_class(tmp_path: Path, nothing: str) -> None:
    text = f"image,patient,labels\n1.png,p1,Mass\n2.png,p2,Effusion\n3.png,p3,{nothing}\n"
    assert labels_of(tmp_path, text) == EXPECTED
    assert labels_of(tmp_path, text.replace("p1,Mass", f"p1,Mass|{nothing}")) == EXPECTED


def test_no_finding_is_a_class_if_it_is_asked_for_or_has_a_column(tmp_path: Path) -> None:
    names = ["Mass", "No Finding"]
    expected = {"p1": ["Mass"], "p2": ["No Finding"], "p3": ["No Finding"]}
    text = "image,patient,labels\n1.png,p1,Mass\n2.png,p2,No Finding\n3.png,p3,No Finding\n"
    assert labels_of(tmp_path, text, class_names=names) == expected
    with_column = "image,patient,Mass,No Finding\n1.png,p1,1,0\n2.png,p2,0,1\n3.png,p3,0,1\n"
    assert labels_of(tmp_path, with_column) == expected
    assert labels_of(tmp_path, with_column, class_names=["Mass"]) == {"p1": ["Mass"], "p2": [], "p3": []}


def test_a_semicolon_belongs_to_a_name_that_is_asked_for(tmp_path: Path) -> None:
    text = "image,patient,labels\n1.png,p1,Mass;Cyst\n2.png,p2,Mass;Cyst\n3.png,p3,\n"
    expected = {"p1": ["Mass;Cyst"], "p2": ["Mass;Cyst"], "p3": []}
    assert labels_of(tmp_path, text, class_names=["Mass;Cyst"]) == expected


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match=r"labels\.csv: is empty; write a header"):
        labels_of(tmp_path, "")


def test_columns_of_another_kind_are_named_once(tmp_path: Path) -> None:
    text = "image,patient,Sex,Age,Mass,Edema\n1.png,a,Female,60,1.0,\n2.png,b,Male,61,0.0,-1.0\n3.png,c,Male,1a,0,1\n"
    with pytest.raises(DatalistError) as refused:
        build_datalist(table(tmp_path, text), tmp_path / "images")
    message = str(refused.value)
    assert "column Sex, Age: no cell is 0 or 1" in message and "--classes" in message
    assert message.count("Sex") == 1 and "Female" not in message
    assert "line 2, column Edema" in message and "blank" in message and "uncertain" in message
    labels = labels_of(tmp_path, text.replace(",\n2", ",0\n2").replace("-1.0", "1"), class_names=["Mass", "Edema"])
    assert sorted(map(sorted, labels.values())) == [["Edema"], ["Edema"], ["Mass"]]
