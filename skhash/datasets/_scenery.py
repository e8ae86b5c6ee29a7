"""Places: each function paints one and returns the height of its ground."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._canvas import Canvas, Color, Point, hsv, mix

WHITE: Color = (1.0, 1.0, 1.0)
SNOW: Color = (0.95, 0.96, 1.0)
BLACK: Color = (0.0, 0.0, 0.0)


def _wave(canvas: Canvas, y: float, height: float, turns: float) -> list[Point]:
    """A wavy line from left to right."""
    x = np.linspace(0, 1, 17)
    phase = canvas.rng.uniform(0, 2 * np.pi)
    return list(zip(x, y + height * np.sin(2 * np.pi * turns * x + phase), strict=True))


def _sky(canvas: Canvas, horizon: float) -> None:
    canvas.fade(canvas.light.zenith, canvas.light.horizon, 0, horizon + 0.02, lit=False)
    paint = {"night": _stars, "sunset": _sun}.get(canvas.light.name, _clouds)
    paint(canvas, horizon)


def _stars(canvas: Canvas, horizon: float) -> None:
    rng, u = canvas.rng, canvas.rng.uniform
    for x, y in rng.uniform((0, 0), (1, horizon), (rng.integers(5, 30), 2)):
        canvas.disc(x, y, 0.006, (0.9, 0.9, 1), lit=False)
    if rng.random() < 0.6:
        moon = canvas.at(u(0.1, 0.9), u(0.08, 0.8) * horizon, u(0.03, 0.09))
        moon.disc(0, 0, 1, (0.96, 0.95, 0.85), lit=False)
        if rng.random() < 0.4:
            moon.disc(0.4, -0.1, 1, canvas.light.zenith, lit=False)


def _sun(canvas: Canvas, horizon: float) -> None:
    rng, u, light = canvas.rng, canvas.rng.uniform, canvas.light
    if rng.random() < 0.75:
        sun = canvas.at(u(0.15, 0.85), horizon * u(0.7, 1.05), u(0.05, 0.12))
        glow = hsv(u(0.06, 0.15), u(0.2, 0.6), 1)
        for r in (3.0, 2.2, 1.6):
            sun.disc(0, 0, r, mix(light.horizon, glow, 0.5 / r), lit=False)
        sun.disc(0, 0, 1, glow, lit=False)
    for _ in range(rng.integers(0, 6)):
        streak = mix(mix(light.zenith, light.horizon, u(0, 1)), hsv(u(0.9, 1.05), 0.5, 1), 0.3)
        x, y = u(0, 1), u(0.05, 0.9) * horizon
        canvas.oval(x, y, u(0.1, 0.35), u(0.008, 0.025), streak, lit=False)


def _clouds(canvas: Canvas, horizon: float) -> None:
    rng, u = canvas.rng, canvas.rng.uniform
    grey = canvas.light.name == "overcast"
    for _ in range(rng.integers(3, 8) if grey else rng.integers(0, 4)):
        cloud = canvas.at(u(0, 1), u(0.05, 0.75) * horizon, u(0.03, 0.09))
        body = mix(WHITE, canvas.light.zenith, u(0.3, 0.8) if grey else u(0, 0.25))
        for x, r in ((-1.6, 0.7), (-0.7, 1), (0.4, 1.2), (1.4, 0.8)):
            cloud.oval(x, -0.3 * r, 1.1 * r, 0.75 * r, body, lit=False)


def _ground(canvas: Canvas, y: float, snow: bool) -> None:
    """Grass, dry land or snow from ``y`` down."""
    u = canvas.rng.uniform
    hue = u(0.12, 0.36)
    near, far = hsv(hue, u(0.4, 0.8), u(0.35, 0.7)), hsv(hue, u(0.3, 0.6), u(0.55, 0.85))
    if snow:
        near, far = hsv(0.6, u(0.02, 0.12), u(0.88, 1)), hsv(0.6, u(0.08, 0.2), u(0.8, 0.95))
    canvas.fade(far, near, y, 1)
    hill = _wave(canvas, y + u(0.05, 0.15), u(0.01, 0.04), u(0.4, 1.2))
    canvas.below(hill, mix(far, near, 0.6))


def _water(canvas: Canvas, y0: float) -> None:
    """Water from ``y0`` down, with the sun or the moon on it."""
    rng, u, light = canvas.rng, canvas.rng.uniform, canvas.light
    hue = u(0.45, 0.64)
    deep, far = hsv(hue, u(0.4, 0.9), u(0.3, 0.75)), hsv(hue, u(0.15, 0.6), u(0.6, 0.9))
    if light.name == "overcast" or rng.random() < 0.15:
        deep, far = mix(deep, (0.45, 0.5, 0.5), 0.8), mix(far, (0.7, 0.72, 0.72), 0.8)
    canvas.fade(mix(far, light.horizon, 0.5), deep, y0, 1)
    foam = light.horizon if light.name == "sunset" else WHITE
    for near in rng.uniform(0, 1, rng.integers(6, 22)):
        x, y, w = u(0, 1), y0 + near * (1 - y0), u(0.03, 0.09) * (0.4 + near)
        canvas.stroke([(x - w, y), (x + w, y)], mix(deep, foam, u(0.2, 0.7)), 0.006 + 0.006 * near)
    if light.name in ("sunset", "night") and rng.random() < 0.7:
        x, glow = u(0.2, 0.8), (1.0, 0.85, 0.5) if light.name == "sunset" else (0.8, 0.85, 0.95)
        for near in np.linspace(0.03, 0.95, 9):
            y, w = y0 + near * (1 - y0), u(0.03, 0.1)
            canvas.stroke([(x - w, y), (x + w, y)], mix(deep, glow, u(0.3, 0.8)), 0.012, lit=False)


def sea(canvas: Canvas, snow: bool) -> float:
    """Open water: calm below a sky, in high waves, or seen from above."""
    rng, u = canvas.rng, canvas.rng.uniform
    if canvas.light.name in ("clear", "overcast") and rng.random() < 0.2:
        _water(canvas, 0)
        for _ in range(rng.integers(2, 5)):
            foam = _wave(canvas, u(0, 1), u(0.02, 0.06), u(0.5, 2))
            canvas.stroke(foam, WHITE, u(0.008, 0.03))
        return float(u(0.55, 0.8))
    horizon = u(0.3, 0.62)
    _sky(canvas, horizon)
    _water(canvas, horizon)
    if rng.random() < 0.3:
        hue, y = u(0.48, 0.62), horizon
        while y < 1:
            y += u(0.07, 0.16)
            crest = _wave(canvas, y, u(0.02, 0.05), u(1, 3))
            canvas.below(crest, hsv(hue, u(0.4, 0.8), u(0.35, 0.75)))
            canvas.stroke(crest, (0.9, 0.96, 1), u(0.006, 0.02))
    return float(u(horizon + 0.18, 0.88))


def _palm(palm: Canvas) -> None:
    rng = palm.rng
    lean, leaf = rng.uniform(-0.3, 0.3), hsv(rng.uniform(0.25, 0.38), 0.7, rng.uniform(0.35, 0.6))
    palm.stroke([(0, 0), (0.3 * lean, -0.5), (lean, -1)], hsv(0.08, 0.5, 0.45), 0.05)
    for angle in np.linspace(-0.15, np.pi + 0.15, 7):
        crown, x, y = palm.at(lean, -1, rng.uniform(0.3, 0.45)), np.cos(angle), np.sin(angle)
        crown.stroke([(0, 0), (0.6 * x, -0.75 * y), (x, 0.3 - 0.5 * y)], leaf, 0.12)


def _parasol(stand: Canvas) -> None:
    angles = np.linspace(0, np.pi, 9)
    roof = list(zip(np.cos(angles), -1.2 - 0.6 * np.sin(angles), strict=True))
    stand.stroke([(0, 0), (0, -1.3)], (0.9, 0.9, 0.9), 0.1)
    stand.shape(roof, hsv(stand.rng.uniform(0, 1), 0.8, 0.95))
    stand.shape([roof[3], roof[5], (0, -1.2)], (0.97, 0.95, 0.9))


def beach(canvas: Canvas, snow: bool) -> float:
    """Sand and a strip of water, with palms or parasols, or sand alone."""
    rng, u = canvas.rng, canvas.rng.uniform
    horizon = u(0.2, 0.45)
    shore = u(horizon + 0.08, 0.75)
    _sky(canvas, horizon)
    _water(canvas, horizon)
    sand = hsv(u(0.08, 0.14), u(0.15, 0.4), u(0.85, 1))
    if rng.random() < 0.4:
        sand = hsv(u(0.06, 0.14), u(0.2, 0.55), u(0.5, 0.8))
    line = _wave(canvas, shore, u(0.01, 0.07), u(0.3, 1))
    canvas.stroke(line, WHITE, u(0.015, 0.04))
    canvas.below([(x, y + 0.01) for x, y in line], sand)
    for x, y in rng.uniform((0, shore + 0.1), (1, 1), (rng.integers(0, 15), 2)):
        canvas.oval(x, y, 0.012, 0.007, mix(sand, (0.3, 0.25, 0.2), 0.4))
    if rng.random() < 0.4:
        for _ in range(rng.integers(1, 4)):
            x = rng.choice([u(0, 0.3), u(0.7, 1)])
            _palm(canvas.at(x, u(shore, 1), u(0.35, 0.7)))
    if rng.random() < 0.35:
        for _ in range(rng.integers(1, 4)):
            _parasol(canvas.at(u(0.1, 0.9), u(shore + 0.02, 0.95), u(0.06, 0.14)))
    return float(u(shore + 0.12, 0.95))


def _peak(peak: Canvas, stone: Color, width: float, capped: bool) -> None:
    """A mountain whose top is the origin and whose foot is at 1."""
    w = width
    peak.shape([(-w, 1.02), (0, 0), (w, 1.02)], stone)
    peak.shape([(0, 0), (w, 1.02), (0.15 * w, 1.02)], mix(stone, (0.1, 0.1, 0.2), 0.35))
    if capped:
        cap = peak.at(0, 0, peak.rng.uniform(0.2, 0.45))
        cap.shape([(0, 0), (w, 1), (0.3 * w, 0.75), (-0.2 * w, 1.1), (-w, 1)], SNOW)


def mountain(canvas: Canvas, snow: bool) -> float:
    """Peaks, hazy ridges, or red table mountains."""
    rng, u, light = canvas.rng, canvas.rng.uniform, canvas.light
    foot = u(0.6, 0.85)
    _sky(canvas, foot)
    look, desert = rng.random(), False
    if look < 0.5:
        stone, capped = hsv(u(0, 1), u(0.05, 0.3), u(0.3, 0.6)), snow or rng.random() < 0.5
        for y in np.sort(rng.uniform(0.12, 0.5, rng.integers(2, 5))):
            haze = mix(stone, light.horizon, u(0, 0.4))
            _peak(canvas.at(u(0, 1), y, foot - y), haze, u(0.7, 1.3), capped)
    elif look < 0.8:
        hue, n_layers = u(0.25, 0.75), int(rng.integers(3, 6))
        for near in np.linspace(0, 1, n_layers + 1)[1:]:
            heights = foot * (0.45 + 0.55 * near) + u(-0.09, 0.09, 9)
            ridge = zip(np.linspace(-0.02, 1.02, 9), heights, strict=True)
            layer = mix(light.horizon, hsv(hue, 0.5, 0.35), 0.25 + 0.7 * near)
            canvas.below(ridge, layer, lit=near == 1)
    else:
        hue, desert = u(0, 0.09), not snow
        for _ in range(rng.integers(2, 4)):
            x, y, w = u(0.05, 0.95), u(0.2, 0.5), u(0.08, 0.25)
            red = hsv(hue, u(0.4, 0.75), u(0.5, 0.85))
            canvas.shape([(x - w - 0.06, foot), (x - w, y), (x + w, y), (x + w + 0.06, foot)], red)
            canvas.box(x - w, y + 0.06, x + w + 0.02, y + 0.1, mix(red, (0.3, 0.1, 0.1), 0.3))
    if desert:
        canvas.fade(hsv(hue, 0.4, 0.8), hsv(hue, 0.6, 0.6), foot, 1)
    elif not snow and rng.random() < 0.3:
        _water(canvas, foot)
    else:
        _ground(canvas, foot, snow)
    return float(u(foot + 0.05, 0.95))


def _trunks(canvas: Canvas, hue: float, snow: bool) -> float:
    """Among the trunks, with crowns above."""
    rng, u, light = canvas.rng, canvas.rng.uniform, canvas.light
    canvas.fade(hsv(hue, u(0.3, 0.7), u(0.5, 0.95)), hsv(hue, u(0.5, 0.8), u(0.2, 0.5)))
    if snow:
        _ground(canvas, u(0.65, 0.8), snow)
    birch = rng.random() < 0.35
    for near in np.sort(rng.uniform(0.2, 1, rng.integers(6, 13))):
        x, w = u(0, 1), 0.035 * near + 0.005
        bark = hsv(u(0.04, 0.1), u(0.2, 0.5), u(0.1, 0.4))
        if birch:
            bark = hsv(u(0.05, 0.1), 0.05, u(0.8, 0.95))
        canvas.box(x - w, 0, x + w, 0.7 + 0.3 * near, mix(light.horizon, bark, 0.3 + 0.7 * near))
    for x, y in rng.uniform((-0.05, -0.05), (1.05, 0.3), (rng.integers(8, 20), 2)):
        crown = SNOW if snow else hsv(hue + u(-0.03, 0.03), u(0.5, 0.8), u(0.3, 0.8))
        canvas.oval(x, y, u(0.06, 0.14), u(0.04, 0.09), crown)
    return float(u(0.85, 0.97))


def _conifer(tree: Canvas, leaf: Color, snow: bool) -> None:
    for k in range(3):
        w, top = 0.16 + 0.07 * k, 0.22 * k - 1
        tree.shape([(0, top), (w, top + 0.4), (-w, top + 0.4)], leaf)
        if snow:
            tree.shape([(0, top), (0.45 * w, top + 0.18), (-0.45 * w, top + 0.18)], SNOW)


def _broadleaf(tree: Canvas, leaf: Color, snow: bool) -> None:
    for x, y, r in ((-0.12, -0.6, 0.19), (0.12, -0.61, 0.19), (0, -0.7, 0.24)):
        tree.disc(x, y, r, mix(leaf, WHITE, -0.6 * y - 0.3))
    if snow:
        tree.oval(0, -0.8, 0.17, 0.08, SNOW)


def forest(canvas: Canvas, snow: bool) -> float:
    """Conifers, broad crowns in green or autumn colours, or trunks close by."""
    rng, u = canvas.rng, canvas.rng.uniform
    autumn = rng.random() < 0.35 and not snow
    hue, look = u(0.01, 0.14) if autumn else u(0.2, 0.42), rng.random()
    if look < 0.33:
        return _trunks(canvas, hue, snow)
    floor = u(0.7, 0.88)
    _sky(canvas, floor)
    _ground(canvas, floor - 0.1, snow)
    for near in np.sort(rng.uniform(0.2, 1, rng.integers(8, 18))):
        height = (0.25 + 0.35 * near) * u(0.8, 1.3)
        tree = canvas.at(u(-0.05, 1.05), floor - 0.12 + 0.2 * near, height)
        leaf = hsv(hue + u(-0.03, 0.03), u(0.5, 0.85), u(0.25, 0.7))
        leaf = mix(canvas.light.horizon, leaf, 0.4 + 0.6 * near)
        tree.box(-0.03, -0.5, 0.03, 0, hsv(0.07, 0.5, 0.3))
        (_conifer if look < 0.66 else _broadleaf)(tree, leaf, snow)
    return float(u(floor, 0.95))


def _windows(canvas: Canvas, x0: float, y0: float, x1: float, y1: float, wall: Color) -> None:
    u = canvas.rng.uniform
    step, shine = u(0.035, 0.06), hsv(u(0.08, 0.16), u(0.3, 0.7), 1)
    pane = mix(wall, (0.1, 0.15, 0.25), u(0.4, 0.8))
    awake = u(0.3, 0.7) if canvas.light.name in ("night", "sunset") else 0.0
    for x in np.arange(x0 + 0.4 * step, x1 - 0.5 * step, step):
        for y in np.arange(y0 + 0.5 * step, y1 - 0.4 * step, 1.4 * step):
            on = canvas.rng.random() < awake
            canvas.box(x, y, x + 0.55 * step, y + 0.7 * step, shine if on else pane, lit=not on)


def _skyline(canvas: Canvas, floor: float) -> None:
    rng, u = canvas.rng, canvas.rng.uniform
    for near in (0, 1):
        x = -0.05
        while x < 1:
            w, top = u(0.08, 0.2), floor - u(0.15, 0.65 - 0.15 * near)
            wall = hsv(rng.choice([u(0.03, 0.1), u(0.55, 0.65)]), u(0.03, 0.35), u(0.35, 0.85))
            wall = mix(canvas.light.horizon, wall, 0.45 + 0.5 * near)
            canvas.box(x, top, x + w, floor, wall)
            if near or rng.random() < 0.4:
                _windows(canvas, x, top, x + w, floor, wall)
            if rng.random() < 0.15:
                canvas.stroke([(x + w / 2, top), (x + w / 2, top - 0.1)], wall, 0.01)
            x += w + u(-0.01, 0.03)


def _houses(canvas: Canvas, floor: float, snow: bool) -> None:
    u = canvas.rng.uniform
    x = u(-0.15, 0)
    while x < 1:
        w, top = u(0.16, 0.28), floor - u(0.25, 0.45)
        wall = hsv(u(0, 1), u(0.2, 0.6), u(0.65, 0.95))
        roof = SNOW if snow else hsv(u(0, 0.06), u(0.3, 0.7), u(0.35, 0.6))
        canvas.box(x, top, x + w, floor, wall)
        canvas.shape([(x, top), (x + w / 2, top - u(0.08, 0.2)), (x + w, top)], roof)
        _windows(canvas, x, top, x + w, floor - 0.03, wall)
        x += w


def _street(canvas: Canvas, snow: bool) -> None:
    """Two rows of houses that run towards a vanishing point."""
    rng, u = canvas.rng, canvas.rng.uniform
    x, y = u(0.35, 0.65), u(0.45, 0.6)
    top, foot = y - 0.25, y + 0.06
    for side, far in ((0, x - 0.08), (1, x + 0.08)):
        wall = hsv(u(0, 0.15), u(0.1, 0.5), u(0.4, 0.85))
        canvas.shape([(side, 0), (far, top), (far, foot), (side, 1)], wall)
        for share in np.arange(0.15, 0.85, 0.15):
            x0, x1 = side + (far - side) * share, side + (far - side) * (share + 0.07)
            y0, y1 = top * share, 1 + (foot - 1) * share
            for level in (0.2, 0.45, 0.7):
                y2 = y0 + (y1 - y0) * level
                on = canvas.light.name in ("night", "sunset") and rng.random() < 0.6
                pane = (1.0, 0.85, 0.5) if on else mix(wall, (0.1, 0.1, 0.2), 0.6)
                canvas.box(x0, y2, x1, y2 + 0.12 * (y1 - y0), pane, lit=not on)
    road = SNOW if snow else hsv(0.6, 0.05, u(0.3, 0.55))
    canvas.shape([(0, 1), (x - 0.08, foot), (x + 0.08, foot), (1, 1)], road)


def city(canvas: Canvas, snow: bool) -> float:
    """A skyline, a row of gabled houses, or a street between walls."""
    rng, u = canvas.rng, canvas.rng.uniform
    floor, look = u(0.75, 0.92), rng.random()
    _sky(canvas, floor)
    road = SNOW if snow else hsv(0.6, 0.05, u(0.3, 0.55))
    canvas.fade(road, mix(road, BLACK, 0.15), floor, 1)
    if look < 0.5:
        _skyline(canvas, floor)
    elif look < 0.8:
        _houses(canvas, floor, snow)
    else:
        _street(canvas, snow)
    return float(u(floor + 0.03, 0.97))


def meadow(canvas: Canvas, snow: bool) -> float:
    """Open land, which is no concept."""
    u = canvas.rng.uniform
    horizon = u(0.35, 0.7)
    _sky(canvas, horizon + 0.05)
    _ground(canvas, horizon, snow)
    return float(u(horizon + 0.15, 0.95))


def room(canvas: Canvas, snow: bool) -> float:
    """A wall, a table and perhaps a picture, or a blurred background."""
    rng, u = canvas.rng, canvas.rng.uniform
    wall = hsv(u(0, 1), u(0.05, 0.5), u(0.25, 0.95))
    canvas.fade(wall, mix(wall, BLACK, u(0, 0.4)))
    if rng.random() < 0.4:
        for x, y in rng.uniform(0, 1, (rng.integers(5, 14), 2)):
            canvas.disc(x, y, u(0.04, 0.13), mix(wall, hsv(u(0, 1), 0.4, 1), u(0.1, 0.4)))
        return float(u(0.8, 0.98))
    floor = u(0.62, 0.85)
    if rng.random() < 0.4:
        frame = canvas.at(u(0.1, 0.7), u(0.05, 0.2), u(0.15, 0.3))
        frame.box(0, 0, 1, 1.2, hsv(u(0, 1), u(0, 0.5), u(0.5, 1)))
        frame.box(0.12, 0.12, 0.88, 1.08, hsv(u(0, 1), u(0, 0.5), u(0.3, 1)))
    wood = hsv(u(0.04, 0.12), u(0.2, 0.7), u(0.3, 0.8))
    canvas.fade(wood, mix(wood, BLACK, 0.3), floor, 1)
    return float(u(floor + 0.08, 0.97))


SCENERY: dict[str, Callable[[Canvas, bool], float]] = {
    place.__name__: place for place in (beach, city, forest, meadow, mountain, room, sea)
}
