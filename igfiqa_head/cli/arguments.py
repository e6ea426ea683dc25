"""Arguments that several commands take."""

from __future__ import annotations

import argparse


def add_pack(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--pack",
        metavar="PACK",
        help="insightface pack whose detector finds the faces of photographs: its folder, or its name in "
        "~/.insightface/models, such as buffalo_l",
    )
