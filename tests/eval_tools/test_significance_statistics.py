"""Bootstrap bands and paired comparison: whether they mean what they say, on simulated sets."""

from __future__ import annotations

import numpy as np
import pytest

from eval_tools.curve import Protocol
from eval_tools.erc import PAIR_PROTOCOLS, error_rejection_curve
from eval_tools.significance import bootstrap
from tests.eval_tools.pairs import clustered_pairs, simulated_pairs


def test_interval_covers_the_true_area_and_difference() -> None:
    """Over 60 sets, 95 % intervals hold what a set of 600,000 pairs says about as often as they should."""
    similarity, is_genuine, qualities = simulated_pairs(1000, n_pairs=600_000)
    truth = {
        name: error_rejection_curve(similarity, is_genuine, quality, fmr=0.05).pauc(0.8)
        for name, quality in qualities.items()
    }
    difference = truth["better"] - truth["worse"]
    covered = []
    for seed in range(60):
        pairs, rng = simulated_pairs(seed), np.random.default_rng(seed)
        resampled = bootstrap(*pairs, fmr=0.05, limit=0.8, n_resamples=100, rng=rng)
        band, found = resampled.band("worse"), resampled.compare("better", "worse")
        covered.append(
            [band.area_low <= truth["worse"] <= band.area_high, found.low <= difference <= found.high]
        )
    assert np.all(np.mean(covered, axis=0) >= 0.85)


def test_equally_good_methods_are_seldom_told_apart() -> None:
    p_values = []
    for seed in range(60):
        similarity, is_genuine, qualities = simulated_pairs(seed, noise_of_better=1.0)
        resampled = bootstrap(
            similarity, is_genuine, qualities, fmr=0.05, n_resamples=60, rng=np.random.default_rng(seed)
        )
        p_values.append(resampled.comparisons()[0].p_value)
    assert np.mean(np.array(p_values) < 0.1) <= 0.25
    assert np.median(p_values) > 0.3


def test_people_give_wider_bands_than_pairs_on_clustered_data() -> None:
    similarity, is_genuine, quality, people = clustered_pairs(1)
    widths = {}
    for unit, identities in (("identities", people), ("pairs", None)):
        band = bootstrap(
            similarity,
            is_genuine,
            {"quality": quality},
            pair_identities=identities,
            fmr=0.02,
            rng=np.random.default_rng(0),
        ).band("quality")
        assert band.unit == unit
        widths[unit] = band.area_high - band.area_low
    assert widths["identities"] > 1.5 * widths["pairs"]


@pytest.mark.parametrize("protocol", PAIR_PROTOCOLS)
@pytest.mark.parametrize("seed", range(4))
def test_random_quality_stays_at_the_random_level_within_its_band(protocol: Protocol, seed: int) -> None:
    similarity, is_genuine, _ = simulated_pairs(seed, n_pairs=3000)
    quality = np.random.default_rng([seed, 1]).random(3000)
    resampled = bootstrap(
        similarity,
        is_genuine,
        {"random": quality},
        fmr=0.05,
        protocol=protocol,
        limit=0.8,
        level=0.99,
        rng=np.random.default_rng(seed),
    )
    band, curve = resampled.band("random"), resampled.curves["random"]
    assert band.area_low <= curve.pauc_random(0.8) <= band.area_high
    assert np.mean((band.low <= curve.error[0]) & (curve.error[0] <= band.high)) >= 0.9
    assert band.low[0] <= curve.error[0] <= band.high[0]
    assert band.area_low > curve.pauc_best(0.8)
