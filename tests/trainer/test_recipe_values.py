"""Whatever a recipe sets a key to: a configuration, or one ValueError that names the key."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer import build_parts, schema
from trainer.recipe import RecipeError, load_recipe

VALUES: dict[str, Any] = {}  # what the recipe below sets; objects, too, that no text stands for
RECIPE = f"""
from {__name__} import VALUES

config = {{"rec": "synthetic", "num_epoch": 1}} | VALUES
"""
OF_BLOCKS = [f"{block}.{key}" for block, keys in schema.BLOCKS.items() for key in keys]
NAMES = [*schema.KEYS, *OF_BLOCKS, *schema.BLOCKS]
OF_MARGINS = [
    f"{name}.{key}" for name in ("arcface", "cosface") for key in ("margin", "straight_through", "m")
]

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**63, 10**24, -(10**24), 10**400, 1e38, 1e39, 1e308, 5e-324, 1j]),
)
words = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["meta", "cuda:99", ".", "..", "a..b", "~nobody/x.py", "\0.py", "timm:", "None"]),
    st.just("x" * 5000 + ".py"),
)
plain = st.one_of(st.none(), st.booleans(), numbers, words, st.binary(max_size=5))
nested = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(plain, inner, max_size=3),
    ),
)
objects = st.sampled_from([object(), torch.ones(2), len, iter(()), {1, 2}, range(3), Path()])
values = st.one_of(plain, nested, objects)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "recipe.py"
    path.write_text(RECIPE)
    return path


def load(path: Path, overrides: list[str]) -> None:
    """Load a recipe and look at it as far as that needs no data; a ValueError may be what comes of it."""
    with contextlib.suppress(ValueError):
        build_parts.check_parts(load_recipe(path, overrides))


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(NAMES), value=values)
@example("lr", 10**400)
@example("plugins", ["~nobody/x.py"])
@example("plugins", ["x" * 5000 + ".py"])
@example("ig_fiqa", {3: 1})
def test_a_recipe_gives_a_configuration_or_one_error(recipe: Path, name: str, value: Any) -> None:
    block, _, key = name.rpartition(".")
    VALUES.clear()
    VALUES.update({block: {key: value}} if block else {key: value})
    load(recipe, [])


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from([*NAMES, *OF_MARGINS]), value=st.one_of(values.map(str), words))
@example("lr", "{[]: 1}")
@example("lr", "(" * 500)
@example("ig_fiqa", "{3: 1}")
@example("num_classes", "{None: None}")
@example("scale", "1" + "0" * 400)
@example("arcface.margin", "a")
def test_an_override_gives_a_configuration_or_one_error(recipe: Path, name: str, value: str) -> None:
    VALUES.clear()
    margins = [f"margin={name.partition('.')[0]}"] if name in OF_MARGINS else []
    load(recipe, [f"{name}={value}", *margins])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scale", 1e308, "'scale' accepts a number > 0; got 1e+308, which is more than 1e+38"),
        ("lr", 10**400, "'lr' accepts a number > 0; got 1000"),
        ("embedding_size", 10**10, "got 10000000000, which is more than 2147483647"),
        ("num_classes", 10**11, "accepts an integer >= 2, or None; got 100000000000, which is more than"),
        ("num_workers", 10**17, "'num_workers' accepts an integer >= 0; got"),
        ("seed", [1 << 20000], "9223372036854775807]; got a value of type list"),
        ("plugins", ["~nobody/x.py"], "plugin file '~nobody/x.py' does not exist"),
        ("notes", (x for x in ()), "failed: TypeError"),
        ("ig_fiqa", {3: 1}, "failed: TypeError"),
    ],
)
def test_the_error_tells_what_is_wrong(recipe: Path, name: str, value: Any, message: str) -> None:
    VALUES.clear()
    VALUES[name] = value
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe)
    assert message in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("value", ["{3: 1}", "[1]"])
def test_a_block_has_names(recipe: Path, value: str) -> None:
    VALUES.clear()
    with pytest.raises(RecipeError, match="ig_fiqa is a block of keys"):
        load_recipe(recipe, [f"ig_fiqa={value}"])
