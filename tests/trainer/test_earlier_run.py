"""A run in the folder of another one: refused, gone on from, or put in its place without a trace of it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from easydict import EasyDict

import train
from igfiqa_head.io.written_files import LIST_FILE
from igfiqa_head.ranks import Ranks
from tests.gloo import on_ranks
from tests.onnx_models import write_model
from trainer import earlier_run
from trainer.earlier_run import check_output, held_output
from trainer.recipe import RecipeError, load_recipe
from trainer.run import run

Recipe = Callable[..., EasyDict]
ROOT = Path(__file__).resolve().parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def start(recipe: Path, folder: Path, *overrides: str) -> int:
    return train.main([str(recipe), f"output={folder}", "num_epoch=1", *overrides])


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    return line


def test_the_same_command_again_is_refused_and_changes_nothing(
    a_run: Path, recipe_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(a_run)
    assert start(recipe_path, a_run, "rec=this_is_not_even_looked_at") == 1
    line = error_line(capsys)
    assert f"output={a_run} already holds a run (checkpoint_gpu_0.pt, model.pt, quality_head.pt, " in line
    assert all(way in line for way in ("resume=True", "output=", "overwrite=True"))
    assert line.index("resume=True") < line.index("overwrite=True")
    assert contents(a_run) == before


def test_every_file_of_a_run_is_known_as_one(finished_run: Path) -> None:
    known = {str(path.relative_to(finished_run)) for path in earlier_run._files(finished_run)}
    assert known == {*contents(finished_run)} - {LIST_FILE}


@pytest.mark.parametrize("name", ["model.pt", "checkpoint_gpu_3.pt", "checkpoint_gpu_0.next.pt", "both.onnx"])
def test_one_file_of_a_run_is_enough(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(ValueError, match=rf"already holds a run \({re.escape(name)}\)"):
        check_output(tmp_path, resume=False, overwrite=False)


def test_a_run_without_a_checkpoint_cannot_be_gone_on_from_and_so_it_says(a_run: Path) -> None:
    (a_run / "checkpoint_gpu_0.pt").unlink()
    for resume in (False, "auto"):
        with pytest.raises(ValueError, match="nothing of it can be gone on from: start in another") as caught:
            check_output(a_run, resume=resume, overwrite=False)
        assert "resume=True" not in str(caught.value)


def test_overwriting_leaves_nothing_of_the_old_run_and_all_of_what_is_not_its_own(
    a_run: Path, recipe_path: Path
) -> None:
    for name in ("fused.fp16.onnx", "checkpoint_gpu_1.pt", "erc.png"):
        (a_run / name).write_bytes(b"of the old run")
    others = {"notes.txt", "checkpoint_gpu_0.mine.pt", "tensorboard/notes", "old/model.pt"}
    (a_run / "old").mkdir()
    for name in others:
        (a_run / name).write_bytes(b"mine")
    before = contents(a_run)
    assert start(recipe_path, a_run, "quality_head=None", "seed=1", "overwrite=True") == 0
    after = contents(a_run)
    assert {name for name in after if after[name] == before.get(name)} == others
    assert not {"quality.onnx", "quality_head.pt", "fused.fp16.onnx", "erc.png"} & set(after)
    assert after["training.log"].count(b"; writing to") == 1
    assert len(list((a_run / "tensorboard").glob("events.*"))) == 1
    assert json.loads(after["recipe.json"])["recipe"]["seed"] == 1


@pytest.mark.parametrize("mistake", ["rec=nowhere", "val_targets=lfw", "network=r51", "device=tpu9"])
def test_a_run_that_cannot_begin_costs_nobody_an_earlier_one(
    a_run: Path, recipe_path: Path, mistake: str
) -> None:
    before = contents(a_run)
    assert start(recipe_path, a_run, "overwrite=True", mistake) == 1
    assert contents(a_run) == before


def test_a_mistake_leaves_no_run_behind_that_the_next_try_would_meet(
    recipe_path: Path, tmp_path: Path
) -> None:
    assert start(recipe_path, tmp_path / "run", "val_targets=lfw") == 1
    assert contents(tmp_path / "run") == {}
    assert start(recipe_path, tmp_path / "run", "val_targets=") == 0
    assert (tmp_path / "run" / "training.log").read_text().count("; writing to") == 1


def test_a_checkpoint_of_another_recipe_leaves_the_runs_recipe_alone(
    a_run: Path, recipe_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(a_run)
    assert start(recipe_path, a_run, "embedding_size=24", "resume=True") == 1
    assert "does not fit this recipe" in error_line(capsys)
    assert contents(a_run) == before


def test_a_finished_run_is_resumed_as_before(a_run: Path, recipe_path: Path) -> None:
    assert start(recipe_path, a_run, "num_epoch=2", "resume=auto") == 0
    log = (a_run / "training.log").read_text()
    assert "resumed in epoch 2" in log
    assert "epoch 2/2" in log


def test_resume_auto_goes_on_where_an_attempt_was_killed_before_its_first_checkpoint(
    a_run: Path, recipe_path: Path
) -> None:
    """torchrun --max-restarts does so; the weights are written shortly before the checkpoint."""
    for name in ("checkpoint_gpu_0.pt", "metrics.json", "erc.png", "quality_sheet.png"):
        (a_run / name).unlink()
    for path in a_run.glob("*.onnx"):
        path.unlink()
    assert start(recipe_path, a_run, "resume=auto") == 0
    with pytest.raises(ValueError, match="already holds a run"):
        check_output(a_run, resume=False, overwrite=False)


@pytest.mark.parametrize("on_top", [False, True])
@pytest.mark.parametrize("name", ["model.pt", "quality_head.pt", "recogniser.onnx"])
def test_weights_that_no_run_is_known_to_have_left_are_not_replaced(
    tmp_path: Path, name: str, on_top: bool
) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(
        ValueError, match=rf"already holds a run \({name}\): nothing of it can be gone on from"
    ):
        check_output(tmp_path, resume="auto", overwrite=False, has_checkpoints=not on_top)
    (tmp_path / "training.log").touch()  # a run opens it before it writes anything
    assert check_output(tmp_path, resume="auto", overwrite=False, has_checkpoints=not on_top).files == {}


def test_a_finished_run_that_is_resumed_says_that_it_is_done(a_run: Path, recipe_path: Path) -> None:
    assert start(recipe_path, a_run, "resume=True") == 0
    log = (a_run / "training.log").read_text()
    assert "all 1 epochs are done: results and files are written anew; for more epochs set num_epoch" in log
    assert "resumed in" not in log


def test_overwrite_and_resume_exclude_each_other(recipe_path: Path) -> None:
    for resume in ("True", "auto"):
        with pytest.raises(RecipeError, match=f"overwrite=True removes the run that resume={resume}"):
            load_recipe(recipe_path, ["overwrite=True", f"resume={resume}"])


@pytest.mark.parametrize("name", ["model.pt", "tensorboard"])
def test_links_are_not_followed(a_run: Path, tmp_path: Path, name: str) -> None:
    real = tmp_path / "elsewhere"
    shutil.move(a_run / name, real)
    (a_run / name).symlink_to(real)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"{name} is a link, which overwrite=True does not follow"):
        check_output(a_run, resume=False, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["training.log", "tensorboard"])
@pytest.mark.parametrize("resume", [True, "auto"])
def test_nothing_is_added_to_behind_a_link(
    a_run: Path, tmp_path: Path, name: str, resume: bool | str
) -> None:
    real = tmp_path / "elsewhere"
    shutil.move(a_run / name, real)
    (a_run / name).symlink_to(real)
    with pytest.raises(ValueError, match=f"{name} is a link, through which the run would write elsewhere"):
        check_output(a_run, resume=resume, overwrite=False)
    (a_run / name).unlink()
    (a_run / name).symlink_to(tmp_path / "not there yet")
    with pytest.raises(ValueError, match=f"{name} is a link"):
        check_output(a_run, resume=resume, overwrite=False)


def test_a_folder_of_that_name_is_no_file_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "model.pt").mkdir()
    with pytest.raises(ValueError, match="model.pt is no plain file, so no run wrote it"):
        check_output(tmp_path, resume=False, overwrite=True)


def test_a_file_that_was_written_since_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "recogniser.onnx").write_bytes(b"old")
    (tmp_path / "model.pt").write_bytes(b"old")
    earlier = check_output(tmp_path, resume=False, overwrite=True)
    (tmp_path / "new").write_bytes(b"new")
    os.replace(tmp_path / "new", tmp_path / "recogniser.onnx")
    earlier.remove()
    assert contents(tmp_path) == {"recogniser.onnx": b"new"}


@pytest.mark.parametrize("name", ["", "model.pt"])
def test_a_run_is_not_removed_by_what_starts_from_it(a_run: Path, name: str) -> None:
    needed = [None, str(a_run / name)]
    with pytest.raises(ValueError, match=r"is of the run in output=.*, which overwrite=True removes"):
        check_output(a_run, resume=False, overwrite=True, needed=needed)
    assert check_output(a_run, resume=True, overwrite=False, needed=needed).files == {}


def test_an_output_that_cannot_be_written_to_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ValueError, match=r"folder .*file cannot be made: File exists"),
        held_output(tmp_path / "file"),
    ):
        pass


def refused(ranks: Ranks, folder: Path) -> str:
    with pytest.raises(ValueError, match="output=") as caught:
        check_output(folder, resume=False, overwrite=False, ranks=ranks)
    return str(caught.value)


def test_all_ranks_end_where_the_first_one_refuses(a_run: Path) -> None:
    first, second = on_ranks(2, refused, a_run)
    assert "already holds a run" in first
    assert f"the first process refuses output={a_run}" in second


def test_on_top_of_a_recogniser_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recogniser = write_model(tmp_path / "mine.onnx", size=112)
    folder = tmp_path / "run"
    arguments = [
        str(ROOT / "recipes/on_top.py"), f"recognizer={recogniser}", f"output={folder}", "rec=synthetic",
        "synthetic.num_identities=8", "synthetic.images_per_identity=4", "on_top.held_out=0.3", "num_epoch=1",
        "on_top.replicas=1", "on_top.cache=None", "batch_size=16", "warmup_epoch=0", "erc_fmr=0.1",
    ]  # fmt: skip
    assert train.main(arguments) == 0
    before = contents(folder)
    known = {str(path.relative_to(folder)) for path in earlier_run._files(folder)}
    assert known == {*before} - {LIST_FILE}
    for resume in ("False", "True", "auto"):
        capsys.readouterr()
        assert train.main([*arguments, f"resume={resume}"]) == 1
        line = error_line(capsys)
        assert "already holds a run" in line
        assert "and it is finished: name another output=, or replace it with overwrite=True" in line
        assert "resume" not in line
    for needed in ("nothing.onnx", str(folder), str(folder / "both.onnx")):
        assert train.main([*arguments, "overwrite=True", f"recognizer={needed}"]) == 1
        assert contents(folder) == before
    assert train.main([*arguments, "overwrite=True", "on_top.degraded_share=0", "seed=2"]) == 0
    after = contents(folder)
    assert after["training.log"].count(b"; writing to") == 1
    assert all(after[name] != before.get(name) for name in after)


def test_a_joint_run_does_not_mix_with_one_on_top(tiny_recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "both.onnx").write_bytes(b"of a run on top")
    with pytest.raises(ValueError, match="already holds a run"):
        run(tiny_recipe())
