from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from easydict import EasyDict

import train
from trainer.log import LOGGER
from trainer.recipe import load_recipe

TINY_PLUGIN = Path(__file__).resolve().parent.parent / "tiny_plugin.py"
RECIPE = f"""
from easydict import EasyDict as edict

config = edict()
config.plugins = [{str(TINY_PLUGIN)!r}]
config.network = "tiny"
config.embedding_size = 16
config.dropout = 0.2
config.rec = "synthetic"
config.synthetic = edict(num_identities=6, images_per_identity=8)
config.synthetic.update(test_identities=5, test_images_per_identity=5)
config.val_targets = ["synthetic"]
config.quality_head = "ig_fiqa"
config.num_epoch = 2
config.batch_size = 12
config.num_workers = 0
config.lr = 0.01
config.frequent = 2
config.device = "cpu"
"""


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """A recipe that trains in about a second."""
    path = tmp_path / "tiny.py"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of that recipe, of one epoch; not to be changed."""
    folder = tmp_path_factory.mktemp("finished_run")
    (folder / "tiny.py").write_text(RECIPE)
    assert train.main([str(folder / "tiny.py"), f"output={folder / 'run'}", "num_epoch=1"]) == 0
    return folder / "run"


@pytest.fixture
def a_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(finished_run, tmp_path / "a_run"))


@pytest.fixture
def tiny_recipe(recipe_path: Path, tmp_path: Path) -> Callable[..., EasyDict]:
    """``tiny_recipe("key=value", ...)`` loads that recipe with an output folder of its own."""

    def load(*overrides: str) -> EasyDict:
        return load_recipe(recipe_path, [f"output={tmp_path / 'run'}", *overrides])

    return load


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """What is logged during the test."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield lines
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(level)
