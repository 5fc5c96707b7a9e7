"""The loss of a classification: several findings at once, or exactly one of some classes; imbalance is handled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

# A class that is rarer than this against the others weighs no more: a handful of images must not rule the training.
_MOST = 20.0


class ClassificationLoss(nn.Module):
    """Cross-entropy of logits (B, classes) against labels (B, classes) of 0 and 1, in float32; a mean over the batch.

    Args:
        items: those of the training with their `label` (classes,), see `seqnorm_monai.data.load_datalist`.
        exclusive: each image has exactly one class: softmax, and the sum over the classes. Else every class is a
            question of its own: sigmoid, and the mean over the classes.
        balanced: weigh the classes, so that rare ones count as much as common ones. Exclusive: class c of n_c images by
            N / (C n_c), and the sum divided by that of the weights. Else: positives by (N - n_c) / n_c. Ratios are cut
            at 20, and a class without images, or with nothing else, weighs 1.

    Raises ValueError for no items, and for an exclusive item without exactly one class.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]], *, exclusive: bool = False, balanced: bool = False) -> None:
        super().__init__()
        if not items:
            raise ValueError("argument items: at least one item with a label is needed")
        labels = np.stack([np.asarray(item["label"], dtype=np.float64) for item in items])
        if exclusive and (labels.sum(axis=1) != 1).any():
            raise ValueError("argument items: with exclusive classes every item has exactly one of them")
        self.exclusive = bool(exclusive)
        weights = _weights(labels, self.exclusive) if balanced else np.ones(labels.shape[1])
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits and labels (B, classes) -> a scalar."""
        # plain tensors: MetaTensor would carry its meta data through every operation
        logits = torch.as_tensor(logits).float()
        labels = torch.as_tensor(labels).to(logits)
        weights = self.weights.to(logits.device)
        if self.exclusive:
            own = labels @ weights
            return -((functional.log_softmax(logits, dim=1) * labels).sum(dim=1) * own).sum() / own.sum()
        return functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights)


def _weights(labels: np.ndarray, exclusive: bool) -> np.ndarray:
    """(classes,)"""
    number, count = len(labels), labels.sum(axis=0)
    weights = (
        number / (labels.shape[1] * np.maximum(count, 1)) if exclusive else (number - count) / np.maximum(count, 1)
    )
    return np.where((count == 0) | (count == number), 1.0, np.clip(weights, 1 / _MOST, _MOST))
