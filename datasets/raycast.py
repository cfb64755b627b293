"""Rays against solids given by distance functions: enough of a ray caster for the built-in scene.

Points and directions are arrays [3, N], coordinates first, so that each step is a few long vector
operations. N points or rays. World units; directions are unit vectors.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = [
    "Ball",
    "Cylinder",
    "Hits",
    "RoundedBox",
    "Shape",
    "Solid",
    "Torus",
    "cast",
    "dot",
    "shade_of",
]

Points = Float[np.ndarray, "3 N"]
Point = Float[np.ndarray, "3 1"]
PointOrPoints = Float[np.ndarray, "3 #N"]
Values = Float[np.ndarray, " N"]

_STEPS = 64
_CLOSE = 2e-5  # a ray has arrived; float32 resolves 2e-7 at the distances that occur


class Shape(Protocol):
    """A body around the origin."""

    @property
    def bound(self) -> float:
        """Radius of a ball that holds it."""
        ...

    def distance(self, p: Points) -> Values:
        """Signed distance to its surface, negative inside."""
        ...

    def span(self, o: PointOrPoints, d: Points) -> tuple[Values, Values]:
        """Where lines enter and leave a simple hull of it; those that miss leave before they enter."""
        ...


@dataclass(frozen=True)
class Ball:
    """A ball of the given radius."""

    bound: float

    def distance(self, p: Points) -> Values:
        """Signed distance."""
        return _length(p) - np.float32(self.bound)

    def span(self, o: PointOrPoints, d: Points) -> tuple[Values, Values]:
        """Where lines enter and leave it."""
        return _roots(*_past_ball(o, d, self.bound))


@dataclass(frozen=True)
class Torus:
    """A ring in the xy plane: a tube of radius `tube` around a circle of radius `ring`."""

    ring: float
    tube: float

    @property
    def bound(self) -> float:
        """Radius of a ball that holds it."""
        return self.ring + self.tube

    def distance(self, p: Points) -> Values:
        """Signed distance."""
        across = np.sqrt(p[0] * p[0] + p[1] * p[1]) - np.float32(self.ring)
        gap: Values = np.sqrt(across * across + p[2] * p[2]) - np.float32(self.tube)
        return gap

    def span(self, o: PointOrPoints, d: Points) -> tuple[Values, Values]:
        """Where lines enter and leave the slice of a ball around it."""
        return _both(_roots(*_past_ball(o, d, self.bound)), _between(o[2], d[2], self.tube))


@dataclass(frozen=True)
class RoundedBox:
    """A box with half sides `half`, its edges and corners rounded to radius `round_`."""

    half: tuple[float, float, float]
    rounding: float

    @property
    def bound(self) -> float:
        """Radius of a ball that holds it."""
        return float(np.linalg.norm(self.half))

    def distance(self, p: Points) -> Values:
        """Signed distance."""
        inner = np.array(self.half, dtype=np.float32)[:, None] - np.float32(self.rounding)
        q = np.abs(p) - inner
        inside = np.minimum(np.maximum(np.maximum(q[0], q[1]), q[2]), 0)
        gap: Values = _length(np.maximum(q, 0)) + inside - np.float32(self.rounding)
        return gap

    def span(self, o: PointOrPoints, d: Points) -> tuple[Values, Values]:
        """Where lines enter and leave the sharp box."""
        x, y, z = (_between(o[axis], d[axis], self.half[axis]) for axis in range(3))
        return _both(_both(x, y), z)


@dataclass(frozen=True)
class Cylinder:
    """An upright cylinder, its rims rounded to radius `rounding`."""

    radius: float
    half_height: float
    rounding: float

    @property
    def bound(self) -> float:
        """Radius of a ball that holds it."""
        return float(np.hypot(self.radius, self.half_height))

    def distance(self, p: Points) -> Values:
        """Signed distance."""
        out = np.sqrt(p[0] * p[0] + p[1] * p[1]) - np.float32(self.radius - self.rounding)
        up = np.abs(p[2]) - np.float32(self.half_height - self.rounding)
        corner = np.sqrt(np.maximum(out, 0) ** 2 + np.maximum(up, 0) ** 2)
        gap: Values = corner + np.minimum(np.maximum(out, up), 0) - np.float32(self.rounding)
        return gap

    def span(self, o: PointOrPoints, d: Points) -> tuple[Values, Values]:
        """Where lines enter and leave the sharp cylinder."""
        a = np.maximum(d[0] * d[0] + d[1] * d[1], 1e-12)
        b = o[0] * d[0] + o[1] * d[1]
        c = o[0] * o[0] + o[1] * o[1] - np.float32(self.radius**2)
        round_ = _roots(-b / a, (b * b - a * c) / (a * a))
        return _both(round_, _between(o[2], d[2], self.half_height))


@dataclass(frozen=True)
class Solid:
    """A shape with a place in the world.

    Attributes:
        shape: In its own coordinates.
        centre: Of the shape, in the world.
        axes: Rotation [3, 3]; its columns are the shape's axes in the world. None for none.
    """

    shape: Shape
    centre: tuple[float, float, float]
    axes: Float[np.ndarray, "3 3"] | None = None

    def local(self, p: Points) -> Points:
        """Take world points to the shape's own coordinates."""
        moved: Points = p - self._middle(p)
        if self.axes is not None:
            moved = self.axes.T.astype(p.dtype) @ moved
        return moved

    def distance(self, p: Points) -> Values:
        """Signed distance from world points."""
        return self.shape.distance(self.local(p))

    def _middle(self, like: Points) -> Float[np.ndarray, "3 1"]:
        return np.array(self.centre, dtype=like.dtype)[:, None]

    def normal(self, p: Points) -> Points:
        """Unit normal at points on the surface, from distances at the corners of a tetrahedron."""
        total = np.zeros_like(p)
        for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            direction = np.array(corner, dtype=p.dtype)[:, None]
            total += direction * self.distance(p + np.float32(1e-3) * direction)
        unit: Points = total / np.maximum(_length(total), 1e-20)
        return unit

    def hit(self, o: Point, d: Points, far: Values) -> Values:
        """Distance along each ray to the surface, inf where it is not met before `far`."""
        t = np.full(d.shape[1], np.inf, dtype=d.dtype)
        # The ball around it first, in the world: most rays end here.
        middle, beyond = _past_ball(o - self._middle(o), d, self.shape.bound)
        rays = np.flatnonzero((beyond > 0) & (middle > -self.shape.bound))
        start, along, end = self.local(o), d[:, rays], far[rays]
        if self.axes is not None:
            along = self.axes.T.astype(d.dtype) @ along
        enter, leave = self.shape.span(start, along)
        place, end = np.maximum(enter, 0), np.minimum(leave, end)
        going = np.flatnonzero(end > place)
        rays, place, end, along = rays[going], place[going], end[going], along[:, going]
        for _ in range(_STEPS):
            if rays.size == 0:
                break
            gap = self.shape.distance(start + place * along)
            place = place + gap
            met = gap < _CLOSE
            t[rays[met]] = place[met]
            going = np.flatnonzero(~met & (place < end + _CLOSE))
            rays, place, end, along = rays[going], place[going], end[going], along[:, going]
        return t


