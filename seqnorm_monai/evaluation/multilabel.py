"""How well probabilities rank and fit labels, class by class, with intervals that resample patients.

Images of one patient are alike, so an interval that resamples images is too narrow. Here a bootstrap replicate draws
patients with replacement; an image then counts as often as its patient was drawn. A replicate is therefore a vector of
whole weights on the images, and every measure below takes such weights:

    AUROC   sum_i pos_i (neg_below_i + neg_tied_i / 2) / (pos neg)
    AP      sum_k (recall_k - recall_{k-1}) precision_k     over the distinct thresholds, from high to low
    Brier   sum_i w_i (p_i - y_i)^2 / sum_i w_i

Arrays in, a plain dict out: nothing here knows of networks.
"""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqnorm_monai.atomic_files import replacing

METRICS = ("auroc", "average_precision", "brier")

# replicates times images held at a time: about 16 MB for an array of 64-bit numbers
_CHUNK_ELEMENTS = 2_000_000


def evaluate_multilabel(
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str],
    class_names: Sequence[str],
    *,
    num_bootstrap: int = 2000,
    confidence: float = 0.95,
    seed: int,
) -> dict[str, Any]:
    """AUROC, average precision and Brier score of each class and their mean, with percentile bootstrap intervals.

    Shapes: probabilities and labels (images, classes), the first in [0, 1], the second 0 or 1; groups (images,), the
    patient of each image; class_names (classes,).

    Returns `{"num_images", "num_patients", "num_bootstrap", "confidence", "seed", "resampling", "classes", "mean"}`.
    `classes` holds for each name `num_images, num_patients, num_positive_images, num_positive_patients,
    num_degenerate_replicates, reason` and for each metric `{"value", "lower", "upper"}`. A class whose labels are all
    the same has null metrics and a reason and is left out of the mean. A replicate in which a class has one kind of
    label only is degenerate: it is counted and left out of that class's AUROC and AP intervals, and a replicate that is
    degenerate for any averaged class out of the mean's. Bounds are null when no replicate is left, or when there is
    only one patient to draw.

    Raises `ValueError` naming the argument for wrong shapes, no image, NaN, probabilities outside [0, 1], labels other
    than 0 and 1, empty patients, repeated class names, num_bootstrap < 1 or confidence outside (0, 1).
    """
    scores, truth, names = _checked(probabilities, labels, groups, class_names, num_bootstrap, confidence)
    patients, patient_of_image = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    used = [c for c in range(len(names)) if 0 < truth[:, c].sum() < len(truth)]
    values = _measures(scores[:, used], truth[:, used], np.ones((1, len(truth)), dtype=np.int64))[0]
    replicates = np.full((num_bootstrap, len(used), len(METRICS)), np.nan)
    has_interval = len(patients) > 1 and len(used) > 0
    if has_interval:
        replicates = _bootstrap(scores[:, used], truth[:, used], patient_of_image, num_bootstrap, seed)
    classes = {}
    for c, name in enumerate(names):
        summary = _undefined(f"all {len(truth)} images are labelled {truth[0, c]}")
        if c in used:
            summary = _summary(values[used.index(c)], replicates[:, used.index(c)], confidence, has_interval)
        classes[name] = {**_counts(truth[:, c], patient_of_image), **summary}
    return {
        "num_images": len(truth),
        "num_patients": len(patients),
        "num_bootstrap": num_bootstrap,
        "confidence": confidence,
        "seed": seed,
        "resampling": "patients with replacement, percentile interval",
        "classes": classes,
        "mean": _mean(names, used, values, replicates, confidence, has_interval),
    }


