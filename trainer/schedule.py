"""Learning-rate schedules as factors of the base rate, per optimiser step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def polynomial_factor(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """arcface_torch's schedule (power 1): a linear warm-up, then linearly down to 0 at ``total_steps``."""
    if step < warmup_steps:
        return _warmup_factor(step, warmup_steps)
    return max(0.0, 1 - (step - warmup_steps) / max(1, total_steps - warmup_steps))


def step_factor(
    step: int, *, warmup_steps: int, steps_per_epoch: int, decay_epochs: Sequence[int], decay: float
) -> float:
    """The paper's schedule: times ``decay`` once as many epochs as each of ``decay_epochs`` are over."""
    if step < warmup_steps:
        return _warmup_factor(step, warmup_steps)
    completed = step // steps_per_epoch
    return decay ** sum(completed >= epoch for epoch in decay_epochs)


def _warmup_factor(step: int, warmup_steps: int) -> float:
    return (step + 1) / warmup_steps


def advance(schedule: LRScheduler) -> None:
    """``schedule.step()``, also where the optimiser took no step before, of which torch would warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        schedule.step()


def go_to(schedule: LambdaLR, step: int) -> None:
    """Let optimiser step number ``step``, counted from 0, be the next one."""
    schedule.last_epoch, schedule._step_count = step, step + 1
    rates = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
    for group, base, factor in rates:
        group["lr"] = base * factor(step)
    schedule._last_lr = [group["lr"] for group in schedule.optimizer.param_groups]


def build_schedule(
    optimizer: Optimizer,
    *,
    kind: str,
    steps_per_epoch: int,
    num_epoch: int,
    warmup_epoch: int,
    decay_epochs: Sequence[int] = (),
    decay: float = 0.1,
) -> LambdaLR:
    """The schedule ``kind`` ("polynomial" or "step"); to be stepped once per optimiser step."""
    warmup_steps = max(0, warmup_epoch) * steps_per_epoch
    factor: Callable[[int], float]
    if kind == "polynomial":
        factor = partial(
            polynomial_factor, warmup_steps=warmup_steps, total_steps=num_epoch * steps_per_epoch
        )
    else:
        factor = partial(
            step_factor,
            warmup_steps=warmup_steps,
            steps_per_epoch=steps_per_epoch,
            decay_epochs=tuple(decay_epochs),
            decay=decay,
        )
    return LambdaLR(optimizer, factor)
