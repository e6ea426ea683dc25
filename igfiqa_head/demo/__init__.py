"""A page to try a quality model on: drop photographs, see their faces by quality, move a threshold.

Needs the extra ``demo`` (Gradio). It serves this computer alone and asks the network for nothing.
"""

from igfiqa_head.demo.page import build_page, launch
from igfiqa_head.demo.results import Detector, Results, ScoredFace, add_photographs, slider_range

__all__ = ["Detector", "Results", "ScoredFace", "add_photographs", "build_page", "launch", "slider_range"]
