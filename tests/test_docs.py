"""What the documents promise is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_scripts_and_recipes_named_in_commands_exist(page: Path) -> None:
    for path in re.findall(
        r"(?<![\w/])((?:recipes|benchmarks|trainer|tests)(?:/\w+)+\.py)\b", page.read_text(encoding="utf-8")
    ):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_examples_are_python(page: Path) -> None:
    for example in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        ast.parse(example)


def test_readme_lists_every_recipe_and_the_two_lines_of_the_quick_start() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for recipe in (ROOT / "recipes").glob("*.py"):
        assert recipe.stem in readme
    assert re.findall(r"^pip install -e .*$", readme, re.MULTILINE) == [
        'pip install -e ".[train]" && python train.py recipes/quickstart.py',
        'pip install -e ".[test]" && python -m pytest',
    ]
