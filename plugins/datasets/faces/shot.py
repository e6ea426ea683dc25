"""The shot that one image shows of an identity: pose, light, expression, background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .traits import FloatArray, around


@dataclass(frozen=True)
class Shot:
    """Everything clean that differs from image to image: pose (radians), light, expression, background.

    ``restyled`` says that the identity shows its other look (see ``restyle``).
    """

    restyled: bool
    yaw: float
    pitch: float
    roll: float
    shift: FloatArray
    zoom: float
    light: FloatArray
    ambient: FloatArray
    diffuse: FloatArray
    shine: float
    smile: float
    mouth_open: float
    brow_raise: float
    eye_open: float
    gaze: FloatArray
    backdrop: FloatArray
    clothes: FloatArray


def draw_shot(rng: np.random.Generator) -> Shot:
    """Draw the pose, light, expression and background of one photograph."""
    azimuth, elevation = np.clip(rng.normal((0.0, 0.35), (0.55, 0.3)), -1.2, 1.2)
    light = np.array(
        (np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation))
    )
    cast = around(rng, 0.0, 0.07) * np.array((1.0, 0.0, -1.0)) + around(rng, 0.0, 0.03) * np.array(
        (0.0, 1.0, 0.0)
    )
    key = rng.uniform(0.35, 0.8)
    exposure = around(rng, 0.98, 0.11)
    joy = rng.random()
    return Shot(
        restyled=bool(rng.random() < 0.25),
        yaw=around(rng, 0.0, 0.17),
        pitch=around(rng, 0.0, 0.1),
        roll=around(rng, 0.0, 0.025),
        shift=rng.uniform(-1.0, 1.0, 2),
        zoom=around(rng, 1.0, 0.012),
        light=light,
        ambient=exposure * (1.0 - key * 0.85) * (1.0 + 0.5 * cast) * (1.03, 0.98, 0.96),
        diffuse=exposure * key * (1.0 + cast),
        shine=float(rng.uniform(0.0, 36.0)),
        smile=float(max(0.0, joy - 0.35) * 1.5),
        mouth_open=float(max(0.0, rng.random() - 0.6) * 2.2),
        brow_raise=around(rng, 0.0, 0.8),
        eye_open=float(np.clip(around(rng, 1.0, 0.13) - 0.22 * max(0.0, joy - 0.6), 0.4, 1.25)),
        gaze=np.clip(rng.normal(0.0, (0.8, 0.35)), -1.8, 1.8),
        backdrop=rng.uniform(40, 220) + rng.normal(0, 22, 3) + rng.normal(0, 12, (6, 6, 3)),
        clothes=rng.uniform(30, 220) + rng.uniform(-30, 30, 3),
    )
