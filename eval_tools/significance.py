"""How sure is it? Bootstrap bands of error-versus-reject curves, and paired comparison of methods.

The test set is resampled with replacement and every method is measured on the same resamples, so that what
makes a resample easy or hard cancels from the difference of two methods. Where the people of the pairs are
known, people are resampled: pairs that share a person are not independent, and bands from resampled pairs are
then too narrow.

All intervals are percentile intervals (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13).
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from eval_tools.curve import ErrorRejectionCurve, Protocol, with_warnings
from eval_tools.erc import check_protocol
from eval_tools.resampling import RepeatedPairs, multiplicities
from eval_tools.scores import FloatArray, check_count, check_fmr, check_genuine, check_scores, is_number

Unit = Literal["identities", "pairs"]

BAND_POINTS = 101
MAX_RESAMPLES = 100_000  # 81 MB for each method
RANDOM_LEVEL = "random level"


@dataclass(frozen=True)
class Band:
    """Percentile bootstrap interval of one curve and of its area.

    Attributes:
        discard [K], low [K], high [K]: pointwise band of the error rate at these discard fractions.
        area_low, area_high: interval of the area.
        level: confidence level, such as 0.95.
        unit: what was resampled, "identities" or "pairs".
        n_resamples: number of bootstrap resamples.
    """

    discard: FloatArray
    low: FloatArray
    high: FloatArray
    area_low: float
    area_high: float
    level: float
    unit: Unit
    n_resamples: int


@dataclass(frozen=True)
class PairedComparison:
    """Difference of the areas of two methods over the same resamples.

    Attributes:
        first, second: names of the methods.
        difference: area of the first minus area of the second on the data; negative if the first is better.
        low, high: percentile interval of the difference.
        p_value: two-sided bootstrap p-value of no difference.
        level, unit, n_resamples: as in :class:`Band`.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float
    level: float
    unit: Unit
    n_resamples: int


@dataclass(frozen=True)
class Bootstrap:
    """Curves of several methods on the data and what became of them in R resamples of it.

    Where no pair of a needed kind survives in a resample, its rate and the areas beyond are NaN; intervals
    leave it out there, and are NaN where the data themselves give no rate or area.

    Attributes:
        curves: method -> curve on the data.
        limit: right end of the discard axis up to which areas are taken.
        discard [K]: fractions, evenly spaced from 0 to ``limit``, at which bands are given.
        errors: method -> error rate [R, K] of each resample at these fractions.
        areas: method -> area [R] of each resample.
        random_areas: area [R] of the random level of each resample.
        level: confidence level of the intervals.
        unit: what was resampled, "identities" or "pairs".
    """

    curves: Mapping[str, ErrorRejectionCurve]
    limit: float
    discard: FloatArray
    errors: Mapping[str, FloatArray]
    areas: Mapping[str, FloatArray]
    level: float
    unit: Unit
    random_areas: FloatArray

    def band(self, method: str) -> Band:
        """Pointwise confidence band of a method's curve, and interval of its area."""
        curve = self.curves[self._known(method)]
        points = [
            _interval(rates, rate, self.level)
            for rates, rate in zip(self.errors[method].T, curve.at(self.discard), strict=True)
        ]
        low, high = np.array(points).T
        area_low, area_high = _interval(self.areas[method], curve.pauc(self.limit), self.level)
        n_resamples = self.areas[method].size
        return Band(
            self.discard, low, high, area_low, area_high, self.level, self.unit, n_resamples=n_resamples
        )

    def compare(self, first: str, second: str) -> PairedComparison:
        """Difference of the areas of two methods, with its two-sided p-value.

        The p-value is twice the smaller share of resamples in which the difference is at most 0, or at least
        0, with one more resample counted for either (A. Davison and D. Hinkley, Bootstrap Methods and their
        Application, 1997, chapter 4), so it is never below 2 / (R + 1). It is not corrected for the number of
        comparisons.
        """
        data = [self.curves[self._known(method)].pauc(self.limit) for method in (first, second)]
        return self._compared(first, second, data[0] - data[1], self.areas[first] - self.areas[second])

    def against_random(self, method: str) -> PairedComparison:
        """Difference of a method's area from that of the random level, as :meth:`compare` has it.

        The random level is what a quality without information has on average, so an interval above 0 says
        that the method is worse than no knowledge at all.
        """
        curve = self.curves[self._known(method)]
        difference = curve.pauc(self.limit) - curve.pauc_random(self.limit)
        return self._compared(method, RANDOM_LEVEL, difference, self.areas[method] - self.random_areas)

    def _compared(
        self, first: str, second: str, difference: float, resampled: FloatArray
    ) -> PairedComparison:
        low, high = _interval(resampled, difference, self.level)
        return PairedComparison(
            first=first,
            second=second,
            difference=difference,
            low=low,
            high=high,
            p_value=_p_value(resampled, difference),
            level=self.level,
            unit=self.unit,
            n_resamples=resampled.size,
        )

    def comparisons(self) -> tuple[PairedComparison, ...]:
        """Every two methods, in the order in which they were given."""
        return tuple(self.compare(*pair) for pair in itertools.combinations(self.curves, 2))

    def _known(self, method: str) -> str:
        if method not in self.curves:
            raise ValueError(f"unknown method {method!r}: choose one of {', '.join(self.curves)}")
        return method


