"""How well probabilities rank and fit labels, class by class, with intervals that resample patients.

Arrays in, a plain dict out: nothing here knows of networks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqnorm_monai.evaluation.bootstrap import bootstrap, summarise
from seqnorm_monai.evaluation.ranking import METRICS, measures


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
    values = measures(scores[:, used], truth[:, used], np.ones((1, len(truth)), dtype=np.int64))[0]
    replicates = np.full((num_bootstrap, len(used), len(METRICS)), np.nan)
    has_interval = len(patients) > 1 and len(used) > 0
    if has_interval:
        replicates = bootstrap(scores[:, used], truth[:, used], patient_of_image, num_bootstrap, seed)
    classes = {}
    for c, name in enumerate(names):
        summary = _undefined(f"all {len(truth)} images are labelled {truth[0, c]}")
        if c in used:
            summary = summarise(values[used.index(c)], replicates[:, used.index(c)], confidence, has_interval)
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


def _counts(truth: NDArray[np.int64], patient_of_image: NDArray[np.intp]) -> dict[str, int]:
    positive = truth == 1
    return {
        "num_images": len(truth),
        "num_patients": len(np.unique(patient_of_image)),
        "num_positive_images": int(positive.sum()),
        "num_positive_patients": len(np.unique(patient_of_image[positive])),
    }


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
    return {**head, **summarise(values.mean(axis=0), replicates.mean(axis=1), confidence, has_interval)}


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
