"""The page as a Gradio app."""

from __future__ import annotations

import math
import webbrowser
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
from igfiqa_head.demo.private_folder import private_folder
from igfiqa_head.demo.results import Detector, Results, add_photographs, slider_range
from igfiqa_head.demo.server import (
    import_gradio,
    is_loopback,
    listen,
    own_requests_only,
    private_gradio,
    serve,
)
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
    """Serve the page until Ctrl-C, SIGTERM or SIGHUP.

    Uploads pass through a folder of its own, which is removed at the end.

    Args:
        model_path: a quality model, see :class:`igfiqa_head.runtime.QualityModel`.
        pack: insightface pack, folder or name, whose detector finds the faces of photographs; without one
            the page takes aligned crops only.
        host: an address of this computer that no other one can reach.
        port: None for a free one from 7860 on.
        open_browser: show the page.

    Raises:
        ValueError: Gradio is not installed, another computer could reach the host, there is no such port, or
            the model or the pack cannot be used.
        OSError: the port is taken.
    """
    if not is_loopback(host):
        raise ValueError(
            f"host must be localhost or a loopback address such as 127.0.0.1, got {host!r}: the page has no "
            "password. From another computer: ssh -L 7860:127.0.0.1:7860 here"
        )
    model = QualityModel(model_path, check_channels=False)
    detector = None
    if pack is not None:
        from igfiqa_head.faces import FaceDetector

        detector = FaceDetector(pack, face_size=model.network.image_size[0])
    with private_folder() as folder, listen(host, port) as listener, private_gradio(folder):
        app = _as_server_app(build_page(model, detector))
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}/"
        print(f"The page is at {url} until Ctrl-C.", flush=True)
        if open_browser:
            webbrowser.open(url)
        serve(own_requests_only(app), listener, folder)


def _as_server_app(page: gradio.Blocks) -> Any:
    """The page as what a server runs, without what Gradio offers beside it."""
    import fastapi

    gr = import_gradio()
    return gr.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        page,
        "/",
        max_file_size=MAX_FILE_SIZE,
        theme=gr.themes.Base(font=("system-ui", "sans-serif"), font_mono=("monospace",)),
        css=CSS,
        i18n=gr.I18n(en=WORDS),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
    )


def build_page(model: QualityModel, detector: Detector | None = None) -> gradio.Blocks:
    """The page as a Gradio app; :func:`launch` adds its style and keeps it private.

    Args:
        model: what scores the faces.
        detector: what finds them in photographs; None for a page that takes aligned crops only.

    Raises:
        ValueError: Gradio is not installed.
    """
    gr = import_gradio()
    untold = gr.Progress()

    def add(before: Results, paths: list[str], wanted: float, progress: Any = untold) -> list[Any]:
        try:
            after = add_photographs(before, progress.tqdm(paths, unit="files"), model, detector)
        finally:
            for path in set(paths):
                Path(path).unlink(missing_ok=True)
        return _updates(gr, after, wanted if before.faces else -math.inf, model)

    def split(results: Results, threshold: float) -> str:
        return counts_html(results, threshold, model)

    def clear() -> list[Any]:
        return _updates(gr, Results(), -math.inf, model)

    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
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
