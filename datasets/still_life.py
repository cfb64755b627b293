"""The solids of the built-in scene, their colours and their light: a still life on a round plinth.

Everything lies within the ball of radius 1 around the origin; z is up. Colours here are linear
light until `colours` turns them into sRGB. Points are [3, N] as in `raycast`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from polyfield.datasets.raycast import (
    Ball,
    Cylinder,
    Hits,
    Points,
    RoundedBox,
    Solid,
    Torus,
    Values,
    dot,
    shade_of,
)

__all__ = ["SOLIDS", "Finish", "colours", "distance"]


@dataclass(frozen=True)
class Finish:
    """How a surface looks.

    Attributes:
        paint: Linear colour [3, N] of points in the solid's own coordinates.
        gloss: Reflectance seen head-on, 0 .. 1; more at grazing angles (Schlick 1994).
        sharpness: Exponent of the highlight.
        metal: Share of the reflection that takes the colour of the paint.
    """

    paint: Callable[[Points], Points]
    gloss: float
    sharpness: float
    metal: float = 0.0


def _rgb(*srgb: float) -> Float[np.ndarray, "3 1"]:
    """A linear colour from its sRGB values in 0 .. 255."""
    result: np.ndarray = (np.array(srgb, dtype=np.float32)[:, None] / 255) ** np.float32(2.2)
    return result


def _mixed(a: Float[np.ndarray, "3 1"], b: Float[np.ndarray, "3 1"], share: Values) -> Points:
    mixed: Points = a + (b - a) * share
    return mixed


def _edge(x: Values, width: float) -> Values:
    """0 to 1 around x = 0, over `width`: a stripe's edge that no pixel can alias."""
    s: Values = np.clip(x / np.float32(width) + 0.5, 0, 1)
    smooth: Values = s * s * (3 - 2 * s)
    return smooth


def _plain(colour: Float[np.ndarray, "3 1"]) -> Callable[[Points], Points]:
    return lambda p: np.broadcast_to(colour, p.shape)


def _floor(p: Points) -> Points:
    """Rings of tiles, ten a turn and shifted from ring to ring; a plain rim."""
    radius = np.sqrt(p[0] ** 2 + p[1] ** 2)
    turn = np.arctan2(p[1], p[0]) * np.float32(10 / np.pi)
    tiles = np.sin(turn * np.float32(np.pi)) * np.sin(radius * np.float32(np.pi / 0.14))
    grain = (
        0.5
        + 0.25 * np.sin(19 * p[0] + 3 * np.sin(13 * p[1]))
        + 0.25 * np.sin(23 * p[1] + 3 * np.sin(17 * p[0]))
    )
    light = _mixed(_rgb(231, 219, 196), _rgb(214, 199, 172), grain)
    dark = _mixed(_rgb(88, 110, 138), _rgb(70, 90, 118), grain)
    tiled = light + (dark - light) * _edge(tiles, 0.12)
    rim = _edge(radius - 0.84, 0.02) + _edge(-0.035 - p[2], 0.01)
    painted: Points = tiled + (_rgb(62, 54, 52) - tiled) * np.clip(rim, 0, 1)
    return painted


def _swirl(p: Points) -> Points:
    """Seven stripes from pole to pole, twisted."""
    wave = np.sin(np.arctan2(p[1], p[0]) * 7 + p[2] * 9)
    return _mixed(_rgb(206, 52, 44), _rgb(244, 232, 214), _edge(wave, 0.25))


def _checker(p: Points) -> Points:
    wave = np.sin(p[0] * 22.4) * np.sin(p[1] * 22.4) * np.sin(p[2] * 22.4)
    return _mixed(_rgb(26, 128, 124), _rgb(233, 229, 212), _edge(wave, 0.08))


def _marble(p: Points) -> Points:
    vein = np.sin(p[2] * 11 + 2.2 * np.sin(p[0] * 21 + 1.7) + 2.2 * np.sin(p[1] * 19 + p[2] * 6))
    return _mixed(_rgb(236, 234, 228), _rgb(120, 124, 136), np.clip(np.abs(vein) * -3 + 1, 0, 1))


