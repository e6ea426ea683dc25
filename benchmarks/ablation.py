"""What each idea of IG-FIQA is worth, on rendered faces with planted near-duplicate classes.

    python benchmarks/ablation.py                      # 5 variants x 3 seeds, about an hour on two cores
    python benchmarks/ablation.py --seeds 1 num_epoch=4

Trains the quick-start recipe in five variants and prints, for identities that were never trained on, the
Spearman correlation of the quality with minus the known severity, and the area under the error-versus-reject
curve as a share of a random score's. All variants put the same number of images through the backbone.
Runs that are complete in the output folder, with the same overrides, are not repeated.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

VARIANTS = {
    "CR-FIQA": ["quality_head=cr_fiqa"],
    "plain split": ["ig_fiqa.variance_weights=False", "ig_fiqa.degradation_p=0"],
    "weights only (S-)": ["ig_fiqa.degradation_p=0"],
    "degradations only": ["ig_fiqa.variance_weights=False"],
    "IG-FIQA in full": [],
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings per variant (default 3)")
    parser.add_argument("--output", type=Path, default=Path("work_dirs/ablation"), help="folder of the runs")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys for every run")
    return parser.parse_args()


def train(name: str, seed: int, output: Path, overrides: list[str]) -> dict[str, Any]:
    """The metrics of one training, from its metrics.json if it was finished before."""
    folder = output / re.sub(r"[^\w.,=+-]+", "_", " ".join([name, str(seed), *overrides]))
    metrics = folder / "metrics.json"
    if not metrics.is_file():
        from trainer.recipe import load_recipe
        from trainer.run import run

        settings = [f"seed={seed}", f"output={folder}", "resume=auto", *VARIANTS[name], *overrides]
        run(load_recipe(ROOT / "recipes/quickstart.py", settings))
    return json.loads(metrics.read_text(encoding="utf-8"))


def main() -> None:
    options = parse_arguments()
    rows = {name: [] for name in options.variants}
    for seed in range(options.seeds):
        for name in options.variants:
            metrics = train(name, seed, options.output, options.overrides)
            erc = metrics["erc"]["synthetic"]
            rows[name].append(
                (
                    metrics["spearman_severity"],
                    erc["auc"] / erc["auc_random"],
                    metrics["verification"]["synthetic"]["accuracy"],
                )
            )
    print(f"\n{'variant':20} {'spearman_severity':>20} {'ERC area / random':>20} {'verification':>20}")
    for name, values in rows.items():
        mean, std = np.mean(values, axis=0), np.std(values, axis=0)
        print(f"{name:20}" + "".join(f"{m:>13.3f} +- {s:.3f}" for m, s in zip(mean, std, strict=True)))


if __name__ == "__main__":
    main()
