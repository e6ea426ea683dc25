"""Checkpoints: whole or not at all, and nothing in them is ever executed."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainer.checkpoint import load_checkpoint, save_checkpoint
from trainer.position import Position
from trainer.torch_files import CheckpointError, load_safely, save_atomically


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The folder of a checkpoint."""
    save_checkpoint(tmp_path, Position(2, 3, 11, 64), {"state_dict_backbone": nn.Linear(3, 2)})
    return tmp_path


def test_round_trip(saved: Path) -> None:
    layer = nn.Linear(3, 2)
    assert load_checkpoint(saved, {"state_dict_backbone": layer}) == Position(2, 3, 11, 64)
    state = load_safely(saved / "checkpoint_gpu_0.pt")
    torch.testing.assert_close(layer.weight, state["state_dict_backbone"]["weight"])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing to resume: .*checkpoint_gpu_0\.pt does not exist"):
        load_checkpoint(tmp_path, {})


def test_other_shapes(saved: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"does not fit this recipe \(state_dict_backbone: of"
    ) as caught:
        load_checkpoint(saved, {"state_dict_backbone": nn.Linear(4, 2)})
    assert "of another shape: weight ([2, 3] instead of [2, 4])" in str(caught.value)
    assert "another network, rec, num_classes or held_out" in str(caught.value)
    assert "rows for labels without images" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_part(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="lacks state_dict_quality_head"):
        load_checkpoint(saved, {"state_dict_quality_head": nn.Linear(3, 2)})


def test_not_a_dict(tmp_path: Path) -> None:
    save_atomically([1, 2], tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_safely(tmp_path / "x.pt")


class Evil:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_file_is_not_run(tmp_path: Path, writer: str) -> None:
    path, witness = tmp_path / "evil.pt", tmp_path / "witness"
    if writer == "torch":
        torch.save({"a": Evil(witness)}, path)
    else:
        path.write_bytes(pickle.dumps({"a": Evil(witness)}))
    with pytest.raises(CheckpointError):
        load_safely(path)
    assert not witness.exists()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_give_one_clear_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    save_checkpoint(folder, Position(), {"state_dict_backbone": nn.Linear(3, 2)})
    path = folder / "checkpoint_gpu_0.pt"
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        content = content[: data.draw(st.integers(0, len(content) - 1), label="length")]
    else:
        for _ in range(data.draw(st.integers(1, 20), label="flips")):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    # Flips may hit a number and go unseen; anything else that happens must be this one error.
    with contextlib.suppress(CheckpointError):
        load_checkpoint(folder, {"state_dict_backbone": nn.Linear(3, 2)})


def test_a_failed_write_keeps_the_old_file(saved: Path) -> None:
    path = saved / "checkpoint_gpu_0.pt"
    before = path.read_bytes()
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        save_atomically({"x": lambda: None}, path)
    assert path.read_bytes() == before
    assert [p.name for p in saved.iterdir()] == [path.name]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_momenta_follow_the_layout_of_their_parameters(
    tmp_path: Path, kind: type[torch.optim.Optimizer], fused: bool
) -> None:
    """Networks are channels last on a GPU, and a run may go on elsewhere."""

    def convolution(layout: torch.memory_format) -> tuple[nn.Conv2d, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = nn.Conv2d(4, 3, 3).to(memory_format=layout)
        options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return layer, kind(layer.parameters(), lr=0.1, fused=fused, **options)  # type: ignore[call-arg]

    def take_step(layer: nn.Conv2d, optimizer: torch.optim.Optimizer) -> None:
        images = torch.rand(2, 4, 5, 5, generator=torch.Generator().manual_seed(1))
        layer(images).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    for before, after in (
        (torch.channels_last, torch.contiguous_format),
        (torch.contiguous_format, torch.channels_last),
    ):
        layer, optimizer = convolution(before)
        take_step(layer, optimizer)
        parts = {"state_dict_backbone": layer, "state_optimizer": optimizer}
        save_checkpoint(tmp_path, Position(), parts)
        moved, its_optimizer = convolution(after)
        load_checkpoint(tmp_path, {"state_dict_backbone": moved, "state_optimizer": its_optimizer})
        take_step(layer, optimizer)
        take_step(moved, its_optimizer)
        torch.testing.assert_close(moved.weight, layer.weight)


def test_a_run_without_a_scaler_goes_on_with_one(tmp_path: Path) -> None:
    def scaler(enabled: bool) -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", enabled=enabled)

    save_checkpoint(tmp_path, Position(), {"state_grad_scaler": scaler(enabled=False)})
    fresh = scaler(enabled=True)
    load_checkpoint(tmp_path, {"state_grad_scaler": fresh})
    assert fresh.get_scale() == 65536
