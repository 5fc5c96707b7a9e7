"""Tables of labels with an image for each row."""

from pathlib import Path

import numpy as np


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
