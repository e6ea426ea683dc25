"""Trainers as the recipe system builds them, and the comparison of what they have learned."""

from __future__ import annotations

from pathlib import Path

import torch
from easydict import EasyDict
from torch import Tensor

from igfiqa_head.ranks import ALONE, Ranks
from trainer import build, build_data
from trainer.log import RunLog
from trainer.loop import Trainer


def make(config: EasyDict, ranks: Ranks = ALONE) -> Trainer:
    build.load_plugins(config)
    Path(config.output).mkdir(parents=True, exist_ok=True)
    dataset = build_data.build_train_set(config)
    return build.build_trainer(config, dataset, RunLog(1000, bars=False), build.build_device(config), ranks)


def assert_same(a: object, b: object) -> None:
    """Equal to the last bit, in all tensors of nested dicts and lists."""
    if isinstance(a, Tensor):
        assert torch.equal(a, b)  # type: ignore[arg-type]
    elif isinstance(a, dict):
        assert a.keys() == b.keys()  # type: ignore[attr-defined]
        for key in a:
            assert_same(a[key], b[key])  # type: ignore[index]
    elif isinstance(a, (list, tuple)):
        for x, y in zip(a, b, strict=True):  # type: ignore[call-overload]
            assert_same(x, y)
    else:
        assert a == b
