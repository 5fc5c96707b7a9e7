"""The weighted measures equal scikit-learn on rows that are really repeated; the intervals resample patients."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from seqnorm_monai.evaluation import bootstrap, evaluate, write_metrics
from seqnorm_monai.evaluation.bootstrap import patient_weights
from seqnorm_monai.evaluation.ranking import METRICS, weighted_auroc, weighted_average_precision

NAMES = ["effusion", "mass", "nodule"]
IMAGES, PATIENTS, REPLICATES = 101, 37, 53


@pytest.fixture
def case() -> dict[str, Any]:
    """Scores with many ties (two digits) that know a little of the labels, several images per patient."""
    generator = np.random.default_rng(5)
    labels = (generator.random((IMAGES, len(NAMES))) < [0.5, 0.3, 0.1]).astype(np.float32)
    scores = np.round(0.7 * generator.random(labels.shape) + 0.3 * labels, 2)
    groups = [f"patient {i}" for i in generator.integers(PATIENTS, size=IMAGES)]
    return {"probabilities": scores, "labels": labels, "groups": groups, "class_names": NAMES}


def literal_replicates(case: dict[str, Any], seed: int, num_bootstrap: int) -> np.ndarray:
    """(replicates, classes, metrics) by scikit-learn on rows repeated one by one, in the same draws of patients."""
    patients = sorted(set(case["groups"]))
    of_image = np.array([patients.index(group) for group in case["groups"]])
    result = []
    for weights in np.concatenate(list(patient_weights(of_image, num_bootstrap, seed))):
        rows = [row for row, times in enumerate(weights) for _ in range(times)]
        scores, labels = case["probabilities"][rows], case["labels"][rows]
        result.append([literal_metrics(scores[:, c], labels[:, c]) for c in range(scores.shape[1])])
    return np.array(result)


def literal_metrics(scores: np.ndarray, labels: np.ndarray) -> list[float]:
    brier = brier_score_loss(labels, scores, pos_label=1)
    if labels.min() == labels.max():
        return [np.nan, np.nan, brier]
    return [roc_auc_score(labels, scores), average_precision_score(labels, scores), brier]


def test_points_equal_scikit_learn(case: dict[str, Any]) -> None:
    result = evaluate(**case, num_bootstrap=2, seed=0)
    expected = []
    for c, name in enumerate(NAMES):
        expected.append(literal_metrics(case["probabilities"][:, c], case["labels"][:, c]))
        found = [result["classes"][name][metric]["value"] for metric in METRICS]
        np.testing.assert_allclose(found, expected[-1], rtol=1e-12)
    found = [result["mean"][metric]["value"] for metric in METRICS]
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-12)


def test_intervals_equal_the_literal_bootstrap(case: dict[str, Any]) -> None:
    result = evaluate(**case, num_bootstrap=REPLICATES, confidence=0.9, seed=3)
    replicates = literal_replicates(case, 3, REPLICATES)
    rows = [*(result["classes"][name] for name in NAMES), result["mean"]]
    for row, drawn in zip(rows, [*replicates.transpose(1, 0, 2), replicates.mean(axis=1)], strict=True):
        bounds = [[row[metric][side] for metric in METRICS] for side in ("lower", "upper")]
        np.testing.assert_allclose(bounds, np.nanquantile(drawn, [0.05, 0.95], axis=0), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 1), st.integers(0, 3)),
        min_size=1,
        max_size=13,
    )
)
def test_weighted_measures_equal_repeated_rows(rows: list[tuple[float, int, int]]) -> None:
    scores, labels, weights = (np.array(column) for column in zip(*rows, strict=True))
    found = [
        weighted_auroc(scores, labels, weights[None])[0],
        weighted_average_precision(scores, labels, weights[None])[0],
    ]
    repeated = np.repeat(labels, weights)
    if len(set(repeated)) < 2:
        assert np.isnan(found).all()
    else:
        np.testing.assert_allclose(found, literal_metrics(np.repeat(scores, weights), repeated)[:2], rtol=1e-12)


def test_auroc_by_hand() -> None:
    # pairs (positive, negative): 0.5 ties with 0.5 (one half), beats 0.1; 0.9 beats both -> 3.5 of 4
    scores, labels = np.array([0.5, 0.5, 0.1, 0.9]), np.array([1, 0, 0, 1])
    weights = np.array([[1, 1, 1, 1], [0, 1, 1, 1], [2, 3, 0, 1], [1, 0, 0, 1]])
    np.testing.assert_array_equal(weighted_auroc(scores, labels, weights), [3.5 / 4, 1.0, (3 + 3) / 9, np.nan])


def test_patients_are_drawn_whole() -> None:
    """Every image of a patient has the same weight, and the weights of the patients sum to their number."""
    of_image = np.array([0, 0, 0, 1, 2, 2, 3])
    weights = np.concatenate(list(patient_weights(of_image, 11, 7)))
    assert weights.shape == (11, 7)
    by_patient = weights[:, [0, 3, 4, 6]]
    np.testing.assert_array_equal(weights, by_patient[:, of_image])
    assert (by_patient.sum(axis=1) == 4).all()
    assert len(np.unique(by_patient, axis=0)) > 3


def test_intervals_by_patient_are_wider_than_by_image() -> None:
    """Each patient's image stands eleven times: resampling images would pretend to eleven times the data."""
    generator = np.random.default_rng(2)
    labels = (generator.random((41, 1)) < 0.5).astype(int)
    scores = 0.5 * labels + 0.5 * generator.random((41, 1))
    scores = np.repeat(np.round(0.6 * scores + 0.4 * generator.random((41, 1)), 3), 11, axis=0)
    labels = np.repeat(labels, 11, axis=0)
    one_each = [str(i) for i in range(451)]
    patients = [str(i // 11) for i in range(451)]
    width = {}
    for name, groups in (("image", one_each), ("patient", patients)):
        row = evaluate(scores, labels, groups, ["mass"], num_bootstrap=499, seed=1)["mean"]["auroc"]
        width[name] = row["upper"] - row["lower"]
    assert 2.2 < width["patient"] / width["image"] < 4.6  # about the square root of eleven


def test_the_seed_decides(case: dict[str, Any]) -> None:
    first, again = (evaluate(**case, num_bootstrap=REPLICATES, seed=3) for _ in range(2))
    assert first == again
    assert first["mean"] != evaluate(**case, num_bootstrap=REPLICATES, seed=4)["mean"]


def test_chunks_do_not_change_the_result(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(**case, num_bootstrap=REPLICATES, seed=3)
    monkeypatch.setattr(bootstrap, "_CHUNK_ELEMENTS", 7 * IMAGES)
    chunked = evaluate(**case, num_bootstrap=REPLICATES, seed=3)
    # the Brier score is a matrix product of another shape, which may sum in another order
    np.testing.assert_allclose(bounds_of(chunked), bounds_of(whole), rtol=1e-12)


def bounds_of(result: dict[str, Any]) -> list[float]:
    rows = [*result["classes"].values(), result["mean"]]
    return [row[metric][part] for row in rows for metric in METRICS for part in ("value", "lower", "upper")]


@pytest.mark.parametrize("kind", [0, 1])
def test_a_class_with_one_kind_of_label_is_left_out(case: dict[str, Any], kind: int) -> None:
    case["labels"][:, 1] = kind
    result = evaluate(**case, num_bootstrap=5, seed=0)
    mass = result["classes"]["mass"]
    assert [mass[metric] for metric in METRICS] == [None] * 3
    assert mass["reason"] == f"all {IMAGES} images are labelled {kind}"
    assert (result["mean"]["num_classes"], result["mean"]["left_out"]) == (2, ["mass"])
    others = [result["classes"][name]["auroc"]["value"] for name in ("effusion", "nodule")]
    assert result["mean"]["auroc"]["value"] == pytest.approx(np.mean(others), rel=1e-12)


def test_no_class_with_both_labels(case: dict[str, Any]) -> None:
    case["labels"][:] = 0
    mean = evaluate(**case, num_bootstrap=5, seed=0)["mean"]
    assert (mean["num_classes"], mean["auroc"]) == (0, None)
    assert mean["reason"] == "no class has both kinds of label"


def test_degenerate_replicates_are_counted(case: dict[str, Any]) -> None:
    """One positive patient of the last class: a replicate misses it with probability (1 - 1/n)^n, about a third."""
    case["labels"][:, 2] = [group == case["groups"][0] for group in case["groups"]]
    result = evaluate(**case, num_bootstrap=REPLICATES, seed=3)
    expected = int(np.isnan(literal_replicates(case, 3, REPLICATES)[:, 2, 0]).sum())
    assert expected > 5
    rows = [*(result["classes"][name] for name in NAMES), result["mean"]]
    assert [row["num_degenerate_replicates"] for row in rows] == [0, 0, expected, expected]
    assert result["classes"]["nodule"]["num_positive_patients"] == 1
    assert result["classes"]["nodule"]["num_positive_images"] == case["groups"].count(case["groups"][0])


def test_one_patient_has_no_interval(case: dict[str, Any]) -> None:
    case["groups"] = ["only"] * IMAGES
    row = evaluate(**case, num_bootstrap=5, seed=0)["mean"]
    for metric in METRICS:
        assert row[metric]["value"] > 0
        assert (row[metric]["lower"], row[metric]["upper"]) == (None, None)


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[17, 1] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"probabilities": c["probabilities"][:, 0]}, r"probabilities must have the shape .* got \(101,\)"),
        (lambda c: {"probabilities": c["probabilities"][:0], "labels": c["labels"][:0], "groups": []}, "above 0"),
        (lambda c: {"labels": c["labels"][:, :2]}, r"labels must have the shape .* got \(101, 2\)"),
        (lambda c: {"class_names": NAMES[:2]}, "class_names must be 3 different names"),
        (lambda c: {"class_names": ["mass", "mass", "nodule"]}, "class_names must be 3 different names"),
        (lambda c: {"groups": c["groups"][1:]}, "groups must name the patient of each of 101 images; got 100"),
        (lambda c: {"groups": ["", *c["groups"][1:]]}, "groups must be non-empty strings"),
        (lambda c: {"groups": list(range(IMAGES))}, "groups must be non-empty strings"),
        (lambda c: {"probabilities": with_value(c["probabilities"], np.nan)}, "got nan for image 17, class 'mass'"),
        (lambda c: {"probabilities": with_value(c["probabilities"], 1.01)}, "got 1.01 for image 17.*sigmoid"),
        (lambda c: {"probabilities": with_value(c["probabilities"], -0.01)}, "got -0.01 for image 17"),
        (lambda c: {"labels": with_value(c["labels"], 0.5)}, r"labels must be 0 or 1; got \[0.5\]"),
        (lambda c: {"labels": with_value(c["labels"], np.nan)}, r"labels must be 0 or 1; got \[nan\]"),
        (lambda c: {"num_bootstrap": 0}, "num_bootstrap must be at least 1; got 0"),
        (lambda c: {"confidence": 1.0}, "confidence must lie between 0 and 1"),
    ],
)
def test_refusals(case: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(**{**case, "seed": 0, "num_bootstrap": 3, **change(case)})


def test_written_files(case: dict[str, Any], tmp_path: Path) -> None:
    case["labels"][:, 1] = 0
    result = evaluate(**case, num_bootstrap=5, seed=0)
    write_metrics(result, tmp_path / "new folder")
    assert json.loads((tmp_path / "new folder" / "metrics.json").read_text()) == result
    with (tmp_path / "new folder" / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows] == [*NAMES, "mean"]
    assert float(rows[0]["auroc"]) == result["classes"]["effusion"]["auroc"]["value"]
    assert float(rows[3]["brier_upper"]) == result["mean"]["brier"]["upper"]
    assert (rows[1]["auroc"], rows[1]["num_positive_images"]) == ("", "0")
    assert rows[1]["reason"] == "all 101 images are labelled 0"
    assert len(list((tmp_path / "new folder").iterdir())) == 2


def test_json_is_strict_and_the_old_file_stays(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("old")
    with pytest.raises(ValueError, match="Out of range float"):
        write_metrics({"classes": {}, "mean": {"value": float("nan")}}, tmp_path)
    assert (tmp_path / "metrics.json").read_text() == "old"


def test_no_network_is_imported() -> None:
    """Whoever only evaluates numbers needs no torch: neither its time to start nor its installation."""
    code = "import sys, seqnorm_monai.evaluation; print(*sorted({'torch', 'monai', 'ignite'} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == ""
