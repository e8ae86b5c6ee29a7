"""Compose a picture from concepts, and photograph it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._canvas import Canvas, sample_light
from ._scenery import SCENERY
from ._subjects import SUBJECTS

# What may also be photographed in a room.
INDOORS = frozenset({"cat", "dog", "flower", "food", "people"})


def render(concepts: list[str], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint a picture of concepts: (size, size, 3) uint8, and no other concept."""
    u = rng.uniform
    sky = next((kind for kind in ("sunset", "night") if kind in concepts), "day")
    snow = "snow" in concepts
    place = next((name for name in SCENERY if name in concepts), "")
    if not place:
        indoors = INDOORS.issuperset(concepts) and rng.random() < 0.6
        place = "room" if indoors or "food" in concepts else "meadow"
    canvas = Canvas(size, sample_light(sky, rng), rng)
    floor = SCENERY[place](canvas, snow)
    for name in concepts:
        if name in SUBJECTS:
            spot = canvas.at(u(0.25, 0.75), floor, u(0.25, 0.6), flip=rng.random() < 0.5)
            SUBJECTS[name](canvas, spot)
    if snow and rng.random() < 0.6:
        for x, y in rng.uniform(0, 1, (rng.integers(15, 60), 2)):
            canvas.disc(x, y, u(0.005, 0.014), (1, 1, 1), lit=False)
    return _photograph(canvas.pixels(), rng)


def _photograph(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure, contrast, colour cast, black and white, vignette, grain and frame."""
    u, size = rng.uniform, len(pixels)
    photo = pixels.astype(np.float32) / 255
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    warmth, exposure = u(-0.1, 0.1), u(0.85, 1.25)
    cast = exposure * np.array([1 + warmth, 1 + u(-0.04, 0.04), 1 - warmth])
    photo = (photo - 0.5) * np.float32(u(0.8, 1.2)) + 0.5
    photo = photo * cast.astype(np.float32)
    style = rng.random()
    if style < 0.08:
        grey = photo @ np.array([0.3, 0.59, 0.11], np.float32)
        toning = (1, 1, 1) if style < 0.05 else (1.08, 0.98, 0.8)
        photo = grey[..., None] * np.array(toning, np.float32)
    if rng.random() < 0.3:
        axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
        photo = photo * (1 - u(0.1, 0.3) * (axis[:, None] + axis))[..., None]
    photo = photo + np.float32(u(0, 0.025)) * rng.standard_normal((size, size, 1), np.float32)
    if rng.random() < 0.06:
        edge, tone = max(1, round(size * u(0.03, 0.07))), rng.choice([0.03, 0.98])
        photo[:edge], photo[-edge:], photo[:, :edge], photo[:, -edge:] = tone, tone, tone, tone
    return (np.clip(photo, 0, 1) * 255).astype(np.uint8)
