"""Things in a picture.

Each function paints one thing on a canvas. The origin is the place of the thing, and the unit is
about its height. Things that fill the picture (a face, a plate) use the whole picture too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._canvas import Canvas, Color, hsv, mix

DARK: Color = (0.08, 0.07, 0.08)
WHITE: Color = (0.97, 0.97, 0.95)
WOOD = hsv(0.08, 0.55, 0.38)


def _coat(rng: np.random.Generator) -> Color:
    """Black, grey, white, ginger or brown: the same coats for cats and dogs."""
    if rng.random() < 0.5:
        return hsv(0.08, rng.uniform(0, 0.12), rng.choice([0.15, 0.5, 0.9]))
    return hsv(rng.uniform(0.05, 0.1), rng.uniform(0.4, 0.8), rng.uniform(0.35, 0.9))


def _close_up(canvas: Canvas, low: float, high: float) -> Canvas:
    """A spot near the middle of the picture, with a unit between low and high."""
    u = canvas.rng.uniform
    return canvas.at(u(0.35, 0.65), u(0.4, 0.6), u(low, high))


def _eyes(head: Canvas, x: float, y: float, iris: Color) -> None:
    for side in (-x, x):
        head.disc(side, y, 0.19, iris)
        head.oval(side, y, 0.1, 0.16, DARK)


def _cat_head(head: Canvas, coat: Color) -> None:
    for side in (-1, 1):
        head.shape([(0.2 * side, -0.7), (0.95 * side, -0.25), (0.85 * side, -1.45)], coat)
        inner = [(0.45 * side, -0.75), (0.8 * side, -0.5), (0.8 * side, -1.15)]
        head.shape(inner, hsv(0.97, 0.3, 0.85))
    head.oval(0, 0, 1, 0.88, coat)
    _eyes(head, 0.42, -0.1, hsv(head.rng.uniform(0.12, 0.5), 0.7, 0.85))
    head.oval(0, 0.35, 0.35, 0.22, mix(coat, WHITE, 0.5))
    head.shape([(-0.12, 0.18), (0.12, 0.18), (0, 0.34)], hsv(0.97, 0.4, 0.8))
    for side in (-1, 1):
        head.stroke([(0.35 * side, 0.25), (1.2 * side, 0.2)], WHITE, 0.03)
        head.stroke([(0.35 * side, 0.42), (1.2 * side, 0.45)], WHITE, 0.03)


def cat(picture: Canvas, spot: Canvas) -> None:
    """A cat's face, one that sits, or one that lies."""
    coat = _coat(spot.rng)
    shade = mix(coat, DARK, 0.25)
    look = spot.rng.random()
    if look < 0.35:
        _cat_head(_close_up(picture, 0.18, 0.38), coat)
    elif look < 0.75:
        spot.stroke([(0.2, -0.05), (0.5, -0.1), (0.5, -0.45)], shade, 0.07)
        spot.oval(0, -0.32, 0.27, 0.36, coat)
        spot.oval(-0.11, -0.03, 0.09, 0.05, shade)
        spot.oval(0.11, -0.03, 0.09, 0.05, shade)
        _cat_head(spot.at(0, -0.75, 0.24), coat)
    else:
        spot.oval(0, -0.2, 0.5, 0.2, coat)
        spot.stroke([(-0.4, -0.1), (-0.75, -0.15)], shade, 0.06)
        _cat_head(spot.at(0.4, -0.38, 0.2), coat)


def _dog_head(head: Canvas, coat: Color) -> None:
    ear = mix(coat, DARK, head.rng.uniform(0.15, 0.6))
    head.oval(0, 0, 0.85, 0.95, coat)
    head.oval(-0.85, 0.05, 0.28, 0.7, ear)
    head.oval(0.85, 0.05, 0.28, 0.7, ear)
    _eyes(head, 0.34, -0.18, hsv(0.07, 0.6, 0.4))
    head.oval(0, 0.45, 0.45, 0.4, mix(coat, WHITE, 0.45))
    head.oval(0, 0.25, 0.18, 0.13, DARK)
    if head.rng.random() < 0.5:
        head.oval(0, 0.8, 0.13, 0.2, hsv(0.97, 0.55, 0.9))


