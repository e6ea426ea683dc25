"""Qualities that rank nothing are told and left out, not compared."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from eval_tools.cli import main
from eval_tools.compare import compare_scored_pairs
from eval_tools.constant_quality import constant_fault, length_fault
from eval_tools.measure import Settings
from eval_tools.precomputed import ScoredPairs
from eval_tools.results import Comparison
from eval_tools.scored_set import ScoredSet, with_common_norm_faults
from tests.eval_tools.faces import SIZE, write_pair_set
from tests.onnx_models import write_model


def unit_lengths(dtype: type, width: int, count: int = 5000) -> NDArray[np.float64]:
    """Lengths of embeddings that were made of unit length and kept in a precision."""
    return np.linalg.norm(unit_rows_of(width, count).astype(dtype).astype(np.float64), axis=1)


def unit_rows_of(width: int, count: int = 5000) -> NDArray[np.float64]:
    rows = np.random.default_rng(0).normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("width", [64, 128, 512])
def test_unit_lengths_are_known_in_every_precision(dtype: type, width: int) -> None:
    assert "embeddings of one length" in str(length_fault(unit_lengths(dtype, width)))


@pytest.mark.parametrize("scale", [1.0, 127.0])
@pytest.mark.parametrize("width", [64, 128, 512])
def test_unit_lengths_kept_in_int8_are_known(scale: float, width: int) -> None:
    rows = np.random.default_rng(0).normal(size=(5000, width))
    codes = np.rint(127 * rows / np.linalg.norm(rows, axis=1, keepdims=True))
    assert "embeddings of one length" in str(length_fault(scale * np.linalg.norm(codes, axis=1)))


def test_unit_lengths_kept_in_bfloat16_are_known() -> None:
    unit = unit_rows_of(512).astype(np.float32)
    kept = ((unit.view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32)
    assert "embeddings of one length" in str(length_fault(np.linalg.norm(kept, axis=1)))


def test_lengths_that_vary_are_a_quality() -> None:
    assert length_fault(np.linspace(20.0, 26.0, 50)) is None


def test_where_embeddings_lie_is_told_without_a_guess_why() -> None:
    fault = length_fault(np.array([1.0, 1.0006]))
    assert fault == "lengths lie from 1 to 1.0006: embeddings of one length"


def test_given_values_are_constant_only_where_they_are_equal() -> None:
    assert constant_fault(np.array([1e6, 1e6 + 1e-3]), 0.0) is None
    assert constant_fault(np.array([0.3, 0.3]), 0.0) == "all 2 values are 0.3 and rank nothing"


@pytest.mark.parametrize("values", [[0.0, 0.0], [7, 7, 7], [1.0, 1.000009], [-3.0, -3.00002]])
def test_values_that_differ_by_rounding_rank_nothing(values: list[float]) -> None:
    assert "rank nothing" in str(constant_fault(np.array(values)))


@pytest.mark.parametrize("values", [[], [3.0], [1, 2], [0.0, 1e-30], [0.9990, 0.9991], [-1e-9, 1e-9]])
def test_values_that_differ_by_more_rank(values: list[float]) -> None:
    assert constant_fault(np.array(values)) is None


def unit_length(path: Path) -> Path:
    """A recogniser that divides its embeddings by their length."""
    model = onnx.load(write_model(path, size=SIZE))
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.append(onnx.helper.make_node("LpNormalization", ["raw"], ["embedding"], axis=1, p=2))
    onnx.save(model, path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_pair_set(tmp_path / "pairs.bin")
    write_model(tmp_path / "plain.onnx", size=SIZE)
    unit_length(tmp_path / "unit.onnx")
    return tmp_path


COMPARE = "compare pairs.bin --fmr 0.1 --bootstrap 0 --no-cache --output out --overwrite"


def test_the_norm_is_left_out_where_a_recogniser_gives_unit_length(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = "--recogniser u=unit.onnx p=plain.onnx --quality norm random"
    assert main(f"{COMPARE} {models}".split()) == 0
    curves = Comparison.load(here / "out").curves
    assert {(key.recogniser, key.method) for key in curves} == {
        ("u", "random"),
        ("p", "norm"),
        ("p", "random"),
    }
    assert re.search(
        "norm of u is left out: lengths lie from .*: embeddings of one len", capsys.readouterr().out
    )
    assert list((here / "out" / "figures").glob("quality_norm.*"))  # of p


def test_where_nothing_else_is_to_be_judged_it_is_an_error(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(f"{COMPARE} --recogniser u=unit.onnx --quality norm".split()) == 2
    assert "norm of u is left out: lengths lie from" in capsys.readouterr().err


def test_normalised_embeddings_from_a_file_have_no_norm(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(f"{COMPARE} --recogniser plain.onnx --quality norm".split()) == 0
    count = len(next(iter(Comparison.load(here / "out").quality.values())))
    rows = np.random.default_rng(0).normal(size=(count, 64))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.savez(here / "unit.npz", embeddings=unit.astype(np.float16))
    assert main(f"{COMPARE} --recogniser u=unit.npz --quality norm".split()) == 2
    assert "embeddings of one length" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["calibrate", "threshold --discard 0.1"])
def test_one_method_alone_is_refused(here: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(f"{command} pairs.bin --quality norm --recogniser unit.onnx --no-cache".split()) == 2
    assert "norm means nothing on pairs: lengths lie from" in capsys.readouterr().err


def test_a_constant_column_of_scored_pairs_is_left_out() -> None:
    rng = np.random.default_rng(0)
    is_genuine = np.arange(200) < 100
    quality = {"good": rng.uniform(size=200), "constant": np.full(200, 0.3)}
    pairs = ScoredPairs(rng.uniform(size=200) + is_genuine, is_genuine, quality, None, ())
    result = compare_scored_pairs({"a": pairs}, Settings(fmrs=(0.1,), n_resamples=0), progress=False)
    assert {key.method for key in result.curves} == {"good"}
    (summary,) = result.verification.values()
    assert "constant of given scores is left out: all 200 values are 0.3 and rank nothing" in summary.notes[0]


@pytest.mark.parametrize(("offset", "step"), [(1e6, 1.0), (1000.0, 1e-3)])
def test_given_scores_far_from_zero_are_ranked(offset: float, step: float) -> None:
    rng = np.random.default_rng(0)
    is_genuine = np.arange(200) < 100
    quality = {"far": offset + step * rng.uniform(size=200)}
    pairs = ScoredPairs(rng.uniform(size=200) + is_genuine, is_genuine, quality, None, ())
    result = compare_scored_pairs({"a": pairs}, Settings(fmrs=(0.1,), n_resamples=0), progress=False)
    assert {key.method for key in result.curves} == {"far"}


def test_given_scores_of_images_far_from_zero_are_ranked(here: Path) -> None:
    assert main(f"{COMPARE} --recogniser plain.onnx --quality norm".split()) == 0
    count = len(next(iter(Comparison.load(here / "out").quality.values())))
    np.savez(here / "far.npz", quality=1e6 + np.random.default_rng(0).uniform(size=count))
    assert main(f"{COMPARE} --recogniser plain.onnx --quality far.npz".split()) == 0


def test_a_norm_is_ranked_on_all_sets_of_a_run_or_on_none() -> None:
    """The lengths of one set alone may lie closer to each other than those of another."""
    close, wide = np.linspace(20.0, 20.5, 9), np.linspace(15.0, 25.0, 9)
    sets = with_common_norm_faults({"clean": scored(close), "degraded": scored(wide)})
    assert scored(close).fault("norm", "r") is not None
    assert [one.fault("norm", "r") for one in sets.values()] == [None, None]


def scored(norms: NDArray[np.float64]) -> ScoredSet:
    faults = {"r": length_fault(norms)}
    return ScoredSet(None, {}, ("norm",), {}, {"r": norms}, frozenset(), faults)  # type: ignore[arg-type]
