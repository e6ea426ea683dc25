"""What scoring and evaluation need works on a machine without torch."""

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import igfiqa_head

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_TORCH = """
import importlib, importlib.util, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run(script: str) -> str:
    code = WITHOUT_TORCH + textwrap.dedent(script)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_readers_runtime_and_evaluation_import_without_torch() -> None:
    imported = run(
        """
        names = ["igfiqa_head", "igfiqa_head.registry", "igfiqa_head.draws", "igfiqa_head.io", "eval_tools"]
        for package in ("igfiqa_head.io", "eval_tools"):
            path = importlib.import_module(package).__path__
            names += [m.name for m in pkgutil.walk_packages(path, package + ".") if "__main__" not in m.name]
        optional = ("igfiqa_head.runtime", "igfiqa_head.insightface", "igfiqa_head.cli")
        names += [name for name in optional if importlib.util.find_spec(name)]
        for name in names:
            importlib.import_module(name)
        assert "torch" not in sys.modules
        print(*names)
        """
    )
    assert {"igfiqa_head", "igfiqa_head.registry", "igfiqa_head.draws", "eval_tools"} <= set(imported.split())


@pytest.mark.parametrize("name", igfiqa_head.__all__)
def test_a_name_that_needs_torch_says_what_to_install(name: str) -> None:
    error = run(
        f"""
        import igfiqa_head
        try:
            igfiqa_head.{name}
        except ModuleNotFoundError as error:
            print(error.name, error)
        """
    )
    assert error.strip() == f"torch igfiqa_head.{name} needs torch: pip install 'igfiqa-head[train]'"


def test_a_from_import_gives_the_same_message() -> None:
    message = run(
        """
        try:
            from igfiqa_head import degrade
        except ImportError as error:
            print(error)
        """
    )
    assert "igfiqa-head[train]" in message


def test_importing_the_package_leaves_torch_alone_until_it_is_needed() -> None:
    loaded = "'torch' in sys.modules"
    code = f"import sys, igfiqa_head; assert not {loaded}; igfiqa_head.degrade; assert {loaded}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


@pytest.mark.parametrize("name", igfiqa_head.__all__)
def test_every_public_name_is_loaded_from_its_module(name: str) -> None:
    thing = getattr(igfiqa_head, name)
    assert thing.__name__ == name
    assert getattr(importlib.import_module(thing.__module__), name) is thing
    assert name in dir(igfiqa_head)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        igfiqa_head.nonsense  # noqa: B018


def test_another_missing_dependency_is_not_blamed_on_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(igfiqa_head._HOME, "nonsense", "no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        igfiqa_head.nonsense  # noqa: B018
