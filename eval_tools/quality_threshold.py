"""Which quality score to ask for, so that few comparisons fail or few images are turned away.

All of it is measured on one reference set. Discarding follows the ``fixed`` protocol of
:mod:`eval_tools.erc`: the comparison threshold stays, and a genuine pair leaves with its worse image.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from eval_tools.calibration import GenuinePairs, check_reference
from eval_tools.operating_points import OperatingPoint
from eval_tools.scores import FloatArray, is_number, resolves, unresolved_text
from igfiqa_head.io.atomic import atomic_path

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)

Goal = Literal["fnmr", "discard of images", "discard of genuine pairs"]


@dataclass(frozen=True)
class Survivors:
    """What is left when images that score less than ``score`` are turned away.

    Attributes:
        score: the lowest that is kept; a pair stays if both of its images do.
        n_images, n_images_left: images of the reference set, and those kept.
        n_genuine, n_genuine_left, n_errors: genuine pairs, those kept, and false non-matches among these;
            None if no pairs were given.
    """

    score: float
    n_images: int
    n_images_left: int
    n_genuine: int | None = None
    n_genuine_left: int | None = None
    n_errors: int | None = None

    @property
    def image_discard(self) -> float:
        return 1 - self.n_images_left / self.n_images

    @property
    def pair_discard(self) -> float | None:
        if self.n_genuine is None or self.n_genuine_left is None:
            return None
        return 1 - self.n_genuine_left / self.n_genuine

    @property
    def fnmr(self) -> float | None:
        """FNMR of the genuine pairs left, None if there are none."""
        if not self.n_genuine_left or self.n_errors is None:
            return None
        return self.n_errors / self.n_genuine_left

    @property
    def fnmr_resolved(self) -> bool:
        """Whether the FNMR is at least one error among the pairs left; of no error nothing lower is known."""
        return bool(self.n_genuine_left and resolves(self.n_genuine_left, self.fnmr or 0.0))

    @property
    def fnmr_interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of the FNMR; too narrow as far as pairs share persons."""
        if not self.n_genuine_left or self.n_errors is None:
            return None
        return wilson_interval(self.n_errors, self.n_genuine_left)

    def as_json(self) -> dict[str, Any]:
        rates = ("image_discard", "pair_discard", "fnmr", "fnmr_resolved", "fnmr_interval")
        return asdict(self) | {name: getattr(self, name) for name in rates}


