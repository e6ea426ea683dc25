"""Cross-model runs: M quality methods x K recognisers x S test sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from eval_tools.constant_quality import constant_fault
from eval_tools.galleries import extreme_faces, missed_pairs
from eval_tools.measure import Settings, measure_curves, summarise
from eval_tools.models import Quality, RandomQuality, Recogniser
from eval_tools.precomputed import ScoredPairs
from eval_tools.results import (
    Comparison,
    CurveKey,
    Gallery,
    MeasuredCurve,
    QualityKey,
    SetKey,
    SignificanceKey,
    VerificationSummary,
)
from eval_tools.scored_set import ScoredSet, score_set, with_common_norm_faults
from eval_tools.scores import BoolArray, FloatArray, IntArray
from eval_tools.significance import PairedComparison
from eval_tools.test_sets import TestSet, VerificationSet

GIVEN_SCORES = "given scores"


def compare(
    test_sets: Mapping[str, TestSet],
    recognisers: Mapping[str, Recogniser],
    qualities: Mapping[str, Quality],
    settings: Settings | None = None,
    *,
    cache: Path | None = None,
    progress: bool = True,
    description: Mapping[str, str] | None = None,
) -> Comparison:
    """Judge every quality method with every recogniser on every test set.

    Args:
        test_sets, recognisers, qualities: by the names under which they are reported. Without quality methods
            only verification is measured.
        settings: protocols, FMRs and the like; None for the defaults.
        cache: folder in which embeddings and qualities are kept, None to keep nothing.
        progress: show progress bars.
        description: how it was run, for the report.

    Raises:
        ValueError: unreadable images (unless ``settings.on_bad`` excludes them), scores that do not fit a
            set, or pairs that have no error rates; the message names the set. Or qualities that rank nothing,
            see :mod:`eval_tools.constant_quality`: methods that give such are left out with a note, and it is
            an error if none remains.
    """
    results = _Results(settings or Settings(), progress)
    scored_sets = {}
    for name, test_set in test_sets.items():
        with _errors_name(name):
            scored_sets[name] = score_set(
                test_set, recognisers, qualities, results.settings, cache=cache, progress=progress, title=name
            )
    random = {method for method, model in qualities.items() if isinstance(model, RandomQuality)}
    for name, scored in with_common_norm_faults(scored_sets).items():
        with _errors_name(name):
            results.add_scored_set(name, scored)
            results.add_galleries(name, scored, random)
    return results.comparison(description)


def compare_scored_pairs(
    pairs: Mapping[str, ScoredPairs],
    settings: Settings | None = None,
    *,
    progress: bool = True,
    description: Mapping[str, str] | None = None,
) -> Comparison:
    """Judge the quality methods of pairs that were scored elsewhere; arguments as for :func:`compare`."""
    results = _Results(settings or Settings(), progress)
    for name, given in pairs.items():
        with _errors_name(name):
            results.add_pairs(
                SetKey(name, GIVEN_SCORES),
                given.similarity,
                given.is_genuine,
                given.quality,
                {method: constant_fault(quality, 0.0) for method, quality in given.quality.items()},
                given.pair_identities,
                notes=given.notes,
            )
    return results.comparison(description)


@contextmanager
def _errors_name(test_set: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{test_set}: {error}") from error


class _Results:
    """The growing results of a run."""

    def __init__(self, settings: Settings, progress: bool) -> None:
        self.settings, self._progress = settings, progress
        self._curves: dict[CurveKey, MeasuredCurve] = {}
        self._verification: dict[SetKey, VerificationSummary] = {}
        self._quality: dict[QualityKey, FloatArray] = {}
        self._significance: dict[SignificanceKey, tuple[PairedComparison, ...]] = {}
        self._galleries: list[Gallery] = []
        self._left_out: list[str] = []

    def comparison(self, description: Mapping[str, str] | None) -> Comparison:
        """The results; ``ValueError`` if no quality method is left to be judged."""
        if self._left_out and not self._curves:
            raise ValueError(f"{self._left_out[0]}; no other quality method was named")
        return Comparison(
            settings=dict(description or {}),
            limit=self.settings.limit,
            curves=self._curves,
            verification=self._verification,
            quality=self._quality,
            significance=self._significance,
            galleries=tuple(self._galleries),
        )

    def add_scored_set(self, name: str, scored: ScoredSet) -> None:
        test_set = scored.test_set
        for recogniser, similarity in scored.similarity.items():
            qualities = {method: scored.quality(method, recogniser) for method in scored.methods}
            for method in scored.rankable(recogniser):
                self._quality.setdefault(QualityKey(name, method), qualities[method])
            self.add_pairs(
                SetKey(name, recogniser),
                similarity,
                test_set.is_genuine,
                {m: test_set.pair_quality(q, self.settings.pair_quality) for m, q in qualities.items()},
                {method: scored.fault(method, recogniser) for method in qualities},
                test_set.pair_identities,
                folds=test_set.folds,
                n_images=len(test_set.images),
                notes=test_set.notes,
            )

    def add_pairs(
        self,
        key: SetKey,
        similarity: FloatArray,
        is_genuine: BoolArray,
        qualities: Mapping[str, FloatArray],
        faults: Mapping[str, str | None],
        pair_identities: IntArray | None,
        *,
        folds: int | None = None,
        n_images: int | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Verification, and curves of the methods that have no fault; notes tell of the others."""
        left_out = [f"{m} of {key.recogniser} is left out: {f}" for m, f in faults.items() if f is not None]
        self._left_out += [f"{key.test_set}: {note}" for note in left_out]
        notes = (*notes, *left_out)
        n_impostor = int(np.count_nonzero(~is_genuine))
        self._verification[key] = summarise(
            similarity,
            is_genuine,
            folds=folds,
            fmrs=self.settings.points_fmrs(n_impostor),
            n_images=n_images,
            notes=(*notes, *self.settings.left_out(n_impostor)),
        )
        ranking = {method: quality for method, quality in qualities.items() if faults[method] is None}
        measured = measure_curves(
            similarity, is_genuine, ranking, pair_identities, self.settings, progress=self._progress
        )
        for (protocol, fmr, method), curve in measured.curves.items():
            self._curves[CurveKey(key.test_set, key.recogniser, method, protocol, fmr)] = curve
        for (protocol, fmr), comparisons in measured.significance.items():
            self._significance[SignificanceKey(*key, protocol, fmr)] = comparisons

    def add_galleries(self, name: str, scored: ScoredSet, left_out: set[str]) -> None:
        """Faces and missed pairs of each method; the pairs are those of the first recogniser."""
        test_set = scored.test_set
        recogniser, similarity = next(iter(scored.similarity.items()))
        points = self._verification[SetKey(name, recogniser)].operating_points
        threshold = next((point for point in points if point.resolved), points[0]).threshold
        for method in (m for m in scored.rankable(recogniser) if m not in left_out):
            quality = scored.quality(method, recogniser)
            self._galleries += extreme_faces(test_set.images, quality, method, name)
            if isinstance(test_set, VerificationSet):
                pair_quality = test_set.pair_quality(quality, self.settings.pair_quality)
                title = f"{name}: {method} kept, {recogniser} missed"
                self._galleries += missed_pairs(test_set, similarity, pair_quality, threshold, title)
