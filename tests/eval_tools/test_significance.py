"""Bootstrap bands and paired comparison: the arithmetic, exactly."""

from __future__ import annotations

import sys
import warnings
from itertools import islice
from typing import Any

import numpy as np
import pytest

from eval_tools.curve import Protocol
from eval_tools.erc import PAIR_PROTOCOLS, error_rejection_curve
from eval_tools.resampling import multiplicities
from eval_tools.scores import UnresolvedFMRWarning
from eval_tools.significance import Bootstrap, bootstrap
from tests.eval_tools.pairs import clustered_pairs, simulated_pairs, source_line

every_protocol = pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
ends_early = pytest.mark.filterwarnings("ignore:.*survives and the error rate is NaN:RuntimeWarning")
unresolved = pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning")


def _run(seed: int, protocol: Protocol = "fixed", **settings: Any) -> Bootstrap:
    settings = {"fmr": 0.05, "limit": 0.8, "n_resamples": 60, **settings}
    return bootstrap(*simulated_pairs(seed), protocol=protocol, rng=np.random.default_rng(seed), **settings)


@ends_early
@every_protocol
@pytest.mark.parametrize("by_identity", [True, False])
def test_areas_are_those_of_explicitly_resampled_pairs(protocol: Protocol, by_identity: bool) -> None:
    similarity, is_genuine, quality, people = clustered_pairs(0)
    pair_identities = people if by_identity else None
    draws = multiplicities(is_genuine, pair_identities, np.random.default_rng(3))
    resampled = bootstrap(
        similarity,
        is_genuine.astype(int),
        {"a": quality, "b": -similarity},
        pair_identities=pair_identities,
        fmr=0.02,
        protocol=protocol,
        limit=0.5,
        level=0.9,
        n_resamples=20,
        rng=np.random.default_rng(3),
    )
    assert resampled.unit == ("identities" if by_identity else "pairs")
    for index, times in enumerate(islice(draws, 20)):
        copies = np.repeat(np.arange(quality.size), times)
        for name, values in (("a", quality), ("b", -similarity)):
            curve = error_rejection_curve(
                similarity[copies], is_genuine[copies], values[copies], fmr=0.02, protocol=protocol
            )
            assert resampled.areas[name][index] == curve.pauc(0.5)
            np.testing.assert_array_equal(resampled.errors[name][index], curve.at(resampled.discard))


@every_protocol
def test_curves_on_the_data(protocol: Protocol) -> None:
    similarity, is_genuine, qualities = simulated_pairs(0)
    resampled = _run(0, protocol)
    for name, quality in qualities.items():
        expected = error_rejection_curve(similarity, is_genuine, quality, fmr=0.05, protocol=protocol)
        np.testing.assert_array_equal(resampled.curves[name].error, expected.error)
        np.testing.assert_array_equal(resampled.curves[name].threshold, expected.threshold)


def test_band_is_percentiles_of_the_resamples() -> None:
    resampled = _run(0, level=0.8)
    band = resampled.band("worse")
    low, high = np.quantile(resampled.errors["worse"], [0.1, 0.9], axis=0)
    np.testing.assert_allclose(band.low, low)
    np.testing.assert_allclose(band.high, high)
    area_low, area_high = np.quantile(resampled.areas["worse"], [0.1, 0.9])
    assert (band.area_low, band.area_high) == pytest.approx((area_low, area_high))
    np.testing.assert_allclose(band.discard, np.linspace(0, 0.8, band.discard.size))
    assert (band.level, band.unit, band.n_resamples) == (0.8, "pairs", 60)


@pytest.mark.parametrize(("protocol", "end"), [("fixed", 1.0), ("crfiqa", 0.95), ("fixed-all", 0.95)])
def test_limit_is_the_end_unless_told(protocol: Protocol, end: float) -> None:
    similarity, is_genuine, qualities = simulated_pairs(0, n_pairs=6000)
    resampled = bootstrap(
        similarity,
        is_genuine,
        qualities,
        fmr=0.05,
        protocol=protocol,
        n_resamples=40,
        rng=np.random.default_rng(0),
    )
    assert resampled.limit == pytest.approx(end)
    assert resampled.band("worse").discard[-1] == pytest.approx(end)


