"""What a synthetic face is made of: the traits of an identity and the shot that one image shows of it.

Lengths are pixels of the aligned 112 x 112 frame, with the vertical mid-line of the face at x = 0 and the
rows of the insightface template (eyes near y = 51.7, nose tip near 71.7, mouth near 92.3). Colours are
RGB in [0, 255]. Every number comes from the generator passed in, in a fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Element types stay open in the aliases because OpenCV's stubs return arrays of any number type.
FloatArray = NDArray[Any]

# Skin from light to dark, indexed by melanin in [0, 1].
_SKIN_TONES = np.array(
    [(244, 212, 192), (236, 194, 166), (226, 178, 138), (198, 142, 102), (150, 100, 68), (98, 64, 46)], float
)
_HAIR_TONES = np.array([(24, 20, 20), (52, 36, 28), (92, 60, 38), (140, 96, 56), (206, 168, 108)], float)
_IRIS_TONES = np.array([(50, 30, 20), (92, 58, 30), (120, 104, 52), (88, 126, 92), (96, 138, 176)], float)
_GREY_HAIR = np.array((196, 194, 192), float)
_GLASSES_TONES = np.array([(24, 24, 28), (70, 44, 30), (110, 30, 36), (150, 150, 156), (40, 56, 96)], float)

HAIR_STYLES = ("fringe", "side_part", "centre_part", "swept_back", "receding", "cropped", "curly", "bald")
BEARD_STYLES = ("none", "stubble", "full", "goatee", "moustache")


def around(rng: np.random.Generator, mean: float, spread: float) -> float:
    """A normal draw cut at two standard deviations, so that no trait leaves the human range."""
    return mean + spread * float(np.clip(rng.standard_normal(), -2.0, 2.0))


def _tone(palette: FloatArray, position: float) -> FloatArray:
    """Colour at ``position`` in [0, 1] along a palette."""
    knots = np.linspace(0.0, 1.0, len(palette))
    return np.array([np.interp(position, knots, palette[:, channel]) for channel in range(3)])


@dataclass(frozen=True)
class Outline:
    """Half widths at forehead, cheekbones, jaw and chin, the row of the chin and its lean, size of ears."""

    forehead: float
    cheek: float
    jaw: float
    chin: float
    chin_y: float
    lean: float
    ear_size: float


@dataclass(frozen=True)
class Skin:
    """Colour, age, blush and marks: (x, y, radius) of moles and freckles, ends of a scar."""

    colour: FloatArray
    age: float
    blush: float
    moles: FloatArray
    freckles: FloatArray
    scar: FloatArray | None


@dataclass(frozen=True)
class Eyes:
    """Half distance of the pupils, half width, opening, tilt, iris, fold of the lid and lashes."""

    spacing: float
    y: float
    half_width: float
    opening: float
    tilt: float
    iris_radius: float
    iris_colour: FloatArray
    crease: float
    lashes: float
    bags: float


@dataclass(frozen=True)
class Brows:
    """Height above the eyes, thickness, arch, tilt, half length and colour."""

    height: float
    thickness: float
    arch: float
    tilt: float
    half_length: float
    colour: FloatArray


@dataclass(frozen=True)
class Nose:
    """Half width at the wings, row of the tip, protrusion, half width of the bridge, nostril size."""

    half_width: float
    tip_y: float
    protrusion: float
    bridge: float
    nostril: float


@dataclass(frozen=True)
class Mouth:
    """Half width, row, thickness of both lips, depth of the Cupid's bow, set of the corners, colour."""

    half_width: float
    y: float
    upper: float
    lower: float
    bow: float
    corners: float
    colour: FloatArray


@dataclass(frozen=True)
class Hair:
    """Style, colour, row of the hairline, row to which it falls at the sides, side of the parting."""

    style: str
    colour: FloatArray
    hairline_y: float
    length_y: float
    part: float
    volume: float


@dataclass(frozen=True)
class Glasses:
    """Half width and half height of a lens, how square it is, frame colour and thickness in pixels at 2x."""

    half_width: float
    half_height: float
    squareness: float
    colour: FloatArray
    thickness: int


@dataclass(frozen=True)
class Traits:
    """Everything that the images of one identity share."""

    outline: Outline
    skin: Skin
    eyes: Eyes
    brows: Brows
    nose: Nose
    mouth: Mouth
    hair: Hair
    beard: str
    glasses: Glasses | None

    def landmarks(self) -> FloatArray:
        """The five points of the alignment template, [5, 2]: eyes, nose tip, mouth corners (left first)."""
        eyes, nose, mouth = self.eyes, self.nose, self.mouth
        return np.array(
            [
                (-eyes.spacing, eyes.y),
                (eyes.spacing, eyes.y),
                (0.0, nose.tip_y),
                (-mouth.half_width, mouth.y),
                (mouth.half_width, mouth.y),
            ]
        )


