"""What each recipe key accepts. Defaults and explanations are in ``recipes/base.py``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_MANY = 2**31 - 1  # of anything that is counted
_MOST = 1e38  # float32, which all is computed in, holds little more


@dataclass(frozen=True)
class Accepts:
    """The values of one key: a test and the words for it. ``kind`` guides the reading of a command line."""

    test: Callable[[Any], bool]
    words: str
    kind: str = "value"  # "value", "text" or "list"
    most: float = math.inf

    def or_none(self) -> Accepts:
        return Accepts(lambda x: x is None or self.test(x), f"{self.words}, or None", self.kind, self.most)

    def excess(self, value: Any) -> str:
        """In words, the most that is taken, if a value is more than that."""
        exceeds = isinstance(value, (int, float)) and value > self.most
        return f", which is more than {self.most}" if exceeds else ""


def _is_integer(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


def _is_number(x: Any) -> bool:
    return (_is_integer(x) or isinstance(x, float)) and -_MOST <= x <= _MOST


def integer(low: int, high: int = _MANY) -> Accepts:
    words = f"an integer >= {low}" if high == _MANY else f"an integer in [{low}, {high}]"
    return Accepts(lambda x: _is_integer(x) and low <= x <= high, words, most=high)


def number(low: float, high: float = _MOST) -> Accepts:
    words = f"a number >= {low}" if high == _MOST else f"a number in [{low}, {high}]"
    return Accepts(lambda x: _is_number(x) and low <= x <= high, words, most=high)


def positive(high: float = _MOST) -> Accepts:
    words = "a number > 0" if high == _MOST else f"a number in (0, {high}]"
    return Accepts(lambda x: _is_number(x) and 0 < x <= high, words, most=high)


def choice(*options: str) -> Accepts:
    return Accepts(
        lambda x: isinstance(x, str) and x in options, f"one of {', '.join(map(repr, options))}", "text"
    )


def number_range(low: float, high: float = _MOST) -> Accepts:
    def test(x: Any) -> bool:
        return (
            isinstance(x, (tuple, list))
            and len(x) == 2
            and all(map(_is_number, x))
            and low <= x[0] <= x[1] <= high
        )

    return Accepts(test, f"two numbers (low, high) with {low} <= low <= high <= {high}", "list")


def list_of(item: Accepts, words: str) -> Accepts:
    return Accepts(lambda x: isinstance(x, (list, tuple)) and all(map(item.test, x)), words, "list")


def some_of(*options: str) -> Accepts:
    def test(x: Any) -> bool:
        is_list = isinstance(x, (list, tuple)) and all(isinstance(name, str) for name in x)
        return is_list and 0 < len(x) == sum(option in x for option in options)

    return Accepts(test, f"a list of some of {', '.join(map(repr, options))}, each once", "list")


def _is_margin_list(x: Any) -> bool:
    if not (isinstance(x, (tuple, list)) and len(x) == 3 and all(map(_is_number, x))):
        return False
    m1, m2, m3 = x
    return m1 == 1 and ((m3 == 0 and 0 <= m2 < math.pi) or (m2 == 0 and 0 < m3 <= 2))


flag = Accepts(lambda x: isinstance(x, bool), "True or False")
text = Accepts(lambda x: isinstance(x, str) and x != "", "a text", "text")
margin_list = Accepts(
    _is_margin_list, "(1.0, m, 0.0) for ArcFace with m in [0, pi), or (1.0, 0.0, m) for CosFace", "list"
)

IG_FIQA = {
    "loss_weight": number(0),
    "beta": positive(),
    "momentum_start": number(0, 1),
    "momentum_end": number(0, 1),
    "fractional_momentum": flag,
    "variance_weights": flag,
    "variance_init": choice("ones", "seen", "first_pass"),
    "sub_batch": choice("split", "mirror"),
    "detach_backbone": flag,
    "quality_bn": choice("shared", "clean"),
    "degradation_p": number(0, 1),
    "rescale": number_range(0, 1),
    "jitter": number_range(0),
    "erase_area": number_range(0, 1),
    "erase_aspect": number_range(0),
    "further_p": number(0, 1),
}
CR_FIQA = {name: IG_FIQA[name] for name in ("loss_weight", "beta", "detach_backbone", "degradation_p")}
SYNTHETIC = {
    "num_identities": integer(2),
    "images_per_identity": integer(1),
    "low_variance_share": number(0, 1),
    "clean_share": number(0, 1),
    "test_identities": integer(2),
    "test_images_per_identity": integer(2),
}
ON_TOP = {
    "reads": some_of("embedding", "norm", "maps"),
    "hidden": integer(0),
    "replicas": integer(0),
    "max_images": integer(2),
    "held_out": number(0, 0.9),
    "degraded_share": number(0, 1),
    "cache": text.or_none(),
}
LR_FACTOR = {"backbone": number(0), "classifier": number(0), "quality_head": number(0)}
BLOCKS = {
    "ig_fiqa": IG_FIQA,
    "cr_fiqa": CR_FIQA,
    "on_top": ON_TOP,
    "synthetic": SYNTHETIC,
    "lr_factor": LR_FACTOR,
}

PATHS = ("rec", "decoded_cache", "recognizer", "backbone_weights", "output")
ON_TOP_PATHS = ("cache",)

KEYS = {
    "rec": Accepts(
        text.test, 'a folder with train.rec and train.idx, a folder of identities, or "synthetic"', "text"
    ),
    "dataset": text,
    "num_classes": integer(2).or_none(),
    "num_image": integer(1).or_none(),
    "val_targets": list_of(text, "a list of names, such as ['lfw', 'cfp_fp']"),
    "held_out": number(0, 0.9).or_none(),
    "num_workers": integer(0),
    "decoded_cache": text.or_none(),
    "dali": flag,
    "dali_aug": flag,
    "recognizer": Accepts(
        text.test,
        "a pack of insightface such as buffalo_l, an ONNX file, a checkpoint, a run's folder or timm:NAME",
        "text",
    ).or_none(),
    "network": text.or_none(),
    "embedding_size": integer(1).or_none(),
    "backbone_weights": text.or_none(),
    "prototype_init": choice("random", "class_means"),
    "dropout": number(0, 1),
    "fp16": flag,
    "bf16": flag,
    "sync_bn": flag,
    "compile": flag,
    "margin": text.or_none(),
    "margin_list": margin_list,
    "margin_gradient": choice("exact", "straight_through"),
    "scale": positive(),
    "classifier": text,
    "sample_rate": number(0, 1),
    "interclass_filtering_threshold": number(0, 1),
    "quality_head": text.or_none(),
    "num_epoch": integer(1),
    "batch_size": integer(1),
    "gradient_acc": integer(1),
    "optimizer": choice("sgd", "adamw"),
    "lr": positive(),
    "momentum": number(0, 1),
    "weight_decay": number(0),
    "lr_schedule": choice("polynomial", "step"),
    "lr_decay_epochs": list_of(integer(1), "a list of epochs, such as [20, 28]"),
    "lr_decay": positive(1),
    "warmup_epoch": integer(-1),
    "clip_grad_norm": positive().or_none(),
    "seed": integer(0, 2**63 - 1),
    "device": text,
    "output": text.or_none(),
    "resume": Accepts(lambda x: isinstance(x, bool) or x == "auto", "True, False or 'auto'"),
    "overwrite": flag,
    "checkpoint_every": integer(1),
    "max_skipped": integer(0),
    "rank_timeout": positive(1e8),
    "save_all_states": flag,
    "frequent": integer(1),
    "verbose": integer(1),
    "erc_fmr": positive(1),
    "plugins": list_of(text, "a list of modules or .py files"),
    "using_wandb": flag,
    "wandb_key": text.or_none(),
    "wandb_entity": text.or_none(),
    "wandb_project": text.or_none(),
    "wandb_log_all": flag,
    "wandb_resume": Accepts(lambda x: isinstance(x, (bool, str)), "True, False or wandb's own word", "text"),
    "save_artifacts": flag,
    "suffix_run_name": text.or_none(),
    "notes": text.or_none(),
}
