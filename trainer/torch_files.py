"""Files of torch tensors: written whole or not at all, and read without running what is in them."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    with failing_as_checkpoint(path):
        remove_leftovers(path)
        write(state, path)


def write(state: Any, path: Path) -> None:
    """``torch.save``, atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)


@contextmanager
def failing_as_checkpoint(path: Path) -> Iterator[None]:
    """Raise as a :class:`CheckpointError` whatever keeps ``path`` from being written in the block."""
    try:
        yield
    except CheckpointError:  # it names the file already
        raise
    except (OSError, RuntimeError, ValueError) as error:
        # torch complains about a file of the wrong length; the reason came before.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        words = getattr(reason, "strerror", None) or str(reason).splitlines()[0]
        raise CheckpointError(f"{path} cannot be written: {words}") from error


def failure_of(save: Callable[..., None], *arguments: Any) -> CheckpointError | None:
    """Why saving fails, or None: for ranks that have to tell each other before one of them raises."""
    try:
        save(*arguments)
    except CheckpointError as error:
        return error
    return None


def _is_torchscript(path: Path) -> bool:
    """Whether a file is one of torch.jit.save, by the names in its archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())
    except Exception:  # damaged bytes make zipfile raise almost anything
        return False


def load_safely(path: Path, *, in_memory: bool = True) -> dict[str, Any]:
    """A dict of tensors and plain values from a file by ``torch.save``; code in the file is never run.

    Args:
        path: the file.
        in_memory: False leaves the tensors in the file until they are used.

    Raises:
        CheckpointError: the file is damaged or holds anything else.
    """
    if _is_torchscript(path):
        raise CheckpointError(
            f"{path} is a TorchScript file, whose code is not run: save the weights alone, by "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's words on pickles that it then refuses
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=not in_memory)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error.strerror}") from error
    except pickle.UnpicklingError as error:  # torch's own words advise to load it all the same
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: it is damaged, or holds more than tensors and plain "
            "values; nothing in it was run. Of a whole network, save its state_dict()"
        ) from error
    except Exception as error:  # damaged bytes make torch's unpickler raise almost anything
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: it is damaged, cut short, or no file of torch.save"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, expected a dict of states")
    return state
