"""Figures: complete files of the right kind, nothing left behind, and what can be read off the pixels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib import image as matplotlib_image
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from eval_tools.curve import ErrorRejectionCurve, Protocol
from eval_tools.erc import error_rejection_curve, image_rejection_curve
from eval_tools.plots import COLOURS, plot_erc, plot_quality_sheet
from eval_tools.plots.erc import effective_fmr_text

pytestmark = pytest.mark.filterwarnings("ignore::eval_tools.scores.UnresolvedFMRWarning")

MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-"}


def _curve(protocol: Protocol = "fixed", seed: int = 0, **arguments: Any) -> ErrorRejectionCurve:
    rng = np.random.default_rng(seed)
    is_genuine = np.arange(300) < 150
    similarity = rng.normal(1.5 * is_genuine, 1.0)
    arguments = {"fmr": 0.1, **arguments}
    return error_rejection_curve(
        similarity, is_genuine, similarity + rng.normal(size=300), protocol=protocol, **arguments
    )


def _image_curve() -> ErrorRejectionCurve:
    rng = np.random.default_rng(0)
    return image_rejection_curve(rng.normal(size=(40, 8)), np.arange(40) % 8, rng.random(40), fmr=0.1)


def test_a_panel_says_that_its_fmr_is_not_resolved() -> None:
    assert "resolved" not in effective_fmr_text({"q": _curve()})
    assert effective_fmr_text({"q": _curve(fmr=1e-4)}) == "effective FMR 0 (not resolved)"


def _draw_curve(path: Path) -> None:
    plot_erc({"ours": _curve()}, path)


def _draw_sheet(path: Path) -> None:
    plot_quality_sheet(np.full((4, 8, 8, 3), 90, np.uint8), np.arange(4.0), path)


def _pixels(path: Path) -> NDArray[Any]:
    return matplotlib_image.imread(path)[..., :3]


def _count(picture: NDArray[Any], colour: Any) -> int:
    """Pixels of one colour, given from 0 to 1."""
    return int(np.count_nonzero(np.all(np.abs(picture - np.array(colour)) < 2.5 / 255, axis=-1)))


every_drawing = pytest.mark.parametrize("draw", [_draw_curve, _draw_sheet])


@every_drawing
@pytest.mark.parametrize("name", ["a.png", "a.pdf", "a.PNG"])
def test_suffix_decides_the_format(draw: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    draw(path)
    assert path.read_bytes().startswith(MAGIC[path.suffix.lower()])
    assert list(tmp_path.iterdir()) == [path]


@every_drawing
@pytest.mark.parametrize("name", ["a.jpg", "a.svg", "a", "png"])
def test_other_suffixes_are_refused(draw: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"written as .png or .pdf, got '.*" + name):
        draw(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@every_drawing
def test_failure_leaves_the_old_file(
    draw: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_half_way(self: Figure, path: Path, **_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left")

    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", fail_half_way)
    with pytest.raises(OSError, match="no space left"):
        draw(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@every_drawing
def test_pyplot_is_untouched(draw: Callable[[Path], None], tmp_path: Path) -> None:
    mine = pyplot.figure()
    try:
        before = dict(matplotlib.rcParams)
        draw(tmp_path / "a.png")
        assert pyplot.get_fignums() == [mine.number]
        assert pyplot.gcf() is mine
        assert mine.axes == []
        assert dict(matplotlib.rcParams) == before
    finally:
        pyplot.close(mine)


def test_pyplot_is_not_even_imported() -> None:
    code = "import sys, eval_tools.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


EVERY_PROTOCOL = ("fixed", "crfiqa", "fixed-all", "image")


def _any_curve(protocol: Protocol) -> ErrorRejectionCurve:
    return _image_curve() if protocol == "image" else _curve(protocol)


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
def test_curve_is_drawn(protocol: Protocol, tmp_path: Path) -> None:
    plot_erc({"ours": _any_curve(protocol)}, tmp_path / "a.png", title="A title")
    picture = _pixels(tmp_path / "a.png")
    assert min(picture.shape[:2]) > 300
    assert _count(picture, to_rgb("white")) > 0.5 * picture[..., 0].size
    assert _count(picture, to_rgb(COLOURS[0])) > 100


def test_each_curve_has_its_colour(tmp_path: Path) -> None:
    curves = {f"method {seed}": _curve(seed=seed) for seed in range(3)}
    plot_erc(curves, tmp_path / "a.png")
    picture = _pixels(tmp_path / "a.png")
    drawn = [_count(picture, to_rgb(colour)) > 100 for colour in COLOURS[:6]]
    assert drawn == [True, True, True, False, False, False]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved in this test."""
    saved: list[Figure] = []
    original = Figure.savefig

    def save(self: Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", save)
    return saved


def _lines(figure: Figure) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in figure.axes[0].get_lines()}


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
@pytest.mark.parametrize("limit", [None, 0.3])
def test_what_is_drawn(
    protocol: Protocol, limit: float | None, tmp_path: Path, figures: list[Figure]
) -> None:
    curve = _any_curve(protocol)
    plot_erc({"ours": curve}, tmp_path / "a.pdf", limit=limit)
    lines = _lines(figures[0])
    area = f"AUC {curve.auc:.4g}" if limit is None else f"pAUC {curve.pauc(limit):.4g}"
    assert set(lines) == {f"ours ({area})", "random level", "theoretical best"}
    style = "steps-post" if curve.is_step else "default"
    best = curve.best_curve()
    for label, (discard, error) in {
        f"ours ({area})": (curve.discard, curve.error),
        "theoretical best": best,
    }.items():
        drawn = np.asarray(lines[label].get_xydata())
        np.testing.assert_array_equal(drawn[: discard.size], np.stack([discard, error], axis=1))
        np.testing.assert_allclose(drawn[-1], [curve.end, error[-1]])  # the last rate holds to the end
        assert lines[label].get_drawstyle() == style
    level = np.asarray(lines["random level"].get_ydata())
    np.testing.assert_array_equal(level, np.full(2, curve.error[0]))
    assert figures[0].axes[0].get_xlim() == pytest.approx((0, limit or curve.end))


