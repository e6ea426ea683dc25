"""The error-versus-reject curve: what every protocol of :mod:`eval_tools.erc` returns."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from eval_tools.scores import (
    FloatArray,
    IntArray,
    UnresolvedFMRWarning,
    check_scores,
    is_number,
    is_resolved,
    unresolved_text,
)

Protocol = Literal["fixed", "crfiqa", "fixed-all", "image"]
ErrorType = Literal["fnmr", "fmr"]

# 0.95 must be accepted although np.arange ends at 0.9500000000000001, and the reverse.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ErrorRejectionCurve:
    """Error rate of the comparisons that survive when the lowest qualities are discarded.

    Attributes:
        protocol: see :func:`eval_tools.erc.error_rejection_curve`.
        error_type: "fnmr" or "fmr", the error that is followed.
        target_fmr: FMR the threshold was chosen for, or None if the threshold was given.
        discard [K]: discarded fraction, ascending from 0: of the genuine pairs (``fixed``; of the impostor
            pairs if the error is the FMR), of all pairs (``crfiqa``, ``fixed-all``) or of images (``image``).
        n_discarded [K], n_discardable: the same as counts, and what they are a fraction of.
        n_errors [K]: surviving false non-matches (false matches if the error is the FMR).
        n_genuine [K], n_impostor [K]: surviving pairs of each kind.
        threshold: similarity, one number or one for each point ([K]) where the protocol chooses it anew.
        effective_fmr: FMR of ``threshold`` on the impostor pairs it was chosen on, one number or [K].
        best_errors [J]: lowest possible error rate after 0, 1, 2, ... discarded items; the last one holds on.

    Where no pair of the needed kinds survives, ``error`` is NaN. No point has everything discarded, since
    nothing is left to measure then: step curves hold their last rate up to a discard of 1, the others end at
    0.95.
    """

    protocol: Protocol
    error_type: ErrorType
    target_fmr: float | None
    discard: FloatArray
    n_discarded: IntArray
    n_discardable: int
    n_errors: IntArray
    n_genuine: IntArray
    n_impostor: IntArray
    threshold: float | FloatArray
    effective_fmr: float | FloatArray
    best_errors: FloatArray

    @property
    def error(self) -> FloatArray:
        """The followed error rate [K] of the surviving pairs."""
        compared = self.n_genuine if self.error_type == "fnmr" else self.n_impostor
        defined = (compared > 0) & ~np.isnan(self.threshold)
        return np.where(defined, self.n_errors / np.maximum(compared, 1), np.nan)

    @property
    def fnmr(self) -> FloatArray:
        """False non-match rate [K] of the surviving genuine pairs."""
        if self.error_type != "fnmr":
            raise AttributeError("this curve follows the FMR: read .error")
        return self.error

    @property
    def resolved(self) -> bool:
        """Whether the target FMR is resolved at every point, see :func:`eval_tools.scores.is_resolved`."""
        return not self.unresolved_at.size

    @property
    def unresolved_at(self) -> IntArray:
        """Indices of the points at which the target FMR is not resolved."""
        if self.target_fmr is None:
            return np.empty(0, dtype=np.int64)
        fmr = np.atleast_1d(self.effective_fmr)
        return np.flatnonzero(~is_resolved(self.target_fmr, self.n_impostor[: fmr.size], fmr))

    def resolved_to(self, limit: float | None) -> bool:
        """Whether the target FMR is resolved at all points that the area up to ``limit`` rests on.

        ``limit`` None is the :attr:`end`.
        """
        beyond = int(np.searchsorted(self.discard, (limit or self.end) - _ROUNDING))
        reach = beyond if self.is_step else beyond + 1  # a straight line needs its right end as well
        return not (self.unresolved_at < reach).any()

    @property
    def resolved_end(self) -> float | None:
        """Discard fraction up to which the target FMR is resolved; None if it is not even at 0."""
        if self.resolved:
            return self.end
        first = int(self.unresolved_at[0])
        return float(self.discard[first - (0 if self.is_step else 1)]) if first else None

    @property
    def is_step(self) -> bool:
        """Whether the rate holds from one point to the next, or else straight lines join the points."""
        return self.protocol in ("fixed", "image")

    @property
    def end(self) -> float:
        """Discard fraction at which the curve ends."""
        return 1.0 if self.is_step else float(self.discard[-1])

    @property
    def auc(self) -> float:
        """Area under the curve from 0 to its :attr:`end`, not normalised."""
        return self.pauc(self.end)

    @property
    def auc_best(self) -> float:
        """The area of the theoretical best, see :meth:`best_curve`."""
        return self.pauc_best(self.end)

    @property
    def auc_random(self) -> float:
        """The area a quality without information has on average."""
        return self.pauc_random(self.end)

    def at(self, discard: ArrayLike) -> FloatArray:
        """Error rate [D] at any discarded fractions [D] from 0 to :attr:`end`.

        Raises:
            ValueError: a fraction is out of range.
        """
        fractions = check_scores("discard", discard)
        outside = (fractions < 0) | (fractions > self.end + _ROUNDING)
        if outside.any():
            raise ValueError(
                f"discard must lie in [0, {self.end:g}] for protocol {self.protocol!r}, got "
                f"{fractions[outside][0]:g}"
            )
        if self.is_step:
            return self.error[np.searchsorted(self.discard, fractions, side="right") - 1]
        return np.interp(fractions, self.discard, self.error)

    def pauc(self, limit: float, *, above_best: bool = False, relative: bool = False) -> float:
        """Partial area under the curve for discard fractions from 0 to ``limit``.

        Args:
            limit: in (0, :attr:`end`].
            above_best: subtract the area of the theoretical best.
            relative: divide by the error rate at discard 0.

        Raises:
            ValueError: the limit is out of range, or a relative area is asked of a curve without errors.
        """
        area = self._area(self.discard, self.error, limit)
        if above_best:
            area -= self.pauc_best(limit)
        if not relative:
            return area
        if self.error[0] == 0:
            raise ValueError("the error rate at discard 0 is 0: a relative area does not exist")
        return area / float(self.error[0])

    def pauc_best(self, limit: float) -> float:
        """Partial area of :meth:`best_curve`."""
        return self._area(*self.best_curve(), limit)

    def pauc_random(self, limit: float) -> float:
        """Partial area at the random level: the rate at discard 0 at every discard fraction."""
        return self._area(np.array([0.0, self.end]), np.full(2, self.error[0]), limit)

    def best_curve(self) -> tuple[FloatArray, FloatArray]:
        """Discard fractions and error rates of the theoretical best: the errors at discard 0 leave first.

        It keeps the first threshold. Where the protocol chooses the threshold anew, a quality that discards
        the highest impostor scores as well can fall below it. For ``image`` it takes the images with the most
        errors to share none, so no quality reaches it in general.
        """
        if self.is_step:
            return np.arange(self.best_errors.size) / self.n_discardable, self.best_errors
        return self.discard, self.best_errors[np.minimum(self.n_discarded, self.best_errors.size - 1)]

    def _area(self, discard: FloatArray, error: FloatArray, limit: float) -> float:
        if not is_number(limit) or not 0.0 < limit <= self.end + _ROUNDING:
            raise ValueError(
                f"limit must lie in (0, {self.end:g}] for protocol {self.protocol!r}, got {limit!r}"
            )
        limit = min(limit, self.end)
        below = discard < limit
        edges = np.append(discard[below], limit)
        if self.is_step:
            return float(np.sum(np.diff(edges) * error[below]))
        heights = np.append(error[below], np.interp(limit, discard, error))
        return float(np.sum(np.diff(edges) * (heights[1:] + heights[:-1]) / 2))


def lowest_errors(n_errors: int, n_compared: int, removable: IntArray) -> FloatArray:
    """Lowest possible error rate after 0, 1, 2, ... discarded items, until no error is left.

    Args:
        n_errors, n_compared: errors and pairs at discard 0.
        removable: errors that each item can take away at most, in descending order.
    """
    removed = np.append(0, np.minimum(np.cumsum(removable), n_errors))
    removed = removed[: np.searchsorted(removed, n_errors)]
    rates = (n_errors - removed) / (n_compared - removed)
    return rates if n_errors == n_compared else np.append(rates, 0.0)


def with_warnings(curve: ErrorRejectionCurve) -> ErrorRejectionCurve:
    """Pass the curve on to the caller's caller, who is warned of what it cannot tell."""
    unresolved = curve.unresolved_at
    unresolved = unresolved[curve.n_impostor[unresolved] > 0]  # where none is left the rate is NaN anyway
    if curve.target_fmr is not None and unresolved.size:
        text = _unresolved_text(curve, curve.target_fmr, unresolved)
        warnings.warn(text, UnresolvedFMRWarning, stacklevel=3)
    undefined = np.isnan(curve.error)
    if undefined.any():
        warnings.warn(
            f"{curve.protocol} curve: from discard {curve.discard[undefined][0]:.3g} on no genuine or no "
            "impostor pair survives and the error rate is NaN; use pauc with a lower limit in place of auc",
            RuntimeWarning,
            stacklevel=3,
        )
    return curve


def _unresolved_text(curve: ErrorRejectionCurve, target_fmr: float, unresolved: IntArray) -> str:
    last, fmr = unresolved[-1], np.atleast_1d(curve.effective_fmr)
    where = f" at {unresolved.size} of {fmr.size} points, at discard {curve.discard[last]:.3g}"
    reason = unresolved_text(target_fmr, int(curve.n_impostor[last]), float(fmr[last]))
    return f"{curve.protocol} curve{where if fmr.size > 1 else ''}: {reason}"