def test_difference_is_that_of_the_areas() -> None:
    resampled = _run(1)
    found = resampled.compare("better", "worse")
    areas = {name: curve.pauc(0.8) for name, curve in resampled.curves.items()}
    assert found.difference == pytest.approx(areas["better"] - areas["worse"])
    differences = resampled.areas["better"] - resampled.areas["worse"]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    assert (found.level, found.unit, found.n_resamples) == (0.95, "pairs", 60)
    turned = resampled.compare("worse", "better")
    assert (turned.difference, turned.p_value) == (-found.difference, found.p_value)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert resampled.comparisons() == (found,)


@every_protocol
def test_clearly_better_is_significant(protocol: Protocol) -> None:
    found = _run(2, protocol).compare("better", "worse")
    assert found.difference < 0
    assert found.high < 0
    assert found.p_value == pytest.approx(2 / 61)  # no resample says otherwise


@every_protocol
def test_identical_methods_do_not_differ(protocol: Protocol) -> None:
    similarity, is_genuine, qualities = simulated_pairs(0)
    quality = qualities["worse"]
    resampled = bootstrap(
        similarity,
        is_genuine,
        {"a": quality, "b": quality, "c": np.exp(quality)},
        fmr=0.05,
        protocol=protocol,
        limit=0.8,
        rng=np.random.default_rng(0),
    )
    for found in resampled.comparisons():
        assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_p_value_counts_resamples_on_either_side() -> None:
    resampled = _run(1)
    areas = {"first": np.array([1.0, 2.0, 3.0, 4.0, 5.0]), "second": np.array([2.0, 3.0, 4.0, 5.0, 4.0])}
    curves = dict(zip(areas, resampled.curves.values(), strict=True))
    counted = Bootstrap(curves, 0.8, resampled.discard, resampled.errors, areas, 0.5, "pairs", np.zeros(5))
    assert counted.compare("first", "second").p_value == pytest.approx(2 * (1 + 1) / (5 + 1))


# Curves that end early, and warnings


@unresolved
def test_curve_without_an_end_has_no_area() -> None:
    """All impostor pairs leave before the last genuine ones, so crfiqa's rate is undefined from there on."""
    similarity, is_genuine, qualities = simulated_pairs(0)
    methods = {**qualities, "kind": is_genuine + 0.01 * qualities["worse"]}
    with pytest.warns(RuntimeWarning, match="no genuine or no impostor pair survives") as record:
        resampled = bootstrap(
            similarity, is_genuine, methods, fmr=0.05, protocol="crfiqa", rng=np.random.default_rng(0)
        )
    assert "bootstrap(" in source_line(record[0])
    band, found = resampled.band("kind"), resampled.compare("worse", "kind")
    curve = resampled.curves["kind"]
    np.testing.assert_array_equal(np.isnan(band.low), np.isnan(curve.at(band.discard)))
    assert 0 < np.isnan(band.low).sum() < band.low.size
    assert np.isnan([band.area_low, band.area_high, found.difference, found.low, found.p_value]).all()
    assert not np.isnan(resampled.band("worse").area_low)


@unresolved
def test_resamples_without_an_area_are_left_out_and_counted() -> None:
    """The last 5 % hold a single impostor pair, which some resamples lack."""
    rng = np.random.default_rng(0)
    is_genuine = np.arange(200) >= 100
    quality = np.arange(200.0)
    quality[0] = 500
    with pytest.warns(RuntimeWarning, match=r"of 200 resamples have no area for 'method'") as record:
        resampled = bootstrap(
            rng.normal(2.0 * is_genuine), is_genuine, {"method": quality}, fmr=0.2, protocol="crfiqa", rng=rng
        )
    left_out = [warning for warning in record if issubclass(warning.category, RuntimeWarning)]
    assert len(left_out) == 1
    assert "bootstrap(" in source_line(left_out[0])
    areas = resampled.areas["method"]
    missing = int(np.isnan(areas).sum())
    assert str(left_out[0].message).startswith(f"{missing} of 200")
    assert 40 < missing < 110  # (1 - 1 / 100) ** 100 = 37 % of them
    band = resampled.band("method")
    assert (band.area_low, band.area_high) == pytest.approx(tuple(np.nanquantile(areas, [0.025, 0.975])))
    assert not np.isnan(band.low).any()