def dog(picture: Canvas, spot: Canvas) -> None:
    """A dog's face, one that sits, or one that stands."""
    coat = _coat(spot.rng)
    shade = mix(coat, DARK, 0.25)
    look = spot.rng.random()
    if look < 0.35:
        _dog_head(_close_up(picture, 0.18, 0.38), coat)
    elif look < 0.65:
        spot.stroke([(0.2, -0.1), (0.45, -0.25)], shade, 0.07)
        spot.oval(0, -0.3, 0.25, 0.35, coat)
        spot.box(-0.18, -0.3, -0.06, 0, shade)
        spot.box(0.06, -0.3, 0.18, 0, shade)
        _dog_head(spot.at(0, -0.72, 0.25), coat)
    else:
        for x in (-0.36, -0.24, 0.22, 0.34):
            spot.box(x - 0.05, -0.35, x + 0.05, 0, shade)
        spot.stroke([(-0.4, -0.5), (-0.6, -0.75)], coat, 0.07)
        spot.oval(0, -0.45, 0.46, 0.17, coat)
        _dog_head(spot.at(0.47, -0.68, 0.2), coat)


def bird(picture: Canvas, spot: Canvas) -> None:
    """A flock in the air, a bird that perches, or one that swims."""
    rng, u = spot.rng, spot.rng.uniform
    look = rng.random()
    if look < 0.35:
        ink = DARK if rng.random() < 0.5 else WHITE
        for _ in range(rng.integers(3, 11)):
            far = picture.at(u(0.05, 0.95), u(0.05, 0.5), u(0.03, 0.09))
            tilt = u(-0.3, 0.3)
            wings = [(-1, -0.5 - tilt), (-0.4, -0.45), (0, 0), (0.4, -0.45), (1, tilt - 0.5)]
            far.stroke(wings, ink, 0.25)
        return
    plumage = hsv(u(0, 1), rng.choice([0.05, u(0.4, 0.9)]), u(0.3, 0.95))
    wing = mix(plumage, DARK if rng.random() < 0.7 else WHITE, 0.35)
    if look < 0.7:
        branch, lean = 0.06, u(-0.1, 0.1)
        spot.stroke([(-0.05, -0.3), (-0.05, branch)], WOOD, 0.03)
        spot.stroke([(0.07, -0.3), (0.07, branch)], WOOD, 0.03)
        spot.stroke([(-3, branch - lean), (3, branch + lean)], WOOD, 0.06)
        spot.shape([(-0.2, -0.35), (-0.75, -0.15), (-0.7, -0.02), (-0.15, -0.15)], wing)
        head = spot.at(0.26, -0.65, 0.17)
    else:
        spot.shape([(-0.25, -0.4), (-0.6, -0.55), (-0.5, -0.25)], wing)
        spot.stroke([(0.25, -0.3), (0.38, -0.75)], plumage, 0.13)
        head = spot.at(0.38, -0.75, 0.17)
    spot.oval(0, -0.3, 0.36, 0.25, plumage)
    spot.oval(-0.06, -0.3, 0.22, 0.14, wing)
    head.disc(0, 0, 1, plumage)
    head.shape([(0.7, -0.35), (2.2, 0.1), (0.7, 0.45)], hsv(u(0.06, 0.14), 0.85, 0.95))
    head.disc(0.35, -0.18, 0.2, DARK)


def _blossom(middle: Canvas, petal: Color, heart: Color, n_petals: int) -> None:
    turn = middle.rng.uniform(0, 2 * np.pi)
    for k, angle in enumerate(turn + np.linspace(0, 2 * np.pi, n_petals, endpoint=False)):
        shade = mix(petal, WHITE, 0.15 * (k % 2))
        middle.disc(0.6 * np.cos(angle), 0.6 * np.sin(angle), 0.42, shade)
    middle.disc(0, 0, 0.33, heart)


def flower(picture: Canvas, spot: Canvas) -> None:
    """A blossom close by, a bunch, or a field of them."""
    rng, u = spot.rng, spot.rng.uniform
    hue = rng.choice([u(-0.12, 0.05), u(0.1, 0.17), u(0.68, 0.85)])
    petal, heart = hsv(hue, u(0.1, 0.9), u(0.8, 1)), hsv(u(0.08, 0.16), u(0.6, 0.9), u(0.4, 0.95))
    n_petals, green = int(rng.integers(5, 13)), hsv(u(0.22, 0.38), u(0.5, 0.8), u(0.3, 0.65))
    look = rng.random()
    if look < 0.4:
        middle = _close_up(picture, 0.28, 0.5)
        middle.stroke([(0, 0), (u(-0.3, 0.3), 2.5)], green, 0.1)
        _blossom(middle, petal, heart, n_petals)
    elif look < 0.7:
        for _ in range(rng.integers(2, 6)):
            x, y = u(-0.65, 0.65), u(-1.2, -0.35)
            spot.stroke([(x, y), (0.3 * x, 0)], green, 0.05)
            spot.oval(0.6 * x + 0.1, 0.5 * y, 0.12, 0.05, green)
            _blossom(spot.at(x, y, u(0.2, 0.35)), petal, heart, n_petals)
        if rng.random() < 0.5:
            pot = [(-0.25, -0.2), (0.25, -0.2), (0.17, 0.2), (-0.17, 0.2)]
            spot.shape(pot, hsv(u(0, 1), u(0.1, 0.7), u(0.4, 0.9)))
    else:
        for near in np.sort(rng.uniform(0, 1, rng.integers(14, 40))):
            one = picture.at(u(0, 1), 0.55 + 0.5 * near, 0.018 + 0.045 * near)
            one.stroke([(0, 0), (0, 2)], green, 0.3)
            _blossom(one, petal, heart, 5)


