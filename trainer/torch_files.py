"""Files of torch tensors: written whole or not at all, and read without running what is in them."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from igfiqa_head.io.atomic import atomic_path, remove_leftovers


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, of another run, or cannot be written."""


def save_atomically(state: Any, path: Path) -> None:
    """``torch.save`` that leaves either the old file or the whole new one, and nothing of killed attempts.

    Raises:
        CheckpointError: the file cannot be written.
    """
    try:
        remove_leftovers(path)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        # torch complains about a file of the wrong length; the reason came before.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise CheckpointError(f"{path} cannot be written: {str(reason).splitlines()[0]}") from error


def try_to_save(state: Any, path: Path) -> CheckpointError | None:
    """:func:`save_atomically`, for ranks that have to tell each other first: why it failed, or None."""
    try:
        save_atomically(state, path)
    except CheckpointError as error:
        return error
    return None


def load_safely(path: Path, *, in_memory: bool = True) -> dict[str, Any]:
    """A dict of tensors and plain values from a file by ``torch.save``; code in the file is never run.

    Args:
        path: the file.
        in_memory: False leaves the tensors in the file until they are used.

    Raises:
        CheckpointError: the file is damaged or holds anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's words on pickles that it then refuses
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=not in_memory)
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
