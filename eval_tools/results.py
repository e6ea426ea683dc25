"""What a cross-model run gives, and the folder it is kept in.

A folder holds ``comparison.json`` (everything but arrays), ``arrays.npz`` (no pickle) and is all that the
tables, the figures and the report are made of.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from eval_tools.columns import read_npz
from eval_tools.curve import ErrorRejectionCurve, Protocol
from eval_tools.scores import FloatArray, IntArray, resolves
from eval_tools.significance import Band, PairedComparison
from eval_tools.type_hints import fits
from eval_tools.verification import OperatingPoint
from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.io.written_files import check_one_moment

JSON_FILE, ARRAYS_FILE = "comparison.json", "arrays.npz"
_ADVICE = "run the command that wrote them again"


class CurveKey(NamedTuple):
    """What a curve was measured on and how; ``fmr`` is the target."""

    test_set: str
    recogniser: str
    method: str
    protocol: str
    fmr: float


class SetKey(NamedTuple):
    test_set: str
    recogniser: str


class QualityKey(NamedTuple):
    test_set: str
    method: str


class SignificanceKey(NamedTuple):
    test_set: str
    recogniser: str
    protocol: str
    fmr: float


@dataclass(frozen=True)
class MeasuredCurve:
    """A curve and what was measured on it.

    Attributes:
        curve: the curve.
        area: its area up to the run's limit.
        band: confidence band of the curve, None if none was asked for.
        against_random: its area minus that of the random level, over the same resamples as the band.
        tied: largest share of the pairs that have one equal quality which a discard cuts through, so that the
            order of the pairs decides which of them leave; 0 where equal qualities leave together.
    """

    curve: ErrorRejectionCurve
    area: float
    band: Band | None
    against_random: PairedComparison | None = None
    tied: float = 0.0


@dataclass(frozen=True)
class VerificationSummary:
    """One recogniser on one test set.

    Attributes:
        n_images, n_genuine, n_impostor: what was compared; None images where only scores were given.
        accuracy, accuracy_std: 10-fold accuracy, None for a set without folds.
        eer: equal error rate.
        operating_points: one for each target FMR.
        det_fmr [T], det_fnmr [T]: the DET curve, thinned.
        edges [B + 1], genuine [B], impostor [B]: histogram of the similarities.
        notes: excluded images and pairs and the like, one sentence each.
    """

    n_images: int | None
    n_genuine: int
    n_impostor: int
    accuracy: float | None
    accuracy_std: float | None
    eer: float
    operating_points: tuple[OperatingPoint, ...]
    det_fmr: FloatArray
    det_fnmr: FloatArray
    edges: FloatArray
    genuine: IntArray
    impostor: IntArray
    notes: tuple[str, ...]

    @property
    def eer_resolved(self) -> bool:
        """Whether the equal error rate is at least one error among the pairs of each kind."""
        return bool(resolves(min(self.n_genuine, self.n_impostor), self.eer))


@dataclass(frozen=True)
class GalleryItem:
    """One face or one pair of faces, RGB uint8 [H, W, 3] each, and what to say of it."""

    images: tuple[NDArray[np.uint8], ...]
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Faces worth looking at, such as the lowest scored ones of a set."""

    title: str
    note: str
    items: tuple[GalleryItem, ...]


