"""The number by which a training picks its best model."""

from __future__ import annotations

from collections.abc import Callable

from monai.handlers.ignite_metric import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from sklearn.metrics import roc_auc_score
from torch import Tensor


class MeanAUROCMetric(CumulativeIterationMetric):
    """Mean over classes of the area under the ROC curve, leaving out classes whose labels are all the same.

    MONAI's ``ROCAUCMetric`` gives NaN as soon as one rare class has no positive image, and then no epoch is ever the
    best. Buffers are gathered over processes as in all of MONAI's cumulative metrics.
    """

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Probabilities and labels (images, classes), kept until the end of the epoch."""
        if y is None or y_pred.ndim != 2 or y_pred.shape != y.shape:
            shapes = tuple(y_pred.shape), None if y is None else tuple(y.shape)
            raise ValueError(f"predictions and labels must both have the shape (images, classes), got {shapes}")
        return y_pred, y

    def aggregate(self) -> float:
        """The mean over the classes that have both kinds of label.

        Raises:
            ValueError: if no class has.
        """
        y_pred, y = (buffer.float().cpu().numpy() for buffer in self.get_buffer())
        areas = [roc_auc_score(y[:, c], y_pred[:, c]) for c in range(y.shape[1]) if 0 < y[:, c].sum() < len(y)]
        if not areas:
            raise ValueError("AUROC needs a class with positive and negative images in the split: no class has both")
        return float(sum(areas) / len(areas))


class MeanAUROC(IgniteMetricHandler):
    """:class:`MeanAUROCMetric` for an ignite engine.

    Args:
        output_transform: from the engine's output to (predictions, labels), for example
            ``monai.handlers.from_engine(["pred", "label"])``.
    """

    def __init__(self, output_transform: Callable) -> None:
        super().__init__(metric_fn=MeanAUROCMetric(), output_transform=output_transform, save_details=False)
