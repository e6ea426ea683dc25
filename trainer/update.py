"""An optimiser step that all ranks take, or none of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from igfiqa_head.ranks import ALONE, Ranks
from trainer.schedule import advance
from trainer.stopping import SIGNALS, StopRequest


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        is_taken: False if a loss or gradient of some rank was not finite.
        gradient_norm: of what is clipped, before that.
        learning_rates: of the optimiser's groups.
        stop: number of a signal that asks some rank to stop, or 0.
    """

    is_taken: bool
    gradient_norm: Tensor
    learning_rates: Sequence[float | Tensor]
    stop: int


class Update:
    """Clips the gradients, makes sure that they are finite on every rank, and steps optimiser and schedule.

    Args:
        optimizer, schedule: stepped together; a step that is skipped counts for the schedule.
        clipped: the parameters whose common gradient norm is bounded, alike on all ranks. Others are those
            that are spread over the ranks.
        clip_grad_norm: the bound, or None.
        scaler: of the loss; disabled unless something runs in float16.
        ranks: the processes that train together.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: LRScheduler,
        *,
        clipped: Iterable[nn.Parameter],
        clip_grad_norm: float | None,
        scaler: torch.amp.GradScaler,
        ranks: Ranks = ALONE,
    ) -> None:
        self._optimizer, self._schedule, self._scaler, self._ranks = optimizer, schedule, scaler, ranks
        self._clipped, self._bound = list(clipped), clip_grad_norm or math.inf
        known = set(map(id, self._clipped))
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        self._others = [p for p in parameters if id(p) not in known]

    def __call__(self, loss: Tensor, stop: StopRequest) -> Outcome:
        """With the gradients that are there, which are gone afterwards; ``loss`` is what they are of."""
        rates = [group["lr"] for group in self._optimizer.param_groups]
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._clipped, self._bound)
        is_finite, signal_number = self._consult(loss, norm, stop)
        if is_finite:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        elif self._scaler.is_enabled():
            # What it found by itself may differ between the ranks. Given a scale, it goes on counting.
            self._scaler.update(self._scaler.get_scale() * self._scaler.get_backoff_factor())
            self._scaler.load_state_dict(self._scaler.state_dict() | {"_growth_tracker": 0})
        self._optimizer.zero_grad(set_to_none=True)
        advance(self._schedule)
        return Outcome(is_finite, norm, rates, signal_number)

    def _consult(self, loss: Tensor, norm: Tensor, stop: StopRequest) -> tuple[bool, int]:
        """Whether loss and gradients of all ranks are finite, and the signal that asks one of them to stop.

        One exchange, and one wait for the device, a step.
        """
        others = [p.grad.norm() for p in self._others if p.grad is not None]
        asked = [loss.new_full((), float(stop.signal_number == number)) for number in SIGNALS]
        numbers = torch.stack([x.to(loss.dtype) for x in (loss, norm, *others, *asked)])
        found = self._ranks.sum(numbers).tolist()
        measured, counts = found[: -len(SIGNALS)], found[-len(SIGNALS) :]
        signals = [int(number) for number, count in zip(SIGNALS, counts, strict=True) if count]
        return all(map(math.isfinite, measured)), signals[0] if signals else 0
