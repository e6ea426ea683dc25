"""Notes below tables of areas under error-versus-reject curves: the limits of what they tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from eval_tools.curve import ErrorRejectionCurve
from eval_tools.results import Comparison, CurveKey
from eval_tools.scores import RULE_OF_THIRTY, unresolved_text

# A cut through fewer equal qualities than a fifth of the step of the discard grid moves next to nothing.
_TIED = 0.01


def curve_notes(comparison: Comparison, keys: Sequence[CurveKey]) -> Iterator[str]:
    """Notes on curves of one protocol: where they are not resolved, rest on few errors or cut through ties,
    which methods are worse than random, and why an area is missing."""
    for (test_set, fmr), of_column in _grouped(keys).items():
        curves = [comparison.curves[key].curve for key in of_column]
        if not all(map(comparison.resolves, of_column)):
            yield f"† {test_set}: {_resolution(curves, fmr)}"
        yield from _few_errors(f"{test_set}, FMR {fmr:g}", curves)
        yield from _worse_than_random(comparison, of_column)
    yield from _ties(comparison, keys)
    if any(np.isnan(comparison.curves[key].area) for key in keys):
        yield "- no area: no genuine or no impostor pair is left at the end; set a lower --limit"


def _grouped(keys: Sequence[CurveKey]) -> Mapping[tuple[str, float], list[CurveKey]]:
    groups: dict[tuple[str, float], list[CurveKey]] = {}
    for key in keys:
        groups.setdefault((key.test_set, key.fmr), []).append(key)
    return groups


def _resolution(curves: Sequence[ErrorRejectionCurve], fmr: float) -> str:
    for curve in curves:
        if curve.resolved_end is None:
            effective = float(np.atleast_1d(curve.effective_fmr)[0])
            return unresolved_text(fmr, int(curve.n_impostor[0]), effective)
    end = min(curve.resolved_end or 0.0 for curve in curves)
    limit = math.floor(100 * end + 1e-9) / 100  # rounded up it would reach beyond
    if not limit:
        return (
            f"FMR {fmr:g} is resolved before anything is discarded only, then too few impostor pairs are left"
        )
    return (
        f"FMR {fmr:g} is resolved up to discard {limit:g} only, beyond too few impostor pairs are left; "
        f"--limit {limit:g} gives areas that are resolved"
    )


def _few_errors(where: str, curves: Sequence[ErrorRejectionCurve]) -> Iterator[str]:
    fewest = min(curves, key=lambda curve: int(curve.n_errors[0]))
    n_errors = int(fewest.n_errors[0])
    if fewest.resolved_end is not None and n_errors < RULE_OF_THIRTY:
        yield (
            f"{where}: the areas rest on {n_errors} false non-matches of {fewest.n_genuine[0]:,} genuine "
            f"pairs; with fewer than {RULE_OF_THIRTY} the order of the methods may be chance"
        )


def _worse_than_random(comparison: Comparison, keys: Sequence[CurveKey]) -> Iterator[str]:
    for key in filter(comparison.worse_than_random, keys):
        against = comparison.curves[key].against_random
        if against is not None:
            yield (
                f"{key.test_set}, FMR {key.fmr:g}: {key.method} is worse than random with {key.recogniser}: "
                f"its area lies {against.low:.4f} to {against.high:.4f} above that of the random level "
                f"({100 * against.level:g} % interval)"
            )


def _ties(comparison: Comparison, keys: Sequence[CurveKey]) -> Iterator[str]:
    tied: dict[str, dict[str, float]] = {}
    for key in keys:
        share = comparison.curves[key].tied
        if share > _TIED:
            of_set = tied.setdefault(key.test_set, {})
            of_set[key.method] = max(of_set.get(key.method, 0.0), share)
    for test_set, of_set in tied.items():
        listed = ", ".join(f"{method} {100 * share:.0f} %" for method, share in of_set.items())
        yield (
            f"{test_set}: discards cut through pairs of one equal quality ({listed} of all pairs); the order "
            "in which these are listed decides which leave, and so the area"
        )
