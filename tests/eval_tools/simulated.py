"""A comparison on simulated test sets, measured by the real engine, for the tests of figures and reports."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np

from eval_tools.curve import ErrorRejectionCurve, Protocol
from eval_tools.erc import error_rejection_curves, pair_quality
from eval_tools.results import (
    Comparison,
    CurveKey,
    Gallery,
    GalleryItem,
    MeasuredCurve,
    QualityKey,
    SetKey,
    SignificanceKey,
    VerificationSummary,
)
from eval_tools.scores import BoolArray, FloatArray, UnresolvedFMRWarning
from eval_tools.significance import Band, PairedComparison
from eval_tools.verification import VerificationResult, verify

PROTOCOLS: tuple[Protocol, ...] = ("fixed", "crfiqa")
FMRS = (1e-2, 1e-3)
SETS = ("easy", "hard")  # each has worse images than the one before
RECOGNISERS = ("ArcFace", "AdaFace")  # each is better than the one before
# Each knows less of the quality than the one before; the last has no band.
METHODS = ("IG-FIQA", "CR-FIQA", "sharpness", "random")


def simulated_comparison(
    sets: tuple[str, ...] = SETS,
    recognisers: tuple[str, ...] = RECOGNISERS,
    methods: tuple[str, ...] = METHODS,
    *,
    n_pairs: int = 1500,
    limit: float | None = None,
    settings: dict[str, str] | None = None,
) -> Comparison:
    """Every set, recogniser, method, protocol and FMR, under the names given."""
    rng = np.random.default_rng(0)
    is_genuine = np.arange(n_pairs) % 20 < 10
    curves, verification, quality = {}, {}, {}
    for set_number, test_set in enumerate(sets):
        true_quality = rng.beta(6 - set_number, 2, 2 * n_pairs)
        for noise, method in enumerate(methods):
            quality[QualityKey(test_set, method)] = true_quality + noise * rng.normal(0, 0.3, 2 * n_pairs)
        for number, recogniser in enumerate(recognisers):
            embeddings = _embeddings(rng, true_quality, is_genuine, dimension=24 + 8 * number)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnresolvedFMRWarning)
                verified = verify(embeddings, is_genuine)
                verification[SetKey(test_set, recogniser)] = _summary(verified, 2 * n_pairs)
                for method in methods:
                    for (protocol, fmr), curve in _curves(verified, quality[test_set, method]).items():
                        key = CurveKey(test_set, recogniser, method, protocol, fmr)
                        area = curve.auc if limit is None else curve.pauc(limit)
                        band = None if method == methods[-1] else _band(curve, area)
                        curves[key] = MeasuredCurve(curve, area, band)
    significance = {
        SignificanceKey(*where): _comparisons(curves, where, methods)
        for where in product(sets, recognisers, PROTOCOLS, FMRS)
    }
    galleries = (_gallery(rng, 1), _gallery(rng, 2))
    return Comparison(
        settings or {"pair quality": "min"}, limit, curves, verification, quality, significance, galleries
    )


def _embeddings(
    rng: np.random.Generator, quality: FloatArray, is_genuine: BoolArray, dimension: int
) -> FloatArray:
    """[2P, D]; the worse an image, the less of its person is left."""
    people = rng.normal(size=(is_genuine.size, 2, dimension))
    people[is_genuine, 1] = people[is_genuine, 0]
    noise = rng.normal(size=(quality.size, dimension))
    return people.reshape(-1, dimension) + noise * (0.35 / np.maximum(quality, 0.05))[:, None]


def _curves(
    verified: VerificationResult, quality: FloatArray
) -> dict[tuple[Protocol, float], ErrorRejectionCurve]:
    of_pairs = pair_quality(quality[0::2], quality[1::2])
    return error_rejection_curves(
        verified.similarity, verified.is_genuine, of_pairs, fmrs=FMRS, protocols=PROTOCOLS
    )


def _summary(verified: VerificationResult, n_images: int) -> VerificationSummary:
    edges = np.linspace(-1.0, 1.0, 81)
    return VerificationSummary(
        n_images=n_images,
        n_genuine=verified.n_genuine,
        n_impostor=verified.n_impostor,
        accuracy=verified.accuracy,
        accuracy_std=verified.accuracy_std,
        eer=verified.eer,
        operating_points=tuple(verified.operating_point(fmr) for fmr in FMRS),
        det_fmr=verified.roc.fmr,
        det_fnmr=verified.roc.fnmr,
        edges=edges,
        genuine=np.histogram(verified.similarity[verified.is_genuine], edges)[0],
        impostor=np.histogram(verified.similarity[~verified.is_genuine], edges)[0],
        notes=("2 unreadable images and 3 pairs with them are excluded.",),
    )


def _band(curve: ErrorRejectionCurve, area: float) -> Band:
    """The normal approximation: quick, and wide enough to be seen."""
    at = np.linspace(0, 0.95, 20)
    error = curve.error[np.searchsorted(curve.discard, at + 1e-9, side="right") - 1]
    spread = 2 * np.sqrt(error * (1 - error) / (curve.n_genuine[0] * (1 - at)))
    low = np.maximum(error - spread, 0)
    return Band(at, low, error + spread, 0.9 * area, 1.1 * area, 0.95, "pairs", 200)


def _comparisons(
    curves: dict[CurveKey, MeasuredCurve], where: tuple[str, str, str, float], methods: tuple[str, ...]
) -> tuple[PairedComparison, ...]:
    """The first method with each other one; the second is not told apart from it."""
    test_set, recogniser, protocol, fmr = where
    areas = [curves[CurveKey(test_set, recogniser, m, protocol, fmr)].area for m in methods]
    found = []
    for number, method in enumerate(methods[1:], start=1):
        difference, spread = areas[0] - areas[number], 0.002 * abs(areas[0] - areas[number])
        p_value = 0.5 if number == 1 else 0.005
        found.append(
            PairedComparison(
                methods[0],
                method,
                difference,
                difference - spread,
                difference + spread,
                p_value,
                0.95,
                "pairs",
                200,
            )
        )
    return tuple(found)


def _gallery(rng: np.random.Generator, faces: int) -> Gallery:
    """Items of one face or of a pair."""
    pixels = rng.integers(0, 255, (4, faces, 7, 7, 3), dtype=np.uint8).repeat(16, axis=2).repeat(16, axis=3)
    items = tuple(GalleryItem(tuple(item), f"quality {number / 4:.2f}") for number, item in enumerate(pixels))
    return Gallery(f"Items of {faces}", "Simulated.", items)
