"""An update is taken by all ranks or by none, and too many that are not taken end the training."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from easydict import EasyDict
from torch import Tensor, nn

from igfiqa_head.ranks import Ranks
from tests.gloo import on_ranks
from tests.trainer.test_several_ranks import COMMON, trainer_of
from trainer.loop import StepResult, Trainer, TrainingDivergedError
from trainer.stopping import StopRequest
from trainer.update import Update

Recipe = Callable[..., EasyDict]


def spoilt(x: Tensor) -> Tensor:
    return x * torch.nan


def spoil_prototypes(trainer: Trainer) -> Any:
    """The gradient of a rank's own prototypes, which no other rank sees."""
    return trainer.classifier.weight.register_hook(spoilt)  # type: ignore[union-attr]


def spoil_embeddings(trainer: Trainer) -> Any:
    """The embeddings of a rank's own images, which reach loss, CCS and v of all."""
    return trainer.backbone.register_forward_hook(lambda module, images, embeddings: spoilt(embeddings))


SPOILING: dict[str, Callable[[Trainer], Any]] = {
    "prototypes": spoil_prototypes,
    "embeddings": spoil_embeddings,
}


def state(trainer: Trainer) -> list[Tensor]:
    modules = (trainer.backbone, trainer.classifier, trainer.quality_head.regressor)  # type: ignore[union-attr]
    return [p.detach().clone() for module in modules for p in module.parameters()]


def skipping(ranks: Ranks, config: EasyDict, what: str) -> dict[str, Any]:
    """A step, two that rank 1 spoils, one more, and spoilt ones until the training gives up."""
    trainer = trainer_of(ranks, config)
    batches = list(trainer.loader.batches(0))

    def step() -> StepResult:
        result = trainer.step([batches[trainer.position.global_step]])
        trainer.position.global_step += 1
        return result

    def spoil() -> list[Any]:
        return [SPOILING[what](trainer)] if ranks.rank == 1 else []

    step()
    trainer.save()
    before, moments = state(trainer), str(trainer.optimizer.state_dict()["state"])
    hooks = spoil()
    skipped = [step() for _ in range(2)]
    found: dict[str, Any] = {
        "skipped": [result.statistics["skipped"].item() for result in skipped],
        "told": sorted(skipped[0].statistics),
        "learning rates": [result.statistics["learning_rate"].item() for result in skipped],
        "unchanged": all(map(torch.equal, before, state(trainer))),
        "moments unchanged": moments == str(trainer.optimizer.state_dict()["state"]),
        "v": trainer.quality_head.variance.variance.clone(),  # type: ignore[union-attr]
    }
    for hook in hooks:
        hook.remove()
    taken = step()
    found["then skipped"] = taken.statistics["skipped"].item()
    found["then finite"] = all(value.isfinite() for value in taken.statistics.values())
    found["then unchanged"] = any(map(torch.equal, before, state(trainer)))
    spoil()
    found["more"] = 0
    try:
        while True:
            step()
            found["more"] += 1
    except TrainingDivergedError as error:
        found["error"] = str(error)
    return found


@pytest.mark.parametrize("what", SPOILING)
def test_what_one_rank_cannot_take_no_rank_takes(tiny_recipe: Recipe, tmp_path: Path, what: str) -> None:
    config = tiny_recipe(*COMMON, f"output={tmp_path}", "max_skipped=2", "optimizer=adamw", "lr=0.001")
    for found in on_ranks(2, skipping, config, what):
        assert found["skipped"] == [1, 1]
        assert found["told"] == [
            "learning_rate", "learning_rate_classifier", "learning_rate_quality_head", "skipped",
        ]  # fmt: skip
        assert found["learning rates"][0] > found["learning rates"][1]
        assert found["unchanged"]
        assert found["moments unchanged"]
        assert found["v"].isfinite().all()
        assert (found["v"] != 1).any()
        assert found["then skipped"] == 0
        assert found["then finite"]
        assert not found["then unchanged"]
        # Those before the good step no longer count.
        assert found["more"] == 2
        assert "in step 7 " in found["error"]
        assert f"the last good checkpoint is {tmp_path / 'checkpoint_gpu_0.pt'}" in found["error"]


def updating(ranks: Ranks, asked_on: int | None) -> dict[str, Any]:
    """Two updates of two parameters, of which one is the rank's own; the second with a loss that is NaN."""
    shared, own = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.SGD([shared, own], lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    update = Update(
        optimizer,
        schedule,
        clipped=[shared],
        clip_grad_norm=0.5,
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        ranks=ranks,
    )
    stop = StopRequest()
    if ranks.rank == asked_on:
        stop.signal_number = signal.SIGINT
    outcomes = []
    for loss in (1.0, float("nan") if ranks.rank == 0 else 1.0):
        shared.grad, own.grad = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.0])
        outcomes.append(update(torch.tensor(loss), stop))
        assert shared.grad is None
        assert own.grad is None
    return {
        "taken": [outcome.is_taken for outcome in outcomes],
        "norm": outcomes[0].gradient_norm,
        "rates": [outcome.learning_rates[0] for outcome in outcomes],
        "stop": [int(outcome.stop) for outcome in outcomes],
        "parameters": [shared.detach(), own.detach()],
    }


@pytest.mark.parametrize(("size", "asked_on"), [(1, None), (1, 0), (2, 0), (2, 1)])
def test_an_update_clips_what_is_shared_and_passes_signals_on(size: int, asked_on: int | None) -> None:
    for found in on_ranks(size, updating, asked_on):
        assert found["taken"] == [True, False]
        assert found["norm"] == 5
        assert found["rates"] == [1.0, 0.5]
        assert found["stop"] == [0 if asked_on is None else signal.SIGINT] * 2
        torch.testing.assert_close(
            found["parameters"], [torch.tensor([0.7, 0.6]), torch.tensor([-2.0, -3.0])]
        )


def test_the_scale_of_the_loss_grows_after_good_steps_only() -> None:
    """After an overflow it halves, and good steps are counted from the start."""
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8, growth_interval=2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    update = Update(optimizer, schedule, clipped=layer.parameters(), clip_grad_norm=None, scaler=scaler)
    scales = []
    for factor in (1.0, torch.inf, 1.0, 1.0, 1.0):
        loss = layer(torch.ones(1, 2)).sum() * factor
        scaler.scale(loss).backward()
        assert update(loss.detach(), StopRequest()).is_taken == (factor == 1)
        scales.append(scaler.get_scale())
    assert scales == [8, 4, 4, 8, 8]
