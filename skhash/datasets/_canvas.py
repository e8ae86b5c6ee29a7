"""A small canvas in unit coordinates, and its light."""

from __future__ import annotations

import colorsys
import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Color = tuple[float, float, float]
Point = tuple[float, float]
Points = Iterable[Point]

OVERSAMPLING = 2  # shapes are drawn larger and averaged down: smooth edges at little cost


def hsv(hue: float, saturation: float, value: float) -> Color:
    """Colour from hue (in turns), saturation and value in [0, 1]."""
    return colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))


def mix(a: Color, b: Color, share: float) -> Color:
    """Colour between ``a`` (share 0) and ``b`` (share 1)."""
    return tuple(x + (y - x) * share for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


@dataclass(frozen=True)
class Light:
    """The colours of the sky, and the tint of everything below it."""

    name: str
    zenith: Color
    horizon: Color
    tint: Color


def sample_light(kind: str, rng: np.random.Generator) -> Light:
    """Draw a light: "sunset", "night", or the many kinds of "day"."""
    u = rng.uniform
    if kind == "sunset":
        hue = u(-0.03, 0.11)
        zenith = hsv(u(0.55, 0.95), u(0.3, 0.7), u(0.3, 0.65))
        return Light(
            kind, zenith, hsv(hue, u(0.5, 0.9), u(0.85, 1)), hsv(hue, u(0.2, 0.5), u(0.4, 0.8))
        )
    if kind == "night":
        hue = u(0.55, 0.78)
        zenith = hsv(hue, u(0.5, 0.9), u(0.05, 0.2))
        tint = hsv(hue, u(0.2, 0.5), u(0.25, 0.45))
        return Light(kind, zenith, hsv(hue + u(-0.1, 0.1), u(0.3, 0.8), u(0.15, 0.4)), tint)
    if rng.random() < 0.3:
        grey = u(0.55, 0.9)
        tint = hsv(u(0.5, 0.65), u(0, 0.1), u(0.75, 0.95))
        return Light("overcast", hsv(0.6, u(0, 0.15), grey), hsv(0.6, u(0, 0.1), grey + 0.1), tint)
    hue, warm = u(0.51, 0.63), u(0.02, 0.16)
    horizon = mix(hsv(hue, u(0.05, 0.35), u(0.85, 1)), hsv(warm, 0.3, 1), u(0, 0.7))
    return Light(
        "clear", hsv(hue, u(0.35, 0.85), u(0.6, 0.95)), horizon, hsv(warm, u(0, 0.15), u(0.92, 1))
    )


class Canvas:
    """A square picture; x runs right and y down, both from 0 to 1.

    :meth:`at` returns the same picture in other coordinates, so the same code draws a thing at all
    places and sizes. Colours are tinted by the light unless ``lit=False`` (for lamps and the like).
    """

    def __init__(self, size: int, light: Light, rng: np.random.Generator) -> None:
        self.light = light
        self.rng = rng
        self._n = size * OVERSAMPLING
        self._image = Image.new("RGB", (self._n, self._n))
        self._draw = ImageDraw.Draw(self._image)
        self._x, self._y, self._scale, self._facing = 0.0, 0.0, float(self._n), 1

    def at(self, x: float, y: float, scale: float, *, flip: bool = False) -> Canvas:
        """The same picture with the origin at (x, y), the unit ``scale``, perhaps mirrored."""
        spot = copy.copy(self)
        spot._x, spot._y = self._pixel(x, y)
        spot._scale = self._scale * scale
        spot._facing = -self._facing if flip else self._facing
        return spot

    def _pixel(self, x: float, y: float) -> Point:
        return self._x + self._facing * self._scale * x, self._y + self._scale * y

    def _rgb(self, color: Color, lit: bool) -> tuple[int, ...]:
        tint = self.light.tint if lit else (1, 1, 1)
        return tuple(int(255 * c * t) for c, t in zip(color, tint, strict=True))

    def fade(
        self, top: Color, bottom: Color, y0: float = 0.0, y1: float = 1.0, *, lit: bool = True
    ) -> None:
        """Fill a band across the whole picture with a gradient."""
        first, last = round(y0 * self._n), round(y1 * self._n)
        ends = np.array([self._rgb(top, lit), self._rgb(bottom, lit)], np.float32)
        share = np.linspace(0, 1, last - first, dtype=np.float32)[:, None, None]
        band = (ends[0] + (ends[1] - ends[0]) * share).astype(np.uint8)
        self._image.paste(Image.fromarray(np.repeat(band, self._n, axis=1)), (0, first))

    def shape(self, points: Points, color: Color, *, lit: bool = True) -> None:
        """Fill a polygon."""
        self._draw.polygon([self._pixel(x, y) for x, y in points], fill=self._rgb(color, lit))

    def below(self, line: Points, color: Color, *, lit: bool = True) -> None:
        """Fill everything below a line that runs from left to right."""
        self.shape([*line, (1.1, 1.1), (-0.1, 1.1)], color, lit=lit)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, color: Color, *, lit: bool = True
    ) -> None:
        """Fill a rectangle."""
        self.shape([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color, lit=lit)

    def oval(
        self, x: float, y: float, rx: float, ry: float, color: Color, *, lit: bool = True
    ) -> None:
        """Fill an ellipse."""
        x, y = self._pixel(x, y)
        rx, ry = rx * self._scale, ry * self._scale
        self._draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=self._rgb(color, lit))

    def disc(self, x: float, y: float, r: float, color: Color, *, lit: bool = True) -> None:
        """Fill a circle."""
        self.oval(x, y, r, r, color, lit=lit)

    def stroke(self, points: Points, color: Color, width: float, *, lit: bool = True) -> None:
        """Draw a line through points."""
        pixels = max(1, round(width * self._scale))
        path = [self._pixel(x, y) for x, y in points]
        self._draw.line(path, fill=self._rgb(color, lit), width=pixels, joint="curve")

    def pixels(self) -> NDArray[np.uint8]:
        """The picture, averaged down to its final size."""
        return np.asarray(self._image.reduce(OVERSAMPLING))
