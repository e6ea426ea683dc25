"""Reading recipes: arcface_torch-style Python files, merged over ``recipes/base.py`` and checked."""

from __future__ import annotations

import ast
import copy
import difflib
import os
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easydict import EasyDict

from igfiqa_head.io.regular_files import read_regular
from trainer import schema

_MAX_SHOWN = 200
BASE = Path(__file__).resolve().parent.parent / "recipes" / "base.py"


class RecipeError(ValueError):
    """A recipe that cannot be used; the message says which key, what it got and what it accepts."""


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> EasyDict:
    """The complete configuration of a recipe file; no data is looked at.

    Args:
        path: a Python file that defines ``config``, such as ``recipes/quickstart.py`` or a config file of
            arcface_torch.
        overrides: ``"key=value"`` or ``"block.key=value"``; the value is a Python literal or a bare word.

    Raises:
        RecipeError: the file cannot be read, or a key or a value is not accepted.
    """
    path = Path(path)
    config = _execute(BASE)
    given = _execute(path)
    _find_plugins(given, path.parent)
    for key, value in given.items():
        _set(config, key, value, allowed=_allowed_keys(given))
    for override in sorted(overrides, key=_is_of_block):  # what a block belongs to may be named after it
        _apply_override(config, override)
    _check(config)
    _expand_home(config)
    if config.output is None:
        config.output = str(Path("work_dirs") / path.stem)
    return config


def changed_keys(config: EasyDict) -> list[str]:
    """The keys whose values are not those of ``recipes/base.py``; ``block.key`` for those of a block."""
    defaults = _flat(_execute(BASE))
    return [name for name, value in _flat(config).items() if value != defaults[name]]


def _flat(config: EasyDict) -> dict[str, Any]:
    flat = {key: config[key] for key in schema.KEYS}
    return flat | {
        f"{block}.{key}": config[block][key] for block, keys in schema.BLOCKS.items() for key in keys
    }


def _execute(path: Path) -> EasyDict:
    if not path.is_file():
        problem = "is a folder, expected a recipe's file" if path.is_dir() else "does not exist"
        raise RecipeError(f"recipe {str(path)!r} {problem}.{_closest_recipes(path)}")
    try:
        config = runpy.run_path(str(path)).get("config")
        if isinstance(config, dict):
            return EasyDict(copy.deepcopy(dict(config)))
    except Exception as error:
        raise RecipeError(f"recipe {str(path)!r} failed: {type(error).__name__}: {error}") from error
    raise RecipeError(f"recipe {str(path)!r} must define `config = EasyDict()`, found none")


def _closest_recipes(path: Path) -> str:
    """Recipes with names like that of a file that does not exist: beside it, and those of this project."""
    folder = path if path.is_dir() else path.parent
    beside = [] if folder == Path() else [p for p in folder.glob("*.py") if _looks_like_recipe(p)]
    shipped = (Path(os.path.relpath(p)) for p in BASE.parent.glob("*.py"))
    found = sorted((*shipped, *beside))
    known = {place.stem: str(place) for place in found if place.resolve() != BASE}
    close = [known[name] for name in difflib.get_close_matches(path.stem, known, n=3)]
    words = (
        f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Known: {', '.join(known.values())}."
    )
    return f" {words}"


def _looks_like_recipe(path: Path) -> bool:
    """Whether a Python file gives ``config`` a value, as recipes do; nothing in it is run."""
    try:
        return b"config = " in read_regular(path)
    except OSError:
        return False


def _find_plugins(given: EasyDict, folder: Path) -> None:
    """Plugin files that a recipe names lie beside it, or where the command is run."""
    if not schema.KEYS["plugins"].test(given.get("plugins")):
        return
    given.plugins = [_found_plugin(plugin, folder) for plugin in given.plugins]


def _found_plugin(plugin: str, folder: Path) -> str:
    if not plugin.endswith(".py"):
        return plugin
    file = os.path.expanduser(plugin)
    places = [folder / file, Path(file)]
    for place in places:
        if os.path.isfile(place):
            return str(place)
    looked = " and ".join(dict.fromkeys(str(place.absolute()) for place in places))
    raise RecipeError(f"plugin file {plugin!r} does not exist: looked for {looked}")


def _expand_home(config: EasyDict) -> None:
    """Let ``~`` be the home folder in every path; a shell sees to that in front of a word only."""
    for block, keys in ((config, schema.PATHS), (config.on_top, schema.ON_TOP_PATHS)):
        for key in keys:
            if isinstance(block[key], str):
                block[key] = os.path.expanduser(block[key])
    config.plugins = [os.path.expanduser(plugin) for plugin in config.plugins]


