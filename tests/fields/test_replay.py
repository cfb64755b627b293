"""Going backwards through a field natively gives the gradients of autograd."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from polyfield import native
from polyfield.errors import ShapeError
from polyfield.fields.domain import Box, Contraction, Domain
from polyfield.fields.ops.density import ACTIVATIONS
from polyfield.fields.point_field import point_field
from polyfield.fields.presets import preset, preset_names
from polyfield.fields.radiance import RadianceField
from polyfield.fields.replay import replay, replay_reference
from polyfield.fields.samples import Samples

NATIVE = pytest.mark.skipif(
    not native.available(),
    reason="without kernels torch refuses an index out of range, in its own words",
)


# Their heads are modulated by coordinates: that has no native form.
MODULATED = {"cam", "cam-ray"}
NATIVES = [name for name in preset_names() if name not in MODULATED]
Field = Callable[..., RadianceField]


@pytest.fixture
def field(small_field: Field) -> Field:
    """Makes the small field of a preset, with a density through which gradients come back whatever the activation."""

    def make(name: str, domain: Domain, **changes: object) -> RadianceField:
        head = preset(name)["field"]["density_head"]
        if head["kind"] == "sum":  # a shift that every activation lets through
            changes = {"density_head": head | {"shift": 0.5}, **changes}
        return small_field(name, domain, **changes)

    return make


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


@pytest.mark.parametrize("name", NATIVES)
@pytest.mark.parametrize(("known", "towards"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("count", [1, 65, 5000])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_agrees_with_autograd(
    name: str, known: bool, towards: bool, count: int, activation: str, field: Field
) -> None:
    domain = Contraction((0.0, 0.0, 0.0), 1.0) if count == 65 else Box((-1.0,) * 3, (1.0,) * 3)
    made = field(name, domain, density=activation)
    samples, *rest = batch(count)
    encoded = None
    if known:
        with torch.no_grad():
            encoded = made.encoder(domain.place(samples.positions)[0]).t().contiguous()
    to_features = torch.randn(count, made.config.features) if towards else None
    replay_reference(made, samples, *rest, to_features)
    wanted = gradients(made)
    replay(made, samples, *rest, encoded, to_features)
    found = gradients(made)
    assert len(found) == len(wanted) > 0
    for mine, theirs in zip(found, wanted, strict=True):
        # The same kernels, and the same roundings to bf16; sums over points are split otherwise. Where a sum rounds to
        # another float32, a gradient of the layer before may round to the neighbouring bfloat16, 1/256 away.
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))
        assert float((mine - theirs).norm()) < 1e-3 * float(theirs.norm())
        assert theirs.abs().max() > 0


def test_gradients_add_up(field: Field) -> None:
    made = field("hashgrid", Box((-1.0,) * 3, (1.0,) * 3))
    arguments = batch(300)
    replay(made, *arguments)
    once = gradients(made)
    replay(made, *arguments)
    replay(made, *arguments)
    for twice, single in zip(gradients(made), once, strict=True):
        torch.testing.assert_close(twice, 2 * single)


@pytest.mark.parametrize("name", NATIVES)
def test_gradients_are_the_same_where_no_others_are_recorded(name: str, field: Field) -> None:
    made, arguments = field(name, Box((-1.0,) * 3, (1.0,) * 3)), batch(300)
    replay(made, *arguments)
    wanted = gradients(made)
    with torch.no_grad():
        replay(made, *arguments)
    found = gradients(made)
    assert len(found) == len(wanted) > 0
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, wanted, strict=True))


def test_nothing_kept_changes_nothing(field: Field) -> None:
    made = field("hashgrid", Box((-1.0,) * 3, (1.0,) * 3))
    samples, _, _, to_sigma, to_color = batch(50)
    none = torch.zeros(0, dtype=torch.int64)
    replay(made, samples, none, torch.zeros(0), to_sigma, to_color)
    assert all((g == 0).all() for g in gradients(made))


@pytest.mark.parametrize("part", ["encoder", "density_head", "color_head"])
def test_frozen_parameters_get_no_gradient(part: str, field: Field) -> None:
    made = field("hashgrid", Box((-1.0,) * 3, (1.0,) * 3))
    getattr(made, part).requires_grad_(False)
    replay(made, *batch(300))
    for slot in ("encoder", "density_head", "color_head"):
        for group in getattr(made, slot).groups():
            given = (
                [p.grad for p in group.parameters]
                if group.gradient is None
                else [group.gradient.values]
            )
            moved = any(g is not None and bool((g != 0).any()) for g in given)
            assert moved == (slot != part)


def test_a_part_that_is_not_what_it_was_written_as_is_asked_itself(field: Field) -> None:
    made = field("hashgrid", Box((-1.0,) * 3, (1.0,) * 3))
    assert (point_field(made) is not None) == native.available()
    handle = made.density_head.register_forward_hook(lambda *_: None)
    assert point_field(made) is None
    handle.remove()

    class Louder(type(made.encoder)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    made.encoder.__class__ = Louder
    assert point_field(made) is None


@pytest.mark.skipif(not native.available(), reason="the native module is switched off")
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("hollow", "gate"),
        ("tensorf", "appearance_encoder"),
        ("tensorf", "density_head"),
        ("plenoxels", "color_head"),
        ("neurbf", "encoder.grid"),
    ],
)
def test_every_part_must_be_what_it_was_written_as(name: str, part: str, field: Field) -> None:
    made = field(name, Box((-1.0,) * 3, (1.0,) * 3))
    assert point_field(made) is not None
    made.get_submodule(part).register_forward_hook(lambda *_: None)
    assert point_field(made) is None


@pytest.mark.skipif(not native.available(), reason="the native module is switched off")
def test_radial_bases_with_a_bias_have_no_native_form(field: Field) -> None:
    encoder = preset("neurbf")["field"]["encoder"] | {"initial_bias": 1e-4}
    made = field("neurbf", Box((-1.0,) * 3, (1.0,) * 3), encoder=encoder)
    assert point_field(made) is None
    replay(made, *batch(30))
    assert made.encoder.bias.grad.abs().max() > 0


@pytest.mark.skipif(not native.available(), reason="torch sums as it likes")
@pytest.mark.parametrize("name", ["plenoxels", "hollow", "neurbf", "tensorf"])
def test_gradients_of_tables_do_not_depend_on_the_threads(name: str, field: Field) -> None:
    """Sums over points are made in one order; those of a perceptron's weights are split by threads."""
    before, found = torch.get_num_threads(), []
    made, arguments = field(name, Box((-1.0,) * 3, (1.0,) * 3)), batch(5000)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            replay(made, *arguments)
            weights = {id(p) for p in made.color_head.parameters()}
            weights |= {id(p) for p in made.density_head.parameters()}
            tables = [all(id(p) not in weights for p in g.parameters) for g in made.groups()]
            found.append([g for g, of in zip(gradients(made), tables, strict=True) if of])
    finally:
        torch.set_num_threads(before)
    assert len(found[0]) > 0
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_a_level_that_is_not_there_is_named(field: Field) -> None:
    made = field("hashgrid", Box((-1.0,) * 3, (1.0,) * 3))
    made.encoder.max_level = 99
    with pytest.raises(ShapeError, match="max_level must be from 0 to 5, but is 99"):
        replay(made, *batch(30))


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        pytest.param(1, lambda kept: kept + 290, "kept must name samples in 0..299", marks=NATIVE),
        pytest.param(1, lambda kept: -kept - 1, "kept must name samples", marks=NATIVE),
        (1, lambda kept: kept.int(), "kept must be torch.int64"),
        (2, lambda weights: weights[:-1], "weights must be"),
        (2, lambda weights: weights.double(), "floats of one kind"),
        (3, lambda sigma: sigma[:, None], r"sigma_gradient must be \[300\]"),
        (4, lambda color: color[:, :2], r"color_gradient must be \[300, 3\]"),
    ],
)
def test_what_does_not_fit_is_named(place: int, change: Any, message: str, field: Field) -> None:
    made = field("hashgrid", Box((-1.0,) * 3, (1.0,) * 3))
    arguments: list[Any] = list(batch(300))
    arguments[place] = change(arguments[place])
    with pytest.raises(ShapeError, match=message):
        replay(made, *arguments)
    assert all((g == 0).all() for g in gradients(made))


@pytest.mark.skipif(not native.available(), reason="the native module is switched off")
@pytest.mark.parametrize("name", NATIVES)
def test_presets_have_a_native_form(name: str, field: Field) -> None:
    assert point_field(field(name, Box((-1.0,) * 3, (1.0,) * 3))) is not None


def test_features_of_other_floats_are_named(field: Field) -> None:
    made = field("hashgrid", Box((-1.0,) * 3, (1.0,) * 3))
    with pytest.raises(ShapeError, match="encoded must be floats of one kind"):
        replay(made, *batch(30), torch.zeros(made.encoder.out_dim, 30, dtype=torch.float16))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(30, 15), r"features_gradient must be \[30, 16\]"),
        (torch.zeros(30, 16, dtype=torch.float64), "floats of one kind"),
    ],
)
def test_gradients_to_features_that_do_not_fit_are_named(
    given: Tensor, message: str, field: Field
) -> None:
    made = field("hashgrid", Box((-1.0,) * 3, (1.0,) * 3))
    with pytest.raises(ShapeError, match=message):
        replay(made, *batch(30), None, given)
