"""Encoders that grow: what they hold stays, they can be saved, and their penalties are those of the formula."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from polyfield.errors import ConfigError, DataError
from polyfield.fields import model_file, registry, tensor_file
from polyfield.fields.encoders._growth import share_of
from polyfield.fields.model import Model, build_model
from polyfield.fields.ops.sparse_grid import lattice_points
from polyfield.fields.ops.total_variation import total_variation
from polyfield.training.adam import Adam, AdamGroup

GROWN = {
    "voxels": {"channels": 4, "side": 9, "sides": [[0.5, 17]]},
    "vm": {"channels": 4, "side": 9, "sides": [[0.5, 17]]},
    "cp": {"channels": 4, "side": 9, "sides": [[0.5, 17]]},
}
every_kind = pytest.mark.parametrize("kind", GROWN)


def encoder(kind: str, **changes: Any) -> Any:
    config = {"kind": kind, **GROWN[kind], **changes}
    part = registry.build_encoder(config, 3, Generator().manual_seed(0))
    with torch.no_grad():
        part.table.copy_(torch.randn(part.table.shape, generator=Generator().manual_seed(1)))
    return part


def everywhere(points: Tensor) -> Tensor:
    return torch.ones(len(points), dtype=torch.bool)


def ball(points: Tensor) -> Tensor:
    return (points - 0.4).norm(dim=1) < 0.2


def test_all_that_can_grow_is_here():
    kinds = registry.kinds("encoders")
    built = {kind: registry.build_encoder({"kind": kind}, 3, Generator()) for kind in kinds}
    growing = {kind for kind, part in built.items() if isinstance(part, registry.Growing)}
    assert growing == {*GROWN, "neurbf"}  # which hands it on to its grid: see below


@every_kind
def test_it_grows_when_it_is_time_and_once(kind):
    part = encoder(kind)
    assert part.grow(0.0, everywhere) is None
    assert part.grow(0.499, everywhere) is None
    assert part.grow(0.5, everywhere).config["side"] == 17
    assert part.grow(0.6, everywhere) is None


@every_kind
def test_growing_changes_nothing_but_by_rounding_where_old_vertices_stay(kind):
    """From 9 to 17 vertices each old cell is halved: the new functions are the old ones."""
    part, x = encoder(kind), torch.rand(500, 3, generator=Generator().manual_seed(2))
    before = part(x)
    part.grow(1.0, everywhere)
    # Products of up to three interpolated numbers around 1, once more interpolated: some ten roundings of up to 6e-8.
    assert torch.allclose(part(x), before, atol=2e-5)


@every_kind
def test_a_linear_function_stays_itself_at_any_side(kind):
    part = encoder(kind, side=5, sides=[[0.0, 12]])
    grids = getattr(part, "layout", None)
    if grids is None:
        part.table.data = lattice_points(torch.arange(125), 5) @ torch.randn(3, 4)
        part.grow(0.0, everywhere)
        x, corners = torch.rand(100, 3), torch.eye(4)[:, 1:]
        ends = part(corners)  # at the origin and along each axis
        assert torch.allclose(part(x), ends[0] + x @ (ends[1:] - ends[0]), atol=1e-5)
        return
    rows = []
    for factor in grids.factors:
        places = torch.cartesian_prod(*(torch.linspace(0, 1, 5),) * len(factor.axes))
        rows.append(places.view(-1, len(factor.axes)).flip(1).sum(1))
    part.table.data = torch.cat(rows)[:, None].repeat(1, 4)
    part.grow(0.0, everywhere)
    for factor, row in zip(part.layout.factors, part.layout.first_rows, strict=True):
        places = torch.cartesian_prod(*(torch.linspace(0, 1, 12),) * len(factor.axes))
        expected = places.view(-1, len(factor.axes)).sum(1)
        came = part.table[row : row + factor.rows, 0]
        assert torch.allclose(came, expected, atol=1e-6)


@every_kind
def test_what_it_says_about_its_parameters_lets_the_optimiser_go_on(kind):
    part = encoder(kind)
    adam = Adam([AdamGroup("table", [part.table], 0.1, [part.gradient])])
    part.gradient.add(torch.ones_like(part.table))
    adam.step()
    (resize,) = part.grow(1.0, ball).resizes
    assert resize.new is part.table
    assert resize.gradient is part.gradient
    adam.resize(resize.old, resize.new, resize.rows, resize.gradient)
    # Each entry had one step, and inherits that of the nearest vertex where there was one.
    assert (adam.state_dict()["table.0.count"].int() == 1).all()
    assert (resize.rows >= 0).all()
    before = part.table.detach().clone()
    part.gradient.add(torch.ones_like(part.table))
    adam.step()
    assert (part.table < before).all()


def model_of(kind: str) -> Model:
    mlp = {"kind": "mlp", "width": 16, "hidden": 1}
    field = {
        "encoder": {"kind": kind, **GROWN[kind]},
        "density_head": mlp,
        "direction_encoder": None,
        "color_head": mlp,
        "features": 4,
    }
    domain = {"kind": "box", "low": [0.0] * 3, "high": [1.0] * 3}
    return build_model("radiance", {"field": field, "domain": domain})


@every_kind
@pytest.mark.parametrize("occupied", [everywhere, ball])
def test_a_grown_field_survives_its_file(kind, occupied, tmp_path):
    model = model_of(kind)
    assert model.module.after_step(1.0, occupied)  # type: ignore[operator]
    model.config["field"]["encoder"] = model.module.config.encoder  # type: ignore[union-attr]
    part: Any = model.module.encoder
    part.table.data = torch.randn(part.table.shape, generator=Generator().manual_seed(1))
    model_file.save(model, tmp_path / "field.safetensors")
    again: Any = model_file.load(tmp_path / "field.safetensors").module.encoder
    x = torch.rand(300, 3, generator=Generator().manual_seed(3))
    assert torch.equal(again(x), part(x))
    if kind == "voxels":
        assert torch.equal(again.vertices, part.vertices)
        at_vertices = again(lattice_points(part.vertices, 17))
        # A vertex may be a rounding away from its place: 17 sides, 2^-24 each, times differences of a few.
        assert torch.allclose(at_vertices, part.table, atol=2e-5)


def test_dropped_are_only_vertices_around_which_nothing_is():
    part = encoder("voxels", side=17, sides=[[0.0, 33]])
    before = part.table.detach().clone().view(17, 17, 17, 4)
    change = part.grow(0.0, ball)
    assert change.config == {"side": 33, "rows": len(part.table)}
    x = torch.rand(20000, 3, generator=Generator().manual_seed(4))
    near = (x - 0.4).norm(dim=1) < 0.2 + 1 / 32  # a cell more on each side is kept
    layout = x[near] * 16
    cell = layout.long().clamp(max=15)
    t, expected = layout - cell, torch.zeros(int(near.sum()), 4)
    for corner in torch.cartesian_prod(*(torch.arange(2),) * 3):
        i, j, k = (cell + corner).unbind(1)
        weight = torch.where(corner == 1, t, 1 - t).prod(1)
        expected += weight[:, None] * before[k, j, i]
    assert torch.allclose(part(x[near]), expected, atol=2e-5)
    # Two cells, and the diagonal of one, away from it there is nothing.
    far = (x - 0.4).norm(dim=1) > 0.2 + (2 + 2) * 3**0.5 / 32
    assert far.any()
    assert not part(x[far]).any()
    assert len(part.table) < 0.3 * 33**3


def test_what_is_dropped_stays_so():
    part = encoder("voxels", side=17, sides=[[0.0, 33], [0.5, 65]])
    part.grow(0.0, ball)
    part.grow(0.5, everywhere)
    x = torch.rand(20000, 3, generator=Generator().manual_seed(4))
    far = (x - 0.4).norm(dim=1) > 0.2 + 4 * 3**0.5 / 32
    assert not part(x[far]).any()


def test_where_nothing_is_at_all_it_stays_as_it_is():
    part = encoder("voxels")
    assert part.grow(1.0, lambda points: torch.zeros(len(points), dtype=torch.bool)) is None
    assert len(part.table) == 9**3


def test_a_thin_thing_is_found_by_a_coarse_grid():
    """Of 16 cells a side, each is looked at in several places."""
    part = encoder("voxels", side=9, sides=[[0.0, 17]])
    part.grow(0.0, lambda points: (points[:, 0] - 0.51).abs() < 0.006)
    kept = lattice_points(part.vertices, 17)
    assert len(kept) < 17**3 / 2
    assert ((kept[:, 0] - 0.51).abs() < 2.1 / 16).all()


@pytest.mark.parametrize("parts", [1, 3, 16])
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_shares_cover_a_range_and_none_is_left_out(count, parts):
    seen = {(s.start, s.stop) for s in (share_of(count, parts, i / 500) for i in range(500))}
    rising = sorted(seen)
    assert rising[0][0] == 0
    assert rising[-1][1] == count
    assert all(a[1] == b[0] for a, b in pairwise(rising))


@pytest.mark.parametrize("kind", ["vm", "cp"])
def test_the_penalty_on_size_is_the_mean_of_absolute_values(kind):
    part = encoder(kind, sparsity=0.5)
    seen = torch.zeros_like(part.table)
    for i in range(300):
        part.regularise(i / 300)
        marked = part.gradient.touched.repeat_interleave(16)[: seen.numel()].bool()
        assert not part.gradient.values.view(-1)[~marked].any()
        new = part.gradient.values.clone()
        assert ((seen == 0) | (new == 0) | (seen == new)).all()
        seen = torch.where(new == 0, seen, new)
        part.gradient.clear()
    table = part.table.detach().requires_grad_()
    factors, rows = list(part.layout.factors), part.layout.first_rows
    penalty = sum(
        table[row : row + factor.rows].abs().mean()
        for factor, row in zip(factors, rows, strict=True)
    )
    (expected,) = torch.autograd.grad(0.5 * penalty, table)
    assert torch.allclose(seen, 16 * expected, rtol=1e-6)  # one of 16 parts at a time


def test_smoothing_is_the_mean_over_parts_of_the_vertices():
    part = encoder("voxels", smooth_first=2.0, smooth_rest=0.5)
    part.regularise(0.25)
    some = part.vertices[share_of(9**3, 64, 0.25)]
    table = part.table.detach().requires_grad_()
    weights = torch.tensor([2.0, 0.5, 0.5, 0.5])
    (expected,) = torch.autograd.grad(total_variation(table, part.index, some, weights), table)
    assert expected.any()
    assert torch.allclose(part.gradient.values, expected, atol=1e-5 * float(expected.abs().max()))


@every_kind
def test_without_weights_there_is_no_penalty(kind):
    part = encoder(kind)
    part.regularise(0.5)
    assert not part.gradient.touched.any()


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        ("voxels", {"side": 1}, "side must be 2 to 1024"),
        ("voxels", {"channels": 0}, "channels must be 1 to 1024"),
        ("voxels", {"rows": 730}, r"rows must be 1 to side\^3, 729"),
        ("voxels", {"smooth_rest": -1.0}, "must not be below 0"),
        ("voxels", {"sides": [[0.5, 1025]]}, "a side of 2 to 1024"),
        ("vm", {"sides": [[1.5, 20]]}, r"a fraction in \[0, 1\]"),
        ("cp", {"sparsity": -0.1}, "sparsity must not be below 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(kind, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        encoder(kind, **changes)


def test_a_file_with_a_broken_index_is_refused(tmp_path: Path):
    model, path = model_of("voxels"), tmp_path / "field.safetensors"
    model_file.save(model, path)
    tensors, note = tensor_file.read(path)
    for at, row in ((0, 1), (5, -1), (7, 10**6)):
        index = tensors["weights.encoder.index"].clone()
        index.view(-1)[at] = row
        tensor_file.write(path, {**tensors, "weights.encoder.index": index}, note)
        with pytest.raises(DataError, match="must number its 729 kept vertices in their order"):
            model_file.load(path)


def test_a_grid_beside_radial_bases_grows_and_is_penalised() -> None:
    config = {
        "kind": "neurbf",
        "grid": {"kind": "vm", **GROWN["vm"], "sparsity": 0.1},
        "stored": 20_000,
    }
    part: Any = registry.build_encoder(config, 3, Generator().manual_seed(0))
    part.regularise(0.0)
    assert part.grid.gradient.touched.any()
    kernels = len(part.centres)
    assert part.grow(0.4, everywhere) is None
    change = part.grow(0.5, everywhere)
    assert change.resizes[0].new is part.grid.table
    again = registry.build_encoder({**config, **change.config}, 3, Generator())
    assert again.grid.side == 17
    assert len(again.centres) == kernels
