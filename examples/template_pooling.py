"""Compare two people by all of their photographs, the better ones counting more.

    python examples/template_pooling.py anna/ berta/ --quality quality.onnx

A template is one embedding for a whole set of photographs. In a plain mean a blurred face has as much to say
as a sharp one; weighted by quality it does not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from insightface.app import FaceAnalysis
from numpy.typing import NDArray

from igfiqa_head.insightface import attach


def template(
    embeddings: NDArray[np.float32], qualities: NDArray[np.float32], temperature: float = 0.2
) -> NDArray[np.float32]:
    """One embedding [D] of length 1 for embeddings [N, D] of length 1.

    The weights are exp(quality / temperature): a face that is better by one temperature counts 2.7 times as
    much. So only differences of quality matter, and a high temperature gives the plain mean.
    """
    weights = np.exp((qualities - qualities.max()) / temperature)
    pooled = weights @ embeddings
    return pooled / np.linalg.norm(pooled)


def faces_of(app: Any, folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings [N, D] and qualities [N] of the largest face of each photograph in a folder."""
    found = []
    for path in sorted(path for path in folder.glob("*") if path.is_file()):
        image = cv2.imread(str(path))
        faces = [] if image is None else app.get(image, max_num=1)
        if not faces:
            problem = "it cannot be read" if image is None else "no face was found in it"
            print(f"{path} is left out: {problem}", file=sys.stderr)
        found += faces
    if not found:
        raise SystemExit(f"no face found in the images of {folder}")
    embeddings = np.array([face.normed_embedding for face in found], np.float32)
    return embeddings, np.array([face.quality for face in found], np.float32)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Similarity of two sets of photographs.")
    parser.add_argument("first", type=Path, help="folder with photographs of one person")
    parser.add_argument("second", type=Path, help="folder with photographs of the same or another person")
    parser.add_argument("--pack", default="buffalo_l", help="insightface pack: a name or a folder")
    parser.add_argument("--quality", help="quality.onnx; by default the one that `igfiqa install` put there")
    parser.add_argument("--temperature", type=float, default=0.2, help="in units of the quality (0.2)")
    options = parser.parse_args(argv)
    if not options.temperature > 0:
        parser.error(f"--temperature must be positive, got {options.temperature}")

    app = FaceAnalysis(options.pack, allowed_modules=["detection", "recognition"])
    app.prepare(ctx_id=0)
    attach(app, options.quality)

    people = [faces_of(app, folder) for folder in (options.first, options.second)]
    for name, temperature in (("weighted by quality", options.temperature), ("plain mean", np.inf)):
        first, second = (template(*person, temperature) for person in people)
        print(f"{name}: similarity {first @ second:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
