"""From scored pairs to results: verification, error-versus-reject curves, their bands and significance."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eval_tools.curve import ErrorRejectionCurve, Protocol
from eval_tools.erc import check_protocol, error_rejection_curves
from eval_tools.on_bad import OnBad
from eval_tools.pair_erc import share_cut_through
from eval_tools.results import MeasuredCurve, VerificationSummary
from eval_tools.scores import (
    BoolArray,
    FloatArray,
    IntArray,
    UnresolvedFMRWarning,
    check_count,
    check_fmrs,
    comparisons_needed,
    is_number,
    resolvable_fmrs,
    resolves,
)
from eval_tools.significance import Bootstrap, PairedComparison, bootstrap, check_resampling
from eval_tools.verification import RocCurve, operating_point, roc_curve, verify_similarities

DEFAULT_FMRS = (1e-3, 1e-4)
DET_POINTS = 500
HISTOGRAM_BINS = 80


@dataclass(frozen=True)
class Settings:
    """How pairs are judged.

    Attributes:
        fmrs: target FMRs of the curves; empty for the usual ones (:data:`DEFAULT_FMRS`), of which each set
            keeps those that its impostor pairs resolve.
        tar_fmrs: target FMRs of the true accept rates; empty for ``default_tar_fmrs``.
        default_tar_fmrs: the same, left out where a set does not resolve them; empty for those of the curves.
        protocols: of the error-versus-reject curves, see :mod:`eval_tools.erc`.
        limit: right end of the discard axis for areas, None for each curve's own end.
        pair_quality: quality of a pair from those of its two sides, see :func:`eval_tools.erc.pair_quality`.
        flip: how the embeddings of a face and of its mirror image are joined: "sum", "concat" or "none".
        n_resamples: bootstrap resamples for bands and significance, 0 for neither.
        level: confidence level of the bands.
        seed: of the resampling.
        on_bad: "error", or "exclude" to leave out images that cannot be read, counted.

    Raises:
        ValueError: a value out of range; before hours of computing, not after.
    """

    fmrs: tuple[float, ...] = ()
    protocols: tuple[Protocol, ...] = ("fixed", "crfiqa")
    limit: float | None = None
    pair_quality: Literal["min", "max", "mean", "product"] = "min"
    flip: Literal["sum", "concat", "none"] = "sum"
    n_resamples: int = 200
    level: float = 0.95
    seed: int = 0
    on_bad: OnBad = "error"
    tar_fmrs: tuple[float, ...] = ()
    default_tar_fmrs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for fmrs in filter(None, (self.fmrs, self.tar_fmrs, self.default_tar_fmrs)):
            check_fmrs(fmrs)
        for protocol in self.protocols:
            check_protocol(protocol)
        end = 1.0 if self.protocols == ("fixed",) else 0.95
        if self.limit is not None and not (is_number(self.limit) and 0 < self.limit <= end):
            raise ValueError(f"limit must lie in (0, {end:g}] for these protocols, got {self.limit!r}")
        check_count("seed", self.seed, 0)
        if self.n_resamples != 0:
            check_resampling(self.n_resamples, self.level)

    def curve_fmrs(self, n_impostor: int) -> tuple[float, ...]:
        """Target FMRs of the curves of a set with so many impostor pairs."""
        return self.fmrs or resolvable_fmrs(DEFAULT_FMRS, n_impostor)

    def points_fmrs(self, n_impostor: int) -> tuple[float, ...]:
        """Target FMRs of the true accept rates of a set with so many impostor pairs."""
        if self.tar_fmrs or not self.default_tar_fmrs:
            return self.tar_fmrs or self.curve_fmrs(n_impostor)
        return resolvable_fmrs(self.default_tar_fmrs, n_impostor)

    def left_out(self, n_impostor: int) -> tuple[str, ...]:
        """One sentence on the usual FMRs that so many impostor pairs do not resolve, or none."""
        chosen: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
        if not self.fmrs:
            chosen.append((DEFAULT_FMRS, self.curve_fmrs(n_impostor)))
        if not self.tar_fmrs:
            chosen.append((self.default_tar_fmrs, self.points_fmrs(n_impostor)))
        missing = {fmr for usual, kept in chosen for fmr in usual if fmr not in kept}
        if not missing:
            return ()
        added = {fmr for usual, kept in chosen if usual for fmr in kept if fmr not in usual}
        instead = "" if all(resolves(n_impostor, fmr) for fmr in added) else ", which is not resolved either"
        return (
            f"FMR {_listed(missing)} left out: not resolved by {n_impostor:,} impostor pairs "
            f"({max(missing):g} takes {comparisons_needed(max(missing)):,})"
            + (f"; FMR {_listed(added)} instead{instead}" if added else ""),
        )


def _listed(fmrs: set[float]) -> str:
    return ", ".join(f"{fmr:g}" for fmr in sorted(fmrs, reverse=True))


@dataclass(frozen=True)
class PairCurves:
    """Curves of every (protocol, FMR, method), and the significance of every (protocol, FMR)."""

    curves: dict[tuple[Protocol, float, str], MeasuredCurve]
    significance: dict[tuple[Protocol, float], tuple[PairedComparison, ...]]


def measure_curves(
    similarity: FloatArray,
    is_genuine: BoolArray,
    qualities: Mapping[str, FloatArray],
    pair_identities: IntArray | None,
    settings: Settings,
    *,
    progress: bool = False,
) -> PairCurves:
    """Error-versus-reject curves of several quality methods on the same pairs.

    FMRs that the pairs do not resolve and ends of curves without pairs raise no warning here: each curve says
    so itself, and so do the tables.

    Args:
        similarity: [P], higher is more alike.
        is_genuine: [P].
        qualities: method -> quality [P] of the pairs.
        pair_identities: int [P, 2], to resample people; None to resample pairs.
        settings: protocols, FMRs and resampling.
        progress: show progress bars of the resampling.

    Raises:
        ValueError: see :func:`eval_tools.erc.error_rejection_curve`.
    """
    result = PairCurves({}, {})
    if not qualities:
        return result
    fmrs = settings.curve_fmrs(int(np.count_nonzero(~is_genuine)))
    on_grid = any(protocol != "fixed" for protocol in settings.protocols)
    tied = {name: share_cut_through(quality) if on_grid else 0.0 for name, quality in qualities.items()}
    with _warnings_left_to_the_tables():
        by_method = {
            name: error_rejection_curves(
                similarity, is_genuine, quality, fmrs=fmrs, protocols=settings.protocols
            )
            for name, quality in qualities.items()
        }
        for protocol in settings.protocols:
            for fmr in fmrs:
                resampled = _resampled(
                    similarity, is_genuine, qualities, pair_identities, protocol, fmr, settings, progress
                )
                for name, curves in by_method.items():
                    result.curves[protocol, fmr, name] = _measured(
                        curves[protocol, fmr], name, resampled, settings.limit, tied[name]
                    )
                if resampled is not None and len(qualities) > 1:
                    result.significance[protocol, fmr] = resampled.comparisons()
    return result


def summarise(
    similarity: FloatArray,
    is_genuine: BoolArray,
    *,
    folds: int | None,
    fmrs: Sequence[float],
    n_images: int | None = None,
    notes: Sequence[str] = (),
) -> VerificationSummary:
    """How well a recogniser's scores separate the pairs of a test set."""
    genuine, impostor = similarity[is_genuine], similarity[~is_genuine]
    verification = verify_similarities(similarity, is_genuine, folds) if folds else None
    with _warnings_left_to_the_tables():
        points = tuple(operating_point(similarity, is_genuine, fmr) for fmr in fmrs)
    roc = roc_curve(similarity, is_genuine)
    shown = _thinned(roc)
    low, high = float(similarity.min()), float(similarity.max())
    pad = 0.5 * (low == high)
    edges = np.linspace(low - pad, high + pad, HISTOGRAM_BINS + 1)
    return VerificationSummary(
        n_images=n_images,
        n_genuine=genuine.size,
        n_impostor=impostor.size,
        accuracy=verification.accuracy if verification else None,
        accuracy_std=verification.accuracy_std if verification else None,
        eer=roc.eer,
        operating_points=points,
        det_fmr=roc.fmr[shown],
        det_fnmr=roc.fnmr[shown],
        edges=edges,
        genuine=np.histogram(genuine, edges)[0],
        impostor=np.histogram(impostor, edges)[0],
        notes=tuple(notes),
    )


