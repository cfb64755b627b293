"""Tracing sees what one march over everything sees, natively and by turns in Python."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.domain import Contraction
from polyfield.fields.model import build_model
from polyfield.fields.point_field import point_field
from polyfield.fields.presets import preset
from polyfield.renderers.composite import composite, visible
from polyfield.renderers.march import MarchSettings, march
from polyfield.renderers.trace import Rays, Traced, trace, trace_by_turns
from polyfield.renderers.volume import VolumeRenderer

SMALLER: dict[str, dict[str, object]] = {
    "hash_grid": {"log2_table": 12, "levels": 3},
    "kplanes": {"base": 16, "scales": [1, 2]},
    "vm": {"side": 16},
    "voxels": {"side": 8, "first": 1.0},
    "neurbf": {"kernels": 300, "grid": {"kind": "hash_grid", "levels": 3, "log2_table": 12}},
}
# All but the last have a native form, of different parts; that one is traced by turns.
NAMES = ["hashgrid", "kplanes", "nerf", "hollow", "neurbf", "rbfnet", "tensorf", "plenoxels", "cam"]


def renderer(gain: float, name: str = "hashgrid", **render: object) -> VolumeRenderer:
    """A field in fresh weights: a fog of nearly even density."""
    field = preset(name)["field"] | {"density_gain": gain}
    for slot in ("encoder", "appearance_encoder"):
        if field.get(slot):
            field[slot] |= SMALLER.get(field[slot]["kind"], {})
    if name == "nerf":
        field["density_head"] |= {"width": 16, "hidden": 3, "skips": [2]}
    corner = [1.0, 1.0, 1.0]
    domain = {"kind": "box", "low": [-1.0, -1.0, -1.0], "high": corner}
    config = {"low": [-1.0, -1.0, -1.0], "high": corner, "resolution": 16, **render}
    model = build_model("radiance", {"field": field, "domain": domain, "render": config})
    made = VolumeRenderer(model)
    generator = Generator().manual_seed(0)
    made.grid.set_from_hull(torch.rand(made.grid.values.shape, generator=generator) < 0.6)
    return made


def rays(count: int) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    aims = torch.rand(count, 3, generator=generator) - 0.5
    return aims - 3 * directions, directions


def whole(made: VolumeRenderer, origins: Tensor, directions: Tensor, threshold: float) -> Tensor:
    """Colour of rays by one march over everything, on black."""
    settings = MarchSettings(made.config.step, made.config.cone, max_samples=4096)
    samples = march(origins, directions, 0.0, 1e9, made.grid, settings)
    with torch.no_grad():
        sigma, features = made.field.density(samples.positions)
        color = made.field.color(samples, features)
    counts = visible(sigma, samples.t0, samples.t1, samples.ray_offsets, threshold)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(counts, 0)])
    within = torch.arange(len(samples)) - samples.ray_offsets[samples.ray_ids.long()]
    rows = (within < counts[samples.ray_ids.long()]).nonzero()[:, 0]
    kept = samples.take(rows, offsets)
    black = torch.zeros(len(origins), 3)
    return composite(sigma[rows], color[rows], kept.t0, kept.t1, offsets, black).color


@pytest.mark.parametrize(("gain", "cone"), [(0.5, 0.0), (0.5, 0.01), (30.0, 0.0)])
def test_a_picture_does_not_depend_on_the_stretches(gain: float, cone: float) -> None:
    made = renderer(gain, steps=600, cone=cone, min_transmittance=0.0)
    origins, directions = rays(500)
    seen = made.render_rays(origins, directions, torch.zeros(500, 3))
    # The same samples in both, composited with the same kernel; the field's batches differ, and with them roundings.
    assert (seen.color - whole(made, origins, directions, 0.0)).abs().max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("least", [0.0, 1e-2])
@pytest.mark.parametrize(("gain", "cone"), [(3.0, 0.0), (3.0, 0.01), (100.0, 0.0)])
def test_law_of_tracing(name: str, least: float, gain: float, cone: float) -> None:
    """Natively and by turns the same samples are found, and the field says the same of them."""
    made = renderer(gain, name, steps=300, cone=cone)
    origins, directions = rays(600)  # three tiles of 256
    jitter = torch.rand(600, generator=Generator().manual_seed(2))
    seen = Rays(origins, directions, 0.0, 1e9, jitter)
    settings = MarchSettings(made.config.step, made.config.cone)
    one = trace(seen, made.grid, settings, made.field, least, keep_encoded=True)
    other = trace_by_turns(seen, made.grid, settings, made.field, least)
    assert torch.equal(one.samples.ray_offsets, other.samples.ray_offsets)
    assert torch.equal(one.samples.ray_ids, other.samples.ray_ids)
    assert len(one.samples) > 600
    for mine, theirs in (
        (one.samples.positions, other.samples.positions),
        (one.samples.t0, other.samples.t0),
        (one.samples.t1, other.samples.t1),
        (one.sigma, other.sigma),
        (one.color, other.color),
    ):
        # The same kernels over other batches: they may differ in the last bits of a remainder loop.
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert (point_field(made.field) is not None) == (native.available() and name != "cam")
    assert (one.encoded is not None) == (point_field(made.field) is not None)
    if one.encoded is not None:
        unit, _ = made.field.domain.place(one.samples.positions)
        with torch.no_grad():
            torch.testing.assert_close(one.encoded.t(), made.field.encoder(unit))


def test_closed_cells_are_empty_natively_too() -> None:
    made = renderer(3.0, "hollow", steps=300)
    gate = made.field.gate
    with torch.no_grad():
        drawn = torch.rand(8, generator=Generator().manual_seed(5)) < 0.5  # slabs of vertices
        gate.grid.view(8, -1)[drawn] = -20.0
    gate.close(0.01)
    origins, directions = rays(500)
    settings = MarchSettings(made.config.step, made.config.cone)
    seen = Rays(origins, directions, 0.0, 1e9, torch.zeros(500))
    one = trace(seen, made.grid, settings, made.field, 0.0)
    other = trace_by_turns(seen, made.grid, settings, made.field, 0.0)
    assert (point_field(made.field) is not None) == native.available()
    empty = one.sigma == 0
    assert 0.2 < empty.float().mean() < 0.8
    # As in the law above; the colour of what is empty is never seen.
    torch.testing.assert_close(one.sigma, other.sigma, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.color[~empty], other.color[~empty], rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not native.available(), reason="torch sums as it likes")
@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_trace_does_not_depend_on_the_threads(name: str) -> None:
    made = renderer(3.0, name, steps=300)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(made.trace(*rays(1100), 1e-2))
    finally:
        torch.set_num_threads(before)
    one, two = found
    assert torch.equal(one.samples.ray_offsets, two.samples.ray_offsets)
    assert torch.equal(one.sigma, two.sigma)
    assert torch.equal(one.color, two.color)


@pytest.mark.parametrize("contracted", [False, True])
@pytest.mark.parametrize("max_level", [None, 0, 1])
def test_law_of_tracing_in_cascades(contracted: bool, max_level: int | None) -> None:
    made = renderer(3.0, steps=200, levels=3, cone=0.02)
    if contracted:
        made.field.domain = Contraction((0.0, 0.0, 0.0), 1.0)
    made.field.encoder.max_level = max_level
    origins, directions = rays(300)
    settings = MarchSettings(made.config.step, made.config.cone)
    way = (Rays(origins, directions, 0.1, 20.0), made.grid, settings, made.field, 1e-3)
    one, other = trace(*way), trace_by_turns(*way)
    assert torch.equal(one.samples.ray_offsets, other.samples.ray_offsets)
    assert one.samples.positions.abs().max() > 1.5  # beyond the finest box
    torch.testing.assert_close(one.sigma, other.sigma, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.color, other.color, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", [trace, trace_by_turns])
@pytest.mark.parametrize("count", [0, 7])
def test_rays_that_meet_nothing(way: Callable[..., Traced], count: int) -> None:
    made = renderer(3.0)
    away = torch.tensor([[0.0, 0.0, 1.0]]).expand(count, 3)
    seen = way(Rays(5 * away, away, 0.0, 1e9), made.grid, MarchSettings(0.1), made.field, 1e-3)
    assert len(seen.samples) == len(seen.sigma) == len(seen.color) == seen.evaluated == 0
    assert seen.samples.ray_offsets.tolist() == [0] * (count + 1)


def test_a_large_trace_gives_its_memory_back() -> None:
    made = renderer(1e-4, steps=2000, min_transmittance=0.0)
    made.grid.set_from_hull(torch.ones_like(made.grid.values, dtype=torch.bool))
    origins, directions = rays(400)
    first = made.trace(origins, directions, 0.0)
    assert len(first.samples) > 1 << 18
    again = made.trace(origins[:9], directions[:9], 0.0)
    assert torch.equal(again.sigma, first.sigma[: len(again.sigma)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"directions": torch.zeros(39, 3)}, r"directions must be \[40, 3\]"),
        ({"directions": torch.zeros(40, 3).double()}, "but is torch.float64"),
        ({"jitter": torch.zeros(3)}, r"jitter must be \[40\]"),
        ({"origins": torch.zeros(40, 2)}, r"origins must be \[40, 3\]"),
    ],
)
def test_rays_that_do_not_fit_are_named(change: dict[str, Tensor], message: str) -> None:
    origins, directions = rays(40)
    with pytest.raises(ShapeError, match=message):
        Rays(**({"origins": origins, "directions": directions} | change), near=0.0, far=1.0)


def test_a_field_without_native_parts_is_traced_by_turns() -> None:
    made = renderer(3.0)
    made.field.color_head.register_forward_hook(
        lambda *_: None
    )  # somebody wants to see what it gives
    origins, directions = rays(40)
    seen = made.trace(origins, directions, 1e-2, keep_encoded=True)
    assert seen.encoded is None
    assert len(seen.samples) > 40


def test_what_is_left_out_weighs_no_more_than_allowed() -> None:
    made = renderer(30.0, steps=600, min_transmittance=0.01)
    origins, directions = rays(500)
    seen = made.render_rays(origins, directions, torch.zeros(500, 3))
    assert (seen.color - whole(made, origins, directions, 0.0)).abs().max() < 0.011


def test_a_dense_field_costs_few_samples() -> None:
    origins, directions = rays(500)
    background = torch.zeros(500, 3)
    thin = renderer(0.01, steps=600).render_rays(origins, directions, background)
    thick = renderer(1e4, steps=600).render_rays(origins, directions, background)
    assert thick.samples < 17 * 500
    assert thin.samples > 4 * thick.samples


def test_samples_come_in_the_order_of_rays() -> None:
    made = renderer(0.5, steps=600)
    origins, directions = rays(50)
    samples = made.trace(origins, directions, 1e-4).samples
    counts = samples.ray_offsets.diff()
    assert counts.max() > 80  # three stretches at least
    ids = torch.repeat_interleave(torch.arange(50), counts)
    assert torch.equal(samples.ray_ids.long(), ids)
    same_ray = ids[1:] == ids[:-1]
    assert (samples.t0[1:] >= samples.t1[:-1] - 1e-5)[same_ray].all()


def test_no_rays_no_picture() -> None:
    none = torch.zeros(0, 3)
    assert renderer(1.0).render_rays(none, none, none).color.shape == (0, 3)
