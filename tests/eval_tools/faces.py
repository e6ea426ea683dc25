"""Small test sets with which a whole evaluation runs in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from igfiqa_head.io.images import encode_image
from igfiqa_head.io.verification_bin import write_verification_bin

SIZE, TILE = 112, 16


def face(person: int, shot: int, noise: float = 20.0) -> NDArray[np.uint8]:
    """Tiles around a colour that the person determines; the noise is what spoils an image."""
    tiles = (SIZE // TILE, SIZE // TILE, 3)
    colour = np.random.default_rng((1, person)).uniform(20, 235, 3)
    shake = np.random.default_rng((2, person, shot)).normal(size=tiles)
    pixels = (colour + noise * shake).repeat(TILE, axis=0).repeat(TILE, axis=1)
    return pixels.clip(0, 255).astype(np.uint8)


def write_pair_set(path: Path, n_pairs: int = 40, seed: int = 0) -> None:
    """A verification set in insightface's form, half of its pairs genuine, every tenth image very noisy."""
    rng = np.random.default_rng(seed)
    images, is_genuine = [], np.arange(n_pairs) % 2 == 0
    for pair, same in enumerate(is_genuine.tolist()):
        people = (pair, pair if same else pair + 1000)
        for shot, person in enumerate(people):
            noise = 400.0 if rng.random() < 0.2 else 20.0
            images.append(encode_image(face(person, shot, noise), ".png"))
    write_verification_bin(path, images, is_genuine)


def write_people(root: Path, n_people: int = 6, n_shots: int = 4) -> None:
    """A folder with one sub-folder of images for each person."""
    for person in range(n_people):
        folder = root / f"person_{person}"
        folder.mkdir(parents=True)
        for shot in range(n_shots):
            (folder / f"{shot}.png").write_bytes(encode_image(face(person, shot, 40.0 * shot), ".png"))
