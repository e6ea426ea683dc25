"""Trained networks from where they are kept: runs of this project, arcface_torch's checkpoints, CR-FIQA's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from igfiqa_head import __version__
from igfiqa_head.io.written_files import read_list
from igfiqa_head.quality_head import QualityRegressor
from igfiqa_head.registry import BACKBONES, import_plugin, load_entry_points
from plugins.backbones import TIMM_PREFIX, get_model
from trainer import schema
from trainer.log import LOGGER
from trainer.parts import room_for
from trainer.state_dicts import (
    Shapes,
    SourceError,
    State,
    complete,
    difference,
    listed,
    not_floating,
    parts_like,
    shapes,
    tensors,
    unwrapped,
)
from trainer.torch_files import load_safely
from trainer.weight_files import BACKBONE, QUALITY_HEAD, RECIPE, check_weights

_HEAD_STATE = "state_dict_quality_head"
_OURS, _CR_FIQA = "regressor", "qs"
_MAX_RECIPE_BYTES = 1_000_000
# Of a recipe, what a stranger to the machine and to the account has no use for.
_PRIVATE = (
    "output", "rec", "recognizer", "backbone_weights", "plugins", "resume", "overwrite", "notes",
    "suffix_run_name", "device", "num_workers", "decoded_cache",
)  # fmt: skip
# Of a run's recipe, what is used; a run writes the network that it had, also where its recipe named none.
_USED = {key: schema.KEYS[key] for key in ("quality_head", "rec", "plugins")} | {
    "network": schema.text,
    "embedding_size": schema.integer(1),
}


@dataclass(frozen=True, eq=False)
class Source:
    """A trained backbone and, if there is one, the regressor of its quality head.

    Attributes:
        backbone: images [N, 3, 112, 112] in [-1, 1] -> embeddings [N, D].
        regressor: embeddings -> qualities [N], or None.
        method: name of the quality method, "none" without one.
        recipe: what is known of the training, as JSON holds it.
        files: the files with the weights.
        images: where the training images were, if it is known: a path or "synthetic".
        sha256: digests of the files, where they were of one moment as they were read.
    """

    backbone: nn.Module
    regressor: QualityRegressor | None
    method: str
    recipe: Mapping[str, Any]
    files: Sequence[Path]
    images: str | None = None
    sha256: Sequence[str] = ()

    def metadata(self) -> dict[str, str]:
        """What an exported file says of its origin."""
        return origin(self.method, self.recipe, self.sha256 or map(file_sha256, self.files))


def file_sha256(path: Path) -> str:
    """The digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def origin(method: str, recipe: Mapping[str, Any], sha256: Iterable[str]) -> dict[str, str]:
    """The metadata of a file exported from weights, whose files have these digests.

    Keys: ``method``; ``recipe``, JSON without what concerns one machine or account only; ``source_sha256``,
    one hash for each file with weights, as sha256sum prints it; ``version`` of this project.
    """
    public = {k: v for k, v in recipe.items() if k not in _PRIVATE and not k.startswith("wandb")}
    return {
        "method": method,
        "recipe": json.dumps(public, default=str),
        "source_sha256": " ".join(sha256),
        "version": __version__,
    }


def open_source(
    path: Path, *, quality_head: Path | None = None, network: str | None = None, plugins: Sequence[str] = ()
) -> Source:
    """Load trained networks; no code from the files is run.

    Args:
        path: a run's folder (``recipe.json``, ``model.pt``, ``quality_head.pt``), a backbone's state dict
            (arcface_torch's ``model.pt``), a checkpoint (``checkpoint_gpu_0.pt``), or CR-FIQA's
            ``{step}backbone.pth``, whose quality layer ``qs`` is taken along.
        quality_head: a file with the head, instead of what ``path`` has: ``quality_head.pt`` of a run, or a
            state dict with ``qs.weight`` and ``qs.bias``.
        network: name of the backbone of a checkpoint; None to find it by names and shapes among those that
            are registered. timm's networks must be named.
        plugins: modules or ``.py`` files to import first, see :func:`igfiqa_head.registry.import_plugin`.

    Raises:
        ValueError: files are missing, damaged, hold more than data or do not fit the network.
    """
    load_entry_points()
    for plugin in plugins:
        import_plugin(plugin)
    if path.is_dir():
        if network is not None:
            raise SourceError(f"{path / RECIPE} names the network: leave out --network {network}")
        return _open_run(path, quality_head, plugins)
    if not path.is_file():
        raise SourceError(f"there is no run folder or checkpoint {path}")
    return _open_checkpoint(path, quality_head, network)


