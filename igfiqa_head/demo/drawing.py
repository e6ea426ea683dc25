"""What the page looks like: its style, and HTML of its parts. File names are strangers' and are escaped."""

from __future__ import annotations

import html
import math

from igfiqa_head.demo.results import Results, ScoredFace, percent_of
from igfiqa_head.runtime import QualityModel
from igfiqa_head.text import printable

TITLE = "How good are these face images?"

# The system's fonts and Gradio's variables, so that the page needs no file and follows dark mode.
CSS = """
.gradio-container { --kept: #0072b2; --away: #a84300; --soft: #566069;
  --slider-color: var(--kept); overflow: clip !important; }
.dark .gradio-container, .gradio-container.dark { --kept: #56b4e9; --away: #f0884a; --soft: #a7b0b9; }
.gradio-container > .main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
.gradio-container h1 { font-size: 1.75rem !important; line-height: 1.2; margin: 0 0 .5rem !important; }
.gradio-container h2 { font-size: 1.05rem !important; margin: 0 !important; }
.gradio-container p { max-width: 46rem; margin: 0 0 .4rem !important; }
.gradio-container .note { color: var(--soft); font-size: .875rem; }
.gradio-container .html-container { padding: 0; }
#photographs { background: var(--background-fill-secondary); border: 2px dashed var(--kept) !important; }
#photographs button { color: var(--body-text-color); }
#photographs .or { color: var(--soft); }
#photographs :focus-visible { outline: 3px solid var(--kept); outline-offset: -5px; }
#steps { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: 1rem;
  list-style: none; margin: 0; padding: 0; counter-reset: step; }
#steps li { counter-increment: step; margin: 0; padding: 1rem; border: 1px solid var(--border-color-primary);
  border-radius: .5rem; color: var(--soft); }
#steps b { display: block; color: var(--body-text-color); }
#steps b::before { content: counter(step); color: var(--kept); margin-right: .5rem; }
#threshold span { color: var(--body-text-color); }
#threshold :has(> [type=number]) { display: none; /* a number out of range is an error on the server */ }
#outcome { position: sticky; top: 0; z-index: 5; gap: .5rem; padding: .6rem 0 .8rem;
  background: var(--body-background-fill); border-bottom: 1px solid var(--border-color-primary); }
#counts { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 1.4rem; }
#counts b { color: inherit; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
#counts .kept, #faces h2.kept { color: var(--kept); }
#counts .away, #faces h2.away { color: var(--away); }
#share { height: .5rem; margin-top: .2rem; border-radius: .25rem; overflow: hidden; background: var(--away); }
#share div { height: 100%; background: var(--kept); }
#faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.3rem, 1fr)); gap: 1rem .8rem; }
#faces h2 { grid-column: 1 / -1; }
#faces h2.away { order: 1; padding-top: 1rem; border-top: 2px solid var(--away); }
#faces figure { margin: 0; min-width: 0; }
#faces img { display: block; width: 100%; aspect-ratio: 1; margin: 0; border-radius: .4rem; }
#faces figcaption { margin-top: .3rem; line-height: 1.35; font-size: .8rem; }
#faces figcaption * { color: var(--soft); font-weight: 400; }
#faces b { color: var(--body-text-color); font-size: 1.05rem; font-weight: 650; }
#faces span { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
#problems { padding: .8rem 1rem; border: 1px solid var(--border-color-primary); border-radius: .5rem; }
#problems ul { margin: .5rem 0 0; padding-left: 1.2rem; overflow-wrap: anywhere; font-size: .875rem; }
#again { flex-grow: 0; align-self: flex-start; width: auto; }
@media (max-width: 40rem) {
  .gradio-container > .main { padding: 1rem .25rem 2rem; }
  .gradio-container h1 { font-size: 1.45rem !important; }
  #faces { grid-template-columns: repeat(3, 1fr); }
}
"""

