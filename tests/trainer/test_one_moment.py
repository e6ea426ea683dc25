"""The files of a run are of one moment, of one run at a time, and what is not is refused by name."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from easydict import EasyDict

import train
from igfiqa_head.io.written_files import LIST_FILE, read_list
from igfiqa_head.ranks import Ranks
from tests.gloo import on_ranks
from tests.trainer.conftest import TINY_PLUGIN
from tests.trainer.test_earlier_run import contents
from trainer import sources, weight_files
from trainer.earlier_run import held_output
from trainer.export import main as export
from trainer.sources import open_source
from trainer.torch_files import CheckpointError, load_safely
from trainer.weight_files import write_weights

Recipe = Callable[..., EasyDict]
PLUGIN = ["--plugin", str(TINY_PLUGIN)]
WEIGHTS = ("model.pt", "quality_head.pt")


def of_later(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Weights that a run could leave after a further epoch."""
    return {
        name: {key: x * 1.5 if x.is_floating_point() else x for key, x in load_safely(folder / name).items()}
        for name in WEIGHTS
    }


def resume(recipe: Path, folder: Path) -> int:
    return train.main([str(recipe), f"output={folder}", "num_epoch=1", "resume=True"])


def error_of(run: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run() == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    return line


def test_all_files_of_a_run_carry_one_number(a_run: Path) -> None:
    written = read_list(a_run)
    assert {*written} == {
        *WEIGHTS, "recipe.json", "metrics.json", "erc.png", "quality_sheet.png", "quality.onnx",
        "embedding.onnx",
    }  # fmt: skip
    assert len({file.number for file in written.values()}) == 1


def test_a_run_killed_between_its_files_is_refused_and_resuming_mends_it(
    a_run: Path, recipe_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = os.replace

    def killed(source: Any, target: Any) -> None:
        if Path(target) == a_run / "quality_head.pt":
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_weights(of_later(a_run), a_run)
    files = [str(a_run / name) for name in WEIGHTS]
    for arguments in ([str(a_run)], [files[0], "--quality-head", files[1]]):
        line = error_of(partial(export, [*arguments, *PLUGIN]), capsys)
        assert f"{a_run / 'quality_head.pt'} is of another moment than the files around it: go on" in line
    assert resume(recipe_path, a_run) == 0
    assert export([str(a_run), *PLUGIN]) == 0
    assert len({file.number for file in read_list(a_run).values()}) == 1


@pytest.mark.parametrize("full_at", WEIGHTS)
def test_a_full_disk_leaves_the_pair_of_the_epoch_before(
    a_run: Path, monkeypatch: pytest.MonkeyPatch, full_at: str
) -> None:
    before, weights, real = contents(a_run), of_later(a_run), weight_files.write

    def write(state: object, path: Path) -> None:
        if path.name == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(state, path)

    monkeypatch.setattr(weight_files, "write", write)
    with pytest.raises(CheckpointError, match=f"a_run/{full_at} cannot be written: No space left on device$"):
        write_weights(weights, a_run)
    assert contents(a_run) == before
    assert not list(a_run.glob(".igfiqa-new-*"))


@pytest.mark.parametrize("name", [*WEIGHTS, "recipe.json"])
def test_a_file_of_another_run_is_refused_but_without_a_list_nothing_is_known(
    a_run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "recipe.json":
        document = json.loads((a_run / name).read_text())
        document["recipe"]["seed"] += 1
        (a_run / name).write_text(json.dumps(document))
    else:
        torch.save(of_later(a_run)[name], a_run / name)
    line = error_of(lambda: export([str(a_run), *PLUGIN]), capsys)
    assert f"{a_run / name} is of another moment than the files around it" in line
    (a_run / LIST_FILE).unlink()  # versions before had none
    assert open_source(a_run, plugins=[str(TINY_PLUGIN)]).regressor is not None


def test_weights_that_change_while_they_are_read_are_refused(
    a_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sources._head

    def head(path: Path) -> Any:
        write_weights(of_later(a_run), a_run)
        return real(path)

    monkeypatch.setattr(sources, "_head", head)
    with pytest.raises(ValueError, match="new weights to .* while they were read: try again"):
        open_source(a_run, plugins=[str(TINY_PLUGIN)])


def test_a_second_run_is_refused_at_once_and_changes_nothing(
    a_run: Path, recipe_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_output(a_run):
        before = contents(a_run)
        for run in (
            lambda: resume(recipe_path, a_run),
            lambda: train.main([str(recipe_path), f"output={a_run}", "overwrite=True"]),
            lambda: export([str(a_run), *PLUGIN]),
        ):
            line = error_of(run, capsys)
            assert f"{a_run} is being written to by process {os.getpid()} on " in line
            assert "(train.py): wait for its end, or name another folder" in line
        assert export([str(a_run), "--output", str(tmp_path / "elsewhere"), *PLUGIN]) == 0
        assert contents(a_run) == before
    assert not list(a_run.glob(".igfiqa.lock"))


def held_by_another(ranks: Ranks, folder: Path) -> str:
    with pytest.raises(ValueError, match="output=|written to") as caught, held_output(folder, ranks):
        pass
    return str(caught.value)


def test_all_ranks_end_where_another_run_holds_the_folder(tmp_path: Path) -> None:
    with held_output(tmp_path):
        first, second = on_ranks(2, held_by_another, tmp_path)
    assert "is being written to by process" in first
    assert f"the first process refuses output={tmp_path}" in second


def test_what_killed_writers_left_is_removed_at_the_next_start(a_run: Path, recipe_path: Path) -> None:
    ours = (".model.0123456789ab.pt", ".checkpoint_gpu_3.next.0123456789ab.pt", ".quality.0123456789ab.onnx")
    users = (".model.best.pt", ".quality_head.v1.pt")
    for name in (*ours, *users):
        (a_run / name).touch()
    (a_run / ".igfiqa-new-abcdefgh").mkdir()
    assert resume(recipe_path, a_run) == 0
    assert {path.name for path in a_run.glob(".*")} == {*users, LIST_FILE}


def test_an_export_into_the_runs_folder_is_of_its_moment(a_run: Path, tmp_path: Path) -> None:
    assert export([str(a_run), "--kind", "both", *PLUGIN]) == 0
    written = read_list(a_run)
    assert written["both.onnx"].number == written["model.pt"].number
    shutil.copytree(a_run, tmp_path / "copy")
    assert export([str(tmp_path / "copy"), *PLUGIN]) == 0


def test_a_full_disk_in_an_export_is_told_of_with_the_path(
    a_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("onnx.save_model", full)
    line = error_of(lambda: export([str(a_run), *PLUGIN]), capsys)
    assert "No space left on device" in line
    assert str(a_run / "quality.onnx") in line