def _bands(p: Points) -> Points:
    return _mixed(_rgb(238, 178, 40), _rgb(60, 44, 74), _edge(np.sin(p[2] * 52 + 0.4), 0.3))


def _dots(p: Points) -> Points:
    wave = np.sin(p[0] * 42) * np.sin(p[1] * 42) * np.sin(p[2] * 42)
    return _mixed(_rgb(58, 92, 190), _rgb(236, 236, 240), _edge(np.abs(wave) - 0.35, 0.12))


def _turned(about_z: float, tilt: float = 0.0) -> Float[np.ndarray, "3 3"]:
    """A rotation: tilt about x, then a turn about z; degrees."""
    a, b = np.radians([about_z, tilt])
    z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    turned: np.ndarray = (z @ x).astype(np.float32)
    return turned


_TOP = -0.48  # the height on which things stand

_THINGS: tuple[tuple[Solid, Finish], ...] = (
    (Solid(Cylinder(0.88, 0.05, 0.015), (0, 0, _TOP - 0.05)), Finish(_floor, 0.03, 40)),
    (
        Solid(Ball(0.3), (0.36, 0.2, _TOP + 0.3), _turned(20, 35)),
        Finish(_swirl, 0.05, 90),
    ),
    (
        Solid(RoundedBox((0.21, 0.21, 0.21), 0.03), (-0.42, 0.08, _TOP + 0.21), _turned(28)),
        Finish(_checker, 0.03, 40),
    ),
    (Solid(Ball(0.12), (-0.42, 0.08, _TOP + 0.54), _turned(0, 25)), Finish(_bands, 0.05, 90)),
    (
        Solid(Torus(0.2, 0.07), (-0.02, -0.46, _TOP + 0.27), _turned(-24, 90)),
        Finish(_plain(_rgb(226, 164, 62)), 0.5, 60, metal=1.0),
    ),
    (
        Solid(Cylinder(0.12, 0.36, 0.02), (-0.06, 0.55, _TOP + 0.36)),
        Finish(_marble, 0.04, 60),
    ),
    (Solid(Ball(0.15), (-0.06, 0.55, _TOP + 0.87), _turned(10, 20)), Finish(_dots, 0.06, 120)),
    (
        Solid(Ball(0.09), (0.52, -0.36, _TOP + 0.09)),
        Finish(_plain(_rgb(120, 124, 130)), 0.6, 150, metal=0.8),
    ),
    (Solid(Ball(0.065), (0.36, -0.56, _TOP + 0.065)), Finish(_plain(_rgb(54, 150, 82)), 0.05, 90)),
    (Solid(Ball(0.075), (-0.46, -0.5, _TOP + 0.075)), Finish(_plain(_rgb(226, 108, 44)), 0.05, 90)),
    (Solid(Ball(0.05), (-0.6, -0.34, _TOP + 0.05)), Finish(_plain(_rgb(148, 72, 156)), 0.05, 90)),
)

SOLIDS: tuple[Solid, ...] = tuple(solid for solid, _ in _THINGS)
"""All solids; they touch where they stand on each other and nowhere overlap."""

_SUN = np.array([[0.42], [-0.5], [0.76]], dtype=np.float32)
_SUN /= np.linalg.norm(_SUN)


def distance(p: Points) -> Values:
    """Signed distance to the nearest solid, world units, negative inside."""
    nearest = SOLIDS[0].distance(p)
    for solid in SOLIDS[1:]:
        np.minimum(nearest, solid.distance(p), out=nearest)
    return nearest


