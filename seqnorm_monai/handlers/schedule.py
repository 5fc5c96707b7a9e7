"""The learning rate's schedule, a step for each step of the optimizer."""

from __future__ import annotations

from ignite.engine import Engine, Events
from torch.optim.lr_scheduler import LRScheduler


class ScheduleStepper:
    """Step a schedule after those iterations in which the optimizer stepped.

    MONAI's ``LrScheduleHandler`` steps in every iteration, also while a `SupervisedTrainer` only gathers gradients; a
    schedule that counts steps would then be over too early.

    Args:
        lr_scheduler: the schedule.
        accumulation_steps: that of the trainer: the optimizer steps in every so many-th iteration of an epoch, and in
            its last one.

    Raises ValueError for `accumulation_steps` below 1.
    """

    def __init__(self, lr_scheduler: LRScheduler, accumulation_steps: int = 1) -> None:
        if accumulation_steps < 1:
            raise ValueError(f"argument accumulation_steps must be at least 1; got {accumulation_steps!r}")
        self.lr_scheduler = lr_scheduler
        self.accumulation_steps = accumulation_steps

    def attach(self, engine: Engine) -> None:
        """To be attached to a trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        length = engine.state.epoch_length
        place = (engine.state.iteration - 1) % length + 1
        if place % self.accumulation_steps == 0 or place == length:
            self.lr_scheduler.step()
