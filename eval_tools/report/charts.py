"""The numbers behind the charts of the page, as lists that JSON can hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval_tools.curve import ErrorRejectionCurve
from eval_tools.plots.histograms import quality_densities
from eval_tools.plots.style import colour_of
from eval_tools.results import Comparison, CurveKey, MeasuredCurve, VerificationSummary
from eval_tools.scores import FloatArray, IntArray

# A curve is drawn with a point wherever the last one drawn is off by more than these.
_ERROR_STEP, _DISCARD_STEP = 0.002, 0.01


def chart_data(comparison: Comparison) -> dict[str, Any]:
    """All charts: colours by name, and the curves and histograms with the names that select them."""
    methods = list(dict.fromkeys(key.method for key in comparison.curves))
    recognisers = list(dict.fromkeys(key.recogniser for key in comparison.verification))
    test_sets = list(dict.fromkeys(key.test_set for key in comparison.verification))
    return {
        "methods": methods,
        "recognisers": recognisers,
        "test_sets": test_sets,
        "protocols": comparison.names("protocol"),
        "fmrs": [f"{fmr:g}" for fmr in comparison.names("fmr")],
        "colours": {
            kind: {name: colour_of(index) for index, name in enumerate(names)}
            for kind, names in (("method", methods), ("recogniser", recognisers), ("test_set", test_sets))
        },
        "curves": [_curve(key, measured) for key, measured in comparison.curves.items()],
        "verification": [
            {"test_set": key.test_set, "recogniser": key.recogniser, **_verification(measured)}
            for key, measured in comparison.verification.items()
        ],
        "quality": [_quality(comparison, method) for method in methods if _has_quality(comparison, method)],
    }


def _curve(key: CurveKey, measured: MeasuredCurve) -> dict[str, Any]:
    curve, band = measured.curve, measured.band
    drawn = _drawn_points(curve)
    best = curve.best_curve()
    best_drawn = _thinned(*best)
    discard, error = curve.discard, curve.error
    compared = curve.n_genuine if curve.error_type == "fnmr" else curve.n_impostor
    return {
        **key._asdict(),
        "fmr": f"{key.fmr:g}",
        "step": curve.is_step,
        "end": curve.end,
        "discard": _short(discard[drawn]),
        "error": _short(error[drawn]),
        "n_errors": curve.n_errors[drawn].tolist(),
        "n_compared": compared[drawn].tolist(),
        "threshold": _each(curve.threshold, drawn),
        "effective_fmr": _each(curve.effective_fmr, drawn),
        "random": _number(error[0]),
        "best_discard": _short(best[0][best_drawn]),
        "best_error": _short(best[1][best_drawn]),
        "band": None
        if band is None
        else {"discard": _short(band.discard), "low": _short(band.low), "high": _short(band.high)},
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
            {"target": f"{p.target_fmr:g}", "fmr": p.fmr, "fnmr": p.fnmr, "threshold": p.threshold}
            for p in measured.operating_points
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
        "densities": {test_set: _short(density) for test_set, density in densities.items()},
    }


def _drawn_points(curve: ErrorRejectionCurve) -> IntArray:
    """Every point of a grid curve, and those of a step curve that change what is seen."""
    if not curve.is_step:
        return np.arange(curve.discard.size)
    return _thinned(curve.discard, curve.error)


def _thinned(discard: FloatArray, error: FloatArray) -> IntArray:
    """Indices of points such that none left out is off by more than 0.2 % of the highest rate drawn."""
    tolerance = _ERROR_STEP * float(np.nanmax(error, initial=0.0))
    kept = [0]
    last_error, last_discard = error[0], discard[0]
    for index, (d, e) in enumerate(zip(discard.tolist(), error.tolist(), strict=True)):
        if abs(e - last_error) > tolerance or d - last_discard > _DISCARD_STEP:
            kept.append(index)
            last_error, last_discard = e, d
    return np.unique([*kept, discard.size - 1])


def _each(value: float | FloatArray, drawn: IntArray) -> list[float | None]:
    """One number for each drawn point, or a single one where all share it."""
    values = np.atleast_1d(value)
    return _short(values if values.size == 1 else values[drawn])


def _short(values: FloatArray) -> list[float | None]:
    """Six significant digits; JSON has no NaN."""
    return [_number(value) for value in np.asarray(values, np.float64).tolist()]


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
