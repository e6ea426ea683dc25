"""The registry, plugins given by name or path, and entry points of installed packages."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from igfiqa_head.registry import BACKBONES, Registry, import_plugin, import_submodules, load_entry_points

PLUGIN = """
from igfiqa_head.registry import BACKBONES

@BACKBONES.register({name!r})
class Plugin: ...
"""


@pytest.fixture
def backbones(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The real table, restored afterwards."""
    monkeypatch.setattr(BACKBONES, "_entries", {})
    return BACKBONES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the Python path whose modules are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write_plugin(path: Path, name: str) -> Path:
    path.write_text(PLUGIN.format(name=name))
    return path


def test_what_is_registered_is_found() -> None:
    registry = Registry("margin")

    @registry.register("b")
    def function() -> None: ...

    @registry.register("a")
    class Thing: ...

    assert registry.get("b") is function
    assert registry.get("a") is Thing
    assert list(registry) == ["a", "b"]
    assert len(registry) == 2
    assert "a" in registry
    assert "c" not in registry


def test_a_duplicate_names_the_module_that_holds_the_name() -> None:
    registry = Registry("margin")
    registry.register("arcface")(Path)
    with pytest.raises(ValueError, match=rf"margin 'arcface'.*already.*{Path.__module__}"):
        registry.register("arcface")(Registry)
    assert registry.get("arcface") is Path


def test_an_unknown_name_lists_the_closest_and_all() -> None:
    registry = Registry("margin")
    for name in ("arcface", "cosface", "magface"):
        registry.register(name)(object)
    with pytest.raises(
        ValueError, match=r"unknown margin 'arcfase'\. Did you mean 'arcface'.*arcface, cosface, magface"
    ):
        registry.get("arcfase")
    with pytest.raises(ValueError, match=r"unknown margin 'qqqq'\. Registered: arcface, cosface, magface"):
        registry.get("qqqq")
    with pytest.raises(ValueError, match="Registered: none"):
        Registry("margin").get("arcface")


def test_a_plugin_file_registers_itself_once(backbones: Registry, folder: Path) -> None:
    path = write_plugin(folder / "my backbone.py", "mine")
    import_plugin(str(path))
    import_plugin(str(path))
    assert list(backbones) == ["mine"]


def test_files_of_the_same_name_in_two_folders_are_two_plugins(backbones: Registry, folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).mkdir()
        import_plugin(str(write_plugin(folder / name / "net.py", name)))
    assert list(backbones) == ["one", "two"]


def test_a_relative_path_is_taken_from_the_working_directory(
    backbones: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(folder / "near.py", "near")
    monkeypatch.chdir(folder)
    import_plugin("near.py")
    assert list(backbones) == ["near"]


def test_a_plugin_module_and_a_module_inside_a_package(backbones: Registry, folder: Path) -> None:
    write_plugin(folder / "flat_plugin.py", "flat")
    (folder / "plugin_package").mkdir()
    (folder / "plugin_package" / "__init__.py").touch()
    write_plugin(folder / "plugin_package" / "inner.py", "inner")
    import_plugin("flat_plugin")
    import_plugin("plugin_package.inner")
    assert list(backbones) == ["flat", "inner"]


@pytest.mark.parametrize("plugin", ["no_such_module", "no_such_package.inner", "missing/file.py"])
def test_a_missing_plugin_is_named(plugin: str) -> None:
    with pytest.raises(ValueError, match=rf"plugin (module|file) '{plugin}'"):
        import_plugin(plugin)


def test_a_missing_module_of_a_package_that_exists_is_named() -> None:
    with pytest.raises(ValueError, match=r"plugin module 'json\.no_such_module'"):
        import_plugin("json.no_such_module")


def test_an_import_error_inside_a_plugin_is_not_hidden(folder: Path) -> None:
    (folder / "needs_more.py").write_text("import no_such_dependency")
    for plugin in ("needs_more", str(folder / "needs_more.py")):
        with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
            import_plugin(plugin)


def test_a_plugin_file_that_failed_fails_again(folder: Path) -> None:
    (folder / "broken.py").write_text("raise RuntimeError('broken plugin')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken plugin"):
            import_plugin(str(folder / "broken.py"))


def test_every_module_of_a_package_is_imported(backbones: Registry, folder: Path) -> None:
    (folder / "kind").mkdir()
    (folder / "kind" / "__init__.py").write_text("")
    for name in ("x", "y"):
        write_plugin(folder / "kind" / f"{name}.py", name)
    import_submodules("kind")
    assert list(backbones) == ["x", "y"]


def test_entry_points_of_installed_packages_are_loaded(backbones: Registry, folder: Path) -> None:
    write_plugin(folder / "announced.py", "announced")
    write_plugin(folder / "silent.py", "silent")
    metadata = folder / "announced-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: announced\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[igfiqa.plugins]\nany = announced\n[other]\nany = silent\n")
    load_entry_points()
    load_entry_points()
    assert "announced" in backbones
    assert "silent" not in backbones
