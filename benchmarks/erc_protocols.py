"""One set of scores and qualities under every protocol of the error-versus-reject curve.

    python benchmarks/erc_protocols.py [--figure docs/images/erc_protocols.png]

Draws embeddings of people that were photographed well and badly (seeded; no data, no model), compares all of
them, and prints the tables of docs/erc.md. A few seconds on one core.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from eval_tools.curve import ErrorRejectionCurve  # noqa: E402
from eval_tools.erc import (  # noqa: E402
    PAIR_PROTOCOLS,
    UnresolvedFMRWarning,
    error_rejection_curve,
    image_rejection_curve,
    pair_quality,
)
from eval_tools.plots.style import colour_of, tidy  # noqa: E402
from eval_tools.significance import bootstrap  # noqa: E402
from igfiqa_head.figure_files import save  # noqa: E402

SEED = 0
PEOPLE, IMAGES_EACH, DIMENSIONS = 200, 6, 64
FMR, LIMIT = 1e-3, 0.3
DRAWS, RESAMPLES = 100, 1000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Faces:
    """Images whose two kinds of damage are known, and all pairs of them.

    Noise moves an embedding anywhere, so the person is missed. Drift moves it towards the place where all
    bad images meet, so strangers look alike as well.
    """

    embeddings: Array
    identities: NDArray[np.int64]
    quality: dict[str, Array]
    pairs: NDArray[np.int64]
    similarity: Array
    is_genuine: NDArray[np.bool_]

    def pair_quality(self, method: str) -> Array:
        return pair_quality(*self.quality[method][self.pairs].T)


def draw_faces(rng: np.random.Generator) -> Faces:
    identities = np.repeat(np.arange(PEOPLE), IMAGES_EACH)
    count = identities.size
    people = rng.normal(size=(PEOPLE, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    meeting_place = rng.normal(size=DIMENSIONS) / np.sqrt(DIMENSIONS)
    noise, drift = rng.beta(1.2, 4, count), rng.beta(1.2, 4, count)
    embeddings = people[identities] + 1.2 * drift[:, None] * meeting_place
    embeddings += (0.3 + 2.2 * noise[:, None]) * rng.normal(size=(count, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    pairs = np.stack(np.triu_indices(count, k=1), axis=1)
    return Faces(
        embeddings,
        identities,
        {
            "sees noise": -noise + 0.05 * rng.normal(size=count),
            "sees drift": -drift + 0.05 * rng.normal(size=count),
        },
        pairs,
        (unit @ unit.T)[pairs[:, 0], pairs[:, 1]],
        identities[pairs[:, 0]] == identities[pairs[:, 1]],
    )


def all_curves(faces: Faces, method: str) -> dict[str, ErrorRejectionCurve]:
    quality = faces.pair_quality(method)
    curves = {
        protocol: error_rejection_curve(
            faces.similarity, faces.is_genuine, quality, fmr=FMR, protocol=protocol
        )
        for protocol in PAIR_PROTOCOLS
    }
    curves["image"] = image_rejection_curve(
        faces.embeddings, faces.identities, faces.quality[method], fmr=FMR
    )
    return curves


def print_protocols(curves: dict[str, dict[str, ErrorRejectionCurve]]) -> None:
    print(f"\n| protocol | FNMR at 0 | at 20 % | at 40 % | AUC | pAUC to {LIMIT:g} | best | random |")
    print("|---|---|---|---|---|---|---|---|")
    for protocol, curve in curves["sees noise"].items():
        rates = " | ".join(f"{rate:.4f}" for rate in curve.at([0.0, 0.2, 0.4]))
        partial = [curve.pauc(LIMIT), curve.pauc_best(LIMIT), curve.pauc_random(LIMIT)]
        areas = " | ".join(f"{area:.4f}" for area in [curve.auc, *partial])
        print(f"| `{protocol}` | {rates} | {areas} |")
    print(
        f"\n| pAUC to {LIMIT:g}, share of random | "
        + " | ".join(f"`{p}`" for p in curves["sees noise"])
        + " |"
    )
    print("|---|---|---|---|---|")
    for method, by_protocol in curves.items():
        shares = [curve.pauc(LIMIT) / curve.pauc_random(LIMIT) for curve in by_protocol.values()]
        print(f"| {method} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")


def balanced(faces: Faces, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of all genuine pairs and of as many random impostor pairs, shuffled."""
    genuine, strangers = np.flatnonzero(faces.is_genuine), np.flatnonzero(~faces.is_genuine)
    return rng.permutation(np.append(genuine, rng.choice(strangers, genuine.size, replace=False)))


