"""What can go wrong in a run: it ends with one message, and goes on later as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from easydict import EasyDict

from igfiqa_head.io.written_files import LIST_FILE
from igfiqa_head.ranks import Ranks
from tests.gloo import free_port, on_ranks, start
from tests.trainer.trainers import assert_same, make
from trainer import process_group
from trainer.checkpoint import checkpoint_path, has_checkpoint, load_checkpoint, save_checkpoint
from trainer.loop import Trainer
from trainer.position import Position
from trainer.process_group import RankLostError, agree_on_name, training_processes
from trainer.torch_files import CheckpointError, load_safely

Recipe = Callable[..., EasyDict]
ROOT = Path(__file__).resolve().parents[2]
KILLS = 20


def go_on(config: EasyDict, rank: int, size: int, port: int) -> None:
    """A process of a run, as torchrun would start it; its exit status is 0 when the run is complete."""
    torch.set_num_threads(1)
    numbers = {"RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ |= {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "localhost"}
    try:
        with training_processes(torch.device("cpu"), config.rank_timeout) as ranks:
            trainer = make(config, ranks)
            if has_checkpoint(trainer.output):
                trainer.resume()
            trainer.fit()
    except RankLostError:
        sys.exit(3)


def processes(config: EasyDict, size: int) -> list[BaseProcess]:
    port = free_port()
    return [start(go_on, config, rank, size, port) for rank in range(size)]


def final_state(folder: Path, size: int) -> list[dict[str, Any]]:
    states = [load_safely(checkpoint_path(folder, rank)) for rank in range(size)]
    for state in states:
        state.pop("written_by")
    return states


@pytest.mark.parametrize("size", [1, 2])
def test_a_run_killed_at_any_moment_goes_on_to_the_same_end(
    tiny_recipe: Recipe, tmp_path: Path, size: int
) -> None:
    """SIGKILL to one process at a time; the others must end by themselves."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    overrides = (
        "network=tiny_group_norm",
        "num_epoch=3",
        "checkpoint_every=1",
        "rank_timeout=10",
        f"batch_size={12 // size}",
    )
    for _ in range(2):  # the first one waits until the fork server has imported torch
        shutil.rmtree(whole, ignore_errors=True)
        began = time.monotonic()
        for process in processes(tiny_recipe(*overrides, f"output={whole}"), size):
            process.join(60)
            assert process.exitcode == 0
        duration = time.monotonic() - began
    expected = final_state(whole, size)
    draw = random.Random(size)
    config = tiny_recipe(*overrides, f"output={parts}")
    kills, completed = 0, 0
    while kills < KILLS or not completed:
        running = processes(config, size)
        victim = draw.choice(running)
        if kills < KILLS:
            victim.join(draw.uniform(0, duration))
        else:
            victim.join(60)
        victim.kill()
        for process in running:
            process.join(60)
            assert process.exitcode in (0, 3, -signal.SIGKILL)
        kills += victim.exitcode == -signal.SIGKILL
        if all(process.exitcode == 0 for process in running):
            assert_same(final_state(parts, size), expected)
            assert [path.name for path in parts.glob(".*")] == [LIST_FILE], (
                "what killed processes left is removed"
            )
            shutil.rmtree(parts)
            completed += 1


