"""Arguments that several commands share, and what is made of them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, get_args

from eval_tools.erc import PAIR_PROTOCOLS
from eval_tools.measure import DEFAULT_FMRS, Settings
from eval_tools.models import Quality, Recogniser, open_quality, open_recogniser
from eval_tools.on_bad import OnBad
from eval_tools.test_sets import TestSet, degraded, open_test_set
from igfiqa_head.command_line import add_onnxruntime, user_path

T = TypeVar("T")


def add_test_sets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "test_sets",
        nargs="+",
        metavar="[NAME=]SET",
        help="insightface's .bin; an LFW pairs file beside its images; a CSV of pairs (image_a, image_b, "
        "is_genuine); train.rec or a folder with a sub-folder for each person (all pairs); an IJB-B/C folder",
    )
    parser.add_argument(
        "--degrade",
        type=float,
        metavar="SHARE",
        help="judge every set a second time with this share of its images degraded",
    )
    add_images(parser)
    add_on_bad(parser)


def add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images",
        type=user_path,
        metavar="ROOT",
        help="folder of the images of a list of pairs, if not its own",
    )
    parser.add_argument(
        "--absolute-paths",
        action="store_true",
        help="take images from anywhere on this machine by the absolute paths of a CSV that you trust",
    )


def add_on_bad(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-bad",
        choices=get_args(OnBad),
        default="error",
        help="unreadable images, missing or NaN scores, repeated pairs: stop, or leave them out, counted",
    )
    parser.add_argument("--seed", type=int, default=0, help="of degradations, random scores and resampling")


def add_recogniser(
    parser: argparse.ArgumentParser, *, nargs: str | None = "+", required: bool = True
) -> None:
    parser.add_argument(
        "--recogniser",
        "--recognizer",
        nargs=nargs,
        required=required,
        metavar="[NAME=]MODEL",
        help="an ONNX file (insightface's conventions), an insightface pack (folder or name), or precomputed "
        "embeddings (.npz with embeddings [N, D] and names [N])",
    )


def add_flip(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--flip",
        choices=("sum", "concat", "none"),
        default="sum",
        help="join the embeddings of a face and its mirror image by a sum (arcface_torch) or side by side "
        "(CR-FIQA), or use no mirror image",
    )


def add_quality(parser: argparse.ArgumentParser, *, nargs: str | None = "+", required: bool = True) -> None:
    parser.add_argument(
        "--quality",
        nargs=nargs,
        required=required,
        metavar="[NAME=]METHOD",
        help="an ONNX file with one quality for each face, precomputed scores (.npz, .csv, or .txt with "
        "lines 'name score'), or norm (length of the embedding), sharpness, random",
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    add_onnxruntime(parser)
    parser.add_argument(
        "--cache",
        type=user_path,
        default=default_cache(),
        metavar="FOLDER",
        help="keeps embeddings and qualities by content; an interrupted run goes on from there",
    )
    parser.add_argument("--no-cache", action="store_true", help="keep nothing")


def add_curves(
    parser: argparse.ArgumentParser, pair_qualities: Sequence[str] = ("min", "max", "mean", "product")
) -> None:
    add_fmrs(parser)
    parser.add_argument(
        "--protocol",
        nargs="+",
        choices=PAIR_PROTOCOLS,
        default=["fixed", "crfiqa"],
        help="of the curves, see docs/erc.md; each gives other numbers",
    )
    parser.add_argument(
        "--limit",
        type=float,
        metavar="SHARE",
        help="take areas up to this discarded fraction (pAUC), else up to the end of each curve",
    )
    parser.add_argument(
        "--pair-quality",
        choices=pair_qualities,
        default="min",
        help="quality of a pair from those of its faces (of IJB: of a template from its images)",
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=200,
        metavar="N",
        help="resamples for confidence bands and significance, at least 40; 0 for neither",
    )
    parser.add_argument(
        "--bands",
        choices=("few", "all", "none"),
        default="few",
        help="confidence bands of the figures: where a panel has at most three, everywhere, or nowhere (the "
        "page has a switch)",
    )


def add_fmrs(parser: argparse.ArgumentParser) -> None:
    usual = " and ".join(f"{fmr:g}" for fmr in DEFAULT_FMRS)
    parser.add_argument(
        "--fmr",
        nargs="+",
        type=float,
        default=[],
        help=f"target false match rates; if not given, {usual}, as far as the impostor pairs resolve them",
    )


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--output",
        type=user_path,
        default=Path(default),
        metavar="FOLDER",
        help="for the tables (CSV, LaTeX, JSON), the figures (PNG, PDF) and the page; results of an earlier "
        "run with the same inputs are replaced",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results of other test sets, recognisers or methods, too",
    )


def default_cache() -> Path:
    """``igfiqa`` in the user's cache folder (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "igfiqa"


def cache_folder(options: argparse.Namespace) -> Path | None:
    return None if options.no_cache else options.cache


def settings(options: argparse.Namespace) -> Settings:
    """Settings of a command that draws curves."""
    return Settings(
        fmrs=tuple(dict.fromkeys(options.fmr)),
        protocols=tuple(dict.fromkeys(options.protocol)),
        limit=options.limit,
        pair_quality=options.pair_quality,
        flip=getattr(options, "flip", "sum"),
        n_resamples=options.bootstrap,
        seed=options.seed,
        on_bad=options.on_bad,
    )


def test_sets(options: argparse.Namespace) -> dict[str, TestSet]:
    """The sets by name, each followed by its degraded copy if one was asked for."""
    sets: dict[str, TestSet] = {}
    for name, test_set in named(options.test_sets, lambda path: test_set_of(path, options)).items():
        sets[name] = test_set
        if options.degrade is not None:
            copy = degraded(test_set, share=options.degrade, seed=options.seed)
            sets[f"{name} ({100 * options.degrade:g} % degraded)"] = copy
    return sets


def test_set_of(path: str, options: argparse.Namespace) -> TestSet:
    return open_test_set(
        path, on_bad=options.on_bad, images=options.images, absolute_paths=options.absolute_paths
    )


def recognisers(options: argparse.Namespace) -> dict[str, Recogniser]:
    return named(options.recogniser, partial(recogniser, options))


def recogniser(options: argparse.Namespace, spec: str) -> Recogniser:
    flip = getattr(options, "flip", "sum") != "none"
    return open_recogniser(spec, flip=flip, providers=options.providers, threads=options.threads)


def qualities(options: argparse.Namespace) -> dict[str, Quality]:
    return named(options.quality or [], partial(quality, options))


def quality(options: argparse.Namespace, spec: str) -> Quality:
    return open_quality(spec, seed=options.seed, providers=options.providers, threads=options.threads)


def named(texts: Sequence[str], open_one: Callable[[str], T]) -> dict[str, T]:
    """What ``[NAME=]SPEC`` arguments open, by name.

    Raises:
        ValueError: a name occurs twice.
    """
    opened: dict[str, T] = {}
    for text in texts:
        name, spec = split_name(text)
        if name in opened:
            raise ValueError(f"two arguments are named {name!r}: name one of them, as in OTHER={spec}")
        opened[name] = open_one(spec)
    return opened


def split_name(text: str) -> tuple[str, str]:
    """(name, specification) of a ``[NAME=]SPEC`` argument; a file's own name stands in for a missing one."""
    name, equals, spec = text.partition("=")
    is_path_with_equals = Path(text).exists() or "/" in name or os.sep in name
    if equals and name and spec and not is_path_with_equals:
        return name, os.path.expanduser(spec)
    return Path(text).resolve().stem, os.path.expanduser(text)
