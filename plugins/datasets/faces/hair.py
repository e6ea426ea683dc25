"""Outline of the head, and the hair and beard that follow it."""

from __future__ import annotations

import cv2
import numpy as np

from .drawing import SCALE, SUBPIXEL_BITS, UNITS, ImageArray, fill, mirror, smooth, to_canvas
from .traits import FloatArray, Traits


def head_outline(traits: Traits) -> FloatArray:
    """Control points of the closed outline of skull and jaw, from the crown down the right-hand side."""
    o = traits.outline
    half = [
        (0.0, -22.0),
        (0.8 * o.forehead, -12.0),
        (1.02 * o.forehead, 16.0),
        (0.985 * o.cheek, 44.0),
        (o.cheek, 60.0),
        (0.55 * o.cheek + 0.45 * o.jaw, 80.0),
        (o.jaw, 92.0),
        (0.55 * o.jaw + 0.45 * o.chin, 106.0),
        (o.chin, o.chin_y - 2.0),
    ]
    points = mirror(half)
    points = np.insert(points, len(half), (0.0, o.chin_y), axis=0)[:-1]
    points[:, 0] += o.lean * np.clip((points[:, 1] - 50.0) / 30.0, 0.0, 2.0)
    return points


def draw_beard(base: ImageArray, traits: Traits, rng: np.random.Generator) -> None:
    """Cover cheeks, chin and upper lip of ``base`` as far as the style of the beard says."""
    if traits.beard == "none":
        return
    area, mouth = np.zeros(base.shape[:2], np.uint8), traits.mouth
    if traits.beard in ("stubble", "full"):
        head = smooth(head_outline(traits))
        fill(area, head[head[:, 1] > 64], [255])
        cheeks = [(0, 62), (traits.outline.cheek - 4, 62), (22, 84), (17, 96), (9, 100), (0, 99)]
        fill(area, smooth(mirror(cheeks)), [0])
    if traits.beard == "goatee":
        fill(area, smooth(mirror([(0, 101), (8, 102), (9, 108), (5, 114), (0, 117)])), [255])
    top, reach = traits.nose.tip_y + 6.5, mouth.half_width - 1.0
    lip = [(0, top), (7, top + 0.8), (reach, mouth.y - 1.2), (reach - 1, mouth.y + 0.8), (8, mouth.y - 1.5)]
    fill(area, mirror([*lip, (0, mouth.y - 2)]), [255])
    coarse = rng.uniform(0.55, 1.0, area.shape).astype(np.float32)
    density = 0.38 if traits.beard == "stubble" else 0.9
    cover = (density / 255) * cv2.GaussianBlur(area, (0, 0), 2.2) * cv2.GaussianBlur(coarse, (0, 0), 0.7)
    base[..., :3] = base[..., :3] + cover[..., None] * (0.75 * traits.hair.colour - base[..., :3])


def _hairline(traits: Traits, rng: np.random.Generator) -> FloatArray:
    """Control points of the front edge of the hair, from the right temple to the left one."""
    hair = traits.hair
    x = np.linspace(0.86, -0.86, 9) * traits.outline.forehead
    away = np.abs(x) / traits.outline.forehead
    rise = {
        "fringe": 13.0 + rng.uniform(-1.5, 1.5, 9),
        "side_part": -5.0 + 0.42 * np.abs(x - hair.part),
        "centre_part": -4.0 + 24.0 * away,
        "swept_back": 9.0 * away**2,
        "receding": -6.0 - 9.0 * np.sin(np.pi * away) + 6.0 * away,
        "cropped": 8.0 * away**4 + 1.0,
        "curly": 6.0 * away**2 + 2.0 * np.cos(np.arange(9) * np.pi),
    }[hair.style]
    return np.stack([x, hair.hairline_y + rise], axis=1)