def test_references_can_be_left_out(tmp_path: Path, figures: list[Figure]) -> None:
    plot_erc({"a": _curve(), "b": _curve(seed=1)}, tmp_path / "a.png", references=False)
    assert len(_lines(figures[0])) == 2


@pytest.mark.parametrize(
    ("protocol", "kind"), [("fixed", "genuine pairs"), ("crfiqa", "pairs"), ("image", "images")]
)
def test_labels_name_error_and_protocol(
    protocol: Protocol, kind: str, tmp_path: Path, figures: list[Figure]
) -> None:
    curve = _any_curve(protocol)
    plot_erc({"a": curve}, tmp_path / "a.png", title="A title")
    axes = figures[0].axes[0]
    assert axes.get_xlabel() == f"discarded fraction of {kind}"
    assert axes.get_ylabel() == "FNMR at FMR 0.1"
    for part in (
        f"protocol {protocol}",
        "effective FMR",
        f"{curve.n_genuine[0]} genuine",
        f"{curve.n_impostor[0]} impostor",
    ):
        assert part in axes.get_title()
    assert figures[0].get_suptitle() == "A title"


def test_labels_of_a_false_match_curve(tmp_path: Path, figures: list[Figure]) -> None:
    plot_erc({"a": _curve(error="fmr", threshold=0.25)}, tmp_path / "a.png")
    assert figures[0].axes[0].get_xlabel() == "discarded fraction of impostor pairs"
    assert figures[0].axes[0].get_ylabel() == "FMR at threshold 0.25"


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "no curve to plot"),
        ({"a": _curve("fixed"), "b": _curve("fixed-all")}, "must share protocol"),
        ({"a": _curve(fmr=0.1), "b": _curve(fmr=0.2)}, "must share protocol, error and target FMR"),
        ({"a": _curve(error="fnmr"), "b": _curve(error="fmr")}, "must share protocol, error"),
        ({"a": _curve(threshold=0.5), "b": _curve(threshold=0.6)}, "must share"),
    ],
)
def test_curves_that_cannot_share_a_panel(
    curves: dict[str, ErrorRejectionCurve], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        plot_erc(curves, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [0.0, -0.5, 1.5])
def test_limit_out_of_range(limit: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit must lie in"):
        plot_erc({"a": _curve()}, tmp_path / "a.png", limit=limit)
    assert list(tmp_path.iterdir()) == []


# Quality sheet


def _flat_faces(count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One colour per face, blue 200 everywhere and red its number, so that each can be found again."""
    colours = np.stack([np.arange(count) * 10, np.full(count, 40), np.full(count, 200)], axis=1)
    faces = np.broadcast_to(colours[:, None, None], (count, 16, 16, 3)).astype(np.uint8)
    return faces, colours.astype(np.uint8)


def _places(picture: NDArray[Any], colours: NDArray[np.uint8]) -> list[tuple[float, float] | None]:
    """Centre (row, column) of each colour in the picture, None where it does not occur."""
    places: list[tuple[float, float] | None] = []
    for colour in colours / 255:
        rows, columns = np.nonzero(np.all(np.abs(picture - colour) < 2.5 / 255, axis=-1))
        places.append((float(rows.mean()), float(columns.mean())) if rows.size > 50 else None)
    return places


def test_sheet_begins_with_the_lowest_quality(tmp_path: Path) -> None:
    faces, colours = _flat_faces(12)
    order = np.random.default_rng(0).permutation(12)
    plot_quality_sheet(faces, -5.0 + np.argsort(order), tmp_path / "a.png", rows=3, columns=4)
    places = [place for place in _places(_pixels(tmp_path / "a.png"), colours[order]) if place]
    assert len(places) == 12
    grid = np.array(places).reshape(3, 4, 2)
    assert np.ptp(grid[..., 0], axis=1).max() < 2  # one height in a row
    assert np.diff(grid[..., 0], axis=0).min() > 10  # row below row
    assert np.diff(grid[..., 1], axis=1).min() > 10  # left to right


def test_sheet_is_spread_over_all_ranks(tmp_path: Path) -> None:
    faces, colours = _flat_faces(21)
    plot_quality_sheet(list(faces), np.arange(21)[::-1], tmp_path / "a.png", rows=1, columns=5)
    places = _places(_pixels(tmp_path / "a.png"), colours)
    assert [number for number, place in enumerate(places) if place] == [0, 5, 10, 15, 20]
    columns = [place[1] for place in places if place]
    assert columns == sorted(columns, reverse=True)


def test_sheet_with_fewer_images_than_cells(tmp_path: Path) -> None:
    faces, colours = _flat_faces(5)
    plot_quality_sheet(faces, np.zeros(5), tmp_path / "a.png", rows=4, columns=3)
    places = _places(_pixels(tmp_path / "a.png"), colours)
    assert all(places)
    rows = [place[0] for place in places if place]
    assert rows[0] == pytest.approx(rows[2], abs=2)
    assert rows[3] > rows[2] + 10


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([0.1162, 0.4, 0.5831], ["0.116", "0.400", "0.583"]),
        ([-1.5, 0.0, 12.25], ["-1.5", "0.0", "12.2"]),
        ([3.0, 900.4, 4000.0], ["3", "900", "4000"]),
        ([2e6, 3e7, 4e8], ["2e+06", "3e+07", "4e+08"]),
        ([0.5, 0.5, 0.5], ["0.500", "0.500", "0.500"]),
    ],
)
def test_sheet_says_what_its_numbers_are(
    scores: list[float], labels: list[str], tmp_path: Path, figures: list[Figure]
) -> None:
    plot_quality_sheet(FACES, scores, tmp_path / "a.png", rows=1, columns=3)
    plot_quality_sheet(FACES, scores, tmp_path / "b.png", rows=2, columns=2)
    one, two = (figure.axes[0] for figure in figures)
    assert [text.get_text() for text in one.texts] == labels
    assert "left" not in one.get_title()
    assert [text.get_text() for text in two.texts] == [labels[0], "0 %", labels[1], labels[2], "67 %"]
    assert two.get_title().endswith("\nleft of a row: share of the images that score lower than its first")


def test_sheet_reads_only_what_it_shows(tmp_path: Path) -> None:
    class Faces(list[NDArray[np.uint8]]):
        read: int = 0

        def __getitem__(self, index: Any) -> Any:
            self.read += 1
            return super().__getitem__(index)

    faces = Faces([np.full((8, 8, 3), 90, np.uint8)] * 500)
    plot_quality_sheet(faces, np.arange(500.0), tmp_path / "a.png", rows=2, columns=3)
    assert faces.read == 6


FACES = np.zeros((3, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("images", "quality", "shape", "message"),
    [
        ([], [], (2, 2), "a sheet needs images, rows and columns, got 0 images"),
        (FACES, [1, 2, 3], (0, 2), "got 3 images, 0 x 2"),
        (FACES, [1, 2, 3], (2, -1), "got 3 images, 2 x -1"),
        (FACES, [1, 2], (2, 2), r"quality must have shape \(3,\)"),
        (FACES, [1, np.nan, 2], (2, 2), "quality has 1 NaN or infinite"),
        (FACES.astype(float), [1, 2, 3], (2, 2), r"RGB uint8 \[H, W, 3\] of one size, got float64"),
        (FACES[..., 0], [1, 2, 3], (2, 2), r"got uint8 \(8, 8\)"),
        (
            [FACES[0], FACES[0, :4], FACES[0]],
            [1, 2, 3],
            (2, 2),
            r"got uint8 \(4, 8, 3\) beside uint8 \(8, 8, 3\)",
        ),
    ],
)
def test_sheet_rejects(
    images: Any, quality: Any, shape: tuple[int, int], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        plot_quality_sheet(images, quality, tmp_path / "a.png", rows=shape[0], columns=shape[1])
    assert list(tmp_path.iterdir()) == []
