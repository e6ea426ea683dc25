"""Parts of a run from registered classes: a block of a recipe is checked against the signature it goes to."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, Signature
from typing import Any, Union, get_args, get_origin

from igfiqa_head.registry import Registry
from trainer.recipe import RecipeError, did_you_mean

_WORDS = {bool: "True or False", int: "an integer", float: "a number", str: "a text", type(None): "None"}
_NAMELESS = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def build_part(
    registry: Registry, name: str, *arguments: Any, settings: Mapping[str, Any], **offered: Any
) -> Any:
    """An object of the class that ``name`` is registered for.

    Args:
        registry: of its kind.
        name: as in the recipe.
        arguments: what every class of the kind is given, in this order.
        settings: the block of that name.
        offered: what the run has to offer; a class gets what its signature names.

    Raises:
        ValueError: the name or a setting is unknown, of another type or out of range, or the class is not
            what the kind demands.
    """
    check_block(registry, name, settings, given=len(arguments), offered=offered)
    entry = registry.get(name)
    signature = _signature(entry)
    taken = {key: value for key, value in offered.items() if _takes(signature, key)}
    try:
        part = entry(*arguments, **taken, **settings)
    except (ValueError, TypeError) as error:
        given = ", ".join(f"{name}.{key}={value!r}" for key, value in settings.items())
        raise RecipeError(
            f"{registry.described(name)} cannot be built{given and f' with {given}'}: {error}"
        ) from error
    registry.check(name, part)
    return part


def check_block(
    registry: Registry, name: str, settings: Mapping[str, Any], *, given: int = 0, offered: Mapping[str, Any]
) -> None:
    """Refuse settings that the class registered under ``name`` does not take; nothing is built.

    Args:
        registry, name, settings, offered: see :func:`build_part`.
        given: how many arguments the class is given by position.
    """
    signature = _signature(registry.get(name))
    parameters = list(signature.parameters.values())
    positional = [p.name for p in parameters if p.kind is not Parameter.KEYWORD_ONLY]
    if len(positional) < given and not any(p.kind is Parameter.VAR_POSITIONAL for p in parameters):
        raise RecipeError(f"{registry.described(name)} must take {given} arguments, takes {signature}")
    of_run = {*positional[:given], *offered}
    own = {p.name: p for p in parameters if p.name not in of_run and p.kind not in _NAMELESS}
    for key, value in settings.items():
        if key in own:
            _check_type(f"{name}.{key}", value, own[key])
        elif key in of_run:
            raise RecipeError(
                f"{name}.{key} is given by the run: set the recipe's own key {key}, if it has one"
            )
        elif not _takes(signature, key):
            known = did_you_mean(key, list(own), name) or f" {name} has no settings."
            raise RecipeError(f"unknown recipe key {f'{name}.{key}'!r}.{known}")
    missing = [f"{name}.{key}" for key, p in own.items() if p.default is p.empty and key not in settings]
    if missing:
        raise RecipeError(f"{registry.described(name)} needs {' and '.join(missing)}: set it in the recipe")


def check_call(registry: Registry, name: str, part: Any, *arguments: str, **named: Any) -> None:
    """Refuse a module whose ``forward`` cannot be called with what the training hands to it."""
    try:
        inspect.signature(part.forward).bind(*arguments, **named)
    except TypeError as error:
        raise RecipeError(
            f"{registry.described(name)} cannot be called with {registry.contract['forward']}: {error}"
        ) from error


@contextmanager
def room_for(what: str) -> Iterator[None]:
    """Tell within the block of networks too large for the memory, in one line."""
    try:
        yield
    except (RuntimeError, MemoryError, OverflowError, TypeError) as error:  # all of these come of large sizes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{what} cannot be built: {reason}") from error


def _signature(entry: Any) -> Signature:
    try:
        return inspect.signature(entry, eval_str=True)
    except Exception:  # annotations that cannot be evaluated raise anything
        return inspect.signature(entry)


def _takes(signature: Signature, key: str) -> bool:
    kinds = {p.kind for p in signature.parameters.values()}
    return key in signature.parameters or Parameter.VAR_KEYWORD in kinds


def _check_type(name: str, value: Any, parameter: Parameter) -> None:
    accepted = _types(parameter)
    fits = bool in accepted if isinstance(value, bool) else isinstance(value, tuple(accepted))
    if not accepted or fits or (float in accepted and type(value) is int):
        return
    words = " or ".join(_WORDS[kind] for kind in accepted)
    raise RecipeError(f"recipe key {name!r} accepts {words}; got {value!r}")


def _types(parameter: Parameter) -> list[type]:
    """The plain types of a parameter's annotation, or that of its default; none if there are others."""
    hint = parameter.annotation
    if hint is parameter.empty:
        kind = type(parameter.default)
        return [float if kind is int else kind] if kind in (bool, int, float, str) else []
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else [hint]
    return list(kinds) if all(isinstance(kind, type) and kind in _WORDS for kind in kinds) else []