def fill_the_disk(after: int) -> None:
    """From now on no file of this process can be longer."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def write_on_full_disk(ranks: Ranks, config: EasyDict, full_on: int) -> str:
    trainer = make(config, ranks)
    trainer.save()
    if ranks.rank == full_on:
        fill_the_disk(after=1000)
    try:
        trainer.fit()
    except CheckpointError as error:
        return str(error)
    return "nothing was raised"


@pytest.mark.parametrize(("size", "full_on"), [(1, 0), (2, 0), (2, 1)])
def test_a_full_disk_leaves_the_previous_checkpoint(
    tiny_recipe: Recipe, tmp_path: Path, size: int, full_on: int
) -> None:
    config = tiny_recipe("batch_size=6", "checkpoint_every=3")
    messages = on_ranks(size, write_on_full_disk, config, full_on)
    assert "the checkpoint of step 3 cannot be written" in messages[full_on]
    assert "File too large" in messages[full_on]
    assert all("cannot be written" in message for message in messages)
    assert [has_checkpoint(Path(config.output)), *Path(config.output).glob("*.next.pt")] == [True]
    trainer = make(config)
    trainer.resume()
    assert trainer.position.global_step == 0


def test_a_dead_worker_ends_the_run(recipe_path: Path, tmp_path: Path) -> None:
    process = start(train_and_kill_workers, str(recipe_path), tmp_path / "run", tmp_path / "errors.txt")
    process.join(60)
    assert process.exitcode == 1
    error = (tmp_path / "errors.txt").read_text()
    assert "error: a process that loads images died" in error
    assert "Traceback" not in error
    position = load_checkpoint(tmp_path / "run", {})
    assert position.global_step in (4, 8)  # the last epoch's end; the workers were ahead


def train_and_kill_workers(recipe: str, output: Path, errors: Path) -> None:
    import train

    original = Trainer.step

    def step(self: Trainer, batches: list[Any]) -> Any:
        if self.position.global_step == 5:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid or 0, signal.SIGKILL)
        return original(self, batches)

    Trainer.step = step  # type: ignore[method-assign]
    with open(errors, "w") as sys.stderr:
        status = train.main([recipe, f"output={output}", "num_workers=2", "num_epoch=400", "val_targets="])
    sys.exit(status)


def train_until_stopped(recipe: str, output: Path, errors: Path) -> None:
    import train

    os.setsid()
    with open(errors, "w") as sys.stderr:
        status = train.main([recipe, f"output={output}", "num_workers=2", "num_epoch=4000", "val_targets="])
    sys.exit(status)


def test_sigterm_to_all_processes_leaves_the_workers_to_the_last_step(
    recipe_path: Path, tmp_path: Path
) -> None:
    """torchrun and cluster managers send it to the workers, too."""
    process = start(train_until_stopped, str(recipe_path), tmp_path / "run", tmp_path / "errors.txt")
    deadline = time.monotonic() + 60
    while not has_checkpoint(tmp_path / "run"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid or 0, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM, (tmp_path / "errors.txt").read_text()
    assert "stopped by SIGTERM; state saved in" in (tmp_path / "errors.txt").read_text()


def test_processes_find_each_other_beside_the_traces_of_others() -> None:
    """Of earlier starts in the same store, killed at any moment."""
    store = dist.HashStore()
    for rank in range(3):
        store.set(f"number of {rank}", "of a process that is gone")

    def names() -> list[str]:
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(lambda rank: agree_on_name(store, rank, 3, 20), range(3)))

    first, second = names(), names()
    assert len(set(first)) == len(set(second)) == 1
    assert first != second
    with pytest.raises(RuntimeError, match=r"timed out waiting for ranks \[1, 2\]"):
        agree_on_name(store, 0, 3, 0.1)


def wait_for_a_silent_rank(rank: int, port: int, errors: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    try:
        with training_processes(torch.device("cpu"), 2) as ranks:
            ranks.sum(torch.ones(3))
            if rank == 1:
                time.sleep(600)
            ranks.sum(torch.ones(3))
    except RankLostError as error:
        errors.write_text(str(error))
        sys.exit(3)


def test_a_silent_rank_ends_the_others_within_the_timeout(tmp_path: Path) -> None:
    port, errors = free_port(), tmp_path / "errors.txt"
    waiting, silent = (start(wait_for_a_silent_rank, rank, port, errors) for rank in range(2))
    waiting.join(30)
    assert waiting.exitcode == 3
    assert "did not answer within 2 s (rank_timeout)" in errors.read_text()
    silent.kill()


def test_joining_ends_within_the_timeout_whatever_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gloo waits five times as long for a connection as it is told."""
    for name, value in {
        "RANK": 0,
        "WORLD_SIZE": 1,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": free_port(),
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(process_group, "world_size", lambda: 2)
    released = threading.Event()
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: released.wait(60))
    began = time.monotonic()
    with (
        pytest.raises(RankLostError, match=r"within 1 s \(rank_timeout\): one of them does not answer"),
        training_processes(torch.device("cpu"), 1),
    ):
        pass
    released.set()
    assert time.monotonic() - began < 5


def test_the_transports_words_are_told_without_its_calls() -> None:
    error = dist.DistBackendError(
        "NCCL error in: init.cpp:3, unhandled system error\nLast error:\nno room in /dev/shm\n"
        "Exception raised from initComm at init.cpp:3 (most recent call first):\nframe #0: 0x7f"
    )
    said = process_group._reason(error)
    assert said == "NCCL error in: init.cpp:3, unhandled system error Last error: no room in /dev/shm"
    assert process_group._reason(RuntimeError()) == "RuntimeError"


