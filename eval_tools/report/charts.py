"""The numbers behind the charts of the page, as lists that JSON can hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval_tools.curve import ErrorRejectionCurve
from eval_tools.plots.erc import highest_error, resolution_text, unresolved_from
from eval_tools.plots.histograms import quality_densities, threshold_labels
from eval_tools.plots.panels import has_few_bands
from eval_tools.plots.style import LINE_STYLES, MARKERS, colour_of, line_style_of, marker_of
from eval_tools.report.thinning import Corners, thinned
from eval_tools.results import Comparison, CurveKey, MeasuredCurve, VerificationSummary
from eval_tools.scores import FloatArray, IntArray
from eval_tools.significance import Band

# What Plotly calls the line styles and the markers of the figures.
_DASHES = dict(
    zip(LINE_STYLES, ("solid", "8px,4px", "9px,3px,2px,3px", "10px,2px,2px,2px,2px,2px"), strict=True)
)
_SYMBOLS = dict(
    zip(MARKERS, ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"), strict=True)
)


def chart_data(comparison: Comparison) -> dict[str, Any]:
    """All charts: the looks of lines by name, and the curves and histograms with the names that select them.

    Counts are given as differences from the count before, which takes a third of the room.
    """
    methods = comparison.names("method")
    recognisers = list(dict.fromkeys(key.recogniser for key in comparison.verification))
    test_sets = list(dict.fromkeys(key.test_set for key in comparison.verification))
    deviation, drawn = thinned([measured.curve for measured in comparison.curves.values()])
    grids: dict[tuple[float | None, ...], int] = {}
    curves = [
        _names(key) | _curve(measured, corners, grids)
        for (key, measured), corners in zip(comparison.curves.items(), drawn, strict=True)
    ]
    panels: dict[CurveKey, dict[str, MeasuredCurve]] = {}
    for key, measured in comparison.curves.items():
        panels.setdefault(key._replace(method=""), {})[key.method] = measured
    return {
        "methods": methods,
        "recognisers": recognisers,
        "test_sets": test_sets,
        "protocols": comparison.names("protocol"),
        "fmrs": [f"{fmr:g}" for fmr in comparison.names("fmr")],
        "limit": comparison.limit,
        "looks": {
            kind: {name: _look(index) for index, name in enumerate(names)}
            for kind, names in (("method", methods), ("recogniser", recognisers), ("test_set", test_sets))
        },
        "few_bands": has_few_bands(panels.values()),
        "deviation": deviation,
        "curves": curves,
        "band_grids": list(grids),
        "panels": [
            _names(key) | _panel([measured.curve for measured in panel.values()], comparison.limit)
            for key, panel in panels.items()
        ],
        "verification": [
            {"test_set": key.test_set, "recogniser": key.recogniser, **_verification(measured)}
            for key, measured in comparison.verification.items()
        ],
        "quality": [_quality(comparison, method) for method in methods if _has_quality(comparison, method)],
    }


def _look(index: int) -> dict[str, str]:
    return {
        "color": colour_of(index),
        "dash": _DASHES[line_style_of(index)],
        "symbol": _SYMBOLS[marker_of(index)],
    }


def _names(key: CurveKey) -> dict[str, Any]:
    return key._asdict() | {"fmr": f"{key.fmr:g}"}


def _curve(
    measured: MeasuredCurve, corners: Corners, grids: dict[tuple[float | None, ...], int]
) -> dict[str, Any]:
    curve = measured.curve
    drawn = corners.points
    return {
        "end": curve.end,
        "bottom": _number(np.min(curve.error, where=curve.error > 0, initial=np.inf)),
        "top": highest_error([curve]),
        "n_discardable": curve.n_discardable,
        "n_discarded": _steps(corners.n_discarded),
        "n_errors": _steps(curve.n_errors[drawn]),
        "n_genuine": _steps(curve.n_genuine[drawn]),
        "n_impostor": _steps(curve.n_impostor[drawn]),
        "threshold": _each(curve.threshold, drawn),
        "effective_fmr": _each(curve.effective_fmr, drawn),
        "band": None if measured.band is None else _band(measured.band, grids),
    }


def _band(band: Band, grids: dict[tuple[float | None, ...], int]) -> dict[str, Any]:
    """A band; most of them share their discard fractions, which go to ``grids`` (fractions -> number)."""
    discard = tuple(_short(band.discard))
    low, high = _short(band.low, digits=3), _short(band.high, digits=3)
    return {"grid": grids.setdefault(discard, len(grids)), "low": low, "high": high}


def _panel(curves: list[ErrorRejectionCurve], limit: float | None) -> dict[str, Any]:
    """The resolution of a panel's target FMR, and the levels that no quality changes."""
    discard, error = curves[0].best_curve()
    shown = np.unique(np.linspace(0, discard.size - 1, 100).astype(np.int64))
    return {
        "unresolved_from": unresolved_from(curves, limit),
        "resolution": resolution_text(curves, limit),
        "random": _number(curves[0].error[0]),
        "best_discard": _short(discard[shown]),
        "best_error": _short(error[shown]),
    }


def _verification(measured: VerificationSummary) -> dict[str, Any]:
    return {
        "eer": measured.eer,
        "det_fmr": _short(measured.det_fmr),
        "det_fnmr": _short(measured.det_fnmr),
        "n_genuine": measured.n_genuine,
        "n_impostor": measured.n_impostor,
        "edges": _short(measured.edges),
        "genuine": (measured.genuine / max(measured.n_genuine, 1)).round(6).tolist(),
        "impostor": (measured.impostor / max(measured.n_impostor, 1)).round(6).tolist(),
        "points": [
            {"target": f"{p.target_fmr:g}", "fmr": p.fmr, "fnmr": p.fnmr}
            for p in measured.operating_points
            if p.resolved
        ],
        "thresholds": [
            {"at": _number(threshold), "label": label} for threshold, label in threshold_labels(measured)
        ],
    }


def _has_quality(comparison: Comparison, method: str) -> bool:
    return any(np.isfinite(q).any() for key, q in comparison.quality.items() if key.method == method)


def _quality(comparison: Comparison, method: str) -> dict[str, Any]:
    of_method = {key.test_set: q for key, q in comparison.quality.items() if key.method == method}
    edges, densities = quality_densities(of_method)
    return {
        "method": method,
        "edges": _short(edges),
        "densities": [
            {"test_set": test_set, "density": _short(density)} for test_set, density in densities.items()
        ],
    }


def _steps(counts: IntArray) -> list[int]:
    """The first count and how each one differs from the one before; a single one where all are equal."""
    return np.diff(counts[: 1 if np.ptp(counts) == 0 else None], prepend=0).tolist()


def _each(value: float | FloatArray, drawn: IntArray) -> list[float | None]:
    """One number for each drawn point, or a single one where all share it."""
    values = np.atleast_1d(value)
    return _short(values if values.size == 1 else values[drawn])


def _short(values: FloatArray, digits: int = 6) -> list[float | None]:
    """A few significant digits."""
    return [_number(value, digits) for value in np.asarray(values, np.float64).tolist()]


def _number(value: float, digits: int = 6) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