@dataclass(frozen=True)
class Hits:
    """What rays met: distance `t` (inf: nothing) and the number of the solid (-1: none)."""

    t: Values
    solid: Int[np.ndarray, " N"]

    @property
    def met(self) -> Bool[np.ndarray, " N"]:
        """Which rays met anything."""
        return self.solid >= 0


def cast(solids: tuple[Solid, ...], origin: Point, directions: Points) -> Hits:
    """Find the first solid along each ray from one origin.

    Rays are float32; distances are right to about 1e-4.
    """
    t = np.full(directions.shape[1], np.inf, dtype=directions.dtype)
    which = np.full(directions.shape[1], -1, dtype=np.int32)
    for number, solid in enumerate(solids):
        here = solid.hit(origin, directions, t)
        nearer = here < t
        t[nearer] = here[nearer]
        which[nearer] = number
    return Hits(t, which)


def shade_of(solid: Solid, p: Points, light: Point, softness: float) -> Values:
    """How much of a light is seen past a solid, 0 .. 1.

    The nearer a ray to the light passes the solid, measured against how far it has come, the
    darker: a penumbra that widens with distance.

    Args:
        solid: What stands in the way.
        p: Where from.
        light: Unit direction to the light, [3, 1].
        softness: Half width of the light as seen from the scene, as a tangent.
    """
    seen = np.ones(p.shape[1], dtype=p.dtype)
    reach = solid.shape.bound + 0.15
    middle, beyond = _past_ball(p - solid._middle(p), light, reach)
    rays = np.flatnonzero((beyond > 0) & (middle > -reach))
    start = solid.local(p[:, rays])
    along = light if solid.axes is None else solid.axes.T.astype(p.dtype) @ light
    width = np.float32(softness)
    if isinstance(solid.shape, Ball):  # no walk is needed: the nearest place is known
        nearest = np.maximum(middle[rays], 0.01)
        gap = solid.shape.distance(start + nearest * along)
        seen[rays] = np.clip(0.5 + 0.5 * gap / (width * nearest), 0, 1)
        return _smooth(seen)
    half = np.sqrt(beyond[rays])
    place, end = np.maximum(middle[rays] - half, 0.01), middle[rays] + half
    for _ in range(24):
        if rays.size == 0:
            break
        gap = solid.shape.distance(start + place * along)
        seen[rays] = np.minimum(seen[rays], np.clip(0.5 + 0.5 * gap / (width * place), 0, 1))
        place = place + np.clip(np.abs(gap), 0.01, 0.1)
        going = np.flatnonzero((seen[rays] > 0) & (place < end))
        rays, place, end, start = rays[going], place[going], end[going], start[:, going]
    return _smooth(seen)


