"""What a checkpoint says is checked before it is believed: one error, or the run as it would have been."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from easydict import EasyDict
from torch import Tensor

from tests.trainer.trainers import assert_same, make
from trainer.checkpoint import checkpoint_path, save_checkpoint
from trainer.position import Position
from trainer.torch_files import CheckpointError, load_safely

Recipe = Callable[..., EasyDict]
Place = tuple[Any, ...]
OPTIMIZERS = ("sgd", "adamw")


def of_tensor(change: Callable[[Tensor], Any]) -> Callable[[Any], Any]:
    """A wrong value made from the right one, where this is a tensor, else from another."""
    return lambda value: change(value.clone() if isinstance(value, Tensor) else torch.ones(2, 3))


def with_first(number: float) -> Callable[[Any], Any]:
    def change(tensor: Tensor) -> Tensor:
        wrong = tensor.to(tensor.dtype if tensor.is_floating_point() else torch.float32)
        wrong.view(-1)[0] = number
        return wrong

    return of_tensor(change)


def nested(value: Any) -> Any:
    for _ in range(100):
        value = [value]
    return value


KINDS: list[Callable[[Any], Any]] = [
    *(lambda _, value=value: value for value in (None, True, -1, 0, 10**9, 2**63, -(2**70), 10**5000)),
    *(lambda _, value=value: value for value in (1.5, float("nan"), float("inf"), "", "text", b"bytes")),
    *(lambda _, value=value: value for value in ([], {}, [None], {"a": 1}, {3: None})),
    nested,
    lambda _: torch.zeros(3),
    lambda _: torch.zeros(0, 10**9),
    of_tensor(lambda x: torch.stack([x, x])),
    of_tensor(lambda x: x.reshape(-1)[:-1]),
    of_tensor(lambda x: x.reshape(-1)[:1].clone().expand(2, *x.shape)),
    of_tensor(lambda x: x.to(torch.int32)),
    of_tensor(lambda x: x.to(torch.complex64)),
    of_tensor(lambda x: x.to(torch.float64)),
    of_tensor(lambda x: x.to(torch.float16)),
    with_first(float("nan")),
    with_first(float("-inf")),
    of_tensor(lambda x: x.float().to_sparse()),
    of_tensor(lambda x: x.to("meta")),
]


def places(state: Any, place: Place = ()) -> Iterator[Place]:
    """Of all entries of nested dicts and lists."""
    entries = (
        state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    )
    for key, value in entries:
        yield (*place, key)
        yield from places(value, (*place, key))


def replaced(state: dict[str, Any], place: Place, kind: Callable[[Any], Any]) -> dict[str, Any]:
    state = copy.deepcopy(state)
    inner: Any = state
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = kind(inner[place[-1]])
    return state


class Run:
    """A run that is resumed in the middle of its second epoch, again and again."""

    def __init__(self, config: EasyDict) -> None:
        torch.manual_seed(0)
        self.trainer = make(config)
        self.path = checkpoint_path(self.trainer.output)
        self._images = self.trainer.position.images_per_step
        self._steps(6)
        self.trainer.position = Position(1, 2, 6, self._images)
        save_checkpoint(self.trainer.output, self.trainer.position, self.trainer._parts())
        self.state = load_safely(self.path)
        self.undisturbed = self.result()

    def _steps(self, count: int) -> None:
        trainer = self.trainer
        for _ in range(count):
            epoch, step = divmod(trainer.position.global_step, trainer.steps_per_epoch)
            trainer.step([next(trainer.loader.batches(epoch, step))])
            trainer.position.global_step += 1

    def result(self) -> dict[str, Any]:
        """What a step after resuming leaves."""
        self.trainer.position = Position(images_per_step=self._images)
        self.trainer.resume()
        self._steps(1)
        parts: Any = self.trainer._parts()
        return copy.deepcopy({name: part.state_dict() for name, part in parts.items()})


@pytest.fixture(params=OPTIMIZERS)
def run(tiny_recipe: Recipe, request: pytest.FixtureRequest) -> Run:
    return Run(tiny_recipe(f"optimizer={request.param}", "lr=0.001"))


def fuzz(run: Run, examples: int) -> list[str]:
    """Resume from checkpoints with one wrong entry each; the errors."""
    draw = random.Random(examples)
    everywhere = list(places(run.state))
    errors = []
    for _ in range(examples):
        place, kind = draw.choice(everywhere), draw.choice(KINDS)
        torch.save(replaced(run.state, place, kind), run.path)
        try:
            result = run.result()
        except CheckpointError as error:
            assert "\n" not in str(error)
            errors.append(str(error))
        else:
            assert_same(result, run.undisturbed)
    return errors


def test_a_wrong_entry_is_one_error_or_does_nothing(run: Run) -> None:
    assert len(fuzz(run, 60)) > 30


@pytest.mark.slow
def test_a_thousand_wrong_entries_are_one_error_each_or_do_nothing(run: Run) -> None:
    assert len(fuzz(run, 1000)) > 500
