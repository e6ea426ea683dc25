"""Training on several ranks is training on one: the same numbers, whoever computes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from easydict import EasyDict
from torch import Tensor

from igfiqa_head.io.written_files import LIST_FILE
from igfiqa_head.ranks import ALONE, Ranks
from tests.gloo import free_port, on_ranks, start
from tests.trainer.trainers import make
from trainer.loop import Trainer
from trainer.position import Position
from trainer.run import run
from trainer.torch_files import load_safely

Recipe = Callable[..., EasyDict]
STEPS = 10
COMMON = (
    "network=tiny_group_norm", "dropout=0", "synthetic.num_identities=13", "synthetic.images_per_identity=10",
    "num_epoch=3", "lr=0.02", "batch_size=16",
)  # fmt: skip


def trainer_of(ranks: Ranks, config: EasyDict) -> Trainer:
    """With its share of each step's images."""
    config = EasyDict(config, batch_size=config.batch_size // ranks.size)
    return make(config, ranks)


def train(ranks: Ranks, config: EasyDict, first: int = 0, last: int = STEPS) -> dict[str, Any]:
    """Steps ``first`` to ``last`` of the training, from the checkpoint if there is one; in float64."""
    torch.set_default_dtype(torch.float64)
    trainer = trainer_of(ranks, config)
    if first:
        trainer.resume()
    assert trainer.position.global_step == first
    losses: list[dict[str, float]] = []
    while trainer.position.global_step < last:
        epoch, step = trainer.position.epoch, trainer.position.step
        batches = list(trainer.loader.batches(epoch, step * trainer.gradient_acc))[: trainer.gradient_acc]
        statistics, images, _ = trainer.step(batches)
        assert images == config.batch_size * trainer.gradient_acc
        losses.append({name: float(value) for name, value in statistics.items()})
        trainer.position.step += 1
        trainer.position.global_step += 1
        if trainer.position.step == trainer.steps_per_epoch:
            trainer.position.epoch, trainer.position.step = epoch + 1, 0
    trainer.save()
    return {"losses": losses} | state_of(trainer, ranks)


def state_of(trainer: Trainer, ranks: Ranks) -> dict[str, Any]:
    head = trainer.quality_head
    faces = next(iter(trainer.loader.every_image()))
    labels = faces.labels[:2].clone()
    ccs, nnccs = trainer.classifier.class_center_similarities(trainer.backbone(faces.images[:2]), labels)  # type: ignore[operator]
    return {
        "backbone": trainer.backbone.state_dict(),
        "prototypes": trainer.classifier.weight.detach(),
        "head": {} if head is None else head.regressor.state_dict(),
        "v": getattr(head, "variance", torch.nn.Module()).state_dict(),
        "weights": None if head is None else head.class_weights(),
        "ccs": ccs,
        "nnccs": nnccs,
    }


def assert_agree(one: dict[str, Any], many: list[dict[str, Any]]) -> None:
    def close(a: object, b: object) -> None:
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)

    for rank in many:
        close(rank["losses"], one["losses"][-len(rank["losses"]) :])
        for name in ("backbone", "head", "weights"):
            close(rank[name], one[name])
    close(torch.cat([rank["prototypes"] for rank in many]), one["prototypes"])
    for name in one["v"]:
        close(torch.cat([rank["v"][name] for rank in many]), one["v"][name])
    close(many[0]["ccs"], one["ccs"])
    close(many[0]["nnccs"], one["nnccs"])


