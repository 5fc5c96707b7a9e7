"""What a run leaves behind: predictions, rejections, evaluation, history, checkpoints.

Ignite handlers for MONAI's engines, each with `attach(engine)`. MONAI's `ClassificationSaver` writes no header, knows
no rejection and keeps everything in memory; its `MetricsSaver` and `MetricLogger` write no table of the epochs; its
`CheckpointSaver` writes in place; its `LrScheduleHandler` knows nothing of gathered gradients. `EpochSeeder` makes a
resumed training draw what an unbroken one draws, and `RunLock` refuses a second run in a folder. The engines must
decollate (their default). With several processes, attach the checkpoints, the seeder and the lock in all of them and
the others on rank 0 of a run that is not divided.
"""

from seqnorm_monai.handlers.checkpoints import BestModelSaver, ResumableCheckpoint
from seqnorm_monai.handlers.evaluation import EvaluationWriter
from seqnorm_monai.handlers.history import HistoryWriter
from seqnorm_monai.handlers.machine_errors import MachineErrorAdvice
from seqnorm_monai.handlers.metrics import MeanAUROC
from seqnorm_monai.handlers.model_file import ModelFileError, TrainedSettings, read_model
from seqnorm_monai.handlers.model_loader import ModelLoader
from seqnorm_monai.handlers.predictions import PredictionWriter
from seqnorm_monai.handlers.run_lock import RunInUseError, RunLock
from seqnorm_monai.handlers.schedule import ScheduleStepper
from seqnorm_monai.handlers.seeding import EpochSeeder
from seqnorm_monai.handlers.terminal import LogAboveBars

__all__ = [
    "BestModelSaver",
    "EpochSeeder",
    "EvaluationWriter",
    "HistoryWriter",
    "LogAboveBars",
    "MachineErrorAdvice",
    "MeanAUROC",
    "ModelFileError",
    "ModelLoader",
    "PredictionWriter",
    "ResumableCheckpoint",
    "RunInUseError",
    "RunLock",
    "ScheduleStepper",
    "TrainedSettings",
    "read_model",
]
