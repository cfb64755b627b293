"""Fields that look at whole rays: how they are traced, trained and drawn, and who refuses them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from polyfield.datasets.builtin import builtin_scene
from polyfield.errors import ConfigError, InputError
from polyfield.fields import model_file
from polyfield.fields.model import Model, build_model, require_pointwise
from polyfield.fields.presets import preset, preset_names
from polyfield.fields.pruning import prune
from polyfield.fields.replay import replay
from polyfield.renderers.march import MarchSettings, march
from polyfield.renderers.trace import Rays, trace
from polyfield.renderers.trace_whole import trace_whole
from polyfield.renderers.volume import VolumeRenderer
from polyfield.training.api import evaluate, train
from polyfield.training.radiance import RadianceTask, RadianceTraining

SMALL = {"width": 16, "hidden": 3, "skips": [2]}


def model(name: str = "cam-ray") -> Model:
    field = preset(name)["field"]
    if name == "cam-ray":
        field["density_head"] |= SMALL
        field["features"] = 8
    corner = [1.0, 1.0, 1.0]
    domain = {"kind": "box", "low": [-1.0, -1.0, -1.0], "high": corner}
    render = {"low": [-1.0, -1.0, -1.0], "high": corner, "resolution": 16, "steps": 128}
    made = build_model("radiance", {"field": field, "domain": domain, "render": render})
    if name == "cam-ray":  # else nothing depends on directions yet
        with torch.no_grad():
            grids = made.module.density_head.grids
            grids += 0.3 * torch.randn(grids.shape, generator=Generator().manual_seed(1))
    return made


def rays(count: int) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return torch.rand(count, 3, generator=generator) - 0.5 - 3 * directions, directions


def renderer(made: Model) -> VolumeRenderer:
    drawn = VolumeRenderer(made)
    generator = Generator().manual_seed(0)
    drawn.grid.set_from_hull(torch.rand(drawn.grid.values.shape, generator=generator) < 0.5)
    return drawn


def test_only_this_preset_is_not_pointwise_and_those_who_need_points_refuse_it() -> None:
    found = []
    for name in preset_names():
        with torch.device("meta"):
            field = preset(name)["field"]
            domain = {"kind": "box", "low": [-1.0] * 3, "high": [1.0] * 3}
            made = build_model("radiance", {"field": field, "domain": domain})
        if made.module.pointwise:
            require_pointwise(made, "Mesh extraction")
            continue
        found.append(name)
        for what in ("Mesh extraction", "The viewer", "convert"):
            with pytest.raises(InputError, match=f"^{what} asks for single points, but this field"):
                require_pointwise(made, what)
    assert found == ["cam-ray"]


def test_parts_are_not_placed_by_what_single_points_say() -> None:
    made = model()
    encoder = {"kind": "neurbf", "kernels": 50}
    config = {**made.config, "field": {**made.config["field"], "encoder": encoder}}
    made, training = build_model("radiance", config), RadianceTraining(roulette=1.0)
    with pytest.raises(InputError, match=r"^Placing a part by what .* asks for single points"):
        RadianceTask(made, builtin_scene(views=4, size=8), training, None, 0)


def test_whole_rays_are_not_pruned() -> None:
    made = model()
    config = {**made.config["field"], "gate": {"kind": "saliency", "side": 5}}
    made = build_model("radiance", {**made.config, "field": config})
    with torch.no_grad():
        made.module.gate.grid.normal_(generator=Generator().manual_seed(0))
    before = {name: value.clone() for name, value in made.module.state_dict().items()}
    assert not prune(made, 0.9)
    after = made.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_density_that_depends_on_the_direction_is_not_pointwise() -> None:
    made = model()
    settings = {"kind": "cam", "angles": True, "sides": [4, 3], "norm": "feature"}
    field = {**made.config["field"], "density_head": settings}
    assert not build_model("radiance", {**made.config, "field": field}).module.pointwise
    field["density_head"] = {**settings, "angles": False}
    assert build_model("radiance", {**made.config, "field": field}).module.pointwise


def test_parameters_are_the_papers() -> None:
    with torch.device("meta"):
        made = build_model("radiance", {**model().config, "field": preset("cam-ray")["field"]})
    assert made.module.density_head.grids.numel() == 480


@pytest.mark.parametrize("jittered", [False, True])
def test_whole_rays_have_all_their_samples_and_what_the_field_says_of_them(
    jittered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model()
    drawn = renderer(made)
    origins, directions = rays(300)
    jitter = torch.rand(300, generator=Generator().manual_seed(2)) if jittered else None
    settings = MarchSettings(drawn.config.step)
    along = Rays(origins, directions, 0.0, 1e9, jitter)
    samples = march(origins, directions, 0.0, 1e9, drawn.grid, settings, jitter)
    with torch.no_grad():
        sigma, features = made.module.density(samples.positions, samples)
        color = made.module.color(samples, features)
    for most, some in ((1 << 16, 1 << 11), (500, 1 << 11), (1 << 16, 7)):
        monkeypatch.setattr("polyfield.renderers.trace_whole._MOST", most)
        monkeypatch.setattr("polyfield.renderers.trace_whole._RAYS", some)
        traced = trace_whole(along, drawn.grid, settings, made.module)
        for name in ("positions", "t0", "t1", "ray_offsets", "ray_ids", "directions"):
            assert torch.equal(getattr(traced.samples, name), getattr(samples, name)), name
        assert traced.evaluated == len(samples) > 3000
        # The same sums, by torch, in blocks of other sizes.
        assert torch.allclose(traced.sigma, sigma, rtol=1e-4, atol=1e-5)
        assert torch.allclose(traced.color, color, atol=1e-2)  # bf16


def test_no_rays_and_rays_that_meet_nothing() -> None:
    made = model()
    drawn = renderer(made)
    none = drawn.trace(torch.zeros(0, 3), torch.zeros(0, 3), 1e-4)
    assert len(none.samples) == 0
    assert none.samples.rays == 0
    beside = drawn.trace(torch.full((5, 3), 9.0), torch.tensor([[1.0, 0.0, 0.0]]).expand(5, 3), 0.1)
    assert len(beside.samples) == 0
    assert beside.samples.ray_offsets.tolist() == [0] * 6


def test_a_sample_depends_on_others_of_its_ray_and_points_alone_are_rays() -> None:
    field = model().module
    drawn = renderer(model())
    origins, directions = rays(20)
    samples = march(origins, directions, 0.0, 1e9, drawn.grid, MarchSettings(drawn.config.step))
    with torch.no_grad():
        sigma, _ = field.density(samples.positions, samples)
        assert not torch.allclose(field.density(samples.positions)[0], sigma, rtol=0.01)
        alone = field.density(samples.positions[:50])[0]
        apart = torch.cat([field.density(point[None])[0] for point in samples.positions[:50]])
    assert torch.allclose(alone, apart, rtol=1e-4, atol=1e-5)


def test_its_grid_stays_as_it_was_carved() -> None:
    drawn = renderer(model())
    before = drawn.grid.values.clone()
    drawn.refresh(Generator().manual_seed(0), warm=True)
    assert torch.equal(drawn.grid.values, before)


def test_parts_of_rays_are_refused_everywhere() -> None:
    made = model()
    drawn = renderer(made)
    origins, directions = rays(20)
    along = Rays(origins, directions, 0.0, 1e9)
    with pytest.raises(ConfigError, match="none may be left out: use trace_whole"):
        trace(along, drawn.grid, MarchSettings(drawn.config.step), made.module, 1e-4)
    traced = drawn.trace(origins, directions, 1e-4)
    count = len(traced.samples)
    given = traced.sigma, traced.color
    with pytest.raises(ConfigError, match=rf"all {count} must be kept, but 3 are"):
        replay(made.module, traced.samples, torch.arange(3), torch.ones(3), *given)


def test_its_gradient_is_that_of_its_loss() -> None:
    made = model()
    drawn = renderer(made)
    traced = drawn.trace(*rays(40), 1e-4)
    samples, count = traced.samples, len(traced.samples)
    generator = Generator().manual_seed(4)
    to_sigma = torch.randn(count, generator=generator)
    to_color = torch.randn(count, 3, generator=generator)
    replay(made.module, samples, torch.arange(count), torch.ones(count), to_sigma, to_color)
    found = {name: p.grad.clone() for name, p in made.module.named_parameters()}
    made.module.zero_grad()
    sigma, features = made.module.density(samples.positions, samples)
    color = made.module.color(samples, features)
    ((sigma * to_sigma).sum() + (color * to_color).sum()).backward()
    for name, parameter in made.module.named_parameters():
        assert torch.allclose(found[name], parameter.grad, rtol=1e-4, atol=1e-4), name


CHANGES: Any = (
    "field.density_head.width=32",
    "field.density_head.hidden=3",
    "field.density_head.skips=[2]",
    "field.features=32",
    "train.samples=2048",
    "train.rate=0.005",
    "train.warmup=5",
    "render.resolution=32",
    "render.steps=128",
)


def test_it_learns_and_is_saved_evaluated_and_resumed(tmp_path: Path) -> None:
    scene = builtin_scene(views=10, size=32)
    fresh = train(scene, out=tmp_path / "fresh", field="cam-ray", steps=1, changes=CHANGES)
    done = train(scene, out=tmp_path / "run", field="cam-ray", steps=80, changes=CHANGES)
    assert done.metrics["psnr"] > fresh.metrics["psnr"] + 1.0
    again = evaluate(tmp_path / "run", scene=scene)
    assert again["psnr"] == pytest.approx(done.metrics["psnr"], abs=1e-4)
    assert not model_file.load(tmp_path / "run").module.pointwise


def test_roulette_is_refused_for_it(tmp_path: Path) -> None:
    scene = builtin_scene(views=10, size=16)
    changes = [*CHANGES, "train.roulette=0.5"]
    with pytest.raises(ConfigError, match=r"train.roulette must be 1, but is 0.5"):
        train(scene, out=tmp_path / "run", field="cam-ray", steps=1, changes=changes)
    assert not (tmp_path / "run").exists()
