"""Lenses: from directions in front of a camera to places on its image, and back.

A lens maps a direction (camera frame, OpenCV axes, any length) to a point of the *plane*: image coordinates before
focal length and principal point, `pixel = plane * focal + center`. The models, their names and the order of their
coefficients are COLMAP's; `colmap_id` is the number in its binary files. Shape letter: N directions.

Outside what a lens can see (behind a pinhole, beyond the fold of a polynomial) the answer is NaN.

Sources: D. C. Brown, "Close-range camera calibration" (1971) for radial, tangential and rational distortion; J. Kannala
and S. Brandt, "A generic camera model" (2006) for the fisheyes; F. Devernay and O. Faugeras, "Straight lines have to be
straight" (2001) for FOV; A. Fitzgibbon (2001) for division; B. Khomutenko et al. (2016) for EUCM.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from polyfield.errors import DataError, nearest

__all__ = [
    "MODELS",
    "Lens",
    "LensModel",
    "join_parameters",
    "project",
    "split_parameters",
    "unproject",
]

_ITERATIONS = 30  # Newton doubles its digits each time; more are needed only beside a fold
_STEP = 1e-7  # for slopes: about the square root of float64's resolution
_CHUNK = 1 << 13  # points inverted together: temporaries stay in the cache, one core each operation


@dataclass(frozen=True)
class Lens:
    """A lens without focal length and principal point: the name of a model and its coefficients.

    Raises:
        DataError: An unknown model, a wrong number of coefficients, or one that is not finite.

    Example:
        >>> Lens("RADIAL", (0.1, -0.02)).model
        'RADIAL'
    """

    model: str = "PINHOLE"
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise DataError(
                f"There is no camera model {self.model!r}.{nearest(self.model, MODELS)}"
            )
        wanted = MODELS[self.model].coefficients
        if len(wanted) != len(self.coefficients):
            raise DataError(
                f"Camera model {self.model} has {len(wanted)} distortion coefficients"
                f" ({', '.join(wanted)}), but {len(self.coefficients)} came."
            )
        if not all(math.isfinite(value) for value in self.coefficients):
            raise DataError(
                f"Camera model {self.model} has a distortion coefficient that is not finite."
            )

    @property
    def straight(self) -> bool:
        """Whether straight lines stay straight: a pinhole, or a distortion that is zero."""
        return MODELS[self.model].to_plane is _perspective or (
            MODELS[self.model].bent_by_coefficients and not any(self.coefficients)
        )


@dataclass(frozen=True)
class LensModel:
    """A kind of lens.

    Attributes:
        colmap_id: Its number in COLMAP's binary files.
        focals: How many focal lengths COLMAP stores for it: 1, 2, or 0 (equirectangular: width and height instead).
        coefficients: Names of the distortion coefficients, in COLMAP's order.
        to_plane: Directions and coefficients to the plane.
        to_direction: The plane and coefficients to directions of any length.
        bent_by_coefficients: Whether all coefficients at zero give a pinhole.
    """

    colmap_id: int
    focals: int
    coefficients: tuple[str, ...]
    to_plane: "Map"
    to_direction: "Map"
    bent_by_coefficients: bool = False


Map = Callable[[Tensor, Sequence[Tensor]], Tensor]
Distortion = Callable[[Tensor, Sequence[Tensor]], Tensor]


def project(
    model: str, directions: Float64[Tensor, "N 3"], coefficients: Float64[Tensor, "*N P"]
) -> Float64[Tensor, "N 2"]:
    """Map directions in the camera frame to the plane; NaN where the lens does not see.

    Args:
        model: A key of `MODELS`.
        directions: Any length; z forward.
        coefficients: One row for all directions, or one for each.
    """
    return MODELS[model].to_plane(directions, coefficients.unbind(-1))


def unproject(
    model: str, plane: Float64[Tensor, "N 2"], coefficients: Float64[Tensor, "*N P"]
) -> Float64[Tensor, "N 3"]:
    """Map points of the plane to unit directions in the camera frame; the inverse of `project`.

    Accurate to 1e-12 of the plane where the lens can be inverted, NaN where it cannot.
    """
    parts = []
    for at in range(0, max(len(plane), 1), _CHUNK):
        rows = coefficients[at : at + _CHUNK] if coefficients.ndim == 2 else coefficients
        directions = MODELS[model].to_direction(plane[at : at + _CHUNK], rows.unbind(-1))
        parts.append(directions / directions.norm(dim=-1, keepdim=True))
    return torch.cat(parts)


def split_parameters(
    model: str, parameters: Sequence[float]
) -> tuple[tuple[float, float], tuple[float, float], Lens]:
    """Split COLMAP's list of camera parameters into focal lengths (fx, fy), principal point (cx, cy) and lens.

    Raises:
        DataError: An unknown model or a wrong number of parameters.

    Example:
        >>> split_parameters("SIMPLE_RADIAL", [500.0, 320.0, 240.0, 0.1])
        ((500.0, 500.0), (320.0, 240.0), Lens(model='SIMPLE_RADIAL', coefficients=(0.1,)))
    """
    if model not in MODELS:
        raise DataError(f"There is no camera model {model!r}.{nearest(model, MODELS)}")
    kind = MODELS[model]
    values = [float(value) for value in parameters]
    wanted = kind.focals + 2 + len(kind.coefficients)
    if len(values) != wanted:
        raise DataError(f"Camera model {model} has {wanted} parameters, but {len(values)} came.")
    if kind.focals == 0:  # the image is the whole sphere: 2 pi wide and pi high
        width, height = values
        return (width / (2 * math.pi), height / math.pi), (width / 2, height / 2), Lens(model)
    fx, fy = values[0], values[kind.focals - 1]
    cx, cy = values[kind.focals : kind.focals + 2]
    return (fx, fy), (cx, cy), Lens(model, tuple(values[kind.focals + 2 :]))


def join_parameters(
    focal: Sequence[float], center: Sequence[float], lens: Lens
) -> tuple[str, list[float]]:
    """Make COLMAP's model name and list of camera parameters; undoes `split_parameters`.

    A model with one focal length becomes its neighbour with two where the two differ.
    """
    fx, fy = (float(value) for value in focal)
    cx, cy = (float(value) for value in center)
    kind = MODELS[lens.model]
    if kind.focals == 0:
        return lens.model, [fx * 2 * math.pi, fy * math.pi]
    if kind.focals == 2:
        return lens.model, [fx, fy, cx, cy, *lens.coefficients]
    if fx == fy:
        return lens.model, [fx, cx, cy, *lens.coefficients]
    wider = _WITH_TWO_FOCALS[lens.model]
    padding = [0.0] * (len(MODELS[wider].coefficients) - len(lens.coefficients))
    return wider, [fx, fy, cx, cy, *lens.coefficients, *padding]


_WITH_TWO_FOCALS = {  # the coefficients of the left are the first ones of the right, the others zero
    "SIMPLE_PINHOLE": "PINHOLE",
    "SIMPLE_RADIAL": "OPENCV",
    "RADIAL": "OPENCV",
    "SIMPLE_RADIAL_FISHEYE": "OPENCV_FISHEYE",
    "RADIAL_FISHEYE": "OPENCV_FISHEYE",
    "SIMPLE_FISHEYE": "FISHEYE",
    "SIMPLE_DIVISION": "DIVISION",
}


# First stage: directions to an undistorted plane, and back.


def _perspective(directions: Tensor, _: Sequence[Tensor] = ()) -> Tensor:
    z = directions[..., 2:]
    return directions[..., :2] / torch.where(z > 0, z, math.nan)


def _from_perspective(plane: Tensor, _: Sequence[Tensor] = ()) -> Tensor:
    return torch.cat([plane, torch.ones_like(plane[..., :1])], -1)


def _equidistant(directions: Tensor, _: Sequence[Tensor] = ()) -> Tensor:
    """The angle from the axis, laid along the direction sideways."""
    side = directions[..., :2].norm(dim=-1, keepdim=True)
    angle = torch.atan2(side, directions[..., 2:])
    # At the axis, angle / side tends to 1 / z.
    scale = torch.where(side > 0, angle / side, 1 / directions[..., 2:].clamp(min=1e-300))
    return directions[..., :2] * scale


def _from_equidistant(plane: Tensor, _: Sequence[Tensor] = ()) -> Tensor:
    angle = plane.norm(dim=-1, keepdim=True)
    angle = torch.where(angle <= math.pi, angle, math.nan)  # behind the back there is nothing more
    return torch.cat([plane * torch.sinc(angle / math.pi), torch.cos(angle)], -1)


# Second stage: distortions of a plane.


def _brown(plane: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    """Radial k1 k2 (k3, over k4 k5 k6) and tangential p1 p2, in OpenCV's order k1 k2 p1 p2 k3 k4 k5 k6."""
    k1, k2, p1, p2, k3, k4, k5, k6 = coefficients
    u, v = plane.unbind(-1)
    r2 = u * u + v * v
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return torch.stack(
        [
            u * radial + 2 * p1 * u * v + p2 * (r2 + 2 * u * u),
            v * radial + 2 * p2 * u * v + p1 * (r2 + 2 * v * v),
        ],
        -1,
    )