@dataclass(frozen=True)
class Comparison:
    """M quality methods x K recognisers x S test sets.

    Attributes:
        settings: how it was run, for people: name -> text.
        limit: right end of the discard axis up to which areas are taken, None for each curve's own end.
        curves, verification, quality, significance: what was measured; the quality [N] of every image.
        galleries: faces to look at.
        number: tells the run from others, in all of its files.
    """

    settings: Mapping[str, str]
    limit: float | None
    curves: Mapping[CurveKey, MeasuredCurve]
    verification: Mapping[SetKey, VerificationSummary]
    quality: Mapping[QualityKey, FloatArray]
    significance: Mapping[SignificanceKey, tuple[PairedComparison, ...]]
    galleries: tuple[Gallery, ...]
    number: str = field(default_factory=lambda: secrets.token_hex(6))

    def resolves(self, key: CurveKey) -> bool:
        """Whether the target FMR is resolved at all points that the area of a curve rests on."""
        return self.curves[key].curve.resolved_to(self.limit)

    def worse_than_random(self, key: CurveKey) -> bool:
        """Whether a method's area lies above the random level with confidence.

        That is where the interval of the difference lies above 0 and the FMR is resolved; False without a
        resampling.
        """
        against = self.curves[key].against_random
        return against is not None and against.low > 0 and self.resolves(key)

    def names(self, field: str) -> list[str]:
        """Names of the test sets, recognisers, methods or protocols in the order in which they were given."""
        return list(dict.fromkeys(getattr(key, field) for key in self.curves))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the folder; each file is replaced atomically."""
        arrays: dict[str, NDArray[Any]] = {"number": np.array(self.number)}
        document = _encode(self, arrays)
        with atomic_path(Path(folder) / ARRAYS_FILE) as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
        with atomic_path(Path(folder) / JSON_FILE) as temporary:
            temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Comparison:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: no results in the folder, damaged ones, or files of two runs.
        """
        paths = Path(folder) / JSON_FILE, Path(folder) / ARRAYS_FILE
        if not all(path.is_file() for path in paths):
            raise ValueError(
                f"{folder} holds no results ({JSON_FILE} and {ARRAYS_FILE}): name the folder that "
                "`igfiqa-eval compare --output` wrote"
            )
        check_one_moment(folder, (JSON_FILE, ARRAYS_FILE), _ADVICE)
        try:
            document, arrays = json.loads(paths[0].read_text(encoding="utf-8")), read_npz(paths[1])
            numbers = document["fields"].get("number"), arrays.get("number")
            content = _decode(document, arrays)
            if not isinstance(content, cls):
                raise ValueError(f"{JSON_FILE} holds a {type(content).__name__}, expected a comparison")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"the results in {folder} are damaged: {error!r}") from error
        if len({str(number) for number in numbers}) > 1:
            raise ValueError(f"{paths[1]} is of another run than {JSON_FILE} beside it: {_ADVICE}")
        return content


