"""The saliency gate: what it lets through, and the penalty that empties it."""

import pytest
import torch
from torch import Generator, Tensor, nn

from polyfield.errors import ConfigError
from polyfield.fields.domain import Box
from polyfield.fields.gates.saliency import Config, Saliency, build
from polyfield.fields.radiance import RadianceConfig, RadianceField


def gate(**settings: float) -> Saliency:
    return build(Config(**{"side": 9, **settings}), 3, Generator())  # type: ignore[arg-type]


def points(count: int) -> Tensor:
    return torch.rand(count, 3, generator=Generator().manual_seed(0))


def features(count: int, scale: float = 1e-4) -> Tensor:
    return scale * torch.randn(count, 32, generator=Generator().manual_seed(1))


def test_at_first_features_are_scaled_by_one_number_and_density_is_nearly_left_alone() -> None:
    f = features(100) / 3**0.5  # as uniform in +-1e-4
    scaled, factor = gate()(points(100), f)
    assert torch.allclose(scaled, 0.7310586 * f, rtol=1e-5)
    assert torch.allclose(factor, torch.tanh(1e4 * scaled.norm(dim=1)), atol=1e-5)
    assert 0.95 < factor.mean() < 0.995  # tanh of about 2.4


def test_saliency_is_interpolated_before_the_sigmoid() -> None:
    part = gate(side=2)
    with torch.no_grad():
        part.grid[:] = torch.tensor([0.0, 4.0] * 4)[:, None]  # rises along the first axis
    x = torch.tensor([[0.25, 0.3, 0.9]])
    scaled, _ = part(x, torch.ones(1, 2))
    assert torch.allclose(scaled, torch.sigmoid(torch.tensor(1.0)).expand(1, 2))


def test_no_features_no_density_and_finite_gradients() -> None:
    part, f = gate(), features(6)
    f[::2] = 0
    f.requires_grad_()
    scaled, factor = part(points(6), f)
    assert not factor[::2].any()
    assert (factor[1::2] > 0).all()
    (factor.sum() + scaled.sum()).backward()
    assert f.grad is not None
    assert part.grid.grad is not None
    assert f.grad.isfinite().all()
    assert part.grid.grad.isfinite().all()


def test_a_field_has_no_density_where_its_features_are_zero() -> None:
    config = RadianceConfig(
        encoder={"kind": "hash_grid", "levels": 2, "log2_table": 10},
        density_head={"kind": "mlp", "width": 16, "hidden": 1, "bias": True},
        direction_encoder=None,
        color_head={"kind": "mlp", "width": 16, "hidden": 1},
        gate={"kind": "saliency", "side": 8},
    )
    field = RadianceField(config, Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), 0)
    x = points(50)
    assert (field.density(x)[0] > 0).all()
    with torch.no_grad():
        field.encoder.table.zero_()
    assert not field.density(x)[0].any()


def test_the_penalty_has_the_gradient_of_its_formula() -> None:
    part = gate(target=0.3, penalty=0.5)
    with torch.no_grad():
        part.grid.copy_(torch.randn(part.grid.shape, generator=Generator().manual_seed(2)))
        part.multiplier.fill_(0.2)
    before = torch.randn(part.grid.shape, generator=Generator().manual_seed(3))
    leaf = part.grid.detach().double().requires_grad_()
    excess = torch.sigmoid(leaf).mean() - 0.3
    (0.25 * excess.clamp(min=0) ** 2 + 0.2 * excess).backward()
    part.grid.grad = before.clone()
    part.regularise(0.0)
    assert leaf.grad is not None
    assert excess > 0
    # Sums of 729 numbers in float32.
    added = (part.grid.grad - before).double()
    assert torch.allclose(added, leaf.grad, atol=3e-7)  # the last digits of `before`
    part.follow(0.0)
    assert part.multiplier.item() == pytest.approx(0.2 + 0.5 * excess.item(), rel=1e-6)


def test_below_the_target_the_multiplier_falls_to_zero_and_no_further() -> None:
    part = gate(target=0.9, penalty=0.1)
    with torch.no_grad():
        part.multiplier.fill_(0.03)
    seen = []
    for _ in range(4):
        part.regularise(0.0)
        part.follow(0.0)
        seen.append(part.multiplier.item())
    assert seen[0] == pytest.approx(0.03 - 0.1 * (0.9 - 0.7310586), rel=1e-4)
    assert seen[1:] == [0.0, 0.0, 0.0]
    part.grid.grad = None
    part.regularise(0.0)
    assert part.grid.grad is not None
    assert not part.grid.grad.any()  # nothing pulls any more


