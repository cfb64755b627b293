"""PSNR and SSIM against laws, a formula written out, scikit-image and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfield.errors import ShapeError
from polyfield.training.metrics import mean_metrics, psnr, ssim


def pair(*shape: int, noise: float = 0.1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(*shape, generator=generator)
    return a, (a + noise * torch.randn(*shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_both_are_symmetric_and_best_for_equal_pictures(metric) -> None:
    a, b = pair(20, 30, 3)
    worse = pair(20, 30, 3, noise=0.3)[1]
    assert metric(a, b) == metric(b, a)
    assert metric(a, a) == (math.inf if metric is psnr else 1.0)
    assert metric(a, worse) < metric(a, b) < metric(a, a)
    # The mean over channels, whatever their order, and turned or mirrored pictures alike: up to
    # the order of float64 sums.
    assert math.isclose(metric(a.flip(2), b.flip(2)), metric(a, b), rel_tol=1e-12)
    assert math.isclose(metric(a.flip(0), b.flip(0)), metric(a, b), rel_tol=1e-12)
    assert math.isclose(metric(a.transpose(0, 1), b.transpose(0, 1)), metric(a, b), rel_tol=1e-12)


@settings(deadline=None)
@given(error=st.floats(1e-4, 1.0))
def test_psnr_of_a_constant_error(error: float) -> None:
    a = torch.zeros(3, 5, 3, dtype=torch.float64)
    assert math.isclose(psnr(a, a + error), -20 * math.log10(error), rel_tol=1e-9, abs_tol=1e-9)


def test_a_nan_is_not_hidden() -> None:
    a = torch.zeros(12, 12, 3)
    b = a.clone()
    b[3, 3, 0] = math.nan
    assert math.isnan(psnr(a, b))
    assert math.isnan(ssim(a, b))


def test_ssim_of_constant_pictures_is_the_comparison_of_light_alone() -> None:
    a, b = (torch.full((16, 16), value, dtype=torch.float64) for value in (0.3, 0.5))
    expected = (2 * 0.3 * 0.5 + 1e-4) / (0.3**2 + 0.5**2 + 1e-4)
    assert math.isclose(ssim(a, b), expected, rel_tol=1e-9)


@pytest.mark.parametrize("shape", [(11, 11, 3), (24, 37, 3), (40, 12, 1), (30, 30)])
def test_ssim_agrees_with_scikit_image(shape: tuple[int, ...]) -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    peak_signal_noise_ratio = pytest.importorskip("skimage.metrics").peak_signal_noise_ratio
    a, b = (picture.double().numpy() for picture in pair(*shape))
    theirs = structural_similarity(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=-1 if len(shape) == 3 else None,
    )
    ours = ssim(torch.from_numpy(a), torch.from_numpy(b))
    assert math.isclose(ours, theirs, rel_tol=1e-10)  # the same sums in another order
    theirs = peak_signal_noise_ratio(a, b, data_range=1)
    assert math.isclose(psnr(torch.from_numpy(a), torch.from_numpy(b)), theirs, rel_tol=1e-12)


def test_both_agree_with_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.image")
    a, b = (picture.double() for picture in pair(32, 45, 3))
    batches = [picture.permute(2, 0, 1)[None] for picture in (a, b)]
    # torchmetrics means over a mirrored border too; inside, the maps are the same.
    _, full = functional.structural_similarity_index_measure(
        *batches, data_range=1.0, return_full_image=True
    )
    assert math.isclose(ssim(a, b), float(full[..., 5:-5, 5:-5].mean()), rel_tol=1e-10)
    theirs = functional.peak_signal_noise_ratio(*batches, data_range=1.0)
    assert math.isclose(psnr(a, b), float(theirs), rel_tol=1e-6)  # torchmetrics' log is float32


@pytest.mark.parametrize("shape", [(10, 10), (6, 20), (1, 1), (2, 3)])
def test_small_pictures_get_the_largest_odd_window(shape: tuple[int, int]) -> None:
    a, b = (picture.double().numpy() for picture in pair(*shape))
    # Written out: one window at each place, weights from the outer product of two Gaussians.
    sides = [min(11, side - 1 + side % 2) for side in shape]
    line = [np.exp(-((np.arange(n) - n // 2) ** 2) / (2 * 1.5**2)) for n in sides]
    weight = np.outer(line[0] / line[0].sum(), line[1] / line[1].sum())
    values = []
    for i in range(shape[0] - sides[0] + 1):
        for j in range(shape[1] - sides[1] + 1):
            x, y = (p[i : i + sides[0], j : j + sides[1]] for p in (a, b))
            mx, my = (weight * x).sum(), (weight * y).sum()
            vx, vy = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum()
            cxy = (weight * (x - mx) * (y - my)).sum()
            light = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
            values.append(light * (2 * cxy + 9e-4) / (vx + vy + 9e-4))
    ours = ssim(torch.from_numpy(a), torch.from_numpy(b))
    # Variances as differences of means lose a few digits against those written out.
    assert math.isclose(ours, float(np.mean(values)), rel_tol=1e-10)


def test_pictures_that_cannot_be_compared_are_refused() -> None:
    a = torch.zeros(4, 4, 3)
    for metric in (psnr, ssim):
        with pytest.raises(ShapeError, match=r"of one shape .* are \[4, 4, 3\] and \[4, 5, 3\]"):
            metric(a, torch.zeros(4, 5, 3))
        with pytest.raises(ShapeError, match="to be compared"):
            metric(torch.zeros(2, 4, 4, 3), torch.zeros(2, 4, 4, 3))


def test_means_over_views_are_means_of_the_figures() -> None:
    rows = [{"psnr": 20.0, "ssim": 0.5}, {"psnr": 30.0, "ssim": 0.7}]
    assert mean_metrics(rows) == {"psnr": 25.0, "ssim": 0.6}