def colours(hits: Hits, p: Points, directions: Points) -> Points:
    """Shade points that rays have met; sRGB in [0, 1].

    Args:
        hits: Of the rays, all of which met something.
        p: Where.
        directions: Of the rays.
    """
    n, paint = np.empty_like(p), np.empty_like(p)
    gloss, sharpness, metal = (np.empty_like(hits.t) for _ in range(3))
    for number, (solid, finish) in enumerate(_THINGS):
        at = np.flatnonzero(hits.solid == number)
        if at.size:
            n[:, at] = solid.normal(p[:, at])
            paint[:, at] = finish.paint(solid.local(p[:, at]))
            gloss[at], sharpness[at], metal[at] = finish.gloss, finish.sharpness, finish.metal
    open_sky = _openness(hits, p, n)
    facing = np.maximum(dot(n, _SUN), 0)
    sun = facing * _sunlight(hits, p, facing)
    sky = (0.5 + 0.5 * n[2]) * open_sky
    bounce = (0.5 - 0.5 * n[2]) * open_sky
    white, warm = _rgb(255, 246, 230), _rgb(176, 150, 120)
    light = 0.62 * _rgb(206, 222, 255) * sky + 0.35 * warm * bounce + 0.95 * white * sun

    towards = -dot(directions, n)
    mirror = directions + 2 * towards * n
    shine = gloss + (1 - gloss) * np.clip(1 - towards, 0, 1) ** 5 * np.minimum(gloss * 8, 1)
    around = _mixed(_rgb(104, 96, 92), _rgb(226, 236, 255), _edge(mirror[2], 0.9)) * open_sky
    spot = np.clip(dot(mirror, _SUN), 0, 1) ** sharpness * np.minimum(sun * 4, 1)
    tint = 1 + (paint - 1) * metal
    linear = paint * light * (1 - shine * metal) + shine * tint * (around + 6 * spot)
    return _srgb(linear)


def _sunlight(hits: Hits, p: Points, facing: Values) -> Values:
    """The share of the sun that is seen; 1 where a surface turns away from it, which is dark anyway."""
    at = np.flatnonzero(facing > 0)
    lit, own, share = p[:, at], hits.solid[at], np.ones_like(facing[at])
    # The plinth, the first, lies below all others and the sun stands above.
    for number, solid in enumerate(SOLIDS[1:], start=1):
        # Solids do not shade themselves: all but the ring are convex.
        share *= np.where(own == number, 1, shade_of(solid, lit, _SUN, softness=0.06))
    seen = np.ones_like(facing)
    seen[at] = share
    return seen


def _openness(hits: Hits, p: Points, n: Points) -> Values:
    """The share of the sky that is not hidden by neighbours, each taken as a ball.

    A ball of radius r at distance d, seen at an angle a from the normal, hides (r / d)^2 cos a.
    """
    result = np.ones_like(hits.t)
    for number, solid in enumerate(SOLIDS):
        if number == 0:
            # The plinth, an endless floor to what stands on it.
            height = np.maximum(p[2] - _TOP, 0)
            hidden = (0.5 - 0.5 * n[2]) * np.exp(-3 * height) * (hits.solid != 0)
            result *= 1 - 0.8 * hidden
            continue
        apart = np.array(solid.centre, dtype=p.dtype)[:, None] - p
        squared = dot(apart, apart)
        radius = np.float32(min(solid.shape.bound, 0.3))
        near = np.flatnonzero((squared < (4 * radius) ** 2) & (hits.solid != number))
        d2 = np.maximum(squared[near], radius * radius)
        cosine = np.clip(dot(n[:, near], apart[:, near]) / np.sqrt(d2), 0, 1)
        result[near] *= 1 - 0.85 * cosine * (radius * radius) / d2
    return result


def _srgb(linear: Points) -> Points:
    """Encode linear light as sRGB (IEC 61966-2-1), clipped to [0, 1]."""
    x = np.clip(linear, 0, 1)
    low = 12.92 * x
    high = 1.055 * np.maximum(x, 1e-6) ** np.float32(1 / 2.4) - 0.055
    encoded: Points = np.where(x <= 0.0031308, low, high).astype(np.float32)
    return encoded