def draw_traits(rng: np.random.Generator) -> Traits:
    """Draw an identity; age, masculinity and melanin correlate its traits the way they do in people."""
    age = float(rng.beta(1.4, 1.8))
    masculine = float(np.clip(rng.normal(rng.choice((0.2, 0.8)), 0.13), 0.0, 1.0))
    melanin = float(rng.beta(1.1, 1.3))
    hair = _draw_hair(rng, age, masculine, melanin)
    skin = _draw_skin(rng, age, melanin)
    return Traits(
        outline=_draw_outline(rng, masculine),
        skin=skin,
        eyes=_draw_eyes(rng, age, masculine, melanin),
        brows=_draw_brows(rng, masculine, hair.colour),
        nose=_draw_nose(rng, masculine, melanin),
        mouth=_draw_mouth(rng, age, masculine, melanin, skin.colour),
        hair=hair,
        beard=draw_beard(rng, masculine),
        glasses=_draw_glasses(rng) if rng.random() < 0.15 + 0.15 * age else None,
    )


def restyle(traits: Traits, rng: np.random.Generator) -> Traits:
    """The same person on another day: other hair, glasses off or on, often shaved; the face as it was."""
    style, part = str(rng.choice(HAIR_STYLES[:4])), -traits.hair.part
    length_y = float(rng.uniform(36, 54) if traits.hair.length_y > 80 else rng.uniform(40, 72))
    thinning = traits.hair.style in ("receding", "bald")
    hair = traits.hair if thinning else replace(traits.hair, style=style, part=part, length_y=length_y)
    wears_glasses = traits.glasses is None and rng.random() < 0.25
    glasses = _draw_glasses(rng) if wears_glasses else None
    return replace(traits, hair=hair, glasses=glasses, beard="none" if rng.random() < 0.7 else traits.beard)


def _draw_outline(rng: np.random.Generator, masculine: float) -> Outline:
    return Outline(
        forehead=around(rng, 33.5, 1.4),
        cheek=around(rng, 38.0, 1.8),
        jaw=around(rng, 29.5 + 2.5 * masculine, 2.0),
        chin=around(rng, 11.5 + 3.5 * masculine, 1.8),
        chin_y=around(rng, 114.0 + 2.0 * masculine, 2.2),
        lean=around(rng, 0.0, 0.5),
        ear_size=around(rng, 1.0, 0.12),
    )


def _draw_skin(rng: np.random.Generator, age: float, melanin: float) -> Skin:
    num_moles = int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))
    x, y = rng.uniform(-30, 30, num_moles), rng.uniform(56, 106, num_moles)
    moles = np.stack([x, y, rng.uniform(0.6, 1.3, num_moles)], axis=1)
    num_freckles = int(rng.integers(25, 70)) if melanin < 0.45 and rng.random() < 0.3 else 0
    x, y = rng.normal(0.0, 15.0, num_freckles), rng.normal(66.0, 5.5, num_freckles)
    freckles = np.stack([x, y, rng.uniform(0.3, 0.75, num_freckles)], axis=1)
    scar = None
    if rng.random() < 0.1:
        start, angle = rng.uniform((-28, 28), (28, 100)), rng.uniform(0, np.pi)
        scar = np.stack([start, start + rng.uniform(6, 12) * np.array((np.cos(angle), np.sin(angle)))])
    return Skin(
        colour=np.clip(_tone(_SKIN_TONES, melanin) + rng.normal(0, 3, 3), 30, 255),
        age=age,
        blush=float(rng.uniform(0.0, 1.0)),
        moles=moles,
        freckles=freckles,
        scar=scar,
    )


def _draw_eyes(rng: np.random.Generator, age: float, masculine: float, melanin: float) -> Eyes:
    light_iris = rng.random() < 0.75 * (1.0 - 1.6 * melanin)
    iris = rng.uniform(0.45, 1.0) if light_iris else rng.uniform(0.0, 0.35)
    return Eyes(
        spacing=around(rng, 17.6, 1.0),
        y=around(rng, 51.7, 0.9),
        half_width=around(rng, 7.1, 0.5),
        opening=around(rng, 4.0 - 0.5 * masculine - 0.4 * age, 0.45),
        tilt=around(rng, 0.5, 0.7),
        iris_radius=around(rng, 3.4, 0.15),
        iris_colour=np.clip(_tone(_IRIS_TONES, iris) + rng.normal(0, 6, 3), 8, 240),
        crease=float(rng.choice((0.0, 1.0), p=(0.2, 0.8))) * around(rng, 2.4, 0.5),
        lashes=float(np.clip(around(rng, 1.2 - masculine, 0.25), 0.0, 1.5)),
        bags=float(np.clip(around(rng, 0.2 + 0.8 * age, 0.2), 0.0, 1.0)),
    )


