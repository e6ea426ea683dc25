"""``igfiqa install``: a quality model for an insightface pack."""

from __future__ import annotations

import argparse

from igfiqa_head.command_line import Commands, command, user_path
from igfiqa_head.text import tell

DETAILS = """\
It goes to a sub-folder: in the pack's own folder insightface would take it for the
recogniser, without a word. Then two lines give every face its quality:

  from igfiqa_head.insightface import attach
  attach(app)                         # app = insightface.app.FaceAnalysis("buffalo_l")

  igfiqa install buffalo_l quality.onnx"""


def add_parser(commands: Commands) -> None:
    parser = command(commands, "install", run, "Put a quality model into an insightface pack.", DETAILS)
    parser.add_argument("pack", metavar="PACK", help="its folder, or its name in ~/.insightface/models")
    parser.add_argument("model", type=user_path, metavar="QUALITY.onnx", help="of kind quality or both")


def run(options: argparse.Namespace) -> int:
    from igfiqa_head.insightface import install
    from igfiqa_head.runtime import QualityModel

    path = install(options.pack, options.model)
    tell(f"installed {path}")
    print("attach(app), from igfiqa_head.insightface, now finds it in this pack: face.quality is its score")
    if QualityModel(path, providers=["CPUExecutionProvider"]).calibration is None:
        print("it is not calibrated (igfiqa-eval calibrate): face.quality_percent stays None")
    return 0