def test_the_factor_grows_steeper_and_its_state_is_kept() -> None:
    part = gate(switch=0.5)
    part.regularise(0.49)
    part.follow(0.49)
    assert part.alpha.item() == 1e4
    part.follow(0.5)
    assert part.alpha.item() == 1e5
    again = gate(switch=0.5)
    again.load_state_dict(part.state_dict())
    assert again.alpha.item() == 1e5
    assert again.multiplier == part.multiplier > 0
    x, f = points(20), features(20, 1e-6)
    assert torch.equal(again(x, f)[1], part(x, f)[1])


def test_on_a_toy_it_reaches_its_target_and_keeps_the_shell() -> None:
    """Data want p = 1 on the shell of a ball, some 2 % of the vertices, and do not care for the rest."""
    part = gate(side=24, target=0.04, penalty=1e-1)
    axis = torch.linspace(-1, 1, 24)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    radius = torch.stack([x, y, z], -1).norm(dim=-1).reshape(-1)
    shell = (radius - 0.6).abs() < 0.02
    assert 0.01 < shell.float().mean() < 0.04
    inside = radius < 0.5
    optimiser = torch.optim.Adam(part.parameters(), 0.05, eps=1e-15)
    for step in range(400):
        optimiser.zero_grad()
        (1 - torch.sigmoid(part.grid[shell])).square().mean().backward()
        part.regularise(step / 400)
        optimiser.step()
        part.follow(step / 400)
        assert part.multiplier >= 0
    p = torch.sigmoid(part.grid.detach()).flatten()
    assert part.saliency() <= 1.1 * 0.04
    assert p[shell].mean() > 0.5
    assert p[inside].max() < 0.5  # hollow
    assert part.empty_share() == pytest.approx(float((p < 0.5).float().mean()))
    assert part.empty_share() > 0.95


@pytest.mark.parametrize(
    ("log2_table", "millions"),
    [(14, 0.76), (15, 1.21), (16, 2.04), (17, 3.60), (18, 6.48), (19, 11.75)],
)
def test_parameters_are_counted_as_in_the_paper(log2_table: int, millions: float) -> None:
    config = RadianceConfig(
        encoder={
            "kind": "hash_grid",
            "levels": 16,
            "log2_table": log2_table,
            "base": 16,
            "finest": 1024.0,
            "layout": "torch-ngp",
        },
        density_head={"kind": "mlp", "width": 64, "hidden": 1},
        direction_encoder={"kind": "spherical_harmonics", "degree": 4},
        color_head={"kind": "mlp", "width": 64, "hidden": 2},
        gate={"kind": "saliency"},
    )
    with torch.device("meta"):
        field = RadianceField(config, Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), 0)
    assert field.gate.grid.numel() == 64**3
    total = sum(p.numel() for p in field.parameters())
    # The colour network takes the raw density too here: one input of 64 columns more than in the paper.
    assert round((total - 64) / 1e6, 2) == millions


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_it_gates_points_of_one_to_three_coordinates(dim: int) -> None:
    part = build(Config(side=4), dim, Generator())
    assert part.grid.shape == (4**dim, 1)
    scaled, factor = part(torch.rand(5, dim), torch.ones(5, 2))
    assert scaled.shape == (5, 2)
    assert factor.shape == (5,)


def test_feature_major_features_stay_so() -> None:
    """Networks behind read them as they lie; a copy would cost a pass."""
    part, f = gate(), features(100)
    scaled, factor = part(points(100), f.t().contiguous().t())
    assert scaled.t().is_contiguous()
    assert torch.allclose(scaled, part(points(100), f)[0])
    assert isinstance(part, nn.Module)
    assert torch.allclose(factor, part(points(100), f)[1], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"side": 1}, "side must be in 2..1024, but is 1"),
        ({"target": 1.5}, r"target must be in \[0, 1\], but is 1.5"),
        ({"switch": -0.5}, r"switch must be in \[0, 1\], but is -0.5"),
        ({"penalty": 0.0}, "penalty must be above 0, but is 0.0"),
        ({"alpha_end": -1.0}, "alpha_end must be above 0"),
    ],
)
def test_configs_that_cannot_be_are_refused(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        gate(**settings)
    with pytest.raises(ConfigError, match="1 to 3 coordinates, but have 4"):
        build(Config(), 4, Generator())
