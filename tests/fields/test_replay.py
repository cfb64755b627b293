"""Going backwards through a field natively gives the gradients of autograd."""

import pytest
import torch
from torch import Generator, Tensor

from polyfield import native
from polyfield.config import from_json
from polyfield.fields.domain import Box, Contraction, Domain
from polyfield.fields.ops.density import ACTIVATIONS
from polyfield.fields.point_field import point_field
from polyfield.fields.presets import preset, preset_names
from polyfield.fields.radiance import RadianceConfig, RadianceField
from polyfield.fields.replay import replay, replay_reference
from polyfield.fields.samples import Samples


def field(name: str, domain: Domain, **changes: object) -> RadianceField:
    data = preset(name)["field"] | changes
    if "log2_table" in data["encoder"]:
        data["encoder"] |= {"log2_table": 10}
    if data["density_head"]["hidden"] > 2:
        data["density_head"] |= {"width": 32, "hidden": 3, "skips": [2]}
    return RadianceField(from_json(RadianceConfig, data), domain, seed=3)


def batch(count: int) -> tuple[Samples, Tensor, Tensor, Tensor, Tensor]:
    generator = Generator().manual_seed(count)
    rays = max(1, count // 9)
    ids = torch.randint(rays, (count,), generator=generator).sort().values
    offsets = torch.zeros(rays + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(ids, minlength=rays).cumsum(0)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    positions = (
        torch.rand(count, 3, generator=generator) * 3 - 1.5
    )  # a third of each axis is outside
    positions[0] = 0.3  # the first is inside, and kept
    t = torch.zeros(count)
    samples = Samples(positions, t, t, offsets, ids.int(), directions)
    chosen = torch.rand(count, generator=generator) < 0.4
    chosen[0] = True
    kept = chosen.nonzero()[:, 0]
    weights = 1 + torch.rand(len(kept), generator=generator)
    to_sigma = torch.randn(count, generator=generator)
    to_color = torch.randn(count, 3, generator=generator)
    return samples, kept, weights, to_sigma, to_color


def gradients(made: RadianceField) -> list[Tensor]:
    """Of each group, as the optimiser finds them; cleared."""
    found = []
    for group in made.groups():
        if group.gradient is not None:
            found.append(group.gradient.values.clone())
            marked = group.gradient.touched.bool().repeat_interleave(16)[: found[-1].numel()]
            assert (found[-1].flatten()[~marked] == 0).all()
            group.gradient.clear()
        for parameter in group.parameters:
            if parameter.grad is not None:
                found.append(parameter.grad.clone())
                parameter.grad = None
    return found


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("count", [1, 65, 5000])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_agrees_with_autograd(name: str, known: bool, count: int, activation: str) -> None:
    domain = Contraction((0.0, 0.0, 0.0), 1.0) if count == 65 else Box((-1.0,) * 3, (1.0,) * 3)
    made = field(name, domain, density=activation)
    samples, *rest = batch(count)
    encoded = None
    if known:
        with torch.no_grad():
            encoded = made.encoder(domain.place(samples.positions)[0]).t().contiguous()
    replay_reference(made, samples, *rest)
    wanted = gradients(made)
    replay(made, samples, *rest, encoded)
    found = gradients(made)
    assert len(found) == len(wanted) > 1
    for mine, theirs in zip(found, wanted, strict=True):
        # The same kernels; sums over points are split otherwise, and bf16 operands may round to the neighbour.
        torch.testing.assert_close(mine, theirs, rtol=2e-2, atol=2e-3 * float(theirs.abs().max()))
        assert theirs.abs().max() > 0


def test_gradients_add_up() -> None:
    made = field("hashgrid", Box((-1.0,) * 3, (1.0,) * 3))
    arguments = batch(300)
    replay(made, *arguments)
    once = gradients(made)
    replay(made, *arguments)
    replay(made, *arguments)
    for twice, single in zip(gradients(made), once, strict=True):
        torch.testing.assert_close(twice, 2 * single)


def test_nothing_kept_changes_nothing() -> None:
    made = field("hashgrid", Box((-1.0,) * 3, (1.0,) * 3))
    samples, _, _, to_sigma, to_color = batch(50)
    none = torch.zeros(0, dtype=torch.int64)
    replay(made, samples, none, torch.zeros(0), to_sigma, to_color)
    assert all((g == 0).all() for g in gradients(made))


@pytest.mark.skipif(not native.available(), reason="the native module is switched off")
@pytest.mark.parametrize("name", preset_names())
def test_presets_have_a_native_form(name: str) -> None:
    assert point_field(field(name, Box((-1.0,) * 3, (1.0,) * 3))) is not None