@contextmanager
def _warnings_left_to_the_tables() -> Iterator[None]:
    """One warning for each curve and resample would bury the results; notes below the tables say it once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnresolvedFMRWarning)
        warnings.filterwarnings("ignore", message=".*no genuine or no impostor pair", category=RuntimeWarning)
        yield


def _resampled(
    similarity: FloatArray,
    is_genuine: BoolArray,
    qualities: Mapping[str, FloatArray],
    pair_identities: IntArray | None,
    protocol: Protocol,
    fmr: float,
    settings: Settings,
    progress: bool,
) -> Bootstrap | None:
    if not settings.n_resamples:
        return None
    return bootstrap(
        similarity,
        is_genuine,
        qualities,
        pair_identities=pair_identities,
        fmr=fmr,
        protocol=protocol,
        limit=settings.limit,
        n_resamples=settings.n_resamples,
        level=settings.level,
        rng=np.random.default_rng(settings.seed),
        progress=progress,
    )


def _measured(
    curve: ErrorRejectionCurve, name: str, resampled: Bootstrap | None, limit: float | None, tied: float
) -> MeasuredCurve:
    area = curve.auc if limit is None else curve.pauc(limit)
    ties = 0.0 if curve.protocol == "fixed" else tied
    if resampled is None:
        return MeasuredCurve(curve, area, None, tied=ties)
    return MeasuredCurve(curve, area, resampled.band(name), resampled.against_random(name), ties)


def _thinned(roc: RocCurve) -> IntArray:
    """Indices of about ``DET_POINTS`` points, evenly spaced in the logarithms of FMR and FNMR."""
    last = roc.fmr.size - 1
    levels = np.geomspace(1e-8, 1.0, DET_POINTS // 2)
    by_fmr = np.searchsorted(roc.fmr, levels)
    by_fnmr = last - np.searchsorted(roc.fnmr[::-1], levels)
    return np.unique(np.clip(np.concatenate([[0, last], by_fmr, by_fnmr]), 0, last))