def car(picture: Canvas, spot: Canvas) -> None:
    """A car from the side or from the front."""
    rng, u = spot.rng, spot.rng.uniform
    paint = hsv(u(0, 1), u(0.5, 0.9), u(0.4, 0.95))
    if rng.random() < 0.4:
        paint = hsv(0.6, 0.05, rng.choice([0.15, 0.6, 0.95]))
    glass, lamp = (0.65, 0.8, 0.9), (1.0, 0.95, 0.75)
    dark = spot.light.name == "night"
    if rng.random() < 0.65:
        roof = -0.3 - u(0.17, 0.25)
        spot.oval(0, 0, 0.6, 0.05, mix(DARK, paint, 0.1))
        spot.shape([(-0.35, -0.3), (-0.24, roof), (0.13, roof), (0.32, -0.3)], paint)
        rim = roof + 0.04
        spot.shape([(-0.29, -0.3), (-0.21, rim), (-0.06, rim), (-0.06, -0.3)], glass)
        spot.shape([(-0.02, -0.3), (-0.02, rim), (0.11, rim), (0.25, -0.3)], glass)
        spot.box(-0.62, -0.31, 0.62, -0.08, paint)
        spot.disc(0.58, -0.22, 0.05, lamp, lit=not dark)
        for x in (-0.37, 0.37):
            spot.disc(x, -0.08, 0.14, DARK)
            spot.disc(x, -0.08, 0.07, (0.75, 0.75, 0.78))
    else:
        for side in (-0.29, 0.29):
            spot.box(side - 0.07, -0.15, side + 0.07, 0.02, DARK)
        spot.shape([(-0.32, -0.38), (-0.21, -0.68), (0.21, -0.68), (0.32, -0.38)], paint)
        spot.shape([(-0.26, -0.4), (-0.18, -0.63), (0.18, -0.63), (0.26, -0.4)], glass)
        spot.box(-0.42, -0.4, 0.42, -0.08, paint)
        spot.box(-0.17, -0.28, 0.17, -0.17, mix(paint, DARK, 0.75))
        for side in (-0.3, 0.3):
            spot.oval(side, -0.26, 0.08, 0.07, lamp, lit=not dark)


def boat(picture: Canvas, spot: Canvas) -> None:
    """A sailing boat or a steamer."""
    rng, u = spot.rng, spot.rng.uniform
    if rng.random() < 0.6:
        sail = mix(WHITE, hsv(u(0, 1), 0.8, 0.95), rng.choice([0, 0, 0.8]))
        spot.stroke([(0, 0), (0, -0.95)], WOOD, 0.04)
        spot.shape([(0.04, -0.95), (0.04, -0.16), (0.4, -0.16)], sail)
        spot.shape([(-0.04, -0.8), (-0.04, -0.16), (-0.3, -0.16)], mix(sail, DARK, 0.12))
    else:
        spot.box(-0.3, -0.32, 0.2, -0.1, WHITE)
        for x in (-0.22, -0.1, 0.02):
            spot.disc(x, -0.22, 0.035, (0.2, 0.3, 0.45))
        spot.box(-0.05, -0.52, 0.08, -0.32, hsv(u(0, 1), 0.7, 0.8))
    hull = hsv(u(0, 1), u(0, 0.8), u(0.2, 0.95))
    spot.shape([(-0.5, -0.16), (0.5, -0.16), (0.35, 0), (-0.38, 0)], hull)
    spot.stroke([(-0.47, -0.13), (0.47, -0.13)], WHITE, 0.03)
    spot.stroke([(-0.5, 0.02), (0.5, 0.02)], (0.9, 0.95, 1), 0.03)


def _skin(rng: np.random.Generator) -> Color:
    return hsv(rng.uniform(0.04, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.4, 0.98))


