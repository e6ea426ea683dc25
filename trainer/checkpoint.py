"""Saving and restoring everything a run needs to go on exactly, on as many ranks as there then are.

Each rank writes ``checkpoint_gpu_{rank}.pt``: the first one everything that all ranks have alike and its own
share of what is spread over them by class, the others their shares. The files of one moment are a set. A new
set is written beside the old one and takes its place file by file, so that at any moment, whatever is killed,
one of the two is complete.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from igfiqa_head.ranks import ALONE, Ranks
from igfiqa_head.text import printable, shown
from trainer.checkpoint_state import restore
from trainer.log import LOGGER
from trainer.position import Position
from trainer.torch_files import CheckpointError, failure_of, load_safely, save_atomically

Parts = Mapping[str, Any]  # name -> object with state_dict and load_state_dict
Place = tuple[Any, ...]  # keys that lead to a tensor in nested dicts


_NEW = ".next.pt"  # ends the name of a file that has not taken the place of the one before yet
_NAME = re.compile(r"checkpoint_gpu_(\d+)(?:\.next)?\.pt")


_POSITION = tuple(Position.__dataclass_fields__)


class _Moment(NamedTuple):
    """What the files have in common that were written together."""

    number: int
    ranks: int
    progress: tuple[int, int]  # epochs, and images into the next one: comparable whatever a step draws


class _Set(NamedTuple):
    """All files of a moment, that of rank 0 first."""

    moment: _Moment
    files: list[Path]


def checkpoint_path(folder: Path, rank: int = 0) -> Path:
    return folder / f"checkpoint_gpu_{rank}.pt"


def has_checkpoint(folder: Path) -> bool:
    """Whether there is anything to resume from, be it damaged.

    A first checkpoint that not all ranks could write before they were killed is none.
    """
    return bool(checkpoint_files(folder, all_names=False) or _complete_sets(folder)[0])


def save_checkpoint(folder: Path, position: Position, parts: Parts, ranks: Ranks = ALONE) -> None:
    """Write the state of ``parts`` to ``folder``, which all ranks share; every rank calls it.

    A part tells by ``class_sharded`` which entries of its state have a row for each class of this rank. The
    names follow arcface_torch: ``state_dict_backbone``, ``state_dict_softmax_fc``, ``state_optimizer``,
    ``state_lr_scheduler``.

    Raises:
        CheckpointError: a rank could not write; an earlier checkpoint is as it was.
    """
    path = checkpoint_path(folder, ranks.rank)
    new = path.with_suffix(_NEW)
    state = _own_state(parts, ranks) | asdict(position)
    failure = failure_of(save_atomically, state, new)
    if ranks.any(failure is not None):
        new.unlink(missing_ok=True)
        raise CheckpointError(
            f"the checkpoint of step {position.global_step} cannot be written to {folder} "
            f"({failure or 'another rank failed'}); an earlier one is as it was. Go on with "
            "resume=True once it can be written"
        )
    os.replace(new, path)
    if ranks.rank == 0:
        _remove_ranks_from(ranks.size, folder)


def load_checkpoint(folder: Path, parts: Parts, ranks: Ranks = ALONE) -> Position:
    """Restore ``parts`` in place, from a checkpoint by any number of ranks.

    Raises:
        CheckpointError: there is no complete checkpoint, or it is one of a run with other settings.
    """
    files = _agreed_set(folder, ranks).files
    state = load_safely(files[0])
    missing = [name for name in parts if name not in state]
    if missing:
        raise CheckpointError(f"{files[0]} lacks {', '.join(missing)}: it was not written by this trainer")
    position = Position(**{name: state[name] for name in _POSITION})
    _take_own_classes(state, files, parts, ranks)
    for name, part in parts.items():
        try:
            restore(part, state[name], _steps_taken(state))
        except (RuntimeError, ValueError, KeyError, TypeError) as error:  # of parts from outside
            raise CheckpointError(
                f"{files[0]} does not fit this recipe ({name}: {printable(str(error))})"
            ) from error
    ranks.any(False)  # all have read, as each waits here for the others
    if ranks.rank == 0:
        _finish_replacing(files, folder)
    return position


def _steps_taken(state: Parts) -> int:
    """By the schedule; none for certain with a scaler, for which the first steps may all be skipped."""
    steps = _entry(state, ("state_lr_scheduler", "last_epoch"))
    return steps if type(steps) is int and not state.get("state_grad_scaler") else 0


def _own_state(parts: Parts, ranks: Ranks) -> dict[str, Any]:
    """What this rank writes; a number that the ranks agree on tells which files belong together."""
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    places = _class_sharded(parts, state)
    if ranks.rank > 0:
        shares: dict[str, Any] = {}
        for place in places:
            _put(shares, place, _entry(state, place))
        state = shares
    number = ranks.sum(ranks.tensor(secrets.randbits(62) if ranks.rank == 0 else 0))
    return state | {"written_by": {"rank": ranks.rank, "ranks": ranks.size, "set": int(number)}}


def _class_sharded(parts: Parts, state: Parts) -> list[Place]:
    """The places of all tensors with a row for each class of a rank, those of the optimiser included."""
    places: list[Place] = []
    parameters: set[int] = set()
    for name, part in parts.items():
        for entry in getattr(part, "class_sharded", ()):
            places.append((name, entry))
            parameters |= {id(p) for key, p in part.named_parameters() if key == entry}
    for name, part in parts.items():
        if isinstance(part, Optimizer):
            places += _of_optimizer(name, part, state, parameters)
    return places


def _of_optimizer(name: str, optimizer: Optimizer, state: Parts, sharded: set[int]) -> Iterable[Place]:
    """Where a state has momenta of these parameters, which have their dimensions, unlike numbers of steps."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(parameters):
        values = _entry(state, (name, "state", number)) if id(parameter) in sharded else None
        for key, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, Tensor) and value.ndim == parameter.ndim:
                yield name, "state", number, key


