"""Keep the one frame of a video in which a face is best for recognition.

    python examples/best_frame.py entrance.mp4 --quality quality.onnx --output best.png

It takes the video to show one person; `igfiqa score` follows several and keeps the best frames of each.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from insightface.app import FaceAnalysis
from numpy.typing import NDArray

from igfiqa_head.insightface import attach

Frame = NDArray[np.uint8]


def frames(path: str, every: int) -> Iterator[tuple[int, Frame]]:
    """(number, BGR image) of every n-th frame. Frames in between are skipped undecoded, which is fast."""
    video = cv2.VideoCapture(path)
    number = 0
    while video.grab():
        if number % every == 0:
            decoded, frame = video.retrieve()
            if decoded:
                yield number, frame
        number += 1
    video.release()


def best_frame(app: Any, path: str, every: int) -> tuple[int, Frame, Any] | None:
    """Number, image and face of the highest quality; None if no frame shows a face."""
    best = None
    for number, frame in frames(path, every):
        for face in app.get(frame):
            if best is None or face.quality > best[2].quality:
                best = (number, frame, face)
    return best


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Save the frame of a video with the best face.")
    parser.add_argument("video")
    parser.add_argument("--output", default="best.png", help="where to write the frame")
    parser.add_argument("--pack", default="buffalo_l", help="insightface pack: a name or a folder")
    parser.add_argument("--quality", help="quality.onnx; by default the one that `igfiqa install` put there")
    # A face hardly changes within a fifth of a second, and the detector is what takes the time.
    parser.add_argument("--every", type=int, default=5, help="look at every n-th frame only (5)")
    options = parser.parse_args(argv)
    if options.every < 1:
        parser.error(f"--every must be at least 1, got {options.every}")

    app = FaceAnalysis(options.pack, allowed_modules=["detection"])
    app.prepare(ctx_id=0)
    attach(app, options.quality)

    best = best_frame(app, options.video, options.every)
    if best is None:
        parser.error(f"no face found in {options.video}, or it is no video that OpenCV can read")
    number, frame, face = best
    if not cv2.imwrite(options.output, frame):
        parser.error(f"{options.output} cannot be written")
    print(f"frame {number}, quality {face.quality:.3f}: {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