@every_protocol
def test_unresolved_fmr_warns_once_for_each_method_at_the_caller(protocol: Protocol) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bootstrap(*simulated_pairs(0), fmr=1e-4, limit=0.5, protocol=protocol, rng=np.random.default_rng(0))
    assert [warning.category for warning in caught] == [UnresolvedFMRWarning] * 2
    assert all("bootstrap(" in source_line(warning) for warning in caught)


def test_progress_is_shown_on_a_terminal_if_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(0, n_resamples=40, progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _run(0, n_resamples=40)
    assert capsys.readouterr().err == ""
    _run(0, n_resamples=40, progress=True)
    assert "bootstrap" in capsys.readouterr().err


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 0.0}, "level must lie strictly between 0 and 1, such as 0.95, got 0.0"),
        ({"level": 1}, "level must lie strictly between 0 and 1"),
        ({"level": 95}, "level must lie strictly between 0 and 1"),
        ({"level": "0.95"}, "level must lie strictly between 0 and 1"),
        ({"n_resamples": 39}, "39 resamples cannot give an interval of level 0.95: it takes at least 40"),
        ({"n_resamples": 150, "level": 0.99}, "it takes at least 200"),
        ({"n_resamples": 0}, "n_resamples must be a whole number from 1 on, got 0"),
        ({"n_resamples": 200.0}, "n_resamples must be a whole number"),
        ({"n_resamples": True}, "n_resamples must be a whole number"),
        ({"rng": 0}, "rng must be a generator such as np.random.default_rng"),
        ({"rng": np.random.RandomState(0)}, "rng must be a generator such as np.random.default_rng"),
        ({"qualities": {}}, r"qualities must map names of methods to qualities \[P\], got {}"),
        ({"qualities": [1.0, 2.0]}, "qualities must map names of methods"),
        ({"qualities": {"a": [1.0]}}, r"quality 'a' must have shape \(900,\)"),
        ({"qualities": {"a": np.full(900, np.nan)}}, "quality 'a' has 900 NaN or infinite values"),
        ({"similarity": np.ones(3)}, r"similarity must have shape \(900,\)"),
        ({"is_genuine": np.ones(900)}, "no impostor pair"),
        ({"pair_identities": np.ones((900, 2), int)}, "pair_identities contradict is_genuine at 600 pairs"),
        ({"fmr": 0.0}, "fmr must lie strictly between 0 and 1"),
        ({"protocol": "image"}, "unknown pair protocol 'image'"),
        ({"limit": 1.2}, r"limit must lie in \(0, 1\]"),
        ({"limit": 0.97, "protocol": "crfiqa"}, r"limit must lie in \(0, 0.95\]"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    similarity, is_genuine, qualities = simulated_pairs(0)
    good: dict[str, Any] = {
        "similarity": similarity,
        "is_genuine": is_genuine,
        "qualities": qualities,
        "fmr": 0.05,
        "rng": np.random.default_rng(0),
    }
    with pytest.raises(ValueError, match=message):
        bootstrap(**{**good, **change})


def test_unknown_method() -> None:
    resampled = _run(0)
    with pytest.raises(ValueError, match="unknown method 'x': choose one of better, worse"):
        resampled.band("x")
    with pytest.raises(ValueError, match="unknown method 'y'"):
        resampled.compare("worse", "y")


# Against the random level


@unresolved
@every_protocol
def test_the_random_level_is_compared_on_the_same_resamples(protocol: Protocol) -> None:
    similarity, is_genuine, qualities = simulated_pairs(4)
    draws = multiplicities(is_genuine, None, np.random.default_rng(4))
    resampled = _run(4, protocol)
    found = resampled.against_random("better")
    levels = []
    for times in islice(draws, 60):
        copies = np.repeat(np.arange(is_genuine.size), times)
        curve = error_rejection_curve(
            similarity[copies],
            is_genuine[copies],
            qualities["better"][copies],
            fmr=0.05,
            protocol=protocol,
        )
        levels.append(0.8 * curve.error[0])
    np.testing.assert_allclose(resampled.random_areas, levels)
    differences = resampled.areas["better"] - np.array(levels)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    curve = resampled.curves["better"]
    assert found.difference == pytest.approx(curve.pauc(0.8) - 0.8 * curve.error[0])
    assert (found.first, found.second) == ("better", "random level")
