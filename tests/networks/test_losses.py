"""The classification loss against its formulas, term by term."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from seqnorm_monai.networks.losses import ClassificationLoss


def items(*labels: tuple[int, ...]) -> list[dict[str, np.ndarray]]:
    return [{"label": np.array(label, dtype=np.float32)} for label in labels]


LOGITS = torch.tensor([[0.3, -1.2, 0.7], [-0.4, 0.9, 2.0]], dtype=torch.float32, requires_grad=True)


@pytest.mark.parametrize("balanced", [False, True])
def test_several_findings(balanced: bool) -> None:
    data = items((1, 0, 0), (0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 0))
    loss = ClassificationLoss(data, balanced=balanced)
    labels = [[1, 0, 0], [1, 1, 0]]
    positives = [1.5, 4.0, 1.0] if balanced else [1.0, 1.0, 1.0]
    terms = []
    for row, label in zip(LOGITS.tolist(), labels, strict=True):
        for value, truth, weight in zip(row, label, positives, strict=True):
            chance = 1 / (1 + math.exp(-value))
            terms.append(-weight * math.log(chance) if truth else -math.log(1 - chance))
    assert loss(LOGITS, torch.tensor(labels)).item() == pytest.approx(sum(terms) / len(terms), rel=1e-6)


@pytest.mark.parametrize("balanced", [False, True])
def test_exclusive_classes(balanced: bool) -> None:
    data = items((1, 0, 0), (1, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (1, 0, 0))
    loss = ClassificationLoss(data, exclusive=True, balanced=balanced)
    weights = [6 / 12, 6 / 3, 6 / 3] if balanced else [1.0] * 3
    classes, terms = [1, 0], []
    for row, truth in zip(LOGITS.tolist(), classes, strict=True):
        terms.append(-weights[truth] * math.log(math.exp(row[truth]) / sum(map(math.exp, row))))
    found = loss(LOGITS, torch.nn.functional.one_hot(torch.tensor(classes), 3))
    assert found.item() == pytest.approx(sum(terms) / sum(weights[c] for c in classes), rel=1e-6)
    found.backward()
    assert LOGITS.grad.abs().sum() > 0


def test_a_rare_class_weighs_at_most_twenty() -> None:
    loss = ClassificationLoss(items((1,), *[(0,)] * 500), balanced=True)
    assert loss.weights.tolist() == [20.0]
    assert ClassificationLoss(items((0,), (0,)), balanced=True).weights.tolist() == [1.0]
    assert not loss.state_dict(), "checkpoints do not depend on the data"


def test_refusals() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        ClassificationLoss(items((1, 0), (1, 1)), exclusive=True)
    with pytest.raises(ValueError, match="at least one item"):
        ClassificationLoss([])