@dataclass(frozen=True)
class QualityThreshold:
    """A score to ask for, what it does, and what others would do.

    Attributes:
        method, reference: the quality method, and the set all of this was measured on.
        goal, wanted: what was asked to be reached, and its value.
        kept: the chosen score and what it leaves.
        table: the same for the scores at percentiles of the images, percentile -> survivors.
        recogniser, point: what compared the pairs, and at which threshold; None without pairs.
    """

    method: str
    reference: str
    goal: Goal
    wanted: float
    kept: Survivors
    table: Mapping[int, Survivors] = field(repr=False)
    recogniser: str | None = None
    point: OperatingPoint | None = None

    @property
    def score(self) -> float:
        """Keep images that score at least this."""
        return self.kept.score

    @property
    def statement(self) -> str:
        """What the threshold does and how sure that is, in words."""
        kept = self.kept
        text = (
            f"Keep scores of at least {kept.score:.9g}: of {kept.n_images:,} images "
            f"{100 * kept.image_discard:.3g} % are discarded."
        )
        if kept.pair_discard is None or self.point is None:
            return text
        text += f" {kept.n_genuine_left:,} of {kept.n_genuine:,} genuine pairs are left"
        if kept.fnmr is None or kept.fnmr_interval is None:
            return text + ": no FNMR can be measured."
        low, high = kept.fnmr_interval
        text += (
            f", {kept.n_errors:,} of them false non-matches of {self.recogniser} at FMR "
            f"{self.point.target_fmr:g} (effective {self.point.fmr:.3g}): FNMR {kept.fnmr:.3g}, "
            f"95 % interval {low:.3g} to {high:.3g} if pairs were independent, wider where they share people."
        )
        if not self.point.resolved:
            point = self.point
            text += f" {unresolved_text(point.target_fmr, point.n_impostor, point.fmr)}."
        if self.goal == "fnmr" and high > self.wanted:
            text += f" So these pairs are too few to show that the FNMR is at most {self.wanted:g}."
        return text

    def to_json(self) -> str:
        """JSON of all of this, without NaN; rates that do not exist are null."""
        document = asdict(self) | {
            "kept": self.kept.as_json(),
            "table": [{"percentile": p, **row.as_json()} for p, row in self.table.items()],
            "statement": self.statement,
        }
        if self.point is not None:
            document["point"] |= {"effective_fmr": self.point.fmr, "resolved": self.point.resolved}
        return json.dumps(document, indent=1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`to_json` to a file, which is replaced as a whole."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.to_json() + "\n", encoding="utf-8")


def quality_threshold_for_fnmr(
    scores: ArrayLike, pairs: GenuinePairs, fnmr: float, *, method: str, reference: str
) -> QualityThreshold:
    """The lowest score that occurs and whose surviving genuine pairs have an FNMR of at most ``fnmr``.

    The FNMR need not fall at every step: beyond the threshold it may rise again, see the table. Few errors
    make it a matter of luck, see :attr:`QualityThreshold.statement`.

    Args:
        scores: [N] of the reference images, higher is better.
        pairs: genuine pairs of these images, see :func:`eval_tools.calibration.genuine_pairs_at_fmr`.
        fnmr: wanted false non-match rate, in [0, 1).
        method: name of the quality method.
        reference: name of the reference set.

    Raises:
        ValueError: no score reaches it (the message says how low the FNMR gets), or bad scores.
    """
    check_share("fnmr", fnmr)
    values = np.sort(check_reference(scores))
    candidates = np.unique(np.append(values, pairs.quality))
    n_left, n_errors = pairs.surviving(candidates)
    rates = np.divide(n_errors, n_left, where=n_left > 0, out=np.full(n_left.size, np.inf))
    reached = np.flatnonzero(rates <= fnmr)
    if not reached.size:
        best = int(np.argmin(rates))
        raise ValueError(
            f"no score of {method!r} reaches FNMR {fnmr:g} on {reference!r}: the lowest is {rates[best]:.4g} "
            f"at score {candidates[best]:.9g}, with {n_errors[best]:,} errors among the {n_left[best]:,} of "
            f"{pairs.quality.size:,} genuine pairs left; ask for no less than that"
        )
    return _chosen("fnmr", fnmr, float(candidates[reached[0]]), values, pairs, method, reference)


def quality_threshold_for_discard(
    scores: ArrayLike,
    discard: float,
    pairs: GenuinePairs | None = None,
    *,
    of: Literal["images", "genuine pairs"] = "images",
    method: str,
    reference: str,
) -> QualityThreshold:
    """The highest score that occurs and discards at most the share ``discard``; ties stay together.

    Args:
        scores: [N] of the reference images, higher is better.
        discard: wanted discarded share, in [0, 1).
        pairs: genuine pairs of these images, to know error rates; needed to discard a share of them.
        of: what the share is of.
        method: name of the quality method.
        reference: name of the reference set.

    Raises:
        ValueError: bad scores, a share out of range, or pairs that are missing.
    """
    check_share("discard", discard)
    values = np.sort(check_reference(scores))
    if of == "images":
        score = _highest_discarding(values, discard)
    elif of != "genuine pairs":
        raise ValueError(f"of must be 'images' or 'genuine pairs', got {of!r}")
    elif pairs is None:
        raise ValueError("to discard a share of the genuine pairs, give the pairs")
    else:
        score = _highest_discarding(np.sort(pairs.quality), discard)
    return _chosen(f"discard of {of}", discard, score, values, pairs, method, reference)  # type: ignore[arg-type]


def wilson_interval(n_errors: int, n_trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of an error rate, for independent trials (Wilson 1927, Eq. 3).

    Raises:
        ValueError: no trials, more errors than trials, or a level outside (0, 1).
    """
    if not 0 <= n_errors <= n_trials or not n_trials or not 0 < level < 1:
        raise ValueError(f"no interval exists for {n_errors} errors in {n_trials} trials at level {level}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (n_errors + z**2 / 2) / (n_trials + z**2)
    spread = z * np.sqrt(n_errors * (n_trials - n_errors) / n_trials + z**2 / 4) / (n_trials + z**2)
    return max(0.0, float(centre - spread)), min(1.0, float(centre + spread))


def check_share(name: str, value: float) -> None:
    """Refuse what is no share in [0, 1)."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a share in [0, 1), got {value!r}")


def _highest_discarding(ascending: FloatArray, share: float) -> float:
    """Highest of the values with at most this share of them below it."""
    shares_below = np.arange(ascending.size) / ascending.size
    return float(ascending[np.searchsorted(shares_below, share, side="right") - 1])


def _chosen(
    goal: Goal,
    wanted: float,
    score: float,
    ascending: FloatArray,
    pairs: GenuinePairs | None,
    method: str,
    reference: str,
) -> QualityThreshold:
    table = {p: _survivors(_highest_discarding(ascending, p / 100), ascending, pairs) for p in PERCENTILES}
    kept = _survivors(score, ascending, pairs)
    if pairs is None:
        return QualityThreshold(method, reference, goal, float(wanted), kept, table)
    return QualityThreshold(
        method, reference, goal, float(wanted), kept, table, pairs.recogniser, pairs.point
    )


def _survivors(score: float, ascending: FloatArray, pairs: GenuinePairs | None) -> Survivors:
    n_left = ascending.size - int(np.searchsorted(ascending, score))
    if pairs is None:
        return Survivors(score, ascending.size, n_left)
    n_pairs, n_errors = map(int, pairs.surviving(score))
    return Survivors(score, ascending.size, n_left, pairs.quality.size, n_pairs, n_errors)
