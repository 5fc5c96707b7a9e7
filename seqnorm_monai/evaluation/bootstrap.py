"""Intervals by resampling patients.

Images of one patient are alike, so an interval that resamples images is too narrow. Here a replicate draws patients
with replacement; an image then counts as often as its patient was drawn.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqnorm_monai.evaluation.ranking import METRICS, measures

# replicates times images held at a time: about 16 MB for an array of 64-bit numbers
_CHUNK_ELEMENTS = 2_000_000


def bootstrap(
    scores: NDArray[Any], truth: NDArray[Any], patient_of_image: NDArray[np.intp], num_bootstrap: int, seed: int
) -> NDArray[np.float64]:
    """The metrics of each replicate (replicates, classes, metrics); the same draws serve all classes."""
    return np.concatenate(
        [measures(scores, truth, weights) for weights in patient_weights(patient_of_image, num_bootstrap, seed)]
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


def summarise(
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