def _open_run(folder: Path, quality_head: Path | None, plugins: Sequence[str]) -> Source:
    """The networks of a run, whose files are of one moment, also while the run goes on."""
    written = read_list(folder)
    check_weights(folder, RECIPE, BACKBONE, *(() if quality_head else (QUALITY_HEAD,)))
    source = _load_run(folder, quality_head, plugins)
    if read_list(folder) != written:
        raise SourceError(f"a run has written new weights to {folder} while they were read: try again")
    if quality_head is not None or RECIPE not in written:
        return source
    return replace(source, sha256=[written[path.name].sha256 for path in source.files])


def _load_run(folder: Path, quality_head: Path | None, plugins: Sequence[str]) -> Source:
    recipe = _read_recipe(folder)
    missing = [plugin for plugin in recipe["plugins"] if plugin not in plugins]
    if missing:  # the recipe may be a stranger's, and to import is to run
        needed = " ".join(f"--plugin {plugin}" for plugin in missing)
        raise SourceError(
            f"{folder} was trained with plugins, which are code: if you trust them, add "
            f"plugins={','.join(missing)} to a recipe, or to an export {needed}"
        )
    weights, head = folder / BACKBONE, quality_head or folder / QUALITY_HEAD
    if not weights.is_file():
        raise SourceError(f"{folder} has no model.pt: this run has not finished an epoch")
    state = tensors(load_safely(weights), weights)
    backbone = _network(recipe["network"], recipe["embedding_size"], state, weights)
    if quality_head is None and not head.is_file():
        return Source(backbone, None, "none", recipe, [weights], recipe["rec"])
    state = _head(head)
    method = _method(state) if quality_head else recipe["quality_head"]
    regressor = _regressor(state, head, recipe["embedding_size"])
    return Source(backbone, regressor, method, recipe, [weights, head], recipe["rec"])


def _read_recipe(folder: Path) -> dict[str, Any]:
    """The recipe of a run; what is used of it is checked."""
    path = folder / RECIPE
    if not path.is_file():
        raise SourceError(
            f"{folder} is no run folder, it has no recipe.json; name a checkpoint file instead?"
        )
    with path.open("rb") as file:
        content = file.read(_MAX_RECIPE_BYTES)
    try:
        recipe = json.loads(content)["recipe"]
        is_on_top = "recognizer" in recipe and recipe["recognizer"] is not None
        used = {} if is_on_top else {key: recipe[key] for key in _USED}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(f"{path} is not what a run writes: {type(error).__name__}: {error}") from error
    if is_on_top:
        raise SourceError(
            f"{folder} is a run on top of a recognizer and trained no network: take its quality.onnx or "
            "both.onnx"
        )
    for key, value in used.items():
        if not _USED[key].test(value):
            excess = _USED[key].excess(value)
            raise SourceError(f"{path}: {key!r} must be {_USED[key].words}, got {value!r}{excess}")
    return recipe


def _open_checkpoint(path: Path, quality_head: Path | None, network: str | None) -> Source:
    if quality_head is not None:
        _check_pair(path, quality_head)
    content = load_safely(path)
    forms = []
    for form in unwrapped(tensors(content, path)):
        head = {name: tensor for name, tensor in form.items() if name.startswith(f"{_CR_FIQA}.")}
        forms.append({name: tensor for name, tensor in form.items() if name not in head})
    if not forms[-1] or f"{_OURS}.weight" in forms[-1]:
        raise SourceError(
            f"{path} holds a quality head without a backbone: name a file with the backbone, such as the "
            "model.pt beside it. An export takes the head as --quality-head"
        )
    if quality_head is not None:
        head = _head(quality_head)
    elif _HEAD_STATE in content:
        head = tensors(content[_HEAD_STATE], path)
    name, state = _recognised(forms, network, path)
    size = _embedding_size(state)
    backbone = _network(name, size, state, path)
    regressor = _regressor(head, quality_head or path, size) if head else None
    files = [path] if quality_head is None else [path, quality_head]
    return Source(backbone, regressor, _method(head), {"network": name, "embedding_size": size}, files)


def _check_pair(path: Path, quality_head: Path) -> None:
    names = {path.name, quality_head.name}
    if quality_head.parent == path.parent and names <= read_list(path.parent).keys():
        check_weights(path.parent, *sorted(names))


def _head(path: Path) -> dict[str, Tensor]:
    """The state of a quality head."""
    return list(unwrapped(tensors(load_safely(path), path)))[-1]


def _method(head: State) -> str:
    """The quality method that a head's entries speak of."""
    if any(name.startswith("variance.") for name in head):
        return "ig_fiqa"
    return "cr_fiqa" if f"{_CR_FIQA}.weight" in head else "unknown" if head else "none"


