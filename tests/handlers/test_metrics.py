"""Mean AUROC over the classes that have both kinds of label."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from seqnorm_monai.handlers.metrics import MeanAUROCMetric


def batches() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(23)
    predictions = (torch.rand(31, 5, generator=generator) * 7).round() / 7  # ties
    labels = (torch.rand(31, 5, generator=generator) < 0.3).float()
    labels[:, 1], labels[:, 3] = 0, 1
    return predictions, labels


def test_is_the_mean_over_defined_classes_and_accumulates_batches() -> None:
    predictions, labels = batches()
    metric = MeanAUROCMetric()
    for part in (slice(0, 7), slice(7, 20), slice(20, 31)):
        metric(y_pred=predictions[part], y=labels[part])
    expected = sum(roc_auc_score(labels[:, c], predictions[:, c]) for c in (0, 2, 4)) / 3
    assert metric.aggregate() == pytest.approx(expected, rel=1e-12)


def test_refuses_what_has_no_answer() -> None:
    metric = MeanAUROCMetric()
    metric(y_pred=torch.rand(3, 2), y=torch.ones(3, 2))
    with pytest.raises(ValueError, match="no class has both"):
        metric.aggregate()
    with pytest.raises(ValueError, match=r"\(images, classes\)"):
        metric(y_pred=torch.rand(3, 2), y=torch.ones(3, 3))