def _remove_ranks_from(count: int, folder: Path) -> None:
    """Files of an earlier run on more ranks are of no use any more."""
    for path in checkpoint_files(folder):
        rank = _NAME.fullmatch(path.name)
        if rank and int(rank[1]) >= count:
            path.unlink()


def checkpoint_files(folder: Path, *, all_names: bool = True) -> list[Path]:
    """The checkpoint files in a folder, or those only that have their final names."""
    found = [path for path in sorted(folder.glob("checkpoint_gpu_*.pt")) if _NAME.fullmatch(path.name)]
    return found if all_names else [path for path in found if not path.name.endswith(_NEW)]


def _latest_set(folder: Path) -> _Set:
    complete, problem = _complete_sets(folder)
    if not complete:
        raise problem or _nothing_complete(folder)
    if problem is not None:
        LOGGER.warning("not used: %s", problem)
    return max(complete, key=lambda found: found.moment.progress)


def _agreed_set(folder: Path, ranks: Ranks) -> _Set:
    """The latest, if it is the same for all ranks."""
    found: _Set | None = None
    try:
        found = _latest_set(folder)
    except CheckpointError as error:
        problem = error
    numbers = {int(number) for number in ranks.parts(ranks.tensor(found.moment.number if found else 0))}
    if found is None:
        raise problem
    if len(numbers) > 1:
        raise CheckpointError(
            f"the processes find different checkpoints in {folder}: let output be a folder that all machines "
            "share"
        )
    return found


def _complete_sets(folder: Path) -> tuple[list[_Set], CheckpointError | None]:
    """The sets whose files are all there, and what is wrong with a file that cannot be read."""
    sets: dict[_Moment, dict[int, Path]] = {}
    problem: CheckpointError | None = None
    for path in checkpoint_files(folder):
        try:
            rank, moment = _origin(path)
        except CheckpointError as error:
            problem = error
            continue
        sets.setdefault(moment, {})[rank] = path
    complete = [
        _Set(moment, [files[rank] for rank in range(moment.ranks)])
        for moment, files in sets.items()
        if len(files) == moment.ranks
    ]
    return complete, problem


def _origin(path: Path) -> tuple[int, _Moment]:
    """By which rank a file was written, and when."""
    state = load_safely(path, in_memory=False)
    written_by = state.get("written_by")
    if not isinstance(written_by, dict):
        raise CheckpointError(f"{path} does not tell which rank wrote it: it was not written by this trainer")
    rank, ranks, number = (_count(path, written_by, name) for name in ("rank", "ranks", "set"))
    position = Position(*(_count(path, state, name) for name in _POSITION))
    if position.images_per_step == 0 or not path.name.startswith(f"checkpoint_gpu_{rank}.") or rank >= ranks:
        raise CheckpointError(
            f"{path} says rank {rank} of {ranks} and images_per_step={position.images_per_step}, which "
            "cannot be: it is damaged, or was renamed"
        )
    return rank, _Moment(number, ranks, (position.epoch, position.step * position.images_per_step))


def _count(path: Path, entries: Mapping[str, Any], name: str) -> int:
    value = entries.get(name)
    if type(value) is not int or not 0 <= value < 2**63:
        raise CheckpointError(
            f"{path}: {name} is {shown(value)}, expected an integer >= 0: it is damaged, or was not written "
            "by this trainer"
        )
    return value


def _nothing_complete(folder: Path) -> CheckpointError:
    found = [path.name for path in checkpoint_files(folder, all_names=False)]
    if not found:
        return CheckpointError(f"nothing to resume: {checkpoint_path(folder)} does not exist")
    return CheckpointError(
        f"{folder} has {', '.join(found)}, but not the files of all ranks of that run: resuming needs them "
        "all, so let output be a folder that all machines share"
    )


def _finish_replacing(files: list[Path], folder: Path) -> None:
    """Give the files of a set their names, if whoever wrote it was killed before."""
    for rank, path in enumerate(files):
        if path != checkpoint_path(folder, rank):
            os.replace(path, checkpoint_path(folder, rank))


def _take_own_classes(state: dict[str, Any], files: list[Path], parts: Parts, ranks: Ranks) -> None:
    """Put the rows of the classes that this rank holds where those of rank 0 of the earlier run are."""
    states = [state, *(load_safely(path, in_memory=False) for path in files[1:])]
    for place in _class_sharded(parts, state):
        shares = [_entry(share, place) for share in states]
        kinds = {(x.dtype, x.shape[1:]) if _has_rows(x) else None for x in shares}
        if None in kinds or len(kinds) > 1:
            raise CheckpointError(
                f"{files[0]} and those beside it do not fit together: no rows of one type and shape in "
                + ".".join(map(str, place))
            )
        _put(state, place, _rows(shares, ranks.classes(sum(map(len, shares)))))


def _has_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) > 0


def _rows(shares: list[Tensor], wanted: range) -> Tensor:
    """Rows of what the shares are together, without putting them together."""
    parts, start = [], 0
    for share in shares:
        parts.append(share[max(0, wanted.start - start) : max(0, wanted.stop - start)])
        start += len(share)
    return torch.cat(parts)


def _entry(tree: Any, place: Place) -> Any:
    """What lies in nested dicts at a place, or None."""
    for key in place:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _put(tree: Any, place: Place, value: Any) -> None:
    for key in place[:-1]:
        tree = tree.setdefault(key, {})
    tree[place[-1]] = value
