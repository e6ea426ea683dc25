"""The tables of a comparison.

:func:`area_table` has the shape that papers of this field use: a block of rows for each recogniser with a row
for each quality method, columns of test sets x target FMR, the best and the second of a block marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from eval_tools.curve_notes import curve_notes
from eval_tools.results import Comparison, CurveKey, SetKey, SignificanceKey, VerificationSummary
from eval_tools.scores import unresolved_text
from eval_tools.significance import RANDOM_LEVEL, PairedComparison
from eval_tools.tables import Cell, Table, ranked_columns

_NOT_MEASURED = Cell("-", np.nan)
# Below so many pairs of a kind the second decimal of a percentage says nothing.
_FEW_PAIRS = 1000

Rows = Sequence[Sequence[Cell]]
Differences = dict[SignificanceKey, dict[tuple[str, str], PairedComparison]]


def area_table(comparison: Comparison, protocol: str) -> Table:
    """Areas under the curves of one protocol; the lower, the better the quality method."""
    keys = [key for key in comparison.curves if key.protocol == protocol]
    columns = list(dict.fromkeys((key.test_set, key.fmr) for key in keys))
    rows = list(dict.fromkeys((key.recogniser, key.method) for key in keys))
    cells = [[_area_cell(comparison, CurveKey(s, *row, protocol, fmr)) for s, fmr in columns] for row in rows]
    ranked = ranked_columns(cells, [recogniser for recogniser, _ in rows], [False] * len(columns))
    return Table(
        title=f"{_area_name(comparison)}, protocol {protocol} (lower is better)",
        corner=("recogniser", "quality"),
        columns=tuple((test_set, f"FMR {fmr:g}") for test_set, fmr in columns),
        rows=tuple(rows),
        cells=_against_best(comparison, protocol, columns, rows, ranked),
        notes=tuple(curve_notes(comparison, keys)),
        small_print=_interval_name(comparison, protocol),
    )


def significance_table(comparison: Comparison, protocol: str) -> Table:
    """Differences of the areas of every two methods, and of each method and the random level.

    It has no rows where nothing was resampled.
    """
    found = _differences(comparison, protocol)
    columns = list(dict.fromkeys((key.test_set, key.fmr) for key in found))
    recognisers = dict.fromkeys(key.recogniser for key in found)
    rows = [(name, pair) for name in recognisers for pair in _pairs_of(name, found)]
    cells = [
        [
            _difference_cell(comparison, SignificanceKey(s, name, protocol, fmr), found, pair)
            for s, fmr in columns
        ]
        for name, pair in rows
    ]
    return Table(
        title=f"Differences, {_area_name(comparison)}, protocol {protocol} (below 0 the first is better)",
        corner=("recogniser", "difference"),
        columns=tuple((test_set, f"FMR {fmr:g}") for test_set, fmr in columns),
        rows=tuple((name, f"{first} - {second}") for name, (first, second) in rows),
        cells=tuple(map(tuple, cells)),
        notes=("p-values are two-sided and not corrected for the number of comparisons",),
        small_print=f"{_interval_name(comparison, protocol)}; two-sided p",
    )


def resolves_difference(comparison: Comparison, key: SignificanceKey, names: tuple[str, str]) -> bool:
    """Whether the target FMR is resolved all along the curves of two methods; the random level has none."""
    curves = (CurveKey(key.test_set, key.recogniser, name, key.protocol, key.fmr) for name in names)
    return all(comparison.resolves(curve) for curve in curves if curve in comparison.curves)


def verification_table(comparison: Comparison) -> Table:
    """Accuracy, EER and TAR of the recognisers without discarding anything, in per cent."""
    sets = list(dict.fromkeys(key.test_set for key in comparison.verification))
    recognisers = list(dict.fromkeys(key.recogniser for key in comparison.verification))
    measured = {key: _measures(summary) for key, summary in comparison.verification.items()}
    columns = [(s, name) for s in sets for name in measured[SetKey(s, recognisers[0])]]
    cells = [[measured[SetKey(s, recogniser)][name] for s, name in columns] for recogniser in recognisers]
    notes = [
        f"{key.test_set}: {note}"
        for key, summary in comparison.verification.items()
        for note in (_counts(summary), *summary.notes, *_unresolved(summary))
    ]
    return Table(
        title="Verification without discarding, per cent",
        corner=("", "recogniser"),
        columns=tuple(columns),
        rows=tuple(("", recogniser) for recogniser in recognisers),
        cells=ranked_columns(cells, [""] * len(cells), [name != "EER" for _, name in columns]),
        notes=tuple(dict.fromkeys(notes)),
    )


def _area_name(comparison: Comparison) -> str:
    area = "AUC" if comparison.limit is None else f"pAUC up to discard {comparison.limit:g}"
    return f"{area} of the error-versus-reject curves"


def _interval_name(comparison: Comparison, protocol: str) -> str:
    bands = (m.band for key, m in comparison.curves.items() if key.protocol == protocol and m.band)
    band = next(bands, None)
    if band is None:
        return ""
    return f"{100 * band.level:g} % interval, {band.n_resamples} resamples of {band.unit}"


def _area_cell(comparison: Comparison, key: CurveKey) -> Cell:
    measured = comparison.curves.get(key)
    if measured is None or np.isnan(measured.area):
        return _NOT_MEASURED
    band, resolved = measured.band, comparison.resolves(key)
    more = {} if band is None else {"low": band.area_low, "high": band.area_high}
    return Cell(
        f"{measured.area:.4f}",
        measured.area,
        "" if band is None else f"{band.area_low:.4f} to {band.area_high:.4f}",
        resolved=resolved,
        more={**more, "resolved": int(resolved)},
    )


def _against_best(
    comparison: Comparison,
    protocol: str,
    columns: Sequence[tuple[str, float]],
    rows: Sequence[tuple[str, str]],
    cells: Rows,
) -> tuple[tuple[Cell, ...], ...]:
    """The ranked cells, with the p-value of the difference from the best of their recogniser and column."""
    found = _differences(comparison, protocol)
    best = {
        (recogniser, column): method
        for (recogniser, method), of_row in zip(rows, cells, strict=True)
        for column, cell in zip(columns, of_row, strict=True)
        if cell.rank == "best"
    }

    def marked(cell: Cell, recogniser: str, method: str, column: tuple[str, float]) -> Cell:
        pairs = found.get(SignificanceKey(column[0], recogniser, protocol, column[1]), {})
        other = best.get((recogniser, column), method)
        pair = pairs.get((method, other)) or pairs.get((other, method))
        if pair is None:
            return cell
        alike = pair.p_value >= 1 - pair.level
        return replace(cell, alike=alike, more={**cell.more, "p against best": pair.p_value})

    return tuple(
        tuple(marked(cell, *row, column) for cell, column in zip(of_row, columns, strict=True))
        for row, of_row in zip(rows, cells, strict=True)
    )


def _differences(comparison: Comparison, protocol: str) -> Differences:
    """The paired comparisons, by the names of the two."""
    found = {
        key: {(pair.first, pair.second): pair for pair in pairs}
        for key, pairs in comparison.significance.items()
        if key.protocol == protocol
    }
    for key, measured in comparison.curves.items():
        if key.protocol == protocol and measured.against_random is not None:
            where = SignificanceKey(key.test_set, key.recogniser, protocol, key.fmr)
            found.setdefault(where, {})[key.method, RANDOM_LEVEL] = measured.against_random
    return found


def _pairs_of(recogniser: str, found: Differences) -> Iterable[tuple[str, str]]:
    """The pairs of names that were compared anywhere with a recogniser."""
    of_recogniser = (pairs for key, pairs in found.items() if key.recogniser == recogniser)
    return dict.fromkeys(pair for pairs in of_recogniser for pair in pairs)


def _difference_cell(
    comparison: Comparison, key: SignificanceKey, found: Differences, names: tuple[str, str]
) -> Cell:
    pair = found.get(key, {}).get(names)
    if pair is None or np.isnan(pair.difference):
        return _NOT_MEASURED
    resolved = resolves_difference(comparison, key, names)
    return Cell(
        f"{pair.difference:+.4f}",
        pair.difference,
        f"{pair.low:.4f} to {pair.high:.4f}, p {pair.p_value:.2g}",
        resolved=resolved,
        more={"low": pair.low, "high": pair.high, "p": pair.p_value, "resolved": int(resolved)},
    )


def _measures(summary: VerificationSummary) -> dict[str, Cell]:
    """The cells of a set, by the names of their columns."""
    cells = {}
    if summary.accuracy is not None:
        cells["accuracy"] = _per_cent(summary.accuracy, summary.accuracy_std)
    cells["EER"] = _per_cent(summary.eer, resolved=summary.eer_resolved)
    for point in summary.operating_points:
        cells[f"TAR@{point.target_fmr:g}"] = _per_cent(point.tar, resolved=point.resolved)
    return cells


def _per_cent(value: float, deviation: float | None = None, *, resolved: bool | None = None) -> Cell:
    """A rate; ``resolved`` None where that is no question."""
    text, more = f"{100 * value:.2f}", {}
    if deviation is not None:
        text, more = f"{text} ± {100 * deviation:.2f}", {"std": 100 * deviation}
    if resolved is None:
        return Cell(text, 100 * value, more=more)
    return Cell(text, 100 * value, resolved=resolved, more={**more, "resolved": int(resolved)})


def _unresolved(summary: VerificationSummary) -> Iterator[str]:
    for point in summary.operating_points:
        if not point.resolved:
            yield unresolved_text(point.target_fmr, point.n_impostor, point.fmr)


def _counts(summary: VerificationSummary) -> str:
    pairs = f"{summary.n_genuine:,} genuine and {summary.n_impostor:,} impostor pairs"
    if summary.n_genuine < _FEW_PAIRS:
        pairs += f"; one genuine pair is {float(f'{100 / summary.n_genuine:.2g}'):g} % of a TAR"
    return pairs if summary.n_images is None else f"{summary.n_images:,} images, {pairs}"
