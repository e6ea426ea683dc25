"""The weights that a training leaves, which do not tell how many ranks there were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from igfiqa_head.ranks import ALONE, Ranks
from trainer.torch_files import CheckpointError, try_to_save


def save_weights(modules: Mapping[str, nn.Module], folder: Path, num_classes: int, ranks: Ranks) -> None:
    """Write the state dict of each module to the file of its name; every rank calls it, the first one writes.

    Raises:
        CheckpointError: on all ranks, if a file cannot be written.
    """
    states = {name: whole_state(module, num_classes, ranks) for name, module in modules.items()}
    written = states.items() if ranks.rank == 0 else ()
    failures = [error for name, state in written if (error := try_to_save(_on_cpu(state), folder / name))]
    if ranks.any(bool(failures)):
        raise failures[0] if failures else CheckpointError(f"the first process could not write to {folder}")


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
