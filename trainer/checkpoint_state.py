"""Taking over the states of a checkpoint, each entry of which is first checked against what it belongs to.

torch's ``load_state_dict`` checks no shapes of an optimiser's state, and fused optimisers write beyond the
end of a momentum that is too short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from igfiqa_head.text import shown
from trainer.state_dicts import difference, listed, shapes

_OF_OTHERS = (
    "the run may have been begun with another network, rec, num_classes or held_out (0 in older versions, "
    "which also kept rows for labels without images), or another optimizer"
)
_ENTRIES = {SGD: ("momentum_buffer",), AdamW: ("step", "exp_avg", "exp_avg_sq")}
_COUNTER = torch.zeros((), dtype=torch.float32)
_LEAST = {"running_var": 0, "num_batches_tracked": 0, "exp_avg_sq": 0, "step": 1}


def restore(part: Any, state: Any, steps: int) -> None:
    """Let a module, optimiser or scaler go on from ``state``; a schedule goes by the position alone.

    Args:
        part: changed in place.
        state: what its ``state_dict`` gave once, or anything else that a file holds.
        steps: how many the run had taken for certain, so that there must be momenta.

    Raises:
        ValueError: names the entry that is not as the part has it, and tells how.
    """
    if not isinstance(state, dict):
        raise ValueError(f"expected a dict, got {shown(state)}")
    if isinstance(part, Optimizer):
        _restore_optimizer(part, state, steps)
    elif isinstance(part, GradScaler):
        _restore_scaler(part, state)
    elif not isinstance(part, LRScheduler):
        _restore_module(part, state)


def _restore_module(module: nn.Module, state: dict[str, Any]) -> None:
    own = module.state_dict()
    others = {name for name, value in own.items() if not isinstance(value, Tensor)}  # of get_extra_state
    _check_tensors(_without(state, others), _without(own, others))
    module.load_state_dict({name: state[name] for name in own})


def _without(state: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in names}


def _check_tensors(found: Mapping[Any, Any], wanted: Mapping[str, Tensor]) -> None:
    """Refuse what has not the names, shapes and types of ``wanted``, or values that no training leaves."""
    odd = [shown(name) for name, value in found.items() if not (isinstance(name, str) and _is_tensor(value))]
    if odd:
        raise ValueError(f"no tensors: {listed(odd)}")
    unlike = difference(shapes(found), shapes(wanted))
    if unlike:
        raise ValueError(f"{unlike}: {_OF_OTHERS}")
    for name, tensor in wanted.items():
        _check_values(name, found[name], tensor)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _check_values(name: str, found: Tensor, wanted: Tensor) -> None:
    if found.dtype != wanted.dtype:
        raise ValueError(f"{name} is of {found.dtype}, expected {wanted.dtype}")
    if wanted.isfinite().all() and not found.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinity: the file is damaged, or the run had diverged")
    least = _LEAST.get(name.rpartition(".")[2])
    if least is not None and (found < least).any():
        raise ValueError(f"{name} holds {found.min().item():g}, expected at least {least}")


def _restore_optimizer(optimizer: Optimizer, state: dict[str, Any], steps: int) -> None:
    """Momenta and the like; the settings of the groups, such as lr, are the recipe's."""
    own, groups, saved = optimizer.state_dict()["param_groups"], state.get("param_groups"), state.get("state")
    if not isinstance(groups, list) or [*map(_numbers, groups)] != [group["params"] for group in own]:
        raise ValueError(f"param_groups have other parameters than the recipe's: {_OF_OTHERS}")
    if not isinstance(saved, dict) or (steps and not saved and not all(map(_is_plain, groups))):
        raise ValueError(f"state is {'empty' if saved == {} else shown(saved)} after {steps} steps")
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    unknown = [shown(number) for number in saved if number not in parameters]
    if unknown:
        raise ValueError(f"state has also {listed(unknown)}: {_OF_OTHERS}")
    for number, values in saved.items():
        _check_entries(f"state.{number}", values, optimizer, parameters[number])
    optimizer.load_state_dict({"state": saved, "param_groups": own})
    _lay_out_as_parameters(optimizer)


def _numbers(group: Any) -> list[int] | None:
    """The parameters of a group, as a state dict numbers them."""
    found = group.get("params") if isinstance(group, dict) else None
    return found if isinstance(found, list) and all(type(number) is int for number in found) else None


def _is_plain(group: dict[str, Any]) -> bool:
    """Whether a group is of SGD without momentum, which has no state."""
    momentum = group.get("momentum")
    return isinstance(momentum, (int, float)) and momentum == 0


def _check_entries(place: str, values: Any, optimizer: Optimizer, parameter: Tensor) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{place} is {shown(values)}, expected a dict")
    wanted = {name: _COUNTER if name == "step" else parameter for name in _ENTRIES[type(optimizer)]}
    found = {f"{place}.{name}": value for name, value in values.items()}
    _check_tensors(found, {f"{place}.{name}": tensor for name, tensor in wanted.items()})


def _lay_out_as_parameters(optimizer: Optimizer) -> None:
    """Give momenta the memory layout of their parameters, which is another one on a GPU than on a CPU.

    Fused optimisers go through both in the order of the memory.
    """
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _restore_scaler(scaler: GradScaler, state: dict[str, Any]) -> None:
    """Its factors are constants; a run that has no use for it keeps an empty state."""
    if not state or not scaler.is_enabled():
        return
    scale, steps = state.get("scale"), state.get("_growth_tracker")
    if not isinstance(scale, float) or not 0 < scale < math.inf:
        raise ValueError(f"scale must be a number > 0, got {shown(scale)}")
    if type(steps) is not int or not 0 <= steps < scaler.get_growth_interval():
        raise ValueError(
            f"_growth_tracker must lie in [0, {scaler.get_growth_interval()}), got {shown(steps)}"
        )
    scaler.load_state_dict(scaler.state_dict() | {"scale": scale, "_growth_tracker": steps})