def weighted_auroc(scores: NDArray[Any], labels: NDArray[Any], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Area under the ROC curve of repeated rows, for many repetitions at once.

    Shapes: scores (images,), labels (images,) of 0 and 1, weights (replicates, images) of whole numbers >= 0, how often
    each row counts; returns (replicates,), NaN where one kind of label has no weight. Ties count one half.
    """
    positive, negative = _by_threshold(scores, labels, weights)
    # twice the count, so that the halves of ties stay whole numbers and the sum is exact
    twice = (positive * (2 * (np.cumsum(negative, axis=1) - negative) + negative)).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return np.divide(twice, 2 * pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def weighted_average_precision(
    scores: NDArray[Any], labels: NDArray[Any], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Average precision of repeated rows; arguments and result as in `weighted_auroc`."""
    positive, negative = (counts[:, ::-1] for counts in _by_threshold(scores, labels, weights))
    found = np.cumsum(positive, axis=1)
    called = found + np.cumsum(negative, axis=1)
    precision = np.divide(found, called, out=np.zeros(called.shape), where=called > 0)
    total, others = positive.sum(axis=1), negative.sum(axis=1)
    area = (positive * precision).sum(axis=1)
    return np.divide(area, total, out=np.full(len(total), np.nan), where=(total > 0) & (others > 0))


def write_metrics(metrics: dict[str, Any], folder: str | os.PathLike[str]) -> None:
    """Write `metrics.json` (strict: no NaN) and `metrics.csv` (one row per class, then the mean) into `folder`."""
    text = json.dumps(metrics, indent=2, allow_nan=False)
    with replacing(Path(folder) / "metrics.json") as stream:
        stream.write(text + "\n")
    counts = ("num_images", "num_patients", "num_positive_images", "num_positive_patients", "num_degenerate_replicates")
    columns = [f"{metric}{part}" for metric in METRICS for part in ("", "_lower", "_upper")]
    with replacing(Path(folder) / "metrics.csv") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["class", *counts, *columns, "reason"])
        for name, row in [*metrics["classes"].items(), ("mean", metrics["mean"])]:
            bounds = [(row[metric] or {}).get(part) for metric in METRICS for part in ("value", "lower", "upper")]
            writer.writerow([name, *(row.get(count) for count in counts), *bounds, row["reason"]])


def text_table(metrics: dict[str, Any]) -> str:
    """The metrics for reading: class, positive images, and each metric with its interval."""
    lines = [f"{'class':<28}{'positive':>9}" + "".join(f"{name:>26}" for name in METRICS)]
    for name, row in [*metrics["classes"].items(), ("mean", metrics["mean"])]:
        cells = "".join(f"{_interval(row[metric]):>26}" for metric in METRICS)
        lines.append(f"{name:<28}{row.get('num_positive_images', ''):>9}{cells}")
    return "\n".join(lines)


