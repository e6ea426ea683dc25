"""Name -> object tables: the one way in which recipes find backbones, margins, heads and data sets.

A plugin is one file that registers itself::

    from igfiqa_head.registry import MARGINS

    @MARGINS.register("arcface")
    class ArcFace: ...

Packages outside this repository do the same and are found through the entry-point group
``igfiqa.plugins`` or a recipe's ``plugins = ["module.or/path.py"]``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import os
import pkgutil
import sys
import zlib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
ENTRY_POINT_GROUP = "igfiqa.plugins"


class Registry:
    """A table of named classes or factory functions of one kind.

    Args:
        kind: what the entries are, in the singular, for error messages ("backbone").
        contract: what the objects that the entries make must have: attribute -> what it is.
    """

    def __init__(self, kind: str, **contract: str) -> None:
        self.kind = kind
        self.contract = contract
        self._entries: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that stores its object under ``name``.

        Raises:
            ValueError: the name is taken; the message names the module that holds it. Or the object makes
                nothing, as it is no class or function.
        """

        def decorator(entry: T) -> T:
            if name in self._entries:
                owner = self._entries[name].__module__
                raise ValueError(f"{self.kind} {name!r} is already registered by module {owner!r}")
            if not callable(entry):
                raise ValueError(
                    f"{self.kind} {name!r} is registered for {entry!r}: expected a class, or a function that "
                    f"makes a {self.kind}"
                )
            self._entries[name] = entry
            return entry

        return decorator

    def get(self, name: str) -> Any:
        """The object registered under ``name``.

        Raises:
            ValueError: nothing has that name; the message lists the closest matches and all names.
        """
        if name in self._entries:
            return self._entries[name]
        close = difflib.get_close_matches(str(name), self._entries, n=3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"unknown {self.kind} {name!r}.{hint} Registered: {', '.join(self) or 'none'}")

    def described(self, name: str) -> str:
        """The entry under ``name`` and its file, in words for error messages."""
        entry = self.get(name)
        module = sys.modules.get(getattr(entry, "__module__", ""))
        where = getattr(module, "__file__", None) or getattr(entry, "__module__", "?")
        return f"{self.kind} {name!r} ({getattr(entry, '__qualname__', entry)} in {where})"

    def check(self, name: str, built: object) -> None:
        """Refuse an object made by the entry ``name`` that lacks what the contract of the kind demands.

        Raises:
            ValueError: names the class and what is expected of it.
        """
        missing = [f"{key}{words}" for key, words in self.contract.items() if not _has(built, key)]
        if missing:
            raise ValueError(f"{self.described(name)} lacks what every {self.kind} has: {'; '.join(missing)}")

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)


def _has(built: object, key: str) -> bool:
    """Whether an object has something of that name; torch's stand-in for a missing forward is nothing."""
    found = getattr(built, key, None)
    return found is not None and getattr(found, "__name__", "") != "_forward_unimplemented"


BACKBONES = Registry(
    "backbone",
    forward="(images [B, 3, 112, 112]) -> embeddings [B, num_features]",
    state_dict=" of a torch.nn.Module",
)
MARGINS = Registry(
    "margin", __call__="(target [B], norms [B], labels [B]) -> igfiqa_head.margin.MarginOutput"
)
CLASSIFIERS = Registry(
    "classifier",
    forward="(embeddings [B, D], labels [B], *, step) -> loss",
    class_center_similarities="(embeddings [B, D], labels [B]) -> (ccs [B], nnccs [B])",
    state_dict=" of a torch.nn.Module",
)
QUALITY_HEADS = Registry(
    "quality head",
    forward="(embeddings [B, D], labels [B], classifier, *, epoch) -> QualityOutput",
    split="(batch) -> SubBatches",
    images_drawn="(batch_size) -> int",
    class_weights="() -> [C]",
    regressor=", R: embeddings -> qualities, as of igfiqa_head.quality_head.QualityHead",
    loss_weight=", lambda",
)
DATASETS = Registry(
    "data set",
    __len__="() -> N",
    __getitem__="(index) -> (RGB uint8 [112, 112, 3], int label)",
    labels=", int64 [N]",
    num_classes=", int",
)
SCORERS = Registry("scorer")


def import_submodules(package: str) -> None:
    """Import every module directly inside ``package``, so that its files register themselves."""
    search_path = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(search_path):
        importlib.import_module(f"{package}.{module.name}")


def import_plugin(plugin: str) -> None:
    """Import one plugin, given as a dotted module name or as a path to a ``.py`` file.

    Raises:
        ValueError: the file does not exist, or the module cannot be found.
    """
    if not plugin.endswith(".py"):
        if not _is_importable(plugin):
            raise ValueError(f"plugin module {plugin!r} was not found on the Python path")
        importlib.import_module(plugin)
        return
    path = Path(os.path.realpath(plugin))
    if not path.is_file():
        raise ValueError(f"plugin file {plugin!r} does not exist")
    name = f"igfiqa_plugin_{path.stem}_{zlib.crc32(bytes(path)):08x}"
    if name in sys.modules:
        return
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # a loader always gives a spec
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # else the next import would take the half-made module for a good one
        raise


def _is_importable(module: str) -> bool:
    if module.startswith("."):  # such as ".", which Python takes for a part of a package
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            return False
        raise  # the module exists and lacks something itself


def load_entry_points() -> None:
    """Import the plugins that installed packages announce in the group ``igfiqa.plugins``."""
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        entry_point.load()
