"""How alike two pictures are: PSNR and SSIM.

Pictures are [H, W, C] (or [H, W]), values in [0, 1], on a background (no alpha). Both are computed
in float64, so that the figure depends neither on threads nor on the size of a picture.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from polyfield.errors import ShapeError

__all__ = ["BEST_PSNR", "mean_metrics", "psnr", "ssim"]

Picture = Float[Tensor, "H W *C"]

BEST_PSNR = 100.0
"""What a picture that is right to the last bit counts as, dB, where it shall not make a mean infinite."""

_WINDOW = 11
_SIGMA = 1.5


def psnr(a: Picture, b: Picture) -> float:
    """Peak signal-to-noise ratio in dB: -10 log10 of the mean squared error, for a peak of 1.

    Returns:
        inf for equal pictures.

    Raises:
        ShapeError: The pictures differ in shape.

    Example:
        >>> round(psnr(torch.zeros(4, 4, 3), torch.full((4, 4, 3), 0.1)), 6)
        20.0
    """
    _check(a, b)
    error = float((a.double() - b.double()).square().mean())
    return -10 * math.log10(error) if error > 0 else (math.inf if error == 0 else math.nan)


def ssim(a: Picture, b: Picture) -> float:
    """Structural similarity, mean over pixels and channels; 1 for equal pictures.

    Local means and (co)variances are weighed by a Gaussian of sigma 1.5 in a window of 11 x 11, at
    all places where the window lies wholly inside the picture; data range 1, K1 = 0.01, K2 = 0.03.
    A picture with a side below 11 gets the largest odd window that fits, of the same Gaussian.

    Raises:
        ShapeError: The pictures differ in shape.

    See: Wang, Bovik, Sheikh, Simoncelli (2004), "Image quality assessment: from error visibility
    to structural similarity".
    """
    _check(a, b)
    channels = 1 if a.ndim == 2 else a.shape[2]
    flat_a, flat_b = (picture.double().reshape(*a.shape[:2], channels) for picture in (a, b))
    planes = [_plane_ssim(flat_a[..., c], flat_b[..., c]) for c in range(channels)]
    return sum(planes) / channels


def mean_metrics(per_view: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each number over views: the mean of PSNRs, not the PSNR of the mean error.

    Example:
        >>> mean_metrics([{"psnr": 30.0, "ssim": 0.9}, {"psnr": 32.0, "ssim": 0.95}])["psnr"]
        31.0
    """
    return {key: sum(row[key] for row in per_view) / len(per_view) for key in per_view[0]}


def _plane_ssim(x: Float64[Tensor, "H W"], y: Float64[Tensor, "H W"]) -> float:
    x, y = x.contiguous(), y.contiguous()
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x * mean_x
    variance_y = _blurred(y * y) - mean_y * mean_y
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    light = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float((light * structure).mean())


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim not in (2, 3) or a.numel() == 0:
        raise ShapeError(
            f"Two pictures must both be [H, W] or [H, W, C] and of one shape to be compared, but "
            f"are {list(a.shape)} and {list(b.shape)}."
        )


def _blurred(plane: Float64[Tensor, "H W"]) -> Float64[Tensor, "h w"]:
    """Weigh neighbourhoods by the Gaussian, first along columns, then along rows."""
    for side in (0, 1):
        weights = _gaussian(min(_WINDOW, plane.shape[side] - 1 + plane.shape[side] % 2)).tolist()
        places = plane.shape[side] - len(weights) + 1
        # Sums of shifted planes: several times faster than conv2d, which is not made for this.
        total = plane.narrow(side, 0, places) * weights[0]
        for shift, weight in enumerate(weights[1:], start=1):
            total.add_(plane.narrow(side, shift, places), alpha=weight)
        plane = total
    return plane


def _gaussian(size: int) -> Float64[Tensor, " size"]:
    """A Gaussian of `size` (odd) places, of sum 1."""
    place = torch.arange(size, dtype=torch.float64) - size // 2
    weight = torch.exp(-(place * place) / (2 * _SIGMA**2))
    return weight / weight.sum()
