"""Operating points by counting: of pairs, and of all pairs of a set."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from eval_tools.operating_points import all_pairs_operating_points, operating_point
from eval_tools.scores import UnresolvedFMRWarning
from eval_tools.verification import verify
from tests.eval_tools.pairs import Array, embedded_pairs, source_line
from tests.references import verification as reference

pytestmark = pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning")


@pytest.mark.parametrize("fmr", [1e-3, 0.05, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_tar_at_fmr(fmr: float, seed: int) -> None:
    result = verify(*embedded_pairs(seed, 60, 1.5))
    expected = reference.tar_at_fmr(result.similarity.tolist(), result.is_genuine.tolist(), fmr)
    point = result.operating_point(fmr)
    assert result.tar_at_fmr(fmr) == pytest.approx(expected)
    assert point.tar == pytest.approx(expected)
    assert point.fnmr == pytest.approx(1 - expected)
    assert point.fmr <= fmr
    accepted = result.similarity >= point.threshold
    assert point.n_false_match == np.count_nonzero(accepted & ~result.is_genuine)
    assert point.n_false_non_match == np.count_nonzero(~accepted & result.is_genuine)
    assert (point.n_genuine, point.n_impostor) == (result.n_genuine, result.n_impostor)


@pytest.mark.parametrize("block", [1, 4, 512])
@pytest.mark.parametrize("exact", [True, False])
def test_all_pairs_by_brute_force(block: int, exact: bool) -> None:
    rng = np.random.default_rng(block)
    identities = rng.integers(0, 5, 30)
    tied = rng.choice([-1.0, 1.0], (30, 4))  # norms and cosines exact in floating point
    embeddings = tied if exact else rng.normal(size=(5, 4))[identities] + rng.normal(size=(30, 4))
    fmrs = (0.5, 1e-2, 0.1, 0.02)
    points = all_pairs_operating_points(embeddings, identities, fmrs, block=block)
    similarity, same = reference.all_pairs(embeddings.tolist(), identities.tolist())
    assert [point.target_fmr for point in points] == list(fmrs)
    for fmr, point in zip(fmrs, points, strict=True):
        assert point.tar == pytest.approx(reference.tar_at_fmr(similarity, same, fmr))
        assert (point.n_genuine, point.n_impostor) == (sum(same), len(same) - sum(same))
        # Inexact cosines are rounded differently here and there, so the threshold may lie on either side.
        above = sum(
            score > point.threshold + 1e-12 for score, kind in zip(similarity, same, strict=True) if not kind
        )
        at = sum(
            abs(score - point.threshold) <= 1e-12
            for score, kind in zip(similarity, same, strict=True)
            if not kind
        )
        assert above <= point.n_false_match <= above + at
        assert point.fmr <= fmr


def test_all_pairs_takes_names_and_float32() -> None:
    rng = np.random.default_rng(4)
    identities, embeddings = rng.integers(0, 4, 25), rng.choice([-1.0, 1.0], (25, 16))
    names = [f"id {identity}" for identity in identities]
    expected = all_pairs_operating_points(embeddings, identities, [0.1])
    assert (
        all_pairs_operating_points(embeddings.astype(np.float32) * 8, names, [0.1])[0].tar == expected[0].tar
    )


def test_unresolved_fmr_warns_at_the_caller() -> None:
    result = verify(*embedded_pairs(0, 40, 1.0))
    message = f"^FMR 0.0001 cannot be resolved with {result.n_impostor} impostor pairs: it takes at least 1"
    with pytest.warns(UnresolvedFMRWarning, match=message) as record:
        point = result.operating_point(1e-4)
    assert "result.operating_point(" in source_line(record[0])
    assert not point.resolved
    with pytest.warns(UnresolvedFMRWarning, match=message) as record:
        result.tar_at_fmr(1e-4)
    assert "result.tar_at_fmr(" in source_line(record[0])
    with pytest.warns(UnresolvedFMRWarning, match=message) as record:
        operating_point(result.similarity, result.is_genuine, 1e-4)
    assert "operating_point(" in source_line(record[0])


def test_tied_scores_do_not_resolve_the_fmr() -> None:
    tied = "with 100 impostor pairs: it allows 10 false matches, but more .* tie .*; the effective FMR is 0$"
    with pytest.warns(UnresolvedFMRWarning, match=tied):
        point = operating_point(np.append(np.full(100, 0.5), 0.9), np.arange(101) == 100, 0.1)
    assert not point.resolved
    assert (point.fmr, point.tar) == (0.0, 1.0)


def test_resolved_fmr_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert operating_point(np.arange(11.0), np.arange(11) == 10, 0.1).resolved


def test_unresolved_fmr_of_all_pairs_warns_once_per_target() -> None:
    embeddings, identities = np.eye(4), [0, 0, 1, 1]
    with pytest.warns(UnresolvedFMRWarning, match="with 4 impostor pairs") as record:
        all_pairs_operating_points(embeddings, identities, (1e-3, 1e-4))
    assert len(record) == 2
    assert all("all_pairs_operating_points(" in source_line(warning) for warning in record)


@pytest.mark.parametrize(
    ("embeddings", "identities", "fmrs", "message"),
    [
        (np.eye(3), [0, 0], [0.1], r"identities must have shape \(3,\)"),
        (np.eye(3), [0, 1, 2], [0.1], "0 genuine and 3 impostor pairs"),
        (np.eye(3), [5, 5, 5], [0.1], "3 genuine and 0 impostor pairs"),
        (np.eye(3), [0, 0, 1], [0.1, 1.0], "fmr must lie strictly between 0 and 1, got 1.0"),
        (np.diag([1, 0, 1.0]), [0, 0, 1], [0.1], "zero or not finite"),
        (np.ones(3), [0, 0, 1], [0.1], r"non-empty array \[N, D\]"),
        (np.eye(3), [0, 0, 1], [], r"fmrs must be one or more target FMRs .*got \[\]"),
        (np.eye(3), [0, 0, 1], 0.1, "fmrs must be one or more target FMRs .*got 0.1"),
        (np.eye(3), [0, 0, 1], ["0.1"], "fmr must lie strictly between 0 and 1, got '0.1'"),
        (np.eye(3), [0, 0, np.nan], [0.1], "identities must be whole numbers or names, got dtype float64"),
        (np.eye(3), [0, None, "x"], [0.1], "identities must be whole numbers or names, got dtype object"),
    ],
)
def test_all_pairs_rejects(embeddings: Array, identities: Any, fmrs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        all_pairs_operating_points(embeddings, identities, fmrs)


@pytest.mark.parametrize("block", [0, -3, 1.5, "2", True])
def test_all_pairs_rejects_block(block: Any) -> None:
    with pytest.raises(ValueError, match="block must be a whole number from 1 on, got"):
        all_pairs_operating_points(np.eye(3), [0, 0, 1], [0.1], block=block)


@pytest.mark.parametrize("fmr", [0.0, 1.0, -1.0, float("nan"), "0.1", True, None])
def test_operating_point_rejects(fmr: Any) -> None:
    with pytest.raises(ValueError, match="fmr must lie strictly between 0 and 1"):
        operating_point([0.1, 0.2], [0, 1], fmr)
    with pytest.raises(ValueError, match="fmr must lie strictly between 0 and 1"):
        verify(*embedded_pairs(0, 20, 1.0)).tar_at_fmr(fmr)
