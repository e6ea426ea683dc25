"""Tables of a comparison: what is resolved, told apart and said below them."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from eval_tools.compare import GIVEN_SCORES, compare_scored_pairs
from eval_tools.curve import Protocol
from eval_tools.measure import Settings
from eval_tools.outputs import summary
from eval_tools.precomputed import ScoredPairs
from eval_tools.result_tables import area_table, significance_table, verification_table
from eval_tools.results import Comparison, CurveKey
from eval_tools.scores import FloatArray


def _compared(
    n_impostor: int, qualities: Mapping[str, FloatArray] | None = None, **settings: Any
) -> Comparison:
    """400 genuine pairs and some impostor pairs; ``good`` knows what fails, ``bad`` has it the wrong way."""
    rng = np.random.default_rng(0)
    is_genuine = np.arange(400 + n_impostor) < 400
    quality = rng.random(is_genuine.size)
    similarity = np.where(is_genuine, quality, 0.6 * rng.random(is_genuine.size))
    methods = qualities or {"good": quality + 0.1 * rng.random(quality.size), "bad": -quality}
    pairs = ScoredPairs(similarity, is_genuine, methods, None, ())
    return compare_scored_pairs({"set": pairs}, Settings(**settings), progress=False)


def _cells(comparison: Comparison, protocol: Protocol = "fixed") -> dict[tuple[str, str], Any]:
    table = area_table(comparison, protocol)
    return {
        (row[1], column[1]): cell
        for row, cells in zip(table.rows, table.cells, strict=True)
        for column, cell in zip(table.columns, cells, strict=True)
    }


def test_an_area_at_an_fmr_that_is_not_resolved_is_neither_best_nor_unmarked() -> None:
    comparison = _compared(300, fmrs=(1e-2, 1e-4), n_resamples=40, protocols=("fixed",))
    cells = _cells(comparison)
    assert [cells[m, "FMR 0.01"].rank for m in ("good", "bad")] == ["best", "second"]
    for method in ("good", "bad"):
        cell = cells[method, "FMR 0.0001"]
        assert (cell.resolved, cell.rank, cell.alike, cell.more["resolved"]) == (False, "", False, 0)
    assert any(
        "FMR 0.0001 cannot be resolved with 300 impostor pairs" in n
        for n in area_table(comparison, "fixed").notes
    )
    curves = summary(comparison)["test_sets"]["set"][GIVEN_SCORES]["erc"]["fixed"]
    assert [curves[fmr]["good"]["resolved"] for fmr in ("0.01", "0.0001")] == [True, False]
    tars = verification_table(comparison).cells[0][-2:]
    assert [cell.resolved for cell in tars] == [True, False]
    reasons = [note for note in verification_table(comparison).notes if "cannot be resolved" in note]
    assert len(reasons) == 1
    assert reasons[0].startswith("set: FMR 0.0001 cannot be resolved with 300 impostor pairs")


def test_usual_fmrs_are_left_out_where_a_set_does_not_resolve_them() -> None:
    few = _compared(300, n_resamples=0)
    assert few.names("fmr") == [0.01]
    assert any("FMR 0.001, 0.0001 left out" in note for note in verification_table(few).notes)
    some = _compared(1000, n_resamples=0)
    assert some.names("fmr") == [1e-3]
    many = _compared(10_000, n_resamples=0)
    assert many.names("fmr") == [1e-3, 1e-4]
    assert not any("left out" in note for note in verification_table(many).notes)


def test_the_end_of_a_curve_with_too_few_impostor_pairs_left_is_not_ranked() -> None:
    """200 impostor pairs at FMR 0.01: at a discard of 0.95 about 10 of them are left."""
    whole = _compared(200, fmrs=(0.01,), n_resamples=0, protocols=("crfiqa",))
    cells = _cells(whole, "crfiqa")
    assert {cell.rank for cell in cells.values()} == {""}
    assert not any(cell.resolved for cell in cells.values())
    (note,) = [n for n in area_table(whole, "crfiqa").notes if n.startswith("†")]
    limit = float(note.split("--limit ")[1].split()[0])
    part = _compared(200, fmrs=(0.01,), limit=limit, n_resamples=0, protocols=("crfiqa",))
    assert {cell.rank for cell in _cells(part, "crfiqa").values()} == {"best", "second"}


@pytest.mark.parametrize("n_impostor", [100, 101, 103, 106, 117, 133, 151])
def test_a_limit_is_advised_only_where_it_can_be_followed(n_impostor: int) -> None:
    """A limit of 0 is refused, and one that is rounded up gives areas that are not resolved."""
    few = _compared(n_impostor, fmrs=(0.01,), n_resamples=0, protocols=("crfiqa",))
    (note,) = [n for n in area_table(few, "crfiqa").notes if n.startswith("†")]
    if "--limit" not in note:
        assert "resolved before anything is discarded only" in note
        return
    limit = float(note.split("--limit ")[1].split()[0])
    part = _compared(n_impostor, fmrs=(0.01,), limit=limit, n_resamples=0, protocols=("crfiqa",))
    assert all(cell.resolved for cell in _cells(part, "crfiqa").values())


def test_a_method_worse_than_random_is_named_and_others_are_not() -> None:
    comparison = _compared(1000, fmrs=(0.01,), n_resamples=100, protocols=("fixed", "fixed-all"), limit=0.9)
    for protocol in comparison.names("protocol"):
        table = area_table(comparison, protocol)
        (note,) = (note for note in table.notes if "worse than random" in note)
        assert "bad is worse than random" in note
        assert f"% {note}" in table.to_latex()
    curves = summary(comparison)["test_sets"]["set"][GIVEN_SCORES]["erc"]["fixed"]["0.01"]
    assert (curves["good"]["worse_than_random"], curves["bad"]["worse_than_random"]) == (False, True)
    assert curves["bad"]["against_random"]["low"] > 0


def test_without_resampling_nobody_is_called_worse_than_random() -> None:
    comparison = _compared(1000, fmrs=(0.01,), n_resamples=0)
    assert not any("worse than random" in note for note in area_table(comparison, "fixed").notes)
    curves = summary(comparison)["test_sets"]["set"][GIVEN_SCORES]["erc"]["fixed"]["0.01"]
    assert curves["bad"]["worse_than_random"] is curves["bad"]["against_random"] is None


def test_ties_that_the_discard_grid_cuts_through_are_told() -> None:
    qualities = {"flat": np.arange(1400) // 700 * 1.0, "fine": np.arange(1400.0)}
    comparison = _compared(1000, qualities, fmrs=(0.01,), n_resamples=0)
    (note,) = [n for n in area_table(comparison, "crfiqa").notes if "equal quality" in n]
    assert "(flat 50 % of all pairs)" in note
    assert not any("equal quality" in n for n in area_table(comparison, "fixed").notes)


def _separated(n_errors: int) -> Comparison:
    """400 genuine pairs of which so many fail, the others above all impostor pairs."""
    rng = np.random.default_rng(0)
    is_genuine = np.arange(1400) < 400
    similarity = np.where(is_genuine, 1.0 + rng.random(1400), rng.random(1400))
    similarity[:n_errors] = 0.0
    pairs = ScoredPairs(similarity, is_genuine, {"q": rng.random(1400)}, None, ())
    settings = Settings(fmrs=(0.01,), n_resamples=0, protocols=("fixed",))
    return compare_scored_pairs({"set": pairs}, settings, progress=False)


def test_areas_that_rest_on_few_errors_say_on_how_many() -> None:
    notes = area_table(_separated(3), "fixed").notes
    assert any("rest on 3 false non-matches of 400 genuine pairs" in note for note in notes)
    assert not any("false non-matches" in note for note in area_table(_separated(30), "fixed").notes)


def test_an_equal_error_rate_below_one_error_is_marked() -> None:
    resolved = [verification_table(_separated(n)).cells[0][0].resolved for n in (0, 1, 3)]
    assert resolved == [False, True, True]


def test_intervals_and_p_values_are_in_csv_and_latex() -> None:
    comparison = _compared(1000, fmrs=(0.01,), n_resamples=100, protocols=("fixed",))
    key = CurveKey("set", GIVEN_SCORES, "good", "fixed", 0.01)
    band = comparison.curves[key].band
    assert band is not None
    areas = {
        row["quality"]: row for row in csv.DictReader(io.StringIO(area_table(comparison, "fixed").to_csv()))
    }
    assert float(areas["good"]["set FMR 0.01 low"]) == band.area_low
    assert float(areas["good"]["set FMR 0.01 high"]) == band.area_high
    ((pair,),) = comparison.significance.values()
    assert float(areas["bad"]["set FMR 0.01 p against best"]) == pair.p_value
    assert areas["good"]["set FMR 0.01 p against best"] == ""
    assert f"[{band.area_low:.4f} to {band.area_high:.4f}]" in area_table(comparison, "fixed").to_latex()
    table = significance_table(comparison, "fixed")
    rows = {row["difference"]: row for row in csv.DictReader(io.StringIO(table.to_csv()))}
    assert set(rows) == {"good - bad", "good - random level", "bad - random level"}
    assert float(rows["good - bad"]["set FMR 0.01"]) == pair.difference
    assert float(rows["good - bad"]["set FMR 0.01 p"]) == pair.p_value
    assert f"[{pair.low:.4f} to {pair.high:.4f}, p {pair.p_value:.2g}]" in table.to_latex()


def test_differences_of_curves_that_are_not_resolved_are_marked() -> None:
    comparison = _compared(300, fmrs=(1e-4,), n_resamples=40, protocols=("fixed",))
    assert not any(cell.resolved for row in significance_table(comparison, "fixed").cells for cell in row)


def test_without_resampling_there_are_no_differences() -> None:
    comparison = _compared(1000, fmrs=(0.01,), n_resamples=0, protocols=("fixed",))
    assert significance_table(comparison, "fixed").rows == ()


def test_only_what_resampling_does_not_tell_from_the_best_is_alike() -> None:
    comparison = _compared(1000, fmrs=(0.01,), n_resamples=100, protocols=("fixed",))
    assert not any(cell.alike for cell in _cells(comparison).values())
    ((key, (pair,)),) = comparison.significance.items()
    unsure = dataclasses.replace(comparison, significance={key: (dataclasses.replace(pair, p_value=0.4),)})
    assert [_cells(unsure)[m, "FMR 0.01"].alike for m in ("good", "bad")] == [False, True]
