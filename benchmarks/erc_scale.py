"""Error-versus-reject curves at the size of IJB-C, in time and memory.

    OMP_NUM_THREADS=1 python benchmarks/erc_scale.py                 # 15,658,489 pairs, a quarter minute
    python benchmarks/erc_scale.py --pairs 1000000 --genuine 2000    # fewer

Draws seeded scores of as many pairs as IJB-C has (1:1, 19,557 of them genuine), and a quality for each of its
23,124 templates; the quality of a pair is that of its worse template, so qualities tie. Then it measures the
protocols `fixed` and `crfiqa` at FMR 1e-3 and 1e-4, four curves in all, and prints

  - the time as a ratio to one `np.argsort` of the scores in the same process (best of three each, so that it
    says the same on a slow machine); the goal is at most 5;
  - the peak memory of the whole process, scores included; the goal is below 3 GiB;
  - beside it the time of the same four curves in plain Python, pair by pair, on a slice of the pairs. All of
    them would take too long, so that time is extrapolated in proportion, which flatters plain Python: it
    sorts. The two must agree on the slice.

The exit status is 1 if a goal is missed. With far less than a million pairs, what a curve costs at any size
counts more than the pairs do, and the ratio rises.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from eval_tools.erc import error_rejection_curves  # noqa: E402
from eval_tools.scores import UnresolvedFMRWarning  # noqa: E402

FMRS = (1e-3, 1e-4)
MAX_RATIO, MAX_GIB = 5.0, 3.0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=15_658_489, help="pairs (default: IJB-C's %(default)s)")
    parser.add_argument("--genuine", type=int, default=19_557, help="genuine pairs among them (%(default)s)")
    parser.add_argument("--templates", type=int, default=23_124, help="templates (%(default)s)")
    parser.add_argument("--slice", type=int, default=200_000, help="pairs for plain Python (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scores (%(default)s)")
    options = parser.parse_args()
    if not 0 < options.genuine < options.pairs:
        parser.error(f"--genuine must lie between 0 and --pairs, got {options.genuine} of {options.pairs}")
    return options


def draw_pairs(
    n_pairs: int, n_genuine: int, n_templates: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarity, whether genuine, and quality of each pair; genuine pairs of bad templates score low."""
    rng = np.random.default_rng(seed)
    is_genuine = np.zeros(n_pairs, dtype=bool)
    is_genuine[rng.choice(n_pairs, n_genuine, replace=False)] = True
    of_template = rng.random(n_templates)
    quality = of_template[rng.integers(0, n_templates, n_pairs, dtype=np.int32)]
    np.minimum(quality, of_template[rng.integers(0, n_templates, n_pairs, dtype=np.int32)], out=quality)
    similarity = rng.normal(0.0, 0.1, n_pairs)
    similarity[is_genuine] += 0.2 + 0.8 * quality[is_genuine]
    return similarity, is_genuine, quality


def seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    """The shortest of a few runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def plain_fixed(
    similarity: list[float], is_genuine: list[bool], quality: list[float], fmr: float
) -> list[float]:
    """FNMR after discarding all genuine pairs below each distinct quality, one pair at a time."""
    impostor = sorted((s for s, same in zip(similarity, is_genuine, strict=True) if not same), reverse=True)
    threshold = math.nextafter(impostor[int(fmr * len(impostor))], math.inf)
    genuine = sorted((q, s) for s, same, q in zip(similarity, is_genuine, quality, strict=True) if same)
    errors = sum(s < threshold for _, s in genuine)
    rates, left, last = [], len(genuine), None
    for q, s in genuine:
        if q != last:
            rates.append(errors / left)
        errors, left, last = errors - (s < threshold), left - 1, q
    return rates


def plain_crfiqa(
    similarity: list[float], is_genuine: list[bool], quality: list[float], fmr: float
) -> list[float]:
    """FNMR after each twentieth of the pairs, at the score whose FMR is then nearest to the target."""
    order = sorted(range(len(quality)), key=quality.__getitem__)
    rates = []
    for u in np.arange(0, 0.98, 0.05):
        kept = sorted((similarity[i], is_genuine[i]) for i in order[int(u * len(order)) :])
        n_genuine = sum(same for _, same in kept)
        n_impostor = len(kept) - n_genuine
        rejected, impostors_at_or_above = 0, n_impostor
        best_gap, best_rejected, last = math.inf, 0, None
        for score, same in kept:
            gap = abs(impostors_at_or_above / n_impostor - fmr)
            if score != last and gap < best_gap:
                best_gap, best_rejected = gap, rejected + same
            rejected, impostors_at_or_above, last = rejected + same, impostors_at_or_above - (not same), score
        rates.append(best_rejected / n_genuine)
    return rates


def compare_with_plain_python(similarity: np.ndarray, is_genuine: np.ndarray, quality: np.ndarray) -> float:
    """Seconds of plain Python for all four curves of these pairs, once they agree with ours."""
    columns = similarity.tolist(), is_genuine.tolist(), quality.tolist()
    start = time.perf_counter()
    plain = {}
    for fmr in FMRS:
        plain["fixed", fmr] = plain_fixed(*columns, fmr)
        plain["crfiqa", fmr] = plain_crfiqa(*columns, fmr)
    elapsed = time.perf_counter() - start
    for key, curve in error_rejection_curves(similarity, is_genuine, quality, fmrs=FMRS).items():
        np.testing.assert_allclose(curve.error, plain[key], rtol=1e-12, err_msg=str(key))
    return elapsed


def main() -> int:
    options = parse_arguments()
    warnings.simplefilter("ignore", UnresolvedFMRWarning)  # the slice is too small for FMR 1e-4
    pairs = draw_pairs(options.pairs, options.genuine, options.templates, options.seed)
    sort = seconds(lambda: np.argsort(pairs[0]))
    ours = seconds(lambda: error_rejection_curves(*pairs, fmrs=FMRS))
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    ratio = ours / sort
    print(f"{options.pairs:,} pairs, {options.genuine:,} genuine; fixed and crfiqa at FMR 1e-3 and 1e-4")
    print(f"{'one np.argsort of the scores':44} {sort:10.3f} s")
    print(f"{'four curves':44} {ours:10.3f} s   {ratio:.2f} x the sort (goal: at most {MAX_RATIO:g})")
    print(f"{'peak memory of the process':44} {gib:10.3f} GiB (goal: below {MAX_GIB:g})")
    # Impostors first would be a slice without genuine pairs; every n-th pair keeps the proportions.
    every = slice(None, None, max(1, options.pairs // options.slice))
    part = [column[every] for column in pairs]
    plain = compare_with_plain_python(*part)
    whole = plain * options.pairs / part[0].size
    print(f"{f'plain Python on {part[0].size:,} of the pairs':44} {plain:10.3f} s   the same curves")
    print(f"{'plain Python on all, extrapolated':44} {whole:10.3f} s   {whole / ours:.0f} x ours")
    return int(ratio > MAX_RATIO or gib >= MAX_GIB)


if __name__ == "__main__":
    sys.exit(main())
