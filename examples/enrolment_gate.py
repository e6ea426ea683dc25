"""Let a photograph into a gallery only if recognition will be able to use it.

    python examples/enrolment_gate.py photo.jpg --quality quality.onnx --lowest 0.3

The exit status is 0 if the photograph is accepted; otherwise it is 1 and the reason is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import cv2
from insightface.app import FaceAnalysis

from igfiqa_head.insightface import attach


def refusal(faces: Sequence[Any], lowest: float) -> str | None:
    """What to tell the person in front of the camera, or None if the photograph will do."""
    if not faces:
        return "no face found: look at the camera"
    if len(faces) > 1:
        return f"{len(faces)} faces found: only you may be in the picture"
    if faces[0].quality < lowest:
        return (
            f"the quality is {faces[0].quality:.2f}, below {lowest:.2f}: more light, hold still, look ahead"
        )
    return None


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Accept or refuse a photograph for enrolment.")
    parser.add_argument("photo")
    parser.add_argument("--pack", default="buffalo_l", help="insightface pack: a name or a folder")
    parser.add_argument("--quality", help="quality.onnx; by default the one that `igfiqa install` put there")
    # Scores differ between models: `igfiqa-eval threshold` finds the one for a wanted error rate.
    parser.add_argument("--lowest", type=float, required=True, help="lowest quality to accept")
    options = parser.parse_args(argv)

    image = cv2.imread(options.photo)
    if image is None:
        parser.error(f"{options.photo} cannot be read as an image")
    # The gate needs boxes and landmarks only; leaving out the recogniser makes it faster.
    app = FaceAnalysis(options.pack, allowed_modules=["detection"])
    app.prepare(ctx_id=0)
    attach(app, options.quality)

    reason = refusal(app.get(image), options.lowest)
    print(f"refused: {reason}" if reason else "accepted")
    return 1 if reason else 0


if __name__ == "__main__":
    raise SystemExit(main())
