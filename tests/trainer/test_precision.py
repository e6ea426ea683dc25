"""Mixed precision, compiled networks and fused optimisers change the speed, and the numbers hardly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from easydict import EasyDict
from torch import Tensor, nn

import train
from igfiqa_head.ranks import ALONE
from igfiqa_head.sub_batches import Batch
from tests.gloo import on_ranks
from tests.trainer.test_several_ranks import COMMON, assert_agree, trainer_of
from tests.trainer.test_several_ranks import train as several
from trainer import build
from trainer.evaluation import embed
from trainer.first_pass import class_means
from trainer.loop import Trainer
from trainer.torch_files import load_safely

Recipe = Callable[..., EasyDict]


def losses_of(trainer: Trainer, steps: int) -> list[dict[str, float]]:
    """What each of the first steps tells."""
    found = []
    for batch in list(trainer.loader.batches(0))[:steps]:
        result = trainer.step([batch])
        trainer.position.global_step += 1
        found.append({name: float(value) for name, value in result.statistics.items()})
    return found


@pytest.mark.parametrize(
    "overrides",
    [("bf16=True",), ("fp16=True",), ("bf16=True", "quality_head=cr_fiqa"), ("fp16=True", "sample_rate=0.5")],
)
def test_half_precision_is_the_backbones_alone(tiny_recipe: Recipe, overrides: tuple[str, ...]) -> None:
    common = [name for name in overrides if "16" not in name]
    whole = losses_of(trainer_of(ALONE, tiny_recipe(*common, "dropout=0")), 4)
    trainer = trainer_of(ALONE, tiny_recipe(*overrides, "dropout=0"))
    embeddings: list[Tensor] = []
    trainer.backbone.register_forward_hook(lambda module, images, result: embeddings.append(result))
    statistics = trainer.step([next(trainer.loader.batches(0))]).statistics
    assert {x.dtype for x in embeddings} == {torch.bfloat16}
    exact = {name: value for name, value in statistics.items() if name in ("ccs", "nnccs", "cr")}
    assert {x.dtype for x in exact.values()} == {torch.float32}
    assert len(exact) == 3

    half = losses_of(trainer_of(ALONE, tiny_recipe(*overrides, "dropout=0")), 4)
    assert all(np.isfinite(list(step.values())).all() and not step["skipped"] for step in half)
    assert half[0] != whole[0]
    assert half[-1]["loss"] == pytest.approx(whole[-1]["loss"], rel=0.05)
    state = trainer._parts()  # type: ignore[attr-defined]
    modules = [part for part in state.values() if isinstance(part, nn.Module)]
    tensors = [x for module in modules for x in module.state_dict().values() if x.is_floating_point()]
    assert {x.dtype for x in tensors} == {torch.float32}
    assert not trainer.scaler.is_enabled()


@pytest.mark.parametrize(
    ("overrides", "on_cpu", "on_cuda"),
    [
        ((), None, None),
        (("bf16=True",), torch.bfloat16, torch.bfloat16),
        (("fp16=True",), torch.bfloat16, torch.float16),
        (("fp16=True", "bf16=True"), torch.bfloat16, torch.bfloat16),
    ],
)
def test_a_cpu_takes_bfloat16_for_float16(
    tiny_recipe: Recipe,
    overrides: tuple[str, ...],
    on_cpu: torch.dtype | None,
    on_cuda: torch.dtype | None,
) -> None:
    config = tiny_recipe(*overrides)
    assert build.build_precision(config, torch.device("cpu")) == on_cpu
    assert build.build_precision(config, torch.device("cuda")) == on_cuda


class Recorder(nn.Module):
    """Notes what it is asked to compute in."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype | None] = set()

    def forward(self, images: Tensor) -> Tensor:
        self.types.add(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return images.flatten(1)[:, :8].half()


@pytest.mark.parametrize("half", [None, torch.float16, torch.bfloat16])
def test_a_network_is_judged_in_the_precision_it_learns_in(half: torch.dtype | None) -> None:
    """And its first pass is made in it: what was trained in bfloat16 may be out of float16's range."""
    recorder = Recorder()
    faces = np.zeros((3, 4, 4, 3), np.uint8)
    embeddings, _ = embed(recorder, None, faces, torch.device("cpu"), half)
    batch = Batch(torch.ones(2, 3, 4, 4), torch.arange(2), torch.arange(2), 0)
    means = class_means(recorder, [batch], 2, half=half).means
    assert recorder.types == {half}
    assert (embeddings.dtype, means.dtype) == (np.float32, torch.float32)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_fused_optimisers_give_what_others_do(tiny_recipe: Recipe, optimizer: str) -> None:
    """Also with a rate for each part, and with parameters that have no gradient."""
    config = tiny_recipe(f"optimizer={optimizer}", "lr=0.1", "lr_factor.classifier=0.3", "weight_decay=0.01")
    found: list[list[Tensor]] = []
    for fused in (True, False):
        torch.manual_seed(0)
        sizes = {"backbone": (300, 4), "classifier": (4, 3), "quality_head": (4, 1)}
        modules: dict[str, nn.Module] = {name: nn.Linear(*size) for name, size in sizes.items()}
        made = build.build_optimizer(config, modules)
        assert all(group["fused"] for group in made.param_groups)
        for group in made.param_groups:
            group["fused"], group["foreach"] = fused, False
        parameters = [p for module in modules.values() for p in module.parameters()]
        for _ in range(5):
            for p in parameters[1:]:
                p.grad = torch.randn_like(p)
            made.step()
        found.append([p.detach() for p in parameters])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


COMPILED = ("network=tiny", "dropout=0", "ig_fiqa.sub_batch=mirror", "ig_fiqa.quality_bn=clean")


def test_names_of_weights_do_not_tell_of_compiling(tiny_recipe: Recipe) -> None:
    """Compiling itself waits for the first batch."""
    trainer = trainer_of(ALONE, tiny_recipe(*COMPILED, "compile=True"))
    assert trainer.training_pass is not trainer.backbone
    trainer.save()
    expected = trainer_of(ALONE, tiny_recipe(*COMPILED)).backbone.state_dict().keys()
    assert load_safely(trainer.output / "model.pt").keys() == expected
    assert load_safely(trainer.output / "checkpoint_gpu_0.pt")["state_dict_backbone"].keys() == expected


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Batch normalisation included, whose running statistics one of the two passes must not touch."""
    plain = trainer_of(ALONE, tiny_recipe(*COMPILED, f"output={tmp_path / 'plain'}"))
    compiled = trainer_of(ALONE, tiny_recipe(*COMPILED, "compile=True", f"output={tmp_path / 'compiled'}"))
    for expected, got in zip(losses_of(plain, 4), losses_of(compiled, 4), strict=True):
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)
    torch.testing.assert_close(
        compiled.backbone.state_dict(), plain.backbone.state_dict(), rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_a_compiled_network_on_several_ranks_gives_the_same(tiny_recipe: Recipe, tmp_path: Path) -> None:
    (plain,) = on_ranks(1, several, tiny_recipe(*COMMON, f"output={tmp_path / 'plain'}"), 0, 3)
    config = tiny_recipe(*COMMON, "compile=True", f"output={tmp_path / 'compiled'}")
    assert_agree(plain, on_ranks(2, several, config, 0, 3))


@pytest.mark.slow
def test_files_of_a_compiled_run_are_named_like_those_of_any(recipe_path: Path, tmp_path: Path) -> None:
    for name in ("plain", "compiled"):
        settings = ("num_epoch=1", "val_targets=[]", f"compile={name == 'compiled'}")
        assert train.main([str(recipe_path), f"output={tmp_path / name}", *settings]) == 0
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    assert load_safely(compiled / "model.pt").keys() == load_safely(plain / "model.pt").keys()
    for kind in ("quality.onnx", "embedding.onnx"):
        names = [{x.name for x in onnx.load(folder / kind).graph.initializer} for folder in (plain, compiled)]
        assert names[0] == names[1]
        assert not any("_orig_mod" in name for name in names[1])
    # So either can go on from the other.
    assert train.main([str(recipe_path), f"output={compiled}", "val_targets=[]", "resume=True"]) == 0
