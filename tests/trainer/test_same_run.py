"""Processes that were started on different things end at once, all of them, with one line that says which."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from easydict import EasyDict

from igfiqa_head.io.images import encode_image
from igfiqa_head.ranks import ALONE, Ranks
from tests.gloo import free_port, on_ranks, start
from trainer import build, same_run
from trainer.same_run import check_same_data, check_same_network, check_same_recipe

Recipe = Callable[..., EasyDict]


class Faces:
    """A data set of black faces, but for one."""

    num_classes = 2

    def __init__(self, labels: Sequence[int], shade: int = 0) -> None:
        self.labels, self.shade = np.array(labels), shade

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.full((112, 112, 3), self.shade, np.uint8), self.labels.item(index)


def message(check: Callable[..., None], *arguments: object) -> str:
    try:
        check(*arguments)
    except ValueError as error:
        return str(error)
    return ""


def recipes_compared(ranks: Ranks, configs: list[EasyDict], versions: list[str]) -> str:
    same_run.versions = lambda: {"torch": versions[ranks.rank]}
    build.load_plugins(configs[ranks.rank])
    return message(check_same_recipe, configs[ranks.rank], ranks)


def data_compared(ranks: Ranks, given: list[list[Faces]]) -> list[str]:
    return [message(check_same_data, faces, ranks) for faces in given[ranks.rank]]


def networks_compared(ranks: Ranks, configs: list[EasyDict]) -> str:
    return message(check_same_network, configs[ranks.rank], ranks)


def test_other_values_of_keys_are_named_on_all_ranks(tiny_recipe: Recipe) -> None:
    other = tiny_recipe("lr=0.5", "ig_fiqa.beta=2", "margin_list=1,0,0.4")
    for answer in on_ranks(2, recipes_compared, [tiny_recipe(), other], ["2", "2"]):
        assert "lr is 0.01 on rank 0 and 0.5 on rank 1" in answer
        assert "ig_fiqa.beta is 0.5 on rank 0 and 2 on rank 1" in answer
        assert "margin_list is [1.0, 0.5, 0.0] on rank 0 and [1, 0, 0.4] on rank 1" in answer


def test_what_may_differ_between_machines_does(tiny_recipe: Recipe) -> None:
    elsewhere = ("rec=elsewhere", "num_workers=7", "decoded_cache=/scratch", "wandb_key=secret")
    assert on_ranks(2, recipes_compared, [tiny_recipe(), tiny_recipe(*elsewhere)], ["2", "2"]) == ["", ""]


def test_other_versions_and_other_code_of_a_plugin_are_named(tiny_recipe: Recipe, tmp_path: Path) -> None:
    configs = [tiny_recipe(), tiny_recipe()]
    for number, config in enumerate(configs):
        (tmp_path / str(number)).mkdir()
        plugin = tmp_path / str(number) / "mine.py"
        plugin.write_text(f"VALUE = {number}")
        config.plugins = [str(plugin)]
    for answer in on_ranks(2, recipes_compared, configs, ["2.10", "2.14"]):
        assert "version.torch is '2.10' on rank 0 and '2.14' on rank 1" in answer
        assert "the code of plugins is " in answer
        assert "the code of igfiqa" not in answer


def test_other_data_are_named_on_all_ranks() -> None:
    one = Faces([0, 0, 1, 1])
    others = [Faces([0, 0, 1]), Faces([0, 1, 1, 1]), Faces([0, 0, 1, 1], shade=1), one]
    for fewer, of_others, brighter, same in on_ranks(2, data_compared, [[one] * 4, others]):
        assert "the number of images is 4 on rank 0 and 3 on rank 1" in fewer
        assert "the digest of the labels is " in of_others
        assert "the digest of a few images is " in brighter
        assert same == ""


def test_weights_of_another_size_are_named(tiny_recipe: Recipe) -> None:
    configs = [tiny_recipe(), tiny_recipe("embedding_size=24")]
    for answer in on_ranks(2, networks_compared, configs):
        assert "embedding_size is 16 on rank 0 and 24 on rank 1" in answer


def test_one_process_compares_nothing() -> None:
    check_same_data(None, ALONE)
    check_same_recipe(EasyDict(), ALONE)


def train_apart(arguments: list[str], rank: int, port: int, errors: Path) -> None:
    import train

    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "localhost"}
    with open(errors, "w") as sys.stderr:
        status = train.main(arguments)
    sys.exit(status)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("output=elsewhere", "output is "),
        ("embedding_size=24", "embedding_size is 16 on rank 0 and 24 on rank 1"),
        ("rec=FEWER", "the number of images is 12 on rank 0 and 11 on rank 1"),
    ],
)
def test_a_run_on_different_things_ends_with_one_line_on_each_rank(
    recipe_path: Path, tmp_path: Path, override: str, said: str
) -> None:
    image = encode_image(np.zeros((112, 112, 3), np.uint8), ".png")
    for folder, missing in (("all", 0), ("FEWER", 1)):
        for number in range(12 - missing):
            path = tmp_path / folder / str(number % 3) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
    override = override.replace("FEWER", str(tmp_path / "FEWER"))
    common = [str(recipe_path), f"rec={tmp_path / 'all'}", f"output={tmp_path / 'run'}", "val_targets="]
    common += ["held_out=0", "batch_size=2", "network=tiny_group_norm", "rank_timeout=60"]
    port, errors = free_port(), [tmp_path / f"errors_{rank}" for rank in range(2)]
    processes = [
        start(train_apart, [*common, *([override] if rank else [])], rank, port, errors[rank])
        for rank in range(2)
    ]
    for rank, process in enumerate(processes):
        process.join(60)
        assert process.exitcode == 1
        (line,) = [x for x in errors[rank].read_text().splitlines() if "error" in x or "Traceback" in x]
        assert said in line
        assert line.startswith("process 1: error: the processes do" if rank else "error: the processes do")
    assert not (tmp_path / "run" / "recipe.json").exists()
