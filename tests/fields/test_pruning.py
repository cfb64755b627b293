"""Pruning: what is closed gives nothing, what is open stays, and no entry that is read is dropped."""

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from polyfield.errors import ConfigError, ShapeError
from polyfield.fields import model_file
from polyfield.fields.gates.saliency import Config, Saliency, build
from polyfield.fields.model import Model, build_model
from polyfield.fields.ops.hash_grid import GridGeometry, hash_grid_reference
from polyfield.fields.ops.hash_grid_reach import entries_read
from polyfield.fields.packed_rows import stored_values
from polyfield.fields.pruning import prune

BELOW = 0.01


def drawn(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(*size, generator=Generator().manual_seed(seed))


def cell_of(x: Tensor, sides: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple((x[:, axis] * side).long().clamp(max=side - 1) for axis, side in enumerate(sides))


def read_by(x: Tensor, geometry: GridGeometry) -> Tensor:
    """Which entries have a weight in the features of some points."""
    table = torch.ones(geometry.entries, geometry.features, dtype=torch.float64).requires_grad_()
    hash_grid_reference(x.double(), table, geometry).sum().backward()
    assert table.grad is not None
    return table.grad[:, 0] != 0


GRIDS = [
    GridGeometry(
        dim=3, levels=4, features=1, log2_table=9, base=4, finest=40
    ),  # dense, then hashed
    GridGeometry(dim=2, levels=3, features=2, log2_table=7, base=5, finest=60),
    GridGeometry(dim=3, levels=3, features=1, base=4, finest=17, kind="dense"),
    GridGeometry(dim=3, levels=2, features=1, base=3, finest=20, kind="tiled"),
    GridGeometry(dim=3, levels=3, features=1, log2_table=9, base=4, finest=30, layout="torch-ngp"),
    GridGeometry(
        dim=3, levels=2, features=1, log2_table=9, base=4, finest=9, layout="torch-ngp-aligned"
    ),
    GridGeometry(dim=2, levels=2, features=1, base=1, finest=3, interpolation="smoothstep"),
]


@pytest.mark.parametrize("geometry", GRIDS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_no_entry_that_is_read_is_missed_and_few_others_are_named(
    geometry: GridGeometry, share: float
) -> None:
    sides = (6, 5, 7)[: geometry.dim]
    cells = drawn(*sides, seed=3) < share
    x = drawn(40_000, geometry.dim)
    x[:64] = (x[:64] * 6).round() / 6  # on borders between cells, and on those of the cube
    x = x[cells[cell_of(x, sides)]]
    found, wanted = entries_read(geometry, cells), read_by(x, geometry)
    assert not (wanted & ~found).any()
    if not cells.any():
        assert not found.any()
    # Vertices on the far side of a border are named too, read or not; so are those that no point happened to come near.
    for level in geometry.levels_table:
        own = slice(level.offset, level.offset + level.entries)
        if level.rule == 0 and level.resolution > 12 and share == 0.02:
            assert found[own].sum() <= 2.5 * wanted[own].sum()


def test_chunks_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = drawn(6, 5, 7, seed=3) < 0.05
    whole = entries_read(GRIDS[0], cells)
    monkeypatch.setattr("polyfield.fields.ops.hash_grid_reach._CHUNK", 50)
    assert torch.equal(entries_read(GRIDS[0], cells), whole)


def test_cells_need_the_axes_of_the_grid() -> None:
    with pytest.raises(ShapeError, match="must have 3 axes as the grid has, but have 2"):
        entries_read(GRIDS[0], torch.ones(2, 2, dtype=torch.bool))


def gate(side: int = 9, dim: int = 3) -> Saliency:
    """A gate that is nearly shut on one side, with a few vertices at random beside."""
    part = build(Config(side=side), dim, Generator())
    with torch.no_grad():
        ramp = torch.linspace(-12, 4, side).repeat(side ** (dim - 1))  # along the first axis
        part.grid.copy_((ramp + drawn(side**dim, seed=5))[:, None])
    return part


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_gate_is_closed_where_it_gave_next_to_nothing_and_is_else_what_it_was(dim: int) -> None:
    part, x, f = gate(dim=dim), drawn(3000, dim), drawn(3000, 4, seed=1) - 0.5
    before, factor_before = part(x, f)
    assert part.open(x) is None
    config, cells = part.close(BELOW)
    assert config == {"closed_below": BELOW}
    after, factor = part(x, f)
    there = part.open(x)
    assert there is not None
    assert torch.equal(there, cells[cell_of(x, (8,) * dim)])
    assert 0.2 < there.float().mean() < 0.8
    assert torch.equal(after[there], before[there])
    assert torch.equal(factor[there], factor_before[there])
    # p was less than the limit there: features change by less than that share of themselves.
    assert (before[~there].abs() <= BELOW * f[~there].abs()).all()


def test_cells_are_closed_where_and_only_where_all_their_vertices_are_low() -> None:
    part = gate()
    p = torch.sigmoid(part.grid.detach()).view(9, 9, 9).permute(2, 1, 0)
    _, cells = part.close(BELOW)
    for x, y, z in ((i, j, k) for i in range(8) for j in range(8) for k in range(8)):
        assert cells[x, y, z] == (p[x : x + 2, y : y + 2, z : z + 2].max() >= BELOW)


def test_vertices_of_closed_cells_alone_hold_nothing_and_count_as_shut() -> None:
    part = gate()
    p = torch.sigmoid(part.grid.detach()).flatten()
    part.close(BELOW)
    emptied = part.grid.detach().flatten() == 0
    assert 100 < emptied.sum() < 600
    assert (p[emptied] < BELOW).all()
    kept = p.masked_fill(emptied, 0.0)
    assert part.saliency() == pytest.approx(float(kept.mean()), rel=1e-6)
    assert part.empty_share() == pytest.approx(float((kept < 0.5).float().mean()))
    part.regularise(0.0)  # nor does the penalty pull at them
    assert part.grid.grad is not None
    assert not part.grid.grad.flatten()[emptied].any()


def test_points_with_a_nan_are_open_and_borders_belong_to_one_cell() -> None:
    part = gate(dim=1)
    part.close(BELOW)
    x = torch.tensor([[float("nan")], [0.0], [-3.0], [1.0], [7.0]])
    there = part.open(x)
    assert there is not None
    assert there.tolist() == [True, False, False, True, True]
    assert part(x, torch.ones(5, 2))[0][0].isnan().all()


def test_to_close_again_changes_nothing_and_to_close_more_closes_more() -> None:
    part = gate()
    _, cells = part.close(BELOW)
    once = {name: value.clone() for name, value in part.state_dict().items()}
    _, again = part.close(BELOW)
    assert torch.equal(cells, again)
    assert all(torch.equal(value, once[name]) for name, value in part.state_dict().items())
    _, fewer = part.close(0.5)
    assert not (fewer & ~cells).any()
    assert fewer.sum() < cells.sum()


def test_what_was_closed_stays_closed_whatever_is_asked_or_learnt_later() -> None:
    part = build(Config(side=5), 3, Generator())
    with torch.no_grad():
        part.grid.copy_(4 * drawn(125, seed=5)[:, None] - 2)  # closed and open cells share vertices
    _, cells = part.close(0.8)
    assert 0.1 < cells.float().mean() < 0.9
    _, again = part.close(0.1)
    assert torch.equal(again, cells)
    with torch.no_grad():
        part.grid.fill_(9.0)
    _, again = part.close(0.1)
    assert torch.equal(again, cells)


def model(log2_table: int = 12) -> Model:
    field = {
        "encoder": {"kind": "hash_grid", "levels": 4, "log2_table": log2_table, "finest": 100.0},
        "gate": {"kind": "saliency", "side": 17},
        "density_head": {"kind": "mlp", "width": 16, "hidden": 1},
        "direction_encoder": None,
        "color_head": {"kind": "mlp", "width": 16, "hidden": 1},
        "features": 4,
    }
    domain = {"kind": "box", "low": [0.0] * 3, "high": [1.0] * 3}
    made = build_model("radiance", {"field": field, "domain": domain})
    with torch.no_grad():
        made.module.gate.grid.copy_(gate(17).grid)
        made.module.encoder.table.mul_(1e4)
    return made


def test_a_pruned_field_is_what_it_was_where_it_is_open() -> None:
    made, x = model(), drawn(5000, 3)
    before = made.module.density(x)
    assert prune(made, BELOW)
    there = made.module.gate.open(made.module.domain.to_unit(x))
    for was, became in zip(before, made.module.density(x), strict=True):
        # The same products; at the ends of blocks of points torch may sum them in another order.
        assert torch.allclose(became[there], was[there], rtol=1e-5, atol=1e-6)
        assert not became[~there].any()
    assert before[0][~there].any()  # 0 is not what it was, but p was: see the gate's own test


def test_gradients_reach_a_pruned_field_where_it_is_open() -> None:
    made, x = model(), drawn(500, 3).requires_grad_()
    prune(made, BELOW)
    made.module.density(x)[0].sum().backward()
    there = made.module.gate.open(x.detach())
    assert x.grad is not None
    assert x.grad[there].any()
    assert not x.grad[~there].any()


def test_points_in_closed_cells_are_not_evaluated() -> None:
    made, asked = model(), []
    prune(made, BELOW)
    made.module.encoder.register_forward_pre_hook(lambda _, given: asked.append(given[0]))
    x = drawn(1000, 3)
    with torch.no_grad():
        made.module.density(x)
        made.module.density(torch.full((10, 3), 0.01))  # none is open
    there = made.module.gate.open(x)
    assert [len(points) for points in asked] == [int(there.sum()), 0]


def test_a_pruned_model_is_small_and_comes_back(tmp_path: Path) -> None:
    made = model(log2_table=14)
    whole, pruned = tmp_path / "whole.safetensors", tmp_path / "pruned.safetensors"
    model_file.save(made, whole)
    prune(made, BELOW)
    model_file.save(made, pruned)
    assert pruned.stat().st_size < 0.9 * whole.stat().st_size
    assert stored_values(made.module.encoder.table) < 0.9 * made.module.encoder.table.numel()
    again, x = model_file.load(pruned), drawn(1000, 3)
    assert again.config["field"]["gate"]["closed_below"] == BELOW
    for name, value in made.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], value)
    assert torch.equal(again.module.density(x)[0], made.module.density(x)[0])
    assert model_file.load(whole).config["field"]["gate"]["closed_below"] == 0.0


def test_a_file_from_before_gates_were_closed_is_read(tmp_path: Path) -> None:
    made, path = model(), tmp_path / "old.safetensors"
    del made.config["field"]["gate"]["closed_below"]
    model_file.save(made, path)
    assert model_file.load(path).module.gate.open(drawn(5, 3)) is None


def test_fields_without_a_gate_stay_and_limits_are_checked() -> None:
    made = model()
    made.module.gate = None
    assert not prune(made, BELOW)
    for below in (0.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"below must be in \(0, 1\]"):
            prune(model(), below)
