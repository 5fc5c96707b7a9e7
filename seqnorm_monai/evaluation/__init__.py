"""Probabilities and labels to numbers, with intervals by patient."""

from seqnorm_monai.evaluation.multilabel import evaluate_multilabel as evaluate
from seqnorm_monai.evaluation.tables import text_table, write_metrics

__all__ = ["evaluate", "text_table", "write_metrics"]
