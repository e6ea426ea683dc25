"""What ``calibrate`` and ``threshold`` share: one quality method on one reference set."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from eval_tools.calibration import GenuinePairs, genuine_pairs_at_fmr
from eval_tools.cli import arguments
from eval_tools.cli.arguments import (
    add_flip,
    add_images,
    add_on_bad,
    add_quality,
    add_recogniser,
    add_running,
    split_name,
    test_set_of,
)
from eval_tools.measure import DEFAULT_FMRS, Settings
from eval_tools.scored_set import score_set
from eval_tools.scores import FloatArray
from igfiqa_head.text import number, tell


@dataclass(frozen=True)
class ScoredMethod:
    """The scores [N] of a method on a reference set, and its genuine pairs if a recogniser was named."""

    method: str
    reference: str
    scores: FloatArray
    pairs: GenuinePairs | None


def add_one_method(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="[NAME=]SET", help="a test set, as for igfiqa-eval compare")
    add_quality(parser, nargs=None)
    add_recogniser(parser, nargs=None, required=False)
    add_flip(parser)
    parser.add_argument(
        "--fmr",
        type=number,
        help="FMR at which false non-matches are counted; if not given, 0.001 or the lowest power of ten "
        "that the impostor pairs resolve",
    )
    add_images(parser)
    add_on_bad(parser)
    add_running(parser)


def scored_method(options: argparse.Namespace) -> ScoredMethod:
    """Apply the models to the reference set; a pair is as good as its worse face."""
    reference, path = split_name(options.reference)
    method, quality = split_name(options.quality)
    recognisers = {}
    if options.recogniser is not None:
        name, model = split_name(options.recogniser)
        recognisers[name] = arguments.recogniser(options, model)
    settings = Settings(
        fmrs=() if options.fmr is None else (options.fmr,),
        flip=options.flip,
        on_bad=options.on_bad,
        seed=options.seed,
    )
    scored = score_set(
        test_set_of(path, options),
        recognisers,
        {method: arguments.quality(options, quality)},
        settings,
        cache=arguments.cache_folder(options),
        title=reference,
    )
    for note in scored.test_set.notes:
        tell(f"{reference}: {note}")
    recogniser, similarity = next(iter(scored.similarity.items()), ("", None))
    scores = scored.quality(method, recogniser)
    fault = scored.fault(method, recogniser)
    if fault is not None:
        raise ValueError(f"{method} means nothing on {reference}: {fault}")
    if similarity is None:
        return ScoredMethod(method, reference, scores, None)
    pair_quality = scored.test_set.pair_quality(scores)
    is_genuine = scored.test_set.is_genuine
    n_impostor = int(np.count_nonzero(~is_genuine))
    fmr = settings.curve_fmrs(n_impostor)[0]
    if not options.fmr and fmr != DEFAULT_FMRS[0]:
        tell(f"{reference}: {settings.left_out(n_impostor)[0]}")
    pairs = genuine_pairs_at_fmr(similarity, is_genuine, pair_quality, recogniser=recogniser, fmr=fmr)
    return ScoredMethod(method, reference, scores, pairs)