WORDS = {
    "upload_text.drop_file": "Drop face images here",
    "upload_text.click_to_upload": "Click to choose them",
}
"""What Gradio's upload field says in English; other languages keep Gradio's words."""

FIRST_SCREEN = """
<ol id="steps">
<li><b>Drop face images</b> Into the field above, many at once; or click it and choose.</li>
<li><b>See the scores</b> Every face, the best first, with the file it came from.</li>
<li><b>Move the threshold</b> And watch which faces it keeps and which it turns away.</li>
</ol>"""


def introduction_html(model: QualityModel, *, finds_faces: bool) -> str:
    """What the page is for, and what the model takes."""
    height, width = model.network.image_size
    takes = f"aligned crops of {width} × {height} pixels"
    if finds_faces:
        takes = f"photographs, whose faces are found, and {takes}"
    else:
        takes += "; for whole photographs, start the page with an insightface pack"
    scale = ""
    if model.calibration is not None:
        reference = _escaped(model.calibration.reference)
        scale = f" 0 to 100 is the share of the images of {reference} that score lower."
    return (
        f"<h1>{TITLE}</h1><p>A score says how well a face recogniser can work with an image: the higher, the "
        "better. It speaks of the image, not of the person, and no image leaves this computer.</p>"
        f'<p class="note">{_escaped(model.network.path.name)} takes {takes}.{scale}</p>'
    )


def counts_html(results: Results, threshold: float, model: QualityModel) -> str:
    """How many faces a threshold keeps, and the style that parts them.

    The faces stand on the page best first, so a threshold only says from which one on they are turned away:
    two rules of CSS, which leave the pictures where they are.
    """
    total, kept = len(results.faces), results.kept(threshold)
    percent = percent_of(threshold, model)
    meaning = f"threshold {threshold:.10g}" + ("" if percent is None else f", {percent:.0f} of 100")
    away = f"#faces figure:nth-of-type(n+{kept + 1})"
    style = f"{away} {{ order: 2 }} {away} img {{ filter: grayscale(1); opacity: .55 }}"
    for name, count in (("kept", kept), ("away", total - kept)):
        if count == 0:
            style += f" #faces h2.{name} {{ display: none }}"
    return (
        f'<div id="counts" role="status"><span class="kept"><b>{kept}</b> kept</span>'
        f'<span class="away"><b>{total - kept}</b> turned away</span>'
        f'<span class="note">{meaning}</span></div>'
        f'<div id="share"><div style="width: {100 * kept / max(total, 1):.2f}%"></div></div>'
        f"<style>{style}</style>"
    )


def faces_html(results: Results, step: float) -> str:
    """The faces, best first, with scores to a tenth of ``step``; while there is nothing yet, how to begin."""
    if results == Results():
        return FIRST_SCREEN
    if not results.faces:
        return ""
    decimals = max(0, 1 - round(math.log10(step)))
    figures = "".join(_figure(face, decimals) for face in results.faces)
    return f'<div id="faces"><h2 class="kept">Kept</h2><h2 class="away">Turned away</h2>{figures}</div>'


def problems_html(results: Results) -> str:
    """What has no score, and why."""
    if not results.problems:
        return ""
    items = "".join(f"<li><b>{_escaped(name)}</b>: {_escaped(why)}</li>" for name, why in results.problems)
    return f'<div id="problems"><h2>Without a score: {len(results.problems)}</h2><ul>{items}</ul></div>'


def _figure(face: ScoredFace, decimals: int) -> str:
    name, score = _escaped(face.name), f"{face.score:.{decimals}f}"
    shown = f"<b>{score}</b>"
    if face.percent is not None:
        shown = f"<b>{face.percent:.0f}</b> of 100<span>score {score}</span>"
    return (
        f'<figure title="{name}"><img src="{face.picture}" alt="face from {name}">'
        f"<figcaption>{shown}<span>{name}</span></figcaption></figure>"
    )


def _escaped(text: str) -> str:
    return html.escape(printable(text))