@pytest.mark.parametrize("sample_rate", [1.0, 0.3])
@pytest.mark.parametrize(
    "overrides",
    [
        ("ig_fiqa.sub_batch=split",),
        ("ig_fiqa.sub_batch=mirror", "ig_fiqa.variance_init=seen"),
        ("quality_head=cr_fiqa", "optimizer=adamw", "lr=0.001"),
        ("quality_head=None", "gradient_acc=2"),
        ("prototype_init=class_means", "ig_fiqa.variance_init=first_pass", "gradient_acc=2"),
    ],
    ids=lambda o: o[0],
)
def test_any_number_of_ranks_gives_the_same(
    tiny_recipe: Recipe, tmp_path: Path, overrides: tuple[str, ...], sample_rate: float
) -> None:
    def on(size: int) -> list[dict[str, Any]]:
        config = tiny_recipe(
            *COMMON, *overrides, f"sample_rate={sample_rate}", f"output={tmp_path / str(size)}"
        )
        return on_ranks(size, train, config)

    (one,) = on(1)
    assert len(one["losses"]) == STEPS
    assert one["losses"][0]["loss"] != pytest.approx(one["losses"][-1]["loss"], abs=1e-3)
    for size in (2, 4):
        assert_agree(one, on(size))


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (4, 2), (2, 3)])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_goes_on_with_another_number_of_ranks(
    tiny_recipe: Recipe, tmp_path: Path, before: int, after: int, optimizer: str
) -> None:
    overrides = (*COMMON, f"optimizer={optimizer}", "lr=0.001", "ig_fiqa.fractional_momentum=True")

    def on(size: int, output: str, *steps: int) -> list[dict[str, Any]]:
        config = tiny_recipe(*overrides, "batch_size=24", f"output={tmp_path / output}")
        return on_ranks(size, train, config, *steps)

    (one,) = on(1, "whole", 0, 6)
    on(before, "parts", 0, 3)
    assert_agree(one, on(after, "parts", 3, 6))
    names = {path.name for path in (tmp_path / "parts").iterdir()}
    checkpoints = {f"checkpoint_gpu_{rank}.pt" for rank in range(after)}
    assert names == {"model.pt", "quality_head.pt", LIST_FILE, *checkpoints}


def test_the_weights_of_several_ranks_are_whole(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """model.pt and quality_head.pt do not tell how many ranks there were."""
    files: list[dict[str, Tensor]] = []
    for size in (1, 2):
        on_ranks(size, train, tiny_recipe(*COMMON, f"output={tmp_path / str(size)}"), 0, 2)
        folder = tmp_path / str(size)
        files.append(load_safely(folder / "model.pt") | load_safely(folder / "quality_head.pt"))
    assert files[0].keys() == files[1].keys()
    for name, value in files[0].items():
        torch.testing.assert_close(files[1][name], value, rtol=0, atol=1e-9)


def test_steps_of_another_size_go_on_at_the_same_image(tiny_recipe: Recipe, log_lines: list[str]) -> None:
    def make(batch_size: int) -> Trainer:
        return trainer_of(ALONE, tiny_recipe(*COMMON, f"batch_size={batch_size}"))

    first = make(16)  # 8 steps in each epoch of 130 images
    first.position = Position(1, 6, 14, 16)
    first.save()
    second = make(32)
    second.resume()
    assert second.position == Position(1, 3, 7, 32)
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * (1 - 7 / 12))
    assert any("a step drew 16 images and now draws 32" in line for line in log_lines)


def carry_out(config: EasyDict, rank: int, port: int) -> None:
    """One of two processes of a whole run, as torchrun would start it."""
    torch.set_num_threads(1)
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "localhost"}
    run(config)


@pytest.mark.parametrize("quality_head", ["ig_fiqa", "cr_fiqa"])
def test_a_whole_run_on_two_ranks_leaves_every_file(
    tiny_recipe: Recipe, tmp_path: Path, quality_head: str
) -> None:
    config, port = tiny_recipe("num_epoch=1", f"quality_head={quality_head}"), free_port()
    processes = [start(carry_out, config, rank, port) for rank in range(2)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    found = {path.name for path in (tmp_path / "run").iterdir()}
    assert found >= {"quality.onnx", "embedding.onnx", "metrics.json", "erc.png", "checkpoint_gpu_1.pt"}
