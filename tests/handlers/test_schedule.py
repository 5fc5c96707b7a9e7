"""A schedule steps with the optimizer, whatever the number of gathered gradients."""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer

from seqnorm_monai.handlers import ScheduleStepper


@pytest.mark.parametrize(("accumulation", "steps"), [(1, 14), (2, 8), (3, 6), (9, 2)])
def test_as_many_steps_as_the_optimizer(accumulation: int, steps: int) -> None:
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    taken = []
    optimizer.register_step_post_hook(lambda *_: taken.append(1))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    data = [{"image": torch.zeros(1, 2), "label": torch.zeros(1, 1)}] * 7
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=data,
        network=network,
        optimizer=optimizer,
        loss_function=torch.nn.MSELoss(),
        accumulation_steps=accumulation,
        train_handlers=[ScheduleStepper(schedule, accumulation)],
        decollate=False,
    )
    trainer.run()
    assert len(taken) == schedule.last_epoch == steps


def test_refuses_no_steps() -> None:
    with pytest.raises(ValueError, match="accumulation_steps must be at least 1"):
        ScheduleStepper(None, 0)