def people(picture: Canvas, spot: Canvas) -> None:
    """A portrait, or figures that stand."""
    rng, u = spot.rng, spot.rng.uniform
    if rng.random() < 0.5:
        face, skin = _close_up(picture, 0.17, 0.26), _skin(rng)
        hair = hsv(u(0.02, 0.13), u(0.2, 0.8), u(0.05, 0.85))
        shirt = hsv(u(0, 1), u(0.1, 0.9), u(0.2, 0.95))
        if rng.random() < 0.5:
            face.oval(0, 0.25, 1.25, 1.6, hair)
        face.oval(0, 3.1, 2, 1.75, shirt)
        face.box(-0.35, 0.7, 0.35, 1.5, mix(skin, DARK, 0.15))
        face.oval(0, -0.15, 1.07, 1.2, hair)
        face.oval(0, 0.1, 0.88, 1.1, skin)
        for side in (-1, 1):
            face.oval(0.36 * side, 0, 0.1, 0.13, DARK)
            face.oval(0.5 * side, 0.42, 0.17, 0.12, mix(skin, (0.95, 0.45, 0.4), 0.3))
        smile = np.linspace(0.1, np.pi - 0.1, 9)
        mouth = zip(0.36 * np.cos(smile), 0.45 + 0.3 * np.sin(smile), strict=True)
        face.shape(mouth, hsv(u(-0.03, 0.02), u(0.4, 0.7), u(0.5, 0.85)))
        return
    for _ in range(rng.integers(1, 5)):
        one, skin = spot.at(u(-0.7, 0.7), 0, u(0.7, 1.1)), _skin(rng)
        legs = hsv(u(0.5, 0.7), u(0.1, 0.7), u(0.15, 0.6))
        shirt = hsv(u(0, 1), u(0.2, 0.9), u(0.2, 0.95))
        for side in (-1, 1):
            one.stroke([(0.03 * side, -0.45), (u(0.03, 0.1) * side, 0)], legs, 0.08)
            one.stroke([(0.1 * side, -0.76), (u(0.12, 0.28) * side, u(-0.8, -0.4))], skin, 0.05)
        one.shape([(-0.12, -0.8), (0.12, -0.8), (0.09, -0.4), (-0.09, -0.4)], shirt)
        one.oval(0, -0.9, 0.085, 0.1, skin)
        one.oval(0, -0.95, 0.09, 0.065, hsv(0.08, 0.5, u(0.05, 0.7)))


def food(picture: Canvas, spot: Canvas) -> None:
    """A plate from above, a slice of cake, or a bowl of fruit."""
    rng, u = spot.rng, spot.rng.uniform
    look = rng.random()
    if look < 0.45:
        dish, plate = _close_up(picture, 0.3, 0.45), hsv(u(0, 1), u(0, 0.3), u(0.8, 1))
        dish.disc(0, 0.05, 1.03, (0.25, 0.22, 0.2))
        dish.disc(0, 0, 1, plate)
        dish.disc(0, 0, 0.75, mix(plate, DARK, 0.08))
        for _ in range(rng.integers(4, 11)):
            angle, r, hue = u(0, 2 * np.pi), u(0, 0.45), rng.choice([u(-0.02, 0.12), u(0.2, 0.33)])
            bite = hsv(hue, u(0.4, 0.9), u(0.4, 0.95))
            dish.oval(r * np.cos(angle), r * np.sin(angle), u(0.1, 0.3), u(0.1, 0.25), bite)
    elif look < 0.72:
        sponge = hsv(u(0.05, 0.12), u(0.3, 0.7), u(0.4, 0.95))
        cream = hsv(u(-0.1, 0.12), u(0.05, 0.5), u(0.85, 1))
        spot.oval(0, 0, 0.72, 0.12, WHITE)
        for k, layer in enumerate((sponge, cream, sponge, cream)):
            spot.box(-0.6, -0.105 * (k + 1), 0.6, -0.105 * k, layer)
        spot.shape([(-0.6, -0.42), (-0.18, -0.57), (0.6, -0.42)], mix(cream, DARK, 0.08))
        spot.disc(0.06, -0.55, 0.1, hsv(0.98, 0.85, 0.85))
    else:
        for x, y in ((-0.3, -0.3), (0, -0.36), (0.3, -0.3), (-0.15, -0.5), (0.17, -0.5)):
            hue = rng.choice([u(-0.02, 0.03), u(0.07, 0.16), u(0.22, 0.3)])
            fruit = spot.at(x, y, u(0.13, 0.19))
            fruit.disc(0, 0, 1, hsv(hue, u(0.6, 0.95), u(0.6, 0.95)))
            fruit.disc(-0.3, -0.3, 0.25, WHITE)
        rim = np.linspace(0, np.pi, 11)
        bowl = zip(0.6 * np.cos(rim), 0.34 * np.sin(rim) - 0.3, strict=True)
        spot.shape(bowl, hsv(u(0, 1), u(0.05, 0.6), u(0.4, 0.95)))


SUBJECTS: dict[str, Callable[[Canvas, Canvas], None]] = {
    thing.__name__: thing for thing in (bird, boat, car, cat, dog, flower, food, people)
}