def _regressor(head: State, path: Path, size: int) -> QualityRegressor:
    """The regressor within the state of a quality head, for embeddings of ``size``."""
    prefix = _CR_FIQA if f"{_CR_FIQA}.weight" in head else _OURS
    wanted = {f"{prefix}.weight", f"{prefix}.bias"}
    if not wanted <= set(head):
        raise SourceError(
            f"{path} holds no quality head: it has {listed(list(head))}; expected {_OURS}.weight and "
            f"{_OURS}.bias, or {_CR_FIQA}.weight and {_CR_FIQA}.bias"
        )
    regressor = QualityRegressor(size)
    own = {name.removeprefix(f"{prefix}."): head[name] for name in wanted}
    _load(regressor, own, path, f"a backbone with embeddings of {size}")
    return regressor


def _embedding_size(state: State) -> int:
    """The length of the last layer's output."""
    return next((len(tensor) for tensor in reversed([*state.values()]) if tensor.ndim and tensor.numel()), 1)


def _recognised(forms: Sequence[State], network: str | None, path: Path) -> tuple[str, State]:
    """The network that has exactly the names and shapes of one of the forms of a state dict, and this form.

    Where none has, of one part of it. Else a network that was named comes with the last form, for others to
    say what differs.
    """
    known: dict[str, Shapes] = {}
    for name in (network,) if network else BACKBONES:
        known[name] = _shapes_of(name, _embedding_size(forms[-1]))
        for form in forms:
            if shapes(complete(form, known[name])) == known[name]:
                return name, form
    parts = _parts(forms[-1], known)
    if len(parts) > 1:
        raise SourceError(
            f"{path} holds several networks ({listed(list(parts))}): save the state dict of one in a file"
        )
    for prefix, (name, part) in parts.items():
        others = [name for name in forms[-1] if not name.startswith(prefix)]
        LOGGER.warning("%s: what is under %s is %s; left out: %s", path, prefix, name, listed(others))
        return name, part
    if network:
        return network, forms[-1]
    raise SourceError(
        f"{path} is of no registered network; {_closest(forms[-1], known)}. Name the one it is of "
        f"(network=NAME in a recipe, --network NAME in an export), timm's as {TIMM_PREFIX}NAME"
    )


@cache
def _shapes_of(name: str, size: int) -> Shapes:
    """Names and shapes without memory, of which a file may ask for more than it has."""
    try:
        with torch.device("meta"):
            return shapes(_build(name, size).state_dict())
    except Exception:  # a network from outside may have to look at its weights
        return shapes(_build(name, size).state_dict())


def _parts(state: State, known: Mapping[str, Shapes]) -> dict[str, tuple[str, State]]:
    """What is exactly a network below some prefix: prefix -> the network's name and the part."""
    found: dict[str, tuple[str, State]] = {}
    for name, wanted in known.items():
        for prefix, part in parts_like(state, wanted):
            exact = _shapes_of(name, _embedding_size(part))
            if shapes(complete(part, exact)) == exact:
                found.setdefault(prefix, (name, part))
    return found


def _closest(state: State, known: Mapping[str, Shapes]) -> str:
    """The network with the most names and shapes in common, and what differs, in words."""
    found = shapes(state)
    common = {name: len(wanted.items() & found.items()) for name, wanted in known.items()}
    if not any(common.values()):
        prefixes = list(dict.fromkeys(name.rpartition(".")[0].partition(".")[0] or name for name in state))
        return f"it shares no name with any, as its names begin with {listed(prefixes)}"
    closest = max(known, key=lambda name: 2 * common[name] - len(known[name]))
    return (
        f"the closest is {closest}, but {difference(shapes(complete(state, known[closest])), known[closest])}"
    )


def _build(network: str, size: int) -> nn.Module:
    with room_for(f"{network} with embeddings of {size}"):
        return get_model(network, num_features=size)


def _network(name: str, size: int, state: State, path: Path) -> nn.Module:
    """A network with these weights, which is not built unless they fit."""
    _check_shapes(state, _shapes_of(name, size), path, name)
    network = _build(name, size)
    _load(network, state, path, name)
    return network


def _check_shapes(state: State, wanted: Shapes, path: Path, name: str) -> None:
    unlike = difference(shapes(complete(state, wanted)), wanted)
    if unlike:
        raise SourceError(f"{path} does not fit {name}: {unlike}")


def _load(module: nn.Module, state: State, path: Path, name: str) -> None:
    wanted = module.state_dict()
    _check_shapes(state, shapes(wanted), path, name)
    state = complete(state, wanted)
    odd = not_floating(state, wanted)
    if odd:
        raise SourceError(
            f"{path} holds {listed(odd)}, expected floating-point numbers: save the weights as trained"
        )
    broken = [key for key, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise SourceError(f"{path} holds NaN or infinity in {listed(broken)}: its training diverged")
    module.load_state_dict(state)
    module.eval()