def _allowed_keys(config: EasyDict) -> list[str]:
    """Known keys and blocks; what is registered under a name has a block of this name for its settings."""
    named = [config.get(key) for key in ("quality_head", "margin", "classifier", "dataset")]
    extra = [name for name in named if isinstance(name, str) and name not in (*schema.BLOCKS, "auto")]
    return [*schema.KEYS, *schema.BLOCKS, *extra]


def _set(config: EasyDict, key: str, value: Any, allowed: Sequence[str]) -> None:
    if key not in allowed:
        raise RecipeError(f"unknown recipe key {key!r}.{_hint(key, value, allowed)}")
    if key in schema.KEYS:
        config[key] = value
        return
    if not isinstance(value, dict):
        raise RecipeError(f"{key} is a block of keys, such as {key} = edict(...), got {_shown(value)}")
    block = config.setdefault(key, EasyDict())
    known = schema.BLOCKS.get(key)
    for name, inner in value.items():
        if known is not None and name not in known:
            raise RecipeError(f"unknown recipe key {f'{key}.{name}'!r}.{did_you_mean(name, known, key)}")
        block[name] = inner


def _hint(key: str, value: Any, allowed: Sequence[str]) -> str:
    """A hint at the key that may have been meant; there are as many blocks as classes with settings."""
    if isinstance(value, dict) and not difflib.get_close_matches(key, allowed):
        return f" A block has the name that a key such as margin or quality_head gives, as in margin={key}."
    return did_you_mean(key, allowed)


def _is_of_block(override: str) -> bool:
    return "." in override.partition("=")[0]


def _apply_override(config: EasyDict, override: str) -> None:
    name, equals, raw = override.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f"an override looks like key=value, got {override!r}")
    block, is_of_block, key = name.strip().partition(".")
    if not is_of_block:
        block, key = "", block
    known = schema.BLOCKS.get(block, {}) if block else schema.KEYS
    value = _parse(raw.strip(), known[key].kind if key in known else "value")
    key, value = (block, {key: value}) if block else (key, value)
    _set(config, key, value, allowed=_allowed_keys(config))


def _parse(raw: str, kind: str) -> Any:
    """A command-line value: a Python literal where it is one, else a bare word; lists may omit brackets."""
    try:
        value = EasyDict(value=ast.literal_eval(raw)).value  # which takes texts alone for keys
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = raw
    if kind == "text":
        return value if value is None or isinstance(value, str) else raw
    if kind == "list" and isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    if kind == "list" and not isinstance(value, (list, tuple)):
        return [value]
    return value


def _check(config: EasyDict) -> None:
    for key in ("rec", "num_epoch"):
        if config[key] is None:
            raise RecipeError(f"recipe key {key!r} is required: set it to {schema.KEYS[key].words}")
    for key, accepts in schema.KEYS.items():
        _check_value(key, config[key], accepts)
    for block, keys in schema.BLOCKS.items():
        for key, accepts in keys.items():
            _check_value(f"{block}.{key}", config[block][key], accepts)
    if config.overwrite and config.resume:
        raise RecipeError(
            f"overwrite=True removes the run that resume={config.resume} would go on from: set one of them"
        )
    if config.warmup_epoch > config.num_epoch:
        raise RecipeError(
            f"warmup_epoch ({config.warmup_epoch}) must not exceed num_epoch ({config.num_epoch})"
        )
    if config.lr_schedule == "step" and not config.lr_decay_epochs:
        raise RecipeError("lr_schedule 'step' needs lr_decay_epochs, such as [20, 28], got none")


def _check_value(name: str, value: Any, accepts: schema.Accepts) -> None:
    if not accepts.test(value):
        raise RecipeError(
            f"recipe key {name!r} accepts {accepts.words}; got {_shown(value)}{accepts.excess(value)}"
        )


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # of an integer of thousands of digits, or of others' objects
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def did_you_mean(name: str, known: Sequence[str] | dict[str, Any], block: str = "") -> str:
    close = difflib.get_close_matches(name.lower(), list(known), n=3)
    prefix = f"{block}." if block else ""
    if close:
        return f" Did you mean {' or '.join(repr(prefix + word) for word in close)}?"
    return f" Known: {', '.join(prefix + word for word in known)}." if known else ""