def _opencv(plane: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    """The four first of OpenCV's: cheaper than `_brown` with zeros."""
    k1, k2, p1, p2 = coefficients
    u, v = plane.unbind(-1)
    uu, vv, uv = u * u, v * v, u * v
    r2 = uu + vv
    radial = 1 + r2 * (k1 + r2 * k2)
    return torch.stack(
        [
            u * radial + 2 * p1 * uv + p2 * (r2 + 2 * uu),
            v * radial + 2 * p2 * uv + p1 * (r2 + 2 * vv),
        ],
        -1,
    )


def _radial(plane: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    """A polynomial in the squared radius: 1 + k1 r^2 + k2 r^4 + ..."""
    r2 = plane.square().sum(-1)
    factor = torch.zeros_like(r2)
    for k in reversed(coefficients):
        factor = (factor + k) * r2
    return plane * (1 + factor).unsqueeze(-1)


def _thin_prism(plane: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    k1, k2, p1, p2, k3, k4, sx, sy = coefficients
    u, v = plane.unbind(-1)
    r2 = u * u + v * v
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    return torch.stack(
        [
            u * radial + 2 * p1 * u * v + p2 * (r2 + 2 * u * u) + sx * r2,
            v * radial + 2 * p2 * u * v + p1 * (r2 + 2 * v * v) + sy * r2,
        ],
        -1,
    )


def _radial_then_prism(plane: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    """Radial first; tangential and thin prism act on its result (Project Aria's model)."""
    p0, p1, s0, s1, s2, s3 = coefficients[6:]
    u, v = _radial(plane, coefficients[:6]).unbind(-1)
    r2 = u * u + v * v
    return torch.stack(
        [
            u + 2 * p1 * u * v + p0 * (r2 + 2 * u * u) + r2 * (s0 + r2 * s1),
            v + 2 * p0 * u * v + p1 * (r2 + 2 * v * v) + r2 * (s2 + r2 * s3),
        ],
        -1,
    )


def _inverted(distort: Distortion, target: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    """Solve distort(x) = target by Newton's method; NaN where it does not converge or folds over.

    The distorted point itself is a safe start: along a radius, Newton approaches a concave increasing function from
    below and a convex one from above, so it never jumps over the fold. Slopes are differences over a small step: their
    error, about as large as that step, costs a digit in each iteration and none in the result.
    """
    right = torch.tensor([_STEP, 0.0], dtype=target.dtype)
    down = torch.tensor([0.0, _STEP], dtype=target.dtype)
    x = target
    value = distort(x, coefficients)
    for _ in range(_ITERATIONS):
        a, c = ((distort(x + right, coefficients) - value) / _STEP).unbind(-1)
        b, d = ((distort(x + down, coefficients) - value) / _STEP).unbind(-1)
        p, q = (value - target).unbind(-1)
        determinant = a * d - b * c
        step = torch.stack([d * p - b * q, a * q - c * p], -1) / determinant.unsqueeze(-1)
        x = x - step
        value = distort(x, coefficients)
        # What diverges gives NaN or never settles; only the limit on iterations stops that.
        if not bool((step.abs() > 1e-13 * (1 + x.abs())).any()):
            break
    error = (value - target).abs().amax(-1)
    good = (error <= 1e-12 * (1 + target.abs().amax(-1))) & (determinant > 0)
    return torch.where(good.unsqueeze(-1), x, math.nan)


def _pair(distort: Distortion, onto: Map, back: Map) -> tuple[Map, Map]:
    """Make the two maps of a lens from its first stage, its inverse and a distortion."""

    def to_plane(directions: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        return distort(onto(directions, ()), coefficients)

    def to_direction(plane: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        return back(_inverted(distort, plane, coefficients), ())

    return to_plane, to_direction


# Lenses with a closed form both ways.


def _fov(directions: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    (omega,) = coefficients
    plane = _perspective(directions)
    stretch = 2 * torch.tan(omega / 2)
    radius = plane.norm(dim=-1)
    bent = torch.atan(radius * stretch) / omega
    # omega -> 0 is a pinhole; at the axis the slope is stretch / omega.
    slope = torch.where(radius > 0, bent / radius, stretch / omega)
    return plane * torch.where(omega == 0, 1.0, slope).unsqueeze(-1)


def _from_fov(plane: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    (omega,) = coefficients
    stretch = 2 * torch.tan(omega / 2)
    radius = plane.norm(dim=-1)
    angle = radius * omega
    straight = torch.tan(torch.where(angle.abs() < math.pi / 2, angle, math.nan)) / stretch
    slope = torch.where(radius > 0, straight / radius, omega / stretch)
    return _from_perspective(plane * torch.where(omega == 0, 1.0, slope).unsqueeze(-1))


def _division(directions: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    (k,) = coefficients
    z = directions[..., 2]
    root = torch.sqrt(z * z - 4 * k * directions[..., :2].square().sum(-1))  # NaN: not seen
    below = z + root
    return directions[..., :2] * (2 / torch.where(below > 0, below, math.nan)).unsqueeze(-1)


def _from_division(plane: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    (k,) = coefficients
    return torch.cat([plane, (1 + k * plane.square().sum(-1)).unsqueeze(-1)], -1)


def _eucm(directions: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    alpha, beta = coefficients
    z = directions[..., 2]
    rho = torch.sqrt(beta * directions[..., :2].square().sum(-1) + z * z)
    below = alpha * rho + (1 - alpha) * z
    return directions[..., :2] / torch.where(below > 0, below, math.nan).unsqueeze(-1)


def _from_eucm(plane: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    alpha, beta = coefficients
    r2 = plane.square().sum(-1)
    root = torch.sqrt(1 - (2 * alpha - 1) * beta * r2)
    z = (1 - alpha * alpha * beta * r2) / (alpha * root + 1 - alpha)
    return torch.cat([plane, z.unsqueeze(-1)], -1)


def _equirectangular(directions: Tensor, _: Sequence[Tensor]) -> Tensor:
    x, y, z = directions.unbind(-1)
    return torch.stack([torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))], -1)


def _from_equirectangular(plane: Tensor, _: Sequence[Tensor]) -> Tensor:
    azimuth, down = plane.unbind(-1)
    flat = torch.cos(down)
    return torch.stack([flat * torch.sin(azimuth), torch.sin(down), flat * torch.cos(azimuth)], -1)


_PINHOLE = (_perspective, _from_perspective)
_FISHEYE = (_equidistant, _from_equidistant)
_BROWN = ("k1", "k2", "p1", "p2")

MODELS: dict[str, LensModel] = {
    "SIMPLE_PINHOLE": LensModel(0, 1, (), *_PINHOLE),
    "PINHOLE": LensModel(1, 2, (), *_PINHOLE),
    "SIMPLE_RADIAL": LensModel(2, 1, ("k",), *_pair(_radial, *_PINHOLE), True),
    "RADIAL": LensModel(3, 1, ("k1", "k2"), *_pair(_radial, *_PINHOLE), True),
    "OPENCV": LensModel(4, 2, _BROWN, *_pair(_opencv, *_PINHOLE), True),
    "OPENCV_FISHEYE": LensModel(5, 2, ("k1", "k2", "k3", "k4"), *_pair(_radial, *_FISHEYE)),
    "FULL_OPENCV": LensModel(
        6, 2, (*_BROWN, "k3", "k4", "k5", "k6"), *_pair(_brown, *_PINHOLE), True
    ),
    "FOV": LensModel(7, 2, ("omega",), _fov, _from_fov, True),
    "SIMPLE_RADIAL_FISHEYE": LensModel(8, 1, ("k",), *_pair(_radial, *_FISHEYE)),
    "RADIAL_FISHEYE": LensModel(9, 1, ("k1", "k2"), *_pair(_radial, *_FISHEYE)),
    "THIN_PRISM_FISHEYE": LensModel(
        10, 2, (*_BROWN, "k3", "k4", "sx1", "sy1"), *_pair(_thin_prism, *_FISHEYE)
    ),
    "RAD_TAN_THIN_PRISM_FISHEYE": LensModel(
        11,
        2,
        ("k0", "k1", "k2", "k3", "k4", "k5", "p0", "p1", "s0", "s1", "s2", "s3"),
        *_pair(_radial_then_prism, *_FISHEYE),
    ),
    "SIMPLE_DIVISION": LensModel(12, 1, ("k",), _division, _from_division, True),
    "DIVISION": LensModel(13, 2, ("k",), _division, _from_division, True),
    "SIMPLE_FISHEYE": LensModel(14, 1, (), *_FISHEYE),
    "FISHEYE": LensModel(15, 2, (), *_FISHEYE),
    "EUCM": LensModel(16, 2, ("alpha", "beta"), _eucm, _from_eucm),
    "EQUIRECTANGULAR": LensModel(17, 0, (), _equirectangular, _from_equirectangular),
}
