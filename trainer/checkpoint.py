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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from igfiqa_head.ranks import ALONE, Ranks
from trainer.log import LOGGER
from trainer.state_dicts import difference, shapes
from trainer.torch_files import CheckpointError, failure_of, load_safely, save_atomically

Parts = Mapping[str, Any]  # name -> object with state_dict and load_state_dict
Place = tuple[Any, ...]  # keys that lead to a tensor in nested dicts


@dataclass
class Position:
    """How far a run has come.

    Attributes:
        epoch: 0-based.
        step: optimiser steps into it.
        global_step: optimiser steps in all.
        images_per_step: images that all ranks together draw for an optimiser step.
    """

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    images_per_step: int = 1


_NEW = ".next.pt"  # ends the name of a file that has not taken the place of the one before yet
_NAME = re.compile(r"checkpoint_gpu_(\d+)(?:\.next)?\.pt")


class _Set(NamedTuple):
    """Files that were written together, that of rank 0 first; their common number, and when that was."""

    number: int
    progress: tuple[int, int]  # epochs, and images into the next one: comparable whatever a step draws
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
    needed = (*parts, *Position.__dataclass_fields__, "written_by")
    missing = [name for name in needed if name not in state]
    if missing:
        raise CheckpointError(f"{files[0]} lacks {', '.join(missing)}: it was not written by this trainer")
    try:
        _take_own_classes(state, files, ranks)
    except (KeyError, TypeError, IndexError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{files[0]} and those beside it do not fit together: {error}") from error
    for name, part in parts.items():
        try:
            _restore(part, state[name])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{files[0]} does not fit this recipe ({name}: {_reason(part, state[name], error)}): the run "
                "may have been begun with another network, rec, num_classes or held_out (0 in older "
                "versions, which also kept rows for labels without images)"
            ) from error
    ranks.any(False)  # all have read, as each waits here for the others
    if ranks.rank == 0:
        _finish_replacing(files, folder)
    return Position(**{name: state[name] for name in Position.__dataclass_fields__})


def _reason(part: Any, state: Any, error: Exception) -> str:
    """Why ``state`` does not fit, in one line: torch lists everything that differs, in several."""
    if isinstance(part, nn.Module) and isinstance(state, dict):
        found, wanted = (
            shapes({key: x for key, x in tensors.items() if isinstance(x, Tensor)})
            for tensors in (state, part.state_dict())
        )
        if found != wanted:
            return difference(found, wanted)
    return (str(error).splitlines() or [type(error).__name__])[0]


def _restore(part: Any, state: Mapping[str, Any]) -> None:
    if isinstance(part, GradScaler) and not state:  # the run so far had no use for it
        return
    part.load_state_dict(state)
    if isinstance(part, Optimizer):
        _lay_out_as_parameters(part)


def _lay_out_as_parameters(optimizer: Optimizer) -> None:
    """Give momenta the memory layout of their parameters, which is another one on a GPU than on a CPU.

    Fused optimisers go through both in the order of the memory.
    """
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if _is_shaped_as(parameter, value) and value.stride() != parameter.stride():
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _own_state(parts: Parts, ranks: Ranks) -> dict[str, Any]:
    """What this rank writes; a number that the ranks agree on tells which files belong together."""
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    places = _class_sharded(parts, state)
    if ranks.rank > 0:
        shares: dict[str, Any] = {}
        for place in places:
            _put(shares, place, _get(state, place))
        state = shares
    number = ranks.sum(ranks.tensor(secrets.randbits(62) if ranks.rank == 0 else 0))
    written_by = {"rank": ranks.rank, "ranks": ranks.size, "set": int(number), "class_sharded": places}
    return state | {"written_by": written_by}


def _class_sharded(parts: Parts, state: Parts) -> list[Place]:
    """The places of all tensors with a row for each class of this rank, those of the optimiser included."""
    places: list[Place] = []
    parameters: set[int] = set()
    for name, part in parts.items():
        for entry in getattr(part, "class_sharded", ()):
            places.append((name, entry))
            parameters |= {id(p) for key, p in part.named_parameters() if key == entry}
    for name, part in parts.items():
        if isinstance(part, Optimizer):
            places += _of_optimizer(name, part, state[name]["state"], parameters)
    return places


def _of_optimizer(
    name: str, optimizer: Optimizer, state: Mapping[int, Any], sharded: set[int]
) -> Iterable[Place]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(parameters):
        for key, value in state.get(number, {}).items() if id(parameter) in sharded else ():
            if _is_shaped_as(parameter, value):
                yield name, "state", number, key


def _is_shaped_as(parameter: Tensor, value: Any) -> bool:
    """Whether an optimiser's ``value`` has an entry for each of the parameter's, as a momentum has."""
    return isinstance(value, Tensor) and value.shape == parameter.shape


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
    return max(complete, key=lambda found: found.progress)


def _agreed_set(folder: Path, ranks: Ranks) -> _Set:
    """The latest, if it is the same for all ranks."""
    found: _Set | None = None
    try:
        found = _latest_set(folder)
    except CheckpointError as error:
        problem = error
    numbers = {int(number) for number in ranks.parts(ranks.tensor(found.number if found else 0))}
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
    sets: dict[int, dict[int, Path]] = {}
    complete: list[_Set] = []
    problem: CheckpointError | None = None
    for path in checkpoint_files(folder):
        try:
            written_by, progress = _origin(path)
        except CheckpointError as error:
            problem = error
            continue
        files = sets.setdefault(written_by["set"], {})
        files[written_by["rank"]] = path
        if len(files) == written_by["ranks"] and set(files) == set(range(len(files))):
            complete.append(_Set(written_by["set"], progress, [files[rank] for rank in sorted(files)]))
    return complete, problem


def _origin(path: Path) -> tuple[dict[str, int], tuple[int, int]]:
    """By which rank of how many a file was written, in which set, and how far the run had come."""
    state = load_safely(path, in_memory=False)
    written_by = state.get("written_by")
    position = [state.get(name) for name in Position.__dataclass_fields__]
    keys = ("rank", "ranks", "set")
    numbers = [written_by.get(key) for key in keys] if isinstance(written_by, dict) else [None]
    if not all(isinstance(number, int) for number in (*numbers, *position)):
        raise CheckpointError(f"{path} does not tell which rank wrote it: it was not written by this trainer")
    at = Position(*position)  # type: ignore[arg-type]
    return written_by, (at.epoch, at.step * at.images_per_step)  # type: ignore[return-value]


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


def _take_own_classes(state: dict[str, Any], files: list[Path], ranks: Ranks) -> None:
    """Put the rows of the classes that this rank holds where those of rank 0 of the earlier run are."""
    states = [load_safely(path, in_memory=False) for path in files]
    for place in map(tuple, state["written_by"]["class_sharded"]):
        shares = [_get(share, place) for share in states]
        held = ranks.classes(sum(map(len, shares)))
        _put(state, place, _rows(shares, held))


def _rows(shares: list[Tensor], wanted: range) -> Tensor:
    """Rows of what the shares are together, without putting them together."""
    parts, start = [], 0
    for share in shares:
        parts.append(share[max(0, wanted.start - start) : max(0, wanted.stop - start)])
        start += len(share)
    return torch.cat(parts)


def _get(tree: Any, place: Place) -> Any:
    for key in place:
        tree = tree[key]
    return tree


def _put(tree: Any, place: Place, value: Any) -> None:
    for key in place[:-1]:
        tree = tree.setdefault(key, {})
    tree[place[-1]] = value
