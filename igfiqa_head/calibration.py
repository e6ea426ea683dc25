"""From a quality score to numbers one can act on: a percentage, and the error rate to expect.

A calibration is two short tables that are read by linear interpolation. :mod:`eval_tools.calibration` fits
it; it travels as JSON, in a file or in the metadata of an ONNX model, and needs NumPy only.

Scores are compared as float32, which is what networks give. So a table of short decimals is exact.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from igfiqa_head.arrays import plain_array
from igfiqa_head.io.atomic import atomic_path
from igfiqa_head.io.regular_files import regular

FORMAT, VERSION = "igfiqa calibration", 1
MAX_KNOTS = 1001
MAX_CHARACTERS = 1_000_000
MAX_NAME = 200

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class PercentScale:
    """Where a score stands in a reference set.

    Attributes:
        n_images: size of the reference set.
        scores [K]: knots, strictly ascending as float32.
        percents [K]: per cent of the reference that score lower, ties counted half; they never fall.

    Raises:
        ValueError: a value is of the wrong kind, out of range or out of order.
    """

    n_images: int
    scores: tuple[float, ...] = field(repr=False)
    percents: tuple[float, ...] = field(repr=False)

    def __post_init__(self) -> None:
        _check_count("n_images", self.n_images, lowest=1)
        _check_scores("scores", self.scores)
        _check_values("percents", self.percents, len(self.scores), highest=100.0)
        if any(later < earlier for earlier, later in zip(self.percents, self.percents[1:], strict=False)):
            raise ValueError("percents must never fall")


@dataclass(frozen=True)
class ExpectedFNMR:
    """False non-match rate of genuine pairs by pair quality, which is the lower of the two scores.

    Attributes:
        recogniser: what compared the pairs; with another one the rates differ.
        target_fmr, effective_fmr: the FMR asked for, and the one that the threshold has.
        threshold: similarity from which on a pair was accepted.
        n_genuine, n_impostor, n_errors: pairs of each kind, and false non-matches.
        scores [K]: knots, strictly ascending as float32.
        rates [K]: expected FNMR; they never rise.

    Raises:
        ValueError: a value is of the wrong kind, out of range or out of order.
    """

    recogniser: str
    target_fmr: float
    effective_fmr: float
    threshold: float
    n_genuine: int
    n_impostor: int
    n_errors: int
    scores: tuple[float, ...] = field(repr=False)
    rates: tuple[float, ...] = field(repr=False)

    def __post_init__(self) -> None:
        _check_name("recogniser", self.recogniser)
        for name in ("target_fmr", "effective_fmr"):
            _check_number(name, getattr(self, name), 0.0, 1.0)
        _check_number("threshold", self.threshold, -_FLOAT32_MAX, _FLOAT32_MAX)
        _check_count("n_genuine", self.n_genuine, lowest=1)
        _check_count("n_impostor", self.n_impostor, lowest=1)
        _check_count("n_errors", self.n_errors, lowest=0)
        _check_scores("scores", self.scores)
        _check_values("rates", self.rates, len(self.scores), highest=1.0)
        if any(later > earlier for earlier, later in zip(self.rates, self.rates[1:], strict=False)):
            raise ValueError("rates must never rise")


@dataclass(frozen=True)
class Calibration:
    """What the scores of one quality method mean.

    Attributes:
        method: the quality method whose scores these are.
        reference: name of the image set it was fitted on.
        percentile: score -> 0 to 100.
        fnmr: score -> expected FNMR, or None if it was fitted without genuine pairs.

    Raises:
        ValueError: a name that is not text of 1 to 200 characters.
    """

    method: str
    reference: str
    percentile: PercentScale
    fnmr: ExpectedFNMR | None = None

    def __post_init__(self) -> None:
        _check_name("method", self.method)
        _check_name("reference", self.reference)

    def percent(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Per cent of the reference set that score lower, of the shape of ``scores``.

        Ties count half. Scores below the whole reference give 0, above it 100.

        Raises:
            ValueError: a score is NaN or no number.
        """
        table = self.percentile
        return _interpolated(scores, table.scores, table.percents, left=0.0, right=100.0)

    def expected_fnmr(self, scores: ArrayLike) -> NDArray[np.float64]:
        """FNMR to expect of a genuine comparison whose worse image has this score, of the same shape.

        For one image: the rate at which its comparisons with images at least as good will fail. A worse
        partner brings its own, higher rate. Beyond the ends of the table the rate stays at its last value.

        Raises:
            ValueError: a score is NaN or no number, or the calibration was fitted without genuine pairs.
        """
        if self.fnmr is None:
            raise ValueError(
                f"the calibration of {self.method!r} on {self.reference!r} has no error rates: calibrate "
                "with genuine and impostor pairs"
            )
        return _interpolated(scores, self.fnmr.scores, self.fnmr.rates)

    def to_json(self) -> str:
        """Compact JSON that :meth:`from_json` reads; a few KB."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read and check what :meth:`to_json` wrote.

        Raises:
            ValueError: anything else.
        """
        document = _parsed(text)
        if document.pop("format", None) != FORMAT:
            raise ValueError(f'not a calibration: "format" must be "{FORMAT}"')
        version = document.pop("version", None)
        if type(version) is not int or version != VERSION:
            raise ValueError(
                f"this is version {short_repr(version)} of the calibration format, but only {VERSION} can be "
                "read here: update igfiqa-head or calibrate again"
            )
        document["percentile"] = _build(PercentScale, document.get("percentile"), "percentile")
        if document.get("fnmr") is not None:
            document["fnmr"] = _build(ExpectedFNMR, document["fnmr"], "fnmr")
        return _build(cls, document, "calibration")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`to_json` to a file, which is replaced as a whole."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read a file that :meth:`save` wrote.

        Raises:
            ValueError: the file holds anything else; the message names it.
            OSError: it cannot be read.
        """
        if not Path(path).exists():
            raise FileNotFoundError(f"no such file {os.fspath(path)}; igfiqa-eval calibrate writes one")
        with open(path, "rb", opener=regular) as file:
            content = file.read(MAX_CHARACTERS + 1)
        try:
            return cls.from_json(content.decode("utf-8"))
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error


def _interpolated(
    scores: ArrayLike,
    knots: tuple[float, ...],
    values: tuple[float, ...],
    left: float | None = None,
    right: float | None = None,
) -> NDArray[np.float64]:
    given = plain_array("scores", scores)
    if given.dtype.kind not in "iuf":
        raise ValueError(f"scores must be numbers, got an array of {given.dtype}")
    with np.errstate(over="ignore"):  # what float32 cannot hold lies beyond every knot, as infinity does
        narrow = given.astype(np.float32)
    if np.isnan(narrow).any():
        raise ValueError(f"{np.isnan(narrow).sum()} of {narrow.size} scores are NaN: they mean nothing")
    read = np.interp(narrow, np.array(knots, dtype=np.float32), values, left=left, right=right)
    # Rounding may lead past a knot by the last bit.
    return np.clip(read, 0.0, max(*values, right or 0.0))


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"not a calibration: it has more than {MAX_CHARACTERS:,} characters")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a calibration: it is no JSON ({error})") from None
    if not isinstance(document, dict):
        raise ValueError(f"not a calibration: expected a JSON object, got {short_repr(document)}")
    return document


def _build(kind: type[_Part], content: object, name: str) -> _Part:
    """``kind`` from a JSON object that must have its very fields."""
    if not isinstance(content, dict):
        raise ValueError(f"{name} must be a JSON object, got {short_repr(content)}")
    wanted = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    if set(content) != set(wanted):
        raise ValueError(f"{name} must hold {', '.join(wanted)}; got {short_repr(sorted(content))}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _check_name(name: str, value: object) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME:
        raise ValueError(f"{name} must be text of 1 to {MAX_NAME} characters, got {short_repr(value)}")


def _check_count(name: str, value: object, lowest: int) -> None:
    if type(value) is not int or value < lowest:
        raise ValueError(f"{name} must be an integer of at least {lowest}, got {short_repr(value)}")


def _check_number(name: str, value: object, lowest: float, highest: float) -> None:
    # NaN fails both comparisons; a boolean is an int to Python.
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise ValueError(f"{name} must be a number in [{lowest:g}, {highest:g}], got {short_repr(value)}")


def _check_values(name: str, values: object, size: int, highest: float, lowest: float = 0.0) -> None:
    if not isinstance(values, tuple) or len(values) != size:
        raise ValueError(f"{name} must be {size} numbers, one for each knot, got {short_repr(values)}")
    for value in values:
        _check_number(f"each of {name}", value, lowest, highest)


def _check_scores(name: str, scores: object) -> None:
    if not isinstance(scores, tuple) or not 1 <= len(scores) <= MAX_KNOTS:
        raise ValueError(f"{name} must be 1 to {MAX_KNOTS} numbers, got {short_repr(scores)}")
    _check_values(name, scores, len(scores), highest=_FLOAT32_MAX, lowest=-_FLOAT32_MAX)
    if not (np.diff(np.array(scores, dtype=np.float32)) > 0).all():
        raise ValueError(f"{name} must ascend strictly as float32")


def short_decimals(values: Iterable[float] | NDArray[np.floating]) -> tuple[float, ...]:
    """``values`` rounded to float32, each as the shortest decimal that is the same float32."""
    return tuple(float(str(value)) for value in np.asarray(values, dtype=np.float32))
