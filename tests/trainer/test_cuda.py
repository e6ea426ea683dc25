"""What is done on GPUs only; skipped where there is none."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from easydict import EasyDict
from torch import Tensor, nn

from tests.trainer.trainers import make
from trainer.loop import Trainer
from trainer.torch_files import load_safely

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")

Recipe = Callable[..., EasyDict]
ROOT = Path(__file__).resolve().parents[2]
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture(autouse=True)
def _whole_float32() -> Iterator[None]:
    """Without TF32, whose ten bits would hide errors."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def losses_of(trainer: Trainer, steps: int) -> list[dict[str, float]]:
    """What each of the next steps tells."""
    found = []
    for batch in list(trainer.loader.batches(trainer.position.epoch))[:steps]:
        result = trainer.step([batch])
        trainer.position.global_step += 1
        found.append({name: float(value) for name, value in result.statistics.items()})
    return found


def parameters_of(trainer: Trainer) -> list[Tensor]:
    return [p.detach().clone() for group in trainer.optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize("half", [None, "bf16", "fp16"])
@pytest.mark.parametrize("overrides", [(), ("quality_head=cr_fiqa", "optimizer=adamw", "sample_rate=0.5")])
def test_a_recipe_trains_in_every_precision(
    tiny_recipe: Recipe, half: str | None, overrides: tuple[str, ...]
) -> None:
    trainer = make(tiny_recipe("device=cuda", *overrides, *([f"{half}=True"] if half else [])))
    types: list[torch.dtype] = []
    trainer.backbone.register_forward_hook(lambda module, images, result: types.append(result.dtype))
    before = parameters_of(trainer)
    steps = losses_of(trainer, 4)
    assert all(p.is_cuda for p in before)
    assert set(types) == {HALF[half] if half else torch.float32}
    assert trainer.scaler.is_enabled() == (half == "fp16")
    taken = [step for step in steps if not step["skipped"]]
    assert half == "fp16" or len(taken) == len(steps)
    assert all(math.isfinite(value) for step in taken for value in step.values())
    if taken:
        assert not any(map(torch.equal, before, parameters_of(trainer)))


def test_an_overflow_in_float16_is_skipped_and_scaled_down(tiny_recipe: Recipe) -> None:
    trainer = make(tiny_recipe("device=cuda", "fp16=True", "max_skipped=200", "num_epoch=100"))
    trainer.scaler.load_state_dict(trainer.scaler.state_dict() | {"scale": 2.0**100})
    before = parameters_of(trainer)
    batch = next(trainer.loader.batches(0))
    assert trainer.step([batch]).statistics["skipped"] == 1
    assert all(map(torch.equal, before, parameters_of(trainer)))
    assert trainer.scaler.get_scale() == 2.0**99
    while trainer.step([batch]).statistics["skipped"]:
        assert all(map(torch.equal, before, parameters_of(trainer)))
    assert trainer.scaler.get_scale() < 2.0**60
    assert not any(map(torch.equal, before, parameters_of(trainer)))
    assert all(p.isfinite().all() for p in parameters_of(trainer))


def test_a_gpu_computes_what_a_cpu_does(tiny_recipe: Recipe) -> None:
    """With channels last, the fused optimiser, the degradations and the sweeps over classes on it."""
    common = ("dropout=0", "ig_fiqa.sub_batch=mirror", "sample_rate=0.5")
    cpu, cuda = (make(tiny_recipe(*common, f"device={name}")) for name in ("cpu", "cuda"))
    convolution = next(m for m in cuda.backbone.modules() if isinstance(m, nn.Conv2d))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert not convolution.weight.is_contiguous()
    assert all(group["fused"] for group in cuda.optimizer.param_groups)
    for expected, got in zip(losses_of(cpu, 4), losses_of(cuda, 4), strict=True):
        assert got == pytest.approx(expected, rel=1e-2, abs=1e-3)
    for one, other in zip(parameters_of(cpu), parameters_of(cuda), strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-2, atol=1e-3)


def test_copies_from_pinned_memory_are_of_the_right_images(tiny_recipe: Recipe) -> None:
    """All batches are held before the first is looked at, so that a copy too late would be seen."""
    cpu, cuda = (make(tiny_recipe(f"device={name}", "num_workers=2")).loader for name in ("cpu", "cuda"))
    batches = list(cuda.batches(0))
    assert len(batches) == cuda.batches_per_epoch
    for expected, got in zip(cpu.batches(0), batches, strict=True):
        assert got.images.is_cuda
        assert got.labels.is_cuda
        torch.testing.assert_close(got.images.cpu(), expected.images)
        assert torch.equal(got.labels.cpu(), expected.labels)


def test_a_run_is_resumed_and_its_weights_fit_a_cpu(tiny_recipe: Recipe) -> None:
    first = make(tiny_recipe("device=cuda", "fp16=True", "num_epoch=1"))
    first.scaler.load_state_dict(first.scaler.state_dict() | {"scale": 128.0})
    first.fit()
    second = make(tiny_recipe("device=cuda", "fp16=True", "num_epoch=2"))
    second.resume()
    assert second.scaler.get_scale() == first.scaler.get_scale()
    assert all(map(torch.equal, parameters_of(first), parameters_of(second)))
    second.fit()
    on_cpu = make(tiny_recipe("device=cpu"))
    on_cpu.backbone.load_state_dict(load_safely(second.output / "model.pt"))
    images = next(on_cpu.loader.batches(0)).images
    found = []
    with torch.no_grad():
        for trainer in (on_cpu, second):
            device = trainer.loader.device
            found.append(trainer.backbone.eval()(images.to(device)).cpu())
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("devices", [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_on_another_device(
    tiny_recipe: Recipe, tmp_path: Path, devices: tuple[str, str], optimizer: str
) -> None:
    common = (f"optimizer={optimizer}", "lr=0.001", "dropout=0")
    for device, epochs in zip(devices, (1, 2), strict=True):
        trainer = make(tiny_recipe(*common, f"device={device}", f"num_epoch={epochs}", "lr_schedule=step",
                                   "lr_decay_epochs=9"))  # fmt: skip
        if epochs == 2:
            trainer.resume()
        trainer.fit()
    whole = make(tiny_recipe(*common, "device=cpu", "num_epoch=2", "lr_schedule=step", "lr_decay_epochs=9",
                             f"output={tmp_path / 'whole'}"))  # fmt: skip
    whole.fit()
    for one, other in zip(parameters_of(whole), parameters_of(trainer), strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-2, atol=1e-3)


def test_the_weights_of_a_run_load_without_a_gpu(tiny_recipe: Recipe) -> None:
    trainer = make(tiny_recipe("device=cuda", "num_epoch=1"))
    trainer.fit()
    for name in ("model.pt", "quality_head.pt"):
        state = torch.load(trainer.output / name, weights_only=True)
        assert {tensor.device.type for tensor in state.values()} == {"cpu"}


def test_synchronised_normalisation_takes_the_place_of_each(tiny_recipe: Recipe) -> None:
    trainer = make(tiny_recipe("device=cuda", "sync_bn=True"))
    plain = make(tiny_recipe("device=cuda"))
    norms = [m for m in trainer.backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    assert trainer.backbone.state_dict().keys() == plain.backbone.state_dict().keys()
    for expected, got in zip(losses_of(plain, 2), losses_of(trainer, 2), strict=True):
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(tiny_recipe: Recipe) -> None:
    plain, compiled = (
        make(tiny_recipe("device=cuda", "dropout=0", *more)) for more in ((), ("compile=True",))
    )
    for expected, got in zip(losses_of(plain, 4), losses_of(compiled, 4), strict=True):
        assert got == pytest.approx(expected, rel=1e-2, abs=1e-3)


@two_gpus
@pytest.mark.parametrize(
    "overrides", [("network=tiny_group_norm",), ("network=tiny", "sync_bn=True")], ids=lambda o: o[0]
)
def test_two_gpus_train_what_one_does(recipe_path: Path, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    """With batch normalisation, too, where it is synchronised. The prototypes are spread over the GPUs."""
    weights = []
    for size in (1, 2):
        output = tmp_path / str(size)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={size}"]
        settings = ["device=cuda", "dropout=0", f"batch_size={12 // size}", "val_targets=[]", "num_epoch=1"]
        arguments = ["train.py", str(recipe_path), f"output={output}", *settings, *overrides]
        subprocess.run([*command, *arguments], cwd=ROOT, check=True, timeout=300)
        weights.append(load_safely(output / "model.pt") | load_safely(output / "quality_head.pt"))
    one, two = weights
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-2, atol=1e-3, msg=name)