def print_resolution(faces: Faces, rng: np.random.Generator) -> None:
    """What a few impostor pairs say about a target FMR, over many draws of them."""
    impostor, quality = faces.similarity[~faces.is_genuine], faces.pair_quality("sees noise")
    draws = {
        "as many as genuine ones": [balanced(faces, rng) for _ in range(DRAWS)],
        "all": [np.arange(quality.size)],
    }
    print("\n| impostor pairs | target FMR | effective FMR | the same threshold on all pairs | FNMR at 0 |")
    print("|---|---|---|---|---|")
    for name, subsets in draws.items():
        for fmr in (1e-3, 1e-4):
            rows = []
            for chosen in subsets:
                curve = error_rejection_curve(
                    faces.similarity[chosen], faces.is_genuine[chosen], quality[chosen], fmr=fmr
                )
                rows.append((curve.effective_fmr, np.mean(impostor >= curve.threshold), curve.fnmr[0]))
            cells = [_range(column) for column in np.transpose(rows)]
            print(f"| {curve.n_impostor[0]:,} ({name}) | {fmr:g} | " + " | ".join(cells) + " |")


def _range(values: Array) -> str:
    low, high = f"{values.min():.2g}", f"{values.max():.2g}"
    return low if low == high else f"{low} to {high}"


def print_moving_fmr(faces: Faces, chosen: NDArray[np.int64]) -> None:
    """The FMR that `crfiqa` really has along a curve with few impostor pairs."""
    quality = faces.pair_quality("sees noise")
    steps = [0, 10, 18]  # of the grid: discard 0, 0.5 and 0.9
    print("\n| `crfiqa` at discard | 0 | 0.5 | 0.9 |\n|---|---|---|---|")
    for fmr in (1e-3, 1e-4):
        curve = error_rejection_curve(
            faces.similarity[chosen], faces.is_genuine[chosen], quality[chosen], fmr=fmr, protocol="crfiqa"
        )
        effective = np.asarray(curve.effective_fmr)[steps]
        if fmr == 1e-3:
            print("| impostor pairs left | " + " | ".join(f"{n:,}" for n in curve.n_impostor[steps]) + " |")
        print(f"| effective FMR, target {fmr:g} | " + " | ".join(f"{rate:.2g}" for rate in effective) + " |")


def print_ties(faces: Faces, chosen: NDArray[np.int64]) -> None:
    """Areas of a quality that is the same for all pairs, for several orders of the pairs."""
    similarity = faces.similarity[chosen]
    orders = {
        "in random order": np.arange(chosen.size),
        "by similarity, lowest first": np.argsort(similarity, kind="stable"),
        "by similarity, highest first": np.argsort(-similarity, kind="stable"),
    }
    print("\n| constant quality, pairs listed | `fixed` | `crfiqa` |\n|---|---|---|")
    for name, order in orders.items():
        shares = []
        for protocol in ("fixed", "crfiqa"):
            curve = error_rejection_curve(
                similarity[order],
                faces.is_genuine[chosen][order],
                np.zeros(chosen.size),
                fmr=FMR,
                protocol=protocol,
            )
            shares.append(curve.pauc(LIMIT) / curve.pauc_random(LIMIT))
        print(f"| {name} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")