def draw_front_hair(traits: Traits, rng: np.random.Generator) -> tuple[ImageArray, ImageArray]:
    """The hair in front of the face: its paint, RGBA everywhere, and where it lies, [H, W] in [0, 255]."""
    hair, outline = traits.hair, traits.outline
    mask = np.zeros((UNITS * SCALE, UNITS * SCALE), np.uint8)
    if hair.style == "bald":
        return np.zeros((*mask.shape, 4), np.uint8), mask
    volume = 1.5 if hair.style == "cropped" else hair.volume + 3.0 * (hair.style == "curly")
    low = hair.length_y
    inner = min(outline.cheek - 1.5, outline.cheek + 0.12 * (58.0 - low))
    side = [
        (inner + 2.0, low),
        (outline.cheek + 0.6 * volume, min(low, 60.0)),
        (0.99 * outline.cheek + volume, 30.0),
        (outline.forehead + volume, 6.0),
        (0.6 * outline.forehead, -13.0 - volume),
    ]
    rim = np.array(side)
    temple = [(0.95 * outline.forehead, 34.0), (outline.cheek - 2.0, min(low - 1, 48.0)), (inner, low - 0.5)]
    front_edge = np.concatenate(
        [np.array(temple)[::-1], _hairline(traits, rng), np.array(temple) * (-1.0, 1.0)]
    )
    if hair.style == "curly":
        rim = rim + rng.uniform(-1.5, 1.5, rim.shape)
    contour = np.concatenate([smooth(mirror(rim), closed=False)[::-1], smooth(front_edge, closed=False)])
    fill(mask, contour, [255])
    front = np.full((*mask.shape, 4), (*hair.colour, 255), np.uint8)
    _draw_strands(front, traits, rng)
    return front, mask


def draw_back_hair(base: ImageArray, traits: Traits, rng: np.random.Generator) -> None:
    """Long hair behind neck and ears."""
    hair, outline = traits.hair, traits.outline
    if hair.length_y < 60.0:
        return
    width = outline.cheek + hair.volume
    half = [(0, -20), (0.7 * width, -10), (width, 20), (width + 3, 60), (width + 4, 0.6 * hair.length_y + 30)]
    half.append((0.8 * width, hair.length_y + 8))
    layer = np.zeros_like(base)
    fill(layer, smooth(mirror(half)), 0.72 * hair.colour)
    strands = layer.copy()
    _draw_strands(strands, traits, rng, shade=0.72)
    np.copyto(base, strands, where=layer[..., 3:] == 255)


def _draw_strands(layer: ImageArray, traits: Traits, rng: np.random.Generator, shade: float = 1.0) -> None:
    """Streaks that run from the parting outwards and down; small arcs for curls."""
    hair = traits.hair
    curly = hair.style == "curly"
    contrast = 0.6 if curly else 1.0
    crown = np.array((0.5 * hair.part if hair.style == "side_part" else 0.0, -14.0))
    for gain, width in ((0.76, 3), (0.86, 2), (1.12, 2), (1.24, 1)):
        start = np.stack([rng.uniform(-50, 50, 40), rng.uniform(-14, 34, 40)], axis=1)
        start[::3, 1] = rng.uniform(34, 110, 14)
        heading = start - crown + (0.0, 12.0)
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        across = heading[:, ::-1] * (1.0, -1.0) * rng.uniform(-1.0, 1.0, (40, 1))
        length = rng.uniform(2.5, 4.5, (40, 1)) if curly else rng.uniform(12.0, 26.0, (40, 1))
        bend = length * across * (0.8 if curly else 0.05)
        lines = np.stack([start, start + 0.5 * length * heading + bend, start + length * heading], axis=1)
        colour = (*np.clip((1 + (gain - 1) * contrast) * shade * hair.colour + 3, 0, 255), 255.0)
        cv2.polylines(layer, list(to_canvas(lines)[0]), False, colour, width, cv2.LINE_AA, SUBPIXEL_BITS)
