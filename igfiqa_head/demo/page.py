"""The page as a Gradio app, and the server that keeps it private."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igfiqa_head.demo.drawing import (
    CSS,
    FIRST_SCREEN,
    TITLE,
    WORDS,
    counts_html,
    faces_html,
    introduction_html,
    problems_html,
)
from igfiqa_head.demo.results import Detector, Results, add_photographs, slider_range
from igfiqa_head.runtime import QualityModel

if TYPE_CHECKING:
    import gradio

MAX_FILE_SIZE = 32 * 2**20
"""Bytes of one file."""


def launch(
    model_path: str | Path,
    *,
    pack: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
) -> None:
    """Serve the page until Ctrl-C. Uploads pass through a folder of its own, which is removed at the end.

    Args:
        model_path: a quality model, see :class:`igfiqa_head.runtime.QualityModel`.
        pack: insightface pack, folder or name, whose detector finds the faces of photographs; without one
            the page takes aligned crops only.
        host: an address of this computer that no other one can reach.
        port: None for a free one from 7860 on.
        open_browser: show the page.

    Raises:
        ValueError: Gradio is not installed, another computer could reach the host, or the model or the pack
            cannot be used.
        OSError: the port is taken.
    """
    _check_loopback(host)
    gradio = _import_gradio()
    model = QualityModel(model_path, check_channels=False)
    detector = None
    if pack is not None:
        from igfiqa_head.faces import FaceDetector

        detector = FaceDetector(pack, face_size=model.network.image_size[0])
    with _private_surroundings():
        page = build_page(model, detector)
        page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            max_file_size=MAX_FILE_SIZE,
            theme=gradio.themes.Base(font=("system-ui", "sans-serif"), font_mono=("monospace",)),
            css=CSS,
            i18n=gradio.I18n(en=WORDS),
            show_error=True,
            quiet=True,
            prevent_thread_lock=True,
            **_NOTHING_ELSE,
        )
        print(f"The page is at {page.local_url} until Ctrl-C.", flush=True)
        page.block_thread()


def build_page(model: QualityModel, detector: Detector | None = None) -> gradio.Blocks:
    """The page as a Gradio app; :func:`launch` adds its style and keeps it private.

    Args:
        model: what scores the faces.
        detector: what finds them in photographs; None for a page that takes aligned crops only.

    Raises:
        ValueError: Gradio is not installed.
    """
    gr = _import_gradio()
    untold = gr.Progress()

    def add(before: Results, paths: list[str], wanted: float, progress: Any = untold) -> list[Any]:
        after = add_photographs(before, progress.tqdm(paths, unit="files"), model, detector)
        for path in set(paths):
            Path(path).unlink(missing_ok=True)
        return _updates(gr, after, wanted if before.faces else -math.inf, model)

    def split(results: Results, threshold: float) -> str:
        return counts_html(results, threshold, model)

    def clear() -> list[Any]:
        return _updates(gr, Results(), -math.inf, model)

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 600)) as page:
        results = gr.State(Results())
        gr.HTML(introduction_html(model, finds_faces=detector is not None))
        files = gr.File(
            label="Photographs", show_label=False, file_count="multiple", height=170, elem_id="photographs"
        )
        with gr.Column(visible=False, elem_id="outcome") as outcome:
            threshold = gr.Slider(label="Threshold: lowest score kept", buttons=[], elem_id="threshold")
            counts = gr.HTML()
        faces = gr.HTML(FIRST_SCREEN)
        problems = gr.HTML()
        again = gr.Button("Start over", visible=False, size="sm", elem_id="again")
        everything = [results, files, outcome, threshold, counts, faces, problems, again]
        private = {"api_visibility": "private"}
        files.upload(add, [results, files, threshold], everything, show_progress_on=faces, **private)
        live = {"queue": False, "trigger_mode": "always_last", "show_progress": "hidden"}
        threshold.input(split, [results, threshold], counts, **live, **private)
        again.click(clear, None, everything, **private)
    return page


def _updates(gr: Any, results: Results, wanted: float, model: QualityModel) -> list[Any]:
    """Values of ``everything`` on the page, with the threshold that is nearest to the wanted one."""
    low, high, step = slider_range([face.score for face in results.faces])
    threshold = min(max(wanted, low), high)
    return [
        results,
        None,
        gr.Column(visible=bool(results.faces)),
        gr.Slider(low, high, threshold, step=step),
        counts_html(results, threshold, model),
        faces_html(results, step),
        problems_html(results),
        gr.Button(visible=results != Results()),
    ]


_NOTHING_ELSE: dict[str, Any] = {
    "footer_links": [],
    "share": False,
    "run_history": False,
    "enable_monitoring": False,
    "ssr_mode": False,
    "mcp_server": False,
    "pwa": False,
    "inline": False,
}
"""What Gradio offers beside the page, part of it by default or when an environment variable says so."""


def _check_loopback(host: str) -> None:
    try:
        local = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ValueError(
            f"host must be localhost or a loopback address such as 127.0.0.1, got {host!r}: the page has no "
            "password. From another computer: ssh -L 7860:127.0.0.1:7860 here"
        )


def _import_gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise ValueError(f'the page needs Gradio: pip install "igfiqa-head[demo]" ({error})') from error
    return gradio


@contextmanager
def _private_surroundings() -> Iterator[None]:
    """Gradio keeps its files in a folder that goes with the block, and finds itself despite a proxy."""
    with tempfile.TemporaryDirectory(prefix="igfiqa-demo-") as folder:
        wanted = {"GRADIO_TEMP_DIR": folder, "no_proxy": "*"}
        before = {name: os.environ[name] for name in wanted if name in os.environ}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name in wanted:
                del os.environ[name]
            os.environ.update(before)
