"""What a run says of the images that it is given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from easydict import EasyDict

from igfiqa_head.io.images import encode_image
from igfiqa_head.io.record_writer import RecordWriter
from trainer import build_data
from trainer.decoded_cache import open_decoded
from trainer.log import LOGGER, logging_to
from trainer.run_files import write_text

Recipe = Callable[..., EasyDict]
NO_UTF8 = os.fsdecode(b"Andr\xe9")
PICTURE = encode_image(np.full((112, 112, 3), 90, np.uint8), ".png")


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE)


def test_pictures_that_are_left_out_are_told_with_names(
    tmp_path: Path, tiny_recipe: Recipe, log_lines: list[str]
) -> None:
    put(tmp_path / "faces/a/1.jpe", tmp_path / "faces/b/1.png", tmp_path / "faces/b/2.heic")
    build_data.build_train_set(tiny_recipe(f"rec={tmp_path / 'faces'}"))
    assert any("faces: pictures left out: 1: b/2.heic (" in line for line in log_lines)


def test_images_outside_of_the_header_are_told(
    tmp_path: Path, tiny_recipe: Recipe, log_lines: list[str]
) -> None:
    with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
        writer.write(0, (3, 3))
        for key in range(1, 5):
            writer.write(key, key % 2, PICTURE)
    build_data.build_train_set(tiny_recipe(f"rec={tmp_path}"))
    told = "train.rec: 2 images with keys from 3 on are left out: record 0 ends at key 3"
    assert any(told in line for line in log_lines)


def test_every_record_with_an_image_is_trained_on(tmp_path: Path, tiny_recipe: Recipe) -> None:
    """MXNet's im2rec with --pack-label writes arrays of labels and no header."""
    with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
        for key in range(6):
            writer.write(key, (5 - key,), PICTURE)
    dataset = build_data.build_train_set(tiny_recipe(f"rec={tmp_path}"))
    assert dataset.labels.tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes")
class TestNamesThatAreNoUTF8:
    def test_images_are_kept_decoded(self, tmp_path: Path, tiny_recipe: Recipe) -> None:
        root = tmp_path / f"faces {NO_UTF8}"
        put(root / NO_UTF8 / "1.png", root / "b" / "1.png")
        dataset = build_data.build_train_set(tiny_recipe(f"rec={root}"))
        for _ in range(2):
            faces = open_decoded(dataset, tmp_path / "cache", source=f"image_folder {root}", num_workers=0)
            np.testing.assert_array_equal(faces[0][0], dataset[0][0])

    def test_lines_and_files_of_a_run_bear_them(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with logging_to(tmp_path / "training.log") as begin:
            begin()
            LOGGER.warning("%s cannot be read", NO_UTF8)
        write_text(f"faces of {NO_UTF8}\n", tmp_path / "model_card.md")
        assert "Logging error" not in capsys.readouterr().err
        assert r"Andr\udce9 cannot be read" in (tmp_path / "training.log").read_text()
        assert (tmp_path / "model_card.md").read_text() == "faces of Andr\\udce9\n"
