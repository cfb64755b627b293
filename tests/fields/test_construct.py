"""A grid that is told what another field says then says it too."""

from typing import Any

import pytest
import torch
from torch import Generator

from polyfield.config import from_json
from polyfield.fields.construct import construct
from polyfield.fields.domain import Box
from polyfield.fields.evaluate import evaluate
from polyfield.fields.ops.density import ACTIVATIONS
from polyfield.fields.ops.directions import even_directions
from polyfield.fields.presets import preset
from polyfield.fields.radiance import RadianceConfig, RadianceField
from polyfield.fields.registry import Summable, Summing
from polyfield.fields.samples import Samples

BOX = Box((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def voxels(side: int, **changes: Any) -> RadianceField:
    data = preset("plenoxels")["field"] | changes
    data["encoder"] |= {"side": side, "sides": []}
    return RadianceField(from_json(RadianceConfig, data), BOX)


def everywhere(unit: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(unit), dtype=torch.bool)


def some_samples(count: int) -> Samples:
    generator = Generator().manual_seed(2)
    ids = torch.arange(count, dtype=torch.int32)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    positions = torch.rand(count, 3, generator=generator) * 1.8 - 0.9
    t = torch.zeros(count)
    return Samples(positions, t, t, torch.arange(count + 1), ids, directions)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("color", ["sigmoid", "none"])
def test_what_is_the_same_everywhere_is_taken_over(activation: str, color: str) -> None:
    """Densities and colours that hang on the direction alone are held by any grid."""
    teacher = voxels(4)
    generator = Generator().manual_seed(1)
    row = 0.3 * torch.randn(28, generator=generator)
    row[0] = 0.7
    with torch.no_grad():
        teacher.encoder.table.copy_(row.expand_as(teacher.encoder.table))
        if color == "none":
            teacher.encoder.table[:, 1::9] += 1.0
    teacher.config = from_json(RadianceConfig, vars(teacher.config) | {"color": color})
    student = voxels(7, density=activation, color=color)
    assert construct(student, teacher, everywhere)
    samples = some_samples(500)
    mine, theirs = evaluate(student, samples), evaluate(teacher, samples)
    torch.testing.assert_close(mine.sigma, theirs.sigma, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mine.color, theirs.color, rtol=1e-3, atol=1e-3)


def test_densities_that_are_linear_are_taken_over() -> None:
    teacher = voxels(2)
    with torch.no_grad():
        teacher.encoder.table[:, 0] = torch.linspace(0.1, 0.8, 8)
    student = voxels(9)
    construct(student, teacher, everywhere)
    # But for the outermost cells: what lies outside the box is not asked for.
    samples = some_samples(500)
    inner = samples.positions.abs().amax(1) < 0.75
    mine, theirs = evaluate(student, samples), evaluate(teacher, samples)
    torch.testing.assert_close(mine.sigma[inner], theirs.sigma[inner], rtol=1e-4, atol=1e-3)


def test_it_has_the_size_of_the_end_and_only_what_is_occupied() -> None:
    student = voxels(8)
    data = vars(student.config) | {"encoder": student.config.encoder | {"sides": [[0.5, 17]]}}
    student = RadianceField(from_json(RadianceConfig, data), BOX)
    (resize,) = construct(student, voxels(4), lambda unit: unit[:, 0] < 0.3)
    assert student.config.encoder["side"] == 17
    assert student.config.encoder["rows"] == len(student.encoder.table) < 17**3
    assert resize.new is student.encoder.table
    again = RadianceField(from_json(RadianceConfig, vars(student.config)), BOX)
    again.load_state_dict(student.state_dict())


def state_of(field: RadianceField) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in field.state_dict().items()}


def summed(kind: str, **changes: Any) -> RadianceField:
    """A field whose density is the sum of an encoder's features."""
    data = preset("tensorf")["field"] | changes
    data["encoder"] = {"kind": kind, "channels": 12, "side": 24}
    if data["density"] == "relu":
        data["density_head"] = {"kind": "sum"}  # raw density then is as large as density itself
    data["appearance_encoder"] |= {"channels": 2, "side": 8, "sides": []}
    return RadianceField(from_json(RadianceConfig, data), BOX)


def hills() -> RadianceField:
    """Densities from nothing to what hides all behind it."""
    teacher = voxels(13)
    axis = torch.linspace(-1.0, 1.0, 13)
    far = torch.cartesian_prod(axis, axis, axis).square().sum(1)
    with torch.no_grad():
        teacher.encoder.table[:, 0] = 2.0 * torch.exp(-3.0 * far) - 0.02
    return teacher


@pytest.mark.parametrize("kind", ["vm", "cp"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_features_add_up_to_the_density(kind: str, activation: str) -> None:
    student, teacher = summed(kind, density=activation), hills()
    assert isinstance(student.encoder, Summable)
    assert isinstance(student.density_head, Summing)
    before = state_of(student)
    assert construct(student, teacher, everywhere) == []
    samples = some_samples(2000)
    mine, theirs = evaluate(student, samples).sigma, evaluate(teacher, samples).sigma
    # What shows is how much a cell of 1/23 of the box lets through. What four sweeps over twelve channels leave, and
    # what is interpolated between vertices, is nowhere as much as a fifth, and in the mean far less.
    depth = student.domain.scale / 23
    through = torch.exp(-depth * mine) - torch.exp(-depth * theirs)
    assert through.abs().mean() < 0.03
    assert through.abs().max() < 0.2
    changed = [key for key, value in student.state_dict().items() if not value.equal(before[key])]
    assert changed == ["encoder.table"]


def test_nothing_is_told_where_nothing_may_be() -> None:
    student = summed("vm")
    before = state_of(student)
    construct(student, hills(), lambda unit: torch.zeros(len(unit), dtype=torch.bool))
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())


OTHERS: dict[str, dict[str, Any]] = {
    "hashgrid": preset("hashgrid")["field"],
    "rbfnet": preset("rbfnet")["field"],
    "hollow": preset("hollow")["field"],
    "kplanes, summed": preset("tensorf")["field"] | {"encoder": {"kind": "kplanes", "base": 8}},
    "vm, not summed": preset("tensorf")["field"] | {"density_head": {"kind": "mlp", "width": 16}},
    "gated": preset("tensorf")["field"] | {"gate": preset("hollow")["field"]["gate"]},
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_told_is_left_alone(name: str) -> None:
    student = RadianceField(from_json(RadianceConfig, OTHERS[name]), BOX)
    before = state_of(student)
    assert construct(student, voxels(4), everywhere) == []
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())


@pytest.mark.parametrize("count", [1, 2, 5, 200])
def test_directions_are_spread_evenly(count: int) -> None:
    directions = even_directions(count)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(count, dtype=torch.float64))
    # The mean of many is near 0, and none has a neighbour much nearer than the others have.
    if count == 200:
        assert directions.mean(0).norm() < 0.01
        apart = torch.cdist(directions, directions).fill_diagonal_(9.0).amin(1)
        assert apart.min() > 0.6 * apart.max()
