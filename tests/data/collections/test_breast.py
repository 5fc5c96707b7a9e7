"""Collections of breast MRI on miniature trees in their exact layouts, with the traps that are known of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from seqnorm_monai.commands import main
from seqnorm_monai.data import load_datalist


def prepare(kind: str, root: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """``seqnorm prepare KIND``: the exit code, and the datalist."""
    output = root.parent / "datalist.json"
    code = main(["prepare", kind, "--root", str(root), "--output", str(output), *more])
    return code, json.loads(output.read_text()) if output.is_file() else {}


def items(content: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Each item by the end of its image's path and its side, with its split."""
    splits = ("training", "validation", "test")
    return {
        (item["image"].rstrip("/").split("/")[-1], item.get("side", "")): {**item, "split": split}
        for split in splits
        for item in content[split]
    }


def check_exclusive(datalist: Path, names: list[str]) -> None:
    """Each item has exactly one class, which a training of exclusive classes asks for."""
    for split in ("training", "validation", "test"):
        for item in load_datalist(datalist, split=split, class_names=names, exclusive=True):
            assert item["label"].sum() == 1


DUKE_ROWS = [
    ("Breast_MRI_001", "L", "0"),
    ("Breast_MRI_002", "R", "0"),
    ("Breast_MRI_003", "L", "1"),
    ("Breast_MRI_004", "R", "NC"),
    ("Breast_MRI_005", "L", "0"),
    ("Breast_MRI_006", "NA", "0"),
    *((f"Breast_MRI_{number:03}", "LR"[number % 2], "0") for number in range(7, 20)),
]


def duke(root: Path) -> None:
    """Both layouts, a patient without a folder and one without a row, and the sheet with its three header rows."""
    base = root / "Duke-Breast-Cancer-MRI"
    for patient, _, _ in DUKE_ROWS:
        if patient != "Breast_MRI_005":
            study = "1.3.6.1.4.1" if patient != "Breast_MRI_002" else "01-01-1990-NA-MRI BREAST BILATERAL WWO-97538"
            (base / patient / study / "3.000000-ax dyn pre-93877").mkdir(parents=True)
    (base / "Breast_MRI_900" / "1.2").mkdir(parents=True)
    names = [
        "Patient ID",
        "Tumor Location",
        "Tumor Size (cm)",
        "Bilateral Information",
        "Tumor Size (cm)",
        "Recurrence ",
    ]
    rows = [
        ["", "Tumor", "", "Tumor", "", ""],
        names,
        ["", "{L=Left, R=Right}", "", "{0=no, 1=yes, NC}", "", ""],
        *([patient, location, "2", bilateral, "3", "NP"] for patient, location, bilateral in DUKE_ROWS),
    ]
    path = root / "Clinical_and_Other_Features.xlsx"
    pd.DataFrame(rows).to_excel(path, sheet_name="Data", header=False, index=False)


def test_duke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    duke(tmp_path / "root")
    code, content = prepare("duke", tmp_path / "root")
    shown = capsys.readouterr().out
    assert code == 0, shown
    by_side: dict[tuple[str, str], list[str]] = {
        (item["patient"], item["side"]): item["label"]
        for split in content
        if split != "class_names"
        for item in content[split]
    }
    assert by_side["Breast_MRI_001", "left"] == ["Malignant"]
    assert by_side["Breast_MRI_001", "right"] == []
    assert by_side["Breast_MRI_002", "right"] == ["Malignant"]
    assert by_side["Breast_MRI_003", "left"] == by_side["Breast_MRI_003", "right"] == ["Malignant"]
    assert not {"Breast_MRI_004", "Breast_MRI_005", "Breast_MRI_006", "Breast_MRI_900"} & {name for name, _ in by_side}
    assert len(by_side) == 2 * 16
    assert "2 without an image: Breast_MRI_005 left, Breast_MRI_005 right" in shown
    names = "Breast_MRI_004 left, Breast_MRI_004 right, Breast_MRI_006 left, Breast_MRI_006 right, Breast_MRI_900"
    assert f"5 without a label: {names}" in shown
    # training reads it: both sides of a patient in one split
    for split in ("training", "validation", "test"):
        found = load_datalist(tmp_path / "datalist.json", split=split, class_names=content["class_names"])
        assert {item["side"] for item in found} == {"left", "right"}


