"""Domains: into the unit cube, one to one, and known outside."""

import pytest
import torch

from polyfield.errors import ConfigError
from polyfield.fields.domain import Box, Contraction, build_domain, domain_json

DOMAINS = [
    Box((-1.0, -2.0, 0.0), (1.0, 4.0, 0.5)),
    Contraction((0.5, -1.0, 2.0), 3.0),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: type(d).__name__)
def test_all_of_space_lands_in_the_cube(domain: Box | Contraction) -> None:
    far = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * 1e4
    unit = domain.to_unit(far)
    assert ((unit >= 0) & (unit <= 1)).all()


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: type(d).__name__)
def test_the_cube_leads_back_to_the_world(domain: Box | Contraction) -> None:
    unit = torch.rand(1000, 3, generator=torch.Generator().manual_seed(0))
    inside = unit[(unit - 0.5).norm(dim=-1) < 0.45]  # a contraction's corners hold nothing
    # A contraction is steep at its rim: 20 radii away an ulp of the cube is 400 times as large.
    assert torch.allclose(domain.to_unit(domain.to_world(inside)), inside, atol=1e-5)


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: type(d).__name__)
def test_json_round_trip(domain: Box | Contraction) -> None:
    assert build_domain(domain_json(domain)) == domain


def test_a_box_maps_its_corners_and_knows_its_border() -> None:
    box = DOMAINS[0]
    corners = torch.tensor([[-1.0, -2.0, 0.0], [1.0, 4.0, 0.5], [0.0, 1.0, 0.25]])
    assert box.to_unit(corners).tolist() == [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]]
    assert box.inside(corners + torch.tensor([[0, 0, 0], [1e-3, 0, 0], [0, 0, 0]])).tolist() == [
        True,
        False,
        True,
    ]


def test_a_contraction_is_a_plain_scaling_in_its_ball_and_continuous_at_its_edge() -> None:
    domain = Contraction((0.0, 0.0, 0.0), 2.0)
    inside = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    assert torch.allclose(domain.to_unit(inside), inside / 8 + 0.5)
    step = torch.tensor([[0.0, 2.0 * (1 + 1e-4), 0.0]])
    assert (domain.to_unit(step) - domain.to_unit(inside[1:])).abs().max() < 1e-4


def test_contraction_keeps_order_along_a_ray_to_infinity() -> None:
    domain = Contraction((0.0, 0.0, 0.0), 1.0)
    t = torch.logspace(-2, 5, 200)[:, None] * torch.tensor([[0.6, 0.0, 0.8]])
    distance = (domain.to_unit(t) - 0.5).norm(dim=-1)
    assert (distance.diff() > 0).all()
    assert distance[-1] < 0.5


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="must be below its high corner"):
        Box((0.0, 0.0, 0.0), (1.0, 0.0, 1.0))
    with pytest.raises(ConfigError, match=r"no domain 'boxx'\. Did you mean 'box'"):
        build_domain({"kind": "boxx"})