def test_files_of_two_moments_are_no_checkpoint(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Of each rank's files the latest that all ranks have wrote together is taken."""
    folder = tmp_path / "run"
    config = tiny_recipe("batch_size=6", f"output={folder}")
    on_ranks(2, save_at_steps, config, [1])
    old = {path.name: path.read_bytes() for path in folder.glob("checkpoint_*")}
    on_ranks(2, save_at_steps, config, [2])
    new = {path.name: path.read_bytes() for path in folder.glob("checkpoint_*")}
    first, second = "checkpoint_gpu_0.pt", "checkpoint_gpu_1.pt"

    def found(**files: bytes) -> int:
        """Which step is loaded; a set that is found is tidied up."""
        for path in folder.glob("checkpoint_*"):
            path.unlink()
        for name, content in files.items():
            (folder / f"{name.replace('__', '.')}.pt").write_bytes(content)
        step = load_checkpoint(folder, {}).global_step
        for name, content in {1: old, 2: new}[step].items():
            assert (folder / name).read_bytes() == content
        return step

    # Killed before the second rank had written, between the renames, and after both.
    at = {"checkpoint_gpu_0": old[first], "checkpoint_gpu_1": old[second]}
    assert found(**at, checkpoint_gpu_0__next=new[first]) == 1
    assert found(**at, checkpoint_gpu_0__next=new[first], checkpoint_gpu_1__next=new[second]) == 2
    at["checkpoint_gpu_0"] = new[first]
    assert found(**at, checkpoint_gpu_1__next=new[second]) == 2
    assert found(checkpoint_gpu_0=new[first], checkpoint_gpu_1=new[second]) == 2
    with pytest.raises(CheckpointError, match="has checkpoint_gpu_0.pt, checkpoint_gpu_1.pt, but not the"):
        found(**at)
    with pytest.raises(CheckpointError, match="let output be a folder that all machines share"):
        found(checkpoint_gpu_1=new[second])
    assert has_checkpoint(folder)

    # Of a first checkpoint, nothing is left if one rank alone could write.
    with pytest.raises(CheckpointError, match="nothing to resume"):
        found(checkpoint_gpu_1__next=new[second])
    assert not has_checkpoint(folder)


def save_at_steps(ranks: Ranks, config: EasyDict, steps: list[int]) -> None:
    trainer = make(config, ranks)
    for step in steps:
        trainer.position.global_step = step
        save_checkpoint(trainer.output, trainer.position, trainer._parts(), ranks)


def test_the_latest_is_the_furthest_whatever_a_step_draws(tiny_recipe: Recipe) -> None:
    """Steps of more images are fewer: the second file has the lower step and more progress."""
    trainer = make(tiny_recipe())
    folder = trainer.output
    save_checkpoint(folder, Position(0, 5, 5, 6), trainer._parts())
    checkpoint_path(folder).rename(folder / "earlier")
    save_checkpoint(folder, Position(0, 3, 3, 12), trainer._parts())
    checkpoint_path(folder).rename(folder / "checkpoint_gpu_0.next.pt")
    (folder / "earlier").rename(checkpoint_path(folder))
    assert load_checkpoint(folder, trainer._parts()) == Position(0, 3, 3, 12)


def resume_apart(ranks: Ranks, configs: list[EasyDict]) -> str:
    trainer = make(configs[ranks.rank], ranks)
    with pytest.raises(CheckpointError) as error:
        trainer.resume()
    return str(error.value)


def test_processes_that_see_different_folders_are_told(tiny_recipe: Recipe, tmp_path: Path) -> None:
    configs = [tiny_recipe("batch_size=6", f"output={tmp_path / name}") for name in "ab"]
    for config in configs:
        on_ranks(2, save_at_steps, config, [1])
    for message in on_ranks(2, resume_apart, configs):
        assert "the processes find different checkpoints in" in message


@pytest.mark.slow
def test_torchrun_restarts_a_run_whose_process_was_killed(recipe_path: Path, tmp_path: Path) -> None:
    def command(output: str) -> list[str]:
        options = ["--nproc_per_node=2", "--max-restarts=2", f"--master_port={free_port()}"]
        recipe = [str(recipe_path), f"output={tmp_path / output}", "num_epoch=60", "checkpoint_every=1"]
        keys = ["batch_size=6", "resume=auto", "val_targets=", "network=tiny_group_norm", "rank_timeout=60"]
        return [
            sys.executable,
            "-m",
            "torch.distributed.run",
            *options,
            str(ROOT / "train.py"),
            *recipe,
            *keys,
        ]

    whole = subprocess.run(command("whole"), capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    killed = subprocess.Popen(command("parts"), stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not checkpoint_path(tmp_path / "parts", 1).exists():
        assert killed.poll() is None
        time.sleep(0.1)
    (children,) = Path(f"/proc/{killed.pid}/task/{killed.pid}").glob("children")
    os.kill(int(children.read_text().split()[1]), signal.SIGKILL)
    _, error = killed.communicate(timeout=200)
    assert killed.returncode == 0, error
    log = (tmp_path / "parts" / "training.log").read_text()
    assert "resumed in epoch" in log
    assert_same(final_state(tmp_path / "parts", 2), final_state(tmp_path / "whole", 2))
