"""Error-versus-reject curves of pairs: warnings and bad input."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from eval_tools.curve import Protocol
from eval_tools.erc import (
    PAIR_PROTOCOLS,
    UnresolvedFMRWarning,
    error_rejection_curve,
    error_rejection_curves,
    pair_quality,
)
from tests.eval_tools.pairs import make_pairs, source_line
from tests.references import erc as reference

pytestmark = [
    pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning"),
    pytest.mark.filterwarnings("ignore:.*survives and the error rate is NaN:RuntimeWarning"),
]


@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
def test_unresolved_fmr_warns_at_the_caller(protocol: Protocol) -> None:
    too_few = (
        r"^[a-z-]+ curve.*: FMR 0.0001 cannot be resolved with \d+ impostor pairs: it takes at least 10000;"
    )
    with pytest.warns(UnresolvedFMRWarning, match=too_few) as record:
        curve = error_rejection_curve(*make_pairs("continuous"), fmr=1e-4, protocol=protocol)
    assert "error_rejection_curve(" in source_line(record[0])
    assert not curve.resolved
    with pytest.warns(UnresolvedFMRWarning, match=too_few) as record:
        error_rejection_curves(*make_pairs("continuous"), fmrs=[1e-4], protocols=[protocol])
    assert "error_rejection_curves(" in source_line(record[0])


@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
def test_tied_impostors_do_not_resolve_the_fmr(protocol: Protocol) -> None:
    is_genuine = np.arange(2000) % 2 == 0
    similarity = np.where(is_genuine, 0.9, 0.5)
    tied = r"it allows \d+ false matches, but more impostor pairs than that tie .*; the effective FMR is 0$"
    with pytest.warns(UnresolvedFMRWarning, match=tied):
        curve = error_rejection_curve(similarity, is_genuine, np.zeros(2000), fmr=0.1, protocol=protocol)
    np.testing.assert_array_equal(curve.effective_fmr, 0)


def test_unresolved_points_are_named() -> None:
    """1000 impostors resolve the FMR, the last 50 of them do not."""
    similarity = np.random.default_rng(0).random(2000)
    is_genuine = np.arange(2000) % 2 == 0
    with pytest.warns(
        UnresolvedFMRWarning, match="crfiqa curve at 2 of 20 points, at discard 0.95"
    ) as record:
        curve = error_rejection_curve(similarity, is_genuine, np.arange(2000.0), fmr=0.007, protocol="crfiqa")
    assert "with 50 impostor pairs: it takes at least 143" in str(record[0].message)
    np.testing.assert_array_equal(curve.unresolved_at, np.flatnonzero(curve.n_impostor < 143))


@pytest.mark.parametrize("protocol", ["fixed", "fixed-all"])
def test_resolved_fmr_is_silent(protocol: Protocol) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = error_rejection_curve(*make_pairs("continuous"), fmr=0.1, protocol=protocol)
        assert error_rejection_curve(*make_pairs("all equal"), threshold=0.9, protocol=protocol).resolved
    assert curve.resolved


@pytest.mark.parametrize("kind", ["impostors leave first", "genuine leave first"])
def test_rate_of_nothing_is_nan_and_warns(kind: str) -> None:
    with pytest.warns(RuntimeWarning, match="no genuine or no impostor pair survives") as record:
        curve = error_rejection_curve(*make_pairs(kind), fmr=0.1, protocol="crfiqa")
    assert any("error_rejection_curve(" in source_line(warning) for warning in record)
    assert np.isnan(curve.auc)
    undefined = (curve.n_genuine == 0) | (curve.n_impostor == 0)
    np.testing.assert_array_equal(np.isnan(curve.error), undefined)
    points = list(zip(curve.discard.tolist(), curve.error.tolist(), strict=True))
    assert curve.pauc(0.2) == pytest.approx(reference.trapezoid_area(points, 0.2))


def test_points_without_impostors_are_not_said_to_lack_resolution() -> None:
    """100 impostor pairs leave before any genuine pair; the last 10 of them still resolve the FMR."""
    is_genuine = np.arange(200) >= 100
    similarity = np.random.default_rng(0).random(200)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error_rejection_curve(similarity, is_genuine, np.arange(200.0), fmr=0.2, protocol="crfiqa")
    assert [warning.category for warning in caught] == [RuntimeWarning]


@pytest.mark.parametrize("fmr", [0.0, 1.0, -0.1, 2.0, float("nan"), "0.1", True, None, [0.1]])
@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
def test_fmr_out_of_range(fmr: Any, protocol: Protocol) -> None:
    with pytest.raises(ValueError, match="fmr must lie strictly between 0 and 1"):
        error_rejection_curve(*make_pairs("continuous"), fmr=fmr, protocol=protocol)
    with pytest.raises(ValueError, match="fmr must lie strictly between 0 and 1"):
        error_rejection_curves(*make_pairs("continuous"), fmrs=[0.1, fmr], protocols=[protocol])


def test_fmr_out_of_range_beside_a_threshold() -> None:
    with pytest.raises(ValueError, match="fmr must lie strictly between 0 and 1, got 7"):
        error_rejection_curve(*make_pairs("continuous"), fmr=7, threshold=0.5)


@pytest.mark.parametrize("fmrs", [[], (), 0.1, "0.1", None])
def test_fmrs_missing(fmrs: Any) -> None:
    with pytest.raises(ValueError, match="fmrs must be one or more target FMRs"):
        error_rejection_curves(*make_pairs("continuous"), fmrs=fmrs)


@pytest.mark.parametrize("protocols", [[], (), "fixed"])
def test_protocols_missing(protocols: Any) -> None:
    with pytest.raises(ValueError, match="protocols must be one or more of fixed, crfiqa, fixed-all"):
        error_rejection_curves(*make_pairs("continuous"), protocols=protocols)


@pytest.mark.parametrize(
    ("how", "expected"),
    [("min", [1, 3]), ("max", [2, 4]), ("mean", [1.5, 3.5]), ("product", [2, 12])],
)
def test_pair_quality(how: Any, expected: list[float]) -> None:
    np.testing.assert_array_equal(pair_quality([1, 3], [2.0, 4.0], how), expected)


def test_a_product_of_negative_qualities_would_order_pairs_wrongly() -> None:
    with pytest.raises(ValueError, match="no quality is negative"):
        pair_quality([1, 3], [2.0, -4.0], "product")


def test_pair_quality_is_the_lower_one_unless_told() -> None:
    np.testing.assert_array_equal(pair_quality([5, -1], [4, 0]), [4, -1])


@pytest.mark.parametrize(
    ("a", "b", "how", "message"),
    [
        ([1, 2], [1], "min", r"quality_b must have shape \(2,\)"),
        ([1, np.nan], [1, 2], "min", "quality_a has 1 NaN or infinite values, the first at index 1"),
        ([1, 2], [np.inf, 2], "max", "quality_b has 1 NaN or infinite"),
        ([[1, 2]], [[1, 2]], "min", r"quality_a must be an array .*got shape \(1, 2\)"),
        (3, 4, "min", r"quality_a must be an array .*got shape \(\)"),
        (["1", "2"], [1, 2], "min", "quality_a must hold real numbers, got dtype <U1"),
        ([1, 2], [1, 2], "median", "unknown pair quality 'median'"),
    ],
)
def test_pair_quality_errors(a: Any, b: Any, how: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_quality(a, b, how)


GOOD: dict[str, Any] = {"similarity": [0.1, 0.8, 0.4], "is_genuine": [0, 1, 1], "quality": [1, 2, 3]}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"similarity": [0.1, np.nan, 0.4]}, "similarity has 1 NaN or infinite values, the first at index 1"),
    ({"similarity": [0.1, 0.2, np.inf]}, "similarity has 1 NaN or infinite values"),
    ({"quality": [np.nan, 2, np.nan]}, "quality has 2 NaN or infinite values, the first at index 0"),
    ({"quality": [1, -np.inf, 2]}, "quality has 1 NaN or infinite values"),
    ({"similarity": [0.1, 0.2]}, r"similarity must have shape \(3,\)"),
    ({"quality": [1, 2, 3, 4]}, r"quality must have shape \(3,\).*got \(4,\)"),
    ({"quality": [[1], [2], [3]]}, r"quality must have shape \(3,\)"),
    ({"similarity": [], "is_genuine": [], "quality": []}, r"non-empty array \[P\], got shape \(0,\)"),
    ({"is_genuine": True}, r"non-empty array \[P\], got shape \(\)"),
    ({"is_genuine": [1, 1, 1]}, "no impostor pair among 3 pairs"),
    ({"is_genuine": [False] * 3}, "no genuine pair among 3 pairs"),
    ({"is_genuine": [0, 1, 2]}, "booleans or 0 and 1 only"),
    ({"is_genuine": [0, 1, np.nan]}, "booleans or 0 and 1 only"),
    ({"is_genuine": ["0", "1", "1"]}, "is_genuine must hold real numbers, got dtype <U1"),
    ({"is_genuine": [False, True, None]}, "is_genuine must hold real numbers, got dtype object"),
    ({"similarity": ["0.1", "0.8", "0.4"]}, "similarity must hold real numbers, got dtype <U3"),
    ({"similarity": [0.1, 0.8j, 0.4]}, "similarity must hold real numbers, got dtype complex128"),
    ({"quality": [1, None, 3]}, "quality must hold real numbers, got dtype object"),
    ({"quality": [[1], [2, 3]]}, "quality must be an array of numbers, got rows of different lengths"),
]


@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_pairs(change: dict[str, Any], message: str, protocol: Protocol) -> None:
    with pytest.raises(ValueError, match=message):
        error_rejection_curve(**{**GOOD, **change}, fmr=0.5, protocol=protocol)
    with pytest.raises(ValueError, match=message):
        error_rejection_curves(**{**GOOD, **change}, fmrs=(0.5,), protocols=(protocol,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "iso"}, "unknown pair protocol 'iso': choose one of fixed, crfiqa, fixed-all"),
        ({"protocol": "image"}, "call image_rejection_curve"),
        ({"error": "eer"}, "unknown error 'eer'"),
        ({"threshold": np.nan}, "threshold must be a finite similarity, got nan"),
        ({"threshold": np.inf, "protocol": "fixed-all"}, "threshold must be a finite similarity, got inf"),
        ({"threshold": "0.5"}, "threshold must be a finite similarity, got '0.5'"),
        ({"threshold": True}, "threshold must be a finite similarity, got True"),
        ({"threshold": [0.5]}, "threshold must be a finite similarity, got"),
        ({"threshold": 0.5, "protocol": "crfiqa"}, "takes no threshold"),
        ({"error": "fmr", "protocol": "crfiqa"}, "has no FMR curve"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        error_rejection_curve(**GOOD, **arguments)


def test_curve_of_the_fmr_has_no_fnmr() -> None:
    curve = error_rejection_curve(**GOOD, threshold=0.5, error="fmr")
    with pytest.raises(AttributeError, match="follows the FMR"):
        _ = curve.fnmr
