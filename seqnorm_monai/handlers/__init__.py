"""What a run leaves behind: predictions, rejections, evaluation, history, checkpoints.

Ignite handlers for MONAI's engines, each with `attach(engine)`. MONAI's `ClassificationSaver` writes no header, knows
no rejection and keeps everything in memory; its `MetricsSaver` and `MetricLogger` write no table of the epochs; its
`CheckpointSaver` writes in place. The engines must decollate (their default). One process: with several, attach them on
rank 0 of a run that is not divided.
"""

from seqnorm_monai.handlers.checkpoints import BestModelSaver, ResumableCheckpoint
from seqnorm_monai.handlers.evaluation import EvaluationWriter
from seqnorm_monai.handlers.history import HistoryWriter
from seqnorm_monai.handlers.metrics import MeanAUROC
from seqnorm_monai.handlers.predictions import PredictionWriter

__all__ = [
    "BestModelSaver",
    "EvaluationWriter",
    "HistoryWriter",
    "MeanAUROC",
    "PredictionWriter",
    "ResumableCheckpoint",
]
