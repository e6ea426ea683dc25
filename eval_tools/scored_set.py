"""What recognisers and quality methods say of a test set.

Each image is decoded once, whatever the number of models, and what a model says of it is kept in a cache by
content, so an interrupted run goes on and a longer one repeats nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval_tools.cache import apply_cached
from eval_tools.constant_quality import ROUNDING, constant_fault, length_fault
from eval_tools.measure import Settings
from eval_tools.models import EmbeddingNorm, ImageFunction, Quality, RandomQuality, Recogniser
from eval_tools.precomputed import PrecomputedEmbeddings, PrecomputedQuality
from eval_tools.scores import FloatArray
from eval_tools.test_sets import TestSet
from eval_tools.test_sets.degraded import DegradedImages

_REASONS = 3  # of excluded images that are told


@dataclass(frozen=True)
class ScoredSet:
    """A test set, without the images that could not be used, and what the models say of it.

    Attributes:
        test_set: what is left of it.
        similarity: recogniser -> similarity [P] of the pairs.
        methods: names of the quality methods.
        image_quality: method -> quality [N], for the methods that look at images alone.
        norms: recogniser -> length [N] of the embeddings, the quality of the other methods.
        given: methods whose qualities come from files.
        norm_faults: recogniser -> why the norms are no quality, None if they may be one.
    """

    test_set: TestSet
    similarity: Mapping[str, FloatArray]
    methods: Sequence[str]
    image_quality: Mapping[str, FloatArray]
    norms: Mapping[str, FloatArray]
    given: frozenset[str]
    norm_faults: Mapping[str, str | None]

    def quality(self, method: str, recogniser: str) -> FloatArray:
        """Quality [N] of the images; the embedding norm depends on the recogniser."""
        return self.image_quality[method] if method in self.image_quality else self.norms[recogniser]

    def fault(self, method: str, recogniser: str) -> str | None:
        """The reason why :meth:`quality` cannot rank the images, None if it can."""
        if method not in self.image_quality:
            return self.norm_faults[recogniser]
        return constant_fault(self.image_quality[method], 0.0 if method in self.given else ROUNDING)

    def rankable(self, recogniser: str) -> list[str]:
        """The methods without a :meth:`fault`."""
        return [method for method in self.methods if self.fault(method, recogniser) is None]


def score_set(
    test_set: TestSet,
    recognisers: Mapping[str, Recogniser],
    qualities: Mapping[str, Quality],
    settings: Settings,
    *,
    cache: Path | None = None,
    progress: bool = True,
    title: str | None = None,
) -> ScoredSet:
    """Apply all models to a test set.

    Args:
        recognisers, qualities: by name; the embedding norm needs a recogniser.
        settings: how embeddings are joined, and what to do about bad images.
        cache, progress, title: see :func:`eval_tools.cache.apply_cached`.

    Raises:
        ValueError: a bad image (unless excluded), or models and files that do not fit the set.
    """
    if not recognisers and any(isinstance(model, EmbeddingNorm) for model in qualities.values()):
        raise ValueError("the embedding norm is a recogniser's: name one")
    models: dict[str, Recogniser | Quality] = {_recogniser(name): m for name, m in recognisers.items()}
    models |= {_method(name): m for name, m in qualities.items()}
    test_set, outputs = _apply(test_set, models, settings, cache, progress, title)
    embeddings = {name: outputs[_recogniser(name)] for name in recognisers}
    norm = EmbeddingNorm()
    wants_norm = any(isinstance(model, EmbeddingNorm) for model in qualities.values())
    norms = {name: norm.score(array) for name, array in embeddings.items()} if wants_norm else {}
    return ScoredSet(
        test_set=test_set,
        similarity={n: test_set.similarity(e, settings.flip) for n, e in embeddings.items()},
        methods=tuple(qualities),
        image_quality={
            name: np.asarray(outputs[_method(name)], np.float64)
            for name, model in qualities.items()
            if not isinstance(model, EmbeddingNorm)
        },
        norms=norms,
        given=frozenset(name for name, m in qualities.items() if isinstance(m, PrecomputedQuality)),
        norm_faults={name: length_fault(lengths) for name, lengths in norms.items()},
    )


def with_common_norm_faults(scored_sets: Mapping[str, ScoredSet]) -> dict[str, ScoredSet]:
    """Sets that the same models were applied to, each told what the embeddings of all say of the norms."""
    recognisers = {name for scored in scored_sets.values() for name in scored.norms}
    faults = {
        name: length_fault(np.concatenate([scored.norms[name] for scored in scored_sets.values()]))
        for name in recognisers
    }
    return {name: dataclasses.replace(scored, norm_faults=faults) for name, scored in scored_sets.items()}


def _recogniser(name: str) -> str:
    return f"recogniser {name}"


def _method(name: str) -> str:
    return f"quality method {name}"


def _apply(
    test_set: TestSet,
    models: Mapping[str, Recogniser | Quality],
    settings: Settings,
    cache: Path | None,
    progress: bool,
    title: str | None,
) -> tuple[TestSet, dict[str, Any]]:
    """The set without its bad images, and an array or chunked array of each model for the others."""
    given = [m.path for m in models.values() if isinstance(m, PrecomputedEmbeddings | PrecomputedQuality)]
    if given and isinstance(test_set.images, DegradedImages):
        raise ValueError(f"{given[0]} is of the images as they are, and these are degraded: name a model")
    found = {
        name: model.lookup(test_set.names, settings.on_bad)
        for name, model in models.items()
        if isinstance(model, PrecomputedEmbeddings | PrecomputedQuality)
    }
    computed, bad = apply_cached(
        {name: model for name, model in models.items() if isinstance(model, ImageFunction)},
        test_set.images,
        cache,
        on_bad=settings.on_bad,
        names=test_set.names,
        progress=progress,
        title=title,
    )
    notes = [note for lookup in found.values() for note in lookup.notes]
    for lookup in found.values():
        bad |= lookup.bad
    notes += [f"Excluded: {bad[index]}." for index in sorted(bad)[:_REASONS]]
    rows = np.array(sorted(bad), np.int64)
    try:
        kept = test_set.without_images(rows)
    except ValueError as error:
        raise ValueError(f"{error}; {bad[min(bad)]}") from error
    kept = dataclasses.replace(kept, notes=(*kept.notes, *notes))  # type: ignore[type-var]
    outputs: dict[str, Any] = {name: array.without(rows) for name, array in computed.items()}
    outputs |= {name: np.delete(lookup.values, rows, axis=0) for name, lookup in found.items()}
    outputs |= {
        name: model.score(len(kept.images))
        for name, model in models.items()
        if isinstance(model, RandomQuality)
    }
    return kept, outputs
