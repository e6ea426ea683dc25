"""``igfiqa demo``: a page to try a quality model on."""

from __future__ import annotations

import argparse

from igfiqa_head.cli.arguments import add_pack
from igfiqa_head.command_line import Commands, command, user_path

DETAILS = """\
Opens a page in the browser: drop photographs, see their faces by quality, move a
threshold. It serves this computer alone, the images do not leave it, and none is left
when the page ends (docs/privacy.md).

  igfiqa demo quality.onnx --pack buffalo_l"""


def add_parser(commands: Commands) -> None:
    parser = command(commands, "demo", run, "Try a quality model in the browser.", DETAILS)
    parser.add_argument("model", type=user_path, metavar="QUALITY.onnx", help="of kind quality or both")
    add_pack(parser)
    parser.add_argument("--port", type=int, help="a free one from 7860 on if not given")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


def run(options: argparse.Namespace) -> int:
    from igfiqa_head.demo import launch  # needs the extra "demo"

    launch(options.model, pack=options.pack, port=options.port, open_browser=not options.no_browser)
    return 0
