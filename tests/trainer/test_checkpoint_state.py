"""What a checkpoint says is checked before it is believed: one error, or the run as it would have been."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from easydict import EasyDict
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.gloo import start
from tests.trainer.conftest import RECIPE
from tests.trainer.trainers import assert_same, make
from trainer.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from trainer.position import Position
from trainer.recipe import load_recipe
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.py").write_text(RECIPE)
    options = {name: [f"optimizer={name}", "lr=0.001", f"output={folder / name}"] for name in OPTIMIZERS}
    return {name: Run(load_recipe(folder / "tiny.py", given)) for name, given in options.items()}


@pytest.fixture
def run(runs: dict[str, Run]) -> Run:
    return runs["sgd"]


def fuzz(run: Run, examples: int) -> list[str]:
    """Resume from checkpoints with one wrong entry each; why some were refused."""
    refusals: list[str] = []

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from([*places(run.state)]), st.sampled_from(KINDS))
    def resume(place: Place, kind: Callable[[Any], Any]) -> None:
        torch.save(replaced(run.state, place, kind), run.path)
        try:
            result = run.result()
        except CheckpointError as error:
            refusals.append(str(error))
        else:
            assert_same(result, run.undisturbed)

    resume()
    assert not [refusal for refusal in refusals if "\n" in refusal]
    return refusals


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_wrong_entry_is_one_error_or_does_nothing(runs: dict[str, Run], optimizer: str) -> None:
    assert len(fuzz(runs[optimizer], 60)) > 30


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_thousand_wrong_entries_are_one_error_each_or_do_nothing(
    runs: dict[str, Run], optimizer: str
) -> None:
    assert len(fuzz(runs[optimizer], 500)) > 250


def resume_with_short_momenta(config: EasyDict, errors: Path) -> None:
    torch.set_num_threads(1)
    trainer = make(config)
    try:
        trainer.resume()
        trainer.fit()
    except CheckpointError as error:
        errors.write_text(str(error))
        sys.exit(1)


@pytest.mark.parametrize(("optimizer", "entry"), [("sgd", "momentum_buffer"), ("adamw", "exp_avg")])
def test_a_momentum_of_another_shape_is_refused(
    tiny_recipe: Recipe, tmp_path: Path, optimizer: str, entry: str
) -> None:
    """In a process of its own: a fused optimiser would write beyond its end."""
    config = tiny_recipe(f"optimizer={optimizer}", "network=tiny_group_norm", "num_epoch=20")
    run = Run(config)
    for values in run.state["state_optimizer"]["state"].values():
        values[entry] = torch.zeros(3)
    torch.save(run.state, run.path)
    process = start(resume_with_short_momenta, config, tmp_path / "errors.txt")
    process.join(60)
    assert process.exitcode == 1
    assert (
        f"(state_optimizer: of another shape: state.0.{entry} ([3] instead of [8, 3, 7, 7])"
        in (tmp_path / "errors.txt").read_text()
    )


def refused(run: Run, place: Place, value: Any) -> str:
    torch.save(replaced(run.state, place, lambda _: value), run.path)
    with pytest.raises(CheckpointError) as error:
        run.result()
    return str(error.value)


WEIGHT = ("state_dict_backbone", "layers.0.weight")
MOMENTUM = ("state_optimizer", "state", 0, "momentum_buffer")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("epoch",), 10**9, "epoch=1000000000 lies beyond the recipe's num_epoch=2"),
        (("epoch",), -5, "epoch is -5, expected an integer >= 0"),
        (("epoch",), 0, "epoch=0, step=2 and global_step=6 contradict each other"),
        (("step",), 10**6, "step=1000000 and global_step=6 contradict each other"),
        (("global_step",), -1, "global_step is -1, expected"),
        (("global_step",), 2**70, "global_step is an integer of more than 64 bits, expected"),
        (("images_per_step",), 0, "images_per_step=0, which cannot be"),
        (("written_by", "rank"), 1, "says rank 1 of 1"),
        (("written_by", "ranks"), 10**9, "not the files of all ranks"),
        (("state_lr_scheduler",), None, "(state_lr_scheduler: expected a dict, got None)"),
        (WEIGHT, torch.zeros(8, 3, 7, 7).int(), "layers.0.weight is of torch.int32, expected torch.float32"),
        (WEIGHT, torch.full((8, 3, 7, 7), float("nan")), "layers.0.weight holds NaN or infinity"),
        (("state_dict_backbone", "layers.1.running_var"), -torch.ones(8), "holds -1, expected at least 0"),
        (
            ("state_dict_quality_head", "variance.variance"),
            torch.full((6,), 3.0),
            "variance must lie in [0, 2] as means of 1 - CCS do, got 3 to 3",
        ),
        (MOMENTUM, None, "no tensors: 'state.0.momentum_buffer'"),
        (MOMENTUM[:-1], {}, "it lacks state.0.momentum_buffer"),
        (MOMENTUM[:2], {}, "(state_optimizer: state is empty after 6 steps)"),
        (("state_optimizer", "param_groups", 0, "params"), [1], "param_groups have other parameters"),
    ],
)
def test_the_error_names_the_entry(run: Run, place: Place, value: Any, message: str) -> None:
    error = refused(run, place, value)
    assert message in error
    assert "\n" not in error


def test_settings_of_the_optimiser_are_the_recipes(tiny_recipe: Recipe) -> None:
    run = Run(tiny_recipe())
    hostile = {
        "lr": 1e9,
        "momentum": "x",
        "foreach": 3,
        "fused": None,
        "weight_decay": -1,
        "more": torch.ones(3),
    }
    run.state["state_optimizer"]["param_groups"][0] |= hostile
    run.state["state_lr_scheduler"] |= {"last_epoch": 6, "base_lrs": [7], "_last_lr": None, "optimizer": None}
    torch.save(run.state, run.path)
    assert_same(run.result(), run.undisturbed)


def test_a_scaler_goes_on_from_a_scale_that_can_be_one(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", enabled=True)
    good = scaler.state_dict() | {"scale": 1024.0, "_growth_tracker": 7}

    class Saved:
        def __init__(self, state: dict[str, Any]) -> None:
            self.state_dict = lambda: state

    def load(**wrong: Any) -> None:
        save_checkpoint(tmp_path, Position(), {"state_grad_scaler": Saved(good | wrong)})
        load_checkpoint(tmp_path, {"state_grad_scaler": scaler})

    load(growth_factor=1e9, backoff_factor=-1.0, growth_interval=None)
    assert scaler.state_dict() == torch.amp.GradScaler("cpu").state_dict() | {
        "scale": 1024.0,
        "_growth_tracker": 7,
    }
    for scale in (0.0, -1.0, float("inf"), float("nan"), "1", None):
        with pytest.raises(CheckpointError, match="state_grad_scaler: scale must be a number > 0"):
            load(scale=scale)
    with pytest.raises(CheckpointError, match=r"_growth_tracker must lie in \[0, 2000\), got 2000"):
        load(_growth_tracker=2000)


def test_shares_of_ranks_that_disagree_are_told_by_their_entry(tmp_path: Path) -> None:
    class Sharded(nn.Linear):
        class_sharded = ("weight",)

    save_checkpoint(tmp_path, Position(), {"state_dict_softmax_fc": Sharded(3, 4, bias=False)})
    first = load_safely(checkpoint_path(tmp_path))
    written_by = first["written_by"] | {"ranks": 2}
    torch.save(first | {"written_by": written_by}, checkpoint_path(tmp_path))
    for rows, message in (
        (torch.zeros(4, 2), "no rows of one type and shape in state_dict_softmax_fc.weight"),
        (torch.zeros(4, 3).int(), "no rows of one type and shape"),
        (None, "no rows of one type and shape"),
        (torch.zeros(5, 3), r"weight \(\[9, 3\] instead of \[8, 3\]\)"),
    ):
        share = {
            "written_by": written_by | {"rank": 1},
            "state_dict_softmax_fc": {"weight": rows},
            **{name: first[name] for name in Position.__dataclass_fields__},
        }
        torch.save(share, checkpoint_path(tmp_path, 1))
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path, {"state_dict_softmax_fc": Sharded(3, 8, bias=False)})


def test_places_in_a_file_are_not_followed(tiny_recipe: Recipe) -> None:
    """Older versions told in the file which entries are spread over the ranks."""
    run = Run(tiny_recipe())
    run.state["written_by"]["class_sharded"] = [
        ("state_dict_backbone", "layers.0.weight"),
        (),
        None,
        ("a", "b"),
    ]
    torch.save(run.state, run.path)
    assert_same(run.result(), run.undisturbed)