def _by_threshold(
    scores: NDArray[Any], labels: NDArray[Any], weights: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Weight of the positives and of the negatives at each distinct score, from low to high: (replicates, scores)."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    moved = weights[:, order]
    total = np.add.reduceat(moved, starts, axis=1)
    positive = np.add.reduceat(moved * (labels[order] == 1), starts, axis=1)
    return positive, total - positive


def _measures(scores: NDArray[Any], truth: NDArray[Any], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """All metrics of all classes: (replicates, classes, metrics)."""
    result = np.empty((len(weights), truth.shape[1], len(METRICS)))
    result[:, :, 2] = weights @ (scores - truth) ** 2 / weights.sum(axis=1, keepdims=True)
    for c in range(truth.shape[1]):
        result[:, c, 0] = weighted_auroc(scores[:, c], truth[:, c], weights)
        result[:, c, 1] = weighted_average_precision(scores[:, c], truth[:, c], weights)
    return result


def _bootstrap(
    scores: NDArray[Any], truth: NDArray[Any], patient_of_image: NDArray[np.intp], num_bootstrap: int, seed: int
) -> NDArray[np.float64]:
    """The metrics of each replicate (replicates, classes, metrics); the same draws serve all classes."""
    return np.concatenate(
        [_measures(scores, truth, weights) for weights in patient_weights(patient_of_image, num_bootstrap, seed)]
    )


def patient_weights(patient_of_image: NDArray[np.intp], num_bootstrap: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each image counts in each replicate, a few replicates at a time: (some replicates, images)."""
    generator = np.random.default_rng(seed)
    num_patients = int(patient_of_image.max()) + 1
    chunk = max(1, _CHUNK_ELEMENTS // len(patient_of_image))
    for start in range(0, num_bootstrap, chunk):
        replicates = min(chunk, num_bootstrap - start)
        drawn = generator.integers(num_patients, size=(replicates, num_patients))
        drawn += num_patients * np.arange(replicates)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=replicates * num_patients)
        yield counts.reshape(replicates, num_patients)[:, patient_of_image]


def _counts(truth: NDArray[np.int64], patient_of_image: NDArray[np.intp]) -> dict[str, int]:
    positive = truth == 1
    return {
        "num_images": len(truth),
        "num_patients": len(np.unique(patient_of_image)),
        "num_positive_images": int(positive.sum()),
        "num_positive_patients": len(np.unique(patient_of_image[positive])),
    }


def _summary(
    values: NDArray[np.float64], replicates: NDArray[np.float64], confidence: float, has_interval: bool
) -> dict[str, Any]:
    """Point and interval of each metric; values (metrics,), replicates (replicates, metrics), NaN where degenerate."""
    summary: dict[str, Any] = {"num_degenerate_replicates": 0, "reason": None}
    if has_interval:
        summary["num_degenerate_replicates"] = int(np.isnan(replicates[:, 0]).sum())
    for metric, value, drawn in zip(METRICS, values, replicates.T, strict=True):
        defined = drawn[~np.isnan(drawn)]
        tails = (0.5 - confidence / 2, 0.5 + confidence / 2)
        lower, upper = np.quantile(defined, tails).tolist() if len(defined) else (None, None)
        summary[metric] = {"value": float(value), "lower": lower, "upper": upper}
    return summary


def _undefined(reason: str) -> dict[str, Any]:
    return {"num_degenerate_replicates": None, "reason": reason, **dict.fromkeys(METRICS)}


def _mean(
    names: list[str],
    used: list[int],
    values: NDArray[np.float64],
    replicates: NDArray[np.float64],
    confidence: float,
    has_interval: bool,
) -> dict[str, Any]:
    """The mean over the classes that are defined, and over the same classes in every replicate."""
    head = {"num_classes": len(used), "left_out": [name for c, name in enumerate(names) if c not in used]}
    if not used:
        return {**head, **_undefined("no class has both kinds of label")}
    return {**head, **_summary(values.mean(axis=0), replicates.mean(axis=1), confidence, has_interval)}


def _checked(
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str],
    class_names: Sequence[str],
    num_bootstrap: int,
    confidence: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[str]]:
    """Scores, labels and names of `evaluate_multilabel` in the types used inside, or its errors."""
    scores, truth, names = np.asarray(probabilities, dtype=np.float64), np.asarray(labels), list(class_names)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"probabilities must have the shape (images, classes), both above 0; got {scores.shape}")
    if truth.shape != scores.shape:
        raise ValueError(f"labels must have the shape of probabilities, {scores.shape}; got {truth.shape}")
    if len(names) != scores.shape[1] or len(set(names)) != len(names):
        raise ValueError(f"class_names must be {scores.shape[1]} different names, one per column; got {names}")
    if len(groups) != len(scores):
        raise ValueError(f"groups must name the patient of each of {len(scores)} images; got {len(groups)}")
    if not all(isinstance(group, str) and group for group in groups):
        raise ValueError("groups must be non-empty strings, the patient of each image")
    wrong = np.argwhere(~((scores >= 0) & (scores <= 1)))
    if len(wrong):
        image, c = wrong[0]
        raise ValueError(
            f"probabilities must lie in [0, 1]; got {scores[image, c]} for image {image}, class {names[c]!r} "
            f"({len(wrong)} such values): is the sigmoid missing?"
        )
    if not np.isin(truth, (0, 1)).all():
        odd = np.unique(truth[~np.isin(truth, (0, 1))])[:3].tolist()
        raise ValueError(f"labels must be 0 or 1; got {odd}")
    if num_bootstrap < 1:
        raise ValueError(f"num_bootstrap must be at least 1; got {num_bootstrap}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, both excluded; got {confidence}")
    return scores, truth.astype(np.int64), names


def _interval(metric: dict[str, float] | None) -> str:
    if metric is None:
        return "-"
    if metric["lower"] is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} [{metric['lower']:.3f}, {metric['upper']:.3f}]"
