"""The weights that a training leaves, with the recipe that they are of: files of one moment.

They do not tell how many ranks there were. The list of the run's folder has a number of its own for each
moment; results and exports that are made of the weights take it over.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from igfiqa_head.io.written_files import LIST_FILE, check_one_moment, read_list, written_together
from igfiqa_head.ranks import ALONE, Ranks
from trainer.torch_files import CheckpointError, failing_as_checkpoint, failure_of, write

RECIPE, BACKBONE, QUALITY_HEAD = "recipe.json", "model.pt", "quality_head.pt"


def save_weights(modules: Mapping[str, nn.Module], folder: Path, num_classes: int, ranks: Ranks) -> None:
    """Write the state dict of each module to the file of its name; every rank calls it, the first one writes.

    Raises:
        CheckpointError: on all ranks, if a file cannot be written; the earlier ones are as they were.
    """
    states = {name: whole_state(module, num_classes, ranks) for name, module in modules.items()}
    failure = failure_of(write_weights, states, folder) if ranks.rank == 0 else None
    if ranks.any(failure is not None):
        raise failure or CheckpointError(f"the first process could not write to {folder}")


def write_weights(states: Mapping[str, Mapping[str, Tensor]], folder: Path) -> None:
    """Replace the weights in a run's folder together, and begin a new moment.

    Args:
        states: name of a file -> state dict.
        folder: of the run; its ``recipe.json`` becomes one of the files of this moment.

    Raises:
        CheckpointError: a file cannot be written; the earlier ones are as they were.
    """
    with failing_as_checkpoint(folder), written_together(folder, secrets.token_hex(8)) as new:
        for name, state in states.items():
            with failing_as_checkpoint(folder / name):
                write(_on_cpu(state), new / name)
        if (folder / RECIPE).is_file():
            shutil.copy(folder / RECIPE, new)


def moment(folder: Path) -> str:
    """The number of the moment that the weights in a run's folder are of."""
    return read_list(folder)[RECIPE].number


def check_weights(folder: Path, *names: str) -> None:
    """Raise if weights in a run's folder are of another moment than those beside them, or than the recipe.

    Args:
        folder: of the run. One by an older version has no list, and nothing is known.
        names: of files that are used together.

    Raises:
        ValueError: names the file.
    """
    advice = (
        "go on with that run by resume=True, which writes them anew; or, if you changed a file on purpose, "
        f"remove {LIST_FILE} there"
    )
    check_one_moment(folder, names, advice)


def whole_state(module: nn.Module, num_classes: int, ranks: Ranks = ALONE) -> dict[str, Tensor]:
    """The state dict of a module with the rows of the classes of all ranks; every rank calls it."""
    state = dict(module.state_dict())
    held = ranks.classes(num_classes)
    for entry in getattr(module, "class_sharded", ()) if ranks.size > 1 else ():
        rows = state[entry]
        # Gloo knows no booleans.
        whole = torch.zeros(
            (num_classes, *rows.shape[1:]),
            dtype=torch.uint8 if rows.dtype == torch.bool else rows.dtype,
            device=rows.device,
        )
        whole[held.start : held.stop] = rows
        state[entry] = ranks.sum(whole).to(rows.dtype)
    return state


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``torch.load`` without further words then works where there is no GPU."""
    return {name: tensor.cpu() for name, tensor in state.items()}
