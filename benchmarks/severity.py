"""Does equal severity hurt equally? What each kind of damage does to a trained recogniser.

    python train.py recipes/quickstart.py
    python benchmarks/severity.py work_dirs/quickstart

Damages clean rendered faces of people that were never trained on, one kind at a time, and prints the mean
cosine between the embeddings of a face before and after, for every severity; in brackets the mean quality.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from igfiqa_head.quality_head import QualityHead  # noqa: E402
from plugins.datasets.faces.capture import KINDS, strength  # noqa: E402
from plugins.datasets.synthetic import SyntheticFaces  # noqa: E402
from trainer import build  # noqa: E402
from trainer.evaluation import embed  # noqa: E402
from trainer.torch_files import load_safely  # noqa: E402

SEVERITIES = (0.2, 0.4, 0.6, 0.8, 1.0)
NUM_FACES = 100


def load_run(folder: Path) -> tuple[torch.nn.Module, QualityHead]:
    config = EasyDict(json.loads((folder / "recipe.json").read_text(encoding="utf-8"))["recipe"])
    build.load_plugins(config)
    backbone = build.build_backbone(config)
    backbone.load_state_dict(load_safely(folder / "model.pt"))
    head = build.build_quality_head(config, config.num_classes)
    if head is None:
        raise SystemExit(f"{folder} was trained without a quality head")
    head.load_state_dict(load_safely(folder / "quality_head.pt"))
    return backbone, head


def clean_faces() -> np.ndarray:
    faces = SyntheticFaces(NUM_FACES * 2, 4, split="test", low_variance_share=0, seed=1)
    return faces.render(np.flatnonzero(faces.severity < 0.02)[:NUM_FACES])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run with a quality head")
    backbone, head = load_run(parser.parse_args().run)

    def measure(images: np.ndarray) -> tuple[np.ndarray, float]:
        views, quality = embed(backbone, head.regressor, images, torch.device("cpu"))
        assert quality is not None
        embeddings = views.sum(axis=1)
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), float(quality.mean())

    rng = np.random.default_rng(0)
    clean = clean_faces()
    reference, quality = measure(clean)
    print(f"{'severity':>12}" + "".join(f"{severity:>14}" for severity in SEVERITIES))
    print(f"{'none':>12}{1.0:>7.2f} ({quality:.2f})")
    for kind, damage in KINDS.items():
        row = f"{kind:>12}"
        for severity in SEVERITIES:
            damaged = np.stack([damage(face.copy(), strength(kind, severity), rng) for face in clean])
            embeddings, quality = measure(damaged)
            row += f"{(embeddings * reference).sum(1).mean():>7.2f} ({quality:.2f})"
        print(row)


if __name__ == "__main__":
    main()
