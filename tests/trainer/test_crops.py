"""Aligned crops from folders, .rec and .bin files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from igfiqa_head.io.aligned_faces import open_faces
from igfiqa_head.io.images import encode_image
from igfiqa_head.io.record_writer import write_records
from igfiqa_head.io.verification_bin import write_verification_bin
from trainer.crops import draw_crops, rendered_crops


def image(value: int, side: int = 112) -> NDArray[np.uint8]:
    return np.full((side, side, 3), value, np.uint8)


def encoded(value: int, side: int = 112) -> bytes:
    return encode_image(image(value, side), ".png")


def write(kind: str, folder: Path, side: int = 112) -> Path:
    """Images of the grey values 10, 20, 30 and 40."""
    values = [10, 20, 30, 40]
    images = [encoded(value, side) for value in values]
    if kind == "bin":
        write_verification_bin(folder / "set.bin", images, [True, False])
        return folder / "set.bin"
    if kind in ("rec", "rec folder"):
        write_records(folder, images, [0, 0, 1, 1])
        return folder / "train.rec" if kind == "rec" else folder
    (folder / "person").mkdir()
    (folder / "person" / "notes.txt").write_text("no image")
    for value, content in zip(values, images, strict=True):
        (folder / ("person" if value > 20 else ".") / f"{value}.png").write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", ["bin", "rec", "rec folder", "folder"])
def test_every_layout(tmp_path: Path, kind: str) -> None:
    images = open_faces(write(kind, tmp_path))
    assert len(images) == 4
    crops = draw_crops(images, 9)
    assert (crops.shape, crops.dtype) == ((4, 112, 112, 3), np.uint8)
    assert sorted(crops[:, 0, 0, 0]) == [10, 20, 30, 40]
    fewer = draw_crops(images, 2)
    np.testing.assert_array_equal(fewer, crops[:2])
    assert {tuple(draw_crops(images, 4, seed)[:, 0, 0, 0]) for seed in range(9)} != {tuple(crops[:, 0, 0, 0])}


@pytest.mark.parametrize("kind", ["bin", "rec", "folder"])
def test_images_of_another_size(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="is 80 x 80, expected 112 x 112"):
        draw_crops(open_faces(write(kind, tmp_path, side=80)), 4)


def test_nothing_to_open(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images in .*nowhere: expected a folder, a .rec or a .bin file"):
        open_faces(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no images in .* and its sub-folders"):
        open_faces(tmp_path)
    write("rec", tmp_path)
    (tmp_path / "train.idx").unlink()
    with pytest.raises(ValueError, match="train.rec needs its index train.idx beside it"):
        open_faces(tmp_path)


def test_damage_is_named(tmp_path: Path) -> None:
    write("folder", tmp_path)
    (tmp_path / "10.png").write_bytes(encoded(10)[:90])
    with pytest.raises(ValueError, match="10.png"):
        draw_crops(open_faces(tmp_path), 4)


def test_rendered_faces_are_of_different_people() -> None:
    crops = rendered_crops(5)
    assert (crops.shape, crops.dtype) == ((5, 112, 112, 3), np.uint8)
    assert len(np.unique(crops.reshape(5, -1), axis=0)) == 5