def print_bootstrap(faces: Faces, chosen: NDArray[np.int64]) -> None:
    """How sure the area is, with people resampled and with pairs resampled."""
    units = {"identities": faces.identities[faces.pairs[chosen]], "pairs": None}
    print(
        f"\n| resampled ({RESAMPLES} times) | pAUC to {LIMIT:g}, sees noise | 95 % interval |\n|---|---|---|"
    )
    for unit, pair_identities in units.items():
        resampled = bootstrap(
            faces.similarity[chosen],
            faces.is_genuine[chosen],
            {"sees noise": faces.pair_quality("sees noise")[chosen]},
            pair_identities=pair_identities,
            fmr=1e-2,
            limit=LIMIT,
            n_resamples=RESAMPLES,
            rng=np.random.default_rng(SEED),
        )
        band, area = resampled.band("sees noise"), resampled.curves["sees noise"].pauc(LIMIT)
        print(f"| {unit} | {area:.4f} | {band.area_low:.4f} to {band.area_high:.4f} |")


# `fixed` and `fixed-all` nearly coincide, so one is a broad line below the other.
STYLES = {
    "fixed": (5, 3.4, "-"),
    "fixed-all": (0, 1.2, "-"),
    "crfiqa": (1, 1.4, "-."),
    "image": (2, 1.4, (0, (5, 1, 1, 1, 1, 1))),
}


def draw_figure(curves: dict[str, dict[str, ErrorRejectionCurve]], path: Path) -> None:
    figure = Figure(figsize=(10.2, 3.4), layout="constrained")
    *panels, thresholds = figure.subplots(1, len(curves) + 1)
    for axes, (method, by_protocol) in zip(panels, curves.items(), strict=True):
        draw_lines(axes, by_protocol, lambda curve: curve.error)
        first = by_protocol["fixed"]
        axes.plot(*first.best_curve(), color="0.5", linestyle="--", linewidth=1.1, label="best (fixed)")
        axes.axhline(first.error[0], color="0.5", linestyle=":", linewidth=1.1, label="random level")
        axes.set_title(f"a quality that {method}", fontsize=10)
        axes.set(ylabel=f"FNMR at FMR {FMR:g}", ylim=(0, 1.3 * first.error[0]))
    draw_lines(thresholds, by_protocol, lambda curve: np.broadcast_to(curve.threshold, curve.discard.shape))
    thresholds.set_title(f"why: the thresholds behind {method!r}", fontsize=10)
    thresholds.set_ylabel("threshold on the similarity")
    for axes in (*panels, thresholds):
        axes.set(xlabel="discarded fraction", xlim=(0, 0.8))
        tidy(axes)
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(
        lines, names, loc="outside lower center", ncols=6, frameon=False, fontsize=9, handlelength=3.2
    )
    save(figure, path)


def draw_lines(
    axes: Axes,
    by_protocol: dict[str, ErrorRejectionCurve],
    height: Callable[[ErrorRejectionCurve], Array],
) -> None:
    for protocol, (colour, width, dashes) in STYLES.items():
        curve = by_protocol[protocol]
        (drawn,) = axes.plot(curve.discard, height(curve), color=colour_of(colour), linewidth=width)
        drawn.set(label=protocol, linestyle=dashes, drawstyle="steps-post" if curve.is_step else "default")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figure", type=Path, default=ROOT / "docs/images/erc_protocols.png")
    path = parser.parse_args().figure
    # Both are shown on purpose: FMRs that cannot be resolved, and orders in which one kind of pairs runs out.
    warnings.simplefilter("ignore", UnresolvedFMRWarning)
    warnings.filterwarnings("ignore", ".*pair survives and the error rate is NaN", RuntimeWarning)
    rng = np.random.default_rng(SEED)
    faces = draw_faces(rng)
    n_genuine = int(faces.is_genuine.sum())
    print(
        f"{faces.identities.size:,} images of {PEOPLE} people: {n_genuine:,} genuine and "
        f"{faces.is_genuine.size - n_genuine:,} impostor pairs; FMR {FMR:g}"
    )
    curves = {method: all_curves(faces, method) for method in faces.quality}
    print_protocols(curves)
    print_resolution(faces, rng)
    few = balanced(faces, rng)
    print_moving_fmr(faces, few)
    print_ties(faces, few)
    print_bootstrap(faces, few)
    draw_figure(curves, path)


if __name__ == "__main__":
    main()
