"""Learning rates per step, as arcface_torch and the paper have them."""

from __future__ import annotations

import pytest
import torch

from trainer.schedule import build_schedule


def rates(steps: int, **settings: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_schedule(optimizer, **settings)  # type: ignore[arg-type]
    seen = []
    for _ in range(steps):
        seen.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return seen


def test_polynomial_falls_linearly_to_zero() -> None:
    seen = rates(9, kind="polynomial", steps_per_epoch=4, num_epoch=2, warmup_epoch=0)
    assert seen == pytest.approx([1 - i / 8 for i in range(9)])


def test_warm_up_rises_linearly_and_reaches_the_base_rate() -> None:
    seen = rates(13, kind="polynomial", steps_per_epoch=4, num_epoch=3, warmup_epoch=1)
    assert seen[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert seen[8] == pytest.approx(0.5)
    assert seen[12] == 0


def test_negative_warm_up_is_none() -> None:
    settings = {"kind": "polynomial", "steps_per_epoch": 4, "num_epoch": 2}
    assert rates(8, warmup_epoch=-1, **settings) == rates(8, warmup_epoch=0, **settings)


def test_step_schedule_decays_after_the_named_epochs() -> None:
    seen = rates(
        12, kind="step", steps_per_epoch=2, num_epoch=6, warmup_epoch=0, decay_epochs=[2, 4], decay=0.1
    )
    assert seen == pytest.approx([1] * 4 + [0.1] * 4 + [0.01] * 4)
