"""Numbers are averaged, then told everywhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.log import LOGGER, RunLog, WandbWriter, Writer, logging_to


class Recorder(Writer):
    def __init__(self) -> None:
        self.written: list[tuple[int, Mapping[str, float]]] = []

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.written.append((step, values))

    def close(self) -> None:
        self.written.append((-1, {}))


def test_scalars_are_means_over_the_steps_between_lines() -> None:
    recorder = Recorder()
    log = RunLog(2, [recorder])
    for step, loss in enumerate([1.0, 3.0, 5.0, 9.0], start=1):
        statistics = {"loss": torch.tensor(loss), "learning_rate": torch.tensor(0.1)}
        log.step(step, statistics, images=10, seconds=0.5)
    log.close()
    assert [step for step, _ in recorder.written] == [2, 4, -1]
    assert [values["train/loss"] for _, values in recorder.written[:2]] == [2.0, 7.0]
    assert recorder.written[0][1]["train/images_per_second"] == 20.0


@pytest.mark.parametrize(("frequent", "written"), [(2, [2, 4, 6]), (3, [3, 6]), (6, [3, 6]), (9, [3, 6])])
def test_an_epoch_shorter_than_the_steps_between_lines_has_one(frequent: int, written: list[int]) -> None:
    recorder = Recorder()
    log = RunLog(frequent, [recorder])
    for epoch in range(2):
        with log.epoch(epoch, 2, 3, 0):
            for step in range(3 * epoch + 1, 3 * epoch + 4):
                statistics = {"loss": torch.tensor(float(step)), "learning_rate": torch.tensor(0.1)}
                log.step(step, statistics, images=10, seconds=0.5)
    assert [step for step, _ in recorder.written] == written
    if frequent > 3:
        assert [values["train/loss"] for _, values in recorder.written] == [2.0, 5.0]


def test_log_file_is_appended_to(tmp_path: Path) -> None:
    for message in ("first", "second"):
        with logging_to(tmp_path / "training.log") as begin:
            begin()
            LOGGER.info(message)
    lines = (tmp_path / "training.log").read_text().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["first", "second"]
    assert not [h for h in LOGGER.handlers if isinstance(h, logging.FileHandler)]


def test_a_name_neither_fakes_a_line_nor_commands_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path / "training.log") as begin:
        begin()
        LOGGER.warning("%s is damaged", "a\n12:00:00 all is well\x1b[2J\u202e\udcff.png")
    shown = r"a\n12:00:00 all is well\x1b[2J\u202e\udcff.png is damaged"
    for text in ((tmp_path / "training.log").read_text(), capsys.readouterr().err):
        (line,) = text.splitlines()
        assert line.endswith(shown)


class FakeWandb(SimpleNamespace):
    """Records what the client of Weights & Biases would send."""

    def __init__(self) -> None:
        super().__init__(calls=[], run=self)

    def login(self, key: str) -> None:
        self.calls.append(("login", key))

    def init(self, **settings: Any) -> FakeWandb:
        self.calls.append(("init", settings))
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append(("log", step, values))

    def finish(self) -> None:
        self.calls.append(("finish",))

    def Image(self, path: str) -> tuple[str, str]:  # noqa: N802  the client's own name
        return ("image of", path)

    def Artifact(self, name: str, type: str) -> SimpleNamespace:  # noqa: N802  the client's own name
        return SimpleNamespace(add_file=lambda path: self.calls.append(("file", path)))

    def log_artifact(self, artifact: object) -> None:
        self.calls.append(("artifact",))


def wandb_writer(save_artifacts: bool) -> WandbWriter:
    return WandbWriter(
        key="k", entity="e", project="p", resume=False, suffix="mine", notes="n",
        save_artifacts=save_artifacts, config={"lr": 0.1},
    )  # fmt: skip


def test_wandb_gets_settings_numbers_pictures_and_models(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    writer = wandb_writer(save_artifacts=True)
    writer.write(3, {"loss": 1.0})
    writer.model_saved(tmp_path / "model.pt", 2)
    writer.picture(4, "erc", tmp_path / "erc.png")
    writer.close()
    names = [call[0] for call in fake.calls]
    assert names == ["login", "init", "log", "file", "artifact", "log", "finish"]
    assert fake.calls[5] == ("log", 4, {"erc": ("image of", str(tmp_path / "erc.png"))})
    settings = fake.calls[1][1]
    assert (settings["entity"], settings["project"], settings["config"]) == ("e", "p", {"lr": 0.1})
    assert settings["name"].endswith("_mine")
    assert fake.calls[2] == ("log", 3, {"loss": 1.0})


def test_wandb_keeps_models_to_itself_unless_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    wandb_writer(save_artifacts=False).model_saved(tmp_path / "model.pt", 2)
    assert [call[0] for call in fake.calls] == ["login", "init"]


def test_missing_wandb_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"pip install .*wandb"):
        wandb_writer(save_artifacts=False)