def test_duke_without_its_table_or_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    duke(tmp_path / "root")
    table = tmp_path / "root/Clinical_and_Other_Features.xlsx"
    table.rename(tmp_path / "other.xlsx")
    assert prepare("duke", tmp_path / "root")[0] == 1
    assert "the table is missing; put it there, or name it with --table" in capsys.readouterr().err
    assert prepare("duke", tmp_path / "root", "--table", str(tmp_path / "other.xlsx"))[0] == 0
    pd.DataFrame([["a"], ["Patient ID"], ["x"]]).to_excel(table, sheet_name="Data", header=False, index=False)
    assert prepare("duke", tmp_path / "root")[0] == 1
    assert "column Tumor Location, Bilateral Information is missing; there are Patient ID" in capsys.readouterr().err
    table.write_bytes(b"PK\x03\x04 no workbook")
    assert prepare("duke", tmp_path / "root")[0] == 1
    assert "cannot be read as Excel" in capsys.readouterr().err


def odelia_unilateral(root: Path) -> None:
    """Two institutions; five rows a UID, a UID without annotation, one without images, one twice, one withheld."""
    for number, institution in enumerate(("CAM", "UKA")):
        studies = [f"{institution}{study}_{side}" for study in range(6) for side in ("left", "right")]
        lesions = {uid: place % 3 for place, uid in enumerate(studies)}
        for uid in studies:
            if uid != "CAM5_right":
                (root / institution / "data_unilateral" / uid).mkdir(parents=True)
                for name in ("Pre", "Post_1", "Sub_1", "T2"):
                    (root / institution / "data_unilateral" / uid / f"{name}.nii.gz").touch()
        rows = [(uid, f"P{uid[:-5].rstrip('_')}", 20_000 + number, lesion) for uid, lesion in lesions.items()]
        rows = [row for row in rows if row[0] != "UKA5_left"] + [rows[0]]
        frame = pd.DataFrame(rows, columns=["UID", "PatientID", "Age", "Lesion"]).astype(str)
        frame.loc[frame.UID == "UKA4_left", "Lesion"] = ""
        folder = root / institution / "metadata_unilateral"
        folder.mkdir()
        frame.to_csv(folder / "annotation.csv", index=False)
        split = {uid: ("train", "train", "train", "val", "test", "test")[int(uid[3])] for uid in studies}
        folds = [(uid, fold, name if fold == 0 else "train") for uid, name in split.items() for fold in range(5)]
        pd.DataFrame([*folds, ("GONE_left", 0, "train")], columns=["UID", "Fold", "Split"]).to_csv(
            folder / "split.csv", index=False
        )


