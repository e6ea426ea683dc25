"""The loop: resuming is exact, bad numbers stop it, signals save it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Container
from pathlib import Path

import pytest
import torch
from easydict import EasyDict
from torch import Tensor, nn

from igfiqa_head.io.written_files import LIST_FILE
from tests.trainer.trainers import assert_same, make
from trainer.loop import Trainer, TrainingDivergedError
from trainer.objective import frozen_running_statistics
from trainer.stopping import Stopped

Recipe = Callable[..., EasyDict]


def everything(trainer: Trainer) -> dict[str, object]:
    return {name: part.state_dict() for name, part in trainer._parts().items()}  # type: ignore[attr-defined]


def interrupt_after(trainer: Trainer, steps: int) -> None:
    """Let the process receive SIGTERM while it takes step number ``steps``."""
    original = trainer.step

    def step(batches):  # type: ignore[no-untyped-def]
        if trainer.position.global_step + 1 == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(batches)

    trainer.step = step  # type: ignore[method-assign]


def spoil_steps(trainer: Trainer, steps: Container[int]) -> None:
    """Let the loss of some 0-based global steps be NaN."""
    original = trainer.objective

    def objective(batch, *, step, epoch):  # type: ignore[no-untyped-def]
        losses = original(batch, step=step, epoch=epoch)
        if step not in steps:
            return losses
        nan = losses.total * float("nan")
        return losses._replace(total=nan, statistics=losses.statistics | {"loss": nan.detach()})

    trainer.objective = objective  # type: ignore[assignment]


@pytest.mark.parametrize("stop_at", [1, 4, 6])
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("quality_head=None",),
        ("quality_head=cr_fiqa",),
        ("ig_fiqa.sub_batch=mirror", "ig_fiqa.quality_bn=clean", "optimizer=adamw", "lr=0.001"),
        ("gradient_acc=2", "sample_rate=0.4", "ig_fiqa.variance_init=seen"),
        ("ig_fiqa.variance_init=first_pass", "lr_schedule=step", "lr_decay_epochs=[1]", "num_workers=1"),
        ("prototype_init=class_means", "lr_factor.backbone=0.1", "warmup_epoch=1"),
        ("margin=tiny_adaptive", "tiny_adaptive.slope=0.2"),
    ],
    ids=lambda o: o[0] if o else "default",
)
def test_resuming_equals_an_uninterrupted_run(
    tiny_recipe: Recipe, tmp_path: Path, overrides: tuple[str, ...], stop_at: int
) -> None:
    config = tiny_recipe("num_epoch=2", f"output={tmp_path / 'whole'}", *overrides)
    whole = make(config)
    whole.fit()
    total = whole.position.global_step
    if stop_at > total:
        stop_at = total

    config.output = str(tmp_path / "parts")
    first = make(config)
    interrupt_after(first, stop_at)
    with pytest.raises(Stopped) as stopped:
        first.fit()
    assert stopped.value.exit_status == 128 + signal.SIGTERM
    assert first.position.global_step == stop_at

    torch.manual_seed(12345)  # what the global generator did in between must not matter
    second = make(config)
    second.resume()
    second.fit()
    assert_same(everything(whole), everything(second))


def test_a_margin_from_outside_has_its_settings_and_keeps_its_state(tiny_recipe: Recipe) -> None:
    trainer = make(tiny_recipe("num_epoch=1", "margin=tiny_adaptive", "tiny_adaptive.slope=0.2"))
    trainer.fit()
    assert trainer.classifier.margin.slope == 0.2
    assert trainer.classifier.state_dict()["margin.mean"] != 1


def test_resuming_takes_the_recipe_at_its_word(tiny_recipe: Recipe) -> None:
    """A run that diverged is to go on with a lower lr."""
    first = make(tiny_recipe("lr=0.1"))
    interrupt_after(first, 2)
    with pytest.raises(Stopped):
        first.fit()
    second = make(tiny_recipe("lr=0.001", "weight_decay=0.25", "lr_factor.classifier=2"))
    second.resume()
    rates: list[float] = []
    second.optimizer.register_step_pre_hook(lambda o, *_: rates.extend(g["lr"] for g in o.param_groups))
    second.fit()
    assert rates[:3] == pytest.approx([0.001 * (1 - 2 / 8), 0.002 * (1 - 2 / 8), 0.001 * (1 - 2 / 8)])
    assert all(group["weight_decay"] == 0.25 for group in second.optimizer.param_groups)


def test_a_step_of_more_batches_than_an_epoch_has_is_refused(tiny_recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="gradient_acc=5 batches make a step, but an epoch has 4"):
        make(tiny_recipe("gradient_acc=5"))


@pytest.mark.parametrize("detach", [True, False])
def test_the_quality_pass_records_nothing_that_no_loss_needs(tiny_recipe: Recipe, detach: bool) -> None:
    trainer = make(tiny_recipe(f"ig_fiqa.detach_backbone={detach}"))
    needs_gradient: list[bool] = []
    trainer.backbone.register_forward_hook(lambda _, __, output: needs_gradient.append(output.requires_grad))
    losses = trainer.objective(next(iter(trainer.loader.batches(0))), step=0, epoch=0)
    losses.total.backward()
    assert needs_gradient == [True, not detach]
    assert trainer.quality_head.regressor.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_files_of_a_run(tiny_recipe: Recipe) -> None:
    trainer = make(tiny_recipe())
    trainer.fit()
    assert {p.name for p in trainer.output.iterdir()} == {
        "model.pt",
        "quality_head.pt",
        "checkpoint_gpu_0.pt",
        LIST_FILE,
    }
    names = set(torch.load(trainer.output / "checkpoint_gpu_0.pt", weights_only=True))
    assert names >= {
        "epoch",
        "global_step",
        "state_dict_backbone",
        "state_dict_softmax_fc",
        "state_optimizer",
        "state_lr_scheduler",
    }
    assert set(torch.load(trainer.output / "quality_head.pt", weights_only=True)) == {
        "regressor.weight",
        "regressor.bias",
        "variance.variance",
        "variance.seen",
    }


def test_a_nan_loss_names_the_step_and_the_checkpoint(tiny_recipe: Recipe) -> None:
    trainer = make(tiny_recipe("num_epoch=3", "max_skipped=2"))
    spoil_steps(trainer, range(5, 100))
    with pytest.raises(
        TrainingDivergedError, match=r"loss nan, .* in step 8 \(epoch 2\).*checkpoint_gpu_0\.pt"
    ):
        trainer.fit()
    good = torch.load(trainer.output / "checkpoint_gpu_0.pt", weights_only=True)
    assert good["global_step"] == 4
    assert all(torch.isfinite(x).all() for x in good["state_dict_backbone"].values())


def test_a_gradient_that_is_not_finite_stops_before_the_update(tiny_recipe: Recipe) -> None:
    trainer = make(tiny_recipe("max_skipped=0"))
    weight = next(trainer.backbone.parameters())
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingDivergedError, match="gradient norm .* no checkpoint was written yet"):
        trainer.fit()
    assert torch.isfinite(weight).all()


def test_a_nan_in_the_data_is_caught(tiny_recipe: Recipe) -> None:
    trainer = make(tiny_recipe())
    with torch.no_grad():
        next(trainer.backbone.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match="running statistics of the backbone .* in step 1 "):
        trainer.fit()


def test_accumulation_equals_one_large_batch(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Without batch statistics, dropout and class weights, two batches of 6 are one of 12."""
    common = ("dropout=0", "quality_head=cr_fiqa", "num_epoch=1", "clip_grad_norm=None")

    def trained(name: str, *overrides: str) -> Trainer:
        trainer = make(tiny_recipe(f"output={tmp_path / name}", *common, *overrides))
        for module in trainer.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
                module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
        trainer.fit()
        return trainer

    one = trained("one", "batch_size=12")
    two = trained("two", "batch_size=6", "gradient_acc=2")
    assert one.position.global_step == two.position.global_step == 4
    for a, b in zip(one.backbone.parameters(), two.backbone.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(one.classifier.weight, two.classifier.weight)


def test_quality_bn_clean_leaves_running_statistics_to_the_clean_pass(tiny_recipe: Recipe) -> None:
    trainer = make(tiny_recipe("ig_fiqa.quality_bn=clean"))
    norm = next(m for m in trainer.backbone.modules() if isinstance(m, nn.BatchNorm2d))
    trainer._set_training(True)
    trainer.objective(next(iter(trainer.loader.batches(0))), step=0, epoch=0)
    assert norm.num_batches_tracked == 1

    shared = make(tiny_recipe())
    norm = next(m for m in shared.backbone.modules() if isinstance(m, nn.BatchNorm2d))
    shared.objective(next(iter(shared.loader.batches(0))), step=0, epoch=0)
    assert norm.num_batches_tracked == 2


def test_frozen_running_statistics_still_normalise_by_the_batch() -> None:
    norm = nn.BatchNorm1d(3)
    x = torch.randn(50, 3) * 4 + 2
    with frozen_running_statistics(norm):
        y = norm(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert torch.equal(norm.running_mean, torch.zeros(3))
    assert norm.track_running_stats


def test_the_quality_loss_reaches_regressor_and_backbone_but_not_the_prototypes(tiny_recipe: Recipe) -> None:
    trainer = make(tiny_recipe())
    _, quality = trainer.quality_head.split(next(iter(trainer.loader.batches(0))))  # type: ignore[union-attr]
    embeddings = trainer.backbone(quality.images)
    output = trainer.quality_head(embeddings, quality.labels, trainer.classifier, epoch=0)  # type: ignore[misc]
    output.loss.backward()
    assert trainer.classifier.weight.grad is None
    assert trainer.quality_head.regressor.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trainer.backbone.parameters())


def test_a_first_pass_for_v_alone_leaves_the_prototypes(tiny_recipe: Recipe) -> None:
    trainer = make(tiny_recipe("ig_fiqa.variance_init=first_pass"))
    prototypes: Tensor = trainer.classifier.weight  # type: ignore[assignment]
    before = prototypes.clone()
    trainer.first_pass()
    variance = trainer.quality_head.variance  # type: ignore[union-attr]
    assert variance.seen.all()
    assert (variance.variance != 1).all()
    assert torch.equal(prototypes, before)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("lr_schedule=polynomial", [0.25, 0.5, 0.75, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("lr_schedule=step", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1]),
    ],
)
def test_every_part_learns_at_its_own_rate(tiny_recipe: Recipe, schedule: str, factors: list[float]) -> None:
    """lr, times the schedule's factor with its warm-up, times the part's; the log tells all three."""
    parts = ("lr_factor.backbone=0.1", "lr_factor.classifier=2", "lr_factor.quality_head=0")
    trainer = make(tiny_recipe("num_epoch=3", "warmup_epoch=1", schedule, "lr_decay_epochs=[2]", *parts))
    regressor = trainer.quality_head.regressor.weight.clone()  # type: ignore[union-attr]
    used: list[list[float]] = []
    logged: list[list[float]] = []
    trainer.optimizer.register_step_pre_hook(
        lambda optimizer, *_: used.append([group["lr"] for group in optimizer.param_groups])
    )
    names = ("learning_rate", "learning_rate_classifier", "learning_rate_quality_head")
    trainer.log.step = lambda _, values, *__: logged.append([float(values[n]) for n in names])  # type: ignore[method-assign]
    trainer.fit()
    assert used == [pytest.approx([0.01 * f * part for part in (0.1, 2, 0)]) for f in factors]
    assert logged == [pytest.approx(rates) for rates in used]
    assert torch.equal(trainer.quality_head.regressor.weight, regressor)  # type: ignore[union-attr]


def test_low_variance_classes_lose_their_weight_in_training(tiny_recipe: Recipe) -> None:
    """The direction of Eq. 9, end to end: near-duplicate classes are silenced, diverse ones are not."""
    config = tiny_recipe(
        "synthetic.num_identities=20", "synthetic.images_per_identity=12", "batch_size=24", "num_epoch=30",
        "ig_fiqa.degradation_p=0", "optimizer=adamw", "lr=0.01", "scale=16", "margin_list=1,0.1,0",
        "dropout=0",
    )  # fmt: skip
    trainer = make(config)
    trainer.fit()
    weights = trainer.quality_head.class_weights()  # type: ignore[union-attr]
    planted = trainer.loader.dataset.low_variance_ids
    is_planted = torch.zeros(20, dtype=torch.bool)
    is_planted[list(planted)] = True
    assert weights[is_planted].mean() < weights[~is_planted].mean() - 0.3