def read_settings(folder: Path) -> dict[str, str]:
    """The settings of the results in a folder, empty if they cannot be read."""
    try:
        document = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
        return dict(_decode(document["fields"]["settings"], {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


_CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Band,
        Comparison,
        CurveKey,
        ErrorRejectionCurve,
        Gallery,
        GalleryItem,
        MeasuredCurve,
        OperatingPoint,
        PairedComparison,
        QualityKey,
        SetKey,
        SignificanceKey,
        VerificationSummary,
    )
}


_hints = cache(get_type_hints)


def _encode(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """``value`` for JSON; arrays are put aside under the name that stands in their place."""
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if dataclasses.is_dataclass(value):
        fields = {f.name: _encode(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        fields = {name: _encode(item, arrays) for name, item in value._asdict().items()}
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, Mapping):
        return {"items": [[_encode(key, arrays), _encode(item, arrays)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return [_encode(item, arrays) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "items" in value:
        return {_decode(key, arrays): _decode(item, arrays) for key, item in value["items"]}
    kind = _CLASSES[value["class"]]
    fields = {name: _decode(item, arrays) for name, item in value["fields"].items()}
    hints = _hints(kind)
    for name, content in fields.items():
        if not fits(content, hints[name]):
            raise ValueError(f"{kind.__name__}.{name} is a {type(content).__name__} that is no {hints[name]}")
    built = kind(**fields)  # fields that earlier results lack have defaults
    if not _is_consistent(built):
        raise ValueError(f"the parts of a {kind.__name__} do not fit each other")
    return built


def _is_consistent(content: Any) -> bool:
    """Whether numbers are what they can be, arrays that belong together have the same length, and what is
    referred to is there."""
    match content:
        case CurveKey() | SignificanceKey():
            return content.protocol in get_args(Protocol) and _is_target(content.fmr)
        case Band():
            rates, gaps = (content.low, content.high), np.isnan(content.low)
            return (
                _same_length(content.discard, *rates)
                and _ascends(content.discard, 0, 1)
                and bool((gaps == np.isnan(content.high)).all() and (gaps | (rates[0] <= rates[1])).all())
                and _are_within(content.low[~gaps], 0)
                and 0 < content.level < 1
            )
        case ErrorRejectionCurve():
            return _is_curve(content)
        case MeasuredCurve():
            return not content.area < 0 and 0 <= content.tied <= 1
        case PairedComparison():
            return not content.low > content.high and not (content.p_value < 0 or content.p_value > 1)
        case VerificationSummary():
            bins = (content.genuine, content.impostor)
            rates = (content.det_fmr, content.det_fnmr)
            return (
                _same_length(*rates)
                and _same_length(content.edges[1:], *bins)
                and _ascends(content.det_fmr, 0, 1)
                and _ascends(content.det_fnmr[::-1], 0, 1)
                and _ascends(content.edges)
                and all(_are_within(counts, 0) for counts in bins)
                and min(content.n_genuine, content.n_impostor) > 0
                and (content.eer == 0 or _is_target(content.eer) or content.eer == 1)
            )
        case OperatingPoint():
            return (
                _is_target(content.target_fmr)
                and 0 <= content.n_false_match <= content.n_impostor > 0
                and 0 <= content.n_false_non_match <= content.n_genuine > 0
            )
        case GalleryItem():
            return len(content.images) > 0 and all(_is_image(image) for image in content.images)
        case Comparison():
            return _refers_to_what_is_there(content)
    return True


def _is_curve(curve: ErrorRejectionCurve) -> bool:
    counts = (curve.n_discarded, curve.n_errors, curve.n_genuine, curve.n_impostor)
    compared = curve.n_genuine if curve.error_type == "fnmr" else curve.n_impostor
    chosen = (np.asarray(curve.threshold), np.asarray(curve.effective_fmr))
    return (
        _same_length(curve.discard, *counts)
        and _same_length(curve.best_errors)
        and all(values.shape in ((), (1,), curve.discard.shape) for values in chosen)
        and curve.discard[0] == 0
        and _ascends(curve.discard, 0, 1)
        and _ascends(curve.n_discarded, 0, curve.n_discardable)
        and all(_ascends(pairs[::-1], 0) for pairs in (curve.n_genuine, curve.n_impostor))
        and bool(((curve.n_errors >= 0) & (curve.n_errors <= compared)).all())
        and _ascends(curve.best_errors[::-1], 0, 1)
        and _are_within(chosen[1][~np.isnan(chosen[1])], 0, 1)
        and curve.n_discardable > 0
        and (curve.target_fmr is None or _is_target(curve.target_fmr))
    )


def _refers_to_what_is_there(content: Comparison) -> bool:
    of_pairs = (
        (where, method)
        for where, pairs in content.significance.items()
        for pair in pairs
        for method in (pair.first, pair.second)
    )
    return (
        all(SetKey(key.test_set, key.recogniser) in content.verification for key in content.curves)
        and all(
            CurveKey(where.test_set, where.recogniser, method, where.protocol, where.fmr) in content.curves
            for where, method in of_pairs
        )
        and all(key.protocol == measured.curve.protocol for key, measured in content.curves.items())
        and all(_same_length(quality) and _are_within(quality) for quality in content.quality.values())
        and (content.limit is None or 0 < content.limit <= 1)
    )


def _is_target(fmr: float) -> bool:
    """Whether it is a rate between 0 and 1 that a number of comparisons can resolve."""
    return 1e-300 < fmr < 1


def _are_within(values: NDArray[Any], low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether all numbers are finite and from ``low`` to ``high``."""
    return bool((np.isfinite(values) & (values >= low) & (values <= high)).all())


def _ascends(values: NDArray[Any], low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether the numbers [K] are finite, from ``low`` to ``high``, and none is below the one before."""
    return _are_within(values, low, high) and bool((values[1:] >= values[:-1]).all())


def _is_image(array: NDArray[Any]) -> bool:
    return array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size > 0


def _same_length(*arrays: NDArray[Any]) -> bool:
    """Whether all are [K], K at least 1."""
    return all(array.ndim == 1 and array.size and array.shape == arrays[0].shape for array in arrays)