def _draw_brows(rng: np.random.Generator, masculine: float, hair_colour: FloatArray) -> Brows:
    return Brows(
        height=around(rng, 11.2 - 1.2 * masculine, 0.9),
        thickness=around(rng, 1.3 + 0.7 * masculine, 0.35),
        arch=around(rng, 1.7 - 0.8 * masculine, 0.8),
        tilt=around(rng, -0.6, 0.7),
        half_length=around(rng, 9.5, 0.8),
        colour=np.clip(0.72 * hair_colour + rng.normal(0, 5, 3), 8, 200),
    )


def _draw_nose(rng: np.random.Generator, masculine: float, melanin: float) -> Nose:
    return Nose(
        half_width=around(rng, 6.2 + 0.7 * masculine + 1.4 * melanin, 0.8),
        tip_y=around(rng, 71.2, 1.5),
        protrusion=around(rng, 11.5, 1.3),
        bridge=around(rng, 3.4 + 0.6 * melanin, 0.5),
        nostril=around(rng, 1.0, 0.2),
    )


def _draw_mouth(
    rng: np.random.Generator, age: float, masculine: float, melanin: float, skin: FloatArray
) -> Mouth:
    red = np.array((176, 62, 70), float) * (1.0 - 0.45 * melanin)
    strength = np.clip(around(rng, 0.5 - 0.22 * masculine, 0.13), 0.12, 0.85)
    return Mouth(
        half_width=around(rng, 14.0, 1.2),
        y=around(rng, 92.0, 1.2),
        upper=max(1.1, around(rng, 2.7 + 0.9 * melanin - 0.8 * masculine - 0.7 * age, 0.5)),
        lower=max(1.8, around(rng, 4.0 + 0.9 * melanin - 0.6 * masculine - 0.6 * age, 0.6)),
        bow=around(rng, 0.9, 0.35),
        corners=around(rng, 0.9, 0.8),
        colour=(1 - strength) * 0.88 * skin + strength * red,
    )


def _draw_hair(rng: np.random.Generator, age: float, masculine: float, melanin: float) -> Hair:
    blond = float(rng.beta(1.2, 1.6)) * float(np.clip(1.15 - 1.7 * melanin, 0.05, 1.0))
    colour = _tone(_HAIR_TONES, blond) + (rng.random() < 0.12) * np.array((44, 2, -12))
    grey = float(np.clip((age - 0.55) * 2.6 + rng.normal(0, 0.15), 0.0, 1.0))
    odds = np.array((3, 3, 1 + masculine, 2, 3 * masculine * age, 3 * masculine, 2, 1.6 * masculine * age))
    odds[2] += 3 * (1 - masculine)
    style = str(rng.choice(HAIR_STYLES, p=odds / odds.sum()))
    short = style in ("cropped", "receding", "bald") or rng.random() < masculine
    return Hair(
        style=style,
        colour=np.clip(
            (1 - grey) * colour + grey * _GREY_HAIR + rng.normal(0, 6) + rng.normal(0, 2, 3), 10, 240
        ),
        hairline_y=around(rng, 19.0, 2.5),
        length_y=float(rng.uniform(36, 54) if short else rng.uniform(80, 150)),
        part=float(rng.choice((-1.0, 1.0)) * rng.uniform(8, 17)),
        volume=around(rng, 6.0, 1.6),
    )


def draw_beard(rng: np.random.Generator, masculine: float) -> str:
    if masculine < 0.5:
        return "none"
    return str(rng.choice(BEARD_STYLES, p=(0.55, 0.18, 0.11, 0.08, 0.08)))


def _draw_glasses(rng: np.random.Generator) -> Glasses:
    return Glasses(
        half_width=around(rng, 12.5, 0.8),
        half_height=around(rng, 9.0, 1.2),
        squareness=float(rng.uniform(2.0, 5.0)),
        colour=_GLASSES_TONES[rng.integers(len(_GLASSES_TONES))],
        thickness=int(rng.integers(2, 5)),
    )
