"""No patient is on two sides of a split, classes are spread evenly, and a seed gives the same split for ever."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqnorm_monai.data.datalists import SPLITS
from seqnorm_monai.data.label_tables import build_datalist
from tests.makers.label_tables import many, table

NAMES = ["Effusion", "Mass", "Nodule"]


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


# made with the version that trained the first weights: another split would test on what they were trained with
@pytest.mark.parametrize(
    ("patients", "images", "fractions", "seed", "expected"),
    [
        (3, 7, (0.7, 0.1, 0.2), 0, "tvxvvxv"),
        (3, 7, (0.5, 0.5, 0.0), 3, "tvtvvtv"),
        (13, 29, (0.7, 0.1, 0.2), 0, "ttxtvtxttttxttvtttvtttttxttxt"),
        (13, 29, (0.7, 0.1, 0.2), 3, "vttttxttxttxtxtvtvtxtxttxtxtt"),
        (13, 29, (0.55, 0.23, 0.22), 3, "txtxvvttttvtxvvtxtvvxvvxtxvtv"),
        (13, 29, (0.7, 0.0999, 0.2001), 0, "tttxttttxtvtxtttxtttttvxtxttv"),
        (101, 307, (0.7, 0.1, 0.2), 0, "27e19f24b7a6ef3e"),
        (101, 307, (0.55, 0.23, 0.22), 3, "8c042cac4331eed6"),
        (101, 307, (0.7, 0.0999, 0.2001), 3, "9fac0d6ed12fa5ce"),
    ],
)
def test_splits_stay_what_they_were(
    tmp_path: Path, patients: int, images: int, fractions: tuple[float, float, float], seed: int, expected: str
) -> None:
    """One letter for each row: training, validation, or x for test; of long ones the start of their SHA-256."""
    path = table(tmp_path, many(patients, images))
    built = build_datalist(path, tmp_path / "images", fractions=fractions, seed=seed)
    letter_of = {Path(item["image"]).stem: "tvx"[SPLITS.index(split)] for split in SPLITS for item in built[split]}
    letters = "".join(letter_of[str(row)] for row in range(images))
    assert expected in (letters, hashlib.sha256(letters.encode()).hexdigest()[:16])