def dot(a: PointOrPoints, b: PointOrPoints) -> Values:
    """Scalar products of vectors; [3, 1] stands for the same one everywhere."""
    # Three products: summing over an axis of three is several times slower.
    products: np.ndarray = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return products


def _smooth(share: Values) -> Values:
    smooth: Values = share * share * (3 - 2 * share)
    return smooth


def _length(p: Points) -> Values:
    length: np.ndarray = np.sqrt(dot(p, p))
    return length


def _past_ball(o: PointOrPoints, d: PointOrPoints, radius: float) -> tuple[Values, Values]:
    """Where lines pass the origin nearest, and the square of half their way in a ball there."""
    middle = -dot(o, d)
    return middle, np.float32(radius * radius) - dot(o, o) + middle * middle


def _roots(middle: Values, squared: Values) -> tuple[Values, Values]:
    """The interval around `middle` with half width sqrt(squared), empty where that is negative."""
    half = np.sqrt(np.maximum(squared, 0))
    return np.where(squared > 0, middle - half, np.inf), np.where(squared > 0, middle + half, -1)


def _between(o: Float[np.ndarray, " #N"], d: Values, half: float) -> tuple[Values, Values]:
    """Where a coordinate, o + t d, is in [-half, half]."""
    slope = 1 / np.where(np.abs(d) < 1e-9, np.float32(1e-9), d)
    middle, width = -o * slope, np.abs(slope) * np.float32(half)
    return middle - width, middle + width


def _both(a: tuple[Values, Values], b: tuple[Values, Values]) -> tuple[Values, Values]:
    return np.maximum(a[0], b[0]), np.minimum(a[1], b[1])
