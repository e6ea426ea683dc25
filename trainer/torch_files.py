"""Files of torch tensors: written whole or not at all, and read without running what is in them."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from igfiqa_head.io.atomic import atomic_path, remove_leftovers
from igfiqa_head.io.regular_files import regular
from igfiqa_head.text import printable, shown

_ZIP = b"PK\x03\x04"
_MAX_PICKLE = 10_000_000  # bytes of names and plain values, which take many times as much in memory
_MAX_NAME = 100


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


def _check_archive(path: Path) -> None:
    """Refuse what is no file of ``torch.save`` or unpacks to more than there is, before torch reads it.

    Raises:
        CheckpointError: tells what it is.
    """
    with open(path, "rb", opener=regular) as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(len(_ZIP)) != _ZIP:  # before torch 1.6 it was no archive
            return
        with zipfile.ZipFile(file) as archive:
            sizes = {entry.filename.rpartition("/")[2]: entry.file_size for entry in archive.infolist()}
            unpacked = sum(entry.file_size for entry in archive.infolist())
    if "constants.pkl" in sizes:
        raise CheckpointError(
            f"{path} is a TorchScript file, whose code is not run: save the weights alone, by "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')"
        )
    if unpacked > size or sizes.get("data.pkl", 0) > _MAX_PICKLE:
        raise CheckpointError(
            f"{path} of {size:,} bytes would unpack to {unpacked:,}, of which "
            f"{sizes.get('data.pkl', 0):,} are no tensors: no file of torch.save does. Save the weights again"
        )


def _check_tensors(state: Any, path: Path) -> None:
    """Refuse tensors that are not plain numbers, each in memory of its own.

    Raises:
        CheckpointError: names the entry.
    """
    size, left, seen = path.stat().st_size, [("", state)], {id(state)}
    while left:
        name, value = left.pop()
        problem = _problem(value, size) if isinstance(value, Tensor) else ""
        if problem:
            raise CheckpointError(f"{path} cannot be used: {printable(name[1:])} {problem}")
        entries = value.items() if isinstance(value, dict) else enumerate(value) if _is_list(value) else ()
        inner = {id(x): (f"{name[-_MAX_NAME:]}.{_shown(key)}", x) for key, x in entries}
        left += [found for number, found in inner.items() if number not in seen]
        seen |= inner.keys()


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _shown(key: Any) -> str:
    return key if isinstance(key, str) else shown(key)


def _problem(tensor: Tensor, size: int) -> str:
    if tensor.is_quantized or tensor.is_nested or tensor.layout is not torch.strided:
        return "is quantised, nested or sparse: save the weights as plain tensors"
    if tensor.device.type != "cpu":
        return f"is on the device {tensor.device}, without any values: save the weights themselves"
    if not tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes() <= size:
        return f"is of shape {list(tensor.shape)}, for which the file has not the numbers"
    return ""


def load_safely(path: Path, *, in_memory: bool = True) -> dict[str, Any]:
    """A dict of tensors and plain values from a file by ``torch.save``; code in the file is never run.

    Args:
        path: the file.
        in_memory: False leaves the tensors in the file until they are used.

    Raises:
        CheckpointError: the file is damaged, holds anything else, or asks for more memory than it has bytes.
    """
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's words on pickles that it then refuses
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=not in_memory)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error.strerror or error}") from error
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
    _check_tensors(state, path)
    return state
