"""Measures of how well probabilities rank and fit labels, for many resamples of the same rows at once.

A resample is a vector of whole weights on the rows: how often each row counts. With such weights w, scores p and
labels y, and positives and negatives counted by weight:

    AUROC   sum_i pos_i (neg_below_i + neg_tied_i / 2) / (pos neg)
    AP      sum_k (recall_k - recall_{k-1}) precision_k     over the distinct thresholds, from high to low
    Brier   sum_i w_i (p_i - y_i)^2 / sum_i w_i
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

METRICS = ("auroc", "average_precision", "brier")


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


def measures(scores: NDArray[Any], truth: NDArray[Any], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """All metrics of all classes, as (replicates, classes, metrics), the metrics in the order of `METRICS`.

    Shapes: scores and truth (images, classes), weights (replicates, images) as in `weighted_auroc`.
    """
    result = np.empty((len(weights), truth.shape[1], len(METRICS)))
    result[:, :, 2] = weights @ (scores - truth) ** 2 / weights.sum(axis=1, keepdims=True)
    for c in range(truth.shape[1]):
        result[:, c, 0] = weighted_auroc(scores[:, c], truth[:, c], weights)
        result[:, c, 1] = weighted_average_precision(scores[:, c], truth[:, c], weights)
    return result


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
