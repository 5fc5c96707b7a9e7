"""Make the sample data of the chest radiograph bundle: real radiographs of NIH ChestX-ray14 wrapped as DICOM files.

    python scripts/samples/make_chest_sample.py --source cxr_nih --output SAMPLE_DATA_OF_THE_BUNDLE

The source is a folder with 512x512 grayscale JPEG files and a ``manifest.csv`` with the columns ``image, label, group,
findings, view, sex, age`` (``group`` is the patient). Images are drawn at random, as many of either label. Most files
hold the JPEG stream byte for byte; every eighth is stored as MONOCHROME1 in lossy JPEG 2000, chosen by the hash of its
name and so independently of its label. The same source and seed give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.uid import JPEG2000, generate_uid

from seqnorm_monai.data.datalists import write_datalist
from seqnorm_monai.data.label_tables import build_datalist
from seqnorm_monai.images.dicom.write import RadiographHeader, write_radiograph, write_radiograph_jpeg

FRACTIONS = (0.6, 0.2, 0.2)
FEWEST_POSITIVES = 15  # a finding with fewer images in the sample is no class of the datalist
J2K_RATIO = 8.0


def draw(rows: list[dict[str, str]], count: int, seed: int) -> list[dict[str, str]]:
    """``count`` rows, equally many of each label, in the order of the manifest."""
    labels = sorted({row["label"] for row in rows})
    generator = random.Random(seed)
    chosen = [
        row
        for label in labels
        for row in generator.sample([row for row in rows if row["label"] == label], count // len(labels))
    ]
    return sorted(chosen, key=lambda row: row["image"])


def header_of(row: dict[str, str]) -> RadiographHeader:
    """Public pseudonyms of the data set, and identifiers that depend on nothing but the file's name."""
    name = Path(row["image"]).stem
    return RadiographHeader(
        patient_id=f"NIH-{row['group']}",
        study_uid=generate_uid(entropy_srcs=["seqnorm_monai chest sample", "study", name]),
        series_uid=generate_uid(entropy_srcs=["seqnorm_monai chest sample", "series", name]),
        sop_uid=generate_uid(entropy_srcs=["seqnorm_monai chest sample", "image", name]),
        view_position=row["view"],
        patient_sex=row["sex"],
        patient_age=f"{int(row['age']):03d}Y",
        series_description="NIH ChestX-ray14, 512x512",
    )


def wrap(row: dict[str, str], source: Path, target: Path) -> None:
    """One radiograph as a DICOM file."""
    jpeg = source / row["image"]
    if hashlib.sha256(jpeg.name.encode()).digest()[0] % 8:
        write_radiograph_jpeg(target, jpeg.read_bytes(), header_of(row))
        return
    write_radiograph(
        target,
        np.asarray(Image.open(jpeg)),
        header_of(row),
        photometric_interpretation="MONOCHROME1",
        transfer_syntax=JPEG2000,
        j2k_ratio=J2K_RATIO,
    )


def write_labels(rows: list[dict[str, str]], path: Path) -> None:
    """The table that seqnorm prepare csv reads."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["image", "patient", "labels"])
        writer.writerows([f"{Path(row['image']).stem}.dcm", row["group"], row["findings"]] for row in rows)


def keep_classes(datalist: dict[str, list[dict]], classes: Sequence[str]) -> dict[str, list[dict]]:
    """The datalist with the labels of these classes only."""
    return {
        split: [{**item, "label": [name for name in item["label"] if name in classes]} for item in items]
        for split, items in datalist.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--count", type=int, default=210)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    images = arguments.output / "images"
    images.mkdir(parents=True, exist_ok=True)
    with (arguments.source / "manifest.csv").open(newline="") as stream:
        rows = draw(list(csv.DictReader(stream)), arguments.count, arguments.seed)
    for row in rows:
        wrap(row, arguments.source, images / f"{Path(row['image']).stem}.dcm")
    write_labels(rows, arguments.output / "labels.csv")
    positives = Counter(name for row in rows for name in row["findings"].split("|") if name != "No Finding")
    classes = sorted(name for name, count in positives.items() if count >= FEWEST_POSITIVES)
    datalist = build_datalist(arguments.output / "labels.csv", images, fractions=FRACTIONS, seed=arguments.seed)
    write_datalist(keep_classes(datalist, classes), arguments.output / "datalist.json", classes)
    provenance = {
        "script": "scripts/samples/make_chest_sample.py",
        "source": "NIH ChestX-ray14, see docs/data_license.txt",
        "seed": arguments.seed,
        "classes": {name: positives[name] for name in classes},
        "images": {split: len(items) for split, items in datalist.items()},
        "sha256": {
            f"images/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(images.glob("*.dcm"))
        },
    }
    (arguments.output / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
    print(json.dumps({name: provenance[name] for name in ("classes", "images")}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
