"""Labels without images change nothing: holes between labels, and a num_classes larger than the data."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from easydict import EasyDict

from igfiqa_head.io.images import encode_image
from igfiqa_head.io.record_writer import RecordWriter
from plugins.datasets.synthetic import SyntheticFaces
from tests.gloo import on_ranks
from tests.trainer.test_several_ranks import assert_agree, train
from tests.trainer.trainers import make
from trainer import build_data

Recipe = Callable[..., EasyDict]
PEOPLE, EACH, STEPS = 6, 8, 8
COMMON = (
    "network=tiny_group_norm", "dropout=0", "val_targets=", "num_epoch=3", "lr=0.02", "batch_size=16",
)  # fmt: skip
HOLES: dict[str, Callable[[int], int]] = {"some": lambda y: y + y // 3, "every other": lambda y: 2 * y + 1}


def write(folder: Path, number: Callable[[int], int]) -> Path:
    """The same faces of the same people; only the numbers of their labels differ."""
    faces = SyntheticFaces(PEOPLE, EACH, seed=7)
    folder.mkdir()
    with RecordWriter(folder / "train.rec", folder / "train.idx") as records:
        for index in range(len(faces)):
            image, label = faces[index]
            records.write(index, float(number(label)), encode_image(image, ".png"))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("labels")
    numbers = {"contiguous": lambda y: y, **HOLES}
    return {name: write(root / name.replace(" ", "_"), number) for name, number in numbers.items()}


def settings(name: str, folders: dict[str, Path]) -> tuple[str, ...]:
    folder = folders.get(name, folders["contiguous"])
    return f"rec={folder}", *(("num_classes=50",) if name == "surplus" else ())


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    "init",
    ["ig_fiqa.variance_init=ones", "ig_fiqa.variance_init=seen", "ig_fiqa.variance_init=first_pass"],
)
def test_training_does_not_depend_on_them(
    tiny_recipe: Recipe, tmp_path: Path, folders: dict[str, Path], init: str, size: int
) -> None:
    def trained(name: str, *, in_two_parts: bool = False) -> list[dict[str, Any]]:
        output = f"output={tmp_path / name.replace(' ', '_')}"
        config = tiny_recipe(*COMMON, init, output, *settings(name, folders))
        if in_two_parts:
            on_ranks(size, train, config, 0, 3)
        return on_ranks(size, train, config, 3 if in_two_parts else 0, STEPS)

    expected = trained("contiguous")
    assert expected[0]["losses"][-1]["weight_mean"] > 0.3
    for name in (*HOLES, "surplus"):
        found = trained(name, in_two_parts=name == "surplus")
        for rank, known in zip(found, expected, strict=True):
            losses = known["losses"][-len(rank["losses"]) :]
            torch.testing.assert_close(rank["losses"], losses, rtol=1e-12, atol=0)
            for part in ("backbone", "prototypes", "head", "v", "weights"):
                torch.testing.assert_close(rank[part], known[part], rtol=1e-12, atol=1e-15)
    if size > 1:
        config = tiny_recipe(*COMMON, init, f"output={tmp_path / 'alone'}", *settings("surplus", folders))
        assert_agree(on_ranks(1, train, config, 0, STEPS)[0], expected)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("contiguous", None),
        ("every other", "has images of 6 classes, but there are labels for 12"),
        ("surplus", "has images of 6 classes, but num_classes is 50"),
    ],
)
def test_the_counts_are_told(
    tiny_recipe: Recipe, folders: dict[str, Path], log_lines: list[str], name: str, told: str | None
) -> None:
    trainer = make(tiny_recipe(*COMMON, *settings(name, folders)))
    assert trainer.num_classes == len(trainer.classifier.weight) == PEOPLE  # type: ignore[arg-type]
    lines = [line for line in log_lines if "take no part" in line]
    assert len(lines) == (told is not None)
    assert not told or re.search(told, lines[0])


def test_a_label_above_num_classes_is_refused_still(tiny_recipe: Recipe, folders: dict[str, Path]) -> None:
    config = tiny_recipe(*COMMON, *settings("every other", folders), "num_classes=11")
    with pytest.raises(ValueError, match="has a label 11, but num_classes is 11"):
        build_data.build_train_set(config)


def test_classes_are_those_with_images_however_many_the_files_state(
    tiny_recipe: Recipe, tmp_path: Path
) -> None:
    folder = write(tmp_path / "millions", lambda y: 16_000_000 + y)
    (folder / "property").write_text("999999999,112,112\n")
    assert make(tiny_recipe(*COMMON, f"rec={folder}")).num_classes == PEOPLE
