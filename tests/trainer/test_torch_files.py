"""Files of tensors: what a stranger's may ask for is what it has."""

from __future__ import annotations

import os
import resource
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gloo import start
from trainer.torch_files import CheckpointError, load_safely


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A file of a few bytes whose pickle unpacks to half a gigabyte."""
    torch.save({"weight": torch.zeros(5)}, tmp_path / "plain.pt")
    path = tmp_path / "packed.pt"
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for entry in plain.infolist():
            with archive.open(entry.filename, "w", force_zip64=True) as file:
                file.write(plain.read(entry))
                for _ in range(500 if entry.filename.endswith("data.pkl") else 0):
                    file.write(bytes(10**6))
    return path


def load_in_little_memory(path: Path, errors: Path) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
    try:
        load_safely(path)
    except CheckpointError as error:
        errors.write_text(str(error))


def test_a_pickle_that_unpacks_to_gigabytes_is_not_unpacked(packed: Path, tmp_path: Path) -> None:
    process = start(load_in_little_memory, packed, tmp_path / "errors.txt")
    process.join(60)
    assert "bytes would unpack to 500,000," in (tmp_path / "errors.txt").read_text()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            torch.zeros(1).expand(3_000_000, 512),
            r"cannot be used: net\.0 is of shape \[3000000, 512\], for which",
        ),
        (torch.eye(3).to_sparse(), r"cannot be used: net\.0 is quantised, nested or sparse"),
        (torch.eye(3).to("meta"), r"net\.0 is on the device meta, without any values"),
    ],
)
def test_tensors_are_numbers_in_memory_of_their_own(tmp_path: Path, tensor: Any, message: str) -> None:
    torch.save({"net": [tensor]}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=message):
        load_safely(tmp_path / "odd.pt")


def test_views_and_empty_tensors_are_plain_ones(tmp_path: Path) -> None:
    state = {"view": torch.arange(10.0)[2:5], "turned": torch.ones(4, 2).t(), "empty": torch.zeros(0, 3)}
    for legacy in (False, True):
        torch.save(state, tmp_path / "views.pt", _use_new_zipfile_serialization=not legacy)
        loaded = load_safely(tmp_path / "views.pt")
        assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_a_dict_that_holds_itself_ends(tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    state["model"] = [state]
    torch.save(state, tmp_path / "endless.pt")
    assert list(load_safely(tmp_path / "endless.pt")) == ["model"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "checkpoint_gpu_0.pt")
    with pytest.raises(CheckpointError, match="it is a pipe, expected a regular file"):
        load_safely(tmp_path / "checkpoint_gpu_0.pt")
