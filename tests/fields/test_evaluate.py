"""A field asked about samples natively says what its modules say."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.domain import Box, Contraction, Domain
from polyfield.fields.evaluate import Evaluated, evaluate, evaluate_reference
from polyfield.fields.presets import preset_names
from polyfield.fields.radiance import RadianceField
from polyfield.fields.samples import Samples

SmallField = Callable[[str, Domain], RadianceField]
BOX = Box((-1.0,) * 3, (1.0,) * 3)


def some_samples(count: int) -> Samples:
    generator = Generator().manual_seed(count)
    rays = max(1, count // 9)
    ids = torch.randint(rays, (count,), generator=generator).sort().values
    offsets = torch.zeros(rays + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(ids, minlength=rays).cumsum(0)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    positions = torch.rand(count, 3, generator=generator) * 3 - 1.5  # partly outside
    t0 = 0.1 * (torch.arange(count) - offsets[ids])
    return Samples(positions, t0, t0 + 0.1, offsets, ids.int(), directions)


def parts(said: Evaluated) -> list[Tensor]:
    return [said.sigma, said.color, said.features]


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("count", [0, 1, 65, 5000])
def test_agrees_with_the_modules(name: str, count: int, small_field: SmallField) -> None:
    made = small_field(name, Contraction((0.0, 0.0, 0.0), 1.0) if count == 65 else BOX)
    samples = some_samples(count)
    mine, theirs = evaluate(made, samples, keep_encoded=True), evaluate_reference(made, samples)
    for one, other in zip(parts(mine), parts(theirs), strict=True):
        assert one.shape == other.shape
        # The same kernels on other numbers of points: where a sum rounds to another float32, an operand of the next
        # layer may round to the neighbouring bfloat16, 1/256 away.
        scale = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=1e-2, atol=4e-3 * scale)
    if mine.encoded is not None:
        encoded = made.encoder(made.domain.place(samples.positions)[0]).t()
        torch.testing.assert_close(mine.encoded, encoded, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not native.available(), reason="torch sums as it likes")
@pytest.mark.parametrize("name", ["hashgrid", "tensorf", "neurbf"])
def test_what_is_said_does_not_depend_on_the_threads(name: str, small_field: SmallField) -> None:
    made, samples, said = small_field(name, BOX), some_samples(9000), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            said.append(parts(evaluate(made, samples)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*said, strict=True))


def test_what_does_not_fit_is_named(small_field: SmallField) -> None:
    made, samples = small_field("hashgrid", BOX), some_samples(90)
    with pytest.raises(ShapeError, match=r"directions must be \[10, 3\]"):
        evaluate(made, replace(samples, directions=samples.directions[:, :2]))
    with pytest.raises(ShapeError, match=r"ray_ids must be \[90\]"):
        evaluate(made, replace(samples, ray_ids=samples.ray_ids[:3]))
    with pytest.raises(ShapeError, match=r"ray_ids must be torch.int32"):
        evaluate(made, replace(samples, ray_ids=samples.ray_ids.long()))


@pytest.mark.skipif(not native.available(), reason="without kernels torch refuses it, in its words")
@pytest.mark.parametrize("ray", [-1, 10])
def test_a_ray_that_is_not_there_is_named(ray: int, small_field: SmallField) -> None:
    samples = some_samples(90)
    samples.ray_ids[50] = ray
    with pytest.raises(ShapeError, match=r"samples must be of rays in 0\.\.9"):
        evaluate(small_field("hashgrid", BOX), samples)