def test_odelia_unilateral(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odelia_unilateral(tmp_path / "root")
    code, content = prepare("odelia", tmp_path / "root")
    shown = capsys.readouterr().out
    assert code == 0, shown
    found = items(content)
    assert len(found) == 24 - 3
    assert found["CAM0_left", "left"]["label"] == []
    # benign is not malignant
    assert found["CAM0_right", "right"]["label"] == []
    assert found["CAM1_left", "left"]["label"] == ["Malignant"]
    assert {name for (name, _), item in found.items() if item["split"] == "validation"} >= {"CAM3_left", "UKA3_right"}
    assert {item["split"] for (name, _), item in found.items() if name.startswith("CAM4")} == {"test"}
    assert "1 without an image: CAM/CAM5_right" in shown
    assert "2 without a label: UKA/UKA4_left, UKA/UKA5_left" in shown
    assert "2 listed again, counted once: CAM/CAM0_left, UKA/UKA0_left" in shown
    code, three = prepare("odelia-lesions", tmp_path / "root")
    assert code == 0
    assert three["class_names"] == ["No lesion", "Benign", "Malignant"]
    names = [items(three)[name, name.split("_")[1]]["label"] for name in ("CAM0_left", "CAM0_right", "CAM1_left")]
    assert names == [["No lesion"], ["Benign"], ["Malignant"]]
    check_exclusive(tmp_path / "datalist.json", three["class_names"])


def test_odelia_bilateral(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for study in range(8):
        (root / "RUMC/data" / f"S{study}").mkdir(parents=True)
    (root / "RUMC/metadata").mkdir()
    rows = [(f"S{study}", f"P{study // 2}", study % 3, "2" if study % 2 else "1") for study in range(8)]
    columns = ["UID", "PatientID", "Lesion_Left", "Lesion_Right"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "RUMC/metadata/annotation.csv", index=False)
    code, content = prepare("odelia", root)
    assert code == 0
    found = items(content)
    assert len(found) == 16
    assert found["S2", "left"]["label"] == ["Malignant"]
    assert found["S2", "right"]["label"] == []
    assert found["S1", "right"]["label"] == ["Malignant"]
    assert found["S0", "left"]["split"] == found["S1", "right"]["split"], "one patient"


def test_contradicting_rows_and_leaks_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odelia_unilateral(tmp_path / "root")
    path = tmp_path / "root/CAM/metadata_unilateral/annotation.csv"
    path.write_text(path.read_text() + "CAM0_left,PCAM0,1,2\n")
    assert prepare("odelia", tmp_path / "root")[0] == 1
    assert "CAM/CAM0_left has two labels or splits" in capsys.readouterr().err
    path.write_text(path.read_text().replace("CAM0_left,PCAM0,1,2\n", "").replace("PCAM0", "PUKA3"))
    # a label of one is missing, so that no entry lacks its official split
    assert prepare("odelia", tmp_path / "root")[0] == 1
    assert "patient 'PUKA3' stands in the splits training and validation" in capsys.readouterr().err


def test_a_table_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    lines = ["study;patient;side;label"]
    for study in range(12):
        (root / f"s{study}").mkdir(parents=True)
        lines += [f"s{study};p{study};{side};{int(study % 2 and side == 'Left')}" for side in ("Left", "right")]
    lines += ["gone;p99;left;1", "s0;p0;left;0"]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(lines))
    code, content = prepare("breasts", root, "--table", str(table))
    shown = capsys.readouterr().out
    assert code == 0, shown
    found = items(content)
    assert len(found) == 24
    assert found["s1", "left"]["label"] == ["Malignant"]
    assert found["s1", "right"]["label"] == []
    assert "1 without an image: gone left" in shown
    assert "1 listed again, counted once: s0 left" in shown
    table.write_text("study,patient,side,label\ns1,p1,both,1\n")
    assert prepare("breasts", root, "--table", str(table))[0] == 1
    assert "study s1: side must be left or right; got 'both'" in capsys.readouterr().err
    table.write_text("study,patient,side,lesion\n" + "".join(f"s{n},p{n},left,{n % 3}\n" for n in range(12)))
    code, three = prepare("breasts-lesions", root, "--table", str(table))
    assert code == 0
    assert [items(three)[f"s{n}", "left"]["label"] for n in range(3)] == [["No lesion"], ["Benign"], ["Malignant"]]
    check_exclusive(tmp_path / "datalist.json", three["class_names"])
    assert prepare("breasts", root)[0] == 1
    assert "name the CSV with the columns study, patient, side and label" in capsys.readouterr().err


def test_fastmri(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Blanks in the header, codes without order, repeats of one woman, no official validation."""
    root = tmp_path / "root"
    rows = []
    for number in range(1, 41):
        name = f"fastMRI_breast_{number:03}"
        rows.append([name, {5: "1", 6: "1"}.get(number, "0"), str(int(number > 32)), "50", str(number % 3), ""])
        if number != 9:
            (root / "fastMRI_breast_IDS_001_150_DCM" / name / "dce").mkdir(parents=True)
    names = [
        *("Patient Coded Name ", " Repeated scans (0 = not repeat, 1:16 = repeated)"),
        *("Data split (0=training, 1=testing)", "Age", "Lesion status (0 = negative, 1= malignancy, 2= benign) ", "ER"),
    ]
    pd.DataFrame(rows, columns=names).to_excel(root / "fastMRI_breast_labels.xlsx", index=False)
    code, content = prepare("fastmri-breast", root)
    shown = capsys.readouterr().out
    assert code == 0, shown
    found = items(content)
    assert len(found) == 39
    assert "1 without an image: fastMRI_breast_009" in shown
    for number in (1, 2, 3):
        assert found[f"fastMRI_breast_{number:03}", ""]["label"] == (["Malignant"] if number == 1 else [])
    assert {item["split"] for (name, _), item in found.items() if int(name[-3:]) > 32} == {"test"}
    assert {item["split"] for (name, _), item in found.items() if int(name[-3:]) <= 32} == {"training", "validation"}
    pair = [found[f"fastMRI_breast_00{number}", ""] for number in (5, 6)]
    assert pair[0]["split"] == pair[1]["split"]
    assert pair[0]["patient"] == pair[1]["patient"] == "repeated 1"
    code, three = prepare("fastmri-breast-lesions", root)
    assert code == 0
    # 1 is malignant and 2 benign here: the codes are not in the order of severity
    labels = [items(three)[f"fastMRI_breast_{number:03}", ""]["label"] for number in (1, 2, 3)]
    assert labels == [["Malignant"], ["Benign"], ["No lesion"]]
    check_exclusive(tmp_path / "datalist.json", three["class_names"])


def test_mama_mia_cannot_tell_malignant_from_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root").mkdir()
    assert prepare("mama-mia", tmp_path / "root")[0] == 1
    assert "every study holds a cancer" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["duke", "odelia"])
def test_a_folder_without_the_collection(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(kind, tmp_path / "none")[0] == 1
    assert "is no folder" in capsys.readouterr().err
    (tmp_path / "root").mkdir()
    assert prepare(kind, tmp_path / "root")[0] == 1
    assert "root" in capsys.readouterr().err
