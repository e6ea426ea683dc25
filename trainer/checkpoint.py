"""Saving and restoring everything a run needs to go on bit for bit."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from igfiqa_head.io.atomic import atomic_path


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another run."""


@dataclass
class Position:
    """How far a run has come: ``step`` optimiser steps into 0-based ``epoch``, ``global_step`` in all."""

    epoch: int = 0
    step: int = 0
    global_step: int = 0


def checkpoint_path(output: Path, rank: int = 0) -> Path:
    return output / f"checkpoint_gpu_{rank}.pt"


def save_checkpoint(path: Path, position: Position, parts: dict[str, Any]) -> None:
    """Write ``parts`` (name -> object with a state_dict) and the random state, atomically.

    The names follow arcface_torch: ``state_dict_backbone``, ``state_dict_softmax_fc``,
    ``state_optimizer``, ``state_lr_scheduler``.
    """
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    state |= asdict(position) | {"random": _random_state()}
    save_atomically(state, path)


def load_checkpoint(path: Path, parts: dict[str, Any]) -> Position:
    """Restore ``parts`` in place.

    Raises:
        CheckpointError: no such file, not a checkpoint, or one of a run with other settings.
    """
    if not path.is_file():
        raise CheckpointError(f"nothing to resume: {path} does not exist")
    state = load_safely(path)
    missing = [name for name in (*parts, "epoch", "step", "global_step", "random") if name not in state]
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}: it was not written by this trainer")
    for name, part in parts.items():
        try:
            part.load_state_dict(state[name])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} does not fit this recipe ({name}): {error}") from error
    try:
        _restore_random_state(state["random"])
    except (RuntimeError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} holds no random state that torch accepts: {reason}") from error
    return Position(state["epoch"], state["step"], state["global_step"])


def save_atomically(state: Any, path: Path) -> None:
    """``torch.save`` that leaves either the old file or the whole new one."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def save_weights(module: nn.Module, path: Path) -> None:
    """The state_dict of a module in a file of its own."""
    save_atomically(module.state_dict(), path)


def load_safely(path: Path) -> dict[str, Any]:
    """A dict of tensors and plain values from a file by ``torch.save``; code in the file is never run.

    Raises:
        CheckpointError: the file is damaged or holds anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's words on pickles that it then refuses
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own words advise to load it all the same
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: it is damaged, or holds more than tensors and plain "
            "values; nothing in it was run"
        ) from error
    except Exception as error:  # damaged bytes make torch's unpickler raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, expected a dict of states")
    return state


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
