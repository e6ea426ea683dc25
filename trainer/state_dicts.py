"""State dicts as others keep them: wrapped, with the prefixes of wrappers, by torch older than counters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from igfiqa_head.text import first_of

State = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

_COMPILED = "_orig_mod"  # what torch.compile puts between the names of a module and of its parts
_WRAPPERS = ("module", "model", "backbone", "net", "network", "encoder")
_KEYS = ("state_dict_backbone", "backbone_state_dict", "model_state_dict", "state_dict", *_WRAPPERS)
_COUNTER = "num_batches_tracked"
_MAX_WRAPPERS = 8
_FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
_MAX_NAMED, _MAX_NAME = 3, 100


class SourceError(ValueError):
    """Files that hold no trained network, or another one than was asked for; it says what differs."""


def tensors(content: Any, path: object, wrappers: int = _MAX_WRAPPERS) -> dict[str, Tensor]:
    """The state dict in what a file holds: the content itself, or what it keeps under a usual key.

    Args:
        content, path: of the file.
        wrappers: how many of these keys may lie around it.

    Raises:
        SourceError: there is none, or more than one.
    """
    entries = content if isinstance(content, dict) else {}
    wrong = [str(name) for name, value in entries.items() if not isinstance(value, Tensor)]
    if entries and not wrong:
        return _without_compiled({str(name): tensor for name, tensor in entries.items()})
    inner = [key for key in _KEYS if isinstance(entries.get(key), dict)]
    inner = inner or [key for key, value in entries.items() if _is_state(value)]
    if wrappers and (inner[:1] == _KEYS[:1] or len(inner) == 1):
        return tensors(entries[inner[0]], path, wrappers - 1)
    if inner:
        raise SourceError(
            f"{path} holds several networks ({listed([*map(str, inner)])}): save the state dict of one in a "
            "file"
        )
    found = f"its {listed(wrong)} hold no tensors" if wrong else "it is empty"
    raise SourceError(
        f"{path} holds no state dict ({found}); expected names with tensors, or a checkpoint that keeps "
        f"those of the backbone under {', '.join(map(repr, _KEYS[:-1]))} or {_KEYS[-1]!r}"
    )


def _is_state(value: object) -> bool:
    """Whether it is a dict of tensors, under whatever key: ema, weights, student and so on."""
    return isinstance(value, dict) and bool(value) and all(isinstance(x, Tensor) for x in value.values())


def _without_compiled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    plain = {".".join(part for part in name.split(".") if part != _COMPILED): name for name in state}
    return {name: state[original] for name, original in plain.items()} if len(plain) == len(state) else state


def unwrapped(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The state dict as it is, then without the prefixes that all of its names have, one after the other."""
    yield state
    for _ in range(_MAX_WRAPPERS):
        first = next(iter(state), "").partition(".")[0]
        if first not in _WRAPPERS or not all(name.startswith(f"{first}.") for name in state):
            return
        state = {name.removeprefix(f"{first}."): tensor for name, tensor in state.items()}
        yield state


def parts_like(state: State, wanted: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The parts of a state dict with a network's first name below a prefix: (prefix, part without it)."""
    first = next(iter(wanted), "")
    for prefix in [name.removesuffix(first) for name in state if name.endswith(f".{first}")]:
        yield prefix, {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(prefix)}


def complete(state: State, wanted: Mapping[str, Any]) -> State:
    """With the counters that batch normalisation has kept since torch 0.4.1, as torch itself adds them."""
    added = [name for name in wanted if name.endswith(f".{_COUNTER}") and name not in state]
    return {**state, **{name: torch.tensor(0) for name in added}}


def shapes(state: State) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def not_floating(state: State, wanted: State) -> list[str]:
    """The weights whose fractions, if they ever had any, are lost: of integer, boolean or complex type."""
    return [
        f"{name} ({str(state[name].dtype).removeprefix('torch.')})"
        for name, tensor in wanted.items()
        if tensor.is_floating_point() and state[name].dtype not in _FLOATS
    ]


def difference(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """What is missing, too much or of another shape, in words; empty if nothing is."""
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    reshaped = [
        f"{name} ({list(found[name])} instead of {list(shape)})"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    parts = {"it lacks": missing, "it has also": unexpected, "of another shape:": reshaped}
    return "; ".join(f"{words} {listed(names)}" for words, names in parts.items() if names)


def listed(names: Sequence[str]) -> str:
    """The first names; a hostile file may have many and long ones."""
    return first_of([name[:_MAX_NAME] for name in names], _MAX_NAMED)
