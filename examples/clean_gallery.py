"""Find the photographs that do a gallery harm: of another person, without a single face, or of low quality.

    python examples/clean_gallery.py gallery/ --quality quality.onnx --lowest 0.2

The gallery has one sub-folder of photographs for each person. Nothing is deleted: one line per photograph to
look at is printed, and the exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from insightface.app import FaceAnalysis

from igfiqa_head.insightface import attach


def only_face(app: Any, path: Path) -> Any:
    """The face of a photograph; ValueError with what is wrong unless there is exactly one."""
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError("cannot be read as an image")
    faces = app.get(image)
    if len(faces) != 1:
        raise ValueError(f"shows {len(faces) or 'no'} faces")
    return faces[0]


def doubts(app: Any, folder: Path, lowest: float, alike: float) -> Iterator[tuple[Path, str]]:
    """(photograph, reason) of one person's photographs that should be looked at."""
    good: dict[Path, Any] = {}
    for path in sorted(folder.iterdir()):
        try:
            face = only_face(app, path)
        except ValueError as problem:
            yield path, str(problem)
            continue
        if face.quality < lowest:
            yield path, f"quality {face.quality:.2f}"
        else:  # only good images can testify that another one shows somebody else
            good[path] = face

    embeddings = np.array([face.normed_embedding for face in good.values()])
    for index, path in enumerate(good):
        others = np.delete(embeddings, index, axis=0) @ embeddings[index]
        # The median stays with the majority, however many strangers there are below one half.
        if len(others) and np.median(others) < alike:
            yield path, f"another person? similarity {np.median(others):.2f} to the rest"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="List the photographs of a gallery that should be looked at."
    )
    parser.add_argument("gallery", type=Path, help="folder with a sub-folder of photographs for each person")
    parser.add_argument("--pack", default="buffalo_l", help="insightface pack: a name or a folder")
    parser.add_argument("--quality", help="quality.onnx; by default the one that `igfiqa install` put there")
    parser.add_argument("--lowest", type=float, required=True, help="lowest quality to accept")
    parser.add_argument("--alike", type=float, default=0.25, help="lowest similarity within a person (0.25)")
    options = parser.parse_args(argv)
    if not options.gallery.is_dir():
        parser.error(f"{options.gallery} is no folder")

    # A model of kind "both" brings its own embeddings; then leave out "recognition".
    app = FaceAnalysis(options.pack, allowed_modules=["detection", "recognition"])
    app.prepare(ctx_id=0)
    attach(app, options.quality)

    count = 0
    for person in sorted(path for path in options.gallery.iterdir() if path.is_dir()):
        for path, reason in doubts(app, person, options.lowest, options.alike):
            print(f"{path}: {reason}")
            count += 1
    print(f"{count} photographs to look at")
    return 1 if count else 0


if __name__ == "__main__":
    raise SystemExit(main())