def bootstrap(
    similarity: ArrayLike,
    is_genuine: ArrayLike,
    qualities: Mapping[str, ArrayLike],
    *,
    pair_identities: ArrayLike | None = None,
    fmr: float = 1e-3,
    protocol: Protocol = "fixed",
    limit: float | None = None,
    n_resamples: int = 200,
    level: float = 0.95,
    rng: np.random.Generator,
    progress: bool = False,
) -> Bootstrap:
    """Measure the error-versus-reject curves of several methods on resamples of the pairs.

    A resample has thresholds of its own, so bands include the uncertainty of the threshold.

    Args:
        similarity: [P], higher is more alike.
        is_genuine: [P].
        qualities: method -> quality [P] of the pairs, higher is better.
        pair_identities: int [P, 2], the two people of each pair, to resample people; None to resample pairs,
            genuine and impostor pairs each among themselves. See
            :func:`eval_tools.resampling.multiplicities`.
        fmr: target FMR.
        protocol: "fixed", "crfiqa" or "fixed-all", see :mod:`eval_tools.erc`.
        limit: right end of the discard axis for areas and bands, None for the end of the curves.
        n_resamples: number R of resamples, at least ``2 / (1 - level)``.
        level: confidence level, in (0, 1).
        rng: source of the resamples; equal generators give equal resamples.
        progress: show a progress bar, where stderr is a terminal.

    Raises:
        ValueError: as for :func:`eval_tools.erc.error_rejection_curve`; or no method, identities that
            contradict ``is_genuine``, a level or number of resamples out of range, or no generator.

    Warns:
        UnresolvedFMRWarning, RuntimeWarning: of the curves on the data, as there, and once for each method of
            which some resamples have no area.
    """
    genuine = check_genuine(is_genuine)
    scores = check_scores("similarity", similarity, genuine.size)
    methods = _check_qualities(qualities, genuine.size)
    check_protocol(protocol)
    check_fmr(fmr)
    check_resampling(n_resamples, level)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a generator such as np.random.default_rng(0), got {rng!r}")
    draws = multiplicities(genuine, pair_identities, rng)
    repeated = RepeatedPairs(scores, genuine, methods, fmr, protocol)
    curves = dict(repeated.curves(np.ones(genuine.size, dtype=np.int64)))
    end = next(iter(curves.values())).end if limit is None else limit
    for curve in curves.values():
        with_warnings(curve).pauc(end)
    discard = np.linspace(0.0, end, BAND_POINTS)
    errors = {name: np.empty((n_resamples, BAND_POINTS)) for name in methods}
    areas = {name: np.empty(n_resamples) for name in methods}
    random_areas = np.empty(n_resamples)
    for index in tqdm(range(n_resamples), desc="bootstrap", leave=False, disable=None if progress else True):
        for name, curve in repeated.curves(next(draws)):
            errors[name][index] = curve.at(discard)
            areas[name][index] = curve.pauc(end)
            random_areas[index] = curve.pauc_random(end)  # the same for every method
    for name, values in areas.items():
        if np.isnan(values).any() and not np.isnan(curves[name].pauc(end)):
            warnings.warn(_without_area(name, values, end), RuntimeWarning, stacklevel=2)
    unit: Unit = "pairs" if pair_identities is None else "identities"
    return Bootstrap(curves, end, discard, errors, areas, level, unit, random_areas)


def _check_qualities(qualities: Mapping[str, ArrayLike], size: int) -> dict[str, FloatArray]:
    if not isinstance(qualities, Mapping) or not qualities:
        raise ValueError(f"qualities must map names of methods to qualities [P], got {qualities!r}")
    return {name: check_scores(f"quality {name!r}", quality, size) for name, quality in qualities.items()}


def check_resampling(n_resamples: int, level: float) -> None:
    """Refuse a level outside (0, 1), and resamples that are too few for it or too many for the memory."""
    if not is_number(level) or not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, such as 0.95, got {level!r}")
    check_count("n_resamples", n_resamples, 1)
    if n_resamples > MAX_RESAMPLES:
        gigabytes = n_resamples * BAND_POINTS * 8 / 1e9
        raise ValueError(
            f"{n_resamples} resamples would take {gigabytes:.3g} GB of memory for each method: expected at "
            f"most {MAX_RESAMPLES}"
        )
    needed = math.ceil(2 / (1 - level) - 1e-6)
    if n_resamples < needed:
        raise ValueError(
            f"{n_resamples} resamples cannot give an interval of level {level:g}: it takes at least {needed}"
        )


def _without_area(name: str, areas: FloatArray, limit: float) -> str:
    missing = np.count_nonzero(np.isnan(areas))
    return (
        f"{missing} of {areas.size} resamples have no area for {name!r} and are left out: no genuine or no "
        f"impostor pair survives up to discard {limit:.3g}; choose a lower limit"
    )


def _interval(resampled: FloatArray, data: float, level: float) -> tuple[float, float]:
    """Percentile interval of the resamples that are not NaN; NaN if the value on the data is."""
    defined = resampled[~np.isnan(resampled)]
    if np.isnan(data) or not defined.size:
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _p_value(resampled: FloatArray, data: float) -> float:
    defined = resampled[~np.isnan(resampled)]
    if np.isnan(data) or not defined.size:
        return np.nan
    smaller = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return min(1.0, 2 * (int(smaller) + 1) / (defined.size + 1))
