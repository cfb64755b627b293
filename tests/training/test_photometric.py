"""The loss of a batch and its gradients: the native form agrees with autograd, and with a loss worked out by hand."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from polyfield.errors import ShapeError
from polyfield.fields.samples import Samples
from polyfield.renderers.trace import Traced
from polyfield.training.photometric import Photometric, photometric, photometric_reference
from polyfield.training.ray_source import RayBatch


def batch(rays: int, weighted: bool, seed: int = 0) -> tuple[Traced, RayBatch, Tensor]:
    generator = Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    counts = torch.randint(0, 9, (rays,), generator=generator)
    offsets = torch.zeros(rays + 1, dtype=torch.int64)
    offsets[1:] = counts.cumsum(0)
    n = int(offsets[-1])
    ids = torch.repeat_interleave(torch.arange(rays, dtype=torch.int32), counts)
    t0 = 0.1 * (torch.arange(n) - offsets[ids.long()])
    samples = Samples(uniform(n, 3), t0, t0 + 0.1, offsets, ids, uniform(rays, 3))
    traced = Traced(samples, 20 * uniform(n), uniform(n, 3), n)
    alpha = uniform(rays)
    weights = (uniform(rays) > 0.3).float() if weighted else None
    cameras = torch.zeros(rays, dtype=torch.int64)
    wanted = RayBatch(
        uniform(rays, 3),
        uniform(rays, 3),
        uniform(rays, 3) * alpha[:, None],
        alpha,
        weights,
        cameras,
    )
    return traced, wanted, uniform(rays, 3)


@pytest.mark.parametrize("rays", [1, 255, 256, 1000])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("delta", [0.02, 0.1, 5.0])
def test_agrees_with_autograd(rays: int, weighted: bool, delta: float) -> None:
    traced, wanted, background = batch(rays, weighted, seed=rays)
    mine = photometric(traced, wanted, background, delta)
    theirs = photometric_reference(traced, wanted, background, delta)
    assert mine.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert mine.error == pytest.approx(theirs.error, rel=1e-5)
    for name in ("sigma_gradient", "color_gradient", "importance"):
        # Differences of numbers near 1, summed along a ray: float32 leaves 1e-7 of the largest.
        scale = float(getattr(theirs, name).abs().max()) if len(traced.sigma) else 0.0
        torch.testing.assert_close(
            getattr(mine, name), getattr(theirs, name), rtol=1e-4, atol=1e-6 * scale
        )


def test_rays_that_do_not_count_teach_nothing() -> None:
    traced, wanted, background = batch(300, True)
    seen = photometric(traced, wanted, background, 0.1)
    assert wanted.weights is not None
    ignored = wanted.weights[traced.samples.ray_ids.long()] == 0
    assert ignored.any()
    assert (seen.importance[ignored] == 0).all()
    assert (seen.importance[~ignored] > 0).any()


def test_a_single_opaque_sample() -> None:
    """One ray, one sample that hides everything: the loss is Huber's of one difference, its slope known."""
    offsets, one = torch.tensor([0, 1]), torch.ones(1)
    samples = Samples(
        torch.zeros(1, 3), 0 * one, one, offsets, torch.zeros(1).int(), torch.zeros(1, 3)
    )
    traced = Traced(samples, 1e4 * one, torch.tensor([[0.5, 0.5, 0.5]]), 1)
    zero = torch.zeros(1, 3)
    target = torch.tensor([[0.45, 0.5, 0.0]])
    wanted = RayBatch(zero, zero, target, one, None, torch.zeros(1, dtype=torch.int64))
    seen = photometric(traced, wanted, zero, 0.1)
    # (0.05^2 / 0.2 + 0 + 0.5 - 0.05) / 3
    assert seen.loss == pytest.approx((0.0125 + 0.45) / 3, rel=1e-5)
    assert seen.error == pytest.approx((0.05**2 + 0.25) / 3, rel=1e-5)
    torch.testing.assert_close(seen.color_gradient, torch.tensor([[0.5, 0.0, 1.0]]) / 3)


@pytest.mark.parametrize("judge", [photometric, photometric_reference])
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_what_is_not_finite_is_seen(judge: Callable[..., Photometric], poison: float) -> None:
    traced, wanted, background = batch(300, False)
    traced.color[5] = poison
    seen = judge(traced, wanted, background, 0.1)
    assert not torch.tensor(seen.loss).isfinite()
    ray = traced.samples.ray_ids == traced.samples.ray_ids[5]
    assert seen.color_gradient[ray].isnan().any() == (poison != poison)
    assert seen.color_gradient[~ray].isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": torch.ones(9, dtype=torch.bool)}, "the batch's weights must be torch.float32"),
        ({"alpha": torch.ones(8)}, r"the batch's alpha must be torch.float32 \[9\]"),
        ({"color": torch.ones(9, 3).double()}, "but is torch.float64"),
    ],
)
def test_a_batch_that_does_not_fit_is_named(change: dict[str, Tensor], message: str) -> None:
    traced, wanted, background = batch(9, False)
    with pytest.raises(ShapeError, match=message):
        photometric(traced, replace(wanted, **change), background, 0.1)
    with pytest.raises(ShapeError, match="background must be"):
        photometric(traced, wanted, background[:1], 0.1)


def test_offsets_that_lead_elsewhere_are_refused() -> None:
    traced, wanted, background = batch(9, False)
    offsets = traced.samples.ray_offsets
    for change, message in (
        (10**5, "ray_offsets must never fall, but at ray 4 falls from 100000"),
        (-(10**5), "ray_offsets must never fall, but at ray 3 falls from .* to -100000"),
    ):
        wild = offsets.clone()
        wild[4] = change
        samples = replace(traced.samples, ray_offsets=wild)
        with pytest.raises(ShapeError, match=f"photometric: {message}"):
            photometric(replace(traced, samples=samples), wanted, background, 0.1)
    for strange in (offsets[1:], offsets.int(), offsets + 1):
        samples = replace(traced.samples, ray_offsets=strange)
        with pytest.raises(ShapeError, match="photometric: ray_offsets must"):
            photometric(replace(traced, samples=samples), wanted, background, 0.1)
